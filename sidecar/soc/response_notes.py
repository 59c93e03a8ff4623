"""Writes what was contained, or recommended, where people read of it: on the alert, its incident.

Knows: that an incident somebody or something was contained for is contained, on record, and that a
recommendation is a note on it; that a note that cannot be written undoes nothing, and is said.
Must not know: how a response is carried out, or whether.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from sidecar.soc.alert_states import Move
from sidecar.soc.incidents import IncidentRefused
from sidecar.soc.notes import NOTE_CHARS_MAX, Note, with_note
from storage.errors import StoreError

if TYPE_CHECKING:
    from sidecar.clock import Clock
    from sidecar.soc.incidents import Incidents
    from sidecar.soc.responding import Raised, Responded
    from storage.protocol import WatchStore
    from storage.watch_rows import ContainmentRow

_log = logging.getLogger("aegis.soc")

RESPOND: Final = "respond"
RECOMMEND: Final = "recommend"
#: How often a note is written anew because a hit, or somebody, changed the alert.
TRIES_MAX: Final = 8


class ResponseNotes:
    """See `responding.Tells`."""

    def __init__(self, store: WatchStore, incidents: Incidents, clock: Clock) -> None:
        self._store = store
        self._incidents = incidents
        self._clock = clock

    async def __call__(self, raised: Raised, responded: Responded, actor: str) -> None:
        """Once for each alert."""
        text = responded.text[:NOTE_CHARS_MAX]
        for write in (self._on_alert, self._on_incident):
            try:
                await write(raised, responded, actor, text)
            except (StoreError, IncidentRefused) as error:
                _log.warning(
                    "what became of a response could not be noted",
                    extra={"code": raised.hit.detection, "cause": error.code, "detail": text},
                )

    async def _on_alert(self, raised: Raised, responded: Responded, actor: str, text: str) -> None:
        tenant, alert_id = raised.alert.tenant_id, raised.alert.alert_id
        did = RESPOND if responded.is_done else RECOMMEND
        for _ in range(TRIES_MAX):
            row = await self._store.alert(tenant, alert_id)
            if row is None:
                return
            now_us = self._clock.now_us()
            try:
                notes = with_note(row.notes, Note(now_us, actor, did, text))
            except ValueError as error:
                raise IncidentRefused("unreadable", "its notes cannot be read") from error
            put = row._replace(version=row.version + 1, notes=notes, changed_at_us=now_us)
            if await self._store.put_rows(tenant, [put]):
                return
        raise IncidentRefused("stale", "the alert kept changing meanwhile", "")

    async def _on_incident(
        self, raised: Raised, responded: Responded, actor: str, text: str
    ) -> None:
        tenant, incident_id = raised.alert.tenant_id, raised.alert.incident_id
        if not incident_id:
            return
        if responded.is_done:
            await contained_for(self._incidents, tenant, incident_id, actor, text)
            return
        await self._incidents.move_incident(tenant, incident_id, Move.NOTE, actor=actor, text=text)


class ContainmentNotes:
    """See `containment_telling.NotesContainments`."""

    def __init__(self, incidents: Incidents) -> None:
        self._incidents = incidents

    async def __call__(self, row: ContainmentRow) -> str:
        """See `NotesContainments`."""
        tenant, incident_id = row.tenant_id, row.incident_id
        text = f"{row.action} {row.subject}: containment {row.containment_id}"
        try:
            await contained_for(self._incidents, tenant, incident_id, row.actor, text)
        except IncidentRefused as refused:
            return f"its incident does not tell of it: {refused.title}"
        return ""


async def contained_for(
    incidents: Incidents, tenant: str, incident_id: str, actor: str, text: str
) -> None:
    """An incident for which something was contained is contained, on record; one that is so
    already, or is closed, has a note of it. Raises IncidentRefused."""
    try:
        moved = await incidents.move_incident(
            tenant, incident_id, Move.CONTAIN, actor=actor, text=text
        )
        if moved.seq is not None:
            return
    except IncidentRefused as refused:
        if refused.code != "wrong_state":
            raise
    await incidents.move_incident(tenant, incident_id, Move.NOTE, actor=actor, text=text)
