"""Policy files: YAML nodes become drafts of rules, everything checked that needs no catalogue.

Knows: every key of a policy file and of a rule, and which of them go together.
Must not know: CEL (conditions stay nodes here), tools, other files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sidecar.model import Effect, Mode, RiskLevel
from sidecar.policy.fields import (
    Field,
    Problems,
    as_node,
    boolean,
    list_of,
    name,
    one_of,
    read_fields,
    text,
)
from sidecar.policy.matchers import CallerMatcher, SourceMatcher, ToolMatcher
from sidecar.policy.obligation_terms import obligations
from sidecar.policy.reasons import Reason
from sidecar.policy.rule_terms import LimitDraft, approval_terms, limit, run_matcher
from sidecar.policy.rule_values import (
    caller_glob,
    condition_text,
    constant,
    glob,
    http_method,
    imported,
    named_glob,
    named_values,
    network,
    reason_text,
    rule_effect,
    rule_mode,
    window,
)
from sidecar.policy.runs import RunMatcher
from sidecar.policy.terms import ApprovalTerms, Obligations
from sidecar.policy.windows import Window
from sidecar.problems import Position
from sidecar.yaml_reader import Node


@dataclass(frozen=True, slots=True)
class RuleDraft:
    """A rule as its file has it; `when` and the sums of limits are not compiled yet. `places`
    tells where each key stands."""

    id: str
    position: Position
    effect: Effect | None
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
    run: RunMatcher | None = None
    limits: tuple[LimitDraft, ...] = ()
    approval: ApprovalTerms | None = None
    obligations: Obligations | None = None
    places: Mapping[str, Position] = field(default_factory=dict)
    plain: Mapping[str, Any] = field(default_factory=dict)
    is_sound: bool = True
    is_policy_in_shadow: bool = False


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A policy file, read. `declared` are all names it gives to constants and variables, as
    conditions read them; without a name of its own the file goes by its place (`is_named`)."""

    name: str
    position: Position
    constants: Mapping[str, Node]
    variables: Mapping[str, Node]
    imports: tuple[tuple[str, Position], ...]
    rules: tuple[RuleDraft, ...]
    plain: Mapping[str, Any]
    is_pack: bool = False
    declared: frozenset[str] = frozenset()
    is_named: bool = True


_CALLER_FIELDS = {
    "agents": Field(list_of(named_glob)),
    "teams": Field(list_of(caller_glob)),
    "environments": Field(list_of(caller_glob)),
    "tenants": Field(list_of(named_glob)),
}

_ANYBODY = CallerMatcher()

_FILE_FIELDS = {
    "policy": Field(name, is_required=True),
    "description": Field(text),
    "mode": Field(rule_mode),
    "constants": Field(named_values(constant, "constants")),
    "variables": Field(named_values(condition_text, "variables")),
    "import": Field(list_of(imported)),
    "rules": Field(as_node, is_required=True),
    **_CALLER_FIELDS,
}

_RULE_FIELDS = {
    "id": Field(name, is_required=True),
    "effect": Field(rule_effect),
    "tools": Field(list_of(glob, 'write "*" for every tool'), is_required=True),
    "except": Field(list_of(glob, "leave the key out for: none")),
    "methods": Field(list_of(http_method)),
    **_CALLER_FIELDS,
    "sources": Field(list_of(network)),
    "mutates": Field(boolean),
    "labels": Field(list_of(name)),
    "risk": Field(one_of(RiskLevel)),
    "during": Field(list_of(window)),
    "outside": Field(list_of(window)),
    "when": Field(condition_text),
    "reason": Field(reason_text),
    "mode": Field(rule_mode),
    "run": Field(run_matcher),
    "limits": Field(list_of(limit, "leave the key out for: none")),
    "obligations": Field(obligations),
    "approval": Field(approval_terms),
}
#: Errors in the rules of one file, after which no more of them are looked at.
ERRORS_MAX = 1_000

_WITHOUT_EFFECT = ("limits", "obligations")


def read_policy(node: Node, problems: Problems, *, is_pack: bool) -> PolicyFile:
    """A file that begins with `policy:`; problems are noted. What is sound of a file with problems
    is given, so that the rest of it can be checked too; the file itself stands in for its name."""
    values = read_fields(node, "a policy", _FILE_FIELDS, problems)
    mode = values.get("mode", Mode.ENFORCE)
    callers = _callers(values)
    drafts: list[RuleDraft] = []
    rules: Node | None = values.get("rules")
    plain = node.plain()
    if rules is not None and not rules.is_list:
        problems.error(rules.position, f"rules must be a list, not {rules.kind}")
    elif rules is not None:
        is_library = bool(values.get("constants") or values.get("variables"))
        if not rules.value and not is_library:
            problems.error(rules.position, "rules is empty: the file would change nothing")
        drafts = list(_drafts(rules.value, plain["rules"], mode, callers, problems))
        _refuse_twice(drafts, problems)
    return PolicyFile(
        # No policy can have the name of a file with its suffix, and no two files have one name.
        values.get("policy", f"{node.position.source}:"),
        node.value["policy"].position,
        _meant(values.get("constants", {})),
        _meant(values.get("variables", {})),
        values.get("import", ()),
        tuple(drafts),
        plain,
        is_pack,
        frozenset(_declared(node)),
        "policy" in values,
    )


def _drafts(
    nodes: Sequence[Node],
    plain: Sequence[Any],
    mode: Mode,
    callers: CallerMatcher,
    problems: Problems,
) -> Iterator[RuleDraft]:
    """The rules of a file, until too much is wrong with them: nobody reads on, and a file of half a
    million broken ones would keep whoever checks it, and the next, waiting."""
    before = problems.error_count
    for number, (one, one_plain) in enumerate(zip(nodes, plain, strict=True)):
        if problems.error_count - before >= ERRORS_MAX:
            left = len(nodes) - number
            problems.error(one.position, f"and the rest of the rules, {left}, are not looked at")
            return
        draft = _read_rule(one, one_plain, mode, callers, problems)
        if draft is not None:
            yield draft


def _meant(named: Mapping[str, Node]) -> dict[str, Node]:
    """Without those whose value was refused: what is left of it would have another type."""
    return {name: node for name, node in named.items() if not node.is_refused}


def _declared(node: Node) -> Iterator[str]:
    for kind in ("constants", "variables"):
        named = node.value.get(kind)
        if named is not None and named.is_mapping:
            yield from (f"{kind}.{key}" for key in named.value)
        elif named is not None:  # it says something that cannot be read
            yield kind


def _callers(values: Mapping[str, Any]) -> CallerMatcher:
    if _CALLER_FIELDS.keys().isdisjoint(values):
        return _ANYBODY
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
    node: Node, plain: Any, mode: Mode, callers: CallerMatcher, problems: Problems
) -> RuleDraft | None:
    """A rule, which is also given as plain data; one with problems comes too, as far as it goes,
    but not as sound."""
    before = problems.error_count
    values = read_fields(node, "a rule", _RULE_FIELDS, problems)
    if not node.is_mapping:
        return None
    effect: Effect | None = values.get("effect")
    _check_parts(node, effect, values.get("obligations"), problems)
    reason, reason_position = values.get("reason", (None, None))
    own_mode = Mode.SHADOW if mode is Mode.SHADOW else values.get("mode", mode)
    if own_mode is Mode.SHADOW and "limits" in node.value:
        problems.warning(
            node.value["limits"].key_position or node.position,
            "in shadow these limits count nothing: no call is ever over them, nor would be",
            "what a call would count is worked out, and an error in it is recorded",
        )
    if reason is not None and reason.shows_limit and "limits" not in node.value:
        problems.error(reason_position, "reason: {limit.…} says nothing in a rule without limits")
    place = node.value["id"].position if "id" in node.value else node.position
    when: Node | None = values.get("when")
    is_cut = when is not None and when.is_refused
    return RuleDraft(
        id=values.get("id", str(place)),  # no id looks like a place
        position=place,
        effect=effect,
        mode=own_mode,
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
        when=None if is_cut else when,
        reason=reason,
        reason_position=reason_position,
        run=replace(values["run"], effect=effect) if "run" in values else None,
        limits=values.get("limits", ()),
        approval=values.get("approval"),
        obligations=values.get("obligations"),
        places={key: one.key_position or one.position for key, one in node.value.items()},
        plain=plain,
        is_sound=problems.error_count == before and not is_cut,
        is_policy_in_shadow=mode is Mode.SHADOW,
    )


def _check_parts(
    node: Node, effect: Effect | None, wanted: Obligations | None, problems: Problems
) -> None:
    """Which keys of a rule need each other, and which have no place beside each other."""
    keys = node.value
    if not any(key in keys for key in ("effect", *_WITHOUT_EFFECT)):
        problems.error(
            node.position,
            'a rule needs "effect"',
            "allow, deny or require_approval; without one a rule has limits or obligations",
        )
    if "approval" in keys and effect is not Effect.REQUIRE_APPROVAL:
        place = keys["approval"].key_position or node.position
        problems.error(place, "`approval` belongs to effect require_approval only")
    if "limits" in keys and effect is Effect.DENY:
        problems.error(
            keys["limits"].key_position or node.position,
            "a deny rule has no limits: nothing it refuses is counted",
            "a limit refuses what is over it; leave `effect` out",
        )
    if "obligations" in keys and effect is Effect.DENY and not _only_masks(wanted):
        problems.warning(
            keys["obligations"].key_position or node.position,
            "of the obligations of a deny rule only `redact: {request}` does anything",
            "nothing it refuses goes ahead; what is masked in a request is masked in the record",
        )


def _only_masks(wanted: Obligations | None) -> bool:
    """Whether nothing is asked for but what is done with a call that is refused too."""
    return wanted is None or wanted == Obligations(request=wanted.request)
