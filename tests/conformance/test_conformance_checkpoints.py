"""Heads are signed, proved and held against what was exported on both engines, by several nodes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conformance_setup import OpenStore

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "ledger"))

from ledger_checkpoint_setup import checkpointer, key_of, record
from ledger_tree_reference import mth, path, signed_head

from sidecar.ledger.checkpoint_file import kept_in
from sidecar.ledger.exported import check_exported
from sidecar.ledger.proofs import inclusion, latest_checkpoint, list_checkpoints
from sidecar.ledger.tiles import leaves


async def test_a_chain_is_signed_exported_and_proved(open_it: OpenStore, tmp_path: Path) -> None:
    store, target = await open_it(), f"file:{tmp_path}/heads"
    await store.compare({})
    await record(store, 700)
    await record(store, 3, "rival")
    one = checkpointer(store, target)
    await one.begin()
    await one.turn(is_last=True)
    await one.close()
    await store.close()
    store = await open_it()
    await check_exported(store, [target], key_of(1), is_only_store=True)
    assert len(list(kept_in(tmp_path / "heads"))) == 2
    tree = await leaves(store, "default", 0, 700)
    shown = await inclusion(store, "default", 300)
    assert list(shown.hashes) == path(299, tree) and shown.root == mth(tree)
    row = await latest_checkpoint(store, "default")
    assert row is not None
    found = signed_head(row.note, key_of(1).public)
    assert found is not None and found[1:] == (700, mth(tree))
    assert (await latest_checkpoint(store, "nobody")) is None


@pytest.mark.parametrize("store_url", ["postgres"], indirect=True)
async def test_f6_two_nodes_sign_one_history(open_it: OpenStore, tmp_path: Path) -> None:
    nodes = [await open_it(), await open_it()]
    signers = [checkpointer(node, f"file:{tmp_path}/heads") for node in nodes]
    for node in nodes:
        await node.compare({})
    for number in range(6):
        await record(nodes[number % 2], 100)
        for signer in signers:
            await signer.turn(is_last=True)
            assert await signer.exporters[0].deliver_all()
    rows = await list_checkpoints(nodes[0], "default")
    assert [row.size for row in rows] == [600, 500, 400, 300, 200, 100], "each once, and no fork"
    assert [signer.signed_total for signer in signers] == [3, 3], "by whoever saw it first"
    assert [kept.checkpoint.size for kept in kept_in(tmp_path / "heads")] == [
        100, 200, 300, 400, 500, 600,
    ]  # fmt: skip
    tree = await leaves(nodes[1], "default", 0, 600)
    assert (await inclusion(nodes[1], "default", 250)).root == mth(tree)
