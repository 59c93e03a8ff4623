"""Whether people have let go since: what a detection had contained, and they ended on purpose.

Knows: that who ends a containment has seen what led to it, so that what happened before then is no
reason to begin the same again by itself; what happens afterwards is. Receipts say what was before
what: clocks of several nodes differ.
Must not know: what else keeps a response from being done, how a containment is ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import orjson

from sidecar.policy.contained import Action
from storage.records import AFTER_ALL_IDS
from storage.standing import AuditRow
from storage.watch_rows import ContainmentRow

if TYPE_CHECKING:
    from sidecar.soc.model import Hit

#: In front of a detection's name, where a record names who acted.
DETECTION: Final = "detection:"
#: So many of the newest containments of the action, and of the newest endings, are looked at.
LOOKED_AT_MAX: Final = 50

_UNDO: Final = "containment.undo"
#: What stands on record under the agent's own name, and how else it is ended.
_OF_STANDING: Final = {
    Action.FREEZE_AGENT: "agent.unfreeze",
    Action.QUARANTINE_AGENT: "agent.restore",
}
_NEWEST: Final = 2**62


class Reads(Protocol):
    """What is needed of a store."""

    async def containments_before(
        self, tenant_id: str, before_id: str, limit: int, *, state: str = "", action: str = ""
    ) -> list[ContainmentRow]:
        """Containments, newest first."""
        ...

    async def audit_events(
        self, tenant_id: str, before_seq: int, limit: int, *, actor: str = "", action: str = "",
        subject: str = "",
    ) -> list[AuditRow]:  # fmt: skip
        """Changes of state, newest first."""
        ...


async def let_go_since(store: Reads, hit: Hit, action: str, subject: str, agent: str) -> str:
    """Why the containment is not begun anew for what happened before people ended the same of the
    same detection; "" if nothing speaks against it. Raises a StoreError."""
    tenant, actor = hit.tenant, f"{DETECTION}{hit.detection}"
    text = f"{agent}:{subject}" if agent else subject
    rows = await store.containments_before(tenant, AFTER_ALL_IDS, LOOKED_AT_MAX, action=action)
    same = [row for row in rows if (row.actor, row.subject) == (actor, text)]
    for row in same:
        for event in await _endings(store, row):
            if event.seq > hit.seq and not event.actor.startswith(DETECTION):
                return f"{event.actor} has ended {row.containment_id} since ({event.action})"
    return ""


async def _endings(store: Reads, row: ContainmentRow) -> list[AuditRow]:
    """How it was ended, as far as anybody did: newest first."""
    tenant, lifted = row.tenant_id, _OF_STANDING.get(Action(row.action))
    if lifted is None:
        name = f"containment:{row.containment_id}"
        return await store.audit_events(tenant, _NEWEST, 1, action=_UNDO, subject=name)
    name = f"agent:{row.subject}"
    undone = await store.audit_events(tenant, _NEWEST, LOOKED_AT_MAX, action=_UNDO, subject=name)
    found = [one for one in undone if _tells_of(one, row)]
    if row.state == "active" or any(one.actor.startswith(DETECTION) for one in found):
        # The agent was let go by other means: that is found, and put on record, only when it is to
        # be contained again.
        found += await store.audit_events(tenant, _NEWEST, 1, action=lifted, subject=name)
    return found


def _tells_of(event: AuditRow, row: ContainmentRow) -> bool:
    try:
        after = orjson.loads(event.after_state or "{}")
    except ValueError:
        return False
    return isinstance(after, dict) and after.get("containment_id") == row.containment_id
