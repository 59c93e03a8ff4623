"""The audit: who changed what, from what to what; each beside the receipt that commits to it."""

from __future__ import annotations

from typing import Any, Final

import orjson

from sidecar.control.api.parameters import SEQ_MAX, SINCE, UNTIL, Parameter, Text
from sidecar.control.api.problems import not_found
from sidecar.control.api.receipts import SEQ
from sidecar.control.api.route import READERS, Asked, Listed, Route, Shape
from sidecar.control.api.times import time_text
from storage.listings import TIME_MAX_US, ChangeFilter, Listings
from storage.standing import AuditRow

ROOM: Final = "audit"
READ_S: Final = 10.0


class AuditShape(Shape):
    """A change of state. `seq` is that of the receipt which commits to it; before and after are
    null where there is none."""

    seq: int
    at: str
    at_us: int
    actor: str
    action: str
    subject: str
    before: Any
    after: Any
    reason: str


def told(row: AuditRow) -> dict[str, Any]:
    """A change as its shape."""
    return {
        "seq": row.seq,
        "at": time_text(row.at_us),
        "at_us": row.at_us,
        "actor": row.actor,
        "action": row.action,
        "subject": row.subject,
        "before": _state(row.before_state),
        "after": _state(row.after_state),
        "reason": row.reason,
    }


def _state(text: str) -> Any:
    """JSON as it was kept; a text that is none is given as a text."""
    if not text:
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


async def list_audit_events(asked: Asked) -> Listed:
    """Newest first."""
    values = asked.values
    wanted = ChangeFilter(
        actor=values["actor"], action=values["action"], subject=values["subject"],
        since_us=values["from"] or 0,
        until_us=TIME_MAX_US if values["to"] is None else values["to"],
    )  # fmt: skip
    before = SEQ_MAX if asked.position is None else int(asked.position[0])
    offset = values["offset"] if asked.position is None else 0
    found, looked = await Listings(asked.rooms.reader).changes(
        asked.tenant, wanted, before, offset + asked.limit
    )
    return Listed([told(row) for row in found[offset:]], (looked,) if looked else None)


async def get_audit_event(asked: Asked) -> dict[str, Any]:
    """One change, by the seq of its receipt."""
    row = await Listings(asked.rooms.reader).change(asked.tenant, asked.values["seq"])
    if row is None:
        raise not_found("audit event", asked.values["seq"])
    return told(row)


ROUTES: Final = (
    Route(
        "list_audit_events", "GET", "/v1/audit/events", "Changes of state, newest first",
        READERS, list_audit_events, list[AuditShape],
        (
            Parameter("actor", Text(), "by whom, e.g. `person:ana`", ""),
            Parameter("action", Text(), "what was done, e.g. `agent.freeze`", ""),
            Parameter("subject", Text(), "to what, e.g. `agent:coder`", ""),
            SINCE, UNTIL,
        ),
        pages="offset", time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "get_audit_event", "GET", "/v1/audit/events/{seq}", "One change of state",
        READERS, get_audit_event, AuditShape, (SEQ,),
        problems=("not_found",), time_limit_s=READ_S, room=ROOM,
    ),
)  # fmt: skip
