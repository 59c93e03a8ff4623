"""The way of a poll and of a consume: who, which approval of his, may he, is it what he says.

Knows: that a look leaves no receipt and a refused attempt to spend does, and names the approval.
Must not know: listeners, how a yes is spent, how a record is written.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import orjson

from sidecar.authorize.answers import dashed, error_reply
from sidecar.authorize.asked import AskedHttp, IdentifiesAgents, IdentifiesPeople
from sidecar.authorize.case import Case
from sidecar.authorize.consuming import Consuming
from sidecar.authorize.line import SIGNATURE, UPSTREAM
from sidecar.authorize.poll import polled
from sidecar.clock import Clock
from sidecar.config.model import Limits
from sidecar.errors import Refused
from sidecar.identity.agent_states import barred
from sidecar.identity.registry import Registry
from sidecar.ledger.delegations import Delegations, Mark, refused_by
from sidecar.ledger.recorder import Recorder
from sidecar.model import AgentState, Principal, Role
from sidecar.policy_files import PolicyKeeper
from sidecar.proxy.agent_side import ClientGone
from sidecar.proxy.dialects.content_type import require_json_type
from sidecar.proxy.dialects.reply import CALL_ID_HEADER, WholeReply
from sidecar.proxy.strict_json import parse
from sidecar.telemetry.counters import Counters
from storage.errors import StoreError
from storage.standing import ApprovalRow

_log = logging.getLogger("aegis.authorize")

ACTION: Final = "consume"
_ID: Final = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HASH: Final = re.compile(r"[0-9a-f]{64}")
#: Refusals to spend that are conflicts with what stands, and not with who asks.
_CONFLICTS: Final = frozenset(
    {
        "approval_pending", "approval_rejected", "approval_expired", "approval_spent",
        "approval_outdated", "approval_withdrawn", "approval_required", "policy_deny",
        "default_deny", "condition_error", "unmet_obligation", "obligations_conflict",
        "unredactable_request", "tool_drifted", "list_changed", "idempotency_key_required",
        "invalid_argument", "ambiguous_argument", "arguments_unfit", "schema_unchecked",
    }
)  # fmt: skip


class Attempt(NamedTuple):
    """What is known of an attempt to spend when it fails: which approval, on which action by the
    caller's word, the call as it is judged again, and the person who acts for the agent ("")."""

    row: ApprovalRow | None
    claimed: str | None
    case: Case | None
    spent_for_by: str


class ApprovalsLine:
    """Carries requests; owns nothing."""

    def __init__(
        self,
        *,
        identify: IdentifiesAgents,
        consuming: Consuming,
        policies: PolicyKeeper,
        delegations: Delegations,
        recorder: Recorder,
        counters: Counters,
        clock: Clock,
        limits: Limits,
        registry: Registry,
        people: IdentifiesPeople,
        knows: Callable[[AskedHttp], bool],
    ) -> None:
        """`knows` tells whether a request bears the credential of an agent."""
        self._registry = registry
        self._people = people
        self._knows = knows
        self._identify = identify
        self._consuming = consuming
        self._policies = policies
        self._delegations = delegations
        self._recorder = recorder
        self._counters = counters
        self._clock = clock
        self._limits = limits

    async def poll(self, asked: AskedHttp) -> WholeReply:
        """How an approval of the agent's own stands."""
        call_id = self._clock.new_id()
        try:
            principal = await self._caller(asked)
            if principal.state is not AgentState.ACTIVE:
                raise barred(principal.state)
            row = await self._consuming.find(principal, _id_of(asked))
        except Refused as refused:
            self._counters.refused(refused.code, refused.detail)
            return error_reply(refused, call_id)
        return _reply(call_id, polled(row))

    async def consume(self, asked: AskedHttp) -> WholeReply:
        """Spends an approval of the agent's own."""
        call_id = self._clock.new_id()
        principal: Principal | None = None
        row: ApprovalRow | None = None
        claimed: str | None = None
        case: Case | None = None
        spent_for_by = ""
        try:
            principal, spent_for_by = await self._spender(asked)
            body = await asked.read_body(principal)
            claimed = _claimed(body, asked, self._limits)
            row = await self._consuming.find(principal, _id_of(asked))
            if principal.state is not AgentState.ACTIVE:
                raise barred(principal.state)
            hashed = self._consuming.require_ours(row, claimed)
            policy_set = self._policies.current
            case = await self._consuming.case_of(
                principal, row, policy_set, asked.source_ip, spent_for_by
            )
            call_id = case.call_id
            settled = await self._consuming.spend(case, policy_set)
        except Refused as refused:
            attempt = Attempt(row, claimed, case, spent_for_by)
            return await self._refused(refused, call_id, principal, attempt)
        except ClientGone:
            raise
        except Exception:
            _log.exception("an approval could not be consumed", extra={"call_id": call_id})
            attempt = Attempt(row, claimed, case, spent_for_by)
            return await self._refused(Refused("internal_error"), call_id, principal, attempt)
        said: dict[str, Any] = {
            "status": "consumed",
            "approval_id": dashed(row.approval_id),
            "action_hash": hashed,
            "decision_id": dashed(call_id),
        }
        if case.redacted:
            said["redacted_fields"] = list(case.redacted)
        if settled.recorded is not None:
            said["receipt_hash"] = settled.recorded.receipt_hash
        return _reply(call_id, said)

    async def _caller(self, asked: AskedHttp) -> Principal:
        if SIGNATURE in asked.headers:
            raise Refused("unsigned_only")
        return await self._identify(asked)

    async def _spender(self, asked: AskedHttp) -> tuple[Principal, str]:
        """The agent that spends, and who does it for it, "" for nobody. On the control listener an
        operator may, with the key that clients manage with; the agent has to stand as well as if it
        came itself."""
        if not asked.is_control or self._knows(asked):
            return await self._caller(asked), ""
        try:
            person = await self._people.person(asked.headers.get("authorization"), asked.source_ip)
            if person is None:
                raise Refused("unauthenticated")
            if not person.may(Role.OPERATOR):
                raise Refused("operator_required")
            agent_id = await self._consuming.agent_of(person.tenant, _id_of(asked))
        except StoreError as error:
            raise refused_by(error) from error
        principal = self._registry.agent(person.tenant, agent_id)
        if principal is None:
            raise Refused("unknown_approval")
        return principal, person.actor

    async def _refused(
        self, refused: Refused, call_id: str, principal: Principal | None, attempt: Attempt
    ) -> WholeReply:
        self._counters.refused(refused.code, refused.detail)
        row = attempt.row
        status = 409 if refused.code in _CONFLICTS else None
        if refused.code == "approval_hash_mismatch":
            self._counters.approval_hash_mismatches += 1
        if principal is None:
            self._counters.unrecorded_refusals += 1
        elif row is None:
            await self._recorder.refusal(
                principal, call_id=call_id, upstream=UPSTREAM, action=ACTION, refused=refused,
                call=None,
            )  # fmt: skip
        elif not refused.is_recorded:
            await self._record(refused, call_id, principal, row, attempt, status)
        details = {} if row is None else {"approval_id": dashed(row.approval_id)}
        return error_reply(refused, call_id, details, status)

    async def _record(
        self,
        refused: Refused,
        call_id: str,
        principal: Principal,
        row: ApprovalRow,
        attempt: Attempt,
        status: int | None,
    ) -> None:
        case = attempt.case
        if case is not None and refused.decision is not None:
            await self._delegations.refused(
                case.recorded_principal, case.recorded_call, refused,
                Mark(case.mark.action_hash), case.run, status or refused.status,
            )  # fmt: skip
            return
        await self._delegations.not_consumed(
            principal, call_id, row, refused, attempt.claimed, status or refused.status,
            attempt.spent_for_by,
        )  # fmt: skip


def _id_of(asked: AskedHttp) -> str:
    """The approval's id as it is kept; one of another form belongs to nobody."""
    text = asked.segments[1].lower()
    if not _ID.fullmatch(text):
        raise Refused("unknown_approval")
    return text.replace("-", "")


def _claimed(body: bytes, asked: AskedHttp, limits: Limits) -> str | None:
    """The hash that the agent says it is about to act on; None if it says none."""
    if not body:
        return None
    require_json_type(asked.headers.get("content-type"))
    said = parse(body, limits.depth, limits.values)
    if type(said) is not dict or not said.keys() <= {"claimed_action_hash"}:
        raise Refused("invalid_request", "the body is an object with claimed_action_hash, or empty")
    claimed = said.get("claimed_action_hash")
    if claimed is not None and (type(claimed) is not str or not _HASH.fullmatch(claimed)):
        raise Refused("invalid_request", "claimed_action_hash must be 64 lower-case hex digits")
    return claimed


def _reply(call_id: str, said: Mapping[str, Any]) -> WholeReply:
    headers = [
        ("Content-Type", "application/json"),
        (CALL_ID_HEADER, call_id),
        ("Cache-Control", "no-store"),
    ]
    return WholeReply(200, headers, orjson.dumps(said))
