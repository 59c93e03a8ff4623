"""Tiles give the same tree as the receipts, whatever was grown when, and find what was changed."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from ledger_setup import draft
from ledger_tree_reference import mth, path, subproof

import storage
from sidecar.ledger.chain import seal
from sidecar.ledger.merkle import frontier_from_hex, root
from sidecar.ledger.merkle_proofs import is_consistent
from sidecar.ledger.proofs import NoProof, consistency, inclusion, root_at
from sidecar.ledger.tiles import TreeDiffers, TreeGrowth, TreeIncomplete, leaf_hashes, leaves
from storage.records import Entry
from storage.sql_store import SqlStore
from storage.tree import TreeReader


@asynccontextmanager
async def grown(folder: Path, count: int) -> AsyncIterator[SqlStore]:
    """A store with a chain of so many receipts."""
    store = await storage.open_store(f"sqlite:///{folder}/aegis.db", now_us=lambda: 1, node_id="n")
    try:
        await more(store, 0, count)
        yield store
    finally:
        await store.close()


async def more(store: SqlStore, after: int, until: int) -> None:
    for first in range(after, until, 500):
        numbers = range(first, min(first + 500, until))
        await store.record([Entry(draft(number + 1, kind="control")) for number in numbers], seal)


async def test_proofs_from_tiles_are_those_of_the_receipts(tmp_path: Path) -> None:
    async with grown(tmp_path, 1300) as store:
        all_leaves = await leaves(store, "default", 0, 1300)
        growth = TreeGrowth(store, "default")
        for until in (0, 200, 1300):  # before there are tiles, and after
            head = await store.head("default")
            if until == 1300:
                assert await growth.grow(head)
            for seq, size in ((1, 1), (1, 1300), (256, 1299), (700, 1024), (1300, 1300)):
                shown = await inclusion(store, "default", seq, size)
                assert list(shown.hashes) == path(seq - 1, all_leaves[:size])
                assert shown.root == mth(all_leaves[:size])
                assert [shown.leaf] == all_leaves[seq - 1 : seq]
                assert [shown.leaf] == await leaves(store, "default", seq - 1, seq)
            for old, size in ((1, 1300), (256, 512), (300, 1299), (1024, 1300), (7, 8)):
                shown_too = await consistency(store, "default", old, size)
                assert list(shown_too.hashes) == subproof(old, all_leaves[:size])
                old_root = await root_at(store, "default", old)
                new_root = await root_at(store, "default", size)
                assert is_consistent(old, old_root, size, new_root, shown_too.hashes)
        assert root(frontier_from_hex(head.frontier, 1300)) == mth(all_leaves)
        assert await TreeReader(store).last_tile("default", 0) == (4, 256)


async def test_growing_goes_on_where_it_was_also_after_a_restart(tmp_path: Path) -> None:
    async with grown(tmp_path, 700) as store:
        growth = TreeGrowth(store, "default")
        assert not await growth.grow(await store.head("default"), tiles_max=1)
        assert await TreeReader(store).last_tile("default", 0) == (0, 256)
        assert await growth.grow(await store.head("default"))
    async with grown(tmp_path, 0) as store:
        await more(store, 700, 900)
        assert await TreeGrowth(store, "default").grow(await store.head("default"))
        assert await TreeReader(store).last_tile("default", 0) == (2, 256)
        assert await root_at(store, "default", 900) == mth(await leaves(store, "default", 0, 900))


async def test_tiles_of_tiles_are_made_and_made_up_for(tmp_path: Path) -> None:
    count = 256 * 256 + 300
    async with grown(tmp_path, count) as store:
        assert await TreeGrowth(store, "default").grow(await store.head("default"))
        tree = TreeReader(store)
        assert await tree.last_tile("default", 1) == (0, 256)
        all_leaves = await leaves(store, "default", 0, count)
        shown = await inclusion(store, "default", 65537, count)
        assert list(shown.hashes) == path(65536, all_leaves)
    with closing(sqlite3.connect(tmp_path / "aegis.db")) as raw:
        assert raw.execute("DELETE FROM tree_tile WHERE level = 1").rowcount == 1
        raw.commit()
    async with grown(tmp_path, 0) as store:
        shown = await inclusion(store, "default", 5, count)
        assert list(shown.hashes) == path(4, all_leaves), "from the roots below"
        assert await TreeGrowth(store, "default").grow(await store.head("default"))
        assert await TreeReader(store).last_tile("default", 1) == (0, 256)


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("UPDATE receipts SET agent_id = 'mallory' WHERE seq = 100", "receipt 100"),
        ("UPDATE receipts SET receipt_hash = upper(receipt_hash) WHERE seq = 100", "receipt 100"),
    ],
)
async def test_f1_a_receipt_changed_in_the_store_is_found_before_anything_is_signed(
    tmp_path: Path, sql: str, said: str
) -> None:
    async with grown(tmp_path, 300) as store:
        assert await TreeGrowth(store, "default").grow(await store.head("default")), "control"
        await more(store, 300, 600)
    changed = sql.replace("100", "400")
    with closing(sqlite3.connect(tmp_path / "aegis.db")) as raw:
        assert raw.execute(changed).rowcount == 1
        raw.commit()
    async with grown(tmp_path, 0) as store:
        with pytest.raises(TreeDiffers, match=said.replace("100", "400")):
            await TreeGrowth(store, "default").grow(await store.head("default"))


async def test_f2_receipts_rewritten_with_their_hashes_differ_from_the_frontier(
    tmp_path: Path,
) -> None:
    async with grown(tmp_path, 256) as store:
        head = await store.head("default")
        rows = await store.receipts("default", 0, 256)
    forged = tmp_path / "forged"
    forged.mkdir()
    async with grown(forged, 0) as store:
        entries = [Entry(row._replace(seq=0, receipt_hash="", agent_id="x")) for row in rows]
        await store.record(entries, seal)
        with pytest.raises(TreeDiffers, match="frontier"):
            await TreeGrowth(store, "default").grow(head)
        assert await TreeGrowth(store, "default").grow(await store.head("default")), "control"


async def test_what_is_not_there_is_not_shown(tmp_path: Path) -> None:
    async with grown(tmp_path, 10) as store:
        for work in (
            inclusion(store, "default", 11, 10),
            inclusion(store, "default", 0, 10),
            inclusion(store, "default", 1, 11),
            inclusion(store, "nobody", 1, 1),
            inclusion(store, "default", 1),
            consistency(store, "default", 11, 10),
        ):
            with pytest.raises(NoProof):
                await work
        rows = await store.receipts("default", 0, 10)
        with pytest.raises(TreeDiffers):
            leaf_hashes(rows, "ab" * 32)
    with closing(sqlite3.connect(tmp_path / "aegis.db")) as raw:
        raw.execute("DELETE FROM receipts WHERE seq < 3")
        raw.commit()
    async with grown(tmp_path, 0) as store:
        with pytest.raises(TreeIncomplete):
            await inclusion(store, "default", 1, 10)


async def test_others_get_their_turn_while_a_long_chain_is_caught_up_with(tmp_path: Path) -> None:
    rests = 0

    async def rest() -> None:
        nonlocal rests
        rests += 1
        await asyncio.sleep(0)

    async with grown(tmp_path, 1024) as store:
        assert await TreeGrowth(store, "default", rest).grow(await store.head("default"))
    assert rests == 4
