"""What is told of a call to whoever keeps traces: when its stages began and ended, the decision.

Knows: names, times, and which words may leave: configured names, codes, ids. Never an argument, a
path, a header or a reason, whose values are filled in.
Must not know: OpenTelemetry, or any other way to keep it (opentelemetry_spans); what a stage does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

JUDGE: Final = "judge"
HOLD: Final = "hold"
RECORD: Final = "record"
FORWARD: Final = "forward"
#: More of them are not kept: a call is judged anew only a few times.
STAGES_MAX: Final = 32


class Stage(NamedTuple):
    """A part of a call's way, by the monotonic clock."""

    name: str
    begin_ns: int
    end_ns: int


@dataclass(slots=True)
class Stages:
    """What a call's way notes as it goes, where somebody keeps traces."""

    passed: list[Stage] = field(default_factory=list)
    effect: str = ""
    rule: str = ""
    refused: str = ""

    def passes(self, name: str, begin_ns: int, end_ns: int) -> None:
        """One more."""
        if len(self.passed) < STAGES_MAX:
            self.passed.append(Stage(name, begin_ns, end_ns))


class CallSpan(NamedTuple):
    """A call that has ended. `began_at_us` is the wall clock's for `begin_ns`; `traceparent` and
    `tracestate` are those that it came with, "" for none."""

    call_id: str
    upstream: str
    tool: str
    method: str
    tenant: str
    agent: str
    http_status: int | None
    outcome: str
    begin_ns: int
    end_ns: int
    began_at_us: int
    stages: Stages
    traceparent: str = ""
    tracestate: str = ""


class Spans(Protocol):
    """Where calls that have ended are told."""

    def tell(self, call: CallSpan) -> None:
        """Takes it; neither waits nor fails."""

    def close(self) -> None:
        """Hands on what is left, within seconds. Blocks."""
