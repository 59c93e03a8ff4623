"""Opens a store as a power cut left it, and holds it against what was promised before the cut.

Knows: what must hold of a store after any crash. It opens by itself; SQLite finds it sound; its
chains are a beginning of the true ones and reach every answer that was given; heads, frontiers,
facts, open intents and run versions are those of that beginning; nothing is recorded twice; and
after recovery it takes the next call.
Must not know: how the files were rebuilt.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/unit/ledger")]

import ledger_setup as setup

import storage
from sidecar.ledger.chain import seal
from sidecar.ledger.export import export_lines
from sidecar.ledger.merkle import frontier_from_hex, root
from sidecar.ledger.recovery import recover
from sidecar.ledger.verify import verify_lines
from storage.known_heads import Seen, StoreRolledBack
from storage.records import Entry, HeadRow, OpenIntentRow, Recorded

NODE = "node-1"
#: Ids and times of the boot that checks, beyond those of every recorded boot.
CHECK_BOOT = "check"
CHECK_IDS = 1 << 90
CHECK_START_US = setup.START_US + 10**12

#: Opening, recovering and reading a store of some hundred receipts; it takes 0.02 s.
CHECK_S_MAX = 15.0

Row = tuple[Any, ...]


@dataclass
class Promised:
    """What callers were told up to a moment: the least that a store must hold."""

    heads: dict[str, int] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    run_versions: dict[tuple[str, str], int] = field(default_factory=dict)

    def take(self, said: Mapping[str, Any]) -> None:
        """Adds one promise."""
        tenant = said.get("tenant", "")
        if "seq" in said:
            self.heads[tenant] = max(said["seq"], self.heads.get(tenant, 0))
        if "epoch" in said:
            self.epochs[tenant] = max(said["epoch"], self.epochs.get(tenant, 0))
        if "run_version" in said:
            key = (tenant, said["agent"])
            self.run_versions[key] = max(said["run_version"], self.run_versions.get(key, 0))


@dataclass
class Content:
    """What a store's file holds, read beside the program, by tenant and in order."""

    receipts: dict[str, list[Row]]
    facts: dict[str, list[Row]]
    heads: dict[str, Row]
    open_intents: set[Row]
    run_versions: dict[Row, int]
    soundness: str

    @classmethod
    def read(cls, path: Path) -> Content:
        """Reads a store that may be open elsewhere."""
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as raw:
            return cls(
                receipts=_by_tenant(
                    raw.execute(
                        "SELECT tenant_id, seq, receipt_hash, kind, call_id FROM receipts"
                        " ORDER BY tenant_id, seq"
                    )
                ),
                facts=_by_tenant(
                    raw.execute(
                        "SELECT tenant_id, seq, salt, arguments, facts FROM call_facts"
                        " ORDER BY tenant_id, seq"
                    )
                ),
                heads={
                    row[0]: row[1:]
                    for row in raw.execute("SELECT tenant_id, seq, epoch FROM chain_head")
                },
                open_intents=set(raw.execute("SELECT tenant_id, call_id FROM open_intent")),
                run_versions={
                    row[:2]: row[2]
                    for row in raw.execute("SELECT tenant_id, agent_id, version FROM run_head")
                },
                soundness=" ".join(row[0] for row in raw.execute("PRAGMA integrity_check(5)")),
            )


def _by_tenant(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row[0], []).append(row[1:])
    return found


@dataclass
class Found:
    """What a check found; `problems` is empty if everything holds."""

    problems: list[str] = field(default_factory=list)
    receipts: int = 0
    recovered: int = 0
    #: Receipts that are there although nobody had been told of them yet.
    beyond: int = 0


async def check(
    folder: Path, truth: Content, promised: Promised, *, opens_again: bool = True
) -> Found:
    """Opens, recovers and uses the store in `folder`, and may open it once more; never raises for
    what is wrong with it."""
    found = Found()
    try:
        async with asyncio.timeout(CHECK_S_MAX):
            heads = await _check(folder / "aegis.db", truth, promised, found)
            if opens_again:
                await _check_again(folder / "aegis.db", heads, found)
    except TimeoutError:
        found.problems.append(f"needs help: not through within {CHECK_S_MAX} s")
    except Exception as error:
        found.problems.append(f"needs help: {type(error).__name__}: {error}")
    return found


async def _check(path: Path, truth: Content, promised: Promised, found: Found) -> list[HeadRow]:
    """The heads in the end."""
    clock = setup.SteadyClock(CHECK_START_US)
    clock.ids = CHECK_IDS
    store = await storage.open_store(f"sqlite:///{path}", now_us=clock.now_us, node_id=NODE)
    try:
        content = Content.read(path)
        found.problems += compared(content, truth, promised)
        found.problems += await _witness_problems(store, truth, promised)
        found.receipts = sum(map(len, content.receipts.values()))
        found.beyond = found.receipts - sum(promised.heads.values())
        left_open = len(content.open_intents)
        found.recovered = await recover(store, seal, clock, boot_id=CHECK_BOOT)
        if found.recovered != left_open:
            found.problems.append(f"{found.recovered} of {left_open} open intents recovered")
        if await store.open_intents(NODE, 1):
            found.problems.append("intents are open after recovery")
        await _record_one(store, content, clock, found)
        for tenant in await store.tenants():
            found.problems += await _chain_problems(store, tenant)
        return [await store.head(tenant) for tenant in await store.tenants()]
    finally:
        await store.close()


async def _check_again(path: Path, heads: list[HeadRow], found: Found) -> None:
    again = await storage.open_store(f"sqlite:///{path}", now_us=lambda: 1, node_id=NODE)
    try:
        if [await again.head(tenant) for tenant in await again.tenants()] != heads:
            found.problems.append("closed and opened again, the heads are others")
    finally:
        await again.close()


async def _witness_problems(
    store: storage.SqlStore, truth: Content, promised: Promised
) -> list[str]:
    """What the sidecar's file of heads could name at that moment must stand at its next start."""
    heads = {
        tenant: Seen(seq, truth.receipts[tenant][seq - 1][1])
        for tenant, seq in promised.heads.items()
        if seq
    }
    try:
        await store.compare(heads)
    except StoreRolledBack as error:
        return [f"rolled back: {error}"]
    return []


async def _record_one(
    store: storage.SqlStore, content: Content, clock: setup.SteadyClock, found: Found
) -> None:
    """The next call of a tenant who was there, or of the first one."""
    tenant = min(content.heads, default="acme")
    before = await store.head(tenant)
    call_id = clock.new_id()
    draft = setup.draft(1, tenant, call_id=call_id, event_id=call_id, ts_us=clock.now_us())
    opens = OpenIntentRow(tenant, call_id, NODE, CHECK_BOOT)
    answers = await store.record([Entry(draft, opens=opens)], seal)
    answer = answers[0]
    if not isinstance(answer, Recorded) or answer.seq != before.seq + 1:
        found.problems.append(f"the next call after {before.seq} is answered {answer}")


async def _chain_problems(store: storage.SqlStore, tenant: str) -> list[str]:
    """By the product's own verifier, and the head and frontier against what it computes."""
    head = await store.head(tenant)
    if not head.seq:
        return []
    verdict = verify_lines([line async for line in export_lines(store, tenant)])
    if verdict.fault is not None:
        return [f"{tenant}: receipt {verdict.fault.seq}: {verdict.fault.what}"]
    if (verdict.last_seq, verdict.head_hash) != (head.seq, head.receipt_hash):
        return [f"{tenant}: the head is at {head.seq}, the chain ends at {verdict.last_seq}"]
    if root(frontier_from_hex(head.frontier, head.seq)).hex() != verdict.root:
        return [f"{tenant}: the frontier at {head.seq} is not that of the receipts"]
    return []


def compared(content: Content, truth: Content, promised: Promised) -> list[str]:
    """What a store, before recovery, lacks of what was promised, or has that never was."""
    problems = [] if content.soundness == "ok" else [f"not sound: {content.soundness}"]
    for tenant, seq in promised.heads.items():
        there = len(content.receipts.get(tenant, ()))
        if there < seq:
            problems.append(f"lost: {tenant} was told of {seq} receipts, {there} are there")
    for tenant, epoch in promised.epochs.items():
        there = content.heads.get(tenant, (0, 0))[1]
        if there < epoch:
            problems.append(f"lost: {tenant} was told of epoch {epoch}, it is {there}")
    for key, version in promised.run_versions.items():
        there = content.run_versions.get(key, 0)
        if there < version:
            problems.append(f"lost: {key} was told of run version {version}, it is {there}")
    for tenant, rows in content.receipts.items():
        problems += _tenant_problems(tenant, rows, content, truth)
    unknown = {row for row in content.open_intents if row[0] not in content.receipts}
    if unknown:
        problems.append(f"intents of nobody are open: {sorted(unknown)[:3]}")
    return problems


def _tenant_problems(tenant: str, rows: list[Row], content: Content, truth: Content) -> list[str]:
    problems = []
    count = len(rows)
    if rows != truth.receipts.get(tenant, [])[:count]:
        problems.append(f"{tenant}: the {count} receipts are no beginning of the true chain")
    if content.heads.get(tenant, (0, 0))[0] != count:
        problems.append(f"{tenant}: the head is at {content.heads.get(tenant)}, not at {count}")
    expected = [row for row in truth.facts.get(tenant, []) if row[0] <= count]
    if content.facts.get(tenant, []) != expected:
        problems.append(f"{tenant}: the facts are not those of the first {count} receipts")
    begins = [row[3] for row in rows if row[2] in ("intent", "refusal")]
    ends = [row[3] for row in rows if row[2] in ("outcome", "recovery")]
    if len(set(begins)) != len(begins) or len(set(ends)) != len(ends):
        problems.append(f"{tenant}: a call begins or ends twice")
    intents = {row[3] for row in rows if row[2] == "intent"}
    open_now = {row[1] for row in content.open_intents if row[0] == tenant}
    if open_now != intents - set(ends):
        problems.append(f"{tenant}: {len(open_now)} open intents, not those without an outcome")
    return problems
