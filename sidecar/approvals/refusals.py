"""What people meet who look at approvals and vote: stable codes, HTTP statuses, what to do next.

Knows: that an approval of another tenant answers as one that does not exist.
Must not know: HTTP, the store; what the agents meet stands in sidecar/errors.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from sidecar.approvals.states import State


class _Kind(NamedTuple):
    status: int
    title: str
    next_step: str


KINDS: Final[Mapping[str, _Kind]] = {
    "unknown_approval": _Kind(
        404, "There is no such approval", "`approvals list` shows those that wait."
    ),
    "approval_already_decided": _Kind(
        409, "It is decided already, and the first decision stands", "`approvals show` says how."
    ),
    "approval_expired": _Kind(
        409, "It was not decided in time", "The agent's next call of this kind asks anew."
    ),
    "already_voted": _Kind(409, "This person has voted", "Another approver has to."),
    "own_approval": _Kind(
        403, "Nobody decides on what he asks for himself", "Let another approver decide."
    ),
    "not_an_approver": _Kind(
        403,
        "This person is no approver of any rule that asks",
        "The rules name their approvers; see `approvals show`.",
    ),
    "approval_altered": _Kind(
        409,
        "What stands in the store is not what was asked",
        "Do not decide on it: `approvals withdraw` takes it back, and the agent's next call asks "
        "anew. Somebody has changed the store: see `receipts verify`.",
    ),
    "forged_link": _Kind(403, "This link was not made here", "Ask for a new link."),
    "expired_link": _Kind(403, "This link is over", "Ask for a new link, if it still waits."),
    "approver_gone": _Kind(
        403,
        "Whom this link was made for is no approver of this any more",
        "Ask another approver; `approvals link` makes a link for one.",
    ),
    "approval_changing": _Kind(503, "Others decide on it at this moment", "Try again."),
}


class ApprovalRefused(Exception):
    """A vote or a look that is refused: `code` is stable, `state` that of the approval if known."""

    def __init__(
        self, code: str, *, state: str = "", title: str = "", next_step: str = "", status: int = 0
    ) -> None:
        kind = KINDS.get(code, _Kind(503, title, next_step))
        self.code = code
        self.status = status or kind.status
        self.title = title or kind.title
        self.next_step = next_step or kind.next_step
        self.state = state
        super().__init__(f"{code}: {self.title}")


def already(state: str) -> ApprovalRefused:
    """What whoever comes after the end meets."""
    if state == State.EXPIRED:
        return ApprovalRefused("approval_expired", state=state)
    if state == State.SPENT:
        return ApprovalRefused(
            "approval_already_decided",
            state=state,
            title="It was approved, and the yes is spent: the call went ahead",
            next_step="`approvals show` names the call.",
        )
    return ApprovalRefused("approval_already_decided", state=state)
