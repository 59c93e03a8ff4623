"""Runs the cases of a test file: each is judged as a call would be, and compared.

Knows: how a case becomes a call, that earlier calls of a run are gathered before it, that what a
case does not state is not compared (but a call refused before any rule must be stated).
Must not know: files, how requests are read (a `Route` is given), how results are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from sidecar.errors import Refused
from sidecar.model import Decision, Effect, HttpFacts, RuleMatch, ToolCall
from sidecar.policy.case_file import Case
from sidecar.policy.case_protocol import protocol_request
from sidecar.policy.case_set import CaseSet
from sidecar.policy.case_values import Request
from sidecar.policy.catalogue import Catalogue, Entry
from sidecar.policy.decide import decide
from sidecar.policy.explain import Explanation, explain
from sidecar.policy.facts import FACTS, Facts
from sidecar.policy.hidden import Hidden
from sidecar.policy.index import PolicySet
from sidecar.policy.limits import over_limit
from sidecar.policy.matchers import MCP_PREFIX
from sidecar.policy.routes import parse_route
from sidecar.policy.runs import RunState, beginning, gathered
from sidecar.policy.sendable import require_sendable
from sidecar.policy.terms import Obligations
from sidecar.policy.verdicts import Verdict, judge

#: Reads a request as the sidecar's front door would: the set, the kinds of upstreams by name, the
#: request, what the case says of HTTP. Raises Refused.
Route = Callable[[PolicySet, Mapping[str, str], Request, Mapping[str, Any]], ToolCall]

#: Where calls of tests come from unless they say otherwise.
SOURCE_IP: Final = "127.0.0.1"
_CALL_ID: Final = "0" * 32
#: Of upstreams that are not called here.
_AUTHORIZE: Final = "authorize"
#: What a test does not say of the calls that went before.
_NOT_STATED: Final = Hidden(
    frozenset(name for name in FACTS if name.startswith("http.")), frozenset({()})
)


@dataclass(slots=True)
class CaseResult:
    """What came of a case. `wrong` are (what, expected, came); none if it passed. `judged` are
    the explanations of all calls that were judged, in order; `refused` if the call was refused
    before any rule was looked at."""

    case: Case
    wrong: list[tuple[str, str, str]] = field(default_factory=list)
    judged: list[Explanation] = field(default_factory=list)
    refused: Refused | None = None

    @property
    def passed(self) -> bool:
        """Whether all that the case states came true."""
        return not self.wrong

    @property
    def unstated_error(self) -> RuleMatch | None:
        """The rule whose condition failed, if that alone made the case pass, which does not say
        that it means it: a misspelt argument refuses as well as a rule does."""
        decision = self.judged[-1].decision if self.judged and self.passed else None
        if decision is None or decision.code != "condition_error" or self.case.code is not None:
            return None
        return next((one for one in decision.matches if one.rule_id == decision.rule_id), None)


def run_case(
    cases: CaseSet,
    case: Case,
    route: Route,
    *,
    is_explained: bool = True,
    tick: Callable[[], None] = lambda: None,
) -> CaseResult:
    """Judges one case under the set of its file. Unless it `is_explained` nothing is in `judged`,
    and it takes half the time; `tick` is called before each call, and may raise to end it."""
    result = CaseResult(case)
    policy_set = cases.policy_set
    try:
        run = _after(policy_set, cases.kinds, case, route, tick)
        call = _call(policy_set, cases.kinds, case, route)
    except Refused as refused:
        result.refused = refused
        _compare_refused(result, refused)
        return result
    tally = LimitTally(policy_set)
    for number in range(1, case.times + 1):
        tick()
        if is_explained:
            found = _judged(policy_set, case, call, run, tally)
            result.judged.append(found)
            decision = found.decision
        else:
            decision = _decided(policy_set, case, call, run, tally)
        if number == case.times:
            _compare(result, decision)
        elif decision.effect is not Effect.ALLOW:
            expected = f"allow, for the first {case.times - 1} of {case.times} calls"
            result.wrong.append(("effect", expected, f"call {number}: {_said(decision)}"))
            break
        else:
            run = gathered(run, call, decision, case.now_us, keeps_calls=True)
    return result


def _judged(
    policy_set: PolicySet, case: Case, call: ToolCall, run: RunState, tally: LimitTally
) -> Explanation:
    """One call as the pipeline would have it: judged, then held to the limits it meets."""
    found = _explained(policy_set, case, call, run)
    decision = found.decision
    if call.is_protocol or decision.effect is not Effect.ALLOW:
        return found
    facts = Facts(case.principal, call, case.now_us, run)
    return found.with_decision(tally.held_to_limits(decision, facts))


def _decided(
    policy_set: PolicySet, case: Case, call: ToolCall, run: RunState, tally: LimitTally
) -> Decision:
    """The decision of `_judged`, without its account."""
    if call.is_protocol:
        return protocol_decision(policy_set)
    decision = decide(policy_set, case.principal, call, case.now_us, run)
    if decision.effect is not Effect.ALLOW:
        return decision
    return tally.held_to_limits(decision, Facts(case.principal, call, case.now_us, run))


class LimitTally:
    """What the limits of one case have used. All its calls are made at one moment, so nothing
    flows back: a limit is over when its sum would be more than `max`."""

    def __init__(self, policy_set: PolicySet) -> None:
        self._policy_set = policy_set
        self._used: dict[tuple[str, str], int] = {}

    def held_to_limits(self, decision: Decision, facts: Facts) -> Decision:
        """The decision, counted if all its charges fit; else the refusal of the first that does
        not, and nothing is counted."""
        for charge in decision.charges:
            used = self._used.get((charge.limit, charge.key), 0)
            if used + charge.amount > charge.max:
                return over_limit(self._policy_set, decision, charge, used, facts)
        for charge in decision.charges:
            bucket = (charge.limit, charge.key)
            self._used[bucket] = self._used.get(bucket, 0) + charge.amount
        return decision


def protocol_decision(policy_set: PolicySet) -> Decision:
    """A message that carries the protocol itself needs no rule."""
    reason = "carries the protocol itself"
    return Decision(Effect.ALLOW, "protocol", reason, policy_set.revision)


def entry_of(catalogue: Catalogue, name: str) -> Entry:
    """What a tool's name leads to; an undeclared one is unknown."""
    upstream, _, operation = name.partition("/")
    if operation.startswith(MCP_PREFIX):
        return catalogue.mcp_method(upstream, operation.removeprefix(MCP_PREFIX))
    return catalogue.entry(upstream, operation) or catalogue.unknown(upstream)


def named_call(
    catalogue: Catalogue,
    name: str,
    args: Mapping[str, Any],
    http: Mapping[str, Any],
    kind: str | None = None,
) -> ToolCall:
    """A call to a tool by its name. Raises Refused for arguments that no call can hold, or that the
    catalogue does not take.

    `kind` is that of the upstream, if it is known: what only asks has no method and no path.
    """
    require_sendable(args)
    entry = entry_of(catalogue, name)
    bound = entry.args.bind(args, ()) if entry.args is not None else dict(args)
    operation = name.partition("/")[2]
    method, path = ("", "") if kind == _AUTHORIZE else _method_and_path(entry, bound)
    is_method = operation.startswith(MCP_PREFIX)
    is_rest = entry.route is not None
    action = (
        method if is_rest else operation.removeprefix(MCP_PREFIX) if is_method else "tools/call"
    )
    facts: dict[str, Any] = {"method": method, "path": path, "query": "", "headers": {}}
    return ToolCall(
        call_id=_CALL_ID,
        tool=entry.tool,
        action=action,
        args=bound,
        http=HttpFacts(**{**facts, "source_ip": SOURCE_IP, **http}),
        target="",
        headers=(),
        body=b"",
        dialect="rest" if is_rest else "mcp",
        called=None if entry.tool.declared else operation,
    )


def _method_and_path(entry: Entry, args: Mapping[str, Any]) -> tuple[str, str]:
    """As the tool's route would have them, with the arguments in their places."""
    if entry.route is None:
        return "POST", "/"
    route = parse_route(entry.route)
    parts = [
        f"{one.prefix}{args.get(one.name, '') if one.name else ''}{one.suffix}"
        for one in route.segments
    ]
    if route.rest:
        parts.append(str(args.get(route.rest, "")))
    return route.method, "/" + "/".join(parts)


def explain_call(
    policy_set: PolicySet, kinds: Mapping[str, str], case: Case, route: Route
) -> Explanation:
    """Why a single call, as a case describes it, is judged as it is. Raises Refused."""
    call = _call(policy_set, kinds, case, route)
    run = _after(policy_set, kinds, case, route)
    return _explained(policy_set, case, call, run)


def _explained(policy_set: PolicySet, case: Case, call: ToolCall, run: RunState) -> Explanation:
    """As the path judges it, which looks at no rule for what carries the protocol itself."""
    found = explain(policy_set, case.principal, call, case.now_us, run=run)
    return found.without_rules(protocol_decision(policy_set)) if call.is_protocol else found


def _call(policy_set: PolicySet, kinds: Mapping[str, str], case: Case, route: Route) -> ToolCall:
    if isinstance(case.call, Request):
        return route(policy_set, kinds, case.call, case.http)
    kind = kinds.get(case.call.partition("/")[0])
    call = named_call(policy_set.catalogue, case.call, case.args, case.http, kind)
    is_protocol = _is_protocol(policy_set, kinds, case.call, case.args, route)
    return call._replace(is_protocol=is_protocol)


def _is_protocol(
    policy_set: PolicySet,
    kinds: Mapping[str, str],
    name: str,
    params: Mapping[str, Any],
    route: Route,
) -> bool:
    """Whether what is named is, by the word of whoever reads requests, a message that carries the
    protocol itself. Raises Refused for one that never comes that far."""
    upstream, request = name.partition("/")[0], protocol_request(name, params)
    if request is None or kinds.get(upstream, "mcp") != "mcp":
        return False
    return route(policy_set, {**kinds, upstream: "mcp"}, request, {}).is_protocol


def _after(
    policy_set: PolicySet,
    kinds: Mapping[str, str],
    case: Case,
    route: Route,
    tick: Callable[[], None] = lambda: None,
) -> RunState:
    """The run once the calls of `after` have gone ahead. That they did is given, so their effect
    is not asked for; rules that add labels to all calls of the tool do so."""
    run, principal = beginning(case.principal.trust), case.principal
    for name in case.after:
        tick()
        call = ToolCall(
            call_id=_CALL_ID,
            tool=entry_of(policy_set.catalogue, name).tool,
            action="",
            args={},
            http=HttpFacts("", "", "", "", {}),
            target="",
            headers=(),
            body=b"",
            dialect="",
            is_protocol=_is_protocol(policy_set, kinds, name, {}, route),
        )
        judged = judge(policy_set, principal, call, case.now_us, run=run, hidden=_NOT_STATED)
        labels = {
            label
            for rule, verdict in judged.verdicts.items()
            if verdict is Verdict.YES and not rule.is_shadow and rule.obligations is not None
            for label in rule.obligations.add_labels
        }
        went_ahead = Decision(
            Effect.ALLOW,
            "policy_allow",
            "",
            policy_set.revision,
            obligations=Obligations(add_labels=tuple(sorted(labels))),
        )
        run = gathered(run, call, went_ahead, case.now_us, keeps_calls=True)
    return run


def _compare(result: CaseResult, decision: Decision) -> None:
    case, wrong = result.case, result.wrong
    if decision.effect is not case.expect:
        wrong.append(("effect", case.expect.value, _said(decision)))
    if case.by is not None and decision.rule_id != case.by:
        wrong.append(("by", case.by, decision.rule_id or f"no rule ({decision.code})"))
    if case.code is not None and decision.code != case.code:
        wrong.append(("code", case.code, decision.code))
    if case.reason is not None and not case.reason.matches(decision.reason):
        wrong.append(("reason", case.reason.pattern, decision.reason))
    wanted, nothing = case.obligations, Obligations()
    for one in fields(Obligations) if wanted is not None else ():
        expected = getattr(wanted, one.name)
        came = getattr(decision.obligations or nothing, one.name)
        if expected not in (getattr(nothing, one.name), came):
            wrong.append((f"obligations {one.name}", f"{expected}", f"{came}"))


def _compare_refused(result: CaseResult, refused: Refused) -> None:
    case, wrong = result.case, result.wrong
    came = f"refused before any rule: {refused.code}, {refused.reason}"
    if case.expect is not Effect.DENY:
        wrong.append(("effect", case.expect.value, came))
    elif case.by is not None:
        wrong.append(("by", case.by, came))
    elif case.code != refused.code:
        expected = case.code or f"deny by the policies (`code: {refused.code}` if this is meant)"
        wrong.append(("code", expected, came))
    if case.reason is not None and not case.reason.matches(refused.reason):
        wrong.append(("reason", case.reason.pattern, refused.reason))


def _said(decision: Decision) -> str:
    return f"{decision.effect.value} by {decision.rule_id or decision.code}"
