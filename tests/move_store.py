"""Stores to be moved: calls of several tenants with real seals, made through the store's own verb.

Each call is an intent with facts and 300 bytes of arguments, and its outcome; the last of every
tenant may stay open. Used by the tests of moving and by the long harness beside it.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import warm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sidecar.clock import Clock
from sidecar.ledger.canonical import canonical_arguments
from sidecar.ledger.chain import seal
from sidecar.ledger.checkpoint import Checkpoint, signed
from sidecar.ledger.checkpointer import new_origin
from sidecar.ledger.commitment import NONCE_BYTES, salt_beside
from sidecar.ledger.drafts import keyed_digests
from sidecar.ledger.merkle import append, root
from sidecar.ledger.receipt import blank_receipt
from sidecar.ledger.tiles import leaves
from sidecar.signed_note import SigningKey
from storage import open_store
from storage.records import (
    CallFactsRow,
    Entry,
    Full,
    OpenIntentRow,
    Recorded,
    Reservation,
    Reservations,
    Room,
)
from storage.sql_store import SqlStore
from storage.standing import PinRow
from storage.tree import SIGNED, CheckpointRow, TileRow, TreeWriter

CALLS_A_BATCH = 256
ARGUMENT_BYTES = 300
#: So many calls have one that takes of a budget.
EVERY_NTH_PAYS = 9
#: More than a page of them.
TILES = 120
FACTS = json.dumps(
    {"method": "POST", "source_ip": "127.0.0.1", "declared": True, "mutates": True, "risk": "low"}
)


def intent_of(clock: Clock, tenant: str, number: int, argument_bytes: int) -> Entry:
    """An intent as the sidecar's recorder drafts it."""
    call_id = clock.new_id()
    salt = salt_beside(clock.random_bytes(NONCE_BYTES), FACTS.encode())
    text = clock.random_bytes(argument_bytes // 2).hex()  # no engine can compress it away
    arguments = canonical_arguments({"number": number, "text": text})
    request, commitment = keyed_digests(salt, b"{}", arguments)
    receipt = blank_receipt(
        tenant, "intent", event_id=call_id, call_id=call_id, ts_us=clock.now_us(),
        agent_id=f"agent-{number % 7}",
    )._replace(
        upstream="shop", tool="buy", action="POST", source_trust="untrusted", decision="allow",
        mode="enforce", rule_id="shop/buys", rule_hash=hmac.digest(b"r", b"r", "sha256").hex(),
        policy_revision="ab" * 16, request_sha256=request, args_commitment=commitment,
    )  # fmt: skip
    return Entry(
        receipt,
        facts=CallFactsRow(tenant, 0, salt.hex(), arguments.decode(), FACTS),
        opens=OpenIntentRow(tenant, call_id, "node", "boot"),
        reserves=_budget_of(number) if not number % EVERY_NTH_PAYS else None,
        puts=pins_of(tenant) if number == 3 else (),
    )


def _budget_of(number: int) -> Reservations:
    """One of a few buckets, with room for all."""

    def take(state: str, at_us: int) -> Room:
        return Room(str(int(state or 0) + number), at_us + 86_400_000_000)

    def never(position: int, full: Full) -> Entry:
        raise AssertionError("there is room for all")

    wanted = [Reservation("shop/daily", f'["{number % 5}"]', take)]
    return Reservations(wanted, 1_790_000_000_000_000, never)


def pins_of(tenant: str) -> tuple[PinRow, PinRow]:
    """What a server said of two tools, and of one of them since."""
    pin = PinRow(tenant, "mcp", "add", 1, '{"name":"add"}', "5a" * 32, 1)
    changed = pin._replace(tool="mul", seen='{"name":"mul"}', seen_sha256="7f" * 32, seen_at_us=9)
    return pin, changed


def outcome_of(clock: Clock, intent: Entry) -> Entry:
    """How that call ended."""
    call_id, tenant = intent.receipt.call_id, intent.receipt.tenant_id
    receipt = blank_receipt(
        tenant, "outcome", event_id=clock.new_id(), call_id=call_id, ts_us=clock.now_us(),
        agent_id=intent.receipt.agent_id, outcome="completed", http_status=200,
    )  # fmt: skip
    return Entry(receipt, closes=call_id)


def _numbers(calls: int) -> Iterator[range]:
    for first in range(0, calls, CALLS_A_BATCH):
        yield range(first, min(first + CALLS_A_BATCH, calls))


async def fill(
    url: str,
    calls: int,
    tenants: int,
    *,
    left_open: int = 0,
    argument_bytes: int = ARGUMENT_BYTES,
) -> None:
    """Records so many calls, in turn over the tenants, and leaves as many more in flight; the
    first tenant's epoch is raised once."""
    clock = Clock()
    store = await open_store(url, now_us=clock.now_us, node_id="node")
    try:
        for numbers in _numbers(calls):
            intents = [
                intent_of(clock, f"tenant-{number % tenants}", number, argument_bytes)
                for number in numbers
            ]
            outcomes = [outcome_of(clock, intent) for intent in intents]
            answers = await store.record([*intents, *outcomes], seal)
            if not all(isinstance(answer, Recorded) for answer in answers):
                raise RuntimeError("a call was not recorded")
            await store.after_commit()
        for number in range(left_open):
            await store.record(
                [intent_of(clock, f"tenant-{number % tenants}", number, argument_bytes)], seal
            )
        await store.raise_epoch("tenant-0")
        await TreeWriter(store).put_checkpoints([await _signed_head(store, "tenant-0", 3)])
        tiles = [TileRow("tenant-0", 0, n, 256, "ab" * 32, f"hashes {n}") for n in range(TILES)]
        await TreeWriter(store).put_tiles([*tiles, tiles[0]._replace(level=1, width=TILES)])
    finally:
        await store.close()


async def _signed_head(store: SqlStore, tenant: str, size: int) -> CheckpointRow:
    """A head of the tenant's first receipts, by a key that nobody knows."""
    frontier: list[bytes] = []
    for at, leaf in enumerate(await leaves(store, tenant, 0, size)):
        append(frontier, at, leaf)
    private = Ed25519PrivateKey.generate()
    key = SigningKey(
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    )
    top = root(frontier)
    note = signed(Checkpoint(await new_origin(store, tenant), size, top), key)
    return CheckpointRow(tenant, size, top.hex(), SIGNED, note, 7)


ROOT = Path(__file__).resolve().parents[1]
STOPPED = ROOT / "tests" / "move_stopped.py"


def move(source: str, target: str, *more: str) -> subprocess.CompletedProcess[str]:
    """The real command, to its end."""
    command = [sys.executable, "-m", "sidecar.cli.main", "store", "move"]
    return warm.run([*command, "--from", source, "--to", target, *more], cwd=ROOT)


@contextlib.contextmanager
def stopped_at(
    phase: str, count: int, source: str, target: str, *more: str
) -> Iterator[subprocess.Popen[str]]:
    """The real command, standing still where progress tells of a phase for the `count`th time;
    killed at the end unless it was let go on."""
    with subprocess.Popen(
        [sys.executable, str(STOPPED), phase, str(count), "--from", source, "--to", target, *more],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        said = process.stdout.readline()
        if said != "stopped\n":
            raise AssertionError(f"{phase} never came: {said}{process.stderr.read()}")
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        try:
            yield process
        finally:
            process.kill()


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Lets a command that stands still go on to its end."""
    process.send_signal(signal.SIGCONT)
    out, errors = process.communicate(timeout=60)
    return process.returncode, out, errors


TABLES = (
    "chain_head", "receipts", "call_facts", "open_intent", "run_head", "limit_bucket", "tool_pin",
    "checkpoint", "tree_tile", "store_state",
)  # fmt: skip
#: Values of the store itself that belong to where it stands and are not moved.
OF_THE_PLACE = ("node_id", "probe_us")


async def contents(url: str) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table, sorted, whatever the engine; without values of the place."""
    found: dict[str, list[tuple[object, ...]]] = {}
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as raw:
            for table in TABLES:
                found[table] = raw.execute(f"SELECT * FROM {table}").fetchall()
    else:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute("SELECT set_config('aegis.tenants', '*', false)")
            for table in TABLES:
                rows = await connection.fetch(f"SELECT * FROM {table}")
                found[table] = [tuple(row) for row in rows]
        finally:
            await connection.close()
    state = found["store_state"]
    found["store_state"] = [row for row in state if row[0] not in OF_THE_PLACE]
    return {table: sorted(rows, key=repr) for table, rows in found.items()}


async def assert_moved(before: dict[str, list[tuple[object, ...]]], target: str) -> None:
    """The target holds what was moved, row for row, and after it in each chain that it was."""
    after = await contents(target)
    new = {table: [row for row in after[table] if row not in before[table]] for table in TABLES}
    gone = {table: [row for row in before[table] if row not in after[table]] for table in TABLES}
    heads = {row[0]: row for row in before["chain_head"] if row[1]}
    told = {row[0]: row for row in new["receipts"]}
    assert {tenant: (row[1], row[2], row[12]) for tenant, row in told.items()} == {
        tenant: (int(str(head[1])) + 1, "control", "store.move") for tenant, head in heads.items()
    }
    assert [row[:2] for row in new["call_facts"]] == sorted(row[:2] for row in told.values())
    assert gone["chain_head"] == sorted(heads.values(), key=repr)
    assert [(row[0], row[1], row[2], row[5]) for row in new["chain_head"]] == sorted(
        (row[0], row[1], row[-1], heads[row[0]][5]) for row in told.values()
    )
    grown = ("receipts", "call_facts", "chain_head")
    assert not [table for table in TABLES if table not in grown and (new[table] or gone[table])]
    assert not gone["receipts"] and not gone["call_facts"]
