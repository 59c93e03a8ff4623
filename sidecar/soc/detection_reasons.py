"""The reason of a detection: its text with values of the event that completed it.

Knows: `{count}`, `{within}` and what an event says of itself; every other `{path}` is one of a
rule's reason and is taken from the recorded call, shown as safely as there. What is not known is
said to be absent.
Must not know: windows, severities, YAML.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Final

from sidecar.policy.facts import FACTS, Facts
from sidecar.policy.fields import did_you_mean
from sidecar.policy.printable import printable
from sidecar.policy.quantities import duration_text
from sidecar.policy.reasons import (
    ABSENT,
    LIMIT_FACTS,
    VALUE_LENGTH_MAX,
    BadReason,
    Place,
    Reason,
    parse_reason,
    parsed_parts,
)
from sidecar.soc.model import Event

#: Names a reason may show although rules cannot read them; what a record never tells is not among
#: those of rules.
COUNT: Final = "count"
WITHIN: Final = "within"
USUAL: Final = "usual"
#: What no record tells, as the first part of a path.
NEVER_RECORDED: Final = ("agent.claims", "http.headers", "run.count")

OF_EVENT: Final[dict[str, Callable[[Event], str]]] = {
    "tenant.name": lambda event: event.tenant,
    "agent.name": lambda event: event.agent,
    "run.id": lambda event: event.run,
    "tool.name": lambda event: event.tool,
    "tool.upstream": lambda event: event.upstream,
    "tool.operation": lambda event: event.tool.partition("/")[2],
    "effect": lambda event: event.effect,
    "code": lambda event: event.code,
    "mode": lambda event: event.mode,
    "rule": lambda event: event.rule,
}
_OWN: Final = (COUNT, WITHIN, USUAL, *OF_EVENT)


@dataclass(frozen=True, slots=True)
class OfHit:
    """A place for what the hit counted."""

    name: str


@dataclass(frozen=True, slots=True)
class OfEvent:
    """A place for what the event says of itself."""

    name: str


@dataclass(frozen=True, slots=True)
class DetectionReason:
    """A parsed text: literal parts, and places of three kinds, in order."""

    parts: tuple[str | OfHit | OfEvent | Reason, ...]

    @property
    def shows(self) -> frozenset[str]:
        """Which of `{count}`, `{within}` and `{usual}` it has."""
        return frozenset(part.name for part in self.parts if isinstance(part, OfHit))

    @property
    def needs_call(self) -> bool:
        """Whether it shows anything of a call that its receipt does not tell."""
        return any(isinstance(part, Reason) for part in self.parts)

    @property
    def run_names(self) -> frozenset[str]:
        """The names of the run it takes from a recorded call."""
        shown = (part for part in self.parts if isinstance(part, Reason))
        return frozenset(name for part in shown for name in part.run_names)

    def fill(
        self, event: Event, secrets: Container[str], count: int, within_us: int, usual: float
    ) -> str:
        """The text for the event that completed a hit. Never fails."""
        said: list[str] = []
        for part in self.parts:
            if isinstance(part, str):
                said.append(part)
            elif isinstance(part, OfHit):
                said.append(_counted(part.name, count, within_us, usual))
            elif isinstance(part, OfEvent):
                said.append(_shown(OF_EVENT[part.name](event)))
            else:
                said.append(_of_call(part, event, secrets))
        return "".join(said)


def parse_detection_reason(text: str) -> DetectionReason:
    """Reads a text with `{path}` in it; raises BadReason, which names every problem once."""
    return DetectionReason(parsed_parts(text, _place))


def _place(path: str) -> OfHit | OfEvent | Reason:
    if path in (COUNT, WITHIN, USUAL):
        return OfHit(path)
    if path in OF_EVENT:
        return OfEvent(path)
    if path in LIMIT_FACTS or path.startswith(NEVER_RECORDED):
        raise BadReason((f'"{path}" is not in the record', "write what a record tells"))
    try:
        return parse_reason(f"{{{path}}}")
    except BadReason:
        recorded = [name for name in FACTS if not name.startswith(NEVER_RECORDED)]
        near = did_you_mean(path, [*_OWN, *recorded])
        raise BadReason((f'there is no "{path}"', near)) from None


def _counted(name: str, count: int, within_us: int, usual: float) -> str:
    if name == COUNT:
        return str(count)
    return duration_text(within_us) if name == WITHIN else f"{usual:.1f}"


def _shown(text: str) -> str:
    if not text:
        return ABSENT
    cut = printable(text[:VALUE_LENGTH_MAX])
    return cut + ("…" if len(text) > VALUE_LENGTH_MAX else "")


def _of_call(reason: Reason, event: Event, secrets: Container[str]) -> str:
    """What a rule's reason would have shown of the call, as far as it was recorded; of a masked
    argument its mask."""
    recorded = event.call()
    if recorded is None:
        return ABSENT
    facts = Facts(recorded.principal, recorded.call, recorded.at_us, recorded.run)
    for part in reason.parts:
        if isinstance(part, Place) and recorded.hidden.covers(part.fact):
            return ABSENT
    return reason.fill(facts, secrets)
