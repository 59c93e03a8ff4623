"""Holds a store against the heads that were exported from it, before anything is recorded in it.

Knows: that a head which left this process is of a history that was durable, so that a store which
ends before it, or has another one in its place, was put back to an older state or is another one;
that only heads signed by our key count, and only those of the very chain; that a history which was
given up on record is no reason to stop again.
Must not know: what is done about it, how a target is written.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sidecar.ledger.checkpoint import read_signed, tenant_of
from sidecar.ledger.checkpoint_file import Kept, last_of_each
from sidecar.ledger.checkpoint_targets import FILE, is_accepted, is_signed_by
from sidecar.ledger.checkpointer import new_origin
from sidecar.ledger.proofs import root_at
from sidecar.ledger.tiles import TreeIncomplete
from sidecar.signed_note import SigningKey
from storage.errors import StoreError
from storage.known_heads import LostHead, Seen
from storage.sql_store import SqlReader
from storage.tree import ACCEPTED, CheckpointRow, TreeReader

_log = logging.getLogger("aegis.ledger")


@dataclass(frozen=True, slots=True)
class LostCheckpoint:
    """A head that was exported and is not of the store's history; `there` is where that ends."""

    tenant_id: str
    kept: Kept
    there: Seen
    place: str

    @property
    def head(self) -> LostHead:
        """The same as a head that was seen: its root stands for the receipt's hash."""
        checkpoint = self.kept.checkpoint
        return LostHead(self.tenant_id, Seen(checkpoint.size, checkpoint.root.hex()), self.there)

    def __str__(self) -> str:
        size = self.kept.checkpoint.size
        was = f"tenant {self.tenant_id!a}: a head of {size} receipts stands in {self.place}"
        if self.there.seq < size:
            return f"{was}, and the store ends at {self.there}"
        return f"{was}, and the store has another history; it ends at {self.there}"


class StoreBehindCheckpoint(StoreError):
    """The store does not have what was signed of it and exported."""

    code = "store_behind_checkpoint"
    next_step = (
        "Put the newer store back. If what is missing is lost for good, say so on the record: "
        "`aegis-sidecar store accept-rollback --config FILE --tenant TENANT --reason TEXT`."
    )

    def __init__(self, lost: Sequence[LostCheckpoint]) -> None:
        """`lost` is not empty."""
        more = f"; and {len(lost) - 1} more heads" if len(lost) > 1 else ""
        super().__init__(f"{lost[0]}{more}")


async def check_exported(
    reader: SqlReader, targets: Sequence[str], key: SigningKey, *, is_only_store: bool
) -> None:
    """Raises StoreBehindCheckpoint unless every exported head is of the store's history, or was
    given up on record. See `lost_checkpoints`."""
    lost = await lost_checkpoints(reader, targets, key, is_only_store=is_only_store)
    if lost:
        raise StoreBehindCheckpoint(lost)


async def lost_checkpoints(
    reader: SqlReader, targets: Sequence[str], key: SigningKey, *, is_only_store: bool
) -> list[LostCheckpoint]:
    """The last heads in files among `targets` that are not of the store's history.

    `is_only_store` says that no other store exports there with this key: then a tenant of whom
    the store has nothing lost all of it. A file that cannot be read is told of in the log: that
    it cannot be written will be, too. Raises a StoreError of reading.
    """
    found = []
    for target in targets:
        if not target.startswith(FILE):
            continue
        path = Path(target.removeprefix(FILE))
        try:
            heads = await asyncio.to_thread(last_of_each, path)
        except OSError as error:
            _log.error(
                "exported checkpoints cannot be read, and the store was not compared with them",
                extra={"detail": f"{path}: {error.strerror or error}"},
            )
            continue
        for kept in heads.values():
            lost = await _lost(reader, kept, target, key, is_only_store)
            if lost is not None:
                found.append(lost)
    return found


def accepted(lost: LostCheckpoint, at_us: int) -> CheckpointRow:
    """How the store keeps a head that was given up, so that it stops no later start."""
    checkpoint = lost.kept.checkpoint
    note = lost.kept.note.whole
    return CheckpointRow(
        lost.tenant_id, checkpoint.size, checkpoint.root.hex(), ACCEPTED, note, at_us
    )


async def _lost(
    reader: SqlReader, kept: Kept, place: str, key: SigningKey, is_only_store: bool
) -> LostCheckpoint | None:
    checkpoint = kept.checkpoint
    tenant_id = tenant_of(checkpoint.origin)
    if tenant_id is None or not is_signed_by(kept, key):
        return None
    head = await reader.head(tenant_id)
    there = Seen(head.seq, head.receipt_hash)
    if head.seq == 0:
        return LostCheckpoint(tenant_id, kept, there, place) if is_only_store else None
    if await is_accepted(reader, tenant_id, checkpoint.size, checkpoint.root):
        return None
    if checkpoint.origin != await _own_origin(reader, tenant_id):
        return None
    if checkpoint.size <= head.seq:
        try:
            if await root_at(reader, tenant_id, checkpoint.size) == checkpoint.root:
                return None
        except TreeIncomplete as error:
            _log.warning("an exported checkpoint cannot be compared", extra={"detail": str(error)})
            return None
    return LostCheckpoint(tenant_id, kept, there, place)


async def _own_origin(reader: SqlReader, tenant_id: str) -> str:
    row = await TreeReader(reader).latest_checkpoint(tenant_id)
    if row is not None:
        return read_signed(row.note)[0].origin
    return await new_origin(reader, tenant_id)
