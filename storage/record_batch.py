"""The one script that commits: a batch of entries onto their tenants' chains.

Three ways through, all over the same pure step (`_planned`). `record_group` is the straight one:
heads locked and read, then all entries together in bulk statements. Whatever it finds odd (a
close without an open intent, a duplicate, a draft that cannot be sealed) it raises, and the batch
is done again by `record_each`: the same steps, entry by entry, each in a savepoint, still one
transaction. So the rare path is the definition, the common one an equal but faster way, and an
odd entry never harms its neighbours. `record_remembered` asks nothing beforehand: it plans on what
this process last saw, in one step that does nothing at all unless that still stands.
Must not know: the engine, or what a receipt hash is made of.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from storage.driver import (
    Guarded,
    Many,
    Script,
    UnfitRow,
    Value,
    execute_many,
    execute_together,
    fetch,
)
from storage.errors import UniqueViolation
from storage.guards import (
    Checked,
    Read,
    Refusal,
    RunKey,
    Statements,
    bucket_rows,
    check,
    read_approvals,
    read_buckets,
    read_runs,
    runs_to_read,
)
from storage.known_heads import KnownHeads
from storage.records import (
    AlreadyClosed,
    Answer,
    Declined,
    Entry,
    HeadRow,
    NoRoom,
    ReceiptRow,
    Recorded,
    RunHead,
    Seal,
    Unrecordable,
)
from storage.standing import PUTS, ApprovalRow, AuditRow, VersionedRow

#: The columns of a receipt that a short one (`insert_short_receipt`) leaves null.
_SHORT_FROM, _SHORT_TO = 7, 25
_NOTHING = (None,) * (_SHORT_TO - _SHORT_FROM)

_new_tuple = tuple.__new__

#: Why an entry is not recorded of whose rows one is not a version after what stands.
CHANGED = "what is to be changed has changed meanwhile"

Steps = tuple[tuple[str, Sequence[Sequence[Value]]], ...]


class Done(NamedTuple):
    """What a batch came to: an answer for each entry; heads and runs as it left them."""

    answers: list[Answer]
    heads: Mapping[str, HeadRow]
    runs: Mapping[RunKey, RunHead]


class _Plan(NamedTuple):
    """What is to be written, and what is to be said once it is. The first step deletes the intents
    that are closed, and must find `closed` of them; the last `puts` put rows one version after what
    stands, and each must fit."""

    steps: Steps
    closed: int
    puts: int
    is_stale: bool
    done: Done


class OddEntry(Exception):
    """Some entry of the group needs the careful way; for a group of one, `answer` is its answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self.answer = answer


#: What sends a batch from `record_group` to `record_each`.
ODDITIES = (OddEntry, UniqueViolation, UnfitRow)


def empty_head(tenant_id: str) -> HeadRow:
    """The head of a tenant of whom nothing was recorded."""
    return HeadRow(tenant_id, 0, "", 0, "", 0)


def record_each(
    sql: Statements, entries: Sequence[Entry], seal: Seal, known: KnownHeads | None = None
) -> Script[Done]:
    """Records entry by entry in one transaction; an entry that fails answers for itself only."""
    answers: list[Answer] = []
    heads: dict[str, HeadRow] = {}
    runs: dict[RunKey, RunHead] = {}
    for entry in entries:
        yield from fetch(sql["begin_entry"])
        try:
            yield from _close_intent(sql, entry)
            done = yield from record_group(sql, [entry], seal, known, closes=False)
            answers += done.answers
            heads.update(done.heads)
            runs.update(done.runs)
        except ODDITIES as error:
            yield from fetch(sql["undo_entry"])
            odd = error.answer if isinstance(error, OddEntry) else Unrecordable(str(error))
            answers.append(odd)
        yield from fetch(sql["end_entry"])
    return Done(answers, heads, runs)


def record_group(
    sql: Statements,
    entries: Sequence[Entry],
    seal: Seal,
    known: KnownHeads | None = None,
    *,
    closes: bool = True,
) -> Script[Done]:
    """Records all entries whose guards hold, in bulk; raises one of ODDITIES if that cannot be, and
    StoreRolledBack onto heads that stand before what is `known`.

    `closes` is False where the intents that entries close were deleted before.
    """
    heads = yield from _lock_heads(sql, entries)
    if known is not None:
        known.require(heads)
    runs = yield from read_runs(sql, runs_to_read(entries))
    buckets = yield from read_buckets(sql, entries)
    approvals = yield from read_approvals(sql, entries)
    plan = _planned(sql, entries, seal, Read(heads, runs, buckets, approvals), closes)
    changed = yield from execute_together(*plan.steps)
    if changed[0] != plan.closed:
        raise OddEntry(AlreadyClosed(str(plan.steps[0][1][0][1])))
    for number in range(len(changed) - plan.puts, len(changed)):
        if changed[number] != len(plan.steps[number][1]):
            raise OddEntry(Unrecordable(CHANGED))
    return plan.done


def record_remembered(
    sql: Statements,
    entries: Sequence[Entry],
    seal: Seal,
    heads: Mapping[str, HeadRow],
    runs: Mapping[RunKey, RunHead],
) -> Script[Done | None]:
    """The same from memory, as one guarded step; None, and nothing written, if memory is behind.

    A head that stands where it stood, epoch included, vouches for the tenant's open intents and
    runs too: whatever changes those appends a receipt or raises the epoch. Buckets are not
    remembered: what is in them depends on the server's clock.
    """
    plan = _planned(sql, entries, seal, Read(heads, runs), True)
    if plan.is_stale:
        return None  # not to be told on the word of a memory
    known = [(head.tenant_id, head.seq, head.receipt_hash, head.epoch) for head in heads.values()]
    steps = [Many(text, rows) for text, rows in plan.steps if rows]
    holds: bool = yield Guarded(sql["guard_heads"], known, steps)
    return plan.done if holds else None


def _lock_heads(sql: Statements, entries: Sequence[Entry]) -> Script[dict[str, HeadRow]]:
    """The heads of all tenants touched, locked in sorted order so that nodes cannot deadlock.

    A row that is not there cannot be locked: of two nodes that begin a tenant's chain at once, one
    finds its first receipt taken, and records entry by entry onto what is there by then.
    """
    tenants = sorted({entry.receipt.tenant_id for entry in entries})
    rows = yield from fetch(sql["lock_heads"], json.dumps(tenants))
    found = {row[0]: HeadRow(*row) for row in rows}
    return {tenant: found.get(tenant) or empty_head(tenant) for tenant in tenants}


def _close_intent(sql: Statements, entry: Entry) -> Script[None]:
    """Deletes the intent one entry closes, before anything of the entry can be found odd."""
    if entry.closes is None:
        return
    key = (entry.receipt.tenant_id, entry.closes)
    if not (yield from execute_many(sql["delete_open_intent"], [key])):
        raise OddEntry(AlreadyClosed(entry.closes))


def _planned(
    sql: Statements, entries: Sequence[Entry], seal: Seal, read: Read, closes: bool
) -> _Plan:
    """Checks guards, seals the drafts onto the heads, and lays out every row; raises OddEntry."""
    checked = check(entries, read)
    heads, accepted = read.heads, checked.accepted
    sealed = seal(heads, [entry.receipt for entry in accepted])
    rows: list[ReceiptRow] = []
    for row in sealed.rows:
        if isinstance(row, str):
            raise OddEntry(Unrecordable(row))
        rows.append(row)
    whole, short = _by_width(rows)
    facts = [
        (f[0], row[1], f[2], f[3], f[4])
        for entry, row in zip(accepted, rows, strict=True)
        if (f := entry.facts) is not None
    ]
    opens = [entry.opens for entry in accepted if entry.opens is not None]
    left = _raised(sealed.heads, checked.epochs)
    moved = [head for head in left.values() if head != heads[head.tenant_id]]
    closed: list[tuple[Value, ...]] = []
    if closes:
        closed = [(e.receipt.tenant_id, e.closes) for e in accepted if e.closes is not None]
    after = checked.runs
    stepped = [(*key, *run) for key, run in sorted(after.items()) if run is not read.runs[key]]
    puts = _puts(sql, accepted, checked.approvals.values())
    steps: Steps = (
        (sql["delete_open_intent"], closed),
        (sql["insert_receipt"], whole),
        (sql["insert_short_receipt"], short),
        (sql["insert_call_facts"], facts),
        (sql["insert_open_intent"], opens),
        (sql["put_head"], moved),
        (sql["put_run_head"], stepped),
        (sql["put_bucket"], bucket_rows(checked.buckets)),
        (sql["put_audit_event"], _audited(accepted, rows)),
        *puts,
    )
    done = Done(_answers(entries, rows, checked, heads, left), left, after)
    return _Plan(steps, len(closed), len(puts), bool(checked.stale), done)


def _raised(heads: Mapping[str, HeadRow], epochs: Mapping[str, int]) -> Mapping[str, HeadRow]:
    """The heads with the epochs that entries raised."""
    if not epochs:
        return heads
    raised = {tenant: heads[tenant]._replace(epoch=epoch) for tenant, epoch in epochs.items()}
    return {**heads, **raised}


def _puts(sql: Statements, entries: Sequence[Entry], approvals: Iterable[ApprovalRow]) -> Steps:
    """Rows that have versions, by statement: each row once, for the second would have to see what
    the first left; and those that stand already first, for one that is new may take their place."""
    rows: dict[str, dict[tuple[Value, ...], VersionedRow]] = {}
    for row in (*approvals, *(row for entry in entries for row in entry.puts)):
        name, width = PUTS[type(row)]
        if rows.setdefault(name, {}).setdefault(row[:width], row) is not row:
            raise OddEntry(Unrecordable(CHANGED))
    return tuple(
        (sql[name], sorted(rows[name].values(), key=lambda row: row.version == 1))
        for name in sorted(rows)
    )


def _audited(entries: Sequence[Entry], rows: Sequence[ReceiptRow]) -> list[AuditRow]:
    """Changes of state, each beside its receipt."""
    return [
        entry.audit._replace(seq=row.seq)
        for entry, row in zip(entries, rows, strict=True)
        if entry.audit is not None
    ]


def _by_width(rows: Sequence[ReceiptRow]) -> tuple[list[ReceiptRow], list[tuple[Value, ...]]]:
    """Receipts with all their columns, and those that need only the short insert's."""
    whole: list[ReceiptRow] = []
    short: list[tuple[Value, ...]] = []
    for row in rows:
        if row[_SHORT_FROM:_SHORT_TO] == _NOTHING:
            short.append(row[:_SHORT_FROM] + row[_SHORT_TO:])
        else:
            whole.append(row)
    return whole, short


def _answers(
    entries: Sequence[Entry],
    rows: Sequence[ReceiptRow],
    checked: Checked,
    before: Mapping[str, HeadRow],
    heads: Mapping[str, HeadRow],
) -> list[Answer]:
    stale, refused, left = checked.stale, checked.refused, checked.left
    links = _links(rows, before)
    if not stale and not left and not refused:
        return [
            _new_tuple(Recorded, (row[1], row[27], row[5], heads[row[0]].epoch, None, link))
            for row, link in zip(rows, links, strict=True)
        ]
    following = zip(rows, links, strict=True)
    answers: list[Answer] = []
    for position in range(len(entries)):
        if position in stale:
            answers.append(stale[position])
            continue
        refusal = refused.get(position)
        if refusal is not None and refusal.instead is None:
            answers.append(Declined(refusal.why, refusal.approval, None, None))
            continue
        row, link = next(following)
        epoch, run = heads[row[0]].epoch, left.get(position)
        recorded = _new_tuple(Recorded, (row[1], row[27], row[5], epoch, run, link))
        answers.append(recorded if refusal is None else _refused(refusal, recorded))
    return answers


def _links(rows: Sequence[ReceiptRow], heads: Mapping[str, HeadRow]) -> list[str]:
    """What each receipt links to: the one before it in its tenant's chain."""
    last = {tenant: head.receipt_hash for tenant, head in heads.items()}
    links = []
    for row in rows:
        links.append(last[row[0]])
        last[row[0]] = row[27]
    return links


def _refused(refusal: Refusal, recorded: Recorded) -> Answer:
    if refusal.no_room is not None and refusal.instead is not None:
        return NoRoom(*refusal.no_room, refusal.instead, recorded)
    return Declined(refusal.why, refusal.approval, refusal.instead, recorded)
