"""The middle of a call's way: judged on what its run has gathered, counted, and put on record.

Knows: the order of things between a call that was read and an intent that is durable: the run as
the call meets it, the decision, its limits, what it obliges to, the record; that whatever the
decision rested on may be another by then, so that it is made anew, a few times; and that the last
word on limits the store keeps is the store's, in the transaction of the record.
Must not know: HTTP, how a rule is judged, how a record is written, how a call is forwarded.
"""

from __future__ import annotations

from dataclasses import replace

from sidecar.clock import Clock
from sidecar.errors import Refused
from sidecar.identity.registry import Registry
from sidecar.ledger.claims import Claims
from sidecar.ledger.fence import Fence
from sidecar.ledger.recorder import Intent, OverLimit, Recorder, Unspent
from sidecar.ledger.run_keeper import RunBefore, RunKeeper
from sidecar.ledger.run_text import UnreadableRun
from sidecar.model import Decision, Effect, Mode, Principal, ToolCall
from sidecar.policy.decide import decide
from sidecar.policy.facts import Facts
from sidecar.policy.index import PolicySet
from sidecar.policy.limits import over_limit
from sidecar.policy.terms import Charge, Redaction
from sidecar.proxy.holding import Holding, Permit
from sidecar.proxy.masked_calls import Masking, Unmasked, masks_of
from sidecar.proxy.obligations_request import fulfilled
from sidecar.proxy.rates import Counted, Rates
from sidecar.proxy.visit import Visit
from sidecar.telemetry.counters import Counters
from sidecar.telemetry.spans import JUDGE, RECORD
from storage.errors import StoreError
from storage.records import Stale

#: How often a decision is made anew when what it rested on changed before it was recorded.
DECISIONS_MAX = 8


class Judging:
    """Owns the counts of calls in this process; what runs gathered is the keeper's."""

    def __init__(
        self,
        *,
        recorder: Recorder,
        registry: Registry,
        runs: RunKeeper,
        counters: Counters,
        clock: Clock,
        fence: Fence,
        holding: Holding,
        masking: Masking,
        rates: Rates | None = None,
    ) -> None:
        #: Where calls wait for a yes.
        self.holding = holding
        self._recorder = recorder
        self._registry = registry
        self._runs = runs
        self._counters = counters
        self._clock = clock
        self._fence = fence
        self._rates = rates or Rates()
        self._masking = masking

    def standing(self, principal: Principal) -> Principal:
        """A caller who has been connected for long, as it stands by now. Raises Refused."""
        return self._registry.standing(principal)

    async def intent(
        self, visit: Visit, policy_set: PolicySet, principal: Principal, call: ToolCall
    ) -> Intent | None:
        """The durable intent of the call as it is to be forwarded, which then stands in `visit`;
        None of a call that was held until somebody said yes, and is to be judged anew.

        Raises Refused for a call that does not go ahead; it is counted nowhere then.
        """
        counted: Counted = {}
        try:
            for tries_left in reversed(range(DECISIONS_MAX)):
                try:
                    tried = await self._tried(visit, policy_set, principal, call, counted)
                except Unmasked as unmasked:
                    tried = await self._tried_masked(
                        visit, policy_set, principal, call, counted, unmasked.redaction
                    )
                if isinstance(tried, Intent):
                    visit.masked = None
                    return tried
                visit.obligations = None
                if tried is None:
                    break
                # Whatever refuses it now, its record masks what the decision has masked.
                visit.call = _shown(visit, call, tried)
                if not tries_left:
                    raise given_up(tried)
                if visit.is_overtaken and visit.turn is None:
                    visit.turn = await self._runs.turn(principal, visit.run_id)
                principal = visit.principal = await self._registry.again(principal)
                visit.call = call
        except BaseException:
            self._rates.give_back(counted)
            raise
        finally:
            visit.end_turn()
        self._rates.give_back(counted)
        return None

    async def _tried_masked(
        self,
        visit: Visit,
        policy_set: PolicySet,
        principal: Principal,
        call: ToolCall,
        counted: Counted,
        redaction: Redaction,
    ) -> Intent | Decision | None:
        """The same, masked apart first; again only where what is to be masked has changed."""
        while True:
            made = visit.masked = await self._masking.of(principal, call, redaction, is_sent=True)
            visit.call = made.shown()  # whatever refuses it before it is decided again
            try:
                return await self._tried(visit, policy_set, principal, call, counted)
            except Unmasked as unmasked:
                redaction = unmasked.redaction

    async def _tried(
        self,
        visit: Visit,
        policy_set: PolicySet,
        principal: Principal,
        call: ToolCall,
        counted: Counted,
    ) -> Intent | Decision | None:
        """The durable intent; the decision, if what it rested on is another by now; None of a call
        that was held until somebody said yes. Raises Unmasked, before anything has come of it."""
        run_id = _trusted_run_id(visit, principal, call)
        definition = ""
        if visit.permit is not None:
            definition = await self.holding.definition(principal, call)
        before = self._known_run(principal, run_id) or await self._read_run(principal, run_id)
        visit.run = before.state
        # Nothing is awaited from here until the intent waits in the queue: whoever raises the
        # fence finds it there, or it never gets there.
        if self._fence.is_up:
            raise self._fence.refused()
        visit.call = call
        started_ns, now_us = self._clock.monotonic_ns(), self._clock.now_us()
        decision, wait_s = self._decide(
            policy_set, principal, call, before, now_us, started_ns, counted, visit.permit,
            definition, visit,
        )  # fmt: skip
        took_ns = self._clock.monotonic_ns() - started_ns
        if visit.stages is not None:
            visit.stages.passes(JUDGE, started_ns, started_ns + took_ns)
            visit.stages.effect, visit.stages.rule = decision.effect.value, decision.rule_id or ""
        if decision.effect is Effect.REQUIRE_APPROVAL and not decision.forward:
            if visit.agent is not None:
                await self._hold(visit, policy_set, principal, call, decision)
                return None  # judged anew, by the rules as they are once somebody has said yes
            decision = replace(decision, code="cannot_wait")  # in the middle of an answer
        claims = None
        if decision.charges and decision.forward:
            facts = Facts(principal, _shown(visit, call, decision), now_us, before.state)
            claims = self._claims(policy_set, decision, facts)
        sent, detail = call, ""
        try:
            if decision.obligations is not None:
                sent = self._oblige(visit, call, decision)
        except Refused as unmet:
            decision, claims, detail = unfulfilled(decision, unmet), None, unmet.detail
        if claims is None:
            self._counters.decided(decision, took_ns, principal.tenant)
        if not decision.forward:
            raise Refused(
                decision.code,
                decision.reason,
                decision=decision,
                detail=detail,
                retry_after_s=wait_s,
            )
        return await self._recorded(
            visit, policy_set, principal, call, sent, decision, before, now_us, claims, took_ns
        )

    async def _recorded(
        self,
        visit: Visit,
        policy_set: PolicySet,
        principal: Principal,
        call: ToolCall,
        sent: ToolCall,
        decision: Decision,
        before: RunBefore,
        now_us: int,
        claims: Claims | None,
        took_ns: int,
    ) -> Intent | Decision:
        """The durable intent of a call that goes ahead; the decision, if it must be made anew.
        Nothing is awaited before it waits in the queue."""
        spend = None
        begun_ns = self._clock.monotonic_ns() if visit.stages is not None else 0
        stake = self._runs.stake(before, principal, call, decision, policy_set, now_us)
        permit = visit.permit if decision.approver is not None else None
        if permit is not None:
            spend = self.holding.spend(permit, call.call_id, decision)
        said = await self._recorder.intent(
            principal, sent, decision, stake, before.state, claims, spend
        )
        if visit.stages is not None:
            visit.stages.passes(RECORD, begun_ns, self._clock.monotonic_ns())
        answer: Intent | Stale | Refused
        if isinstance(said, OverLimit):
            decision, answer = said.decision, _held(said)
        elif isinstance(said, Unspent):
            answer = Refused(said.decision.code, decision=said.decision, is_recorded=True)
        else:
            answer = said
        if claims is not None:
            # Only now is it known what the decision is: a limit may have made another of it.
            self._counters.decided(decision, took_ns, principal.tenant)
        if isinstance(answer, Refused):
            raise answer
        if isinstance(answer, Stale):
            if answer.run is not None:
                self._runs.is_other(before, answer.run)
                visit.is_overtaken = True
            self._registry.is_behind(principal.tenant, answer.epoch)
            return decision
        if permit is not None and not isinstance(said, OverLimit):
            self.holding.spent(permit)
        self._counters.intents += 1
        self._runs.went_ahead(before, answer.run)
        return answer

    async def _hold(
        self,
        visit: Visit,
        policy_set: PolicySet,
        principal: Principal,
        call: ToolCall,
        decision: Decision,
    ) -> None:
        """Waits for a yes, which then stands in `visit`; raises Refused where there is none."""
        visit.end_turn()  # the others do not wait for a person
        self._oblige(visit, call, decision)
        shown = _shown(visit, call, decision)
        visit.masked = None  # not kept while it is held
        try:
            visit.permit = await self.holding.permit(
                visit, policy_set, principal, call, shown, decision
            )
        except BaseException:
            self._counters.decided(decision, 0, principal.tenant)
            raise

    def _claims(self, policy_set: PolicySet, decision: Decision, facts: Facts) -> Claims | None:
        """What the limits that the store keeps count of the call; None if there are none."""
        charges = [charge for charge in decision.charges if charge.is_sum or charge.is_shared]
        if not charges:
            return None

        def over(charge: Charge, used: int) -> Decision:
            return over_limit(policy_set, decision, charge, used, facts)

        return Claims(charges, self._clock.steady_us(), over)

    def _known_run(self, principal: Principal, run_id: str) -> RunBefore | None:
        """The run as a call meets it; None if the store has to be asked."""
        try:
            return self._runs.known(principal, run_id)
        except UnreadableRun as error:
            raise Refused("run_unreadable", detail=str(error)) from error

    async def _read_run(self, principal: Principal, run_id: str) -> RunBefore:
        """The same, asked of the store once, and then known."""
        try:
            return await self._runs.read(principal, run_id)
        except StoreError as error:
            raise Refused("store_unavailable", retry_after_s=1, detail=error.code) from error
        except UnreadableRun as error:
            raise Refused("run_unreadable", detail=str(error)) from error

    def _decide(
        self,
        policy_set: PolicySet,
        principal: Principal,
        call: ToolCall,
        before: RunBefore,
        now_us: int,
        now_ns: int,
        counted: Counted,
        permit: Permit | None,
        definition: str,
        visit: Visit,
    ) -> tuple[Decision, int | None]:
        """The decision, with limits looked at, and how long to wait where one was reached."""
        run, contained = before.state, principal.contained
        if call.is_protocol:
            decision = _protocol_decision(policy_set)
        else:
            decision = decide(policy_set, principal, call, now_us, run)
        if contained is not None:
            decision = contained.applied(decision, call, run, self._clock.steady_us())
        if call.is_protocol:
            return decision, None
        if permit is not None and decision.effect is Effect.REQUIRE_APPROVAL:
            digest = self.holding.digest(policy_set, principal, call, decision, definition)
            decision = permit.granted(decision, digest)
        shown = _shown(visit, call, decision)
        if shown is not call and decision.wording is not None:
            facts = Facts(principal, shown, now_us, run)
            reason = decision.wording.fill(facts, policy_set.secrets)
            decision = replace(decision, reason=reason)
        if decision.charges and decision.forward:
            facts = Facts(principal, shown, now_us, run)
            return self._rates.settle(policy_set, decision, facts, now_ns, counted)
        return decision, None

    def _oblige(self, visit: Visit, call: ToolCall, decision: Decision) -> ToolCall:
        """The call as the decision's obligations want it recorded and forwarded; of one that does
        not go ahead, only the record. Raises Refused where they cannot be met."""
        obligations = decision.obligations
        if obligations is None or visit.upstream is None:
            return call
        if obligations.request:
            visit.call = masks_of(visit, call, obligations.request).shown()
        if decision.forward:
            visit.obligations = obligations if obligations.touches_response else None
            visit.call = fulfilled(
                call,
                obligations,
                visit.upstream,
                lambda: masks_of(visit, call, obligations.request).sent(),
            )
        return visit.call or call


def _trusted_run_id(visit: Visit, principal: Principal, call: ToolCall) -> str:
    """The id that divides the agent's work, "" where none is trusted."""
    if principal.run:
        return principal.run
    is_trusted = visit.upstream is not None and visit.upstream.run == "trusted"
    return (call.run_id or "") if is_trusted else ""


def _shown(visit: Visit, call: ToolCall, decision: Decision) -> ToolCall:
    """The call as reasons may show it: they are recorded, and what is masked in the request is
    masked in the record."""
    obligations = decision.obligations
    if obligations is None or not obligations.request:
        return call
    return masks_of(visit, call, obligations.request).shown()


def unfulfilled(decision: Decision, refused: Refused) -> Decision:
    """What the deciding rule lets through on terms that this call cannot meet."""
    return replace(
        decision,
        effect=Effect.DENY,
        mode=Mode.ENFORCE,
        code=refused.code,
        reason=refused.reason,
        charges=(),
        wording=None,
        approver=None,
    )


def given_up(decision: Decision) -> Refused:
    """The refusal of a call that was decided as often as may be, with what was decided last: that
    is on record, and not that no rule was asked."""
    refused = Refused("stale_decision")
    return Refused(refused.code, decision=unfulfilled(decision, refused))


def _held(over: OverLimit) -> Intent | Refused:
    """The intent of a call that a limit only observes; of any other the refusal, on record."""
    if over.intent is not None:
        return over.intent
    decision = over.decision
    return Refused(
        decision.code,
        decision.reason,
        decision=decision,
        retry_after_s=max(1, -(-over.wait_us // 1_000_000)),
        is_recorded=True,
    )


def _protocol_decision(policy_set: PolicySet) -> Decision:
    return Decision(
        effect=Effect.ALLOW,
        code="protocol",
        reason="carries the protocol itself",
        policy_revision=policy_set.revision,
    )
