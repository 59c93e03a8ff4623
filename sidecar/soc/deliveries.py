"""From news to what each sink is to be told: rows of the outbox, put with what they tell of. Pure.

Knows: the kinds of news and the form of a body, which is JSON with a version of its own; that ids
are worked out from what is told, so that a transaction that is tried again tells nothing twice.
Must not know: how a sink is reached, when, and whether it answered.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import orjson

from sidecar.soc.model import SEVERITIES, Severity
from storage.watch_rows import DeliveryRow

#: Of the form of a body. A member that is added leaves it; one that changes or goes raises it.
SCHEMA_VERSION: Final = 1
#: A body that would be larger is cut, and says so.
BODY_BYTES_MAX: Final = 64 * 1024
#: What is left of texts, and of lists and mappings, in each try to make a body small enough.
CUTS: Final = ((4096, 64), (1024, 32), (256, 8), (64, 2))
#: Members of a mapping that are never cut away: as many as what we say ourselves has.
OWN_MEMBERS: Final = 24
#: What somebody has to do something about, and a call is waiting for.
APPROVAL_SEVERITY: Final = Severity.HIGH
#: When a row that is new is due: whatever a clock says.
AT_ONCE: Final = 0
#: Hex digits of an id: as many as of those that the clock gives.
_ID_DIGITS: Final = 32
_TIME_DIGITS: Final = 12


class Kind(enum.StrEnum):
    """What may be told. The part before the dot names the member that tells of it."""

    ALERT_OPENED = "alert.opened"
    INCIDENT_OPENED = "incident.opened"
    INCIDENT_RAISED = "incident.raised"
    APPROVAL_REQUESTED = "approval.requested"
    APPROVAL_DECIDED = "approval.decided"
    CONTAINMENT_STARTED = "containment.started"
    CONTAINMENT_ENDED = "containment.ended"
    TEST = "test"


#: Members of a body that name something the store keeps.
_KEPT: Final = frozenset(kind.partition(".")[0] for kind in Kind) - {Kind.TEST.value}


class State(enum.StrEnum):
    """Of a delivery. Dead ones wait for a person."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    DEAD = "dead"


class Told(NamedTuple):
    """A sink, as far as it matters what it is told."""

    name: str
    min_severity: Severity


class Ids(NamedTuple):
    """What the news is about: `about` is the id of the alert, incident, approval or containment,
    and `version` its row's version as it is put, so that a second news of the same kind about the
    same thing is another one."""

    tenant: str
    about: str
    version: int = 1


def deliveries_of(
    kind: Kind,
    body: Mapping[str, Any],
    severity: Severity,
    sinks: Iterable[Told],
    ids: Ids,
    at_us: int,
) -> tuple[DeliveryRow, ...]:
    """A row for each sink that is to be told, to be put in the transaction of what it tells of.

    `body` is JSON of the alert, incident, approval or containment; what in it is too long is cut.
    `at_us` is when it happened, microseconds UTC.
    """
    concerned = [sink for sink in sinks if severity >= sink.min_severity]
    return tuple(_row(kind, body, severity, sink.name, ids, at_us) for sink in concerned)


def event_id_of(kind: Kind, ids: Ids, at_us: int) -> str:
    """The id of the news itself, the same at every sink."""
    return _derived(at_us, kind, *ids)


def _row(
    kind: Kind, body: Mapping[str, Any], severity: Severity, sink: str, ids: Ids, at_us: int
) -> DeliveryRow:
    delivery_id = _derived(at_us, kind, *ids, sink)
    said: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "event_id": event_id_of(kind, ids, at_us),
        "kind": kind.value,
        "tenant": ids.tenant,
        "severity": severity.label,
        "at_us": at_us,
        kind.value.partition(".")[0]: {**body, "id": ids.about},
    }
    return DeliveryRow(
        tenant_id=ids.tenant,
        delivery_id=delivery_id,
        version=1,
        state=State.WAITING.value,
        sink=sink,
        kind=kind.value,
        severity=int(severity),
        body=_fitting(said),
        attempts=0,
        due_us=AT_ONCE,
        said="",
        created_us=at_us,
        changed_at_us=at_us,
    )


def about(row: DeliveryRow) -> tuple[str, str]:
    """What a delivery tells of: the member of its body (alert, incident, approval …) and its id;
    two empty words if it tells of nothing that is kept. Raises ValueError for a body that cannot be
    read."""
    member = row.kind.partition(".")[0]
    if member not in _KEPT:
        return "", ""
    try:
        return member, str(orjson.loads(row.body)[member]["id"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"it does not say what it tells of: {error}") from error


def severity_named(label: str) -> Severity:
    """The severity that a row or a setting names; raises KeyError for another word."""
    return SEVERITIES[label]


def _derived(at_us: int, *parts: object) -> str:
    """An id that begins with its time, like those of the clock, and goes on with a hash."""
    begins = f"{at_us // 1000 & 0xFFFF_FFFF_FFFF:0{_TIME_DIGITS}x}"
    digest = hashlib.sha256(orjson.dumps([str(part) for part in parts])).hexdigest()
    return begins + digest[: _ID_DIGITS - _TIME_DIGITS]


def _fitting(said: Mapping[str, Any]) -> str:
    """The body as text, cut as little as will do."""
    text = orjson.dumps(said, option=orjson.OPT_SORT_KEYS)
    for characters, members in CUTS:
        if len(text) <= BODY_BYTES_MAX:
            break
        short = {**_cut(said, characters, members), "is_cut": True}
        text = orjson.dumps(short, option=orjson.OPT_SORT_KEYS)
    return text.decode()


def _cut(value: Any, characters: int, members: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= characters else f"{value[:characters]}…"
    if isinstance(value, Mapping):
        kept = list(value.items())[: max(members, OWN_MEMBERS)]
        return {name[:characters]: _cut(one, characters, members) for name, one in kept}
    if isinstance(value, list | tuple):
        return [_cut(one, characters, members) for one in value[:members]]
    return value
