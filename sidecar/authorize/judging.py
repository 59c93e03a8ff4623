"""The middle of an authorize call's way: judged on what its run has gathered, counted, recorded.

Knows: what the proxy's way knows of runs, limits and stale decisions; beside that, that the
caller's word on trust only lowers what the run has, for this call, and that a dry run takes and
leaves nothing.
Must not know: HTTP, how a rule is judged, how a record is written, how approvals are kept.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import NamedTuple

from sidecar.authorize.case import Case, Permits
from sidecar.authorize.obligations import obliged
from sidecar.clock import Clock
from sidecar.errors import Refused
from sidecar.identity.registry import Registry
from sidecar.ledger.claims import Claims
from sidecar.ledger.delegations import (
    Delegations,
    Limited,
    SaidBefore,
    Unspent,
    refused_by,
)
from sidecar.ledger.fence import Fence
from sidecar.ledger.run_keeper import RunBefore, RunKeeper
from sidecar.ledger.run_text import UnreadableRun
from sidecar.ledger.run_turns import Turn
from sidecar.model import Decision, Effect, OutcomeKind, ToolCall
from sidecar.policy.contained import barred_by
from sidecar.policy.decide import decide
from sidecar.policy.facts import Facts
from sidecar.policy.index import PolicySet
from sidecar.policy.limits import over_limit
from sidecar.policy.terms import Charge, Redaction
from sidecar.proxy.judging import DECISIONS_MAX, given_up, unfulfilled
from sidecar.proxy.masked_calls import Masking, Unmasked, masks_of
from sidecar.proxy.pinned_tools import PinnedTools
from sidecar.proxy.rates import Counted, Rates
from sidecar.telemetry.counters import Counters
from storage.errors import StoreError
from storage.records import Recorded, Stale


class Settled(NamedTuple):
    """The decision on a call. `recorded` is where it stands; None if nothing is recorded yet: of a
    dry run, of one that waits for an approval, and of one that was `said_before`."""

    decision: Decision
    recorded: Recorded | None = None
    said_before: bool = False


class AuthorizeJudging:
    """`rates` are those of the proxy: an agent's calls count together, whichever way they come."""

    def __init__(
        self,
        *,
        delegations: Delegations,
        registry: Registry,
        runs: RunKeeper,
        rates: Rates,
        counters: Counters,
        clock: Clock,
        fence: Fence,
        pinned: PinnedTools,
        speak_mcp: Collection[str],
        masking: Masking,
    ) -> None:
        """`speak_mcp` are the upstreams whose tools are pinned."""
        self._pinned = pinned
        self._speak_mcp = frozenset(speak_mcp)
        self._delegations = delegations
        self._registry = registry
        self._runs = runs
        self._rates = rates
        self._counters = counters
        self._clock = clock
        self._fence = fence
        self._masking = masking

    async def settle(self, case: Case, policy_set: PolicySet) -> Settled:
        """The decision, recorded if the call may go ahead. Raises Refused for one that may not."""
        counted: Counted = {}
        turn: Turn | None = None
        await self._require_pinned(case, policy_set)
        try:
            for _ in range(DECISIONS_MAX - 1):
                tried = await self._tried_masked(case, policy_set, counted)
                if isinstance(tried, Settled):
                    break
                if case.is_overtaken and turn is None:
                    turn = await self._runs.turn(case.principal, case.run_id)
                case.principal = await self._registry.again(case.principal)
            else:
                tried = await self._tried_masked(case, policy_set, counted)
            if isinstance(tried, Decision):
                raise given_up(tried)
        except BaseException:
            self._rates.give_back(counted)
            raise
        finally:
            if turn is not None:
                turn.end()
        if tried.recorded is None:
            self._rates.give_back(counted)
        case.masked = None
        return tried

    async def require_uncontained(
        self, case: Case, policy_set: PolicySet, *, was_allowed: bool = False
    ) -> None:
        """Raises Refused for a call that a containment refuses by now, whatever was said of it
        before; for one that `was_allowed`, also if it wants a person's yes by now."""
        contained = case.principal.contained
        if contained is None:
            return
        before = await self._run_before(case, is_newest=contained.reads_run)
        run = before.state
        at_us = self._clock.steady_us()
        block = contained.barring(case.call, run, at_us)
        if block is None and was_allowed:
            block = contained.asking(case.call, run, at_us)
        if block is not None:
            allowed = Decision(Effect.ALLOW, "policy_allow", "", policy_set.revision)
            decision = barred_by(block, allowed, case.call)
            raise Refused(decision.code, decision.reason, decision=decision)

    async def _require_pinned(self, case: Case, policy_set: PolicySet) -> None:
        """A tool of an MCP server has to be what it was pinned to, and its arguments to fit that,
        also for who calls it himself. Raises Refused."""
        call = case.call
        if call.tool.upstream in self._speak_mcp:
            name = None if call.tool.declared else call.action
            given = case.request.parameters  # as they were sent, also where they are no object
            pinned = call._replace(called=name, args={} if given is None else given)
            await self._pinned.require_fit(policy_set, case.principal, pinned)

    async def _tried_masked(
        self, case: Case, policy_set: PolicySet, counted: Counted
    ) -> Settled | Decision:
        """A large call is masked apart first; more than once only where what is to be masked of it
        has changed meanwhile."""
        while True:
            try:
                return await self._tried(case, policy_set, counted)
            except Unmasked as unmasked:
                redaction = unmasked.redaction
            case.masked = await self._masking.of(
                case.principal, case.call, redaction, is_sent=False
            )
            case.shown = case.masked.shown()  # whatever refuses it before it is decided again

    async def _tried(
        self, case: Case, policy_set: PolicySet, counted: Counted
    ) -> Settled | Decision:
        """The decision alone if what it rested on is another by now. Raises Unmasked, before
        anything has come of it."""
        before = await self._run_before(case)
        run = before.state
        case.run = run if case.trust >= run.trust else run._replace(trust=case.trust)
        # Nothing is awaited from here until the decision waits in the queue: whoever raises the
        # fence finds it there, or it never gets there.
        if self._fence.is_up:
            raise self._fence.refused()
        started_ns, now_us = self._clock.monotonic_ns(), self._clock.now_us()
        decision, detail = self._decide(case, policy_set, now_us)
        if case.permit is not None:
            decision = _permitted(case, case.permit, decision)
        facts = Facts(case.principal, case.shown, now_us, case.run)
        wait_s = None
        if decision.charges and decision.forward:
            decision, wait_s = self._rates.settle(policy_set, decision, facts, started_ns, counted)
        took_ns = self._clock.monotonic_ns() - started_ns
        claims = self._claims(policy_set, decision, facts) if decision.charges else None
        is_dry = case.request.dry_run
        if not is_dry and claims is None:
            self._counters.decided(decision, took_ns, case.principal.tenant)
        if not decision.forward and decision.effect is not Effect.REQUIRE_APPROVAL:
            raise Refused(
                decision.code, decision.reason, decision=decision, detail=detail,
                retry_after_s=wait_s,
            )  # fmt: skip
        if is_dry or not decision.forward:
            return Settled(decision)
        return await self._record(case, policy_set, before, decision, claims, now_us, took_ns)

    def _decide(self, case: Case, policy_set: PolicySet, now_us: int) -> tuple[Decision, str]:
        """The decision, with what it obliges to looked at, and a word for operators."""
        case.shown, case.redacted = case.call, ()
        decision = decide(policy_set, case.principal, case.call, now_us, case.run)
        contained = case.principal.contained
        if contained is not None and case.run is not None:
            decision = contained.applied(decision, case.call, case.run, self._clock.steady_us())
        wanted = decision.obligations
        if wanted is None:
            return decision, ""
        detail = ""
        if decision.effect is Effect.DENY and not decision.forward:
            if wanted.request:
                case.shown = _recordable(case, wanted.request)
        else:
            try:
                case.shown, case.redacted = obliged(
                    case.call, case.request, wanted, lambda: _recordable(case, wanted.request)
                )
            except Refused as unmet:
                if wanted.request:
                    case.shown = _recordable(case, wanted.request)
                decision, detail = unfulfilled(decision, unmet), unmet.detail
        if case.shown is not case.call and decision.wording is not None:
            facts = Facts(case.principal, case.shown, now_us, case.run)
            reason = decision.wording.fill(facts, policy_set.secrets)
            decision = replace(decision, reason=reason)
        return decision, detail

    async def _record(
        self,
        case: Case,
        policy_set: PolicySet,
        before: RunBefore,
        decision: Decision,
        claims: Claims | None,
        now_us: int,
        took_ns: int,
    ) -> Settled | Decision:
        stake = self._runs.stake(before, case.principal, case.call, decision, policy_set, now_us)
        said = await self._delegations.allowed(
            case.recorded_principal, case.recorded_call, decision, case.mark, stake,
            case.run or before.state, claims,
            None if case.permit is None else case.permit.spend(case.call_id, decision),
        )  # fmt: skip
        if isinstance(said, Stale):
            if said.run is not None:
                self._runs.is_other(before, said.run)
                case.is_overtaken = True
            self._registry.is_behind(case.principal.tenant, said.epoch)
            return decision
        if isinstance(said, SaidBefore):
            return Settled(decision, said_before=True)
        if isinstance(said, Unspent):
            raise Refused(said.decision.code, decision=said.decision, is_recorded=True)
        recorded = said.recorded if isinstance(said, Limited) else said
        if isinstance(said, Limited):
            decision = said.decision
        if claims is not None:
            # Only now is it known what the decision is: a limit may have made another of it.
            self._counters.decided(decision, took_ns, case.principal.tenant)
        if isinstance(said, Limited) and not decision.forward:
            raise Refused(
                decision.code,
                decision.reason,
                decision=decision,
                retry_after_s=max(1, -(-said.wait_us // 1_000_000)),
                is_recorded=True,
            )
        self._counters.intents += 1
        self._counters.ended(OutcomeKind.DELEGATED)
        self._runs.went_ahead(before, recorded.run)
        return Settled(decision, recorded)

    def _claims(self, policy_set: PolicySet, decision: Decision, facts: Facts) -> Claims | None:
        """What the limits that the store keeps count of the call; None if there are none."""
        charges = [charge for charge in decision.charges if charge.is_sum or charge.is_shared]
        if not charges or not decision.forward:
            return None

        def over(charge: Charge, used: int) -> Decision:
            return over_limit(policy_set, decision, charge, used, facts)

        return Claims(charges, self._clock.steady_us(), over)

    async def _run_before(self, case: Case, *, is_newest: bool = False) -> RunBefore:
        """The run as this call meets it; asked of the store once, and then known, unless nothing
        will guard what comes of it."""
        principal, runs = case.principal, self._runs
        try:
            known = None if is_newest else runs.known(principal, case.run_id)
            return known or await runs.read(principal, case.run_id)
        except StoreError as error:
            raise refused_by(error) from error
        except UnreadableRun as error:
            raise Refused("run_unreadable", detail=str(error)) from error


def _recordable(case: Case, redaction: Redaction) -> ToolCall:
    """The call as it may be recorded; raises Unmasked."""
    return masks_of(case, case.call, redaction).shown()


def _permitted(case: Case, permit: Permits, decision: Decision) -> Decision:
    """The decision with the yes that is to be spent. What was masked was not judged: then only the
    question that was answered may be the answer now."""
    granted = permit.granted(decision)
    if decision.effect is Effect.DENY:
        return granted
    if not granted.forward or (case.is_masked and decision.effect is Effect.ALLOW):
        raise Refused("approval_outdated", decision=decision)
    return granted
