"""The one entry that a change of agents, keys or containments is: rows, receipt and audit event.

Knows: what a receipt of kind `control` says of a change (who in `approver`, what in `action`, and a
commitment to what was before and after), and that every change makes decisions in flight stale.
Must not say: a secret; of a token only whether there is one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from sidecar.ledger.canonical import canonical_arguments
from sidecar.ledger.commitment import NONCE_BYTES, committed
from sidecar.ledger.receipt import blank_receipt
from storage.records import Entry
from storage.standing import AgentRow, AuditRow, KeyRow

if TYPE_CHECKING:
    from sidecar.clock import Clock
    from sidecar.identity.profiles import KeyProfile
    from storage.watch_rows import ContainmentRow, DeliveryRow


Shown = Mapping[str, Any]


class Change(NamedTuple):
    """What is to change: `action` e.g. `agent.freeze`, `subject` e.g. `agent:coder`; before and
    after as an auditor reads them, before None of what was not there. `also` changes with it."""

    tenant: str
    actor: str
    action: str
    subject: str
    before: Shown | None
    after: Shown
    reason: str
    put: AgentRow | KeyRow | ContainmentRow
    also: tuple[AgentRow | DeliveryRow, ...] = ()


def change_entry(clock: Clock, change: Change) -> Entry:
    """The entry. Times and ids are drawn here."""
    now_us = clock.now_us()
    nonce = clock.random_bytes(NONCE_BYTES)
    told: dict[str, Any] = {
        "subject": change.subject,
        "before": None if change.before is None else dict(change.before),
        "after": dict(change.after),
        "reason": change.reason,
    }
    commitment, facts = committed(change.tenant, nonce, canonical_arguments(told))
    puts = (change.put, *change.also)
    agents = [row.agent_id for row in puts if isinstance(row, AgentRow)]
    receipt = blank_receipt(
        change.tenant,
        "control",
        event_id=clock.new_id(),
        call_id=None,
        ts_us=now_us,
        agent_id=agents[0] if agents else None,
    )._replace(
        action=change.action,
        approver=change.actor,
        args_commitment=commitment,
    )
    audit = AuditRow(
        change.tenant,
        0,
        now_us,
        change.actor,
        change.action,
        change.subject,
        "" if change.before is None else _text(change.before),
        _text(change.after),
        change.reason,
    )
    return Entry(receipt, facts, puts=puts, audit=audit, raises_epoch=True)


def shown_agent(row: AgentRow) -> dict[str, Any]:
    """An agent as an auditor reads it: of its token only that there is one, and by the version,
    that it is another."""
    try:
        profile = json.loads(row.profile)
    except ValueError:
        profile = row.profile
    return {
        "state": row.state,
        "profile": profile,
        "token": bool(row.token_sha256),
        "version": row.version,
    }


def shown_key(row: KeyRow, profile: KeyProfile | None) -> dict[str, Any]:
    """A key as an auditor reads it."""
    return {
        "state": row.state,
        "name": profile.name if profile else "",
        "roles": sorted(profile.roles) if profile else [],
        "groups": sorted(profile.groups) if profile else [],
        "expires_at_us": row.expires_at_us,
    }


def _text(shown: Shown) -> str:
    return json.dumps(shown, sort_keys=True, ensure_ascii=False)
