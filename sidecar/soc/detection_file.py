"""Detection files: YAML nodes become drafts, everything checked that needs no compiled condition.

Knows: every key of a detection, of `where` and of a step of a sequence, and about which of them
each kind of event tells anything at all.
Must not know: CEL (conditions stay nodes here), tools, other files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sidecar.model import Effect
from sidecar.policy.fields import (
    Field,
    Problems,
    as_node,
    list_of,
    name,
    read_fields,
    text,
)
from sidecar.policy.matchers import CallerMatcher, Glob, SourceMatcher, ToolMatcher
from sidecar.policy.quantities import bounded_duration
from sidecar.policy.reasons import BadReason
from sidecar.policy.rule_values import rule_effect
from sidecar.policy.rules import _RULE_FIELDS
from sidecar.problems import Position
from sidecar.soc.detection import AGENT, RUN, TENANT, TOOL, Heard, Looked, Unusual
from sidecar.soc.detection_checks import (
    an,
    check_form,
    check_names,
    check_reason,
    counts_several,
    place_of,
)
from sidecar.soc.detection_reasons import DetectionReason, parse_detection_reason
from sidecar.soc.detection_values import (
    AT_LEAST_MAX,
    NAMES,
    QUIET_MAX_US,
    WITHIN_MAX_US,
    Named,
    check_codes,
    code_glob,
    counted_by,
    event_kind,
    event_mode,
    response,
    severity,
    unusual,
    value_name,
    whole_number,
)
from sidecar.soc.model import EventKind, Response, Severity
from sidecar.yaml_reader import Node

STEPS_MAX: Final = 8
QUIET_US: Final = 3_600_000_000
_EVERY_TOOL: Final = (Glob("*"),)


@dataclass(frozen=True, slots=True)
class WantedDraft:
    """One event that is looked for, as its file has it; `when` is not compiled yet."""

    heard: Heard
    looked: Looked | None
    when: Node | None


@dataclass(frozen=True, slots=True)
class DetectionDraft:
    """A detection as its file has it. One with problems comes too, but not as sound. `labels`,
    `run_labels` and `tools` are those it names, each with its place."""

    name: str
    position: Position
    severity: Severity
    event: EventKind
    wanted: tuple[WantedDraft, ...]
    by: tuple[str, ...]
    reason: DetectionReason
    quiet_us: int
    at_least: int
    within_us: int
    distinct: Named | None
    is_sequence: bool
    first: Named | None
    unusual: Unusual | None
    respond: Response | None
    labels: tuple[tuple[str, Position], ...] = ()
    run_labels: tuple[tuple[str, Position], ...] = ()
    tools: tuple[tuple[str, Position], ...] = ()
    plain: Mapping[str, Any] = field(default_factory=dict)
    is_sound: bool = True


def _reason(node: Node, problems: Problems) -> tuple[DetectionReason, Position] | None:
    value = text(node, problems)
    if value is None:
        return None
    try:
        return parse_detection_reason(value), node.position
    except BadReason as error:
        for message, hint in error.problems:
            problems.error(node.position, f"reason: {message}", hint)
        return None


FILE_FIELDS: Final = {
    "detection": Field(name, is_required=True),
    "severity": Field(severity, is_required=True),
    "event": Field(event_kind),
    "where": Field(as_node),
    "by": Field(list_of(counted_by, "leave the key out for: agent")),
    "at_least": Field(whole_number("at_least", 1, AT_LEAST_MAX)),
    "within": Field(bounded_duration(WITHIN_MAX_US)),
    "distinct": Field(value_name),
    "sequence": Field(as_node),
    "first": Field(value_name),
    "unusual": Field(unusual),
    "reason": Field(_reason),
    "quiet": Field(bounded_duration(QUIET_MAX_US)),
    "respond": Field(response),
}

#: Of a rule from `tools` to `when`, and what a decision came to.
_RULE_KEYS: Final = (
    "tools", "except", "methods", "agents", "teams", "environments", "tenants", "sources",
    "mutates", "labels", "risk", "run", "during", "outside", "when",
)  # fmt: skip
WHERE_FIELDS: Final = {
    **{key: Field(_RULE_FIELDS[key].parse) for key in _RULE_KEYS},
    "effect": Field(list_of(rule_effect)),
    "code": Field(list_of(code_glob)),
    "mode": Field(list_of(event_mode)),
}
#: What events tell that are no decisions.
_ALWAYS: Final = frozenset({"tenants", "code", "during", "outside"})
_TOLD: Final = {
    AGENT: frozenset({"agents"}),
    TOOL: frozenset({"tools", "except"}),
    RUN: frozenset(WHERE_FIELDS),
    TENANT: _ALWAYS,
}


def read_detection(node: Node, problems: Problems) -> DetectionDraft | None:
    """A document that begins with `detection:`; problems are noted. None of one that has no name
    or says nothing that could be checked further."""
    before = problems.error_count
    values = read_fields(node, "a detection", FILE_FIELDS, problems)
    if not node.is_mapping or "detection" not in values:
        return None
    kind: EventKind = values.get("event", EventKind.DECISION)
    has_kind = "event" in values or "event" not in node.value
    check_form(node, values, problems)
    told = _told(kind) if has_kind else frozenset(WHERE_FIELDS)
    wanted = tuple(
        one
        for place, what in _looked_for(node, values, problems)
        if (one := _wanted(place, what, kind, told, problems)) is not None
    )
    wanted = wanted or (WantedDraft(Heard(kind), None, None),)
    default_by = AGENT if AGENT in NAMES[kind] else TENANT
    by = values.get("by", ((default_by, node.position),))
    respond: Response | None = values.get("respond")
    if respond is not None:
        respond = respond._replace(of_several=counts_several(by, values))
    reason, reason_position = values.get("reason", (None, node.position))
    if has_kind:
        check_names(node, kind, by, values, problems)
        if reason is not None:
            check_reason(reason, reason_position, kind, node.value, problems)
    looked_for = [one for _, one in _looked_for(node, values, Problems())]
    return DetectionDraft(
        name=values["detection"],
        position=node.value["detection"].position,
        severity=values.get("severity", Severity.INFO),
        event=kind,
        wanted=wanted,
        by=tuple(dict.fromkeys(one for one, _ in by)),
        reason=reason or DetectionReason((values["detection"],)),
        quiet_us=values.get("quiet", QUIET_US),
        at_least=values.get("at_least", 1),
        within_us=values.get("within", 0),
        distinct=values.get("distinct"),
        is_sequence="sequence" in values,
        first=values.get("first"),
        unusual=values.get("unusual"),
        respond=respond,
        labels=_named(looked_for, "labels"),
        run_labels=_named(looked_for, "run", "labels"),
        tools=_named(looked_for, "tools"),
        plain=node.plain(),
        is_sound=problems.error_count == before,
    )


# -- what is looked for ----------------------------------------------------------------------


def _looked_for(
    node: Node, values: Mapping[str, Any], problems: Problems
) -> list[tuple[str, Node]]:
    """`where`, or the steps, each with what it is called in problems."""
    if "sequence" not in values:
        where: Node | None = values.get("where")
        return [] if where is None else [("`where`", where)]
    listed: Node = values["sequence"]
    if not listed.is_list:
        problems.error(listed.position, f"sequence must be a list, not {listed.kind}")
        return []
    if not 2 <= len(listed.value) <= STEPS_MAX:
        problems.error(listed.position, f"a sequence has 2 to {STEPS_MAX} steps")
    return [("a step", one) for one in listed.value[:STEPS_MAX]]


def _told(kind: EventKind) -> frozenset[str]:
    """The keys of `where` about which such an event says something."""
    return _ALWAYS.union(*(_TOLD[one] for one in NAMES[kind]))


def _wanted(
    what: str, node: Node, kind: EventKind, told: frozenset[str], problems: Problems
) -> WantedDraft | None:
    values = read_fields(node, what, WHERE_FIELDS, problems)
    if not node.is_mapping:
        return None
    if not node.value:
        hint = "leave `where` out for: every event" if what == "`where`" else "say which event"
        problems.error(node.position, f"{what} says nothing", hint)
    for key in node.value:
        if key in WHERE_FIELDS and key not in told:
            problems.error(place_of(node, key), f'{an(kind)} event tells nothing of "{key}"')
    check_codes(values.get("code", ()), kind, problems)
    heard = Heard(
        kind,
        frozenset(effect.value for effect in values.get("effect", ())),
        tuple(glob for glob, _ in values.get("code", ())),
        frozenset(values.get("mode", ())),
        values.get("tools", ()),
        values.get("except", ()),
        values.get("agents", ()),
        values.get("tenants", ()),
    )
    when: Node | None = values.get("when")
    return WantedDraft(heard, _looked(values), None if when is None or when.is_refused else when)


def _looked(values: Mapping[str, Any]) -> Looked | None:
    """What needs the call. A level means that or worse, as in every rule that allows nothing."""
    tool = caller = None
    if not {"mutates", "labels", "risk"}.isdisjoint(values):
        tool = ToolMatcher(
            Effect.DENY,
            _EVERY_TOOL,
            (),
            values.get("mutates"),
            values.get("labels", ()),
            values.get("risk"),
        )
    if "teams" in values or "environments" in values:
        caller = CallerMatcher((), values.get("teams", ()), values.get("environments", ()))
    looked = Looked(
        tool,
        caller,
        frozenset(values.get("methods", ())),
        SourceMatcher(values["sources"]) if "sources" in values else None,
        values.get("during", ()),
        values.get("outside", ()),
        values.get("run"),
    )
    is_asked = looked.needs_call or looked.during or looked.outside
    return looked if is_asked else None


def _named(nodes: Iterable[Node], *way: str) -> tuple[tuple[str, Position], ...]:
    """The texts under a key of each of these, or under one below it, each with its place."""
    found: list[tuple[str, Position]] = []
    for node in nodes:
        member: Node | None = node
        for key in way:
            member = member.value.get(key) if member is not None and member.is_mapping else None
        if member is not None:
            listed = member.value if member.is_list else [member]
            found += [(one.value, one.position) for one in listed if isinstance(one.value, str)]
    return tuple(found)
