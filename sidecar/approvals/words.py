"""How an approval is told to programs that know the words of the authorize API. Pure.

Knows: `created` while it waits, capitals once it is decided. A yes that was spent is still a yes;
one that ended otherwise is none.
Must not know: HTTP, stores, who looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sidecar.approvals.as_asked import read_asked
from sidecar.approvals.states import State
from sidecar.ledger.recorded_call import AUTHORIZE
from storage.standing import ApprovalRow

_STATUS: Final[Mapping[str, str]] = {
    State.PENDING: "created",
    State.APPROVED: "APPROVED",
    State.REJECTED: "REJECTED",
    State.EXPIRED: "EXPIRED",
    State.SPENT: "APPROVED",
    State.WITHDRAWN: "REJECTED",
    State.SUPERSEDED: "EXPIRED",
}


def status_of(row: ApprovalRow) -> str:
    """Its state in one of those words."""
    return _STATUS[row.state]


def action_hash_of(row: ApprovalRow) -> str | None:
    """The hash of the action, as its agent knows it; None of an action that came by the proxy."""
    said = read_asked(row) if row.asked else {}
    return str(said["action_sha256"]) if AUTHORIZE in said else None
