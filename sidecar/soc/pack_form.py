"""An evidence pack: an incident with all it rests on, as one JSON value that needs nothing else.

Knows: its form and its bounds. What stands in it is only what whoever made it says: `pack_verdict`
tells what of it is shown. Pure. Must not know: stores, files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

FORM: Final = "aegis-sidecar/incident-pack@v1"
PACK_BYTES_MAX: Final = 256 * 1024 * 1024
#: Receipts that one pack names.
RECEIPTS_MAX: Final = 10_000
#: The last signed one, one that somebody kept, the head's.
TREES_MAX: Final = 3
#: Hashes of a proof: no tree is higher.
HASHES_MAX: Final = 63

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Seq = Annotated[int, Field(ge=1, le=2**53 - 1)]
Size = Annotated[str, Field(pattern="^[1-9][0-9]{0,15}$")]
Moment = Annotated[int, Field(ge=-(2**53), le=2**53)]
Path = Annotated[list[Digest], Field(max_length=HASHES_MAX)]


class Part(BaseModel):
    """Exactly these members, of exactly these types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class NamedReceipt(Part):
    """A receipt by its number, as an alert names what it rests on. 0 and "" where something was
    noticed before there was any."""

    seq: Annotated[int, Field(ge=0, le=2**53 - 1)]
    receipt_hash: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")]
    call_id: str
    at_us: Moment


class RestsOn(Part):
    """See `evidence.Resting`."""

    raised: list[NamedReceipt]
    joined: list[NamedReceipt]
    left_out: int


class SaidNote(Part):
    """See `notes.Note`."""

    at_us: Moment
    actor: str
    did: str
    text: str


class PackedAlert(Part):
    """An alert, as `shown_alert` shows it."""

    alert_id: str
    tenant: str
    state: str
    detection: str
    severity: str
    subject: list[str]
    agent: str
    run: str
    incident_id: str
    reason: str
    hits: int
    evidence: RestsOn
    notes: list[SaidNote]
    first_us: Moment
    last_us: Moment
    quiet_until_us: Moment
    changed_at_us: Moment


class PackedIncident(Part):
    """An incident, as `shown_incident` shows it."""

    incident_id: str
    tenant: str
    state: str
    severity: str
    agent: str
    run: str
    title: str
    alerts: int
    notes: list[SaidNote]
    opened_us: Moment
    last_us: Moment
    changed_at_us: Moment


class Beside(Part):
    """What stands beside a receipt and can be erased."""

    salt: str
    arguments: str | None
    facts: str


class PackedReceipt(Part):
    """A receipt with its hash, what stands beside it (None: erased, or left out), and for each tree
    of the pack, by its size, the proof that it is in it."""

    receipt: Mapping[str, str | int | None]
    beside: Beside | None
    proofs: Mapping[Size, Path]


class PackedChange(Part):
    """An audit row; before and after are JSON as it was kept, "" where there is none."""

    seq: Seq
    at_us: Moment
    actor: str
    action: str
    subject: str
    before: str
    after: str
    reason: str


class PackedTree(Part):
    """The tree of the first `size` receipts; `note` is its signed checkpoint, "" for
    one that is not signed here."""

    size: Seq
    root: Digest
    note: str


class Pack(Part):
    """All of it. `archived` are receipts that are wanted and were cut off into archives, `missing`
    such as are not there at all; `left_out` says what could not be put in, and why. All receipts
    up to `looked_until` were looked at for what was done to the incident. `consistency` proves of
    each tree but the first that it goes on from the one before; None where that could not be made.
    """

    form: Literal["aegis-sidecar/incident-pack@v1"]
    made_at_us: Moment
    tenant: str
    has_facts: bool
    incident: PackedIncident
    alerts: list[PackedAlert]
    receipts: Annotated[list[PackedReceipt], Field(max_length=RECEIPTS_MAX)]
    changes: list[PackedChange]
    archived: list[Seq]
    missing: list[Seq]
    trees: Annotated[list[PackedTree], Field(max_length=TREES_MAX)]
    consistency: list[Path | None]
    left_out: list[str]
    looked_until: Annotated[int, Field(ge=0, le=2**53 - 1)]


def wanted_seqs(alerts: Sequence[PackedAlert], changes: Sequence[PackedChange]) -> list[int]:
    """The receipts that an incident rests on: those of its alerts, and of what was done."""
    named = {
        one.seq for alert in alerts for one in (*alert.evidence.raised, *alert.evidence.joined)
    }
    return sorted((named | {one.seq for one in changes}) - {0})
