"""F8, F3: at start a witness is asked whether it knows the history; what it refuses is kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from ledger_checkpoint_setup import checkpointer, key_of, opened, record, signed_now
from test_ledger_witness_target import Witness, listening

from sidecar.clock import Clock
from sidecar.ledger import exported
from sidecar.ledger.chain import seal
from sidecar.ledger.checkpoint import read_signed
from sidecar.ledger.exported import (
    StoreBehindCheckpoint,
    accepted,
    check_exported,
    lost_checkpoints,
)
from sidecar.ledger.proofs import list_checkpoints
from sidecar.ledger.rollback import rolled_back
from storage.sql_store import SqlStore
from storage.tree import TreeWriter


async def _started(store: SqlStore, *targets: str) -> None:
    await check_exported(store, targets, key_of(1), is_only_store=True)


@asynccontextmanager
async def _rolled_back(
    folder: Path, target: str, *, signed: bool = True
) -> AsyncIterator[SqlStore]:
    """A store of 2 receipts, of which the witness at `target` has seen 7."""
    async with opened(folder) as store:
        await record(store, 2)
        if signed:
            await signed_now(store, target)
    older = (folder / "aegis.db").read_bytes()
    async with opened(folder) as store:
        await record(store, 5)
        await signed_now(store, target)
        await _started(store, target)
    (folder / "aegis.db").write_bytes(older)
    async with opened(folder) as store:
        yield store


async def test_f8_a_store_that_is_behind_what_a_witness_has_seen_does_not_start(
    tmp_path: Path,
) -> None:
    witness = Witness()
    async with listening(witness) as url:
        target = f"{url}#{witness.vkey}"
        async with opened(tmp_path) as store:
            await _started(store, target)
            assert not witness.requests, "there is nothing to ask about yet"
        async with _rolled_back(tmp_path, target) as store:
            with pytest.raises(StoreBehindCheckpoint) as caught:
                await _started(store, target)
            said = f"a head of 7 receipts stands in {url}, and the store ends at 2"
            assert said in str(caught.value)
            await _started(store, url)  # a URL that only takes notes says nothing of a history
            assert [size for size, _ in witness.heads.values()] == [7]


async def test_f8_a_rollback_that_is_on_record_stops_no_later_start(tmp_path: Path) -> None:
    witness = Witness()
    async with listening(witness) as url:
        target = f"{url}#{witness.vkey}"
        async with _rolled_back(tmp_path, target) as store:
            (lost,) = await lost_checkpoints(store, [target], key_of(1), is_only_store=True)
            assert str(lost.head.seen) == "7 (-)"
            await TreeWriter(store).set_checkpoint(accepted(lost, 7))
            with pytest.raises(StoreBehindCheckpoint):
                await _started(store, target)
            await store.record([rolled_back(Clock(), "cli:root", lost.head, "the disk died")], seal)
            await _started(store, target)
            await record(store, 9, who="other")
            await signed_now(store, target)
            await _started(store, target)
            kinds = {(row.size, row.kind) for row in await list_checkpoints(store, "default")}
            assert kinds == {(2, "signed"), (7, "accepted"), (12, "signed")}


@pytest.mark.parametrize("more", [5, 9], ids=["as long", "longer"])
async def test_f8_f3_another_history_does_not_start_and_its_head_is_evidence(
    tmp_path: Path, more: int
) -> None:
    witness = Witness()
    async with listening(witness) as url:
        target = f"{url}#{witness.vkey}"
        async with _rolled_back(tmp_path, target) as store:
            await record(store, more, who="other")
            await signed_now(store)
            with pytest.raises(StoreBehindCheckpoint, match="another history"):
                await _started(store, target)
            assert [row.kind for row in await list_checkpoints(store, "default")] == ["signed"] * 2
            one = checkpointer(store, target)
            await one.begin()
            assert not await one.exporters[0].deliver_all()
            assert one.exporters[0].failures_total == {"fork": 1}
            await one.exporters[0].close()
            rows = await list_checkpoints(store, "default")
            (fork,) = [row for row in rows if row.kind == "fork"]
            assert (fork.size, fork.root) == (7, ""), "a witness tells no root"
            refused, note = read_signed(fork.note)
            assert refused.size == 2 + more
            assert note.signature_by(key_of(1).verifier(refused.origin)) is not None
        assert [size for size, _ in witness.heads.values()] == [7]


async def test_f6_a_head_that_another_node_sent_is_no_rollback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is durable in the store before it is sent, so that it is found there afterwards."""
    witness = Witness()
    async with listening(witness) as url, opened(tmp_path) as store:
        target = f"{url}#{witness.vkey}"
        await record(store, 3)
        await signed_now(store)
        older = await exported.TreeReader(store).latest_checkpoints()
        await record(store, 4)
        await signed_now(store, target)

        async def as_before(_: object) -> object:
            return older

        monkeypatch.setattr(exported.TreeReader, "latest_checkpoints", as_before)
        await _started(store, target)
        assert witness.answers[-1] == 409, "positive control: it had seen more"


@pytest.mark.parametrize("fate", ["silent", "gone", "stranger", "garbled"])
async def test_f8_a_witness_that_does_not_tell_keeps_nobody_from_starting(
    tmp_path: Path, fate: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(exported, "WITNESS_S", 0.3)

    class Odd(Witness):
        async def handle(self, request: web.Request) -> web.Response:
            if fate == "silent":
                await asyncio.sleep(2)
            return web.Response(status=403 if fate == "stranger" else 409, text="many\n")

    witness = Odd()
    async with opened(tmp_path) as store:
        await record(store, 3)
        await record(store, 3, "rival")
        await signed_now(store)
        async with listening(witness) as url:
            place = "http://127.0.0.1:9/add" if fate == "gone" else url
            began = time.monotonic()
            await _started(store, f"{place}#{witness.vkey}")
            assert time.monotonic() - began < 1.5
    told = [one for one in caplog.records if "has not told" in one.message]
    assert len(told) == 1, "once, of however many chains"
