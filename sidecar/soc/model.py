"""The nouns of noticing: severities, events, evidence, hits.

Knows: what one recorded thing looks like to a detection, and what a detection says of it. All of
it is frozen and pure. Must not know: stores, clocks, YAML, sinks.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from sidecar.ledger.recorded_call import RecordedCall


class Severity(enum.IntEnum):
    """How much it matters; compared as a number, written as `label`."""

    INFO = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4

    @property
    def label(self) -> str:
        """As users write and read it."""
        return self.name.lower()


#: Stands where a text of an alert, or one that quoted it, was erased.
ERASED: Final = "(erased)"
#: By the word a user writes.
SEVERITIES: Final = {severity.label: severity for severity in Severity}


class EventKind(enum.Enum):
    """What may be watched. The first four are receipts; the last two are noticed beside them."""

    DECISION = "decision"
    OUTCOME = "outcome"
    APPROVAL = "approval"
    DEFINITION = "definition"
    STORE = "store"
    CHAIN = "chain"


class Evidence(NamedTuple):
    """One receipt that something rests on: found again by `seq`, proven by `receipt_hash`.

    `call_id` is "" of what belongs to no call. Of what no receipt tells (a store that refused, a
    chain that broke) `seq` is that of the last receipt before it, and `receipt_hash` is its hash.
    """

    seq: int
    receipt_hash: str
    call_id: str
    at_us: int


@dataclass(frozen=True, slots=True)
class Event:
    """One recorded thing, as detections see it; words are "" where there is none.

    `effect` is what was decided (allow, deny, require_approval), `code` the refusal's or outcome's
    stable code, `mode` enforce, shadow or observe. `call` gives the call a decision was about, as
    far as it was recorded, and None where it cannot be known; it is worked out when first asked
    for, for most events match by the receipt alone.
    """

    kind: EventKind
    tenant: str
    evidence: Evidence
    agent: str = ""
    run: str = ""
    upstream: str = ""
    tool: str = ""
    effect: str = ""
    code: str = ""
    mode: str = ""
    rule: str = ""
    http_status: int = 0
    call: Callable[[], RecordedCall | None] = lambda: None

    @property
    def at_us(self) -> int:
        """When it was recorded, microseconds UTC."""
        return self.evidence.at_us


class Response(NamedTuple):
    """What a detection asks to be done: `action` (freeze-agent, block-tool …) for so long.
    `of_several` says that it counts together what several agents did."""

    action: str
    for_us: int
    of_several: bool = False


@dataclass(frozen=True, slots=True)
class Hit:
    """A detection found what it looks for, with the event that completed it.

    `subject` are the values of the detection's `by`, in its order, e.g. `("coder",)`. `agent`,
    `run`, `tool` and `upstream` are those of the completing event. `evidence` are the events it
    rests on, oldest first; of many the first and the last, without `left_out` between them.
    `quiet_us` is for how long later hits of the same detection and subject join its alert. Made
    from the same events, a hit is the same.
    """

    detection: str
    severity: Severity
    tenant: str
    subject: tuple[str, ...]
    agent: str
    run: str
    tool: str
    upstream: str
    reason: str
    evidence: tuple[Evidence, ...]
    quiet_us: int
    respond: Response | None = None
    left_out: int = 0

    @property
    def at_us(self) -> int:
        """When the completing event was recorded, microseconds UTC."""
        return self.evidence[-1].at_us

    @property
    def seq(self) -> int:
        """The receipt of the completing event."""
        return self.evidence[-1].seq
