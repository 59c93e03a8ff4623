"""The signed heads that a store keeps of its own chains, held against the receipts that are there.

Knows: that heads are read before the end of the chain is, so that one beyond the end is of receipts
which are gone; that a head nobody trusted has signed is compared all the same, and anchors nothing;
that heads before the receipts at hand are left out, since a later one vouches for them too; that
heads of a history which was given up on record are no heads of this one.
Must not know: how receipts are verified by themselves, who asks, how a verdict is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sidecar.counted import counted
from sidecar.ledger.anchors import AnchorFault, Anchors, TrustedKey, anchored, signer_of, watch_for
from sidecar.ledger.care import ROTATE_KEY
from sidecar.ledger.checkpoint import read_signed, tenant_of
from sidecar.ledger.checkpoint_file import Kept
from sidecar.ledger.merkle import append, frontier_from_hex, root
from sidecar.ledger.merkle_proofs import Span, is_consistent, subtrees
from sidecar.ledger.proofs import NoProof, consistency
from sidecar.ledger.tiles import TreeHashes, TreeIncomplete
from sidecar.ledger.verify import Verdict, Watch
from sidecar.signed_note import BadNote
from storage.errors import StoreCorrupt
from storage.records import ReceiptRow
from storage.retention import CareReader
from storage.sql_store import SqlReader
from storage.tree import CheckpointRow, TreeReader

#: Of a root that cannot be shown to belong to the receipts: no tree has it.
_NO_ROOT = b""


@dataclass(frozen=True, slots=True)
class StoredHeads:
    """What a store has signed of one chain, the newest few; `fault` if a head is none."""

    tenant_id: str
    kept: Sequence[Kept]
    fault: AnchorFault | None

    def watch(self) -> Watch:
        """What has to be noted while the receipts are read."""
        return watch_for(self.kept)

    def held(self, watch: Watch, end_seq: int, trusted: Sequence[TrustedKey]) -> Anchors:
        """What they show of a chain that ends at `end_seq` and had the roots of `watch`."""
        if self.fault is not None:
            return Anchors(fault=self.fault)
        verdict = Verdict(end_seq, self.tenant_id, 1, end_seq, "", "", "", None)
        there = [
            kept
            for kept in self.kept
            if kept.checkpoint.size in watch.roots or kept.checkpoint.size > end_seq
        ]
        return anchored(verdict, watch, there, trusted, may_be_foreign=True)


async def signed_heads(reader: SqlReader, tenant_id: str) -> StoredHeads:
    """To be read before the chain's head is. Raises a StoreError of reading."""
    kept, fault = [], None
    for row in await TreeReader(reader).signed_checkpoints(tenant_id):
        try:
            kept.append(_kept(row))
        except BadNote as error:
            what = f"the signed head of {counted(row.size, 'receipt')} is damaged: {error}"
            fault = AnchorFault("forged", 1, what, (row.note,))
    return StoredHeads(tenant_id, kept, fault)


def _kept(row: CheckpointRow) -> Kept:
    """A row with its note, which is about the same tree. Raises BadNote."""
    checkpoint, note = read_signed(row.note)
    said = (tenant_of(checkpoint.origin), checkpoint.size, checkpoint.root.hex())
    if said != (row.tenant_id, row.size, row.root):
        raise BadNote("its note is about another tree")
    return Kept(checkpoint, note)


def note_rotations(watch: Watch, rows: Iterable[ReceiptRow]) -> None:
    """Notes the receipts that say that the signing key was changed."""
    for row in rows:
        if row.kind == "control" and row.action == ROTATE_KEY:
            watch.rotations.append((row.seq, row.resource))


class HeldStretch:
    """Some receipts in a row that hold by themselves, held against the signed heads: within them by
    the roots of their own tree, after them by a proof that the newest goes on from it."""

    def __init__(
        self, reader: SqlReader, heads: StoredHeads, trusted: Sequence[TrustedKey]
    ) -> None:
        self._reader = reader
        self._heads = heads
        self._trusted = trusted
        self._frontier: list[bytes] | None = None
        self._fault = heads.fault
        self.watch = heads.watch()
        self._size = 0

    @property
    def wants_leaves(self) -> bool:
        """Whether there is something that the receipts can be compared with."""
        return self._frontier is not None

    async def begin(self, first_seq: int) -> None:
        """Where the receipts begin. Raises a StoreError of reading."""
        self._size = first_seq - 1
        if not self._heads.kept or self._fault is not None:
            return
        try:
            self._frontier = await _frontier_at(self._reader, self._heads.tenant_id, self._size)
        except TreeIncomplete:
            return  # Nothing is anchored then, and it is said.
        except (StoreCorrupt, ValueError) as error:
            self._fault = AnchorFault("damaged", 1, f"what is before does not hold: {error}")

    def take(self, leaves: Iterable[bytes]) -> None:
        """The next receipts, as leaves of the tree."""
        if self._frontier is None:
            return
        for leaf in leaves:
            append(self._frontier, self._size, leaf)
            self._size += 1
            if self._size in self.watch.sizes:
                self.watch.roots[self._size] = root(self._frontier)

    async def prove_newest(self, end_seq: int) -> None:
        """Looks whether the newest head, of a chain that ends at `end_seq`, goes on from here.
        Raises a StoreError of reading."""
        newest = self._newest()
        if newest is None or self._frontier is None:
            return
        size, tenant_id = newest.checkpoint.size, self._heads.tenant_id
        if not self._size < size <= end_seq:
            return
        try:
            shown = await consistency(self._reader, tenant_id, self._size, size)
        except (NoProof, TreeIncomplete):
            return
        except StoreCorrupt as error:
            self._fault = AnchorFault("damaged", self._size + 1, str(error))
            return
        here, there = root(self._frontier), newest.checkpoint.root
        goes_on = is_consistent(self._size, here, size, there, shown.hashes)
        self.watch.roots[size] = there if goes_on else _NO_ROOT

    def anchors(self, end_seq: int) -> Anchors:
        """What was found. Pure; it takes a signature check for each head."""
        if self._fault is not None:
            return Anchors(fault=self._fault)
        return self._heads.held(self.watch, end_seq, self._trusted)

    def _newest(self) -> Kept | None:
        """The newest head that somebody trusted has signed; if there is none, the newest: it is
        compared all the same."""
        for kept in self._heads.kept:
            if signer_of(kept, self._trusted) is not None:
                return kept
        return self._heads.kept[0] if self._heads.kept else None


async def _frontier_at(reader: SqlReader, tenant_id: str, size: int) -> list[bytes]:
    cut = await CareReader(reader).cut(tenant_id)
    if cut.seq == size:
        return frontier_from_hex(cut.frontier, size)
    hashes = TreeHashes(reader, tenant_id, size)
    return [await hashes.of_subtree(one) for one in subtrees(Span(0, size))]
