"""What may leave a store, and how: facts by age or by whom they are about, and the beginning of a
chain once it stands in an archive.

Knows: that a chain may only be shortened from its beginning, below a recorded cut: the hash and
the frontier to go on from, kept in `store_state`; that an approval outlives what it asked. Deletes
go in small transactions, so that decisions of others get their turn between them, and can be begun
again after a crash.
Must not know: what a receipt hash is made of, what an archive looks like, or the engine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TypeVar

from storage.driver import Row, Script, Value, execute_many, fetch
from storage.errors import StoreCorrupt, StoreError
from storage.marks import check_open_for_work
from storage.migrate import read_migrations
from storage.record_batch import empty_head
from storage.records import CallFactsRow, HeadRow
from storage.sql_store import SqlReader, SqlStore
from storage.standing import STANDING

T = TypeVar("T")

#: Rows that one transaction deletes; a few milliseconds of a disk.
ROWS_A_TRANSACTION = 500
#: Receipts that one read looks at: well below what a reader may take.
SEQS_A_READ = 20_000

_CUT = "cut:"


class CutRefused(StoreError):
    """A chain cannot be cut there."""

    code = "cut_refused"
    next_step = "Nothing was deleted. Export and verify the receipts before you try again."


class CutOvertaken(CutRefused):
    """Another prune has cut the chain there, or later, since this one began."""

    code = "cut_overtaken"
    next_step = (
        "Nothing was deleted by this one. Begin it again if more is old enough: it goes on from "
        "there. An archive that it has written holds nothing that is not in the others."
    )


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a tenant's chain was cut: receipts up to `seq` stand in `archive`, not in the store.

    `receipt_hash`, `ts_us` and `frontier` are what the head was when `seq` was the last.
    """

    seq: int
    receipt_hash: str
    ts_us: int
    frontier: str
    archive: str
    archive_sha256: str


#: A chain that was never cut.
WHOLE = Cut(0, "", 0, "", "", "")


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose facts to erase: `kind` is agent, user or call; `name` is its id."""

    kind: str
    name: str


SUBJECT_KINDS = ("agent", "user", "call")
_FACTS_OF = {kind: f"facts_of_{kind}" for kind in SUBJECT_KINDS}


class CareReader:
    """Reads that care needs beyond those of the ledger; of a store that is open, or of a reader."""

    def __init__(self, reader: SqlReader) -> None:
        self._reads = reader._reads
        self._sql = reader._sql

    async def cut(self, tenant_id: str) -> Cut:
        """Where the chain begins: WHOLE, or the recorded cut. Raises StoreCorrupt."""
        rows = await self._reads.fetch(self._sql["state"], _CUT + tenant_id)
        return _cut_of(tenant_id, rows[0][0]) if rows else WHOLE

    async def ends(self, tenant_id: str) -> tuple[HeadRow, Cut]:
        """Where the chain ends and where it begins, in one read. Raises StoreCorrupt."""
        rows = await self._fetch("ends_of_chain", tenant_id, _CUT + tenant_id)
        if not rows:
            return empty_head(tenant_id), WHOLE
        *head, cut = rows[0]
        return HeadRow._make(head), _cut_of(tenant_id, cut) if cut else WHOLE

    async def tenants_with_receipts(self) -> list[str]:
        """Job across tenants: everyone with receipts, also one whose head was lost."""
        found: list[str] = []
        after = ""
        while rows := await self._reads.fetch(self._sql["next_tenant_with_receipts"], after):
            after = rows[0][0]
            found.append(after)
        return found

    async def facts(self, tenant_id: str, after_seq: int, until_seq: int) -> list[CallFactsRow]:
        """The facts beside receipts with after_seq < seq <= until_seq, oldest first."""
        rows = await self._fetch("facts_page", tenant_id, after_seq, until_seq)
        return [CallFactsRow._make(row) for row in rows]

    async def facts_saying(
        self, tenant_id: str, after_seq: int, until_seq: int, word: str
    ) -> list[tuple[int, str]]:
        """Seq and facts, without arguments, of receipts with after_seq < seq <= until_seq whose
        facts say a word of letters and digits; the newest first."""
        rows = await self._fetch("facts_saying", tenant_id, after_seq, until_seq, word)
        return [(row[0], row[1]) for row in rows]

    async def first_receipt(self, tenant_id: str, after_seq: int) -> int | None:
        """The seq of the oldest receipt after `after_seq`; None if there is none."""
        rows = await self._fetch("first_receipt", tenant_id, after_seq)
        return int(rows[0][0]) if rows else None

    async def first_open_call(self, tenant_id: str) -> int | None:
        """The seq of the oldest receipt whose call has not ended; None if all have."""
        rows = await self._fetch("first_open_call", tenant_id)
        return int(rows[0][0]) if rows else None

    async def last_before(self, tenant_id: str, before_us: int, head: HeadRow) -> int:
        """The last seq recorded before a time, found by halving: times never fall in a chain.

        The seq of the cut (0 for a whole chain) if there is none. Raises StoreCorrupt if a
        receipt in between is missing.
        """
        low, high = (await self.cut(tenant_id)).seq, head.seq
        while low < high:
            middle = (low + high + 1) // 2
            rows = await self._fetch("receipt_time", tenant_id, middle)
            if not rows:
                low = (await self.cut(tenant_id)).seq  # it may have been archived meanwhile
                if low < middle:
                    raise StoreCorrupt(f"receipt {middle} of {tenant_id!r} is missing")
            elif rows[0][0] < before_us:
                low = middle
            else:
                high = middle - 1
        return low

    async def count(self, table: str, tenant_id: str, after_seq: int, until_seq: int) -> int:
        """Rows of `call_facts` or `receipts` with after_seq < seq <= until_seq."""
        name = {"call_facts": "count_facts", "receipts": "count_receipts"}[table]
        total = 0
        for start, end in _stretches(after_seq, until_seq):
            total += (await self._fetch(name, tenant_id, start, end))[0][0]
        return total

    async def counts_of_small_tables(self) -> dict[str, int]:
        """Job across tenants: rows of the tables that stay small, and that a store of an older
        version has."""
        names = {
            "open_intent": "count_open_intents",
            **{table.name: table.counted_by for table in STANDING},
            "tree_tile": "count_tiles",
            "store_state": "count_states",
        }
        engine, applied = self._engine(), await self.schema_version()
        made = "".join(
            statement
            for step in read_migrations(engine) if step.version <= applied
            for statement in step.statements
        )  # fmt: skip
        there = set(re.findall(r"\bTABLE (\w+)", made))
        found = {}
        for table, name in names.items():
            if table in there:
                found[table] = int((await self._reads.fetch(self._sql[name]))[0][0])
        return found

    def _engine(self) -> str:
        return "postgres" if "server_state" in self._sql else "sqlite"

    async def schema_version(self) -> int:
        """The number of the last migration applied."""
        rows = await self._reads.fetch(self._sql["applied_migrations"])
        return int(rows[-1][0]) if rows else 0

    async def server(self) -> tuple[str, int] | None:
        """Version and bytes of the server's database; None where the store is a file."""
        if "server_state" not in self._sql:
            return None
        version = (await self._reads.fetch(self._sql["server_state"]))[0][0]
        size_bytes = (await self._reads.fetch(self._sql["database_size"]))[0][0]
        return str(version), int(size_bytes)

    async def facts_about(self, tenant_id: str, subject: Subject, until_seq: int) -> list[int]:
        """The seqs of the receipts up to `until_seq` beside which facts of a subject are kept."""
        name, found = _FACTS_OF[subject.kind], list[int]()
        start_seq = (await self.cut(tenant_id)).seq
        for start, end in _stretches(start_seq, until_seq):
            rows = await self._fetch(name, tenant_id, start, end, subject.name)
            found += [row[0] for row in rows]
        return found

    async def _fetch(self, name: str, tenant_id: str, *rest: Value) -> list[Row]:
        return await self._reads.fetch(self._sql[name], tenant_id, *rest, tenant=tenant_id)


def _stretches(after_seq: int, until_seq: int) -> list[tuple[int, int]]:
    """(after, until) pairs that cover a range, each short enough for one read."""
    starts = range(after_seq, until_seq, SEQS_A_READ)
    return [(start, min(start + SEQS_A_READ, until_seq)) for start in starts]


class Retention(CareReader):
    """Deletes what may leave the store, a few rows at a time."""

    def __init__(self, store: SqlStore, *, rows_a_transaction: int = ROWS_A_TRANSACTION) -> None:
        super().__init__(store)
        self._store = store
        self._driver = store._driver
        self._limit = rows_a_transaction

    async def overwrite_deleted(self) -> bool:
        """From now on deleted rows are overwritten in the file; False if the engine does so in
        its own time."""
        if "overwrite_deleted" not in self._sql:
            return False
        await self._driver.transaction(partial(fetch, self._sql["overwrite_deleted"]))
        return True

    async def erase(self, tenant_id: str, seqs: Sequence[int]) -> int:
        """Deletes the facts beside these receipts; gives how many there were."""
        rows = [(tenant_id, seq) for seq in seqs]
        return await self._in_turns(tenant_id, "delete_facts_of_receipt", rows)

    async def erase_approvals(self, tenant_id: str, texts: Mapping[str, str]) -> int:
        """Puts texts in place of what approvals asked, by their ids; those that are open stay as
        they are. Gives how many were changed."""
        rows, changed = [(tenant_id, *one) for one in texts.items()], 0
        for at in range(0, len(rows), self._limit):
            script = partial(_erase_approvals, self._sql, rows[at : at + self._limit])
            changed += await self._run(tenant_id, script)
        return changed

    async def erase_deliveries(self, tenant_id: str, delivery_ids: Sequence[str]) -> int:
        """Deletes what was told to sinks; gives how many there were."""
        rows = [(tenant_id, delivery_id) for delivery_id in delivery_ids]
        return await self._in_turns(tenant_id, "erase_delivery", rows)

    async def delete_facts(self, tenant_id: str, until_seq: int) -> int:
        """Deletes the facts beside receipts up to `until_seq`; gives how many there were."""
        after_seq = deleted = 0
        while True:
            script = partial(_delete_facts, self._sql, tenant_id, after_seq, until_seq, self._limit)
            end, count = await self._run(tenant_id, script)
            if end is None:
                return deleted
            after_seq, deleted = end, deleted + count

    async def cut_off(self, tenant_id: str, cut: Cut) -> tuple[int, int]:
        """Records the cut, then deletes what stands below it; gives receipts and facts deleted.

        The caller vouches for the archive. Raises CutRefused if the chain does not have that
        receipt, if nothing would be left after it, or if a call in it has not ended, and
        CutOvertaken where the chain begins later by now; then nothing was changed. Killed on the
        way, `finish_cut` goes on.
        """
        await self._run(tenant_id, partial(_record_cut, self._sql, tenant_id, cut))
        return await self.finish_cut(tenant_id)

    async def finish_cut(self, tenant_id: str) -> tuple[int, int]:
        """Deletes what a cut that was interrupted left; gives receipts and facts deleted."""
        until_seq = (await self.cut(tenant_id)).seq
        facts = await self.delete_facts(tenant_id, until_seq)
        receipts = 0
        while (first := await self.first_receipt(tenant_id, 0)) is not None and first <= until_seq:
            end = min(first - 1 + self._limit, until_seq)
            rows = [(tenant_id, first - 1, end)]
            script = partial(execute_many, self._sql["delete_receipts"], rows)
            receipts += await self._run(tenant_id, script)
        return receipts, facts

    async def _in_turns(self, tenant_id: str, name: str, rows: Sequence[tuple[Value, ...]]) -> int:
        """Runs a delete for all rows, some at a time; gives how many went."""
        gone = 0
        for at in range(0, len(rows), self._limit):
            script = partial(execute_many, self._sql[name], rows[at : at + self._limit])
            gone += await self._run(tenant_id, script)
        return gone

    async def _run(self, tenant_id: str, script: Callable[[], Script[T]]) -> T:
        result = await self._driver.transaction(self._while_open(script), [tenant_id])
        await self._store.after_commit()
        return result

    def _while_open(self, script: Callable[[], Script[T]]) -> Callable[[], Script[T]]:
        """The script, which raises StoreFenced or StoreMoved where the store has been moved since
        it was opened, or is being: what goes from it then stays where it was moved to."""
        return partial(_while_open, self._sql, script)


def _while_open(sql: Mapping[str, str], script: Callable[[], Script[T]]) -> Script[T]:
    yield from check_open_for_work(sql)
    return (yield from script())


def _delete_facts(
    sql: Mapping[str, str], tenant_id: str, after_seq: int, until_seq: int, limit: int
) -> Script[tuple[int | None, int]]:
    """The end of a batch (None if nothing was left) and how many facts were deleted."""
    rows = yield from fetch(sql["facts_batch_end"], tenant_id, after_seq, until_seq, limit)
    end = rows[0][0]
    if end is None:
        return None, 0
    return end, (yield from execute_many(sql["delete_facts"], [(tenant_id, after_seq, end)]))


def _erase_approvals(sql: Mapping[str, str], rows: Sequence[tuple[str, ...]]) -> Script[int]:
    """How many were not open."""
    changed = 0
    for row in rows:
        changed += len((yield from fetch(sql["erase_approval"], *row)))
    return changed


def overtaken(tenant_id: str, by: Cut) -> CutOvertaken:
    """What is said to whoever meets a cut that was made since he began."""
    return CutOvertaken(
        f"receipts 1 to {by.seq} of tenant {tenant_id!r} were cut off meanwhile, and are in "
        f"archives, the last of them {by.archive}"
    )


def _cut_of(tenant_id: str, text: str) -> Cut:
    try:
        return Cut(**json.loads(text))
    except (TypeError, ValueError) as error:
        raise StoreCorrupt(f"the cut of tenant {tenant_id!r} cannot be read") from error


def _record_cut(sql: Mapping[str, str], tenant_id: str, cut: Cut) -> Script[None]:
    heads = yield from fetch(sql["lock_heads"], json.dumps([tenant_id]))
    # Under the lock: what another process of a server cut off meanwhile, or is still deleting.
    said = yield from fetch(sql["state"], _CUT + tenant_id)
    before = _cut_of(tenant_id, said[0][0]) if said else WHOLE
    if cut.seq <= before.seq:
        raise overtaken(tenant_id, before)
    if not heads or heads[0][1] <= cut.seq:
        raise CutRefused(f"nothing of tenant {tenant_id!r} would be left after receipt {cut.seq}")
    found = yield from fetch(sql["receipt_time"], tenant_id, cut.seq)
    if found != [(cut.ts_us, cut.receipt_hash)]:
        raise CutRefused(f"receipt {cut.seq} of {tenant_id!r} is not the one that was archived")
    opened = yield from fetch(sql["first_open_call"], tenant_id)
    if opened and opened[0][0] <= cut.seq:
        raise CutRefused(f"the call of receipt {opened[0][0]} of {tenant_id!r} has not ended")
    yield from fetch(sql["put_state"], _CUT + tenant_id, json.dumps(asdict(cut)))
