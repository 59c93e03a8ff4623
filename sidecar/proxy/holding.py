"""A call that requires approval: what it asks for, how it is held, and by which yes it goes ahead.

Knows: how an action's digest and the text for its approver are made of a call; that a held call
takes no place at its upstream, and that its agent is told meanwhile if he can hear it.
Must not know: how approvals are kept or decided, how a call is judged or recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sidecar.approvals.action import action_sha256, sent_beside
from sidecar.approvals.asked import asked
from sidecar.approvals.entries import spend_audit
from sidecar.approvals.service import Approvals, Asking, refusal_code
from sidecar.approvals.states import Term, approver_of, spending, wanted
from sidecar.errors import Refused
from sidecar.ledger.canonical import NotCanonical
from sidecar.ledger.claims import Spend
from sidecar.ledger.drafts import masked_path_of
from sidecar.ledger.pin_keeper import PinKeeper, PinsUnknown
from sidecar.model import Decision, Effect, Principal, ToolCall
from sidecar.policy.secret_names import MASK
from sidecar.proxy.agent_side import ClientGone
from sidecar.proxy.destination import MOVING_HEADERS, MOVING_METHODS
from sidecar.proxy.dialects import DIALECTS
from sidecar.proxy.dialects.mcp_methods import TOOLS_CALL
from sidecar.proxy.masked_calls import Masking, is_large
from sidecar.proxy.masking import NotMaskable, masked
from sidecar.telemetry.spans import HOLD

if TYPE_CHECKING:
    from sidecar.clock import Clock
    from sidecar.config.model import Approvals as Settings
    from sidecar.policy.index import PolicySet
    from sidecar.proxy.places import Places
    from sidecar.proxy.visit import Visit
    from storage.standing import ApprovalRow

#: No rule lets a yes live longer, or a call wait longer.
LIFE_MAX_US: Final = 30 * 86_400_000_000
HOLD_MAX_US: Final = 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class Permit:
    """A yes that a call may spend: by whom, for which action, and on which terms it was given."""

    row: ApprovalRow
    approver: str
    terms: tuple[Term, ...]

    def granted(self, decision: Decision, action_sha256: str) -> Decision:
        """The decision with this yes; as it is where rules ask that this one was not given to, or
        for another action than this one was given for."""
        if decision.effect is not Effect.REQUIRE_APPROVAL or wanted(decision) != self.terms:
            return decision
        if self.row.action_sha256 != action_sha256:
            return decision
        return replace(
            decision,
            approval_id=self.row.approval_id,
            approver=self.approver,
            approved_sha256=action_sha256,
        )


class Holding:
    """One for a sidecar; what is held stands in `approvals`."""

    def __init__(
        self,
        approvals: Approvals,
        settings: Settings,
        *,
        pins: PinKeeper,
        places: Places,
        clock: Clock,
        redact: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        keeps_arguments: bool,
        masking: Masking,
    ) -> None:
        """`redact` masks what must not be stored; `keeps_arguments` is false where only digests
        may be."""
        self._approvals = approvals
        self._settings = settings
        self._pins = pins
        self._places = places
        self._clock = clock
        self._redact = redact
        self._keeps_arguments = keeps_arguments
        self._masking = masking

    async def permit(
        self,
        visit: Visit,
        policy_set: PolicySet,
        principal: Principal,
        call: ToolCall,
        shown: ToolCall,
        decision: Decision,
    ) -> Permit:
        """Waits for the yes that the decision requires; `shown` is the call as it may be recorded.

        Raises Refused, with the decision, where there is none yet or none at all.
        """
        telling = _Telling(visit, call)
        asking = await self._asking(visit, policy_set, principal, call, shown, decision, telling)
        waited_from_ns = self._clock.monotonic_ns()
        name = call.tool.upstream
        self._places.give_back(name, visit.share)
        visit.has_place, visit.share = False, None
        try:
            telling.require_wanted()
            row = await self._approvals.hold(asking)
            telling.require_wanted()
        except (ClientGone, asyncio.CancelledError):
            visit.unheard = Refused("approval_pending", decision.reason, decision=decision)
            raise
        except _TakenBack:
            # Its client wants no answer, but reads on: Python's SDK ends the whole session where
            # the stream of one request breaks off.
            raise Refused("approval_pending", decision.reason, decision=decision) from None
        except Refused as refused:
            refused.reason = _worded(refused, decision)
            refused.decision = replace(decision, approval_id=refused.more.get("approval"))
            raise
        finally:
            visit.waits_for = None
            until_ns = self._clock.monotonic_ns()
            visit.held_ns += until_ns - waited_from_ns
            if visit.stages is not None:
                visit.stages.passes(HOLD, waited_from_ns, until_ns)
        self._places.take(name)
        visit.has_place = True
        visit.share = self._places.share(name, principal.tenant)
        return Permit(row, approver_of(row), asking.terms)

    def take_back(self, visit: Visit | None) -> None:
        """A client has said over MCP that it wants a call no more: if that is held, or comes to be,
        it is let go. Without a session nothing tells two clients' ids apart, and closing the stream
        is what takes a call back."""
        if visit is not None:
            visit.is_taken_back = True
            if visit.waits_for is not None:
                self._approvals.changes.waiting.wake(visit.waits_for)

    def spend(self, permit: Permit, call_id: str, decision: Decision) -> Spend:
        """What the intent takes along."""
        step = spending(permit.row.action_sha256, permit.terms, call_id)

        def without(why: str) -> Decision:
            return replace(decision, code=refusal_code(why), approver=None)

        row, noted = permit.row, self._approvals.changes.noting(step)
        audit = spend_audit(
            row, actor=f"agent:{row.agent_id}", call_id=call_id, at_us=self._clock.now_us()
        )
        return Spend(row.approval_id, self._clock.steady_us(), noted, without, audit)

    def spent(self, permit: Permit) -> None:
        """The intent is durable."""
        self._approvals.spent(permit.row)

    # -- what is asked -----------------------------------------------------------------------

    async def _asking(
        self,
        visit: Visit,
        policy_set: PolicySet,
        principal: Principal,
        call: ToolCall,
        shown: ToolCall,
        decision: Decision,
        telling: _Telling,
    ) -> Asking:
        settings, tool = self._settings, call.tool
        definition = await self.definition(principal, call)
        digest = self.digest(policy_set, principal, call, decision, definition)
        bind_headers = _bind_headers(policy_set, call)
        beside: Mapping[str, Any] = sent_beside(call)
        if is_large(call):
            beside = await self._masking.do(principal, partial(_masked, beside, decision))
        else:
            beside = _masked(beside, decision)
        arguments = self._redact(shown.args)
        text = asked(
            principal,
            shown,
            decision,
            arguments=arguments if self._keeps_arguments else None,
            path=masked_path_of(shown, arguments) if self._keeps_arguments else "",
            bind_headers=bind_headers,
            run=visit.run,
            action_sha256=digest,
            beside=self._redact(beside),
        )
        lives = [one.expires_us for one in decision.approvals if one.expires_us is not None]
        holds = [one.hold_us for one in decision.approvals if one.hold_us is not None]
        hold_us = min([HOLD_MAX_US, *(holds or [int(settings.hold_s * 1e6)])])
        return Asking(
            tenant=principal.tenant,
            agent=principal.agent,
            user=principal.user or "",
            call_id=call.call_id,
            tool=tool.name,
            action_sha256=digest,
            asked=text,
            terms=wanted(decision),
            life_us=min([LIFE_MAX_US, *(lives or [int(settings.expires_s * 1e6)])]),
            until_ns=visit.started_ns + hold_us * 1000,
            tell=telling,
        )

    def digest(
        self,
        policy_set: PolicySet,
        principal: Principal,
        call: ToolCall,
        decision: Decision,
        definition: str,
    ) -> str:
        """The digest of the action as it would be carried out now; see `action_sha256`."""
        try:
            return action_sha256(
                principal,
                call,
                decision.obligations,
                definition_sha256=definition,
                bind_headers=_bind_headers(policy_set, call),
            )
        except NotCanonical as error:
            reason = "An argument has no canonical JSON form"
            raise Refused("invalid_argument", reason, detail=str(error)) from error

    async def definition(self, principal: Principal, call: ToolCall) -> str:
        """The digest of what the call's tool is pinned to; "" of one without. Raises Refused."""
        if call.dialect != "mcp" or call.action != TOOLS_CALL:
            return ""
        name = call.called or call.tool.operation
        try:
            return await self._pins.definition_sha256(principal.tenant, call.tool.upstream, name)
        except PinsUnknown as error:
            raise Refused("store_unavailable", retry_after_s=1, detail=error.code) from error


class _TakenBack(Exception):
    """The client has said over MCP that it wants this call no more."""


class _Telling:
    """Tells a held agent that he waits, in the words of his protocol."""

    __slots__ = ("_held", "_visit")

    def __init__(self, visit: Visit, call: ToolCall) -> None:
        self._visit = visit
        upstream = visit.upstream
        self._held = None if upstream is None else DIALECTS[upstream.kind].held(call)

    def require_wanted(self) -> None:
        """Raises _TakenBack."""
        if self._visit.is_taken_back:
            raise _TakenBack

    async def __call__(self, row: ApprovalRow) -> None:
        self.require_wanted()
        self._visit.waits_for = (row.tenant_id, row.approval_id)
        agent = self._visit.agent
        if agent is not None:
            await agent.hold_on(self._held, f"waits for an approval: {row.approval_id}")


def _bind_headers(policy_set: PolicySet, call: ToolCall) -> tuple[str, ...]:
    entry = policy_set.catalogue.entry(call.tool.upstream, call.tool.operation)
    bound = () if entry is None else tuple(entry.bind_headers)
    if call.action in MOVING_METHODS and call.dialect == "rest":
        return tuple({*bound, *MOVING_HEADERS})
    return bound


def _masked(beside: Mapping[str, Any], decision: Decision) -> Mapping[str, Any]:
    """What the rules have masked wherever it stands; paths of theirs lead into arguments alone."""
    wanted = decision.obligations
    if wanted is None or not wanted.request:
        return beside
    try:
        made: Mapping[str, Any] = masked(dict(beside), (), wanted.request.detectors)
    except NotMaskable:
        return dict.fromkeys(beside, MASK)
    return made


def _worded(refused: Refused, decision: Decision) -> str:
    """The rule's own words, unless there is more to say than that there is no yes."""
    return decision.reason if refused.reason == refused.kind.title else refused.reason
