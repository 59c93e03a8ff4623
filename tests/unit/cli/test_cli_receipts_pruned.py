"""Signed heads and proofs of a chain whose beginning stands in an archive, or whose facts went."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "ledger"))

from ledger_checkpoint_setup import key_of, opened, signed_now
from ledger_tree_reference import mth, path, subproof
from store_care_setup import call, filled, store_command, tampered, url_of

from sidecar.cli.main import main
from sidecar.ledger.merkle_proofs import is_consistent
from sidecar.ledger.proofs import consistency, inclusion, root_at
from sidecar.ledger.tiles import leaves
from sidecar.signed_note import public_pem


def receipts(*arguments: str | Path) -> int:
    return main(["receipts", *map(str, arguments)])


def test_f7_proofs_and_heads_outlive_pruned_receipts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "aegis.db"
    filled(store, *(call(n, age_days=9) for n in range(200)), *(call(n) for n in range(200, 210)))
    place = f"file:{tmp_path}/heads"
    tree: list[bytes] = []

    async def sign() -> None:
        async with opened(tmp_path) as one:
            tree[:] = tree or await leaves(one, "acme", 0, 420)
            await signed_now(one, place)

    asyncio.run(sign())
    archive = tmp_path / "archive.jsonl"
    assert (
        store_command("prune", store, "receipts", "--older-than", "1d", "--archive", archive) == 0
    )
    filled(store, *(call(n) for n in range(300, 400)))
    asyncio.run(sign())

    async def prove() -> None:
        async with opened(tmp_path) as one:
            size = (await one.head("acme")).seq
            assert size == 621
            tree.extend(await leaves(one, "acme", 420, size))
            assert (await root_at(one, "acme", size)) == mth(tree)
            for seq, at in ((3, 420), (300, 621), (399, 400), (621, 621)):
                shown = await inclusion(one, "acme", seq, at)
                assert list(shown.hashes) == path(seq - 1, tree[:at]) and shown.root == mth(
                    tree[:at]
                )
            for old in (5, 300, 420):
                hashes = list((await consistency(one, "acme", old, size)).hashes)
                assert hashes == subproof(old, tree)
                assert is_consistent(old, mth(tree[:old]), size, mth(tree), hashes)

    asyncio.run(prove())
    capsys.readouterr()
    assert receipts("prove", "3", "--store", url_of(store)) == 1
    assert "is in an archive, only its hash is here" in capsys.readouterr().err
    assert receipts("prove", "500", "--store", url_of(store)) == 0
    rest, whole, pem = tmp_path / "rest.jsonl", tmp_path / "whole.jsonl", tmp_path / "pem"
    assert receipts("export", "--store", url_of(store), "--output", rest) == 0
    whole.write_bytes(archive.read_bytes() + rest.read_bytes())
    pem.write_text(public_pem(key_of(1).public))
    named = ("--checkpoint", tmp_path / "heads", "--key", pem, "--json")
    capsys.readouterr()
    assert receipts("verify", whole, *named) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["anchors"]["size"], found["anchors"]["agreeing"]) == (621, 2)


def test_f7_erased_facts_leave_the_heads_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, out, pem = (
        filled(tmp_path / "aegis.db", call(1), call(2)),
        tmp_path / "o",
        tmp_path / "p",
    )
    pem.write_text(public_pem(key_of(1).public))

    async def sign() -> None:
        async with opened(tmp_path) as one:
            await signed_now(one, f"file:{tmp_path}/heads")

    asyncio.run(sign())
    assert store_command("erase", store, "--agent", "agent-1", "--tenant", "acme") == 0
    assert receipts("export", "--store", url_of(store), "--facts", "--output", out) == 0
    assert '"arguments":null' in out.read_text() and "secret-1" not in out.read_text()
    named = ("--checkpoint", tmp_path / "heads", "--key", pem, "--json")
    capsys.readouterr()
    assert receipts("verify", out, *named) == 0
    assert json.loads(capsys.readouterr().out)["anchors"]["size"] == 4


def test_a_chain_that_was_cut_without_tiles_is_signed_and_not_proved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = filled(tmp_path / "aegis.db", call(1, age_days=9), call(2), call(3))
    archive = tmp_path / "archive.jsonl"
    assert (
        store_command("prune", store, "receipts", "--older-than", "1d", "--archive", archive) == 0
    )
    tampered(store, "DELETE FROM tree_tile")
    filled(store, *(call(n) for n in range(10, 150)))

    async def sign() -> None:
        async with opened(tmp_path) as one:
            await signed_now(one)

    asyncio.run(sign())
    assert receipts("checkpoint", "--store", url_of(store)) == 0
    assert receipts("prove", "200", "--store", url_of(store)) == 1
    assert "[tree_incomplete]" in capsys.readouterr().err
