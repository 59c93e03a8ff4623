"""Gathers an evidence pack from a store: the incident, its receipts, and their places in the tree.

Knows: where everything an incident rests on is found. A pack is gathered as it stands, also where
something was changed or is not there: whether it holds is the verdict's to say.
Must not know: files, who asks.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sidecar.counted import counted
from sidecar.ledger.checkpoint import tenant_of
from sidecar.ledger.merkle import frontier_from_hex, root
from sidecar.ledger.merkle_proofs import Span, consistency_spans, inclusion_spans
from sidecar.ledger.proofs import latest_checkpoint
from sidecar.ledger.receipt import body_of
from sidecar.ledger.tiles import TreeHashes, TreeIncomplete, hash_of
from sidecar.soc.incident_history import LOOKED_AT_MAX, acts, standing
from sidecar.soc.incident_shown import shown_alert, shown_incident
from sidecar.soc.pack_form import (
    FORM,
    Beside,
    Pack,
    PackedAlert,
    PackedChange,
    PackedIncident,
    PackedReceipt,
    PackedTree,
    wanted_seqs,
)
from storage.errors import StoreCorrupt
from storage.listings import Listings
from storage.records import HeadRow
from storage.tree import TILE_WIDTH, TreeReader

if TYPE_CHECKING:
    from sidecar.clock import Clock
    from sidecar.ledger.checkpoint_file import Kept
    from storage.sql_store import SqlReader
    from storage.standing import AuditRow


async def packed(
    reader: SqlReader,
    clock: Clock,
    tenant: str,
    incident_id: str,
    *,
    with_facts: bool = True,
    leaves_max: int | None = None,
    size: int | None = None,
    looked_at_max: int = LOOKED_AT_MAX,
) -> Pack:
    """The pack of an incident. `leaves_max` bounds the receipts that are read for the head's tree
    beyond the hashes that are kept of it: with more of them the pack has no proofs to the head.
    `size` is of a tree, not larger than the head's, that somebody kept a checkpoint of.
    `looked_at_max` bounds the receipts that are looked at for what was done to the incident and
    no audit row tells of.

    Raises IncidentRefused (unknown_incident, stale), ValueError for rows that cannot be read at
    all, and any StoreError of reading.
    """
    head = await reader.head(tenant)
    row, rows, found = await standing(reader, tenant, incident_id)
    changes = [_change(one) for one in found]
    alerts = [PackedAlert.model_validate(shown_alert(one)) for one in rows]
    gathering = _Gathering(reader, tenant, with_facts=with_facts, leaves_max=leaves_max, size=size)
    seqs = wanted_seqs(alerts, changes)
    done, until = await acts(reader, row, rows, min(seqs, default=1), head.seq, looked_at_max)
    await gathering.gather(sorted({*seqs, *done}))
    return Pack(
        form=FORM,
        made_at_us=clock.now_us(),
        tenant=tenant,
        has_facts=with_facts,
        incident=PackedIncident.model_validate(shown_incident(row)),
        alerts=alerts,
        receipts=gathering.receipts,
        changes=changes,
        archived=gathering.archived,
        missing=gathering.missing,
        trees=gathering.trees,
        consistency=gathering.consistency,
        left_out=gathering.left_out,
        looked_until=until,
    )


async def held_against(
    reader: SqlReader, tenant: str, heads: Sequence[Kept]
) -> tuple[int | None, list[str]]:
    """Checkpoints that were kept elsewhere, held against the chain as it stands: the size of the
    largest that is of this history, and what is wrong with the others. Raises a StoreError."""
    head = await reader.head(tenant)
    roots = {
        (kept.checkpoint.size, kept.checkpoint.root)
        for kept in heads
        if tenant_of(kept.checkpoint.origin) == tenant and kept.checkpoint.size
    }
    agreed, faults = None, []
    for size, expected in sorted(roots):
        if size > head.seq:
            faults.append(
                f"CUT: {counted(size, 'receipt was', 'receipts were')} signed, and there "
                f"are {head.seq}"
            )
            continue
        try:
            (found,) = await TreeHashes(reader, tenant, size).of_spans([Span(0, size)])
        except StoreCorrupt as error:
            faults.append(f"the first {counted(size, 'receipt')}: {error}")
            continue
        if found == expected:
            agreed = size
        else:
            faults.append(
                f"REWRITTEN: the first {counted(size, 'receipt')} are not what was signed"
            )
    return agreed, faults


def _change(row: AuditRow) -> PackedChange:
    return PackedChange(
        seq=row.seq,
        at_us=row.at_us,
        actor=row.actor,
        action=row.action,
        subject=row.subject,
        before=row.before_state,
        after=row.after_state,
        reason=row.reason,
    )


class _Gathering:
    """Receipts of one tenant with their proofs, as they are read."""

    def __init__(
        self,
        reader: SqlReader,
        tenant: str,
        *,
        with_facts: bool,
        leaves_max: int | None,
        size: int | None,
    ) -> None:
        self._reader = reader
        self._tenant = tenant
        self._with_facts = with_facts
        self._leaves_max = leaves_max
        self._size = size
        self.receipts: list[PackedReceipt] = []
        self.archived: list[int] = []
        self.missing: list[int] = []
        self.trees: list[PackedTree] = []
        self.consistency: list[list[str] | None] = []
        self.left_out: list[str] = []

    async def gather(self, wanted: list[int]) -> None:
        """All of them."""
        head = await self._reader.head(self._tenant)
        cut = await Listings(self._reader).cut(self._tenant)
        await self._find_trees(head)
        trees = {one.size: TreeHashes(self._reader, self._tenant, one.size) for one in self.trees}
        for seq in wanted:
            if seq <= cut.seq:
                self.archived.append(seq)
                continue
            found = await self._receipt(seq)
            if found is None:
                self.missing.append(seq)
                continue
            proofs = {}
            for size, hashes in trees.items():
                path = (
                    await self._path(hashes, inclusion_spans(seq - 1, size))
                    if (seq <= size)
                    else None
                )
                if path is not None:
                    proofs[str(size)] = path
            self.receipts.append(found.model_copy(update={"proofs": proofs}))
        for old, new in itertools.pairwise(one.size for one in self.trees):
            self.consistency.append(await self._path(trees[new], consistency_spans(old, new)))

    async def _find_trees(self, head: HeadRow) -> None:
        """The last signed tree, and that of the head."""
        latest = await latest_checkpoint(self._reader, self._tenant)
        if latest is None:
            self._leave_out("there is no signed checkpoint")
        else:
            self.trees.append(PackedTree(size=latest.size, root=latest.root, note=latest.note))
        if self._size is not None:
            await self._add(self._size)
        if not head.seq or head.seq in {one.size for one in self.trees}:
            return
        if self._leaves_max is not None:
            last = await TreeReader(self._reader).last_tile(self._tenant, 0)
            kept = 0 if last is None else last[0] * TILE_WIDTH + last[1]
            if head.seq - kept > self._leaves_max:
                self._leave_out(
                    f"the tree of the head at {head.seq} is not kept, and too large to be made here"
                )
                return
        try:
            top = root(frontier_from_hex(head.frontier, head.seq)).hex()
        except ValueError as error:
            raise StoreCorrupt(f"the head of {self._tenant!r} is damaged: {error}") from error
        self.trees.append(PackedTree(size=head.seq, root=top, note=""))

    async def _add(self, size: int) -> None:
        """A tree that somebody kept a checkpoint of."""
        known = {one.size for one in self.trees}
        found = await self._path(TreeHashes(self._reader, self._tenant, size), [Span(0, size)])
        if found and size not in known:
            self.trees.append(PackedTree(size=size, root=found[0], note=""))
            self.trees.sort(key=lambda one: one.size)

    async def _receipt(self, seq: int) -> PackedReceipt | None:
        rows = await self._reader.receipts(self._tenant, seq - 1, 1)
        if not rows or rows[0].seq != seq:
            return None
        row = rows[0]
        try:
            previous = await hash_of(self._reader, self._tenant, seq - 1)
        except TreeIncomplete:
            previous = ""
        beside = None
        if self._with_facts or row.kind == "control":
            facts = await self._reader.call_facts(self._tenant, seq)
            if facts is not None:
                beside = Beside(salt=facts.salt, arguments=facts.arguments, facts=facts.facts)
        receipt = {**body_of(row, previous), "receipt_hash": row.receipt_hash}
        return PackedReceipt(receipt=receipt, beside=beside, proofs={})

    async def _path(self, hashes: TreeHashes, spans: list[Span]) -> list[str] | None:
        """None, and said so once, where hashes are not there or are not those of the receipts."""
        try:
            return [one.hex() for one in await hashes.of_spans(spans)]
        except (TreeIncomplete, StoreCorrupt) as error:
            self._leave_out(f"the tree: {error}")
            return None

    def _leave_out(self, what: str) -> None:
        if what not in self.left_out:
            self.left_out.append(what)
