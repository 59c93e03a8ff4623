"""Alerts: what detections noticed, on which receipts it rests, and what people did about it."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from sidecar.control.api.paging import page_of, place, rows_wanted
from sidecar.control.api.parameters import Choice, Parameter, Text, in_path
from sidecar.control.api.problems import not_found
from sidecar.control.api.rooms import kept
from sidecar.control.api.route import OPERATORS, READERS, Asked, Listed, Reason, Route, Shape
from sidecar.control.api.times import time_text
from sidecar.soc.alert_states import AlertState, Move
from sidecar.soc.incident_shown import shown_alert
from sidecar.soc.model import SEVERITIES
from storage.records import AFTER_ALL_IDS
from storage.watch_rows import AlertRow

ROOM: Final = "alerts"
READ_S: Final = 10.0


class EvidenceShape(Shape):
    """A receipt that something rests on. `call_id` is "" of what belongs to no call."""

    seq: int
    receipt_hash: str
    call_id: str
    at_us: int


class RestsOnShape(Shape):
    """The receipts an alert was raised for, to which a receipt commits; the last ones of later
    hits; and at least how many more there were."""

    raised: list[EvidenceShape]
    joined: list[EvidenceShape]
    left_out: int


class NoteShape(Shape):
    """What was said or done."""

    at_us: int
    actor: str
    did: str
    text: str


class AlertShape(Shape):
    """An alert. `subject` is whom or what its detection counts apart; `hits` how often it was seen
    since, up to `quiet_until_us`; `incident_id` is "" of one that belongs to none."""

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
    evidence: RestsOnShape
    notes: list[NoteShape]
    first_at: str
    first_us: int
    last_at: str
    last_us: int
    quiet_until_us: int
    changed_at_us: int


class MovedAlertShape(AlertShape):
    """An alert as it stands now; `seq` is the receipt that tells of the move, null where it stood
    so already."""

    seq: int | None


def told(row: AlertRow) -> dict[str, Any]:
    """An alert as its shape."""
    return {
        **shown_alert(row),
        "first_at": time_text(row.first_us),
        "last_at": time_text(row.last_us),
    }


async def list_alerts(asked: Asked) -> Listed:
    """Newest first."""
    values = asked.values
    rows = await asked.rooms.reader.alerts_before(
        asked.tenant,
        place(asked, AFTER_ALL_IDS),
        rows_wanted(asked),
        state=values["status"],
        severity=values["severity"],
        detection=values["detection"],
        agent=values["agent_id"],
    )
    return page_of(rows, asked, told, lambda row: row.alert_id)


async def get_alert(asked: Asked) -> dict[str, Any]:
    """One alert."""
    return told(await _found(asked))


async def move_alert(move: Move, asked: Asked) -> dict[str, Any]:
    """Moves an alert that is there, on record."""
    await _found(asked)
    incidents = kept(asked.rooms.state.incidents, "incidents")
    moved = await incidents.move_alert(
        asked.tenant,
        asked.values["alert_id"],
        move,
        actor=asked.person.actor,
        text=asked.body.reason,
    )
    return {**told(moved.alert), "seq": moved.seq}


async def _found(asked: Asked) -> AlertRow:
    row = await asked.rooms.reader.alert(asked.tenant, asked.values["alert_id"])
    if row is None:
        raise not_found("alert", asked.values["alert_id"])
    return row


ALERT: Final = in_path("alert_id", "its id")
SEVERITY: Final = Parameter("severity", Choice(tuple(SEVERITIES)), "of exactly this severity", "")
AGENT: Final = Parameter("agent_id", Text(), "about this agent", "")
_STATES: Final = tuple(state.value for state in AlertState)

ROUTES: Final = (
    Route(
        "list_alerts", "GET", "/v1/alerts", "What was noticed, newest first",
        READERS, list_alerts, list[AlertShape],
        (
            Parameter("status", Choice(_STATES), "in this state", ""), SEVERITY, AGENT,
            Parameter("detection", Text(), "by this detection", ""),
        ),
        pages="offset", time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "get_alert", "GET", "/v1/alerts/{alert_id}", "One alert",
        READERS, get_alert, AlertShape, (ALERT,),
        problems=("not_found",), time_limit_s=READ_S, room=ROOM,
    ),
    *(
        Route(
            f"{move}_alert", "POST", f"/v1/alerts/{{alert_id}}/{move}", summary,
            OPERATORS, partial(move_alert, move), MovedAlertShape, (ALERT,),
            body=Reason, is_body_optional=True,
            problems=("not_found", "refused"), room=ROOM,
        )
        for move, summary in (
            (Move.ACKNOWLEDGE, "Says that somebody looks at it, on record"),
            (Move.CLOSE, "Ends an alert, on record; later hits raise another"),
        )
    ),
)  # fmt: skip
