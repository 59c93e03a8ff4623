"""An approval as plain values, for whoever looks at it. Pure.

Knows: that the user whom an agent names, and the words of those who voted before, are read beside
what is asked: nothing in them may hide, or pass for a line of its own.
Must not know: HTTP, terminals, who looks.
"""

from __future__ import annotations

from typing import Any

from sidecar.approvals.as_asked import read_asked
from sidecar.approvals.difference import compared
from sidecar.approvals.states import read_terms, read_votes
from sidecar.policy.printable import printable
from storage.standing import ApprovalRow


def compared_with(row: ApprovalRow, before: ApprovalRow | None) -> dict[str, Any]:
    """The same, and in what it differs from the one that was given last."""
    return {**shown(row), "last_approved": compared(row, before)}


def shown(row: ApprovalRow) -> dict[str, Any]:
    """All that is known of one: what is asked (if that is what stands in the store), what has to be
    given, what was."""
    terms, votes = read_terms(row.terms), read_votes(row.votes)
    return {
        "approval_id": row.approval_id,
        "tenant": row.tenant_id,
        "state": row.state,
        "agent": row.agent_id,
        "user": printable(terms.user) or None,
        "tool": row.tool,
        "asked": read_asked(row),
        "asked_sha256": terms.asked_sha256,
        "action_sha256": row.action_sha256,
        "terms": [
            {
                "rule": term.rule_id,
                "rule_hash": term.rule_hash,
                "approvers": list(term.approvers),
                "quorum": term.quorum,
                "given": sum(vote.is_yes and term.rule_id in vote.rules for vote in votes),
            }
            for term in terms.terms
        ],
        "votes": [
            {
                "actor": vote.actor,
                "vote": "approve" if vote.is_yes else "reject",
                "reason": printable(vote.reason),
                "at_us": vote.at_us,
                "rules": list(vote.rules),
            }
            for vote in votes
        ],
        "call_id": row.call_id,
        "spent_by": row.spent_by or None,
        "asked_at_us": row.asked_at_us,
        "expires_at_us": row.expires_at_us,
        "changed_at_us": row.changed_at_us,
    }
