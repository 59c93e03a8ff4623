"""What a containment makes of its tenant as it is known: agents moved and restored, bounds. Pure.

Must not know: the store, queues, who contains what.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sidecar.identity.agent_states import Move, after
from sidecar.identity.changes import ChangeRefused, existing, row_of, way_on
from sidecar.identity.containment_subjects import (
    FINAL_STATE,
    OF_STANDING,
    Subject,
    before_of,
    text_of,
)
from sidecar.policy.contained import Action
from storage.standing import AgentRow
from storage.watch_rows import ContainmentRow

if TYPE_CHECKING:
    from sidecar.identity.containment_words import Wanted
    from sidecar.identity.registry import TenantView

#: Active ones of a tenant. Every call of it is compared with all of them.
CONTAINMENTS_MAX: Final = 200
MOVES: Final = {
    Action.FREEZE_AGENT: Move.FREEZE,
    Action.QUARANTINE_AGENT: Move.QUARANTINE,
    Action.REVOKE_AGENT: Move.REVOKE,
}


def require_room(view: TenantView, wanted: Wanted) -> None:
    """Raises ChangeRefused: already_contained, too_many."""
    text = text_of(wanted.action, wanted.subject)
    for row in view.containments:
        if row.action == wanted.action.value and row.subject == text:
            raise ChangeRefused(
                "already_contained",
                f"{wanted.action} of {text} is active already: {row.containment_id}",
                "`containments undo` ends it; then it may begin anew.",
            )
    # What ends an agent is never kept out: it takes no place.
    if len(view.containments) >= CONTAINMENTS_MAX and wanted.action is not Action.REVOKE_AGENT:
        raise ChangeRefused(
            "too_many",
            f"{view.tenant} has {CONTAINMENTS_MAX} active containments already",
            "Undo some of them: `containments list`.",
        )


def moved(view: TenantView, wanted: Wanted, now_us: int) -> tuple[dict[str, Any], AgentRow]:
    """What undoing has to know, and the agent as it is to stand."""
    now = existing(view, wanted.subject.agent)
    state = after(now.state, MOVES[wanted.action])
    if state is None:
        raise ChangeRefused(
            "wrong_state", f"{view.tenant}/{now.agent} is {now.state}", way_on(now.state)
        )
    row = row_of(view, now)
    put = row._replace(version=row.version + 1, state=state.value, changed_at_us=now_us)
    return {"agent_state": row.state, "agent_version": put.version}, put


def restored(
    view: TenantView, row: ContainmentRow, now_us: int, rotated: int | None
) -> AgentRow | None:
    """The agent as it stood before, if nobody has moved it since (`rotated` is a version to which
    only new tokens led); None if there is nothing to restore."""
    before = before_of(row)
    agent = view.rows.get(row.subject)
    if agent is None or agent.version not in (before.get("agent_version"), rotated):
        return None
    return agent._replace(
        version=agent.version + 1, state=str(before["agent_state"]), changed_at_us=now_us
    )


def not_active(row: ContainmentRow) -> ChangeRefused:
    """Why one that has ended is not ended."""
    if row.state == FINAL_STATE:
        return ChangeRefused(
            "wrong_state", "a revocation is final", "Register an agent of another name."
        )
    return ChangeRefused("wrong_state", f"the containment {row.containment_id} is {row.state}")


def audited(action: Action, subject: Subject, containment_id: str) -> str:
    """What an auditor finds it under."""
    return f"agent:{subject.agent}" if action in OF_STANDING else f"containment:{containment_id}"
