"""What people do with alerts and incidents: look at those of their tenant, move them, on record.

Knows: that a move rests on the rows it was worked out from and is worked out anew when those are
others by then; that what belongs to another tenant answers as what does not exist.
Must not know: HTTP, the command line, how a person is known.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from sidecar.ledger.commitment import NONCE_BYTES
from sidecar.soc.alert_states import AlertState, IncidentState, Move, alert_after, incident_after
from sidecar.soc.correlation import ALERTS_PER_INCIDENT_MAX
from sidecar.soc.incident_entries import Stamp, told_entry
from sidecar.soc.incident_moves import Moved, alert_move, has_room, incident_move
from sidecar.soc.notes import NOTE_CHARS_MAX, NOTES_MAX, Note
from storage.errors import StoreError
from storage.records import Recorded

if TYPE_CHECKING:
    from sidecar.clock import Clock
    from sidecar.ledger.fence import Fence
    from sidecar.ledger.pin_keeper import Submits
    from storage.protocol import WatchReader
    from storage.watch_rows import AlertRow, IncidentRow

#: How often a move is worked out anew because somebody, or a hit, changed the same rows.
TRIES_MAX: Final = 16

_FIRST: Final = ""


class IncidentRefused(Exception):
    """Nothing was changed: `code` is stable, `next_step` says what to do."""

    def __init__(self, code: str, title: str, next_step: str = "") -> None:
        super().__init__(title)
        self.code = code
        self.title = title
        self.next_step = next_step


class AlertMoved(NamedTuple):
    """An alert as it stands now. `seq` is the receipt's number, None where it stood so already."""

    alert: AlertRow
    seq: int | None


class IncidentMoved(NamedTuple):
    """An incident as it stands now. `seq` is the receipt's number, None where it stood so
    already."""

    incident: IncidentRow
    seq: int | None


class _Planned(NamedTuple):
    """A move worked out from rows as they stand; None of one that was made already."""

    moved: Moved | None
    agent: str


class Incidents:
    """One for a sidecar."""

    def __init__(self, reader: WatchReader, queue: Submits, clock: Clock, fence: Fence) -> None:
        self.reader = reader
        self._queue = queue
        self._clock = clock
        self._fence = fence

    async def move_alert(
        self, tenant: str, alert_id: str, move: Move, *, actor: str, text: str = ""
    ) -> AlertMoved:
        """An alert that was moved, on record. Raises IncidentRefused: unknown_alert, wrong_state,
        and as `_made` does."""
        found: list[AlertRow] = []

        async def plan(note: Note) -> _Planned:
            row = await self.reader.alert(tenant, alert_id)
            if row is None:
                raise unknown_alert(alert_id)
            found[:] = [row]
            moved = alert_move(row, move, note)
            if moved is None:
                if row.state == alert_after(AlertState.OPEN, move):
                    return _Planned(None, row.agent_id)
                raise _wrong_state("alert", alert_id, row.state, move)
            found[:] = [one for one in moved.puts if type(one) is type(row)]
            return _Planned(moved, row.agent_id)

        seq = await self._made(tenant, move, plan, actor, text)
        return AlertMoved(found[0], seq)

    async def move_incident(
        self, tenant: str, incident_id: str, move: Move, *, actor: str, text: str = ""
    ) -> IncidentMoved:
        """An incident that was moved, on record; one that is closed takes its alerts with it.
        Raises IncidentRefused: unknown_incident, wrong_state, notes_full, and as `_made` does."""
        found: list[IncidentRow] = []

        async def plan(note: Note) -> _Planned:
            row = await self.reader.incident(tenant, incident_id)
            if row is None:
                raise unknown_incident(incident_id)
            found[:] = [row]
            if move is Move.NOTE and not has_room(row.notes):
                raise IncidentRefused(
                    "notes_full",
                    f"the incident has {NOTES_MAX} notes already",
                    "Write it where the incident is worked on, and close it.",
                )
            alerts = await alerts_of(self.reader, tenant, incident_id)
            moved = incident_move(row, alerts, move, note)
            if moved is None:
                if row.state == incident_after(IncidentState.OPEN, move):
                    return _Planned(None, row.agent_id)
                raise _wrong_state("incident", incident_id, row.state, move)
            found[:] = [one for one in moved.puts if type(one) is type(row)]
            return _Planned(moved, row.agent_id)

        seq = await self._made(tenant, move, plan, actor, text)
        return IncidentMoved(found[0], seq)

    async def _made(
        self,
        tenant: str,
        move: Move,
        plan: Callable[[Note], Awaitable[_Planned]],
        actor: str,
        text: str,
    ) -> int | None:
        """The number of the receipt that tells of the move; None if there was nothing to move.

        Raises IncidentRefused: bad_note, store_fenced, stale, unreadable, and the store's.
        """
        _require_note(move, text)
        try:
            for _ in range(TRIES_MAX):
                now_us = self._clock.now_us()
                moved, agent = await plan(Note(now_us, actor, move.value, text))
                if moved is None:
                    return None
                if self._fence.is_up:
                    raise IncidentRefused(
                        "store_fenced", "the store stands still", self._fence.sentence()
                    )
                stamp = Stamp(self._clock.new_id(), self._clock.random_bytes(NONCE_BYTES), now_us)
                entry = told_entry(tenant, moved.told, stamp, moved.puts, agent)
                answer = await self._queue.submit(entry)
                if isinstance(answer, Recorded):
                    return answer.seq
        except StoreError as error:
            raise IncidentRefused(error.code, str(error), error.next_step) from error
        except ValueError as error:
            raise IncidentRefused(
                "unreadable",
                f"what the store keeps of it cannot be read: {error}",
                "`aegis-sidecar soc verify` says what was changed.",
            ) from error
        raise IncidentRefused("stale", "it kept changing meanwhile", "Try again.")


async def alerts_of(reader: WatchReader, tenant: str, incident_id: str) -> list[AlertRow]:
    """All alerts of an incident, oldest first. Raises a StoreError of reading."""
    return await reader.alerts_of_incident(tenant, incident_id, _FIRST, ALERTS_PER_INCIDENT_MAX + 1)


def unknown_alert(alert_id: str) -> IncidentRefused:
    """The same for what another tenant has and for what nobody has."""
    return IncidentRefused(
        "unknown_alert", f"there is no alert {alert_id[:80]!a}", "`alerts list` shows them."
    )


def unknown_incident(incident_id: str) -> IncidentRefused:
    """The same for what another tenant has and for what nobody has."""
    return IncidentRefused(
        "unknown_incident",
        f"there is no incident {incident_id[:80]!a}",
        "`incidents list` shows them.",
    )


def _wrong_state(what: str, name: str, state: str, move: Move) -> IncidentRefused:
    return IncidentRefused(
        "wrong_state",
        f"the {what} {name} is {state}, and such an {what} takes no {move}",
        "What happens from now on is a new alert." if state == "closed" else "Look at it again.",
    )


def _require_note(move: Move, text: str) -> None:
    is_missing = move is Move.NOTE and not text.strip()
    if is_missing or len(text) > NOTE_CHARS_MAX or any(_is_unkept(one) for one in text):
        raise IncidentRefused(
            "bad_note", f"a note is text of 1 to {NOTE_CHARS_MAX} characters", "Write it shorter."
        )


def _is_unkept(character: str) -> bool:
    """No store keeps NUL, and half a surrogate pair is no text."""
    return character == "\0" or 0xD800 <= ord(character) <= 0xDFFF
