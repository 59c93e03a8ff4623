"""Signs the heads of the chains, beside the way of calls and never in it.

Knows: when a chain's head is due (so many receipts, or so long since the first that is not
covered), that its tree is grown first, so that what is signed can be proved and agrees with the
receipts, that a key which was replaced on record signs nothing more, and that the whole of it takes
no more than a share of the time.
Must not know: where heads are sent, who asks for proofs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sidecar.clock import Clock
from sidecar.ledger.checkpoint import Checkpoint, origin_of, read_signed, signed
from sidecar.ledger.checkpoint_export import Exporter
from sidecar.ledger.fence import Fence
from sidecar.ledger.key_standing import KeyStanding
from sidecar.ledger.merkle import frontier_from_hex, root
from sidecar.ledger.tiles import TreeDiffers, TreeGrowth, TreeIncomplete
from sidecar.signed_note import SigningKey
from storage.errors import StoreCorrupt, StoreError
from storage.known_heads import Seen
from storage.retention import CareReader
from storage.sql_store import SqlReader, SqlStore
from storage.tree import SIGNED, CheckpointRow, TreeWriter

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = logging.getLogger("aegis.ledger")

TICK_S = 1.0
#: Heads that one transaction keeps.
HEADS_A_TRANSACTION = 200
#: Tiles that one turn makes of one chain; a long chain that has none is caught up with in turns.
TILES_A_TURN = 64
#: After a tile, so many times as long as it took is left to others.
REST_FACTOR = 3.0
REST_MAX_S = 0.05
#: What may be signed and sent when the sidecar stops.
LAST_S = 5.0


class Checkpointer:
    """One for a store. All is done on the event loop's thread."""

    def __init__(
        self,
        store: SqlStore,
        clock: Clock,
        fence: Fence,
        key: SigningKey,
        *,
        every_s: float,
        receipts: int,
        exporters: Sequence[Exporter] = (),
    ) -> None:
        self._store = store
        self._tree = TreeWriter(store)
        self._clock = clock
        self._fence = fence
        self._key = key
        self._standing = KeyStanding(store)
        self._receipts = receipts
        self.exporters = exporters
        self._tick_s = min(TICK_S, every_s / 2)
        self._wait_ns = int((every_s - self._tick_s) * 1e9)
        self._sizes: dict[str, int] = {}
        self._origins: dict[str, str] = {}
        self._growths: dict[str, TreeGrowth] = {}
        self._since_ns: dict[str, int] = {}
        self._without_tiles: set[str] = set()
        self._told: dict[str, str] = {}
        self._rested_ns = 0
        self.signed_total = 0
        #: Chains whose receipts are not what their head stands for: nothing of them is signed.
        self.differing: set[str] = set()

    async def begin(self) -> None:
        """Takes up what was signed before; what is newest is offered to all targets again.

        Raises a StoreError.
        """
        for row in await self._tree.latest_checkpoints():
            checkpoint, note = read_signed(row.note)
            self._sizes[row.tenant_id] = row.size
            self._origins[row.tenant_id] = checkpoint.origin
            if note.signature_by(self._key.verifier(checkpoint.origin)) is None:
                _log.warning(
                    "the last checkpoint was signed by another key; if no receipt says that this "
                    "one follows it, verifiers must be told of both: `receipts rotate-key`",
                    extra={"detail": checkpoint.origin},
                )
            self._offer([row])

    async def run(self) -> None:
        """Signs what is due, again and again until cancelled."""
        exports = [
            asyncio.create_task(one.run(), name="checkpoint-export") for one in self.exporters
        ]
        try:
            while True:
                await self.turn()
                await asyncio.sleep(self._tick_s)
        finally:
            for task in exports:
                task.cancel()
            await asyncio.gather(*exports, return_exceptions=True)

    async def turn(self, *, is_last: bool = False) -> None:
        """Signs the heads that are due, or all that moved. What fails is logged and tried again."""
        if self._fence.is_up:
            return
        due = self._due(self._store.known.all(), is_last)
        for at in range(0, len(due), HEADS_A_TRANSACTION):
            rows = [
                row
                for tenant_id in due[at : at + HEADS_A_TRANSACTION]
                if (row := await self._attempt(tenant_id)) is not None
            ]
            if rows:
                await self._keep(rows)

    async def close(self) -> None:
        """Signs and sends what is left; `run` has ended, and nothing is recorded any more."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_S):
                await self.turn(is_last=True)
                await asyncio.gather(*(one.deliver_all() for one in self.exporters))
        for one in self.exporters:
            await one.close()

    def lag_s(self) -> float:
        """For how long the oldest receipt that no head covers has been seen."""
        if not self._since_ns:
            return 0.0
        return (self._clock.monotonic_ns() - min(self._since_ns.values())) / 1e9

    def _due(self, heads: Mapping[str, Seen], is_last: bool) -> list[str]:
        now_ns = self._clock.monotonic_ns()
        found = []
        for tenant_id, seen in heads.items():
            fresh = seen.seq - self._sizes.get(tenant_id, 0)
            if fresh <= 0:
                continue
            since_ns = self._since_ns.setdefault(tenant_id, now_ns)
            if is_last or fresh >= self._receipts or now_ns - since_ns >= self._wait_ns:
                found.append(tenant_id)
        return found

    async def _attempt(self, tenant_id: str) -> CheckpointRow | None:
        try:
            row = await self._signed(tenant_id)
        except StoreError as error:
            if isinstance(error, TreeDiffers):
                self.differing.add(tenant_id)
            self._growths.pop(tenant_id, None)
            self._tell(tenant_id, error)
            return None
        self.differing.discard(tenant_id)
        return row

    async def _signed(self, tenant_id: str) -> CheckpointRow | None:
        """A signed head; None while its tree is still being caught up with."""
        if self._store.has_leases and await self._is_covered(tenant_id):
            return None
        head = await self._store.head(tenant_id)
        if tenant_id not in self._without_tiles:
            growth = self._growths.get(tenant_id)
            if growth is None:
                growth = self._growths[tenant_id] = TreeGrowth(self._store, tenant_id, self._rest)
            self._rested_ns = self._clock.monotonic_ns()
            try:
                if not await growth.grow(head, tiles_max=TILES_A_TURN):
                    return None
            except TreeIncomplete as error:
                self._without_tiles.add(tenant_id)
                self._tell(tenant_id, error)
        if tenant_id not in self._origins:
            self._origins[tenant_id] = await new_origin(self._store, tenant_id)
        ours = self._key.verifier(self._origins[tenant_id]).text
        await self._standing.require_in_force(tenant_id, ours, head.seq)
        try:
            top = root(frontier_from_hex(head.frontier, head.seq))
        except ValueError as error:
            raise StoreCorrupt(f"the head of tenant {tenant_id!r} is damaged: {error}") from error
        note = signed(Checkpoint(self._origins[tenant_id], head.seq, top), self._key)
        at_us = self._clock.now_us()
        return CheckpointRow(tenant_id, head.seq, top.hex(), SIGNED, note, at_us)

    async def _is_covered(self, tenant_id: str) -> bool:
        """Whether another node has signed meanwhile what this one saw."""
        row = await self._tree.latest_checkpoint(tenant_id)
        if row is None or row.size <= self._sizes.get(tenant_id, 0):
            return False
        self._sizes[tenant_id] = row.size
        self._origins[tenant_id] = read_signed(row.note)[0].origin
        if row.size < self._store.known.all()[tenant_id].seq:
            return False
        self._since_ns.pop(tenant_id, None)
        return True

    async def _keep(self, rows: list[CheckpointRow]) -> None:
        """A head is shown to nobody before it is durable here."""
        try:
            await self._tree.put_checkpoints(rows)
        except StoreError as error:
            self._tell("", error)
            return
        for row in rows:
            self._sizes[row.tenant_id] = row.size
            self._since_ns.pop(row.tenant_id, None)
            self._told.pop(row.tenant_id, None)
        self._told.pop("", None)
        self.signed_total += len(rows)
        self._offer(rows)

    def _offer(self, rows: Sequence[CheckpointRow]) -> None:
        for exporter in self.exporters:
            for row in rows:
                exporter.offer(row)

    async def _rest(self) -> None:
        took_s = (self._clock.monotonic_ns() - self._rested_ns) / 1e9
        await asyncio.sleep(min(REST_MAX_S, took_s * REST_FACTOR))
        self._rested_ns = self._clock.monotonic_ns()

    def _tell(self, tenant_id: str, error: StoreError) -> None:
        """Once, until it is something else."""
        if self._told.get(tenant_id) == error.code:
            return
        self._told[tenant_id] = error.code
        _log.error(
            "a chain's head was not signed", extra={"cause": error.code, "detail": str(error)}
        )


async def new_origin(reader: SqlReader, tenant_id: str) -> str:
    """The name of a chain of which nothing was signed yet: by its oldest receipt at hand."""
    cut = await CareReader(reader).cut(tenant_id)
    if cut.seq:
        return origin_of(tenant_id, cut.receipt_hash)
    (first,) = await reader.receipts(tenant_id, 0, 1)
    return origin_of(tenant_id, first.receipt_hash)
