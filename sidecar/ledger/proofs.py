"""What can be shown of a tenant's chain to somebody who has only a checkpoint.

Knows: the latest checkpoints, and proofs out of tiles: that a receipt is in a signed tree, that one
signed tree goes on from another. Plain functions over a reader, for the command line and the API.
Must not know: who asks, how an answer is written.
"""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.counted import counted
from sidecar.ledger.merkle_proofs import Span, consistency_spans, inclusion_spans
from sidecar.ledger.receipt import body_of
from sidecar.ledger.receipt_proof import proof_text, receipt_line
from sidecar.ledger.tiles import TreeHashes, hash_of
from storage.errors import StoreCorrupt, StoreError
from storage.sql_store import SqlReader
from storage.tree import SIGNED, CheckpointRow, TreeReader

LIST_MAX = 1000


class NoProof(StoreError):
    """There is no such receipt, or no tree in which it could be shown."""

    code = "no_proof"
    next_step = "A receipt can be shown once a checkpoint covers it: `receipts checkpoint` lists."


@dataclass(frozen=True, slots=True)
class Inclusion:
    """Receipt `seq` (leaf `seq` - 1) is in the tree of `size`, whose root is `root`."""

    seq: int
    size: int
    leaf: bytes
    hashes: tuple[bytes, ...]
    root: bytes


@dataclass(frozen=True, slots=True)
class Consistency:
    """The tree of `size` goes on from that of `old_size`."""

    old_size: int
    size: int
    hashes: tuple[bytes, ...]


async def latest_checkpoint(reader: SqlReader, tenant_id: str) -> CheckpointRow | None:
    """The last signed head of the chain; None if there is none."""
    return await TreeReader(reader).latest_checkpoint(tenant_id)


async def list_checkpoints(
    reader: SqlReader, tenant_id: str, *, before_size: int | None = None, limit: int = 100
) -> list[CheckpointRow]:
    """Checkpoints of any kind, the largest first; `before_size` is for the next page."""
    before = 2**63 - 1 if before_size is None else before_size
    bounded = max(1, min(limit, LIST_MAX))
    return await TreeReader(reader).checkpoints_before(tenant_id, before, bounded)


async def inclusion(
    reader: SqlReader, tenant_id: str, seq: int, size: int | None = None
) -> Inclusion:
    """Shows receipt `seq` in the tree of `size` (the latest signed one's). Raises NoProof,
    TreeIncomplete, or a StoreError of reading."""
    size = await _checked_size(reader, tenant_id, size)
    if not 1 <= seq <= size:
        raise NoProof(f"receipt {seq} of {tenant_id!r} is not among the first {size}")
    hashes = TreeHashes(reader, tenant_id, size)
    path = await hashes.of_spans(inclusion_spans(seq - 1, size))
    leaf, top = await hashes.of_spans([Span(seq - 1, seq), Span(0, size)])
    return Inclusion(seq, size, leaf, tuple(path), top)


async def consistency(
    reader: SqlReader, tenant_id: str, old_size: int, size: int | None = None
) -> Consistency:
    """Shows that the tree of `size` (the latest signed one's) goes on from that of `old_size`.
    Raises as `inclusion` does."""
    size = await _checked_size(reader, tenant_id, size)
    if not 0 <= old_size <= size:
        raise NoProof(f"a tree of {counted(size, 'receipt')} does not go on from one of {old_size}")
    hashes = TreeHashes(reader, tenant_id, size)
    found = await hashes.of_spans(consistency_spans(old_size, size))
    return Consistency(old_size, size, tuple(found))


async def root_at(reader: SqlReader, tenant_id: str, size: int) -> bytes:
    """The root that the tree of the first `size` receipts has. Raises as `inclusion` does."""
    size = await _checked_size(reader, tenant_id, size)
    for row in await TreeReader(reader).checkpoints_at(tenant_id, size):
        if row.kind == SIGNED:
            return bytes.fromhex(row.root)
    (found,) = await TreeHashes(reader, tenant_id, size).of_spans([Span(0, size)])
    return found


async def portable_proof(reader: SqlReader, tenant_id: str, seq: int) -> str:
    """A receipt with its proof and the latest checkpoint, as a file (C2SP tlog-proof). Raises as
    `inclusion` does, and NoProof for a receipt that is in an archive."""
    latest = await latest_checkpoint(reader, tenant_id)
    if latest is None:
        raise NoProof(f"there is no checkpoint of {tenant_id!r}")
    shown = await inclusion(reader, tenant_id, seq, latest.size)
    if shown.root.hex() != latest.root:
        raise StoreCorrupt(f"the tree of {tenant_id!r} is not the one that was signed")
    rows = await reader.receipts(tenant_id, seq - 1, 1)
    if not rows or rows[0].seq != seq:
        raise NoProof(f"receipt {seq} of {tenant_id!r} is in an archive, only its hash is here")
    body = body_of(rows[0], await hash_of(reader, tenant_id, seq - 1))
    return proof_text(receipt_line(body, rows[0].receipt_hash), seq, shown.hashes, latest.note)


async def _checked_size(reader: SqlReader, tenant_id: str, size: int | None) -> int:
    if size is None:
        latest = await latest_checkpoint(reader, tenant_id)
        if latest is None:
            raise NoProof(f"there is no checkpoint of {tenant_id!r}")
        return latest.size
    head = await reader.head(tenant_id)
    if not 1 <= size <= head.seq:
        raise NoProof(f"{tenant_id!r} has {counted(head.seq, 'receipt')}, not {size}")
    return size
