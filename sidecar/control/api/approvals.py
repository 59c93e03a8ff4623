"""Approvals: what waits for a person's yes, what became of it, the vote, and taking back.

Knows: that an approval is shown as it stands in the store, with what was asked as it was written
down for the approver; and that whether somebody may vote is the approval desk's to say.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from pydantic import Field

from sidecar.approvals.as_asked import is_as_asked
from sidecar.approvals.deciding import LOOKED_AT_MAX, vote_refused
from sidecar.approvals.difference import compared
from sidecar.approvals.refusals import ApprovalRefused
from sidecar.approvals.view import shown
from sidecar.approvals.words import action_hash_of, status_of
from sidecar.control.api.paging import page_of, place, rows_wanted
from sidecar.control.api.parameters import Choice, Parameter, Text, in_path
from sidecar.control.api.problems import not_found
from sidecar.control.api.route import (
    APPROVERS,
    OPERATORS,
    READERS,
    Asked,
    Listed,
    Reason,
    Route,
    Shape,
)
from sidecar.control.api.times import time_text
from sidecar.kept_id import kept_id
from storage.records import AFTER_ALL_IDS
from storage.standing import ApprovalRow

ROOM: Final = "approvals"
#: Approvals that a page looks through for those of an agent or a tool, and that are read at once.
LOOKED_THROUGH_MAX: Final = 2_000
ROWS_AT_ONCE: Final = 100
READ_S: Final = 10.0


class TermShape(Shape):
    """What one rule wants, and how much of it was given; no `approvers` are any approver."""

    rule: str
    rule_hash: str
    approvers: list[str]
    quorum: int
    given: int


class VoteShape(Shape):
    """What a person said, and for which rules it counts."""

    actor: str
    vote: str
    reason: str
    at_us: int
    rules: list[str]


class ApprovalShape(Shape):
    """An approval. `asked` is what the approver reads, `terms` what has to be given, `votes` who
    said what; `spent_by` is the call that went ahead by it. `status` and `action_hash` are the
    state and the action in the words of the authorize API. `vote_refused` is the code with which a
    vote of whoever looks would be refused; null if it would count."""

    approval_id: str
    tenant: str
    state: str
    status: str
    action_hash: str
    agent: str
    user: str | None
    tool: str
    asked: Any
    asked_sha256: str
    action_sha256: str
    terms: list[TermShape]
    votes: list[VoteShape]
    call_id: str
    spent_by: str | None
    asked_at: str
    asked_at_us: int
    expires_at: str
    expires_at_us: int
    changed_at_us: int
    vote_refused: str | None


class DifferenceShape(Shape):
    """One difference, `at` a place of what is asked: `added`, `removed`, `changed`, or `unknown`
    where it is masked, or not kept, and may be another."""

    what: str
    at: str
    before: str | None
    now: str | None


class LastApprovedShape(Shape):
    """The last approved action of the same agent and tool, and the differences from it; some may
    be missing unless `is_whole`."""

    approval_id: str
    asked_at_us: int
    differences: list[DifferenceShape]
    is_whole: bool


class ApprovalDetail(ApprovalShape):
    """An approval beside the one that was given before it; null if there is none."""

    last_approved: LastApprovedShape | None


class Voted(Reason):
    """A vote. `approver_user_id` is taken for the sake of clients that send one: who votes is known
    by the key alone, and stands on record."""

    approver_user_id: str = Field("", max_length=256)


def told(asked: Asked, row: ApprovalRow) -> dict[str, Any]:
    """An approval as its shape; one whose time has run out as expired."""
    now = asked.rooms.approvals.changes.as_it_is(row)
    refused = vote_refused(now, asked.person)
    return {
        **shown(now),
        "status": status_of(now),
        "action_hash": action_hash_of(now) or now.action_sha256,
        "asked_at": time_text(now.asked_at_us),
        "expires_at": time_text(now.expires_at_us),
        "vote_refused": refused.code if refused is not None else None,
    }


def _id(asked: Asked) -> str:
    return kept_id(str(asked.values["approval_id"]))


async def list_approvals(asked: Asked) -> Listed:
    """Those that are open, oldest first; or all, newest first."""
    reader, is_open = asked.rooms.reader, asked.values["state"] == "open"
    read = reader.open_approvals if is_open else reader.approvals_before
    at, wanted = place(asked, "" if is_open else AFTER_ALL_IDS), rows_wanted(asked)
    agent, tool = asked.values["agent_id"], asked.values["tool"]
    if agent is None and tool is None:
        rows = await read(asked.tenant, at, wanted)
        return page_of(rows, asked, partial(told, asked), _id_of)
    found: list[ApprovalRow] = []
    for _ in range(LOOKED_THROUGH_MAX // ROWS_AT_ONCE):
        rows = await read(asked.tenant, at, ROWS_AT_ONCE)
        found += [row for row in rows if agent in (None, row.agent_id) and tool in (None, row.tool)]
        if len(found) >= wanted or len(rows) < ROWS_AT_ONCE:
            return page_of(found[:wanted], asked, partial(told, asked), _id_of)
        at = rows[-1].approval_id
    # What fits seldom gives short pages that go on.
    page = page_of(found, asked, partial(told, asked), _id_of)
    return page if page.next is not None else Listed(page.items, (at,))


def _id_of(row: ApprovalRow) -> str:
    return row.approval_id


async def get_approval(asked: Asked) -> dict[str, Any]:
    """One approval."""
    found = await asked.rooms.reader.approval(asked.tenant, _id(asked))
    if found is None:
        raise not_found("approval", asked.values["approval_id"])
    if not is_as_asked(found):
        raise ApprovalRefused("approval_altered", state=found.state)
    reader = asked.rooms.reader
    before = await reader.approval_granted_before(
        asked.tenant, found.approval_id, found.agent_id, found.tool, LOOKED_AT_MAX
    )
    return {**told(asked, found), "last_approved": compared(found, before)}


async def approve(asked: Asked) -> dict[str, Any]:
    """A yes."""
    deciding = asked.rooms.approvals.deciding
    return await _voted(asked, deciding.approve)


async def reject(asked: Asked) -> dict[str, Any]:
    """A no."""
    deciding = asked.rooms.approvals.deciding
    return await _voted(asked, deciding.reject)


async def withdraw(asked: Asked) -> dict[str, Any]:
    """Taken back."""
    deciding = asked.rooms.approvals.deciding
    return await _voted(asked, deciding.withdraw)


async def _voted(asked: Asked, vote: Callable[..., Awaitable[ApprovalRow]]) -> dict[str, Any]:
    approval_id = _id(asked)
    if await asked.rooms.reader.approval(asked.tenant, approval_id) is None:
        raise not_found("approval", asked.values["approval_id"])
    return told(asked, await vote(asked.tenant, approval_id, asked.person, asked.body.reason))


APPROVAL: Final = in_path("approval_id", "its id")

ROUTES: Final = (
    Route(
        "list_approvals", "GET", "/v1/approvals",
        "What waits for a yes, oldest first; or all approvals, newest first",
        READERS, list_approvals, list[ApprovalShape],
        (
            Parameter("state", Choice(("open", "any")), "pending and approved, or all", "open"),
            Parameter("agent_id", Text(), "only what this agent asks"),
            Parameter("tool", Text(), "only what is asked of this tool"),
        ),
        pages="offset", time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "get_approval", "GET", "/v1/approvals/{approval_id}",
        "One approval, and in what it differs from the last one of the same agent and tool",
        READERS, get_approval, ApprovalDetail, (APPROVAL,),
        problems=("not_found", "refused"), time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "approve", "POST", "/v1/approvals/{approval_id}/approve", "Says yes, on record",
        APPROVERS, approve, ApprovalShape, (APPROVAL,), body=Voted, is_body_optional=True,
        problems=("not_found", "refused"), room=ROOM,
    ),
    Route(
        "withdraw", "POST", "/v1/approvals/{approval_id}/withdraw",
        "Takes back a question, or a yes that nothing was done by yet, on record",
        APPROVERS | OPERATORS, withdraw, ApprovalShape, (APPROVAL,), body=Reason,
        is_body_optional=True, problems=("not_found", "refused"), room=ROOM,
    ),
    Route(
        "reject", "POST", "/v1/approvals/{approval_id}/reject", "Says no, on record",
        APPROVERS, reject, ApprovalShape, (APPROVAL,), body=Voted, is_body_optional=True,
        problems=("not_found", "refused"), room=ROOM,
    ),
)  # fmt: skip
