"""The matchers of a rule in words: what each asks, what the call has, whether that fits.

Knows: one entry for every matcher a rule can have, so that a new one is one more entry (a test
holds the list complete). The words never decide: what a rule says of a call, the real judging does.
Must not know: CEL, decisions, how the words are laid out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from sidecar.model import Effect, RiskLevel, TrustLevel
from sidecar.policy.facts import Facts
from sidecar.policy.matchers import CallerMatcher, Glob, ToolMatcher
from sidecar.policy.rule import Rule
from sidecar.policy.windows import DAYS, Window, moment

_EXCEPTIONS_SHOWN: Final = 4


class Check(NamedTuple):
    """One matcher of a rule on one call: its key, whether it fits, and why in words."""

    key: str
    holds: bool
    text: str


Words = Callable[[Rule, Facts], Iterator[Check]]


def names_tool(rule: Rule, facts: Facts) -> bool:
    """Whether `tools` alone lead to the call's tool."""
    return ToolMatcher(rule.tools.effect, rule.tools.tools).names(facts.call.tool)


def checks(rule: Rule, facts: Facts) -> list[Check]:
    """Every matcher the rule has but `tools` and `when`, in the order of the language."""
    return [check for words in MATCHERS.values() for check in words(rule, facts)]


def fits_tool(rule: Rule, facts: Facts) -> bool:
    """Whether all that the rule says of the tool is true of the call's."""
    return rule.tools.matches(facts.call.tool)


def _tool(rule: Rule, facts: Facts) -> Iterator[Check]:
    matcher, tool = rule.tools, facts.call.tool
    if matcher.exceptions:
        covering = [one.pattern for one in matcher.exceptions if one.matches(tool.name)]
        shown = _either(covering or [one.pattern for one in matcher.exceptions])
        yield Check(
            "except", not covering, f"{'under' if covering else 'not under'} except {shown}"
        )
    if matcher.mutates is not None:
        has = "mutates" if tool.mutates else "changes nothing"
        is_fit = tool.mutates is matcher.mutates
        wants = str(matcher.mutates).lower()
        yield Check("mutates", is_fit, has if is_fit else f"mutates: wants {wants}")
    if matcher.labels:
        common = [label for label in matcher.labels if label in tool.labels]
        text = f"labels {', '.join(common)}"
        if not common:
            text = f"labels {', '.join(tool.labels) or 'none'}: wants {_either(matcher.labels)}"
        yield Check("labels", bool(common), text)
    if matcher.risk is not None:
        yield _risk(tool.risk, matcher.risk, matcher.effect)


def _risk(has: RiskLevel, wanted: RiskLevel, effect: Effect | None) -> Check:
    """In an allow rule a level means that or safer, in every other rule that or worse."""
    is_allow = effect is Effect.ALLOW
    return _rank("risk", "risk", has, wanted, is_lower_meant=is_allow, is_safer_meant=is_allow)


def _rank(
    key: str,
    name: str,
    has: RiskLevel | TrustLevel,
    wanted: RiskLevel | TrustLevel,
    *,
    is_lower_meant: bool,
    is_safer_meant: bool,
) -> Check:
    is_fit = has <= wanted if is_lower_meant else has >= wanted
    reach = "safer" if is_safer_meant else "worse"
    level = "that" if is_fit and has is wanted else wanted.label
    text = f"{name} {has.label}: {'' if is_fit else 'wants '}{level} or {reach}"
    return Check(key, is_fit, text)


def _callers(rule: Rule, facts: Facts) -> Iterator[Check]:
    caller = facts.principal
    for matcher in rule.callers:
        for key, name, has in (
            ("agents", "agent.name", caller.agent),
            ("teams", "agent.team", caller.team),
            ("environments", "agent.environment", caller.environment),
            ("tenants", "tenant.name", caller.tenant),
        ):
            globs: tuple[Glob, ...] = getattr(matcher, key)
            if globs:
                is_fit = CallerMatcher(**{key: globs}).matches(caller)
                text = f"{name} {has or '(none)'}"
                wanted = _either([one.pattern for one in globs])
                yield Check(key, is_fit, text if is_fit else f"{text}: wants {wanted}")


def _methods(rule: Rule, facts: Facts) -> Iterator[Check]:
    if rule.methods:
        has = facts.call.http.method
        is_fit = has in rule.methods
        text = f"http.method {has or '(none)'}"
        wanted = _either(sorted(rule.methods))
        yield Check("methods", is_fit, text if is_fit else f"{text}: wants {wanted}")


def _sources(rule: Rule, facts: Facts) -> Iterator[Check]:
    if rule.sources is not None:
        has = facts.call.http.source_ip
        text = f"http.source_ip {has or '(none)'}"
        try:
            is_fit = rule.sources.matches(has)
        except ValueError:
            yield Check("sources", False, f"{text} is no address")
            return
        wanted = _either([str(network) for network in rule.sources.networks])
        yield Check("sources", is_fit, text if is_fit else f"{text}: wants {wanted}")


def _during(rule: Rule, facts: Facts) -> Iterator[Check]:
    if rule.during:
        inside = [window for window in rule.during if window.contains(facts.now_us)]
        now = _wall_clock((inside or rule.during)[0], facts.now_us)
        wanted = _either([window.text for window in inside or rule.during])
        text = f"now {now}: {'inside' if inside else 'wants'} {wanted}"
        yield Check("during", bool(inside), text)


def _outside(rule: Rule, facts: Facts) -> Iterator[Check]:
    if rule.outside:
        inside = [window for window in rule.outside if window.contains(facts.now_us)]
        now = _wall_clock((inside or rule.outside)[0], facts.now_us)
        if inside:
            text = f"now {now}: inside {_either([window.text for window in inside])}"
        else:
            text = f"now {now}: outside of {_either([window.text for window in rule.outside])}"
        yield Check("outside", not inside, text)


def _run(rule: Rule, facts: Facts) -> Iterator[Check]:
    matcher, run = rule.run, facts.run
    if matcher is None:
        return
    if matcher.trust is not None:
        is_allow = rule.effect is Effect.ALLOW
        yield _rank(
            "run", "run.trust", run.trust, matcher.trust,
            is_lower_meant=not is_allow, is_safer_meant=is_allow,
        )  # fmt: skip
    if matcher.labels:
        common = sorted(matcher.labels & run.labels)
        text = f"run.labels {', '.join(common)}"
        if not common:
            has = ", ".join(sorted(run.labels)) or "none"
            text = f"run.labels {has}: wants {_either(sorted(matcher.labels))}"
        yield Check("run", bool(common), text)


def _wall_clock(window: Window, now_us: int) -> str:
    local = moment(now_us).astimezone(window.zone)
    return f"{DAYS[local.weekday()]} {local:%Y-%m-%d %H:%M} {window.zone.key}"


def _either(words: Sequence[str]) -> str:
    shown = list(words[:_EXCEPTIONS_SHOWN])
    if len(words) > _EXCEPTIONS_SHOWN:
        shown.append(f"{len(words) - _EXCEPTIONS_SHOWN} more")
    return " or ".join(shown)


#: By the field of `Rule` that holds the matcher. `condition` is worded where it is judged.
MATCHERS: Final[dict[str, Words]] = {
    "tools": _tool,
    "callers": _callers,
    "methods": _methods,
    "sources": _sources,
    "during": _during,
    "outside": _outside,
    "run": _run,
}
