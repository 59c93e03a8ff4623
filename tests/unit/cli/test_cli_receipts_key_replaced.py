"""A signing key that was replaced on record signs nothing more, and hands over to nobody: it may
have been replaced because somebody stole it."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "ledger"))

from ledger_checkpoint_setup import checkpointer, key_of, opened, pem_of, record, signed_now

from sidecar.cli.main import main
from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from sidecar.ledger.checkpoint_file import kept_in
from sidecar.ledger.checkpointer import new_origin
from sidecar.ledger.key_rotation import rotated
from sidecar.signed_note import public_pem
from storage.sql_store import SqlStore


async def _rotate(store: SqlStore, old: int, new: int) -> None:
    origin = await new_origin(store, "default")
    entry = rotated(Clock(), "default", "cli:ana", origin, key_of(old), key_of(new))
    await store.record([entry], seal)


def _verify(folder: Path, *keys: int) -> int:
    for number in (1, 2, 3):
        (folder / f"{number}.pub").write_text(public_pem(key_of(number).public))
    (folder / "receipts.jsonl").unlink(missing_ok=True)
    store, file = f"sqlite:///{folder}/aegis.db", str(folder / "receipts.jsonl")
    assert main(["receipts", "export", "--store", store, "--output", file]) == 0
    named = [part for key in keys for part in ("--key", str(folder / f"{key}.pub"))]
    return main(["receipts", "verify", file, "--checkpoint", str(folder / "heads"), *named])


def _sizes(folder: Path) -> list[int]:
    return [kept.checkpoint.size for kept in kept_in(folder / "heads")]


async def test_f4_whoever_stole_a_replaced_key_cannot_hand_over_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = f"file:{tmp_path}/heads"
    async with opened(tmp_path) as store:
        await record(store, 3)
        await signed_now(store, place, key=key_of(1))
        await _rotate(store, 1, 2)
        await signed_now(store, place, key=key_of(2))
    assert [await asyncio.to_thread(_verify, tmp_path, key) for key in (1, 2)] == [0, 0]
    async with opened(tmp_path) as store:
        await _rotate(store, 1, 3)
        await record(store, 2)
        await signed_now(store, place, key=key_of(3))
    assert _sizes(tmp_path) == [3, 4, 7]
    for key in (1, 2):
        capsys.readouterr()
        assert await asyncio.to_thread(_verify, tmp_path, key) == 1
        assert "the checkpoint of 7 receipts is signed by no key that is trusted" in (
            capsys.readouterr().out
        )
    assert await asyncio.to_thread(_verify, tmp_path, 2, 3) == 0, "who trusts it may say so"


async def test_f4_a_configuration_that_still_names_the_old_key_signs_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What it signed could never be taken back: every verifier would call it tampering."""
    place = f"file:{tmp_path}/heads"
    async with opened(tmp_path) as store:
        await record(store, 3)
        await signed_now(store, place, key=key_of(1))
        await _rotate(store, 1, 2)
        with caplog.at_level(logging.ERROR, "aegis.ledger"):
            await signed_now(store, place, key=key_of(1))
        assert [one.cause for one in caplog.records] == ["key_replaced"]  # type: ignore[attr-defined]
        assert "receipt 4 says that in the place of this key" in caplog.records[0].detail  # type: ignore[attr-defined]
        assert _sizes(tmp_path) == [3]
        await signed_now(store, place, key=key_of(2))
        await _rotate(store, 2, 1)
        await signed_now(store, place, key=key_of(1))
    assert _sizes(tmp_path) == [3, 4, 5], "and one that was put back signs again"
    assert await asyncio.to_thread(_verify, tmp_path, 1) == 0


async def test_f4_a_node_that_runs_while_the_key_is_changed_signs_nothing_after_it(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as store:
        await record(store, 3)
        node = checkpointer(store, f"file:{tmp_path}/heads", key=key_of(1), receipts=1)
        await node.begin()
        await node.turn()
        await record(store, 2)
        await node.turn()
        assert node.signed_total == 2
        await _rotate(store, 1, 2)
        await record(store, 2)
        await node.turn()
        assert node.signed_total == 2 and node.lag_s() >= 0
        await node.close()
    assert _sizes(tmp_path)[-1] == 5


def test_a_change_of_the_key_is_told_once_and_only_by_the_key_in_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "sidecar.yaml"
    config.write_text(
        "policies: ./policies\nupstreams: {up: {url: 'http://127.0.0.1:9'}}\n"
        "receipts: {key: {file: 1.pem}}\n"
    )
    (tmp_path / "policies").mkdir()
    for number in (1, 2, 3):
        (tmp_path / f"{number}.pem").write_text(pem_of(number))
        (tmp_path / f"{number}.pem").chmod(0o600)

    async def fill() -> None:
        async with opened(tmp_path) as store:
            await record(store, 3)
            await signed_now(store, key=key_of(1))

    asyncio.run(fill())

    def rotate(old: int, new: int) -> int:
        keys = ("--old", f"file:{tmp_path}/{old}.pem", "--new", f"file:{tmp_path}/{new}.pem")
        return main(["receipts", "rotate-key", "--config", str(config), *keys])

    assert rotate(1, 2) == 0
    assert rotate(1, 2) == 0, "after a kill the same command goes on"
    assert "receipt 4 says so already" in capsys.readouterr().out
    assert rotate(1, 3) == 2
    assert "was replaced in the chain of 'default': since receipt 4" in capsys.readouterr().err
