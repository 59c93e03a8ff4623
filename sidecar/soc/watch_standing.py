"""What people and files change under a watcher: alerts that are closed, detections that are others.

Knows: that a closed alert was looked at, so that what it rested on counts no more, and that its
receipt stands in the record, so that reading again comes to the same; that what a detection would
have found before it was there has been told to nobody, and which ones looked so far stands beside
the mark.
Must not know: how a record is read, how events are counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from sidecar.soc.alert_states import Move
from sidecar.soc.incidents import alerts_of
from storage.watch_rows import AlertRow, WatchMemory

if TYPE_CHECKING:
    from sidecar.soc.detection import Detections
    from storage.protocol import WatchReader
    from storage.records import ReceiptRow

#: Stands where a memory names its detection; no detection can be called that.
KNOWN: Final = ":detections"
#: Said by nobody before this, so that the row is never forgotten.
_ALWAYS_US: Final = 2**62

_ALERT: Final = "alert:"
_INCIDENT: Final = "incident:"
_CLOSES: Final = frozenset({f"alert.{Move.CLOSE}", f"incident.{Move.CLOSE}"})


class Closed(NamedTuple):
    """An alert that people have closed, as far as a detection counts it: when it was last found."""

    detection: str
    subject: tuple[str, ...]
    found_us: int


def closes(receipt: ReceiptRow) -> bool:
    """Whether a receipt tells of alerts that people closed."""
    return receipt.action in _CLOSES


async def closed_by(reader: WatchReader, receipt: ReceiptRow) -> list[Closed]:
    """The alerts that a receipt closes. Raises a StoreError."""
    tenant, named = receipt.tenant_id, receipt.resource or ""
    if named.startswith(_INCIDENT):
        rows = await alerts_of(reader, tenant, named.removeprefix(_INCIDENT))
    else:
        row = await reader.alert(tenant, named.removeprefix(_ALERT))
        rows = [] if row is None else [row]
    return [Closed(row.detection, _subject_of(row), row.last_us) for row in rows]


def known_by(row: WatchMemory | None) -> Mapping[str, str]:
    """The detections that looked so far, each with its form; none where nobody has noted any."""
    try:
        said = orjson.loads(row.state) if row is not None else {}
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}


def new_to(known: Mapping[str, str], detections: Detections) -> frozenset[str]:
    """The names of those that have not looked so far, or were others then."""
    return frozenset(one.name for one in detections.all if known.get(one.name) != one.form)


def noted(tenant: str, row: WatchMemory | None, detections: Detections) -> WatchMemory:
    """These, as those that look from now on; one version after what stands."""
    forms = {one.name: one.form for one in detections.all}
    text = orjson.dumps(forms, option=orjson.OPT_SORT_KEYS).decode()
    return WatchMemory(tenant, KNOWN, "", 1 if row is None else row.version + 1, text, _ALWAYS_US)


def own_rows(rows: Iterable[WatchMemory]) -> WatchMemory | None:
    """The row that `noted` gave, among all of a tenant."""
    return next((row for row in rows if row.detection == KNOWN), None)


def _subject_of(row: AlertRow) -> tuple[str, ...]:
    try:
        said = orjson.loads(row.subject)
    except orjson.JSONDecodeError:
        return ()
    return tuple(map(str, said)) if isinstance(said, list) else ()
