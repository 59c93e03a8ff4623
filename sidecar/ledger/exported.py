"""Holds a store against the heads that were exported from it, before anything is recorded in it.

Knows: that a head which left this process is of a history that was durable, so that a store which
ends before it, or has another one in its place, was put back to an older state or is another one;
that of heads in files only those signed by our key count, and only those of the very chain, unless
nothing signed shows that the store's is another one that was there before; that a witness shows no
head, but takes none that does not go on from what it has seen; that a history which was given up on
record is no reason to stop again.
Must not know: what is done about it, how a target is written.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sidecar.counted import counted
from sidecar.ledger.checkpoint import read_signed, tenant_of
from sidecar.ledger.checkpoint_file import Kept, last_of_each
from sidecar.ledger.checkpoint_targets import (
    FILE,
    UNKNOWN_ROOT,
    NotTaken,
    UrlTarget,
    gave_up_at,
    is_accepted,
    is_signed_by,
    made_url_target,
)
from sidecar.ledger.checkpointer import new_origin
from sidecar.ledger.proofs import root_at
from sidecar.ledger.tiles import TreeIncomplete
from sidecar.signed_note import SigningKey
from storage.errors import StoreError
from storage.known_heads import LostHead, Seen
from storage.sql_store import SqlReader
from storage.tree import ACCEPTED, CheckpointRow, TreeReader

_log = logging.getLogger("aegis.ledger")

#: What a start waits for one witness.
WITNESS_S = 5.0


@dataclass(frozen=True, slots=True)
class LostCheckpoint:
    """A head that was exported and is not of the store's history; `there` is where that ends.

    A witness tells its `size` alone: then `root` is unknown, and `note` is the head it refused.
    """

    tenant_id: str
    size: int
    root: str
    note: str
    there: Seen
    place: str

    @property
    def head(self) -> LostHead:
        """The same as a head that was seen: its root stands for the receipt's hash."""
        return LostHead(self.tenant_id, Seen(self.size, self.root), self.there)

    def __str__(self) -> str:
        was = (
            f"tenant {self.tenant_id!a}: a head of {counted(self.size, 'receipt')} stands "
            f"in {self.place}"
        )
        if self.there.seq < self.size:
            return f"{was}, and the store ends at {self.there}"
        return f"{was}, and the store has another history; it ends at {self.there}"


class StoreBehindCheckpoint(StoreError):
    """The store does not have what was signed of it and exported."""

    code = "store_behind_checkpoint"
    next_step = (
        "Put the newer store back. If what is missing is lost for good, say so on the record: "
        "`aegis-sidecar store accept-rollback --config FILE --tenant TENANT --reason TEXT`. If a "
        "witness is wrong, take it out of receipts.checkpoint.to."
    )

    def __init__(self, lost: Sequence[LostCheckpoint]) -> None:
        """`lost` is not empty."""
        more = f"; and {counted(len(lost) - 1, 'more head')}" if len(lost) > 1 else ""
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
    """The last heads in files among `targets`, and those that witnesses have seen, which are not of
    the store's history.

    `is_only_store` says that no other store exports there with this key: then a tenant of whom the
    store has nothing, or a chain of which this key has signed nothing, lost all of it. A file that
    cannot be read is told of in the log: that it cannot be written will be, too. So is a witness
    that does not answer in time: the export will tell. Raises a StoreError of reading.
    """
    found = []
    for target in targets:
        if target.startswith(FILE):
            found += await _lost_of_file(reader, target, key, is_only_store)
    asked = [_lost_of_witness(reader, one) for one in _witnesses(targets, reader)]
    for lost in await asyncio.gather(*asked):
        found += lost
    return found


def accepted(lost: LostCheckpoint, at_us: int) -> CheckpointRow:
    """How the store keeps a head that was given up, so that it stops no later start."""
    return CheckpointRow(lost.tenant_id, lost.size, lost.root, ACCEPTED, lost.note, at_us)


# -- files -------------------------------------------------------------------------------------


async def _lost_of_file(
    reader: SqlReader, target: str, key: SigningKey, is_only_store: bool
) -> list[LostCheckpoint]:
    path = Path(target.removeprefix(FILE))
    try:
        heads = await asyncio.to_thread(last_of_each, path)
    except OSError as error:
        _log.error(
            "exported checkpoints cannot be read, and the store was not compared with them",
            extra={"detail": f"{path}: {error.strerror or error}"},
        )
        return []
    found = [await _lost(reader, kept, target, key, is_only_store) for kept in heads.values()]
    return [lost for lost in found if lost is not None]


async def _lost(
    reader: SqlReader, kept: Kept, place: str, key: SigningKey, is_only_store: bool
) -> LostCheckpoint | None:
    checkpoint = kept.checkpoint
    tenant_id = tenant_of(checkpoint.origin)
    if tenant_id is None or not is_signed_by(kept, key):
        return None
    head = await reader.head(tenant_id)
    there = Seen(head.seq, head.receipt_hash)
    size, root = checkpoint.size, checkpoint.root.hex()
    lost = LostCheckpoint(tenant_id, size, root, kept.note.whole, there, place)
    if head.seq == 0:
        return lost if is_only_store else None
    if await is_accepted(reader, tenant_id, checkpoint.size, checkpoint.root):
        return None
    origin, is_ours = await _own_origin(reader, tenant_id, key)
    if checkpoint.origin != origin and (is_ours or not is_only_store):
        return None
    if checkpoint.size <= head.seq:
        try:
            if await root_at(reader, tenant_id, checkpoint.size) == checkpoint.root:
                return None
        except TreeIncomplete as error:
            _log.warning("an exported checkpoint cannot be compared", extra={"detail": str(error)})
            return None
    return lost


async def _own_origin(reader: SqlReader, tenant_id: str, key: SigningKey) -> tuple[str, bool]:
    """The chain's, and whether a head of it that our key has signed shows that it is one."""
    row = await TreeReader(reader).latest_checkpoint(tenant_id)
    if row is None:
        return await new_origin(reader, tenant_id), False
    kept = Kept(*read_signed(row.note))
    return kept.checkpoint.origin, is_signed_by(kept, key)


# -- witnesses ---------------------------------------------------------------------------------


def _witnesses(targets: Sequence[str], reader: SqlReader) -> list[UrlTarget]:
    """Those whose answers say something of a history; a URL that only takes notes does not."""
    urls = [made_url_target(one, reader) for one in targets if not one.startswith(FILE)]
    return [one for one in urls if one.is_witness]


async def _lost_of_witness(reader: SqlReader, witness: UrlTarget) -> list[LostCheckpoint]:
    """Offers it the newest signed head of each chain, as the export will: it takes none that does
    not go on from what it has seen."""
    found: list[LostCheckpoint] = []
    untold = ""
    rows = await TreeReader(reader).latest_checkpoints()
    try:
        async with asyncio.timeout(WITNESS_S):
            for row in rows:
                try:
                    await witness.deliver(row)
                except NotTaken as error:
                    if error.reason in ("ahead", "fork"):
                        found += await _refused(reader, witness.name, row, error.size)
                        continue
                    untold = untold or str(error)
                    if error.reason == "unreachable":
                        break
    except TimeoutError:
        untold = f"{witness.name} did not answer about all chains within {WITNESS_S} s"
    finally:
        await witness.close()
    if untold:
        _log.error(
            "a witness has not told whether it knows the store's history; the export will",
            extra={"detail": untold},
        )
    return found


async def _refused(
    reader: SqlReader, place: str, row: CheckpointRow, size: int
) -> list[LostCheckpoint]:
    if await gave_up_at(reader, row.tenant_id, size):
        return []
    head = await reader.head(row.tenant_id)
    there = Seen(head.seq, head.receipt_hash)
    return [LostCheckpoint(row.tenant_id, size, UNKNOWN_ROOT, row.note, there, place)]
