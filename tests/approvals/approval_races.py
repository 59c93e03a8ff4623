"""Many who would spend one yes, at two nodes of one PostgreSQL: exactly one may.

Real rooms: stores, write queues, recorders and approvals of two nodes; only HTTP is left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from sidecar.approvals.asked import Asked
from sidecar.approvals.changes import Changes
from sidecar.approvals.deciding import Deciding
from sidecar.approvals.entries import spend_audit
from sidecar.approvals.service import Approvals, Asking, refusal_code
from sidecar.approvals.states import Term, approver_of, spending
from sidecar.clock import Clock
from sidecar.config.model import Approvals as Settings
from sidecar.errors import Refused
from sidecar.ledger.chain import seal
from sidecar.ledger.claims import Spend
from sidecar.ledger.fence import Fence
from sidecar.ledger.recorder import Intent, Recorder, Unspent
from sidecar.model import (
    Decision,
    Effect,
    HttpFacts,
    Outcome,
    OutcomeKind,
    Person,
    Principal,
    Role,
    Tool,
    ToolCall,
)
from storage import SqlStore, open_store
from storage.standing import ApprovalRow
from storage.write_queue import WriteQueue

TENANT = "acme"
AGENT = Principal(TENANT, "coder")
ANA = Person(TENANT, "ana", "person:ana", frozenset({Role.APPROVER}))
TERMS = (Term("p/asks", "h", (), 1),)
ASKS = Decision(Effect.REQUIRE_APPROVAL, "approval_required", "asks", "rev", "p/asks", "h")
#: Approvals that are raced for at once.
WAVE = 50


class ShiftedClock(Clock):
    """A node's clock that is wrong by so much; only the server's may count."""

    def __init__(self, by_us: int = 0) -> None:
        super().__init__()
        self.by_us = by_us

    def now_us(self) -> int:
        return super().now_us() + self.by_us

    def steady_us(self) -> int:
        return super().steady_us() + self.by_us


@dataclass
class Node:
    """One sidecar's rooms."""

    store: SqlStore
    queue: WriteQueue
    recorder: Recorder
    approvals: Approvals
    clock: ShiftedClock

    @property
    def deciding(self) -> Deciding:
        return self.approvals.deciding

    async def open(self, name: str, life_us: int = 600_000_000) -> ApprovalRow:
        """A new approval of the action of this name; held by nobody."""
        with contextlib.suppress(Refused):
            await self.approvals.hold(self.asking(name, life_us))
        row = await self.store.approval_of_action(TENANT, digest(name))
        assert row is not None
        return row

    def asking(self, name: str, life_us: int = 600_000_000, hold_s: float = 0.0) -> Asking:
        async def tell(_: ApprovalRow) -> None:
            """Nobody listens."""

        return Asking(
            tenant=TENANT,
            agent="coder",
            user="",
            call_id=self.clock.new_id(),
            tool="shop/buy",
            action_sha256=digest(name),
            asked=Asked("{}", sha256(b"{}").hexdigest()),
            terms=TERMS,
            life_us=life_us,
            until_ns=self.clock.monotonic_ns() + int(hold_s * 1e9),
            tell=tell,
        )

    async def spend(self, row: ApprovalRow, action: str = "") -> Intent | Unspent:
        """A call that would go ahead by this yes."""
        call = made_call(self.clock.new_id())
        decision = replace(ASKS, approval_id=row.approval_id, approver=approver_of(row) or "-")
        step = spending(action or row.action_sha256, TERMS, call.call_id)

        def without(why: str) -> Decision:
            return replace(decision, code=refusal_code(why), approver=None)

        audit = spend_audit(row, actor="agent:coder", call_id=call.call_id, at_us=0)
        spend = Spend(row.approval_id, self.clock.steady_us(), step, without, audit)
        answer = await self.recorder.intent(AGENT, call, decision, spend=spend)
        assert isinstance(answer, Intent | Unspent), answer
        if isinstance(answer, Intent):
            self.recorder.outcome(answer, Outcome(OutcomeKind.COMPLETED, 200))
        return answer


def digest(name: str) -> str:
    return f"{name:0>64}"


def made_call(call_id: str) -> ToolCall:
    http = HttpFacts("POST", "/buy", "", "127.0.0.1", {})
    return ToolCall(call_id, Tool("shop", "buy"), "POST", {}, http, "/buy", (), b"", "rest")


@contextlib.asynccontextmanager
async def node(url: str, name: str, by_us: int = 0) -> AsyncIterator[Node]:
    """A node on this store, whose clock is wrong by so much."""
    clock = ShiftedClock(by_us)
    store = await open_store(url, now_us=clock.now_us, node_id=name)
    queue = WriteQueue(store, seal, capacity=8192, wait_s=60.0, monotonic_ns=clock.monotonic_ns)
    recorder = Recorder(queue, clock, node_id=name, boot_id=name, redact=lambda values: values)
    changes = Changes(queue=queue, clock=clock, fence=Fence())
    settings = Settings(pending=100_000)
    try:
        yield Node(store, queue, recorder, Approvals(settings, changes, store, store, clock), clock)
    finally:
        await queue.drain(30.0)
        await queue.close()
        await store.close()


@dataclass
class Raced:
    """What came of it: for each approval how many won, and by which codes the others lost."""

    winners: list[int] = field(default_factory=list)
    lost: dict[str, int] = field(default_factory=dict)
    took_s: float = 0.0

    @property
    def figures(self) -> dict[str, Any]:
        return {
            "approvals": len(self.winners),
            "with_exactly_one_winner": self.winners.count(1),
            "spent_more_than_once": sum(count > 1 for count in self.winners),
            "never_spent": self.winners.count(0),
            "lost": self.lost,
            "took_s": round(self.took_s, 1),
        }


async def race(nodes: Sequence[Node], approvals: int, spenders: int) -> Raced:
    """Races `spenders` for each of so many approvals, over all nodes."""
    raced, began_s = Raced(), time.monotonic()
    for first in range(0, approvals, WAVE):
        names = [f"{number}" for number in range(first, min(first + WAVE, approvals))]
        rows = await asyncio.gather(*(nodes[0].open(name) for name in names))
        said = await asyncio.gather(
            *(nodes[-1].deciding.approve(TENANT, row.approval_id, ANA) for row in rows)
        )
        answers = await asyncio.gather(
            *(nodes[number % len(nodes)].spend(row) for row in said for number in range(spenders))
        )
        for at in range(len(said)):
            mine = answers[at * spenders : (at + 1) * spenders]
            raced.winners.append(sum(isinstance(one, Intent) for one in mine))
            for one in mine:
                if isinstance(one, Unspent):
                    code = one.decision.code
                    raced.lost[code] = raced.lost.get(code, 0) + 1
    raced.took_s = time.monotonic() - began_s
    return raced
