"""Puts rows that were read out of a damaged store into a new one, as they stand.

Knows: which tables make up a store, and that a head is put only after all that stands before it;
that what is of a place beyond the end of its chain stands for nothing in a store that ends there.
Nothing here opens, reads or changes the damaged store: that is the caller's, through a copy.
Must not know: what makes a receipt sound, or the engine.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from storage.driver import Script, execute_many, execute_together
from storage.errors import StoreError, StoreReadOnly
from storage.records import CallFactsRow, HeadRow, OpenIntentRow, ReceiptRow
from storage.retention import WHOLE, Cut
from storage.sql_store import SqlReader, SqlStore
from storage.sqlite_file import FileLock, _translated
from storage.standing import STANDING
from storage.tree import SIGNED, CheckpointRow

#: Names in the folder of a damaged store that belong to it.
_PARTS = ("", "-wal")
#: The column of `watch_mark` that says how far the record was looked at.
_LOOKED_AT: Final = 4


@dataclass(slots=True)
class Standing:
    """What of a damaged store was not carried: tables that cannot be read, and by table how many
    rows are of receipts that are lost."""

    lost: list[str] = field(default_factory=list)
    beyond: dict[str, int] = field(default_factory=dict)


def copy_as_it_is(source: Path, folder: Path) -> Path:
    """Copies a store's file and its log, byte for byte, into a folder; gives the copy's path.

    Nobody may write to it meanwhile: its lock is held, unless its place is read-only. Raises
    StoreHeld or another StoreError.
    """
    try:
        lock: FileLock | None = FileLock(source)
    except StoreReadOnly:
        lock = None
    try:
        for end in _PARTS:
            part = source.with_name(source.name + end)
            if part.exists():
                shutil.copyfile(part, folder / f"salvage.db{end}")
    except OSError as error:
        raise _translated(error, source) from error
    finally:
        if lock is not None:
            lock.release()
    return folder / "salvage.db"


class Salvage:
    """Fills a new store."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._driver = store._driver
        self._sql = store._sql

    async def put(
        self, tenant_id: str, receipts: Sequence[ReceiptRow], facts: Sequence[CallFactsRow]
    ) -> None:
        """Receipts with their hashes, and what stood beside them."""

        def script() -> Script[list[int]]:
            return (
                yield from execute_together(
                    (self._sql["insert_receipt"], receipts), (self._sql["insert_call_facts"], facts)
                )
            )

        await self._driver.transaction(script, [tenant_id])
        await self._store.after_commit()

    async def carry_standing(
        self, damaged: SqlReader, ends: Mapping[str, int], shortened: Collection[str]
    ) -> Standing:
        """What stands beside the chains, and what decisions of today rest on. `ends` are the last
        receipts that were kept, by tenant; `shortened` the tenants of whom later ones are lost."""
        standing = Standing()
        for table in STANDING:
            try:
                rows = await damaged._reads.fetch(damaged._sql[table.read])
            except StoreError:
                standing.lost.append(table.name)
                continue
            kept = _as_far(table.name, rows, ends, shortened)
            if len(kept) < len(rows):
                standing.beyond[table.name] = len(rows) - len(kept)
            await self._driver.transaction(partial(execute_many, self._sql[table.put], kept))
        return standing

    async def finish(self, head: HeadRow, opened: Sequence[OpenIntentRow], start: Cut) -> None:
        """The end of a tenant's chain, the calls in it that have not ended, and where it begins."""
        cut = [(f"cut:{head.tenant_id}", json.dumps(asdict(start)))] if start != WHOLE else []

        def script() -> Script[int]:
            yield from execute_many(self._sql["put_state"], cut)
            yield from execute_many(self._sql["insert_open_intent"], opened)
            return (yield from execute_many(self._sql["move_put_head"], [head]))

        await self._driver.transaction(script, [head.tenant_id])


def _as_far(
    table: str, rows: Sequence[Any], ends: Mapping[str, int], shortened: Collection[str]
) -> list[Any]:
    """The rows of a table as they stand where the chains end at `ends`."""
    if table == "audit_event":
        return [row for row in rows if row[1] <= ends.get(row[0], 0)]
    if table == "checkpoint":  # Of another history it stays: forks are evidence, others given up.
        heads = [CheckpointRow(*row) for row in rows]
        return [
            row for row in heads if row.kind != SIGNED or row.size <= ends.get(row.tenant_id, 0)
        ]
    if table == "watch_mark":  # Else nobody would look at what is recorded in the lost ones' place.
        return [
            (*row[:_LOOKED_AT], min(row[_LOOKED_AT], ends.get(row[0], 0)), *row[_LOOKED_AT + 1 :])
            for row in rows
        ]
    if table == "watch_memory":  # It says of each subject at which receipt it was seen last.
        return [row for row in rows if row[0] not in shortened]
    return list(rows)
