"""From a change of an approval to the entry that records it: receipt, facts, audit row, ticket.

Knows: that a receipt of kind `approval` tells of every change, and commits (under a salt) to what
was asked, to the exact action and to what was said; that the row changes in its transaction or not.
Must not know: queues, when an approval changes.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson

from sidecar.approvals.states import Step, read_terms
from sidecar.ledger.canonical import canonical_arguments
from sidecar.ledger.receipt import blank_receipt
from storage.records import CallFactsRow, Entry, Ticket
from storage.standing import ApprovalRow, AuditRow
from storage.watch_rows import DeliveryRow

if TYPE_CHECKING:
    from sidecar.clock import Clock

SALT_BYTES: Final = 16
#: What can happen to one, as it follows `approval.` in receipts and audit rows.
ASK: Final = "ask"
APPROVE: Final = "approve"
REJECT: Final = "reject"
EXPIRE: Final = "expire"
SUPERSEDE: Final = "supersede"
WITHDRAW: Final = "withdraw"
#: Who acts where nobody does: time, or a change of the rules.
SIDECAR: Final = "sidecar"


def approval_entry(
    clock: Clock,
    row: ApprovalRow,
    verb: str,
    step: Step,
    *,
    actor: str,
    after: ApprovalRow | None,
    reason: str = "",
    puts: Sequence[DeliveryRow] = (),
) -> Entry:
    """The entry by which `step` becomes true, or nothing. `row` is the approval as it was looked
    at (of a new one its draft), `after` as it will be if it still stands so; `puts` tell others of
    it, if it does."""
    action = f"approval.{verb}"
    at_us, salt = clock.now_us(), clock.random_bytes(SALT_BYTES)
    said = {
        "action_sha256": row.action_sha256,
        "asked_sha256": read_terms(row.terms).asked_sha256,
        "state": row.state if after is None else after.state,
        "reason": reason,
    }
    arguments = canonical_arguments(said)
    upstream = row.tool.partition("/")[0]
    receipt = blank_receipt(
        row.tenant_id,
        "approval",
        event_id=clock.new_id(),
        call_id=row.call_id,
        ts_us=at_us,
        agent_id=row.agent_id,
    )._replace(
        action=action,
        upstream=upstream,
        tool=row.tool,
        approval_id=row.approval_id,
        approver=actor if verb in (APPROVE, REJECT) else None,
        args_commitment=hmac.digest(salt, arguments, "sha256").hex(),
    )
    return Entry(
        receipt,
        CallFactsRow(row.tenant_id, 0, salt.hex(), arguments.decode(), "{}"),
        ticket=Ticket(row.approval_id, clock.steady_us(), step, lambda _why: None),
        puts=puts,
        audit=AuditRow(
            row.tenant_id,
            0,
            at_us,
            actor,
            action,
            row.approval_id,
            "" if verb == ASK else _state(row),
            "" if after is None else _state(after),
            reason,
        ),
    )


def _state(row: ApprovalRow) -> str:
    said: Mapping[str, Any] = {"state": row.state, "votes": orjson.loads(row.votes)}
    return orjson.dumps(said, option=orjson.OPT_SORT_KEYS).decode()
