"""Incidents: alerts that belong together, what people did about them, and the proof of all that.

Knows: that an incident is verified from what the store gives by the verifier that verifies packs
offline; that whatever is closed already is closed.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from pydantic import Field

from sidecar.control.api.alerts import (
    AGENT,
    READ_S,
    SEVERITY,
    AlertShape,
    NoteShape,
)
from sidecar.control.api.alerts import (
    told as told_alert,
)
from sidecar.control.api.paging import page_of, place, rows_wanted
from sidecar.control.api.parameters import Choice, Flag, Parameter, in_path
from sidecar.control.api.problems import not_found
from sidecar.control.api.rooms import kept
from sidecar.control.api.route import (
    OPERATORS,
    READERS,
    Asked,
    Body,
    Line,
    Listed,
    Reason,
    Route,
    Shape,
)
from sidecar.control.api.times import time_text
from sidecar.soc.alert_states import IncidentState, Move
from sidecar.soc.incident_shown import shown_incident
from sidecar.soc.incidents import alerts_of
from sidecar.soc.narrative import narrative
from sidecar.soc.notes import NOTE_CHARS_MAX
from sidecar.soc.pack_form import Pack
from sidecar.soc.pack_verdict import pack_verdict, unreadable
from sidecar.soc.packing import packed
from storage.records import AFTER_ALL_IDS
from storage.watch_rows import IncidentRow

ROOM: Final = "incidents"
VERIFY_S: Final = 30.0
#: Receipts of a tree whose hashes are not kept that one request has read.
LEAVES_MAX: Final = 10_000
#: Receipts that one request looks at for what was done.
LOOKED_AT_MAX: Final = 20_000


class IncidentShape(Shape):
    """An incident. `status` is its state; `alerts` how many it has; `closed_at` is null until it is
    closed."""

    incident_id: str
    tenant: str
    state: str
    status: str
    severity: str
    agent: str
    run: str
    title: str
    alerts: int
    notes: list[NoteShape]
    opened_at: str
    opened_us: int
    last_at: str
    last_us: int
    changed_at_us: int
    closed_at: str | None


class WholeIncidentShape(IncidentShape):
    """An incident with its alerts."""

    alert_list: list[AlertShape]


class MovedIncidentShape(IncidentShape):
    """An incident as it stands now; `seq` is the receipt that tells of the move, null where it
    stood so already."""

    seq: int | None
    already_closed: bool


class NarrativeShape(Shape):
    """An incident told in order of time, in lines."""

    incident_id: str
    narrative: str


class NewNote(Body):
    """What is to be remembered of an incident."""

    text: Line = Field(min_length=1, max_length=NOTE_CHARS_MAX)


class IncidentVerdictShape(Shape):
    """Whether an incident, as it is told, is what the chain says: nothing is wrong if `faults` is
    empty; what is shown by that and what is not, in sentences. `receipts` of `wanted` hold."""

    verified: bool
    incident_id: str
    receipts: int
    wanted: int
    head_size: int
    faults: list[str]
    shown: list[str]
    not_shown: list[str]


def told(row: IncidentRow) -> dict[str, Any]:
    """An incident as its shape."""
    is_closed = row.state == IncidentState.CLOSED
    shown = shown_incident(row)
    ends = [one["at_us"] for one in shown["notes"] if one["did"] == Move.CLOSE]
    return {
        **shown,
        "status": row.state,
        "opened_at": time_text(row.opened_us),
        "last_at": time_text(row.last_us),
        "closed_at": time_text(ends[-1]) if is_closed and ends else None,
    }


async def list_incidents(asked: Asked) -> Listed:
    """Newest first."""
    values = asked.values
    rows = await asked.rooms.reader.incidents_before(
        asked.tenant,
        place(asked, AFTER_ALL_IDS),
        rows_wanted(asked),
        state=values["status"],
        severity=values["severity"],
        agent=values["agent_id"],
    )
    return page_of(rows, asked, told, lambda row: row.incident_id)


async def get_incident(asked: Asked) -> dict[str, Any]:
    """One incident with its alerts."""
    row = await _found(asked)
    alerts = await alerts_of(asked.rooms.reader, asked.tenant, row.incident_id)
    return {**told(row), "alert_list": [told_alert(one) for one in alerts]}


async def move_incident(move: Move, asked: Asked) -> dict[str, Any]:
    """Moves an incident that is there, on record."""
    await _found(asked)
    incidents = kept(asked.rooms.state.incidents, "incidents")
    moved = await incidents.move_incident(
        asked.tenant,
        asked.values["incident_id"],
        move,
        actor=asked.person.actor,
        text=asked.body.text if move is Move.NOTE else asked.body.reason,
    )
    return {
        **told(moved.incident),
        "seq": moved.seq,
        "already_closed": move is Move.CLOSE and moved.seq is None,
    }


async def narrate_incident(asked: Asked) -> dict[str, Any]:
    """What happened, in order of time, made of the rows alone."""
    row = await _found(asked)
    alerts = await alerts_of(asked.rooms.reader, asked.tenant, row.incident_id)
    return {"incident_id": row.incident_id, "narrative": narrative(row, alerts)}


async def get_pack(asked: Asked) -> bytes:
    """The incident with all it rests on, for `aegis-sidecar soc verify FILE`."""
    pack = await _packed(asked, with_facts=asked.values["facts"])
    return await asked.rooms.backroom.do(asked.person, lambda: pack.model_dump_json().encode())


async def verify_incident(asked: Asked) -> dict[str, Any]:
    """Whether the incident is what the chain says, as far as this sidecar can show."""
    try:
        pack = await _packed(asked, with_facts=False)
    except ValueError as error:
        found = unreadable(asked.tenant, asked.values["incident_id"], error)
    else:
        found = await asked.rooms.backroom.do(asked.person, partial(pack_verdict, pack))
    return {
        "verified": found.holds,
        **{
            name: getattr(found, name)
            for name in IncidentVerdictShape.model_fields
            if name != "verified"
        },
    }


async def _packed(asked: Asked, *, with_facts: bool) -> Pack:
    row = await _found(asked)
    return await packed(
        asked.rooms.reader,
        asked.rooms.clock,
        asked.tenant,
        row.incident_id,
        with_facts=with_facts,
        leaves_max=LEAVES_MAX,
        looked_at_max=LOOKED_AT_MAX,
    )


async def _found(asked: Asked) -> IncidentRow:
    row = await asked.rooms.reader.incident(asked.tenant, asked.values["incident_id"])
    if row is None:
        raise not_found("incident", asked.values["incident_id"])
    return row


INCIDENT: Final = in_path("incident_id", "its id")
_STATES: Final = tuple(state.value for state in IncidentState)

ROUTES: Final = (
    Route(
        "list_incidents", "GET", "/v1/incidents", "Alerts that belong together, newest first",
        READERS, list_incidents, list[IncidentShape],
        (Parameter("status", Choice(_STATES), "in this state", ""), SEVERITY, AGENT),
        pages="offset", time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "get_incident", "GET", "/v1/incidents/{incident_id}", "One incident with its alerts",
        READERS, get_incident, WholeIncidentShape, (INCIDENT,),
        problems=("not_found",), time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "narrate_incident", "GET", "/v1/incidents/{incident_id}/narrate",
        "What happened, in order of time, a line each",
        READERS, narrate_incident, NarrativeShape, (INCIDENT,),
        problems=("not_found",), time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "verify_incident", "GET", "/v1/incidents/{incident_id}/verify",
        "Whether an incident is what the chain says, and what of it is not shown",
        READERS, verify_incident, IncidentVerdictShape, (INCIDENT,),
        problems=("not_found", "refused"), time_limit_s=VERIFY_S, room=ROOM,
    ),
    Route(
        "get_incident_pack", "GET", "/v1/incidents/{incident_id}/evidence-pack",
        "An incident with all it rests on, for `aegis-sidecar soc verify FILE`",
        READERS, get_pack, Pack,
        (INCIDENT, Parameter("facts", Flag(), "with the arguments of calls, masked", True)),
        problems=("not_found", "refused"), time_limit_s=VERIFY_S, room=ROOM,
    ),
    *(
        Route(
            f"{move}_incident", "POST", f"/v1/incidents/{{incident_id}}/{move}", summary,
            OPERATORS, partial(move_incident, move), MovedIncidentShape, (INCIDENT,),
            body=Reason, is_body_optional=True,
            problems=("not_found", "refused"), room=ROOM,
        )
        for move, summary in (
            (Move.ACKNOWLEDGE, "Says that somebody looks at it, on record"),
            (Move.CLOSE, "Ends an incident and its alerts, on record"),
        )
    ),
    Route(
        "note_incident", "POST", "/v1/incidents/{incident_id}/note",
        "Adds a note to an incident, on record",
        OPERATORS, partial(move_incident, Move.NOTE), MovedIncidentShape, (INCIDENT,),
        body=NewNote, problems=("not_found", "refused"), room=ROOM,
    ),
)  # fmt: skip
