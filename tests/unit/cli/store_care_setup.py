"""Stores as a sidecar leaves them, for the tests of their care: calls with facts, real chains."""

from __future__ import annotations

import argparse
import asyncio
import hmac
import importlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import storage
from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from sidecar.ledger.commitment import NONCE_BYTES, salt_beside
from sidecar.ledger.receipt import blank_receipt
from sidecar.ledger.stored_chain import ChainReport, verify_store
from storage.records import CallFactsRow, Entry, OpenIntentRow

DAY_US = 86_400_000_000
CLOCK = Clock()
NOW_US = CLOCK.now_us()


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


def call(
    number: int, tenant: str = "acme", *, age_days: float = 0, ends: bool = True, **who: str
) -> list[Entry]:
    """An intent with facts, and its outcome; `secret-<number>` stands in its arguments."""
    at_us = int(NOW_US - age_days * DAY_US)
    call_id, said = f"{tenant}-{number:06}", '{"method":"POST"}'
    salt = salt_beside(number.to_bytes(NONCE_BYTES, "big"), said.encode())
    arguments = json.dumps({"text": f"secret-{number}-"}, separators=(",", ":"))
    names: dict[str, Any] = {"agent_id": "agent-1", "user_id": "ann"} | who
    intent = blank_receipt(
        tenant, "intent", event_id=call_id, call_id=call_id, ts_us=at_us
    )._replace(args_commitment=hmac.digest(salt, arguments.encode(), "sha256").hex(), **names)
    facts = CallFactsRow(tenant, 0, salt.hex(), arguments, said)
    outcome = blank_receipt(
        tenant, "outcome", event_id=f"{call_id}-end", call_id=call_id, ts_us=at_us,
        agent_id=names["agent_id"], outcome="completed", http_status=200,
    )  # fmt: skip
    opened = Entry(intent, facts, OpenIntentRow(tenant, call_id, "node", "boot"))
    return [opened, Entry(outcome, closes=call_id)] if ends else [opened]


def filled(path: Path, *calls: list[Entry]) -> Path:
    """A store with these calls recorded, closed again."""

    async def fill() -> None:
        store = await storage.open_store(url_of(path), now_us=CLOCK.now_us, node_id="node")
        for entries in calls:
            for entry in entries:
                await store.record([entry], seal)
        await store.close()

    asyncio.run(fill())
    return path


def reports(path: Path) -> list[ChainReport]:
    """What the verification of the whole store says."""

    async def verify() -> list[ChainReport]:
        reader = await storage.open_reader(url_of(path))
        try:
            return await verify_store(reader)
        finally:
            await reader.close()

    return asyncio.run(verify())


def held(path: Path, work: Callable[[], int]) -> int:
    """Runs `work` on a thread while this process has the store open, as a sidecar would."""

    async def hold() -> int:
        store = await storage.open_store(url_of(path), now_us=CLOCK.now_us, node_id="node")
        try:
            return await asyncio.to_thread(work)
        finally:
            await store.close()

    return asyncio.run(hold())


def store_command(verb: str, path: Path, *arguments: str | Path) -> int:
    """`aegis-sidecar store VERB --store URL ARGUMENTS`; gives the exit code."""
    module = importlib.import_module(f"sidecar.cli.store_{verb}")
    assert verb == module.NAME and 10 < len(module.HELP) < 80
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    code: int = module.run(parser.parse_args(["--store", url_of(path), *map(str, arguments)]))
    return code


def tampered(path: Path, sql: str, *values: object) -> None:
    """Changes a closed store behind the program's back."""
    raw = sqlite3.connect(path)
    changed = raw.execute(sql, values).rowcount
    raw.commit()
    raw.close()
    assert changed


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """What a query finds in a store that is closed."""
    raw = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    found = raw.execute(sql).fetchall()
    raw.close()
    return found


def line_of(body: dict[str, Any], receipt_hash: str) -> bytes:
    """A line of an export, by the standard library."""
    line = {**body, "receipt_hash": receipt_hash}
    return (
        json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
    )
