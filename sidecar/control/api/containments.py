"""Containments: what is blocked, or has to be asked for, whatever the rules say.

Knows: that only an admin revokes; that one whose time is over is shown as it stands on record,
where it is ended a moment later.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field

from sidecar.control.api.paging import page_of, place, rows_wanted
from sidecar.control.api.parameters import Choice, Parameter, in_path
from sidecar.control.api.problems import ApiProblem, not_found
from sidecar.control.api.route import (
    OPERATORS,
    READERS,
    WHOLE,
    Asked,
    Body,
    Line,
    Listed,
    Reason,
    Route,
    Shape,
)
from sidecar.control.containment_care import told
from sidecar.identity.containment_subjects import STATES, SUBJECT_CHARS_MAX
from sidecar.identity.containment_words import FOR_US_MAX, read_wanted, shown_containment
from sidecar.model import Role
from sidecar.policy.contained import Action
from storage.records import AFTER_ALL_IDS

ROOM: Final = "containments"
READ_S: Final = 10.0
ACTIONS: Final = tuple(action.value for action in Action)
FOR_S_MAX: Final = FOR_US_MAX // 1_000_000


class ContainmentShape(Shape):
    """A containment. `subject` is what is contained; `agent` is the only agent it holds for, null
    for all. `until_us` is null for one that lasts until it is undone. `reason` and `actor` are not
    told to agents."""

    containment_id: str
    tenant: str
    state: str
    action: str
    subject: str
    agent: str | None
    reason: str
    actor: str
    incident_id: str | None
    started_us: int
    until_us: int | None
    changed_at_us: int


class ContainsShape(ContainmentShape):
    """A containment after a change, and the receipt that tells of it. `agent_state` is how the
    agent stands whose standing it is about, null of any other; `remark` is what is odd about one
    that was begun, such as a tool's name that nothing here is known by."""

    seq: int | None
    agent_state: str | None
    remark: str | None


class NewContainment(Body):
    """What is to be contained. `subject` is AGENT (freeze-agent, quarantine-agent, revoke-agent,
    force-approval), UPSTREAM/OPERATION (block-tool, force-approval), an upstream, a host, AGENT or
    AGENT/RUN-ID (block-run). `agent` makes it hold for that agent only. Without `for_s` it lasts
    until it is undone."""

    action: str = Field(pattern=f"^({'|'.join(ACTIONS)})$")
    subject: Line = Field(min_length=1, max_length=SUBJECT_CHARS_MAX)
    agent: Line = Field("", max_length=63)
    for_s: Annotated[int, Field(ge=1, le=FOR_S_MAX), WHOLE] | None = None
    reason: Line = Field("", max_length=1024)
    incident_id: Line = Field("", max_length=64)


async def list_containments(asked: Asked) -> Listed:
    """Newest first."""
    values = asked.values
    rows = await asked.rooms.reader.containments_before(
        asked.tenant, place(asked, AFTER_ALL_IDS), rows_wanted(asked), state=values["state"],
        action=values["action"],
    )  # fmt: skip
    return page_of(rows, asked, shown_containment, lambda row: row.containment_id)


async def get_containment(asked: Asked) -> dict[str, Any]:
    """One containment."""
    containment_id = asked.values["containment_id"]
    row = await asked.rooms.reader.containment(asked.tenant, containment_id)
    if row is None:
        raise not_found("containment", containment_id)
    return shown_containment(row)


async def contain(asked: Asked) -> dict[str, Any]:
    """Begins one."""
    new = asked.body
    if new.action == Action.REVOKE_AGENT and Role.ADMIN not in asked.person.roles:
        raise ApiProblem("role_required", "a revocation is final: only an admin revokes")
    wanted = read_wanted(
        asked.tenant, new.action, new.subject, new.agent, actor=asked.person.actor,
        for_s=new.for_s or 0, reason=new.reason, incident_id=new.incident_id,
    )  # fmt: skip
    return told(await asked.rooms.containing.contain(wanted))


async def undo_containment(asked: Asked) -> dict[str, Any]:
    """Ends one."""
    await get_containment(asked)
    return told(
        await asked.rooms.containing.undo(
            asked.tenant, asked.values["containment_id"], actor=asked.person.actor,
            reason=asked.body.reason,
        )
    )  # fmt: skip


CONTAINMENT: Final = in_path("containment_id", "its id")

ROUTES: Final = (
    Route(
        "list_containments", "GET", "/v1/containments", "Containments, newest first",
        READERS, list_containments, list[ContainmentShape],
        (
            Parameter("state", Choice(STATES), "that stand so", ""),
            Parameter("action", Choice(ACTIONS), "that do this", ""),
        ),
        pages="cursor", time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "contain", "POST", "/v1/containments",
        "Contains an agent, a tool, an upstream, a destination or a run; decisions in flight are "
        "stale. Only an admin revokes",
        OPERATORS, contain, ContainsShape, body=NewContainment,
        problems=("not_found", "refused"), room=ROOM,
    ),
    Route(
        "get_containment", "GET", "/v1/containments/{containment_id}", "One containment",
        READERS, get_containment, ContainmentShape, (CONTAINMENT,),
        problems=("not_found",), time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "undo_containment", "POST", "/v1/containments/{containment_id}/undo",
        "Ends a containment; an agent it stopped stands as before, unless somebody has changed it "
        "since",
        OPERATORS, undo_containment, ContainsShape, (CONTAINMENT,), body=Reason,
        is_body_optional=True, problems=("not_found", "refused"), room=ROOM,
    ),
)  # fmt: skip
