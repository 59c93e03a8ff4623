"""How an approval is told to the agent whose action waits for it. Pure.

Knows: the members its clients know. A yes that was spent has the time at which that was. There are
no edited actions: an edited action is a new one, and asks anew.
Must not know: HTTP, stores, who looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from sidecar.approvals.states import State, read_terms, read_votes
from sidecar.approvals.words import action_hash_of, status_of
from sidecar.authorize.answers import dashed, timestamp
from sidecar.authorize.asking import said_of
from sidecar.ledger.recorded_call import AUTHORIZE
from storage.standing import ApprovalRow

#: By these a person said something.
_DECIDED: Final = frozenset({State.APPROVED, State.REJECTED, State.SPENT})


def polled(row: ApprovalRow) -> dict[str, Any]:
    """The approval as its agent sees it."""
    asked, votes = orjson.loads(row.asked), read_votes(row.votes)
    hashed = action_hash_of(row) or row.action_sha256
    approvers = ",".join(said_of(row).approvers)
    said = votes[-1] if votes else None
    decided = row.state in _DECIDED and said is not None
    return {
        "approval_id": dashed(row.approval_id),
        "status": status_of(row),
        "state": row.state,
        "approver_group": approvers or None,
        "approver_user_id": said.name if said is not None and decided else None,
        "reason": said.reason if said is not None and decided else asked.get("reason"),
        "action_hash": hashed,
        "original_action_hash": hashed,
        "edited_action_hash": None,
        "effective_action_hash": hashed,
        "is_edited": False,
        "tool_call": _tool_call(asked),
        "edited_tool_call": None,
        "agent_id": row.agent_id,
        "user_id": read_terms(row.terms).user or None,
        "expires_at": timestamp(row.expires_at_us),
        "decided_at": timestamp(said.at_us) if said is not None and decided else None,
        "consumed_at": timestamp(row.changed_at_us) if row.state == State.SPENT else None,
    }


def _tool_call(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The action as approvers were shown it, masked where they were not to see it."""
    own = asked.get(AUTHORIZE, {})
    return {
        "tool": own.get("tool", asked["tool"]),
        "action": asked["method"],
        "resource": asked["path"] or None,
        "mutates_state": own.get("mutates_state", asked["mutates"]),
        "parameters": asked["arguments"],
    }
