"""What the ledger's tests share: drafts, calls, chains, and a second, slow opinion on each hash."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import storage
from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from sidecar.ledger.receipt import blank_receipt, body_of
from sidecar.ledger.recorder import Recorder
from sidecar.model import (
    Decision,
    Effect,
    HttpFacts,
    Principal,
    RiskLevel,
    RuleMatch,
    Tool,
    ToolCall,
    TrustLevel,
)
from sidecar.proxy.redaction import Redactor
from storage.records import HeadRow, ReceiptRow
from storage.write_queue import WriteQueue

CASES = Path(__file__).parents[2] / "cases" / "receipts"
START_US = 1_767_225_600_000_000
REVISION = "0123456789abcdef0123456789abcdef"


class SteadyClock(Clock):
    """A clock that shows one more microsecond each time; ids and salts count up."""

    def __init__(self, start_us: int = START_US) -> None:
        super().__init__()
        self.us = start_us
        self.ids = 0

    def now_us(self) -> int:
        self.us += 1
        return self.us

    def random_bytes(self, count: int) -> bytes:
        self.ids += 1
        return self.ids.to_bytes(count, "big")

    def new_id(self) -> str:
        self.ids += 1
        return f"{self.ids:032x}"


def empty_head(tenant: str = "default") -> HeadRow:
    return HeadRow(tenant, 0, "", 0, "", 0)


def draft(number: int = 1, tenant: str = "default", **values: Any) -> ReceiptRow:
    row = blank_receipt(
        tenant,
        "intent",
        event_id=f"{number:032x}",
        call_id=f"{number:032x}",
        ts_us=START_US + number,
        agent_id="agent-1",
    )
    return row._replace(**values)


def chain(drafts: Sequence[ReceiptRow]) -> list[ReceiptRow]:
    """The drafts, sealed in one batch from nothing."""
    heads = {row.tenant_id: empty_head(row.tenant_id) for row in drafts}
    rows = []
    for row in seal(heads, drafts).rows:
        assert isinstance(row, ReceiptRow), row
        rows.append(row)
    return rows


def lines_of(rows: Sequence[ReceiptRow]) -> list[bytes]:
    """Exported lines of a whole chain, by the standard library."""
    lines, prev = [], ""
    for row in rows:
        lines.append(line_of(body_of(row, prev), row.receipt_hash))
        prev = row.receipt_hash
    return lines


def line_of(body: dict[str, Any], receipt_hash: str) -> bytes:
    return reference_canonical({**body, "receipt_hash": receipt_hash}) + b"\n"


def reference_canonical(body: dict[str, Any]) -> bytes:
    """Sorted compact UTF-8 JSON, by the standard library."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def reference_root(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word: recursive, over leaf data."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    left, right = reference_root(leaves[:split]), reference_root(leaves[split:])
    return sha256(b"\x01" + left + right).digest()


def principal(tenant: str = "default", agent: str = "agent-1") -> Principal:
    return Principal(tenant, agent, team="web", environment="prod", risk=RiskLevel.HIGH)


def call(call_id: str, args: dict[str, Any] | None = None, **values: Any) -> ToolCall:
    fields: dict[str, Any] = {
        "call_id": call_id,
        "tool": Tool(
            "github",
            "create_issue",
            risk=RiskLevel.HIGH,
            labels=("public",),
            returns=TrustLevel.UNTRUSTED_EXTERNAL,
        ),
        "action": "POST",
        "args": {"title": "broken"} if args is None else args,
        "http": HttpFacts("POST", "/repos/acme/web/issues", "", "127.0.0.1", {"x-a": "b"}),
        "target": "/repos/acme/web/issues",
        "headers": (),
        "body": b'{"title":"broken"}',
        "dialect": "rest",
    }
    return ToolCall(**{**fields, **values})


def decision(effect: Effect = Effect.ALLOW, **values: Any) -> Decision:
    rule = RuleMatch("github/issues", "ab" * 16, effect)
    fields: dict[str, Any] = {
        "effect": effect,
        "code": "policy_allow" if effect is Effect.ALLOW else "policy_deny",
        "reason": "agents may open issues",
        "policy_revision": REVISION,
        "rule_id": rule.rule_id,
        "rule_hash": rule.rule_hash,
        "matches": (rule,),
    }
    return Decision(**{**fields, **values})


class Ledger:
    """A real store, a real queue, a recorder; and the chain that came of it."""

    def __init__(self, store: storage.SqlStore, queue: WriteQueue, make: Callable[..., Recorder]):
        self.store = store
        self.queue = queue
        self.make_recorder = make
        self.recorder = make()

    async def rows(self, tenant: str = "default") -> list[ReceiptRow]:
        """Everything on record, once what was handed over is durable."""
        while self.queue.depth("queued") or self.queue.depth("committed"):
            await self.queue_turn()
        return await self.store.receipts(tenant, 0, 10_000)

    async def queue_turn(self) -> None:
        import asyncio

        await asyncio.sleep(0.001)


@asynccontextmanager
async def ledger(
    folder: Path, *, clock: Clock | None = None, capacity: int = 64, boot_id: str = "boot-1"
) -> AsyncIterator[Ledger]:
    """A ledger over SQLite in `folder`, closed at the end."""
    clock = clock or SteadyClock()
    url = f"sqlite:///{folder}/ledger.db"
    store = await storage.open_store(url, now_us=clock.now_us, node_id="node-1")
    queue = WriteQueue(store, seal, capacity=capacity, wait_s=5, monotonic_ns=clock.monotonic_ns)

    def make(**options: Any) -> Recorder:
        given = {
            "node_id": "node-1",
            "boot_id": boot_id,
            "redact": Redactor(["password"]).arguments,
            **options,
        }
        recorder = Recorder(queue, clock, **given)
        queue.on_abandoned = recorder.abandoned
        return recorder

    try:
        yield Ledger(store, queue, make)
    finally:
        await queue.close()
        await store.close()
