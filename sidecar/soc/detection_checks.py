"""Which keys of a detection go together, and what a kind of event must name for what is asked.

Knows: the four forms of a detection, what each needs and leaves no place for; that nothing can be
counted by, remembered, shown or done that such an event does not tell.
Must not know: how values are read, CEL, other files.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any, Final

from sidecar.policy.fields import Problems
from sidecar.policy.quantities import duration_text
from sidecar.problems import Position
from sidecar.soc.detection import AGENT, BY, RUN
from sidecar.soc.detection_reasons import COUNT, USUAL, WITHIN, DetectionReason
from sidecar.soc.detection_values import ACTIONS, NAMES, Named
from sidecar.soc.model import EventKind, Response
from sidecar.soc.responding import AUTOMATIC_US_MAX
from sidecar.yaml_reader import Node

FORMS: Final = ("sequence", "first", "unusual")
#: Keys of counting, for which the other forms have no place.
_OF_COUNTING: Final = ("where", "at_least", "distinct")


def check_form(node: Node, values: Mapping[str, Any], problems: Problems) -> None:
    """A detection has one form, with what that form needs and nothing beside it."""
    keys = node.value
    forms = [form for form in FORMS if form in keys]
    for form in forms[1:]:
        problems.error(place_of(node, form), f"`{form}` has no place beside `{forms[0]}`")
    if forms:
        beside = [key for key in (*_OF_COUNTING, "within") if key in keys]
        for key in beside:
            if key == "within" and forms[0] == "sequence":
                continue
            is_of_steps = key == "where" and forms[0] == "sequence"
            hint = "the steps of a sequence say what is looked for" if is_of_steps else ""
            problems.error(place_of(node, key), f"`{key}` has no place beside `{forms[0]}`", hint)
    if "at_least" in keys and "at_least" not in values:
        return  # what is wrong with it has been said, the rest would only follow
    at_least = values.get("at_least", 1)
    is_single = not forms and at_least == 1
    if "within" not in keys and (forms[:1] == ["sequence"] or at_least > 1):
        what = "a sequence" if forms else f"at_least: {at_least}"
        problems.error(node.position, f'{what} needs "within"', "in what time, e.g. 60s")
    if is_single and "within" in keys:
        hint = "" if "at_least" in keys else "add `at_least`"
        problems.error(place_of(node, "within"), "`within` says nothing of a single event", hint)
    if is_single and "distinct" in keys:
        problems.error(place_of(node, "distinct"), "`distinct` needs `at_least` of 2 or more")


def place_of(node: Node, key: str) -> Position:
    """Where a key of a mapping stands."""
    member: Node = node.value[key]
    return member.key_position or member.position


def check_names(
    node: Node,
    kind: EventKind,
    by: Iterable[tuple[str, Position]],
    values: Mapping[str, Any],
    problems: Problems,
) -> None:
    """What is counted, remembered or done needs something that such events name."""
    for one, position in by:
        if one not in NAMES[kind]:
            problems.error(
                position,
                f"{an(kind)} event names no {one}",
                f"count by {' or '.join(NAMES[kind])}",
            )
    for key in ("distinct", "first"):
        named: Named | None = values.get(key)
        if named is None:
            continue
        holder = named.name.partition(".")[0]
        has_no_holder = holder in BY and holder not in NAMES[kind]
        if has_no_holder or (named.is_of_call and kind is not EventKind.DECISION):
            problems.error(named.position, f'{an(kind)} event tells no "{named.name}"')
    respond: Response | None = values.get("respond")
    if respond is not None and ACTIONS[respond.action] not in NAMES[kind]:
        problems.error(
            node.value["respond"].value["action"].position,
            f"{an(kind)} event names no {ACTIONS[respond.action]} for {respond.action}",
        )
    elif respond is not None and counts_several(by, values):
        problems.warning(
            place_of(node, "respond"),
            "what several agents did is counted together here: this is only recommended, never "
            "done by itself",
            "add `agent` to `by`",
        )
    elif respond is not None and respond.for_us > AUTOMATIC_US_MAX:
        problems.warning(
            node.value["respond"].value["for"].position,
            f"what is done by itself ends after {duration_text(AUTOMATIC_US_MAX)}",
            "ask for that; a person may contain it for longer",
        )


def counts_several(by: Iterable[tuple[str, Position]], values: Mapping[str, Any]) -> bool:
    """Whether a hit may rest on what others did than the agent of its last event."""
    is_apart = not {AGENT, RUN}.isdisjoint(one for one, _ in by)
    is_of_many = values.get("at_least", 1) > 1 or "sequence" in values or "unusual" in values
    return is_of_many and not is_apart


def check_reason(
    reason: DetectionReason,
    position: Position,
    kind: EventKind,
    keys: Container[str],
    problems: Problems,
) -> None:
    """A reason shows what there is, given the keys of its detection."""
    if reason.needs_call and kind is not EventKind.DECISION:
        problems.error(
            position, f"reason: {an(kind)} event tells of no call", "show what its receipt tells"
        )
    if WITHIN in reason.shows and "within" not in keys:
        problems.error(position, "reason: {within} says nothing without `within`")
    if USUAL in reason.shows and "unusual" not in keys:
        problems.error(position, "reason: {usual} says nothing without `unusual`")
    if COUNT in reason.shows and "first" in keys:
        problems.error(position, "reason: {count} says nothing of a first time")


def an(kind: EventKind) -> str:
    """`an outcome`, `a decision`."""
    article = "an" if kind.value[0] in "aeiou" else "a"
    return f"{article} {kind.value}"
