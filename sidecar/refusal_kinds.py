"""What a kind of refusal is, and those of calls that wait for a person's yes.

Must not know: how a refusal is raised or said; the one table of all kinds stands in refusals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class RefusalKind:
    """A kind of refusal: stable code, HTTP status, a title, and what the caller can do."""

    code: str
    status: int
    title: str
    next_step: str


OF_APPROVALS: Final = (
    RefusalKind(
        "approval_pending",
        403,
        "This call waits for an approval",
        "Make the same call again after Retry-After: once approved it goes through, once.",
    ),
    RefusalKind(
        "approval_rejected",
        403,
        "An approver said no to this call",
        "Do not repeat it. Ask the approver, or do something else.",
    ),
    RefusalKind(
        "approval_expired",
        403,
        "Nobody approved this call in time",
        "Make the call again to ask anew.",
    ),
    RefusalKind(
        "approval_spent",
        403,
        "The approval was used by another call of this kind",
        "Make the call again to ask anew, if it is to happen twice.",
    ),
    RefusalKind(
        "approval_outdated",
        403,
        "The rules that ask have changed since it was approved",
        "A new approval was opened: make the same call again after Retry-After.",
    ),
    RefusalKind(
        "approval_withdrawn",
        403,
        "The approval was withdrawn",
        "Do not make this call again unless who withdrew it agrees: it would ask anew.",
    ),
    RefusalKind(
        "approvals_full",
        429,
        "Too many approvals wait already",
        "Wait until some are decided, then make the call again.",
    ),
)
