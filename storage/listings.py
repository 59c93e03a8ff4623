"""Pages for people who look things up: newest first, filtered, and bounded in what they cost.

Knows: that a page looks at a stretch of the chain and no further, so that a filter that fits
rarely costs no more than one that fits always; where it left off, the next page goes on. Keys are
(tenant, seq), so that a page deep in a chain of millions costs what the first one does.
Must not know: who asks, what a page looks like to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from storage.records import ReceiptRow
from storage.retention import CareReader
from storage.standing import AuditRow

#: Receipts that one page of calls looks at.
RECEIPTS_LOOKED_AT: Final = 10_000
#: The same of what rules in shadow would have changed, whose facts are looked through.
DIFFERENCES_LOOKED_AT: Final = 5_000
#: Changes of state that one page looks at.
CHANGES_LOOKED_AT: Final = 5_000
#: Receipts that one count looks at, and groups it tells apart.
RECEIPTS_COUNTED: Final = 10_000
GROUPS_MAX: Final = 1_000
#: Before every time there is, and after.
TIME_MIN_US: Final = 0
TIME_MAX_US: Final = 2**53 - 1


class Ending(NamedTuple):
    """How a call ended, by the receipt that says so."""

    seq: int
    ts_us: int
    outcome: str | None
    http_status: int | None


class ListedCall(NamedTuple):
    """The receipt by which a call began, and its end; None while it is under way, and of one that
    was refused."""

    receipt: ReceiptRow
    ending: Ending | None


class CallCount(NamedTuple):
    """How many calls of an agent to a tool were decided so."""

    agent_id: str | None
    tool: str | None
    decision: str | None
    kind: str
    calls: int


class CallOfAgent(NamedTuple):
    """A call with what is kept beside it, None where nothing is."""

    call_id: str
    seq: int
    ts_us: int
    kind: str
    decision: str | None
    mode: str | None
    tool: str | None
    facts: str | None


class DifferingCall(NamedTuple):
    """A call that rules in shadow would have decided otherwise, with what the rules saw."""

    call_id: str
    seq: int
    ts_us: int
    agent_id: str | None
    tool: str | None
    decision: str
    mode: str | None
    rule_id: str | None
    policy_revision: str | None
    facts: str


@dataclass(frozen=True, slots=True)
class CallFilter:
    """What calls must be like; "" is any. `code` is of a refusal."""

    agent: str = ""
    tool: str = ""
    upstream: str = ""
    decision: str = ""
    rule: str = ""
    code: str = ""
    run: str = ""
    trace: str = ""
    approval: str = ""


@dataclass(frozen=True, slots=True)
class ChangeFilter:
    """What changes of state must be like; "" is any. `until_us` is excluded."""

    actor: str = ""
    action: str = ""
    subject: str = ""
    since_us: int = TIME_MIN_US
    until_us: int = TIME_MAX_US


class Listings(CareReader):
    """Reads pages; of a reader that has its own connections and time limit."""

    async def bounds(self, tenant_id: str, since_us: int, until_us: int) -> tuple[int, int]:
        """The seqs between which everything recorded from `since_us` up to (and without)
        `until_us` stands: those after the first and up to the second."""
        head, cut = await self.ends(tenant_id)
        if since_us > head.ts_us or until_us <= since_us:
            return head.seq, head.seq
        low, high = cut.seq, head.seq
        if since_us > cut.ts_us:
            low = await self._last_before(tenant_id, since_us, low, high)
        if until_us <= head.ts_us:
            high = await self._last_before(tenant_id, until_us, low, high)
        return low, max(low, high)

    async def calls(
        self, tenant_id: str, wanted: CallFilter, after_seq: int, until_seq: int, limit: int
    ) -> tuple[list[ListedCall], int]:
        """Calls with after_seq < seq <= until_seq, newest first, at most `limit`; and the seq up
        to which the next page looks, `after_seq` if there is nothing more to look at."""
        start = max(after_seq, until_seq - RECEIPTS_LOOKED_AT)
        rows = await self._fetch(
            "calls_page", tenant_id, until_seq + 1, start + 1, wanted.agent, wanted.tool,
            wanted.upstream, wanted.decision, wanted.rule, wanted.code, wanted.run, wanted.trace,
            wanted.approval, limit,
        )  # fmt: skip
        width = len(ReceiptRow._fields)
        found = [ListedCall(ReceiptRow._make(row[:width]), _ending(row[width:])) for row in rows]
        return found, found[-1].receipt.seq - 1 if len(found) == limit else start

    async def calls_of_agent(
        self, tenant_id: str, agent_id: str, after_seq: int, until_seq: int, limit: int
    ) -> tuple[list[CallOfAgent], int]:
        """An agent's calls with after_seq < seq <= until_seq, newest first, at most `limit`, with
        what the rules saw; and the seq up to which the next page looks, as `calls` says."""
        start = max(after_seq, until_seq - RECEIPTS_LOOKED_AT)
        rows = await self._fetch("calls_of_agent", tenant_id, until_seq, start, agent_id, limit)
        found = [CallOfAgent._make(row) for row in rows]
        return found, found[-1].seq - 1 if len(found) == limit else start

    async def shadow_differences(
        self, tenant_id: str, after_seq: int, until_seq: int, limit: int
    ) -> tuple[list[DifferingCall], int]:
        """Calls with after_seq < seq <= until_seq that rules in shadow would have decided
        otherwise, newest first, at most `limit`; and the seq up to which the next page looks, as
        `calls` says."""
        start = max(after_seq, until_seq - DIFFERENCES_LOOKED_AT)
        rows = await self._fetch("shadow_differences", tenant_id, until_seq, start, limit)
        found = [DifferingCall._make(row) for row in rows]
        return found, found[-1].seq - 1 if len(found) == limit else start

    async def counts(self, tenant_id: str, after_seq: int, until_seq: int) -> list[CallCount]:
        """Calls of a stretch, counted; the largest groups first, at most GROUPS_MAX."""
        rows = await self._fetch("count_calls", tenant_id, after_seq, until_seq, GROUPS_MAX)
        return [CallCount._make(row) for row in rows]

    async def changes(
        self, tenant_id: str, wanted: ChangeFilter, before_seq: int, limit: int
    ) -> tuple[list[AuditRow], int]:
        """Changes of state with seq < before_seq, newest first, at most `limit`; and before which
        seq the next page looks, 0 if there is nothing more to look at."""
        stretch = await self._fetch("audit_stretch", tenant_id, before_seq, CHANGES_LOOKED_AT)
        start = stretch[0][0]
        if start is None:
            return [], 0
        rows = await self._fetch(
            "audit_page", tenant_id, before_seq, start, wanted.actor, wanted.action,
            wanted.subject, wanted.since_us, wanted.until_us, limit,
        )  # fmt: skip
        found = [AuditRow._make(row) for row in rows]
        if len(found) == limit:
            return found, found[-1].seq
        return found, start if await self._has_older(tenant_id, start) else 0

    async def change(self, tenant_id: str, seq: int) -> AuditRow | None:
        """The change of state that a receipt commits to; None if it commits to none."""
        rows = await self._fetch("audit_event", tenant_id, seq)
        return AuditRow._make(rows[0]) if rows else None

    async def changes_between(
        self, tenant_id: str, after_seq: int, until_seq: int, limit: int
    ) -> list[AuditRow]:
        """The first changes of state with after_seq < seq <= until_seq, oldest first."""
        rows = await self._fetch("audit_between", tenant_id, after_seq, until_seq, limit)
        return [AuditRow._make(row) for row in rows]

    async def last_change(self, tenant_id: str) -> int:
        """The seq of the newest change of state; 0 if there is none."""
        return int((await self._fetch("audit_end", tenant_id))[0][0] or 0)

    async def _last_before(self, tenant_id: str, at_us: int, low: int, high: int) -> int:
        rows = await self._fetch("last_seq_before", tenant_id, low, high, at_us)
        return int(rows[0][0])

    async def _has_older(self, tenant_id: str, seq: int) -> bool:
        return (await self._fetch("audit_stretch", tenant_id, seq, 1))[0][0] is not None


def _ending(columns: tuple[object, ...]) -> Ending | None:
    return Ending(*columns) if columns[0] is not None else None  # type: ignore[arg-type]
