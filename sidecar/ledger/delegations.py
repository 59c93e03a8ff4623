"""Puts decisions on calls that are not HTTP on record: the agent acts itself, so that the decision
is all there is to record.

Knows: that such an intent is one receipt, whose outcome is `delegated`: nothing of it stays open,
and after a crash there is nothing to find out. What the agent may say only once (a request id, a
nonce) stands or falls with it; so does the action's hash.
Must not know: HTTP, how a decision is made, what a receipt hash is made of.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple

import orjson

from sidecar.errors import Refused
from sidecar.ledger.audit_rows import NOT_SPENT
from sidecar.ledger.canonical import NotCanonical
from sidecar.ledger.claims import Claims, Redraft, Spend, take_along
from sidecar.ledger.entries import Entries
from sidecar.ledger.fence import Fence
from sidecar.ledger.run_keeper import RunStake
from sidecar.model import Decision, OutcomeKind, Principal, ToolCall, TrustLevel
from sidecar.policy.runs import RunState
from storage.errors import QueueClosed, QueueFull, StoreError
from storage.records import Answer, Declined, Entry, NoRoom, Recorded, Stale, Unrecordable
from storage.standing import ApprovalRow, AuditRow, OnceRow
from storage.write_queue import WriteQueue

_log = logging.getLogger("aegis.ledger")

#: The action of a receipt that tells of an approval that somebody tried to spend, and could not.
ATTEMPT = "tamper_attempt"
#: What is answered where an approval cannot be spent.
_CONFLICT = 409
_DELEGATED = OutcomeKind.DELEGATED.value


class Mark(NamedTuple):
    """What goes with a decision: the hash of the canonical action ("" where there is none), and
    what the agent said that may be said only once."""

    action_hash: str
    says: tuple[OnceRow, ...] = ()


class Limited(NamedTuple):
    """A limit that the store keeps had no room, for so long; the decision by it is durable."""

    decision: Decision
    wait_us: int
    recorded: Recorded


class SaidBefore(NamedTuple):
    """Something that may be said only once was said already, or by another call just now: nothing
    of this one is recorded."""


class Unspent(NamedTuple):
    """The approval could not be spent; the refusal by this decision is durable."""

    decision: Decision


class Delegations:
    """One for a sidecar. `on_unrecorded` is called for every refusal that could not be recorded."""

    def __init__(
        self,
        queue: WriteQueue,
        entries: Entries,
        fence: Fence,
        on_unrecorded: Callable[[], None],
    ) -> None:
        self._queue = queue
        self._entries = entries
        self._fence = fence
        self._on_unrecorded = on_unrecorded
        self._refusals: set[asyncio.Task[Answer | None]] = set()

    async def allowed(
        self,
        principal: Principal,
        call: ToolCall,
        decision: Decision,
        mark: Mark,
        stake: RunStake | None,
        run: RunState,
        claims: Claims | None = None,
        spend: Spend | None = None,
    ) -> Recorded | Stale | Limited | SaidBefore | Unspent:
        """Makes a decision durable by which the agent may act; with it, by `stake`, what the call
        makes of its run, by `claims` what it takes from limits, and by `spend` the approval it
        goes ahead by.

        Gives Stale when what the decision rested on has changed. Raises Refused: queue_full,
        shutting_down, store_unavailable, invalid_argument; then nothing was recorded.
        """
        try:
            entry = self._entries.intent(principal, call, decision, stake, run)
            entry.epoch = principal.epoch
            if claims is not None or spend is not None:
                redraft = _marked(self._entries.redraft(entry, principal, call, stake, run), mark)
                take_along(entry, claims, spend, redraft)
            answer = await self._queue.submit(_with_mark(entry, mark))
        except StoreError as error:
            raise refused_by(error) from error
        except NotCanonical as error:
            reason = "An argument has no canonical JSON form"
            raise Refused("invalid_argument", reason, detail=str(error)) from error
        if isinstance(answer, Recorded | Stale):
            return answer
        if isinstance(answer, NoRoom) and claims is not None:
            over = claims.over(claims.charges[answer.position], answer.full.used)
            return Limited(over, answer.full.wait_us, answer.recorded)
        if isinstance(answer, Declined) and spend is not None:
            return Unspent(spend.without(answer.why))
        if isinstance(answer, Unrecordable) and mark.says:
            return SaidBefore()
        raise Refused("store_unavailable", retry_after_s=1, detail=f"unrecordable: {answer}")

    async def refused(
        self,
        principal: Principal,
        call: ToolCall,
        refused: Refused,
        mark: Mark,
        run: RunState | None,
        http_status: int,
    ) -> Recorded | SaidBefore | None:
        """Records a call by which the agent may not act, answered with this status; None (and
        counted) if that is impossible. Who does not wait for it does not take it along."""
        entry = self._entries.refusal(
            principal, call.call_id, call.tool.upstream, call.action, refused, call, run
        )
        entry.receipt = entry.receipt._replace(http_status=http_status)
        answer = await self._whole(_with_mark(entry, mark))
        if isinstance(answer, Unrecordable) and mark.says:
            return SaidBefore()
        return answer if isinstance(answer, Recorded) else None

    async def not_consumed(
        self,
        principal: Principal,
        call_id: str,
        approval: ApprovalRow,
        refused: Refused,
        claimed_hash: str | None,
        http_status: int,
        spent_for_by: str = "",
    ) -> None:
        """Records an attempt to spend an approval that may not be spent so: by whom, and on which
        action by its own account. `spent_for_by` is the person who tried it for the agent, whom an
        audit row names; "" if it did itself."""
        upstream = approval.tool.partition("/")[0]
        entry = self._entries.refusal(principal, call_id, upstream, ATTEMPT, refused, None, None)
        entry.receipt = entry.receipt._replace(
            tool=approval.tool,
            approval_id=approval.approval_id,
            action_hash=claimed_hash,
            source_trust=TrustLevel.MALICIOUS_SUSPECTED.label,
            http_status=http_status,
        )
        if spent_for_by:
            state = orjson.dumps({"state": approval.state}).decode()
            entry.audit = AuditRow(
                principal.tenant, 0, entry.receipt.ts_us, spent_for_by, NOT_SPENT,
                approval.approval_id, state, state, refused.code,
            )  # fmt: skip
        await self._whole(entry)

    async def _whole(self, entry: Entry) -> Answer | None:
        """What became of it; it is recorded whether or not its caller waits for that."""
        task = asyncio.get_running_loop().create_task(self._submitted(entry))
        self._refusals.add(task)
        task.add_done_callback(self._refusals.discard)
        return await asyncio.shield(task)

    async def _submitted(self, entry: Entry) -> Answer | None:
        cause = "store_fenced"
        if not self._fence.is_up:
            try:
                answer = await self._queue.submit(entry)
            except StoreError as error:
                cause = error.code
            else:
                if isinstance(answer, Recorded) or entry.puts:
                    return answer
                cause = str(answer)
        self._on_unrecorded()
        _log.warning(
            "a refusal could not be recorded",
            extra={"call_id": entry.receipt.call_id, "cause": cause},
        )
        return None


def _with_mark(entry: Entry, mark: Mark) -> Entry:
    """The entry as that of a call that is not forwarded by us."""
    receipt = entry.receipt
    entry.opens = None
    entry.receipt = receipt._replace(
        action_hash=mark.action_hash or None,
        outcome=_DELEGATED if receipt.kind == "intent" else receipt.outcome,
    )
    entry.puts = mark.says
    return entry


def _marked(redraft: Redraft, mark: Mark) -> Redraft:
    """What stands in place of the intent is marked too; a call without room may be made again under
    the same request id, so that then nothing was said."""

    def marked(decision: Decision) -> Entry:
        entry = redraft(decision)
        if entry.receipt.kind == "intent":
            return _with_mark(entry, mark)
        if decision.approval_id is not None and decision.approver is None:
            entry.receipt = entry.receipt._replace(http_status=_CONFLICT)
        return _with_mark(entry, Mark(mark.action_hash))

    return marked


def refused_by(error: StoreError) -> Refused:
    """What a caller meets where the store cannot be asked, or does not record."""
    if isinstance(error, QueueFull):
        return Refused("queue_full", retry_after_s=1, detail=error.code)
    if isinstance(error, QueueClosed):
        return Refused("shutting_down", detail=error.code)
    return Refused("store_unavailable", retry_after_s=1, detail=error.code)
