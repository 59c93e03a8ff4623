"""Policy files: YAML nodes become drafts of rules, everything checked that needs no catalogue.

Knows: every key of a policy file and of a rule, and which of them this version refuses by name.
Must not know: CEL (conditions stay nodes here), tools, other files.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sidecar.model import Effect, Mode, RiskLevel, RuleMatch
from sidecar.policy.conditions import Condition, constant_problem
from sidecar.policy.fields import (
    Field,
    Problems,
    as_node,
    boolean,
    did_you_mean,
    list_of,
    name,
    not_carried_out,
    one_of,
    read_fields,
    text,
)
from sidecar.policy.matchers import CallerMatcher, Glob, SourceMatcher, ToolMatcher, read_network
from sidecar.policy.reasons import BadReason, Reason, parse_reason
from sidecar.policy.windows import BadWindow, Window, parse_window
from sidecar.problems import Position
from sidecar.yaml_reader import Node

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_METHOD = re.compile(r"[A-Z][A-Z-]{0,31}")
_CEL_WORD = re.compile(
    "as|break|const|continue|else|false|for|function|if|import|in|let|loop|namespace|null|package"
    "|return|true|var|void|while"
)


@dataclass(frozen=True, slots=True)
class RuleDraft:
    """A rule as its file has it; `when` is not compiled yet."""

    id: str
    position: Position
    effect: Effect
    mode: Mode
    tools: ToolMatcher
    tools_position: Position
    callers: tuple[CallerMatcher, ...]
    methods: frozenset[str] = frozenset()
    sources: SourceMatcher | None = None
    during: tuple[Window, ...] = ()
    outside: tuple[Window, ...] = ()
    when: Node | None = None
    reason: Reason | None = None
    reason_position: Position | None = None
    plain: Mapping[str, Any] = field(default_factory=dict)
    is_sound: bool = True


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A policy file, read."""

    name: str
    position: Position
    constants: Mapping[str, Node]
    variables: Mapping[str, Node]
    imports: tuple[tuple[str, Position], ...]
    rules: tuple[RuleDraft, ...]
    plain: Mapping[str, Any]
    is_pack: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A rule ready to judge. `match` is what a decision records when it matched."""

    rule_id: str
    order: tuple[str, str]
    effect: Effect
    mode: Mode
    tools: ToolMatcher
    callers: tuple[CallerMatcher, ...]
    methods: frozenset[str]
    sources: SourceMatcher | None
    during: tuple[Window, ...]
    outside: tuple[Window, ...]
    condition: Condition | None
    reason: Reason
    match: RuleMatch

    @property
    def is_shadow(self) -> bool:
        """Whether it is judged and recorded only."""
        return self.mode is Mode.SHADOW

    @property
    def depends_on_call(self) -> bool:
        """Whether tool and caller leave open if it matches."""
        return bool(self.methods or self.sources or self.during or self.outside or self.condition)


def _glob(node: Node, problems: Problems) -> Glob | None:
    value = text(node, problems)
    return None if value is None else Glob(value)


def _globs_text(node: Node, problems: Problems) -> Glob | None:
    """Globs over names of the configuration; numbers are accepted as the text they are."""
    if isinstance(node.value, int) and not isinstance(node.value, bool):
        return Glob(str(node.value))
    return _glob(node, problems)


def _method(node: Node, problems: Problems) -> str | None:
    value = text(node, problems)
    if value is not None and not _METHOD.fullmatch(value):
        problems.error(node.position, f'"{value}" is not an HTTP method', "in capitals, e.g. GET")
        return None
    return value


def _network(
    node: Node, problems: Problems
) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    value = text(node, problems)
    if value is None:
        return None
    try:
        return read_network(value)
    except ValueError as error:
        problems.error(node.position, str(error), "a CIDR, e.g. 10.0.0.0/8")
        return None


def _window(node: Node, problems: Problems) -> Window | None:
    value = text(node, problems)
    if value is None:
        return None
    try:
        return parse_window(value)
    except BadWindow as error:
        problems.error(node.position, str(error))
        return None


def _reason(node: Node, problems: Problems) -> tuple[Reason, Position] | None:
    value = text(node, problems)
    if value is None:
        return None
    try:
        return parse_reason(value), node.position
    except BadReason as error:
        problems.error(node.position, f"reason: {error}", error.hint)
        return None


def _effect(node: Node, problems: Problems) -> Effect | None:
    if node.value == Effect.REQUIRE_APPROVAL.value:
        problems.error(node.position, "effect require_approval is not carried out by this version")
    elif node.value in (Effect.ALLOW.value, Effect.DENY.value):
        return Effect(node.value)
    else:
        hint = did_you_mean(str(node.plain()), (Effect.ALLOW.value, Effect.DENY.value))
        problems.error(node.position, "effect is allow or deny", hint)
    return None


def _mode(node: Node, problems: Problems) -> Mode | None:
    mode: Mode | None = one_of(Mode)(node, problems)
    if mode is Mode.OBSERVE:
        problems.error(
            node.position,
            "a policy is enforce or shadow",
            "observe is for `default:` of sidecar.yaml; here it is called shadow",
        )
        return None
    return mode


def _condition(node: Node, problems: Problems) -> Node | None:
    if isinstance(node.value, bool):
        return Node(str(node.value).lower(), node.position, node.key_position, True)
    return node if text(node, problems) is not None else None


def _named(parse: Any, what: str) -> Any:
    """A mapping whose keys can be read as `{what}.NAME` in CEL."""

    def read(node: Node, problems: Problems) -> dict[str, Node] | None:
        if not node.is_mapping:
            problems.error(node.position, f"{what} must be a mapping, not {node.kind}")
            return None
        usable = {}
        for key, member in node.value.items():
            place = member.key_position or member.position
            if not _IDENTIFIER.fullmatch(key) or _CEL_WORD.fullmatch(key):
                problems.error(place, f'"{key}" cannot be read as {what}.{key}', "use a-z, 0-9, _")
                continue
            parsed = parse(member, problems)
            if parsed is not None:
                usable[key] = parsed
        return usable

    return read


def _constant(node: Node, problems: Problems) -> Node:
    wrong = constant_problem(node.plain())
    if wrong:
        problems.error(node.position, wrong)
    return node


def _import(node: Node, problems: Problems) -> tuple[str, Position] | None:
    value = name(node, problems)
    return None if value is None else (value, node.position)


_CALLER_FIELDS = {
    "agents": Field(list_of(_globs_text)),
    "teams": Field(list_of(_globs_text)),
    "environments": Field(list_of(_globs_text)),
    "tenants": Field(list_of(_globs_text)),
}

_FILE_FIELDS = {
    "policy": Field(name, is_required=True),
    "description": Field(text),
    "mode": Field(_mode),
    "constants": Field(_named(_constant, "constants")),
    "variables": Field(_named(_condition, "variables")),
    "import": Field(list_of(_import)),
    "rules": Field(as_node, is_required=True),
    **_CALLER_FIELDS,
}

_RULE_FIELDS = {
    "id": Field(name, is_required=True),
    "effect": Field(_effect),
    "tools": Field(list_of(_glob), is_required=True),
    "except": Field(list_of(_glob)),
    "methods": Field(list_of(_method)),
    **_CALLER_FIELDS,
    "sources": Field(list_of(_network)),
    "mutates": Field(boolean),
    "labels": Field(list_of(name)),
    "risk": Field(one_of(RiskLevel)),
    "during": Field(list_of(_window)),
    "outside": Field(list_of(_window)),
    "when": Field(_condition),
    "reason": Field(_reason),
    "mode": Field(_mode),
    "run": not_carried_out("`run`"),
    "limits": not_carried_out("`limits`"),
    "obligations": not_carried_out("`obligations`"),
    "approval": not_carried_out("`approval`"),
}
_WITHOUT_EFFECT = ("limits", "obligations")


def read_policy(node: Node, problems: Problems, *, is_pack: bool) -> PolicyFile | None:
    """A file that begins with `policy:`; problems are noted. None without a usable name: what is
    sound of a file with problems is given, so that the rest of it can be checked too."""
    values = read_fields(node, "a policy", _FILE_FIELDS, problems)
    mode = values.get("mode", Mode.ENFORCE)
    callers = _callers(values)
    drafts: list[RuleDraft] = []
    rules: Node | None = values.get("rules")
    if rules is not None and not rules.is_list:
        problems.error(rules.position, f"rules must be a list, not {rules.kind}")
    elif rules is not None:
        is_library = bool(values.get("constants") or values.get("variables"))
        if not rules.value and not is_library:
            problems.error(rules.position, "rules is empty: the file would change nothing")
        read = [_read_rule(one, mode, callers, problems) for one in rules.value]
        drafts = [draft for draft in read if draft is not None]
        _refuse_twice(drafts, problems)
    if "policy" not in values:
        return None
    return PolicyFile(
        values["policy"],
        node.value["policy"].position,
        values.get("constants", {}),
        values.get("variables", {}),
        values.get("import", ()),
        tuple(drafts),
        node.plain(),
        is_pack,
    )


def _callers(values: Mapping[str, Any]) -> CallerMatcher:
    return CallerMatcher(**{key: values.get(key, ()) for key in _CALLER_FIELDS})


def _refuse_twice(drafts: Iterable[RuleDraft], problems: Problems) -> None:
    first: dict[str, Position] = {}
    for draft in drafts:
        if draft.id in first:
            problems.error(
                draft.position,
                f'the rule id "{draft.id}" is here twice',
                f"first at {first[draft.id]}",
            )
        first.setdefault(draft.id, draft.position)


def _read_rule(
    node: Node, mode: Mode, callers: CallerMatcher, problems: Problems
) -> RuleDraft | None:
    """A rule; one with problems is given too, as far as it goes, but not as sound."""
    before = problems.error_count
    values = read_fields(node, "a rule", _RULE_FIELDS, problems)
    if not node.is_mapping or "id" not in values:
        return None
    if not any(key in node.value for key in ("effect", *_WITHOUT_EFFECT)):
        problems.error(
            node.position,
            'a rule needs "effect"',
            "allow or deny; rules that only add limits are not carried out by this version",
        )
    effect = values.get("effect", Effect.DENY)
    reason, reason_position = values.get("reason", (None, None))
    own_mode = values.get("mode", mode)
    id_node: Node = node.value["id"]
    return RuleDraft(
        id=values["id"],
        position=id_node.position,
        effect=effect,
        mode=Mode.SHADOW if mode is Mode.SHADOW else own_mode,
        tools=ToolMatcher(
            effect,
            values.get("tools", ()),
            values.get("except", ()),
            values.get("mutates"),
            values.get("labels", ()),
            values.get("risk"),
        ),
        tools_position=node.value["tools"].position if "tools" in node.value else node.position,
        callers=tuple(one for one in (callers, _callers(values)) if not one.is_open),
        methods=frozenset(values.get("methods", ())),
        sources=SourceMatcher(values["sources"]) if "sources" in values else None,
        during=values.get("during", ()),
        outside=values.get("outside", ()),
        when=values.get("when"),
        reason=reason,
        reason_position=reason_position,
        plain=node.plain(),
        is_sound=problems.error_count == before,
    )
