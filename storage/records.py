"""Flat rows as the tables hold them, and what goes into and comes out of a batch.

Knows: columns, their order (which is the order of every column list in sql/), and the shape of
one commit. Rows are named tuples of str, int and None, so that a driver binds them as they are.
Must not know: what a receipt hash is made of (the ledger's business, given as `Seal`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from storage.standing import ApprovalRow, AuditRow, VersionedRow

#: After every id there is, in whatever language a database sorts: ids are lower-case hex digits,
#: and signs stand before these in most.
AFTER_ALL_IDS: Final = "z"
#: Bytes of facts that are read in one go with their receipts, and one receipt's more.
PAGE_BYTES: Final = 8 * 1024 * 1024


class HeadRow(NamedTuple):
    """`chain_head`: one per tenant; locked for the length of a batch's transaction.

    `receipt_hash` is "" and `seq` 0 before the first receipt. `frontier` is the RFC 6962
    frontier of the tenant's tree, hex. `epoch` is raised by whatever must make decisions in
    flight stale (freeze, block, undo).
    """

    tenant_id: str
    seq: int
    receipt_hash: str
    ts_us: int
    frontier: str
    epoch: int


class ReceiptRow(NamedTuple):
    """`receipts`: the receipt body v1 without `v` and `prev_receipt_hash`, plus its hash.

    `prev_receipt_hash` is the hash of the row before, and is not stored a second time.
    As a draft (before sealing) `seq` is 0, `receipt_hash` is "" and `ts_us` is the event's time.
    """

    tenant_id: str
    seq: int
    kind: str
    event_id: str
    call_id: str | None
    ts_us: int
    agent_id: str | None
    user_id: str | None
    run_id: str | None
    trace_id: str | None
    upstream: str | None
    tool: str | None
    action: str | None
    resource: str | None
    source_trust: str | None
    decision: str | None
    mode: str | None
    rule_id: str | None
    rule_hash: str | None
    policy_revision: str | None
    approval_id: str | None
    approver: str | None
    action_hash: str | None
    request_sha256: str | None
    args_commitment: str | None
    outcome: str | None
    http_status: int | None
    receipt_hash: str


class CallFactsRow(NamedTuple):
    """`call_facts`: what may be erased without breaking the chain. `seq` is filled at sealing.

    `salt` is hex; `arguments` is canonical JSON of the redacted arguments, None when only
    their digest is kept; `facts` is JSON of what the rules saw.
    """

    tenant_id: str
    seq: int
    salt: str
    arguments: str | None
    facts: str


class RecordedEvent(NamedTuple):
    """A receipt, and the facts beside it if there are any and they were not erased."""

    receipt: ReceiptRow
    facts: CallFactsRow | None


class OpenIntentRow(NamedTuple):
    """`open_intent`: an intent whose outcome is not recorded yet, and which boot holds it."""

    tenant_id: str
    call_id: str
    node_id: str
    boot_id: str


class BucketRow(NamedTuple):
    """`limit_bucket`: what a limit has counted. `state` is the text of who counts, "" of a bucket
    nobody has used; from `until_us` on it says nothing any more, and the row may go."""

    tenant_id: str
    limit_id: str
    bucket: str
    state: str
    until_us: int


#: From the state of a run to the state after an entry; pure.
RunStep = Callable[[str], str]


class Room(NamedTuple):
    """There was room in a bucket: what it holds now, and until when that says anything."""

    state: str
    until_us: int


class Full(NamedTuple):
    """There was none: what the bucket holds, and how long until there would be room."""

    used: int
    wait_us: int


class Reservation(NamedTuple):
    """Room in one bucket of a limit. `take(state, at_us)` is pure."""

    limit_id: str
    bucket: str
    take: Callable[[str, int], Room | Full]


class Reservations(NamedTuple):
    """The room an entry needs: all of it is taken, or none.

    `at_us` is the moment by this process; a server's own clock counts where there is one.
    `instead(position, full)` gives the entry that is recorded in place of this one if that
    reservation has no room; it reserves nothing itself. Pure.
    """

    wanted: Sequence[Reservation]
    at_us: int
    instead: Callable[[int, Full], Entry]


class Ticket(NamedTuple):
    """What an entry makes of an approval: spent, voted on, expired.

    `step(row, at_us)` gives the row one version on, or why that cannot be (a code for who asked);
    the row is None if there is none. `at_us` is the moment by this process; a server's own clock
    counts where there is one. `instead(why)` gives the entry recorded in place of this one, or
    None for nothing. All pure.
    """

    approval_id: str
    at_us: int
    step: Callable[[ApprovalRow | None, int], ApprovalRow | str]
    instead: Callable[[str], Entry | None]


@dataclass(slots=True)
class Entry:
    """One thing to record: a draft receipt and what stands or falls with it.

    `facts` is written beside the receipt; `opens` inserts an open intent; `closes` deletes the
    open intent of that call id (same tenant): an entry whose intent is no longer open is
    answered `AlreadyClosed`, so that an outcome is recorded once. `epoch` and `run_version` are
    guards: None is not checked. `run_step` gives what becomes of the state of the run by this
    entry, whatever that is by then; a state that changes raises the run's version. The run is the
    tenant's of that `run_key`, without one the receipt's agent. `ticket` is looked at once all
    guards hold, then `reserves`: if the approval will not have it, or without room, something else
    is recorded, in the same transaction. `puts` are each one version after what stands, or the
    entry is answered `Unrecordable`. `audit` says who changed what; `raises_epoch` makes stale
    every decision of the tenant that was made before.
    """

    receipt: ReceiptRow
    facts: CallFactsRow | None = None
    opens: OpenIntentRow | None = None
    closes: str | None = None
    epoch: int | None = None
    run_version: int | None = None
    run_step: RunStep | None = None
    run_key: str | None = None
    reserves: Reservations | None = None
    ticket: Ticket | None = None
    puts: Sequence[VersionedRow] = ()
    audit: AuditRow | None = None
    raises_epoch: bool = False


class RunHead(NamedTuple):
    """`run_head` without its key: raised whenever the state of a run changes. A run of which
    nothing is kept has version 0 and state ""."""

    version: int
    state: str


class Recorded(NamedTuple):
    """The entry is durable. `run` is its run as it left it, if it guarded or stepped it;
    `prev_receipt_hash` is what its receipt links to."""

    seq: int
    receipt_hash: str
    ts_us: int
    epoch: int
    run: RunHead | None = None
    prev_receipt_hash: str = ""


class Stale(NamedTuple):
    """A guard failed: decide again with these. Nothing of the entry was written. `run` is the run
    that the entry rested on or stepped, None if it did neither: it may name another then."""

    epoch: int
    run: RunHead | None


class NoRoom(NamedTuple):
    """A reservation had no room: the one at `position`, of those without the one whose bucket is
    full for longest. `recorded` is what became of `entry`, which is durable in its place."""

    position: int
    full: Full
    entry: Entry
    recorded: Recorded


class Declined(NamedTuple):
    """The approval would not have it, and why. `recorded` is what became of `entry`, which is
    durable in its place; both None if nothing was to be recorded."""

    why: str
    approval: ApprovalRow | None
    entry: Entry | None
    recorded: Recorded | None


class AlreadyClosed(NamedTuple):
    """The intent this entry would close is not open any more. Nothing was written."""

    call_id: str


class Unrecordable(NamedTuple):
    """The entry itself cannot be written (encoding, a duplicate id). Neighbours are untouched."""

    reason: str

    def __str__(self) -> str:
        return self.reason


Answer = Recorded | Stale | NoRoom | Declined | AlreadyClosed | Unrecordable


class Sealed(NamedTuple):
    """What sealing gives for one batch: the new heads, and per draft a row or a reason."""

    heads: Mapping[str, HeadRow]
    rows: Sequence[ReceiptRow | str]


#: `seal(heads, drafts)`: links the drafts, in order, onto their tenants' heads. Pure; gives a
#: reason (str) in place of a row for a draft that cannot be put into canonical form.
Seal = Callable[[Mapping[str, HeadRow], Sequence[ReceiptRow]], Sealed]
