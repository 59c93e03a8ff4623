"""Drafts, a trivial seal and a chain check: what any store's tests need, and no ledger.

The seal here links rows by a hash over their fields. It is not the receipts' canonical form.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import count

from storage import SqlStore
from storage.records import (
    CallFactsRow,
    Entry,
    HeadRow,
    OpenIntentRow,
    ReceiptRow,
    RunHead,
    Sealed,
)

#: Opens the test's store, again and again if wanted.
OpenStore = Callable[[], Awaitable[SqlStore]]

UNSEALABLE = "unsealable"
_EMPTY = ReceiptRow(*["", 0, "control", "", None, 0], *[None] * 21, "")  # type: ignore[arg-type]
_events = count(1)


def link(previous: str, row: ReceiptRow) -> str:
    """The trivial receipt hash."""
    return hashlib.sha256(repr((previous, tuple(row)[:-1])).encode()).hexdigest()


def seal(heads: Mapping[str, HeadRow], drafts: Sequence[ReceiptRow]) -> Sealed:
    """Links drafts in order onto their heads; a `resource` of UNSEALABLE gives a reason."""
    moved = dict(heads)
    rows: list[ReceiptRow | str] = []
    for draft in drafts:
        if draft.resource == UNSEALABLE:
            rows.append("cannot be sealed")
            continue
        head = moved[draft.tenant_id]
        row = draft._replace(seq=head.seq + 1, ts_us=max(draft.ts_us, head.ts_us))
        row = row._replace(receipt_hash=link(head.receipt_hash, row))
        moved[draft.tenant_id] = head._replace(
            seq=row.seq, receipt_hash=row.receipt_hash, ts_us=row.ts_us, frontier=row.receipt_hash
        )
        rows.append(row)
    return Sealed(moved, rows)


def draft(tenant_id: str = "acme", kind: str = "intent", **fields: object) -> ReceiptRow:
    """A draft of a receipt with an event id of its own."""
    values: dict[str, object] = {"event_id": f"event-{next(_events):08}", "ts_us": 1_000}
    values.update(fields)
    return _EMPTY._replace(tenant_id=tenant_id, kind=kind, **values)  # type: ignore[arg-type]


def intent(
    call_id: str, tenant_id: str = "acme", *, node_id: str = "node", **guards: object
) -> Entry:
    """An intent with facts, opening a call."""
    return Entry(
        draft(tenant_id, call_id=call_id, agent_id="agent", decision="allow"),
        facts=CallFactsRow(tenant_id, 0, "5a17" * 8, '{"a":1}', '{"risk":"low"}'),
        opens=OpenIntentRow(tenant_id, call_id, node_id, "boot"),
        **guards,  # type: ignore[arg-type]
    )


def outcome(call_id: str, tenant_id: str = "acme") -> Entry:
    """An outcome closing a call."""
    row = draft(tenant_id, "outcome", call_id=call_id, outcome="completed", http_status=200)
    return Entry(row, closes=call_id)


def assert_chain(rows: Sequence[ReceiptRow], head: HeadRow) -> None:
    """The rows are the whole chain: no gap, every link holds, and the head is the last of them."""
    previous = ""
    for position, row in enumerate(rows, start=1):
        assert row.seq == position
        assert row.receipt_hash == link(previous, row)
        previous = row.receipt_hash
    assert (head.seq, head.receipt_hash) == (len(rows), previous)


def grown(state: str) -> str:
    """What an entry makes of its run here: one step more."""
    return f"{state}+"


def run(version: int) -> RunHead:
    """A run after so many steps."""
    return RunHead(version, "+" * version)
