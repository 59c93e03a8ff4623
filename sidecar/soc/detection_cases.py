"""Tests of detections: YAML nodes become cases, events in time with the alerts that are expected.

Knows: every key of such a test file, of a case and of an event, and which need each other.
Must not know: which detections and tools there are, how a case is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sidecar.model import Effect, Mode, Principal, TrustLevel
from sidecar.policy.case_file import FILE_FIELDS, USUAL_NOW_US, agents_of
from sidecar.policy.case_values import (
    any_text,
    http_facts,
    mapping,
    moment_us,
    repetitions,
    tool_name,
)
from sidecar.policy.fields import (
    Field,
    Problems,
    as_node,
    did_you_mean,
    list_of,
    name,
    one_of,
    read_fields,
    text,
)
from sidecar.policy.matchers import Glob
from sidecar.policy.quantities import bounded_duration, duration_us
from sidecar.policy.rule_values import rule_effect
from sidecar.policy.runs import RunState
from sidecar.problems import Position
from sidecar.soc.detection_values import (
    DAY_US,
    SECOND_US,
    check_codes,
    code_glob,
    event_kind,
    event_mode,
)
from sidecar.soc.model import EventKind
from sidecar.yaml_reader import Node

#: The code of what rules allow, and that of what went ahead because a person said yes.
ALLOWED: Final = "policy_allow"
YES: Final = "approval_required"
_GOES_WITH: Final = {ALLOWED: Effect.ALLOW, YES: Effect.REQUIRE_APPROVAL}
ALERTS_MAX: Final = 10_000
#: Between two events that say nothing else.
EVERY_US: Final = SECOND_US
PAUSE_MAX_US: Final = 400 * DAY_US


@dataclass(frozen=True, slots=True)
class GivenRun:
    """The run of a call before it, and the id by which something trusted keeps it apart."""

    run_id: str
    trust: TrustLevel | None
    labels: frozenset[str]

    def state(self, starts_with: TrustLevel, started_us: int) -> RunState:
        """As decisions see it."""
        trust = self.trust if self.trust is not None else starts_with
        return RunState(trust, self.labels, 1, started_us, self.run_id)


@dataclass(frozen=True, slots=True)
class GivenEvents:
    """Events that are alike: so many, one every so often, after a pause. `kind` None is that of
    the detection under test."""

    position: Position
    principal: Principal
    kind: EventKind | None
    effect: Effect | None
    code: str
    mode: Mode
    call: str
    args: Mapping[str, Any]
    http: Mapping[str, Any]
    run: GivenRun | None
    times: int
    every_us: int
    pause_us: int


@dataclass(frozen=True, slots=True)
class DetectionCase:
    """Events from `now_us` on, and how many alerts they raise."""

    name: str
    position: Position
    events: tuple[GivenEvents, ...]
    expect: int
    now_us: int


@dataclass(frozen=True, slots=True)
class DetectionCaseFile:
    """One document. `tools` are nodes of catalogue entries by name."""

    position: Position
    detections: tuple[tuple[str, Position], ...]
    tools: Mapping[str, Node] = field(default_factory=dict)
    cases: tuple[DetectionCase, ...] = ()


def read_detection_cases(node: Node, problems: Problems) -> DetectionCaseFile:
    """A document that begins with `test:` and whose cases have events; problems are noted, what is
    sound is given."""
    values = read_fields(node, "a test file", FILE_FIELDS, problems)
    agents = agents_of(values.get("agents"), problems)
    listed: Node | None = values.get("cases")
    cases: list[DetectionCase] = []
    for one in listed.value if listed is not None and listed.is_list else ():
        case = _case(one, agents, problems)
        if case is not None:
            cases.append(case)
    _refuse_twice(cases, problems)
    tools: Node | None = values.get("tools")
    if tools is not None and not tools.is_mapping:
        problems.error(tools.position, f"tools must be a mapping, not {tools.kind}")
        tools = None
    named = values.get("test", ())
    entries = tools.value if tools is not None else {}
    return DetectionCaseFile(node.position, named, entries, tuple(cases))


def _case(node: Node, agents: Mapping[str, Principal], problems: Problems) -> DetectionCase | None:
    before = problems.error_count
    values = read_fields(node, "a case of a detection", CASE_FIELDS, problems)
    listed: Node | None = values.get("events")
    if listed is not None and not (listed.is_list and listed.value):
        kind = "empty" if listed.is_list else listed.kind
        problems.error(listed.position, f"events must be a list of events, not {kind}")
        return None
    nodes = listed.value if listed is not None else []
    events = [_events(one, agents, problems) for one in nodes]
    if problems.error_count > before:
        return None
    return DetectionCase(
        values["name"],
        node.value["name"].position,
        tuple(one for one in events if one is not None),
        values["expect"],
        values.get("now", USUAL_NOW_US),
    )


def _events(node: Node, agents: Mapping[str, Principal], problems: Problems) -> GivenEvents | None:
    before = problems.error_count
    values = read_fields(node, "an event", EVENT_FIELDS, problems)
    principal = next(iter(agents.values()))
    wanted = values.get("agent")
    if wanted is not None and wanted not in agents:
        hint = did_you_mean(wanted, agents) or f"agents: {', '.join(agents)}"
        place = node.value["agent"].position
        problems.error(place, f'there is no agent "{wanted}" in this file', hint)
    elif wanted is not None:
        principal = agents[wanted]
    if problems.error_count > before:
        return None
    code, code_position = values.get("code", (None, node.position))
    if code is not None and not code.is_literal:
        problems.error(code_position, "the code of an event is one code, without *")
        return None
    return GivenEvents(
        node.position,
        principal,
        values.get("event"),
        values.get("effect"),
        "" if code is None else code.pattern,
        Mode(values.get("mode", Mode.ENFORCE.value)),
        values.get("call", ""),
        values.get("args", {}),
        values.get("http", {}),
        values.get("run"),
        values.get("times", 1),
        values.get("every", EVERY_US),
        values.get("pause", 0),
    )


def check_event(given: GivenEvents, kind: EventKind, problems: Problems) -> None:
    """Notes what such an event must say, or cannot; a test states everything."""
    place = given.position
    if given.code:
        check_codes(((Glob(given.code), place),), kind, problems)
    if kind is not EventKind.DECISION:
        if given.effect is not None:
            problems.error(place, f"an event of {kind.value} has no effect")
        if not given.code:
            problems.error(place, f'an event of {kind.value} needs "code"', "say what happened")
        if kind in (EventKind.APPROVAL, EventKind.DEFINITION) and not given.call:
            problems.error(place, f'an event of {kind.value} needs "call"', "say of which tool")
        return
    if given.effect is None:
        problems.error(place, 'a decision needs "effect"', "allow, deny or require_approval")
    elif _GOES_WITH.get(given.code, given.effect) is not given.effect or (
        given.effect is Effect.ALLOW and given.code not in ("", ALLOWED)
    ):
        problems.error(place, f"{given.effect.value} does not come with the code {given.code}")
    elif not given.call and (given.effect is not Effect.DENY or not given.code):
        problems.error(
            place,
            'a decision needs "call"',
            "only a request refused before it was read has none: effect deny and its code",
        )


def _refuse_twice(cases: list[DetectionCase], problems: Problems) -> None:
    first: dict[str, Position] = {}
    for case in cases:
        if case.name in first:
            hint = f"first at {first[case.name]}"
            problems.error(case.position, f'the case "{case.name}" is here twice', hint)
        first.setdefault(case.name, case.position)


def _alerts(node: Node, problems: Problems) -> int | None:
    if type(node.value) is int and 0 <= node.value <= ALERTS_MAX:
        return node.value
    problems.error(node.position, f"expect is a number of alerts, from 0 to {ALERTS_MAX}")
    return None


def _run(node: Node, problems: Problems) -> GivenRun | None:
    before = problems.error_count
    values = read_fields(node, "`run`", RUN_FIELDS, problems)
    if problems.error_count > before:
        return None
    labels = frozenset(values.get("labels", ()))
    return GivenRun(values.get("id", ""), values.get("trust"), labels)


RUN_FIELDS: Final = {
    "id": Field(any_text),
    "trust": Field(one_of(TrustLevel)),
    "labels": Field(list_of(name)),
}
EVENT_FIELDS: Final = {
    "event": Field(event_kind),
    "effect": Field(rule_effect),
    "code": Field(code_glob),
    "mode": Field(event_mode),
    "call": Field(tool_name),
    "args": Field(mapping("args")),
    "agent": Field(name),
    "http": Field(http_facts),
    "run": Field(_run),
    "times": Field(repetitions),
    "every": Field(duration_us),
    "pause": Field(bounded_duration(PAUSE_MAX_US)),
}
CASE_FIELDS: Final = {
    "name": Field(text, is_required=True),
    "events": Field(as_node, is_required=True),
    "now": Field(moment_us),
    "expect": Field(_alerts, is_required=True),
}
