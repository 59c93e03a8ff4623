"""Puts decisions and outcomes on record: from the nouns of a call to entries of the write queue.

Knows: what of a call stands in its receipt, what beside it in `call_facts` (which may be erased),
and the epoch each tenant's decisions rest on. An intent takes the place its outcome will need in
the queue before it is submitted, so that an outcome can always be handed over.
Must not know: HTTP, how rows are committed or hashed.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from sidecar.clock import Clock
from sidecar.errors import Refused
from sidecar.model import Decision, Effect, Mode, Outcome, OutcomeKind, Principal, ToolCall
from storage.errors import QueueClosed, QueueFull, StoreError
from storage.records import (
    Answer,
    CallFactsRow,
    Entry,
    OpenIntentRow,
    ReceiptRow,
    Recorded,
    Stale,
)
from storage.write_queue import Slot, WriteQueue

_log = logging.getLogger("aegis.ledger")

SALT_BYTES = 16
_SORTED = orjson.OPT_SORT_KEYS

Redact = Callable[[Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Intent:
    """A durable intent: the call may be forwarded, and its outcome has a place in the queue."""

    tenant: str
    agent: str
    call_id: str
    seq: int
    receipt_hash: str
    slot: Slot


class Recorder:
    """The only one that hands calls to the write queue."""

    def __init__(
        self,
        queue: WriteQueue,
        clock: Clock,
        *,
        node_id: str,
        boot_id: str,
        redact: Redact,
        keeps_arguments: bool = True,
        epochs: Mapping[str, int] | None = None,
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._node_id = node_id
        self._boot_id = boot_id
        self._redact = redact
        self._keeps_arguments = keeps_arguments
        self._epochs: dict[str, int] = dict(epochs or {})
        #: Refusals that were answered and could not be recorded.
        self.unrecorded_refusals = 0
        #: Intents that committed after their caller had left and found no place for an outcome:
        #: they stay open and the next start recovers them.
        self.left_open = 0

    async def intent(
        self, principal: Principal, call: ToolCall, decision: Decision
    ) -> Intent | Stale:
        """Makes the decision durable before anything is forwarded.

        Gives Stale when what the decision rested on has changed: decide again. Raises Refused
        (queue_full, shutting_down, store_unavailable); then nothing may be forwarded.
        """
        try:
            slot = self._queue.reserve()
        except StoreError as error:
            raise _refused(error) from error
        try:
            entry = self._call_entry("intent", principal, call, decision)
            answer: Answer = await self._queue.submit(entry)
        except StoreError as error:
            slot.release()
            raise _refused(error) from error
        except BaseException:
            slot.release()
            raise
        if isinstance(answer, Recorded):
            self._epochs[principal.tenant] = answer.epoch
            return Intent(
                principal.tenant,
                principal.agent,
                call.call_id,
                answer.seq,
                answer.receipt_hash,
                slot,
            )
        slot.release()
        if isinstance(answer, Stale):
            self._epochs[principal.tenant] = answer.epoch
            return answer
        raise Refused("store_unavailable", detail=str(answer))

    def outcome(self, intent: Intent, outcome: Outcome) -> None:
        """Hands over how a forwarded call ended; never blocks."""
        self._queue.enqueue(
            self._outcome_entry(intent.tenant, intent.agent, intent.call_id, outcome), intent.slot
        )

    async def refusal(
        self,
        principal: Principal,
        *,
        call_id: str,
        upstream: str,
        action: str,
        refused: Refused,
        call: ToolCall | None,
    ) -> Recorded | None:
        """Records a call that does not go ahead; None (and counted) if that is impossible.

        The caller is refused either way, so a failure here opens nothing.
        """
        entry = (
            self._call_entry("refusal", principal, call, refused.decision, refused)
            if call is not None
            else self._unread_entry(principal, call_id, upstream, action, refused)
        )
        try:
            answer = await self._queue.submit(entry)
            if isinstance(answer, Stale):
                entry.epoch = self._epochs[principal.tenant] = answer.epoch
                answer = await self._queue.submit(entry)
        except StoreError as error:
            self.unrecorded_refusals += 1
            _log.warning("a refusal could not be recorded", extra={"code": error.code})
            return None
        if isinstance(answer, Recorded):
            return answer
        self.unrecorded_refusals += 1
        return None

    def abandoned(self, entry: Entry, recorded: Recorded) -> None:
        """An entry whose caller had given up was committed all the same.

        An intent among them was never forwarded; say so, if there is a place to say it.
        """
        if entry.opens is None:
            return
        receipt = entry.receipt
        try:
            slot = self._queue.reserve()
        except StoreError:
            self.left_open += 1
            return
        self._queue.enqueue(
            self._outcome_entry(
                receipt.tenant_id,
                receipt.agent_id,
                entry.opens.call_id,
                Outcome(OutcomeKind.NOT_FORWARDED),
            ),
            slot,
        )

    # -- entries ---------------------------------------------------------------------------

    def _call_entry(
        self,
        kind: str,
        principal: Principal,
        call: ToolCall,
        decision: Decision | None,
        refused: Refused | None = None,
    ) -> Entry:
        salt = self._clock.random_bytes(SALT_BYTES)
        arguments = _canonical(self._redact(call.args))
        tenant = principal.tenant
        receipt = ReceiptRow(
            tenant_id=tenant,
            seq=0,
            kind=kind,
            event_id=call.call_id,
            call_id=call.call_id,
            ts_us=self._clock.now_us(),
            agent_id=principal.agent,
            user_id=principal.user,
            run_id=call.run_id,
            trace_id=call.trace_id,
            upstream=call.tool.upstream,
            tool=call.tool.name,
            action=call.action,
            resource=None,
            source_trust=principal.trust.label,
            decision=decision.effect.value if decision else Effect.DENY.value,
            mode=decision.mode.value if decision else Mode.ENFORCE.value,
            rule_id=decision.rule_id if decision else None,
            rule_hash=decision.rule_hash if decision else None,
            policy_revision=decision.policy_revision if decision else None,
            approval_id=None,
            approver=None,
            action_hash=None,
            request_sha256=hmac.digest(salt, call.body, "sha256").hex(),
            args_commitment=hmac.digest(salt, arguments, "sha256").hex(),
            outcome=refused.code if refused else None,
            http_status=refused.status if refused else None,
            receipt_hash="",
        )
        kept = arguments.decode() if self._keeps_arguments else None
        facts = CallFactsRow(
            tenant, 0, salt.hex(), kept, _facts(principal, call, decision, refused)
        )
        opens = (
            OpenIntentRow(tenant, call.call_id, self._node_id, self._boot_id)
            if kind == "intent"
            else None
        )
        return Entry(receipt, facts, opens, epoch=self._epochs.get(tenant))

    def _unread_entry(
        self, principal: Principal, call_id: str, upstream: str, action: str, refused: Refused
    ) -> Entry:
        """A request that never became a call: there are no arguments to commit to."""
        receipt = self._blank(principal.tenant, "refusal", call_id, principal.agent)._replace(
            event_id=call_id,
            user_id=principal.user,
            upstream=upstream,
            action=action,
            source_trust=principal.trust.label,
            decision=Effect.DENY.value,
            mode=Mode.ENFORCE.value,
            outcome=refused.code,
            http_status=refused.status,
        )
        return Entry(receipt, epoch=self._epochs.get(principal.tenant))

    def _outcome_entry(
        self, tenant: str, agent: str | None, call_id: str, outcome: Outcome
    ) -> Entry:
        receipt = self._blank(tenant, "outcome", call_id, agent, outcome)
        return Entry(receipt, closes=call_id)

    def _blank(
        self,
        tenant: str,
        kind: str,
        call_id: str,
        agent: str | None,
        outcome: Outcome | None = None,
    ) -> ReceiptRow:
        return blank_receipt(
            tenant,
            kind,
            event_id=self._clock.new_id(),
            call_id=call_id,
            ts_us=self._clock.now_us(),
            agent_id=agent,
            outcome=outcome.kind.value if outcome else None,
            http_status=outcome.http_status if outcome else None,
        )


def blank_receipt(
    tenant: str,
    kind: str,
    *,
    event_id: str,
    call_id: str | None,
    ts_us: int,
    agent_id: str | None = None,
    outcome: str | None = None,
    http_status: int | None = None,
) -> ReceiptRow:
    """A draft in which everything not given here is null."""
    return ReceiptRow(
        tenant, 0, kind, event_id, call_id, ts_us, agent_id,
        *(None,) * 18, outcome, http_status, "",
    )  # fmt: skip


def _canonical(arguments: Mapping[str, Any]) -> bytes:
    return orjson.dumps(arguments, option=_SORTED)


def _facts(
    principal: Principal, call: ToolCall, decision: Decision | None, refused: Refused | None
) -> str:
    """What the rules saw and said, as compact JSON; query values and headers are not kept."""
    tool = call.tool
    facts: dict[str, Any] = {
        "path": call.http.path,
        "method": call.http.method,
        "source_ip": call.http.source_ip,
        "mutates": tool.mutates,
        "risk": tool.risk.label,
        "returns": tool.returns.label,
        "labels": tool.labels,
        "team": principal.team,
        "environment": principal.environment,
    }
    if decision is not None:
        facts["reason"] = decision.reason
        facts["matches"] = [
            [match.rule_id, match.effect, match.mode, match.error] for match in decision.matches
        ]
        if decision.would_be is not None:
            facts["would_be"] = decision.would_be
    elif refused is not None:
        facts["reason"] = refused.reason
    return orjson.dumps(facts).decode()


def _refused(error: StoreError) -> Refused:
    if isinstance(error, QueueFull):
        return Refused("queue_full", retry_after_s=1, detail=error.code)
    if isinstance(error, QueueClosed):
        return Refused("shutting_down", detail=error.code)
    return Refused("store_unavailable", retry_after_s=1, detail=error.code)
