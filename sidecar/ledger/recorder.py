"""Puts decisions and outcomes on record, through the write queue.

Knows: the order of things that makes a record trustworthy. An intent takes the place its outcome
will need in the queue before it is submitted, so that an outcome can always be handed over; the
epoch at which its caller was looked up goes with it as a guard, and no later one, for by then the
caller may be frozen; a refusal is recorded even if its
caller does not wait for it.
Must not know: HTTP, what a receipt holds, how rows are committed or hashed.
"""

from __future__ import annotations

import asyncio
import logging
from typing import NamedTuple

from sidecar.clock import Clock
from sidecar.errors import Refused
from sidecar.ledger.canonical import NotCanonical
from sidecar.ledger.claims import Claims, Spend, take_along
from sidecar.ledger.entries import Entries, Redact
from sidecar.ledger.fence import Fence
from sidecar.ledger.run_keeper import RunStake
from sidecar.model import Decision, Outcome, OutcomeKind, Principal, ToolCall
from sidecar.policy.runs import RunState
from storage.errors import QueueClosed, QueueFull, StoreError
from storage.records import Declined, Entry, NoRoom, Recorded, RunHead, Stale
from storage.write_queue import Slot, WriteQueue

_log = logging.getLogger("aegis.ledger")

__all__ = ["Intent", "OverLimit", "Recorder", "Unspent"]


class Intent(NamedTuple):
    """A durable intent: the call may be forwarded, and its outcome has a place in the queue."""

    tenant: str
    agent: str
    call_id: str
    seq: int
    receipt_hash: str
    slot: Slot
    #: Its run as it left it, if the intent had a stake in it.
    run: RunHead | None = None


class OverLimit(NamedTuple):
    """A limit that the store keeps had no room for a call, for so long; the decision by it is
    durable. `intent` is that of a call which goes ahead all the same."""

    decision: Decision
    wait_us: int
    intent: Intent | None


class Unspent(NamedTuple):
    """The approval could not be spent; the refusal by this decision is durable."""

    decision: Decision


class Recorder:
    """The only one that hands calls to the write queue.

    `redact` masks what must not be stored; `keeps_arguments` is false where only digests may be.
    While `fence` stands no refusal is recorded, only counted; calls are kept away by whoever asks
    for intents.
    """

    def __init__(
        self,
        queue: WriteQueue,
        clock: Clock,
        *,
        node_id: str,
        boot_id: str,
        redact: Redact,
        keeps_arguments: bool = True,
        fence: Fence | None = None,
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._entries = Entries(
            clock,
            node_id=node_id,
            boot_id=boot_id,
            redact=redact,
            keeps_arguments=keeps_arguments,
        )
        self._fence = fence or Fence()
        self._refusals: set[asyncio.Task[Recorded | None]] = set()
        #: Refusals that were answered and could not be recorded.
        self.unrecorded_refusals = 0
        #: Intents whose outcome found no place in the queue, or no writer any more: they stay
        #: open, and the next start recovers them.
        self.left_open = 0

    async def intent(
        self,
        principal: Principal,
        call: ToolCall,
        decision: Decision,
        stake: RunStake | None = None,
        run: RunState | None = None,
        claims: Claims | None = None,
        spend: Spend | None = None,
    ) -> Intent | Stale | OverLimit | Unspent:
        """Makes the decision durable before anything is forwarded; with it, by `stake`, what the
        call makes of its run, by `claims` what it takes from limits, and by `spend` the approval it
        goes ahead by. `run` is its run as the decision met it.

        Gives Stale when what the decision rested on has changed: decide again. Gives OverLimit
        when a limit had no room: the refusal is durable, or, where the decision by the limit goes
        ahead all the same, the intent of that stands in `OverLimit.intent`. Gives Unspent when the
        approval could not be spent: the refusal is durable. Raises Refused
        (queue_full, shutting_down, store_unavailable, invalid_argument for arguments that have no
        canonical form); then nothing may be forwarded.
        """
        try:
            slot = self._queue.reserve()
        except StoreError as error:
            raise _refused(error) from error
        ts_us = self._clock.now_us()

        def draft() -> Entry:
            entry = self._entries.intent(principal, call, decision, stake, run, ts_us)
            entry.epoch = principal.epoch
            if claims is not None or spend is not None:
                redraft = self._entries.redraft(entry, principal, call, stake, run)
                take_along(entry, claims, spend, redraft)
            return entry

        try:
            answer = await self._queue.submit_draft(principal.tenant, draft)
            if isinstance(answer, Recorded):
                return self._begun(principal, call, answer, slot)
            if isinstance(answer, NoRoom) and claims is not None:
                charge, full = claims.charges[answer.position], answer.full
                begun = None
                if answer.entry.opens is None:
                    slot.release()
                else:
                    begun = self._begun(principal, call, answer.recorded, slot)
                return OverLimit(claims.over(charge, full.used), full.wait_us, begun)
            if isinstance(answer, Declined) and spend is not None:
                slot.release()
                return Unspent(spend.without(answer.why))
        except StoreError as error:
            slot.release()
            raise _refused(error) from error
        except NotCanonical as error:
            slot.release()
            reason = "An argument has no canonical JSON form"
            raise Refused("invalid_argument", reason, detail=str(error)) from error
        except BaseException:
            slot.release()
            raise
        slot.release()
        if isinstance(answer, Stale):
            return answer
        raise Refused("store_unavailable", detail=f"unrecordable: {answer}")

    def _begun(
        self, principal: Principal, call: ToolCall, recorded: Recorded, slot: Slot
    ) -> Intent:
        """The intent that is durable now."""
        return Intent(
            principal.tenant,
            principal.agent,
            call.call_id,
            recorded.seq,
            recorded.receipt_hash,
            slot,
            recorded.run,
        )

    def outcome(self, intent: Intent, outcome: Outcome) -> None:
        """Hands over how a forwarded call ended; never blocks, and raises nothing.

        If the writer is gone the intent stays open (counted), and the next start recovers it.
        """
        entry = self._entries.outcome(intent.tenant, intent.agent, intent.call_id, outcome)
        try:
            self._queue.enqueue(entry, intent.slot)
        except StoreError as error:
            self._leave_open(intent.call_id, error)

    async def refusal(
        self,
        principal: Principal,
        *,
        call_id: str,
        upstream: str,
        action: str,
        refused: Refused,
        call: ToolCall | None,
        run: RunState | None = None,
    ) -> Recorded | None:
        """Records a call that does not go ahead; None (and counted) if that is impossible.

        The caller is refused either way, so a failure here opens nothing. A caller who leaves
        does not take the record along: it is written without him.
        """
        if self._fence.is_up:
            self.unrecorded_refusals += 1
            return None
        entry = self._entries.refusal(principal, call_id, upstream, action, refused, call, run)
        return await asyncio.shield(self._begin_refusal(entry))

    def refusal_unheard(
        self,
        principal: Principal,
        *,
        call_id: str,
        upstream: str,
        action: str,
        refused: Refused,
        call: ToolCall | None = None,
        run: RunState | None = None,
    ) -> None:
        """Records the refusal of a request that broke off: nobody is left to wait for it."""
        entry = self._entries.refusal(principal, call_id, upstream, action, refused, call, run)
        _ = self._begin_refusal(entry)

    def _begin_refusal(self, entry: Entry) -> asyncio.Task[Recorded | None]:
        task = asyncio.get_running_loop().create_task(self._record_refusal(entry))
        self._refusals.add(task)
        task.add_done_callback(self._refusals.discard)
        return task

    def abandoned(self, entry: Entry, recorded: Recorded) -> None:
        """An entry whose caller had given up was committed all the same.

        An intent among them was never forwarded; say so, if there is a place to say it.
        """
        if entry.opens is None:
            return
        opens, agent = entry.opens, entry.receipt.agent_id
        never_sent = Outcome(OutcomeKind.NOT_FORWARDED)
        try:
            slot = self._queue.reserve()
        except StoreError as error:
            self._leave_open(opens.call_id, error)
            return
        ends = self._entries.outcome(opens.tenant_id, agent, opens.call_id, never_sent)
        try:
            self._queue.enqueue(ends, slot)
        except StoreError as error:
            self._leave_open(opens.call_id, error)

    def _leave_open(self, call_id: str | None, error: StoreError) -> None:
        self.left_open += 1
        _log.error(
            "an outcome could not be handed over; the next start closes the intent as unknown",
            extra={"call_id": call_id, "cause": error.code},
        )

    async def _record_refusal(self, entry: Entry) -> Recorded | None:
        if self._fence.is_up:  # raised since this was begun
            self.unrecorded_refusals += 1
            return None
        try:
            answer = await self._queue.submit(entry)
        except StoreError as error:
            cause = error.code
        else:
            if isinstance(answer, Recorded):
                return answer
            cause = str(answer)
        self.unrecorded_refusals += 1
        _log.warning(
            "a refusal could not be recorded",
            extra={"call_id": entry.receipt.call_id, "cause": cause},
        )
        return None


def _refused(error: StoreError) -> Refused:
    if isinstance(error, QueueFull):
        return Refused("queue_full", retry_after_s=1, detail=error.code)
    if isinstance(error, QueueClosed):
        return Refused("shutting_down", detail=error.code)
    return Refused("store_unavailable", retry_after_s=1, detail=error.code)
