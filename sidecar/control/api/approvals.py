"""Approvals: what waits for a person's yes, what became of it, and the vote itself.

Knows: that an approval is shown as it stands in the store, with what was asked as it was written
down for the approver; and that whether somebody may vote is the approval desk's to say.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from sidecar.control.api.parameters import Choice, Parameter, in_path
from sidecar.control.api.problems import not_found
from sidecar.control.api.rooms import kept
from sidecar.control.api.route import APPROVERS, READERS, Asked, Listed, Reason, Route, Shape
from sidecar.control.api.times import time_text
from storage.standing import ApprovalRow

ROOM: Final = "approvals"
READ_S: Final = 10.0
#: After every id there is: ids are hex digits.
_LAST: Final = "~"


class ApprovalShape(Shape):
    """An approval. `asked` is what the approver reads, `terms` what has to be given, `votes` who
    said what."""

    approval_id: str
    state: str
    version: int
    action_sha256: str
    agent_id: str
    call_id: str
    tool: str
    terms: Any
    asked: Any
    votes: Any
    asked_at: str
    asked_at_us: int
    expires_at: str
    expires_at_us: int
    changed_at_us: int
    spent_by: str | None


def told(row: ApprovalRow) -> dict[str, Any]:
    """An approval as its shape."""
    return {
        "approval_id": row.approval_id, "state": row.state, "version": row.version,
        "action_sha256": row.action_sha256, "agent_id": row.agent_id, "call_id": row.call_id,
        "tool": row.tool, "terms": _json(row.terms), "asked": _json(row.asked),
        "votes": _json(row.votes), "asked_at": time_text(row.asked_at_us),
        "asked_at_us": row.asked_at_us, "expires_at": time_text(row.expires_at_us),
        "expires_at_us": row.expires_at_us, "changed_at_us": row.changed_at_us,
        "spent_by": row.spent_by or None,
    }  # fmt: skip


def _json(text: str) -> Any:
    return orjson.loads(text) if text else None


async def list_approvals(asked: Asked) -> Listed:
    """Those that are open, oldest first; or all, newest first."""
    reader, tenant, values = asked.rooms.reader, asked.tenant, asked.values
    offset = values["offset"] if asked.position is None else 0
    is_open = values["state"] == "open"
    at = str(asked.position[0]) if asked.position is not None else ("" if is_open else _LAST)
    read = reader.open_approvals if is_open else reader.approvals_before
    rows = (await read(tenant, at, offset + asked.limit + 1))[offset:]
    page = rows[: asked.limit]
    return Listed(
        [told(row) for row in page],
        (page[-1].approval_id,) if len(rows) > asked.limit else None,
    )


async def get_approval(asked: Asked) -> dict[str, Any]:
    """One approval."""
    found = await asked.rooms.reader.approval(asked.tenant, asked.values["approval_id"])
    if found is None:
        raise not_found("approval", asked.values["approval_id"])
    return told(found)


async def approve(asked: Asked) -> dict[str, Any]:
    """A yes."""
    return await _voted(asked, True)


async def reject(asked: Asked) -> dict[str, Any]:
    """A no."""
    return await _voted(asked, False)


async def _voted(asked: Asked, is_yes: bool) -> dict[str, Any]:
    desk, approval_id = kept(asked.rooms.approvals, "approvals"), asked.values["approval_id"]
    if await asked.rooms.reader.approval(asked.tenant, approval_id) is None:
        raise not_found("approval", approval_id)
    return told(await desk.vote(asked.person, approval_id, is_yes, asked.body.reason))


APPROVAL: Final = in_path("approval_id", "its id")

ROUTES: Final = (
    Route(
        "list_approvals", "GET", "/v1/approvals",
        "What waits for a yes, oldest first; or all approvals, newest first",
        READERS, list_approvals, list[ApprovalShape],
        (Parameter("state", Choice(("open", "any")), "pending and approved, or all", "open"),),
        pages="offset", time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "get_approval", "GET", "/v1/approvals/{approval_id}", "One approval",
        READERS, get_approval, ApprovalShape, (APPROVAL,),
        problems=("not_found",), time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "approve", "POST", "/v1/approvals/{approval_id}/approve", "Says yes, on record",
        APPROVERS, approve, ApprovalShape, (APPROVAL,), body=Reason, is_body_optional=True,
        problems=("not_found", "not_kept", "refused"), room=ROOM,
    ),
    Route(
        "reject", "POST", "/v1/approvals/{approval_id}/reject", "Says no, on record",
        APPROVERS, reject, ApprovalShape, (APPROVAL,), body=Reason, is_body_optional=True,
        problems=("not_found", "not_kept", "refused"), room=ROOM,
    ),
)  # fmt: skip
