"""Rules that can never match whatever a call holds, and rules that refuse every call between them.

Knows: what contradicts itself in one rule (a condition that no call can make true, hours inside of
hours, callers that its file leaves out, methods its tools do not have), and two rules that always
apply together and want different things of one header.
Must not know: YAML, how calls are judged beyond asking. In packs the same things are warnings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from sidecar.model import Effect, HttpFacts, Principal, Tool, ToolCall
from sidecar.policy.catalogue import Catalogue
from sidecar.policy.compiling import CompiledRule
from sidecar.policy.facts import Facts
from sidecar.policy.fields import Problems
from sidecar.policy.matchers import UNKNOWN, CallerMatcher, Glob
from sidecar.policy.rule import Rule
from sidecar.policy.windows import leaves_nothing

if TYPE_CHECKING:
    from sidecar.policy.conditions import Condition

_LEVELS: Final = ("trust.", "risk.")
_CALLER_KEYS: Final = ("agents", "teams", "environments", "tenants")
#: A call that conditions are tried on which read nothing of it.
_NO_CALL: Final = Facts(
    Principal("none", "none"),
    ToolCall("", Tool("none", UNKNOWN), "", {}, HttpFacts("", "", "", "", {}), "", (), b"", ""),
    0,
)


class _Never(NamedTuple):
    """Why a rule never matches, and the key that says so."""

    key: str
    why: str
    hint: str = ""


class _Header(NamedTuple):
    """What a rule does with a header on every call of a tool; no value: it removes it."""

    value: str | None
    by: CompiledRule


def check_never(
    rules: Sequence[CompiledRule],
    met: Sequence[Sequence[Tool]],
    catalogue: Catalogue,
    problems: Problems,
) -> None:
    """Notes them all. `met` are the tools that each rule can meet."""
    headers: dict[tuple[str, str], _Header] = {}
    for one, tools in zip(rules, met, strict=True):
        for found in _never(one.rule, tools, catalogue):
            place = one.draft.places.get(found.key, one.draft.position)
            message = f"this rule can never match: {found.why}"
            problems.note(place, message, found.hint, is_warning=one.is_pack)
        _note_conflicts(one, tools, headers, problems)


def _never(rule: Rule, tools: Sequence[Tool], catalogue: Catalogue) -> Iterator[_Never]:
    if rule.condition is not None and _is_settled(rule.condition):
        why = _why_unmet(rule.condition)
        if why:
            hint = "to try a rule out, write `mode: shadow`; a rule nobody wants is best deleted"
            yield _Never("when", why, hint)
    if rule.during and rule.outside and leaves_nothing(rule.during, rule.outside):
        yield _Never("outside", "`outside` covers all of `during`")
    if len(rule.callers) > 1:
        for key in _CALLER_KEYS:
            if _excludes(rule.callers[0], rule.callers[1], key):
                yield _Never(key, f"the `{key}` of its file leave out all of its own")
    if rule.methods and tools:
        served = [_methods(tool, catalogue) for tool in tools]
        if all(one is not None and rule.methods.isdisjoint(one) for one in served):
            names = sorted({name for one in served if one is not None for name in one})
            yield _Never("methods", f"its tools are called by {', '.join(names)}")


def _is_settled(condition: Condition) -> bool:
    """Whether it reads nothing of a call, and there is nothing else wrong with it."""
    if condition.run or not all(name.startswith(_LEVELS) for name in condition.facts):
        return False
    readings = (condition.reading, *(one.reading for one in condition.variables))
    return not any(one.has_errors for one in readings)


def _why_unmet(condition: Condition) -> str:
    """Why a condition that reads nothing of a call is not met, "" if it is."""
    from sidecar.policy.evaluation import BoundScope  # the CEL library is here: it compiled this

    try:
        holds = BoundScope(condition.scope, [condition]).holds(condition, _NO_CALL)
    except Exception as error:  # whatever it is, every call would meet it too
        return f"its condition fails on every call ({error})"
    return "" if holds else "its condition is false of every call"


def _excludes(one: CallerMatcher, other: CallerMatcher, key: str) -> bool:
    """Whether names that are written out on one side fit nothing on the other."""
    first, second = getattr(one, key), getattr(other, key)
    return bool(first and second) and (_misses(first, second) or _misses(second, first))


def _misses(names: Sequence[Glob], globs: Sequence[Glob]) -> bool:
    return all(
        name.is_literal and not any(glob.matches(name.pattern) for glob in globs) for name in names
    )


def _methods(tool: Tool, catalogue: Catalogue) -> frozenset[str] | None:
    """By which methods a tool is called; None if by any. HEAD leads to the tool of GET."""
    entry = catalogue.entry(tool.upstream, tool.operation)
    if entry is None:
        return None
    if entry.route is None:
        return frozenset({"POST"})
    method = entry.route.partition(" ")[0]
    return frozenset({method, "HEAD"} if method == "GET" else {method})


def _note_conflicts(
    one: CompiledRule,
    tools: Sequence[Tool],
    headers: dict[tuple[str, str], _Header],
    problems: Problems,
) -> None:
    """Compares what a rule always does with headers to what rules before it always do."""
    rule, wanted = one.rule, one.rule.obligations
    if wanted is None or rule.effect is Effect.DENY or rule.is_shadow:
        return
    if rule.callers or rule.depends_on_call:
        return
    values: list[tuple[str, str | None]] = [*wanted.set_headers]
    values += [(name, None) for name in wanted.remove_headers]
    for name, value in values:
        against: dict[str, CompiledRule] = {}
        refused: list[str] = []
        for tool in tools:
            first = headers.setdefault((tool.name, name), _Header(value, one))
            if first.value != value:
                against[first.by.rule.rule_id] = first.by
                refused.append(tool.name)
        if refused:
            place = one.draft.places.get("obligations", one.draft.position)
            problems.note(
                place,
                f"{', '.join(sorted(against))} wants something else of the header {name}: every "
                f"call of {', '.join(sorted(refused)[:5])} would be refused",
                is_warning=one.is_pack or any(other.is_pack for other in against.values()),
            )
