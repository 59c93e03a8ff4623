"""The way of an authorize call, as one straight line: who, what, may he, was it asked before,
judged, recorded, answered.

Knows: the order of things: containment comes before a repeated request is answered from its record,
and nothing is answered before it is durable. Every refusal of a known agent is on record.
Must not know: listeners, how a request is parsed, how a rule is judged, how a record is written.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final, NamedTuple, Protocol

from sidecar.authorize.answers import (
    DECISIONS,
    Answered,
    ApprovalSaid,
    decision_reply,
    error_reply,
    status_of,
)
from sidecar.authorize.asked import AskedHttp, IdentifiesAgents
from sidecar.authorize.call import bound, call_of, declared_trust, entry_of
from sidecar.authorize.case import Case
from sidecar.authorize.judging import AuthorizeJudging
from sidecar.authorize.records import answered, answered_before
from sidecar.authorize.repeats import Repeats
from sidecar.authorize.request import read_request
from sidecar.clock import Clock
from sidecar.config.model import Config
from sidecar.errors import Refused
from sidecar.identity.agent_states import barred
from sidecar.identity.registry import Registry
from sidecar.ledger.action import action_hash
from sidecar.ledger.canonical import NotCanonical
from sidecar.ledger.delegations import Delegations, Mark, SaidBefore, refused_by
from sidecar.ledger.recorder import Recorder
from sidecar.model import AgentState, Decision, Effect, Principal
from sidecar.policy.contained import CONTAINED
from sidecar.policy.index import PolicySet
from sidecar.policy_files import PolicyKeeper
from sidecar.proxy.agent_side import ClientGone
from sidecar.proxy.dialects.content_type import require_json_type
from sidecar.proxy.dialects.reply import WholeReply
from sidecar.telemetry.counters import Counters
from storage.errors import StoreError
from storage.records import CallFactsRow, ReceiptRow, Recorded
from storage.standing import OnceRow

_log = logging.getLogger("aegis.authorize")

#: What a request that never became a call is recorded as.
UPSTREAM: Final = "v1"
ACTION: Final = "authorize"
SIGNATURE: Final = "x-aegis-request-signature"
#: What is known of agents may be so old where a record is answered from and nothing is recorded.
KNOWN_AGE_MAX_S: Final = 1.0


class ReadsRecords(Protocol):
    """What is needed of a store."""

    async def receipts(self, tenant_id: str, after_seq: int, limit: int) -> list[ReceiptRow]:
        """Receipts with seq > after_seq, oldest first."""
        ...

    async def receipts_of_call(self, tenant_id: str, call_id: str) -> list[ReceiptRow]:
        """The intent or refusal of a call, oldest first."""
        ...

    async def call_facts(self, tenant_id: str, seq: int) -> CallFactsRow | None:
        """The facts beside a receipt."""
        ...


class Asks(Protocol):
    """Who asks people for a yes."""

    async def ask(
        self, case: Case, policy_set: PolicySet, decision: Decision
    ) -> tuple[Decision, ApprovalSaid]:
        """The open approval of the action, and the decision that names it. Raises Refused where
        there is none to be had."""
        ...

    async def said(self, tenant: str, approval_id: str) -> ApprovalSaid | None:
        """An approval as answers name it."""
        ...


class Rooms(NamedTuple):
    """What the line leads through."""

    config: Config
    policies: PolicyKeeper
    identify: IdentifiesAgents
    registry: Registry
    judging: AuthorizeJudging
    delegations: Delegations
    recorder: Recorder
    repeats: Repeats
    reader: ReadsRecords
    asks: Asks
    counters: Counters
    clock: Clock


class AuthorizeLine:
    """Carries requests; owns nothing."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._limits = rooms.config.limits
        self._upstreams = rooms.config.upstreams

    async def authorize(self, asked: AskedHttp) -> WholeReply:
        """The answer to one request, which is durable by then."""
        rooms, call_id = self._rooms, self._rooms.clock.new_id()
        principal: Principal | None = None
        case: Case | None = None
        try:
            principal = await rooms.identify(asked)
            require_json_type(asked.headers.get("content-type"))
            if SIGNATURE in asked.headers:
                raise Refused("unsigned_only")
            policy_set = rooms.policies.current
            body = await asked.read_body(principal)
            case = self._read(asked, principal, policy_set, call_id, body)
            if principal.state is not AgentState.ACTIVE:
                raise barred(principal.state)
            rooms.repeats.require_now(case.request)
            said_then = await self._look_back(case)
            if said_then is not None:
                return await self._repeated(case, said_then)
            entry = entry_of(case.request, policy_set.catalogue, self._upstreams)
            case.call = case.shown = bound(case.call, entry)
            return await self._decided(case, policy_set)
        except Refused as refused:
            if case is None:
                return await self._refused_unread(principal, call_id, refused)
            return await self._refused(case, refused)
        except ClientGone:
            raise  # nothing was decided yet: the body broke off
        except Exception:
            _log.exception("an authorize call failed", extra={"call_id": call_id})
            failed = Refused("internal_error")
            if case is None:
                return await self._refused_unread(principal, call_id, failed)
            return await self._refused(case, failed)

    # -- its steps -------------------------------------------------------------------------

    def _read(
        self,
        asked: AskedHttp,
        principal: Principal,
        policy_set: PolicySet,
        call_id: str,
        body: bytes,
    ) -> Case:
        request = read_request(body, self._limits.depth, self._limits.values)
        call = call_of(
            request, body, policy_set.catalogue, self._upstreams,
            call_id=call_id, source_ip=asked.source_ip,
        )  # fmt: skip
        try:
            hashed = action_hash(
                request.tool, request.action, request.resource, request.mutates_state,
                request.parameters,
            )  # fmt: skip
        except NotCanonical as error:
            raise Refused("invalid_json", detail=str(error)) from error
        run_id = principal.run
        upstream = self._upstreams.get(call.tool.upstream)
        if not run_id and upstream is not None and upstream.run == "trusted":
            run_id = request.run_id or ""
        trust = declared_trust(request)
        return Case(call_id, principal, request, call, trust, run_id, Mark(hashed), call)

    async def _look_back(self, case: Case) -> OnceRow | None:
        """What was said under this request id before; what is said now goes with the decision."""
        if case.request.dry_run:
            return None
        says, said_then = await self._rooms.repeats.look(
            case.principal, case.request, case.call_id, case.mark.action_hash, case.run_id
        )
        case.mark = case.mark._replace(says=says)
        return said_then

    async def _decided(self, case: Case, policy_set: PolicySet) -> WholeReply:
        rooms = self._rooms
        settled = await rooms.judging.settle(case, policy_set)
        decision = settled.decision
        if settled.said_before:
            return await self._said_meanwhile(case)
        if decision.forward or case.request.dry_run:
            return decision_reply(answered(case, decision, None, settled.recorded))
        decision, approval = await rooms.asks.ask(case, policy_set, decision)
        pending = Refused("approval_pending", decision.reason, decision=decision)
        recorded = await self._record(case, pending)
        if isinstance(recorded, SaidBefore):
            return await self._said_meanwhile(case)
        return decision_reply(answered(case, decision, pending, recorded, approval))

    # -- what was said before --------------------------------------------------------------

    async def _repeated(self, case: Case, said_then: OnceRow) -> WholeReply:
        """The answer that was given then, from its record, to an agent who still may call."""
        rooms, principal = self._rooms, case.principal
        try:
            await rooms.registry.fresh(KNOWN_AGE_MAX_S)
            now = rooms.registry.agent(principal.tenant, principal.agent)
            if now is None or now.state is not AgentState.ACTIVE:
                raise barred(AgentState.DELETED if now is None else now.state)
            case.principal = replace(case.principal, contained=now.contained)
            await rooms.judging.require_uncontained(case, rooms.policies.current)
            said = await self._from_record(case, said_then)
            if said.effect == Effect.ALLOW.value:
                await rooms.judging.require_uncontained(
                    case, rooms.policies.current, was_allowed=True
                )
        except StoreError as error:
            raise refused_by(error) from error
        rooms.counters.authorize_repeats += 1
        return decision_reply(said)

    async def _from_record(self, case: Case, said_then: OnceRow) -> Answered:
        reader, tenant = self._rooms.reader, case.principal.tenant
        rows = await reader.receipts_of_call(tenant, said_then.call_id)
        receipt = next((row for row in rows if row.kind in ("intent", "refusal")), None)
        if receipt is None:  # pruned: then nothing is known, and nothing may be answered
            raise Refused("request_id_reused", "Its record is not kept any more")
        before = []
        if receipt.seq > 1:
            before = await reader.receipts(tenant, receipt.seq - 2, 1)
        approval = None
        if receipt.approval_id is not None:
            approval = await self._rooms.asks.said(tenant, receipt.approval_id)
        return answered_before(
            receipt,
            before[0].receipt_hash if before else "",
            await reader.call_facts(tenant, receipt.seq),
            is_mcp=case.request.tool.startswith("mcp:"),
            approval=approval,
        )

    async def _said_meanwhile(self, case: Case) -> WholeReply:
        """Another call was quicker with the same nonce or request id: it is the one decided."""
        case.mark = case.mark._replace(says=())
        said_then = await self._look_back(case)
        if said_then is None:
            raise Refused("store_unavailable", retry_after_s=1, detail="unrecordable")
        return await self._repeated(case, said_then)

    # -- its ends --------------------------------------------------------------------------

    async def _refused(self, case: Case, refused: Refused) -> WholeReply:
        """A call that may not go ahead; recorded, but for a dry run of one that was judged."""
        rooms = self._rooms
        rooms.counters.refused(refused.code, refused.detail)
        recorded: Recorded | SaidBefore | None = None
        is_decision = refused.code in DECISIONS
        if not (refused.is_recorded or case.request.dry_run):
            if not is_decision or refused.code == CONTAINED:
                # The request may be sent again under the same id.
                case.mark = case.mark._replace(says=())
            recorded = await self._record(case, refused)
        if isinstance(recorded, SaidBefore):
            try:
                return await self._said_meanwhile(case)
            except Refused as meanwhile:
                return await self._refused(case, meanwhile)
        if not is_decision:
            return error_reply(refused, case.call_id)
        return decision_reply(answered(case, refused.decision, refused, recorded))

    async def _record(self, case: Case, refused: Refused) -> Recorded | SaidBefore | None:
        return await self._rooms.delegations.refused(
            case.recorded_principal, case.recorded_call, refused, case.mark, case.run,
            status_of(refused),
        )  # fmt: skip

    async def _refused_unread(
        self, principal: Principal | None, call_id: str, refused: Refused
    ) -> WholeReply:
        rooms = self._rooms
        rooms.counters.refused(refused.code, refused.detail)
        if principal is None:
            rooms.counters.unrecorded_refusals += 1
        else:
            await rooms.recorder.refusal(
                principal, call_id=call_id, upstream=UPSTREAM, action=ACTION, refused=refused,
                call=None,
            )  # fmt: skip
        return error_reply(refused, call_id)
