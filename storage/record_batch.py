"""The one script that commits: a batch of entries onto their tenants' chains.

Two ways through. `record_group` is the straight one: all entries together, in bulk statements.
Whatever it finds odd (a close without an open intent, a duplicate, a draft that cannot be
sealed) it raises, and the batch is done again by `record_each`: the same steps, entry by entry,
each in a savepoint, still one transaction. So the rare path is the definition, the common one
an equal but faster way, and an odd entry never harms its neighbours.
Must not know: the engine, or what a receipt hash is made of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from storage.driver import Script, UnfitRow, Value, execute_many, execute_together, fetch
from storage.errors import UniqueViolation
from storage.records import (
    AlreadyClosed,
    Answer,
    Entry,
    HeadRow,
    ReceiptRow,
    Recorded,
    Seal,
    Stale,
    Unrecordable,
)

#: The columns of a receipt that a short one (`insert_short_receipt`) leaves null.
_SHORT_FROM, _SHORT_TO = 7, 25
_NOTHING = (None,) * (_SHORT_TO - _SHORT_FROM)

_new_tuple = tuple.__new__

Statements = Mapping[str, str]
RunKey = tuple[str, str]


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


def record_each(sql: Statements, entries: Sequence[Entry], seal: Seal) -> Script[list[Answer]]:
    """Records entry by entry in one transaction; an entry that fails answers for itself only."""
    answers: list[Answer] = []
    for entry in entries:
        yield from fetch(sql["begin_entry"])
        try:
            yield from _close_intent(sql, entry)
            answers += yield from record_group(sql, [entry], seal, closes=False)
        except ODDITIES as error:
            yield from fetch(sql["undo_entry"])
            odd = error.answer if isinstance(error, OddEntry) else Unrecordable(str(error))
            answers.append(odd)
        yield from fetch(sql["end_entry"])
    return answers


def record_group(
    sql: Statements, entries: Sequence[Entry], seal: Seal, *, closes: bool = True
) -> Script[list[Answer]]:
    """Records all entries whose guards hold, in bulk; raises one of ODDITIES if that cannot be.

    `closes` is False where the intents that entries close were deleted before.
    """
    heads = yield from _lock_heads(sql, entries)
    versions = _RunVersions(sql)
    stale = yield from _check_guards(entries, heads, versions)
    accepted = [e for i, e in enumerate(entries) if i not in stale] if stale else entries
    rows = yield from _append(sql, accepted, heads, seal, closes)
    yield from versions.save()
    recorded = [
        _new_tuple(Recorded, (row[1], row[27], row[5], heads[row[0]].epoch)) for row in rows
    ]
    if not stale:
        return list(recorded)
    following = iter(recorded)
    return [stale.get(i) or next(following) for i in range(len(entries))]


def _lock_heads(sql: Statements, entries: Sequence[Entry]) -> Script[dict[str, HeadRow]]:
    """The heads of all tenants touched, locked in sorted order so that nodes cannot deadlock.

    A row that is not there cannot be locked: of two nodes that begin a tenant's chain at once, one
    finds its first receipt taken, and records entry by entry onto what is there by then.
    """
    tenants = sorted({entry.receipt.tenant_id for entry in entries})
    rows = yield from fetch(sql["lock_heads"], json.dumps(tenants))
    found = {row[0]: HeadRow(*row) for row in rows}
    return {tenant: found.get(tenant) or empty_head(tenant) for tenant in tenants}


class _RunVersions:
    """Run versions as this batch sees them: read once each, raised by entries, saved at the end."""

    def __init__(self, sql: Statements) -> None:
        self._sql = sql
        self._known: dict[RunKey, int] = {}
        self._raised: set[RunKey] = set()

    def get(self, key: RunKey) -> Script[int]:
        if key not in self._known:
            rows = yield from fetch(self._sql["run_version"], *key)
            self._known[key] = rows[0][0] if rows else 0
        return self._known[key]

    def advance(self, key: RunKey) -> Script[None]:
        version = yield from self.get(key)
        self._known[key] = version + 1
        self._raised.add(key)

    def save(self) -> Script[int]:
        raised = [(*key, self._known[key]) for key in sorted(self._raised)]
        return (yield from execute_many(self._sql["put_run_version"], raised))


def _check_guards(
    entries: Sequence[Entry], heads: Mapping[str, HeadRow], versions: _RunVersions
) -> Script[dict[int, Stale]]:
    """The entries whose guards fail, by position. An entry's advance counts for those after it."""
    stale: dict[int, Stale] = {}
    for position, entry in enumerate(entries):
        if entry.epoch is None and entry.run_version is None and not entry.advances_run:
            continue
        receipt = entry.receipt
        epoch = heads[receipt.tenant_id].epoch
        run = (receipt.tenant_id, receipt.agent_id or "")
        holds = entry.epoch is None or entry.epoch == epoch
        if holds and entry.run_version is not None:
            holds = entry.run_version == (yield from versions.get(run))
        if not holds:
            stale[position] = Stale(epoch, (yield from versions.get(run)))
        elif entry.advances_run:
            yield from versions.advance(run)
    return stale


def _close_intent(sql: Statements, entry: Entry) -> Script[None]:
    """Deletes the intent one entry closes, before anything of the entry can be found odd."""
    if entry.closes is None:
        return
    key = (entry.receipt.tenant_id, entry.closes)
    if not (yield from execute_many(sql["delete_open_intent"], [key])):
        raise OddEntry(AlreadyClosed(entry.closes))


def _append(
    sql: Statements,
    entries: Sequence[Entry],
    heads: Mapping[str, HeadRow],
    seal: Seal,
    closes: bool,
) -> Script[Sequence[ReceiptRow]]:
    """Seals the drafts onto the heads and writes receipts, facts, open intents and new heads.

    The intents that entries close are deleted; every one must be there.
    """
    if not entries:
        return []
    sealed = seal(heads, [entry.receipt for entry in entries])
    rows: list[ReceiptRow] = []
    for row in sealed.rows:
        if isinstance(row, str):
            raise OddEntry(Unrecordable(row))
        rows.append(row)
    facts = [
        (f[0], row[1], f[2], f[3], f[4])
        for entry, row in zip(entries, rows, strict=True)
        if (f := entry.facts) is not None
    ]
    opens = [entry.opens for entry in entries if entry.opens is not None]
    whole: list[ReceiptRow] = []
    short: list[tuple[Value, ...]] = []
    for row in rows:
        if row[_SHORT_FROM:_SHORT_TO] == _NOTHING:
            short.append(row[:_SHORT_FROM] + row[_SHORT_TO:])
        else:
            whole.append(row)
    moved = [head for head in sealed.heads.values() if head != heads[head.tenant_id]]
    closed: list[tuple[Value, ...]] = []
    if closes:
        closed = [(e.receipt.tenant_id, e.closes) for e in entries if e.closes is not None]
    changed = yield from execute_together(
        (sql["delete_open_intent"], closed),
        (sql["insert_receipt"], whole),
        (sql["insert_short_receipt"], short),
        (sql["insert_call_facts"], facts),
        (sql["insert_open_intent"], opens),
        (sql["put_head"], moved),
    )
    if changed[0] != len(closed):
        raise OddEntry(AlreadyClosed(str(closed[0][1])))
    return rows
