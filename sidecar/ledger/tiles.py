"""Tiles of a tenant's tree: grown from its receipts, and read again when a proof is asked for.

Knows: that a tile holds 256 neighbouring hashes, leaves on level 0 and roots of whole tiles above
(C2SP tlog-tiles, height 8), so that a proof needs a few tiles and at most 255 receipts; that what
is put in a tile is recomputed from the receipts, and that the frontier at the head must agree with
it: a receipt that was changed in the store is found before anything is signed.
Must not know: when tiles are grown, what a proof is for.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterable, Sequence
from hashlib import sha256
from operator import itemgetter

import orjson

from sidecar.ledger.merkle import HASH_BYTES, append, frontier_from_hex, root
from sidecar.ledger.merkle_proofs import Perfect, Span, subtrees
from sidecar.ledger.receipt import BODY_KEYS, VERSION
from storage.errors import StoreCorrupt, StoreError
from storage.records import HeadRow, ReceiptRow
from storage.retention import CareReader
from storage.sql_store import SqlReader, SqlStore
from storage.tree import TILE_WIDTH, TileRow, TreeReader, TreeWriter

_HEIGHT = TILE_WIDTH.bit_length() - 1
#: Receipts that are hashed before others get their turn: well below a millisecond.
LEAVES_A_STEP = 64
#: Tiles that one transaction puts.
TILES_A_TRANSACTION = 8

_COLUMNS = (*ReceiptRow._fields, "prev_receipt_hash", "v")
_in_order = itemgetter(*(_COLUMNS.index(key) for key in BODY_KEYS))
_OPTIONS = orjson.OPT_STRICT_INTEGER


class TreeIncomplete(StoreError):
    """Hashes are missing that a proof, or a tile, is made of."""

    code = "tree_incomplete"
    next_step = (
        "Receipts were archived before the hashes of their tree were kept: verify the archives and "
        "an export together instead (`receipts verify`). Checkpoints are not affected."
    )


class TreeDiffers(StoreCorrupt):
    """The receipts in the store are not those that the head of their chain stands for."""

    next_step = (
        "Receipts were changed in the store, or it is damaged. Nothing of this chain is signed. "
        "`store info` and `receipts export` with `receipts verify` name the first bad receipt; put "
        "a backup back."
    )


def leaf_hashes(rows: Sequence[ReceiptRow], prev_hash: str) -> list[bytes]:
    """The leaves that receipts in a row are; raises TreeDiffers at one that is not its hash."""
    found = []
    for row in rows:
        body = dict(zip(BODY_KEYS, _in_order((*row, prev_hash, VERSION)), strict=True))
        try:
            canonical = orjson.dumps(body, option=_OPTIONS)
        except TypeError as error:
            raise TreeDiffers(f"receipt {row.seq} of {row.tenant_id!r}: {error}") from error
        prev_hash = row.receipt_hash
        if sha256(canonical).hexdigest() != prev_hash:
            raise TreeDiffers(f"receipt {row.seq} of {row.tenant_id!r} is not what its hash says")
        found.append(sha256(b"\x00" + canonical).digest())
    return found


async def leaves(reader: SqlReader, tenant_id: str, after_seq: int, until_seq: int) -> list[bytes]:
    """The leaves of receipts after `after_seq` up to `until_seq`.

    Raises TreeIncomplete where one is not here, TreeDiffers where one was changed.
    """
    found: list[bytes] = []
    prev_hash = await hash_of(reader, tenant_id, after_seq) if after_seq < until_seq else ""
    while after_seq < until_seq:
        limit = min(TILE_WIDTH, until_seq - after_seq)
        rows = await reader.receipts(tenant_id, after_seq, limit)
        if [row.seq for row in rows] != list(range(after_seq + 1, after_seq + 1 + limit)):
            raise TreeIncomplete(f"receipts of {tenant_id!r} after {after_seq} are not here")
        for at in range(0, limit, LEAVES_A_STEP):
            few = rows[at : at + LEAVES_A_STEP]
            found += leaf_hashes(few, prev_hash)
            prev_hash = few[-1].receipt_hash
            await asyncio.sleep(0)
        after_seq = rows[-1].seq
    return found


async def hash_of(reader: SqlReader, tenant_id: str, seq: int) -> str:
    """The hash of a receipt that is here, or that the chain was cut at; "" for none (0).

    Raises TreeIncomplete.
    """
    if seq == 0:
        return ""
    rows = await reader.receipts(tenant_id, seq - 1, 1)
    if rows and rows[0].seq == seq:
        return rows[0].receipt_hash
    cut = await CareReader(reader).cut(tenant_id)
    if cut.seq != seq:
        raise TreeIncomplete(f"receipt {seq} of {tenant_id!r} is not here")
    return cut.receipt_hash


# -- reading -----------------------------------------------------------------------------------


class TreeHashes:
    """The hashes of a tenant's tree as they are wanted for one answer; each tile is read once."""

    def __init__(self, reader: SqlReader, tenant_id: str, size: int) -> None:
        """`size` bounds what is read: of the last tile only leaves below it."""
        self._reader = reader
        self._tree = TreeReader(reader)
        self._tenant_id = tenant_id
        self._size = size
        self._tiles: dict[tuple[int, int], list[bytes]] = {}

    async def of_spans(self, spans: Iterable[Span]) -> list[bytes]:
        """The hash of each stretch. Raises TreeIncomplete."""
        return [root([await self.of_subtree(one) for one in subtrees(span)]) for span in spans]

    async def of_subtree(self, wanted: Perfect) -> bytes:
        """The root of a perfect subtree. Raises TreeIncomplete."""
        level, inner = divmod(wanted.height, _HEIGHT)
        tile = wanted.place >> (_HEIGHT - inner)
        start = (wanted.place << inner) % TILE_WIDTH
        hashes = await self._tile(level, tile)
        if start + (1 << inner) > len(hashes):
            raise TreeIncomplete(f"tile {tile} of level {level} of {self._tenant_id!r} is cut off")
        return _perfect_root(hashes[start : start + (1 << inner)])

    async def _tile(self, level: int, tile: int) -> list[bytes]:
        found = self._tiles.get((level, tile))
        if found is None:
            found = self._tiles[level, tile] = await self._read(level, tile)
        return found

    async def _read(self, level: int, tile: int) -> list[bytes]:
        first = tile * TILE_WIDTH
        width = min(TILE_WIDTH, (self._size >> level * _HEIGHT) - first)
        kept = await self._tree.tiles(self._tenant_id, level, tile, tile)
        hashes = _hashes_of(kept[0]) if kept else []
        if len(hashes) >= width:
            return hashes
        if level == 0:
            after = first + len(hashes)
            return hashes + await leaves(self._reader, self._tenant_id, after, first + width)
        last = first + width - 1
        roots = await self._tree.tile_roots(self._tenant_id, level - 1, first, last)
        if [number for number, _ in roots] == list(range(first, last + 1)):
            return [bytes.fromhex(text) for _, text in roots]
        lower = [await self._tile(level - 1, number) for number in range(first, last + 1)]
        return [_perfect_root(one[:TILE_WIDTH]) for one in lower]


def _perfect_root(hashes: Sequence[bytes]) -> bytes:
    frontier: list[bytes] = []
    for size, one in enumerate(hashes):
        append(frontier, size, one)
    return root(frontier)


def _hashes_of(row: TileRow) -> list[bytes]:
    try:
        raw = base64.b64decode(row.hashes, validate=True)
    except ValueError as error:
        raise StoreCorrupt(f"tile {row.tile} of {row.tenant_id!r} is damaged") from error
    if len(raw) != row.width * HASH_BYTES:
        raise StoreCorrupt(f"tile {row.tile} of {row.tenant_id!r} has not {row.width} hashes")
    return [raw[at : at + HASH_BYTES] for at in range(0, len(raw), HASH_BYTES)]


def _row_of(tenant_id: str, level: int, tile: int, hashes: Sequence[bytes]) -> TileRow:
    top = _perfect_root(hashes).hex() if len(hashes) == TILE_WIDTH else ""
    text = base64.b64encode(b"".join(hashes)).decode()
    return TileRow(tenant_id, level, tile, len(hashes), top, text)


# -- growing -----------------------------------------------------------------------------------


async def _no_rest() -> None:
    """For whoever has nothing else to do meanwhile."""


class TreeGrowth:
    """Grows the tiles of one tenant's tree; one object for as long as nobody else cuts them short.

    `rest` is awaited after each tile, so that whoever catches up with a long chain takes no more
    than a share of the time.
    """

    def __init__(
        self, store: SqlStore, tenant_id: str, rest: Callable[[], Awaitable[None]] = _no_rest
    ) -> None:
        self._store = store
        self._tree = TreeWriter(store)
        self._tenant_id = tenant_id
        self._rest = rest
        #: Whole tiles of level 0, the frontier of the tree over their roots, and leaves after them.
        self._tiles: int | None = None
        self._frontier: list[bytes] = []
        self._tail: list[bytes] = []

    async def grow(self, head: HeadRow, *, tiles_max: int | None = None) -> bool:
        """Makes the tiles that the chain up to `head` fills, at most `tiles_max` of them; whether
        all are there now. Then they, and the leaves after them, agree with the head.

        Raises TreeDiffers (nothing of this chain may be signed), TreeIncomplete or a StoreError.
        """
        if self._tiles is None:
            await self._begin()
        wanted = head.seq // TILE_WIDTH
        end = wanted if tiles_max is None else min(wanted, (self._tiles or 0) + tiles_max)
        while self._tiles is not None and self._tiles < end:
            await self._more(min(end, self._tiles + TILES_A_TRANSACTION))
        if self._tiles is None or self._tiles < wanted:
            return False
        width = head.seq % TILE_WIDTH
        if len(self._tail) < width:
            self._tail = await self._leaves_of(wanted, width)
        self._check(head)
        return True

    async def keep_partial(self, head: HeadRow) -> None:
        """Keeps the leaves after the last whole tile too: their receipts may be about to go."""
        tile, width = divmod(head.seq, TILE_WIDTH)
        if width:
            hashes = await self._leaves_of(tile, width)
            await self._tree.put_tiles([_row_of(self._tenant_id, 0, tile, hashes)])

    async def _begin(self) -> None:
        last = await self._tree.last_tile(self._tenant_id, 0)
        tiles = 0 if last is None else last[0] + (last[1] == TILE_WIDTH)
        await self._lift(tiles)
        hashes = TreeHashes(self._store, self._tenant_id, tiles * TILE_WIDTH)
        whole = subtrees(Span(0, tiles * TILE_WIDTH))
        self._frontier = [await hashes.of_subtree(one) for one in whole]
        self._tiles = tiles

    async def _more(self, end: int) -> None:
        start = self._tiles or 0
        rows, frontier = [], list(self._frontier)
        for tile in range(start, end):
            row = _row_of(self._tenant_id, 0, tile, await self._leaves_of(tile, TILE_WIDTH))
            append(frontier, tile, bytes.fromhex(row.root))
            rows.append(row)
            await self._rest()
        await self._tree.put_tiles(rows)
        self._tiles, self._frontier, self._tail = end, frontier, []
        if start // TILE_WIDTH != end // TILE_WIDTH:
            await self._lift(end)

    async def _leaves_of(self, tile: int, width: int) -> list[bytes]:
        first = tile * TILE_WIDTH
        known = self._tail[:width] if tile == self._tiles else []
        if not known:
            kept = await self._tree.tiles(self._tenant_id, 0, tile, tile)
            known = _hashes_of(kept[0])[:width] if kept else []
        after = first + len(known)
        return known + await leaves(self._store, self._tenant_id, after, first + width)

    async def _lift(self, lower: int) -> None:
        """Puts the tiles above level 0 that are whole and not there yet."""
        level = 0
        while lower := lower // TILE_WIDTH:
            level += 1
            last = await self._tree.last_tile(self._tenant_id, level)
            for tile in range(0 if last is None else last[0] + 1, lower):
                first = tile * TILE_WIDTH
                roots = await self._tree.tile_roots(
                    self._tenant_id, level - 1, first, first + TILE_WIDTH - 1
                )
                if len(roots) != TILE_WIDTH:
                    raise StoreCorrupt(f"tiles of level {level - 1} of {self._tenant_id!r} lack")
                hashes = [bytes.fromhex(text) for _, text in roots]
                await self._tree.put_tiles([_row_of(self._tenant_id, level, tile, hashes)])
                await asyncio.sleep(0)

    def _check(self, head: HeadRow) -> None:
        try:
            frontier = frontier_from_hex(head.frontier, head.seq)
        except ValueError as error:
            raise TreeDiffers(f"the head of tenant {head.tenant_id!r}: {error}") from error
        tail: list[bytes] = []
        for size, leaf in enumerate(self._tail[: head.seq % TILE_WIDTH]):
            append(tail, size, leaf)
        if frontier != [*self._frontier, *tail]:
            raise TreeDiffers(
                f"the frontier of {head.tenant_id!r} at {head.seq} is not that of its receipts"
            )
