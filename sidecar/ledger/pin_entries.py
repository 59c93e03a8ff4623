"""From changes of pins to the entry that puts them: a receipt of kind `control`, facts beside it.

Knows: the actions by which such receipts are found, and that the receipt commits to every tool's
hash, as it was and as it is, so that what was pinned or accepted when cannot be denied later; that
each is audited, also what the sidecar does of itself.
Must not know: when a pin changes, queues, stores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sidecar.ledger.audited import SIDECAR
from sidecar.ledger.canonical import canonical_arguments
from sidecar.ledger.commitment import NONCE_BYTES, committed
from sidecar.ledger.receipt import blank_receipt
from storage.records import Entry
from storage.standing import AuditRow, PinGone, PinRow

if TYPE_CHECKING:
    from sidecar.clock import Clock

#: What can happen to a pin: the members of a receipt's arguments, and what follows `tools.` in its
#: action. Of several in one receipt the action names the first in this order.
DRIFTED: Final = "drifted"
RETURNED: Final = "returned"
ACCEPTED: Final = "accepted"
PINNED: Final = "pinned"
FORGOTTEN: Final = "forgotten"
PIN_CHANGES: Final = (DRIFTED, RETURNED, ACCEPTED, PINNED, FORGOTTEN)

#: Who acts by control.sock: the sidecar's own user, or root.
SOCKET_ACTOR: Final = "socket"


class PinChange(NamedTuple):
    """A pin as it is to stand, and what happened to it; of one that is forgotten, as it stood."""

    what: str
    row: PinRow


def pin_entry(
    clock: Clock,
    tenant: str,
    upstream: str,
    agent: str | None,
    changes: Sequence[PinChange],
    said: Mapping[str, Any],
    actor: str = SIDECAR,
    before: Sequence[PinRow] = (),
) -> Entry:
    """The entry for all changes at once. `agent` asked for the list that showed them; `said` stands
    beside the hashes among what can be erased. `before` are pins as they were; one that is first
    made has none."""
    told: dict[str, Any] = dict(said)
    whats = {one.row.tool: one.what for one in changes}
    was = {row.tool: _hash(whats[row.tool], row) for row in before}
    if was:
        told["before"] = was
    for one in changes:
        told.setdefault(one.what, {})[one.row.tool] = one.row.seen_sha256 or one.row.sha256
    nonce = clock.random_bytes(NONCE_BYTES)
    commitment, facts = committed(tenant, nonce, canonical_arguments(told))
    what = next(name for name in PIN_CHANGES if name in told)
    only = changes[0].row.tool if len(changes) == 1 else None
    receipt = blank_receipt(
        tenant,
        "control",
        event_id=clock.new_id(),
        call_id=None,
        ts_us=clock.now_us(),
        agent_id=agent,
    )._replace(
        upstream=upstream,
        tool=f"{upstream}/{only}" if only is not None else None,
        action=f"tools.{what}",
        approver=actor,
        args_commitment=commitment,
    )
    puts = tuple(_put(one) for one in changes)
    left = {one.row.tool: _left(one) for one in changes}
    audit = AuditRow(
        tenant,
        0,
        receipt.ts_us,
        actor,
        f"tools.{what}",
        f"upstream:{upstream}",
        canonical_arguments(was).decode() if was else "",
        canonical_arguments(left).decode(),
        str(said.get("reason", "")),
    )
    return Entry(receipt, facts, puts=puts, audit=audit)


def _put(change: PinChange) -> PinRow | PinGone:
    row = change.row
    return row if change.what != FORGOTTEN else PinGone(*row[:4])


def _left(change: PinChange) -> str | None:
    return None if change.what == FORGOTTEN else _hash(change.what, change.row)


def _hash(what: str, row: PinRow) -> str:
    """What changes of a pin: what it is pinned to, or what its server says of it."""
    is_said = what not in (ACCEPTED, PINNED, FORGOTTEN)
    return row.seen_sha256 or row.sha256 if is_said else row.sha256
