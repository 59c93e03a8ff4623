"""A containment in words: what somebody asks for, read; and what there is, shown. Pure.

Must not know: the store, who may ask, HTTP.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sidecar.identity.changes import ChangeRefused
from sidecar.identity.containment_subjects import (
    BadSubject,
    Subject,
    action_of,
    read_subject,
    subject_of,
)
from sidecar.policy.contained import Action
from storage.watch_rows import ContainmentRow

#: A containment with an end lasts so long.
FOR_US_MIN: Final = 1_000_000
FOR_US_MAX: Final = 366 * 86_400_000_000


class Wanted(NamedTuple):
    """What is to be contained. `for_us` 0 is until it is undone; without `containment_id` one is
    made."""

    tenant: str
    action: Action
    subject: Subject
    actor: str
    reason: str = ""
    for_us: int = 0
    incident_id: str = ""
    containment_id: str = ""


def read_wanted(
    tenant: str,
    action: str,
    subject: str,
    agent: str = "",
    *,
    actor: str,
    for_s: float = 0,
    reason: str = "",
    incident_id: str = "",
) -> Wanted:
    """What somebody asks for in words; `for_s` 0 is until it is undone. Raises ChangeRefused:
    bad_action, bad_subject."""
    try:
        meant = Action(action)
    except ValueError:
        known = ", ".join(one.value for one in Action)
        raise ChangeRefused("bad_action", f"an action is one of {known}") from None
    try:
        about = subject_of(meant, subject, agent)
    except BadSubject as error:
        raise ChangeRefused("bad_subject", str(error)) from error
    return Wanted(tenant, meant, about, actor, reason, int(for_s * 1e6), incident_id)


def require_expiry(wanted: Wanted) -> None:
    """Raises ChangeRefused("bad_expiry")."""
    if not wanted.for_us:
        return
    if wanted.action is Action.REVOKE_AGENT:
        raise ChangeRefused(
            "bad_expiry", "a revocation does not end", "Freeze the agent instead, or leave it out."
        )
    if not FOR_US_MIN <= wanted.for_us <= FOR_US_MAX:
        raise ChangeRefused("bad_expiry", "a containment with an end lasts 1 second to 366 days")


def shown_containment(row: ContainmentRow) -> dict[str, Any]:
    """A containment as people and programs read it."""
    action = action_of(row)
    subject = Subject("", row.subject) if action is None else read_subject(action, row.subject)
    return {
        "containment_id": row.containment_id,
        "tenant": row.tenant_id,
        "state": row.state,
        "action": row.action,
        "subject": row.subject,
        "agent": subject.agent or None,
        "reason": row.reason,
        "actor": row.actor,
        "incident_id": row.incident_id or None,
        "started_us": row.started_us,
        "until_us": row.until_us or None,
        "changed_at_us": row.changed_at_us,
    }
