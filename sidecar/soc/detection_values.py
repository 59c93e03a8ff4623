"""The forms of values in detections, and why a value is none.

Knows: severities, kinds of events and what each tells, codes, whom a detection counts apart,
responses, numbers with their bounds, and the names whose values can be counted or remembered.
Must not know: which keys go together, conditions, windows at work.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import orjson

from sidecar.errors import REFUSALS
from sidecar.model import Mode, OutcomeKind
from sidecar.policy.facts import FACTS, Facts, Kind
from sidecar.policy.fields import Field, Parse, Problems, did_you_mean, read_fields, text
from sidecar.policy.matchers import Glob
from sidecar.policy.quantities import bounded_duration, duration_text
from sidecar.problems import Position
from sidecar.soc.detection import AGENT, BY, TENANT, TOOL, Unusual, Value
from sidecar.soc.detection_reasons import NEVER_RECORDED, OF_EVENT
from sidecar.soc.events import APPROVAL_CODES, CHAIN_CODES, DEFINITION_CODES, STORE_CODES
from sidecar.soc.model import SEVERITIES, Event, EventKind, Response, Severity
from sidecar.yaml_reader import Node

SECOND_US: Final = 1_000_000
DAY_US: Final = 86_400 * SECOND_US
#: What is counted is read again after a start, so a window is no longer than this.
WITHIN_MAX_US: Final = DAY_US
AT_LEAST_MAX: Final = 1_000
QUIET_MAX_US: Final = 30 * DAY_US
RESPOND_MAX_US: Final = 7 * DAY_US
SIGMA_MAX: Final = 100.0
HISTORY_MIN_US: Final = DAY_US
HISTORY_MAX_US: Final = 30 * DAY_US
#: Longer values are told apart by their hash.
VALUE_LENGTH_MAX: Final = 64

#: What can be done, with what an event must name for it.
ACTIONS: Final[Mapping[str, str]] = {
    "freeze-agent": AGENT,
    "block-tool": TOOL,
    "block-upstream": TOOL,
    "block-destination": TOOL,
    "block-run": AGENT,
    "force-approval": AGENT,
}
#: What each kind of event names of `BY`.
NAMES: Final[Mapping[EventKind, tuple[str, ...]]] = {
    EventKind.DECISION: BY,
    EventKind.OUTCOME: (AGENT, TENANT),
    EventKind.APPROVAL: (AGENT, TENANT, TOOL),
    EventKind.DEFINITION: (AGENT, TENANT, TOOL),
    EventKind.STORE: (TENANT,),
    EventKind.CHAIN: (TENANT,),
}
#: Codes of decisions that no refusal has: what rules allow, and what a person did.
_GOES_AHEAD: Final = ("policy_allow", "approval_required")
CODES: Final[Mapping[EventKind, tuple[str, ...]]] = {
    EventKind.DECISION: (*_GOES_AHEAD, *REFUSALS),
    EventKind.OUTCOME: tuple(kind.value for kind in OutcomeKind),
    EventKind.APPROVAL: APPROVAL_CODES,
    EventKind.DEFINITION: DEFINITION_CODES,
    EventKind.STORE: STORE_CODES,
    EventKind.CHAIN: CHAIN_CODES,
}
#: Texts of a call that its receipt does not tell and its facts do.
_OF_CALL: Final = tuple(
    name
    for name, fact in FACTS.items()
    if fact.kind is Kind.TEXT and name not in OF_EVENT and not name.startswith(NEVER_RECORDED)
)
_ARGUMENT: Final = re.compile(r"args(\.[A-Za-z0-9_-]+)+")


@dataclass(frozen=True, slots=True)
class Named:
    """A name whose values are counted or remembered, with its place. `is_of_call` if its event has
    to tell of a call."""

    name: str
    position: Position
    is_of_call: bool

    def value(self, *, is_kept: bool) -> Value:
        """How it is taken out of an event. What is to be kept (`is_kept`) of what a caller sent is
        a hash: it outlives the facts, which can be erased."""
        name = self.name
        if not self.is_of_call:
            read = OF_EVENT[name]
            return lambda event: _short(read(event)) or None
        way = tuple(name.split(".")[1:]) if name.startswith("args.") else ()

        def of_call(event: Event) -> str | None:
            found = _argument(event, way) if way else _fact(event, name)
            if found is None or not is_kept:
                return found
            return sha256(f"{event.tenant}\0{name}\0{found}".encode()).hexdigest()[:32]

        return of_call


def severity(node: Node, problems: Problems) -> Severity | None:
    """A severity."""
    found: Severity | None = _one_of(node, SEVERITIES, "a severity", problems)
    return found


def event_kind(node: Node, problems: Problems) -> EventKind | None:
    """A kind of event."""
    kinds = {kind.value: kind for kind in EventKind}
    found: EventKind | None = _one_of(node, kinds, "an event", problems)
    return found


def counted_by(node: Node, problems: Problems) -> tuple[str, Position] | None:
    """Whom a detection counts apart, with its place."""
    found = _one_of(node, {one: one for one in BY}, "nothing to count by", problems, is_what=False)
    return None if found is None else (found, node.position)


def _one_of(
    node: Node, options: Mapping[str, Any], what: str, problems: Problems, *, is_what: bool = True
) -> Any:
    value = text(node, problems)
    if value is None or value in options:
        return options.get(value or "")
    shown = f'"{value[:VALUE_LENGTH_MAX]}" is {"not " if is_what else ""}{what}'
    hint = did_you_mean(value, options) or f"one of {', '.join(options)}"
    problems.error(node.position, shown, hint)
    return None


def event_mode(node: Node, problems: Problems) -> str | None:
    """How a decision was carried out."""
    modes = (Mode.ENFORCE.value, Mode.OBSERVE.value)
    if node.value in modes:
        return str(node.value)
    hint = did_you_mean(str(node.plain()), modes)
    if node.value == Mode.SHADOW.value:
        hint = "a shadow rule decides nothing; what it would have made is recorded beside"
    problems.error(node.position, "mode of an event is enforce or observe", hint)
    return None


def code_glob(node: Node, problems: Problems) -> tuple[Glob, Position] | None:
    """A code, or a glob over codes, with its place; whether there is such a code depends on the
    kind of event."""
    value = text(node, problems)
    return None if value is None else (Glob(value), node.position)


def check_codes(
    codes: Iterable[tuple[Glob, Position]], kind: EventKind, problems: Problems
) -> None:
    """Notes every glob that fits no code of such events."""
    known = CODES[kind]
    for glob, position in codes:
        if not any(glob.matches(code) for code in known):
            hint = did_you_mean(glob.pattern, known)
            if not hint and len(known) <= len(CODES[EventKind.OUTCOME]):
                hint = f"one of {', '.join(known)}"
            what = f'there is no code "{glob.pattern}" of {kind.value} events'
            problems.error(position, what, hint)


def whole_number(what: str, least: int, most: int) -> Parse:
    """Reads a whole number within bounds."""

    def read(node: Node, problems: Problems) -> int | None:
        if type(node.value) is int and least <= node.value <= most:
            return node.value
        problems.error(node.position, f"{what} is a whole number from {least} to {most}")
        return None

    return read


def _sigma(node: Node, problems: Problems) -> float | None:
    value = node.value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and 0 < value <= SIGMA_MAX:
        return float(value)
    problems.error(node.position, f"sigma is a number over 0, at most {SIGMA_MAX:g}")
    return None


def unusual(node: Node, problems: Problems) -> Unusual | None:
    """`{sigma: 3, history: 7d, buckets: 24}`; a bucket is an hour."""
    before = problems.error_count
    values = read_fields(node, "`unusual`", UNUSUAL_FIELDS, problems)
    if problems.error_count > before:
        return None
    found = Unusual(
        values.get("sigma", 3.0), values.get("history", 7 * DAY_US), values.get("buckets", 24)
    )
    hours = found.history_us * 24 // DAY_US
    if found.buckets > hours:
        place = node.value["buckets"].position if "buckets" in node.value else node.position
        problems.error(
            place,
            f"{duration_text(found.history_us)} have {hours} buckets, fewer than {found.buckets}",
            "a bucket is an hour; ask for fewer, or look further back with `history`",
        )
        return None
    return found


def _action(node: Node, problems: Problems) -> str | None:
    found: str | None = _one_of(node, {one: one for one in ACTIONS}, "an action", problems)
    return found


def response(node: Node, problems: Problems) -> Response | None:
    """`{action, for}`."""
    before = problems.error_count
    values = read_fields(node, "`respond`", RESPOND_FIELDS, problems)
    if problems.error_count > before:
        return None
    return Response(values["action"], values["for"])


def value_name(node: Node, problems: Problems) -> Named | None:
    """A name whose values can be told apart."""
    value = text(node, problems)
    if value is None:
        return None
    if value in OF_EVENT:
        return Named(value, node.position, is_of_call=False)
    if value in _OF_CALL or _ARGUMENT.fullmatch(value):
        return Named(value, node.position, is_of_call=True)
    if value.startswith(NEVER_RECORDED):
        problems.error(node.position, f'"{value}" is not in the record', "name what a record tells")
        return None
    known = (*OF_EVENT, *_OF_CALL)
    hint = did_you_mean(value, known) or "args.NAME, or e.g. tool.name"
    problems.error(node.position, f'"{value}" has no values that can be told apart', hint)
    return None


def _short(value: str) -> str:
    if len(value) <= VALUE_LENGTH_MAX:
        return value
    return sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _fact(event: Event, name: str) -> str | None:
    recorded = event.call()
    if recorded is None or recorded.hidden.covers(name):
        return None
    facts = Facts(recorded.principal, recorded.call, recorded.at_us, recorded.run)
    return _short(str(FACTS[name].read(facts))) or None


def _argument(event: Event, way: tuple[str, ...]) -> str | None:
    """An argument's value as text; None of what was not given, is null or was not recorded."""
    recorded = event.call()
    if recorded is None:
        return None
    hidden = recorded.hidden.arguments
    if any(way[: len(path)] == path or path[: len(way)] == way for path in hidden):
        return None
    found: Any = recorded.call.args
    for name in way:
        if not isinstance(found, Mapping) or name not in found:
            return None
        found = found[name]
    if found is None:
        return None
    is_text = isinstance(found, str)
    return _short(found if is_text else orjson.dumps(found, option=orjson.OPT_SORT_KEYS).decode())


UNUSUAL_FIELDS: Final = {
    "sigma": Field(_sigma),
    "history": Field(bounded_duration(HISTORY_MAX_US, HISTORY_MIN_US)),
    "buckets": Field(whole_number("buckets", 2, HISTORY_MAX_US * 24 // DAY_US)),
}
RESPOND_FIELDS: Final = {
    "action": Field(_action, is_required=True),
    "for": Field(bounded_duration(RESPOND_MAX_US), is_required=True),
}
