"""Whether rules and tools fit together: rules no tool can meet, hidden rules, unknown arguments.

Knows: the load errors that need both the catalogue and the rules. In packs, which must load with
any catalogue, the same things are warnings.
Must not know: how rules are judged, files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sidecar.model import Effect, Tool
from sidecar.policy.argument_checks import ArgumentChecks
from sidecar.policy.arguments import ArgumentTypes
from sidecar.policy.catalogue import Catalogue
from sidecar.policy.compiling import CompiledRule
from sidecar.policy.fields import Problems, did_you_mean
from sidecar.policy.matchers import MCP_PREFIX, Glob, ToolMatcher
from sidecar.policy.never import check_never
from sidecar.policy.protocol_methods import NEVER_JUDGED
from sidecar.policy.routes import parse_route
from sidecar.policy.rule_values import several_hint
from sidecar.policy.tool_names import ToolNames

_DECLARE: Final = (
    "a rule reaches the tools that a catalogue declares: write this one into it; until then its "
    "calls are those of UPSTREAM/unknown"
)


class Reach:
    """Which tools each rule can meet: declared ones, `unknown` ones, methods written out."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._args: dict[str, ArgumentTypes | None] = {
            entry.tool.name: entry.args for entry in catalogue.entries
        }
        self.has_declared = bool(self._args)
        declared = [entry.tool for entry in catalogue.entries]
        undeclared = [catalogue.unknown(upstream).tool for upstream in catalogue.upstreams]
        self._tools = ToolNames(declared + undeclared)

    @property
    def all(self) -> list[Tool]:
        """Every tool there is, undeclared ones as `unknown`."""
        return self._tools.all

    @property
    def names(self) -> list[str]:
        """The names of all tools there are."""
        return [tool.name for tool in self._tools.all]

    def candidates(self, globs: Sequence[Glob]) -> list[Tool]:
        """Tools a rule's globs may lead to; only those need a closer look."""
        found = self._tools.candidates(globs)
        names = {tool.name for tool in found}
        for glob in globs:
            for tool in self._written_methods(glob):
                if tool.name not in names:
                    names.add(tool.name)
                    found.append(tool)
        return found

    def _written_methods(self, glob: Glob) -> list[Tool]:
        upstream, mark, method = glob.pattern.partition(f"/{MCP_PREFIX}")
        if not mark:
            return []
        name = method.replace("*", "x") or "x"
        return [
            self._catalogue.mcp_method(one, name).tool
            for one in self._catalogue.speak_mcp
            if Glob(upstream).matches(one)
        ]

    def met(self, matcher: ToolMatcher) -> list[Tool]:
        """The tools a rule can meet."""
        return [tool for tool in self.candidates(matcher.tools) if matcher.matches(tool)]

    def in_routes(self) -> dict[str, list[str]]:
        """The arguments that stand in the route of each tool that declares none, by its name."""
        routed = (one for one in self._catalogue.entries if one.route is not None)
        return {
            one.tool.name: list(parse_route(one.route).parameters)
            for one in routed
            if one.args is None
        }

    def declarations(self, tools: Sequence[Tool]) -> list[ArgumentTypes | None]:
        """What each tool declares of its arguments; None for one that takes any."""
        return [self._args.get(tool.name) for tool in tools]


def check_reach(rules: Sequence[CompiledRule], catalogue: Catalogue, problems: Problems) -> None:
    """Notes every rule that does not fit the tools there are."""
    if not catalogue.upstreams:
        return
    reach = Reach(catalogue)
    labels = {label for tool in reach.all for label in tool.labels}
    gathered = labels | {label for one in rules for label in _added(one)}
    met = [reach.met(one.draft.tools) for one in rules]
    denied = _decided_always(rules, met, Effect.DENY)
    asked = _decided_always(rules, met, Effect.REQUIRE_APPROVAL)
    arguments = ArgumentChecks(problems)
    for one, tools in zip(rules, met, strict=True):
        is_lenient = one.is_pack or not reach.has_declared
        has_labels = _note_labels(one, labels, problems, is_lenient)
        _note_run_labels(one, gathered, problems, is_lenient)
        if not one.is_pack:
            _note_searched(one, labels, gathered, problems, is_lenient)
            _warn_of_idle_counts(one, reach, problems)
        if tools:
            _note_hidden(one, tools, denied, asked, problems)
            arguments.look(one, reach.declarations(tools), tools)
        elif has_labels and not (one.is_pack and one.rule.effect is Effect.DENY):
            _note_unmet(one, reach, problems, is_lenient)
        if not one.is_pack and tools:
            _warn_of_idle_globs(one, reach, problems)
            _warn_of_protocol(one, problems)
    check_never(rules, met, catalogue, problems)
    arguments.conclude(reach.in_routes())


def _decided_always(
    rules: Sequence[CompiledRule], met: Sequence[list[Tool]], effect: Effect
) -> dict[str, str]:
    """Tools on which an unconditional rule has this effect for everyone, with the rule."""
    decided: dict[str, str] = {}
    for one, tools in zip(rules, met, strict=True):
        rule = one.rule
        is_open = not rule.callers and not rule.depends_on_call and not rule.is_shadow
        if rule.effect is effect and is_open:
            for tool in tools:
                decided.setdefault(tool.name, rule.rule_id)
    return decided


def _note_unmet(one: CompiledRule, reach: Reach, problems: Problems, is_lenient: bool) -> None:
    matcher = one.draft.tools
    named = [tool for tool in reach.candidates(matcher.tools) if matcher.names(tool)]
    if named:
        wanted = [
            text
            for text, is_given in (
                (f"mutates: {str(matcher.mutates).lower()}", matcher.mutates is not None),
                ("labels", bool(matcher.labels)),
                ("risk", matcher.risk is not None),
            )
            if is_given
        ]
        message = f"no tool can meet this rule: none it names fits {' and '.join(wanted)}"
        hint = f"named: {', '.join(sorted(tool.name for tool in named)[:5])}"
    elif any(ToolMatcher(matcher.effect, matcher.tools).names(tool) for tool in reach.all):
        message, hint = "no tool can meet this rule: `except` leaves none", ""
    else:
        message = "no tool can meet this rule: the catalogue has none that it names"
        pattern = matcher.tools[0].pattern
        # A glob that finds nothing is never meant for what nobody declared.
        names = [one for one in reach.names if "*" not in pattern or not one.endswith("/unknown")]
        hint = several_hint(pattern) or did_you_mean(pattern, names) or _DECLARE
        if f"/{MCP_PREFIX}" in pattern:
            hint = "mcp:METHOD belongs to upstreams of `kind: mcp`"
    problems.note(one.draft.tools_position, message, hint, is_warning=is_lenient)


def _note_hidden(
    one: CompiledRule,
    tools: Sequence[Tool],
    denied: dict[str, str],
    asked: dict[str, str],
    problems: Problems,
) -> None:
    """A rule that something unconditional and stricter hides on every tool it meets."""
    rule = one.rule
    if rule.effect is Effect.DENY or rule.is_shadow:
        return
    if all(tool.name in denied for tool in tools):
        by, does = {denied[tool.name] for tool in tools}, "denies"
    elif rule.effect is Effect.ALLOW and not (rule.limits or rule.obligations):
        hidden_by = {**asked, **denied}
        if not all(tool.name in hidden_by for tool in tools):
            return
        by, does = {hidden_by[tool.name] for tool in tools}, "decides on"
    else:
        return
    problems.note(
        one.draft.position,
        f"this rule can never decide: {', '.join(sorted(by))} {does} every tool it meets",
        "write the exception into the stricter rule (`except`, `when`)",
        is_warning=one.is_pack,
    )


def _note_labels(one: CompiledRule, labels: set[str], problems: Problems, is_lenient: bool) -> bool:
    """Gives whether some tool carries one of them, or none are asked for."""
    wanted = one.draft.tools.labels
    for label in wanted:
        if label not in labels:
            problems.note(
                one.draft.position,
                f'no tool carries the label "{label}"',
                did_you_mean(label, labels),
                is_warning=is_lenient,
            )
    return not wanted or any(label in labels for label in wanted)


def _added(one: CompiledRule) -> tuple[str, ...]:
    obligations = one.rule.obligations
    return obligations.add_labels if obligations is not None else ()


def _note_run_labels(
    one: CompiledRule, gathered: set[str], problems: Problems, is_lenient: bool
) -> None:
    for label in sorted(one.rule.run.labels) if one.rule.run is not None else ():
        if label not in gathered:
            problems.note(
                one.draft.places["run"],
                f'no run can gather the label "{label}": no tool carries it',
                did_you_mean(label, gathered),
                is_warning=is_lenient,
            )


def _note_searched(
    one: CompiledRule,
    labels: set[str],
    gathered: set[str],
    problems: Problems,
    is_lenient: bool,
) -> None:
    """Labels that conditions look for (`"x" in run.labels`): of a misspelt one nothing is heard."""
    for what, reading, place in one.readings():
        for (held_by, label), offset in reading.literals.labels.items():
            known = labels if held_by == "tool.labels" else gathered
            if label not in known:
                problems.note(
                    place(offset),
                    f'{what}: no tool carries the label "{label}"',
                    did_you_mean(label, known),
                    is_warning=is_lenient,
                )


def _warn_of_idle_counts(one: CompiledRule, reach: Reach, problems: Problems) -> None:
    """`run.count` of tools that there are none of is always 0."""
    for what, reading, place in one.readings():
        for pattern, offset in reading.literals.counted.items():
            if not any(
                Glob(pattern).matches(tool.name) for tool in reach.candidates([Glob(pattern)])
            ):
                hint = did_you_mean(pattern, reach.names)
                problems.warning(place(offset), f'{what}: "{pattern}" names no tool', hint)


def _warn_of_protocol(one: CompiledRule, problems: Problems) -> None:
    """Messages that carry the protocol itself go ahead by no rule, whatever one says of them. No
    error: what is sent under such a name and is more than that is judged all the same."""
    for glob in one.draft.tools.tools:
        method = glob.pattern.partition(f"/{MCP_PREFIX}")[2]
        if method in NEVER_JUDGED:
            problems.warning(
                one.draft.tools_position,
                f'"{glob.pattern}" is not judged: sent as it is meant, such a message carries the '
                "protocol itself and goes ahead by no rule",
                "name what does something: tools by their names, mcp:resources/read, "
                "mcp:prompts/get",
            )


def _warn_of_idle_globs(one: CompiledRule, reach: Reach, problems: Problems) -> None:
    """One of several globs that leads nowhere is often a misspelt tool."""
    matcher = one.draft.tools
    patterns = {glob.pattern for glob in matcher.tools}
    for glob in matcher.tools if len(matcher.tools) > 1 else ():
        # All of an upstream, with what it has not declared yet.
        if glob.pattern.endswith("/*") and f"{glob.pattern[:-1]}unknown" in patterns:
            continue
        alone = ToolMatcher(matcher.effect, (glob,))
        if not any(alone.names(tool) for tool in reach.candidates([glob])):
            problems.warning(
                one.draft.tools_position,
                f'"{glob.pattern}" names no tool',
                several_hint(glob.pattern) or did_you_mean(glob.pattern, reach.names),
            )
