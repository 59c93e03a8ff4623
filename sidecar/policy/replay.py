"""Recorded calls judged again: what other policies would have made of them, counted.

Knows: that the tool of a call and its arguments are what the new catalogue says they are; which
recorded decisions are comparable; that a difference is a difference of effect, gathered by the
rules that named the decisions and by agent. Needs memory for the groups, not for the calls.
Must not know: stores, how records are read or shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar

from sidecar.errors import Refused
from sidecar.model import Effect, Principal, ToolCall
from sidecar.policy.bound_again import bound_again, route_of
from sidecar.policy.catalogue import Catalogue, Entry
from sidecar.policy.contained import CONTAINED, RULE_PREFIX
from sidecar.policy.hidden import NOTHING_HIDDEN, Hidden, ReadsOfRules
from sidecar.policy.index import PolicySet
from sidecar.policy.matchers import MCP_PREFIX
from sidecar.policy.runs import RunState
from sidecar.policy.secret_names import MASK
from sidecar.policy.verdicts import rule_on

EXAMPLES_MAX: Final = 3
#: What a call is refused with that was decided again and again, and could not be recorded.
STALE: Final = "stale_decision"
#: Refusals that no rule can be asked about again: they rested on what was used up or
#: contained then, on how the call was sent, or on what kept changing; by code, with the cause
#: they are counted under.
_NOT_BY_RULES: Final = {
    CONTAINED: "containment",
    "rate_limited": "limit",
    "idempotency_key_required": "obligation",
    "unredactable_request": "obligation",
    "frames_unchecked": "obligation",
    STALE: "stale",
}


class Change(NamedTuple):
    """What was decided, what would be, each by whom (a rule, or a code where none decides), and
    for which agent (`tenant/agent`)."""

    effect_then: str
    by_then: str
    effect_now: str
    by_now: str
    agent: str


class Kept(NamedTuple):
    """Why calls could not be judged: rules that read what was not recorded, and what they read.
    Without rules it is whether the tool takes what is named, which is said of how it came."""

    rules: tuple[str, ...]
    names: tuple[str, ...]


#: What groups are told apart by.
K = TypeVar("K", Change, Kept)


@dataclass(slots=True)
class Group:
    """How many calls, and a few of them by id."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, call_id: str) -> None:
        """One more."""
        self.count += 1
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(call_id)


class Replay:
    """Judges calls one by one and counts what came of them. `skipped` counts by cause what was not
    judged again because there is nothing to judge."""

    def __init__(self, policy_set: PolicySet) -> None:
        self._policy_set = policy_set
        self._reads = ReadsOfRules()
        self._tools: dict[tuple[str, str | None, str], Entry] = {}
        self.changes: dict[Change, Group] = {}
        self.kept: dict[Kept, Group] = {}
        self.skipped: Counter[str] = Counter()
        self.same = 0
        self.renamed = 0

    @property
    def changed(self) -> int:
        """Calls with another effect."""
        return sum(group.count for group in self.changes.values())

    @property
    def unjudged(self) -> int:
        """Calls whose effect cannot be told."""
        return sum(group.count for group in self.kept.values())

    def data(self) -> dict[str, Any]:
        """What came of it, as JSON values; the largest groups first."""
        return {
            "same": self.same,
            "decided_by_another_rule": self.renamed,
            "different": self.changed,
            "not_judged": self.unjudged,
            "differences": [
                {
                    "then": {"effect": change.effect_then, "by": change.by_then},
                    "now": {"effect": change.effect_now, "by": change.by_now},
                    "agent": change.agent,
                    "calls": group.count,
                    "examples": group.examples,
                }
                for change, group in by_count(self.changes)
            ],
            "kept_from_judging": [
                {
                    "rules": list(kept.rules),
                    "not_recorded": list(kept.names),
                    "calls": group.count,
                    "examples": group.examples,
                }
                for kept, group in by_count(self.kept)
            ],
            "passed_over": dict(sorted(self.skipped.items())),
        }

    def skip(self, cause: str) -> None:
        """Counts a record from which no call can be made."""
        self.skipped[cause] += 1

    def add(
        self,
        principal: Principal,
        call: ToolCall,
        at_us: int,
        hidden: Hidden,
        *,
        effect_then: str,
        code_then: str,
        rule_then: str | None,
        revision_then: str,
        run: RunState | None = None,
    ) -> None:
        """Judges one call that was judged then, in the run as it was."""
        if code_then in _NOT_BY_RULES:
            self.skip(_NOT_BY_RULES[code_then])
            return
        if rule_then is not None and rule_then.startswith(RULE_PREFIX):
            self.skip("containment")  # it was asked for though the rules did not ask
            return
        if revision_then == self._policy_set.revision:
            self.same += 1  # the very same policies: whatever is hidden, they said what they said
            return
        recorded = hidden
        try:
            call, hidden = under_set(self._policy_set, call, hidden, self._tools)
        except Refused as refused:
            now = (Effect.DENY.value, refused.code)
            self._compare(principal, call, (effect_then, rule_then or code_then), now)
            return
        ruling = rule_on(
            self._policy_set, principal, call, at_us, run=run, hidden=hidden, reads=self._reads
        )
        decision = ruling.decision
        if not ruling.is_certain:
            rules = tuple(rule.rule_id for rule in ruling.unknown if not rule.is_shadow)
            names = {name for rule, read in ruling.unknown.items() for name in read
                     if not rule.is_shadow}  # fmt: skip
            self.kept.setdefault(Kept(rules, tuple(sorted(names))), Group()).add(call.call_id)
            return
        unsure = hidden.arguments - recorded.arguments
        if unsure and decision.effect is not Effect.DENY:  # they may be refused before any rule
            named = tuple(sorted(".".join(("args", *path)) for path in unsure))
            self.kept.setdefault(Kept((), named), Group()).add(call.call_id)
            return
        now = (decision.effect.value, decision.rule_id or decision.code)
        self._compare(principal, call, (effect_then, rule_then or code_then), now)

    def _compare(
        self, principal: Principal, call: ToolCall, then: tuple[str, str], now: tuple[str, str]
    ) -> None:
        """Counts what was decided and what would be, each with by whom."""
        if now[0] == then[0]:
            self.same += 1
            self.renamed += then[1] != now[1]
            return
        change = Change(*then, *now, f"{principal.tenant}/{principal.agent}")
        self.changes.setdefault(change, Group()).add(call.call_id)


def by_count(groups: Mapping[K, Group]) -> list[tuple[K, Group]]:
    """The groups, those of most calls first."""
    return sorted(groups.items(), key=lambda one: (-one[1].count, one[0]))


def under_set(
    policy_set: PolicySet,
    call: ToolCall,
    hidden: Hidden = NOTHING_HIDDEN,
    known: dict[tuple[str, str | None, str], Entry] | None = None,
) -> tuple[ToolCall, Hidden]:
    """The call with its tool and arguments as the set's catalogue has them, and what is not known
    of it. Of an upstream without a catalogue the tool stays as it was recorded; a tool nobody
    declared then may have an entry now. `known` spares looking up the same tool again.

    Raises Refused for a call that would be refused now before any rule is asked.
    """
    tool = call.tool
    catalogue = policy_set.catalogue
    if tool.upstream not in catalogue.upstreams:
        return call, hidden
    if call.dialect == "rest" and not (tool.declared and "http.path" in hidden.facts):
        routed = _routed(catalogue, call, hidden)
        if routed is not None:
            return routed
    key = (tool.name, call.called, call.dialect)
    entry = known.get(key) if known is not None else None
    if entry is None:
        entry = _entry(catalogue, call)
        if known is not None and tool.declared:
            known[key] = entry
    return bound_again(call, entry, hidden)


def _entry(catalogue: Catalogue, call: ToolCall) -> Entry:
    tool = call.tool
    if tool.operation.startswith(MCP_PREFIX):
        return catalogue.mcp_method(tool.upstream, tool.operation.removeprefix(MCP_PREFIX))
    name = tool.operation if tool.declared else call.called or tool.operation
    if call.dialect != "rest":
        name = name if call.dialect == "mcp" else call.action  # there `called` has the upstream
        return catalogue.mcp_tool(tool.upstream, name)
    return catalogue.entry(tool.upstream, name) or catalogue.unknown(tool.upstream)


def _routed(catalogue: Catalogue, call: ToolCall, hidden: Hidden) -> tuple[ToolCall, Hidden] | None:
    """A request that a route takes now which did not then: its values join the arguments, and take
    the place of what stood in the path before. None where it is the tool that it was."""
    tool, method = call.tool, call.http.method
    segments = [part for part in call.http.path.split("/") if part]
    found = catalogue.match_route(tool.upstream, method, segments)
    if found is None and method == "HEAD":  # it reads what GET does
        found = catalogue.match_route(tool.upstream, "GET", segments)
    if found is None:
        if tool.declared:
            return None
        return call._replace(tool=catalogue.unknown(tool.upstream).tool), hidden
    entry, values = found
    before = catalogue.entry(tool.upstream, tool.operation) if tool.declared else None
    if tool.declared and (before is None or before.tool.name == entry.tool.name):
        return None
    route = route_of(before) if before is not None else None
    stood = route.parameters if route is not None else ()
    if route is not None and any("/" in str(call.args.get(one.name)) for one in route.segments):
        return None  # a slash was sent as `%2F`: these are not its segments
    masked = frozenset((name,) for name, value in values.items() if MASK in value)
    if masked:
        hidden = Hidden(hidden.facts, hidden.arguments | masked)
    others = {name: value for name, value in call.args.items() if name not in stood}
    return bound_again(call._replace(args={**values, **others}), entry, hidden)
