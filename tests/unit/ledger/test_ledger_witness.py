"""The witness file: whole or refused, private, written only when something changed."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from ledger_setup import SteadyClock

import sidecar.ledger.witness as witness_module
from sidecar.ledger.chain import seal
from sidecar.ledger.receipt import blank_receipt
from sidecar.ledger.rollback import ROLLBACK, rolled_back, tells_of_rollback
from sidecar.ledger.witness import Witness, WitnessUnreadable, witnessed
from storage import SqlStore, open_store
from storage.known_heads import LostHead, Seen, StoreRolledBack
from storage.records import Entry

CLOCK = SteadyClock()
HEADS = {"acme": Seen(12, "a" * 64), "größe": Seen(1, "0" * 64)}


def of(folder: Path, url: str = "sqlite:////var/aegis.db") -> Witness:
    return Witness(folder, url, CLOCK.now_us)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    witness = of(tmp_path)
    assert witness.read() is None
    witness.write(HEADS)
    found = witness.read()
    assert found is not None and found.heads == HEADS
    assert found.store == "sqlite:////var/aegis.db" and found.written_at_us <= CLOCK.us
    assert witness.path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["heads.json"]


def test_g5_a_password_is_not_written(tmp_path: Path) -> None:
    witness = of(tmp_path, "postgresql://aegis:canary@db/aegis")
    witness.write(HEADS)
    assert "canary" not in witness.path.read_text()


def test_a_file_of_which_anything_was_changed_is_refused(tmp_path: Path) -> None:
    witness = of(tmp_path)
    witness.write(HEADS)
    whole = witness.path.read_bytes()
    for at in range(0, len(whole) - 1):  # the last byte ends the line
        witness.path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        try:
            found = witness.read()
        except WitnessUnreadable:
            continue
        assert found is not None and found.heads == HEADS, f"byte {at}"
    for at in range(len(whole) - 1):
        witness.path.write_bytes(whole[:at])
        with pytest.raises(WitnessUnreadable):
            witness.read()
    witness.path.write_bytes(whole)
    assert witness.read() is not None, "positive control"


def test_a_file_that_may_not_be_read_is_not_to_be_moved_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever ran something as root once would give up what tells of a rollback."""
    of(tmp_path).write(HEADS)

    def forbidden(path: Path, most: int) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(witness_module, "read_small", forbidden)
    with pytest.raises(WitnessUnreadable) as refused:
        of(tmp_path).read()
    assert refused.value.code == "witness_unreadable"
    assert "sidecar's user" in refused.value.next_step
    assert "the next start makes a new one" not in refused.value.next_step


@pytest.mark.parametrize(
    "heads",
    [{"acme": [0, "a" * 64]}, {"acme": [True, "a" * 64]}, {"acme": [1, "A" * 64]}, {"acme": 1}, []],
)
def test_a_file_that_says_what_no_head_is_is_refused(tmp_path: Path, heads: object) -> None:
    said = {"format": 1, "store": "x", "written_at_us": 1, "heads": heads}
    said["sha256"] = witness_module._digest(said)
    of(tmp_path).path.write_text(json.dumps(said))
    with pytest.raises(WitnessUnreadable):
        of(tmp_path).read()
    said["heads"] = {}
    del said["sha256"]
    said["sha256"] = witness_module._digest(said)
    of(tmp_path).path.write_text(json.dumps(said))
    assert of(tmp_path).read() is not None, "positive control"


def test_a_file_beyond_bounds_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = of(tmp_path).path
    with path.open("wb") as handle:
        handle.truncate(witness_module.FILE_BYTES_MAX + 1)
    with pytest.raises(WitnessUnreadable, match="larger"):
        of(tmp_path).read()
    path.unlink()
    path.mkdir()
    with pytest.raises(WitnessUnreadable):
        of(tmp_path).read()


# -- kept beside a store ---------------------------------------------------------------------


def opening(path: Path) -> Callable[[], Awaitable[SqlStore]]:
    return lambda: open_store(f"sqlite:///{path}", now_us=CLOCK.now_us, node_id="node")


@asynccontextmanager
async def kept(path: Path) -> AsyncIterator[SqlStore]:
    url = f"sqlite:///{path}"
    async with witnessed(url, path.parent, CLOCK.now_us, opening(path)) as store:
        yield store


async def record(store: SqlStore, count: int = 1, tenant: str = "acme") -> None:
    for _ in range(count):
        draft = blank_receipt(
            tenant, "control", event_id=CLOCK.new_id(), call_id=None, ts_us=CLOCK.now_us()
        )
        await store.record([Entry(draft)], seal)


def said_of(folder: Path) -> dict[str, Seen]:
    found = of(folder).read()
    return {} if found is None else dict(found.heads)


async def settled(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


async def test_it_follows_the_store_and_rests_when_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witness_module, "EVERY_S", 0.02)
    written: list[int] = []
    write = Witness.write
    monkeypatch.setattr(
        Witness, "write", lambda self, heads: (written.append(len(heads)), write(self, heads))[1]
    )
    async with kept(tmp_path / "aegis.db") as store:
        await asyncio.sleep(0.1)
        assert written == [], "there is nothing to say of an empty store"
        await record(store, 3)
        await settled(lambda: said_of(tmp_path) == store.known.all())
        await record(store, 2, "beta")
        await settled(lambda: said_of(tmp_path) == store.known.all())  # both of beta's, not one
        assert {"acme", "beta"} == said_of(tmp_path).keys()
        count = len(written)
        await asyncio.sleep(0.2)
        assert len(written) == count, "it writes while nothing changes"
        await record(store)
    assert said_of(tmp_path)["acme"].seq == 4, "the last word is written when it ends"
    count = len(written)
    async with kept(tmp_path / "aegis.db"):
        await asyncio.sleep(0.1)
    assert len(written) == count, "a start without a call has nothing to write"


async def test_a_folder_that_takes_no_file_is_said_once_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(witness_module, "EVERY_S", 0.02)
    async with kept(tmp_path / "aegis.db") as store:
        blocked = tmp_path / "heads.json"
        blocked.mkdir()
        await record(store)
        await settled(lambda: "the heads cannot be kept" in caplog.text)
        await asyncio.sleep(0.2)
        assert caplog.text.count("the heads cannot be kept") == 1
        await record(store)
        blocked.rmdir()
        await settled(lambda: said_of(tmp_path) == store.known.all())


async def test_f8_a_store_that_was_swapped_while_the_sidecar_was_away_is_closed_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "aegis.db"
    with caplog.at_level(logging.WARNING):
        async with kept(path) as store:
            await record(store, 2)
        assert caplog.text == "", "an empty store needs no warning"
        path.rename(tmp_path / "kept.db")
        other = await opening(path)()
        await record(other, 5)
        await other.close()
        with pytest.raises(StoreRolledBack, match="has another one in its place"):
            async with kept(path):
                pass
        (tmp_path / "kept.db").replace(path)
        async with kept(path) as store:  # it was closed, and the right one is welcome
            await record(store)
        assert caplog.text == ""


async def test_what_a_carried_store_was_seen_as_holds_at_its_new_place(tmp_path: Path) -> None:
    async with kept(tmp_path / "aegis.db") as store:
        await record(store, 2)
    (tmp_path / "aegis.db").rename(tmp_path / "moved.db")
    async with kept(tmp_path / "moved.db") as store:
        await record(store)
    found = of(tmp_path).read()
    assert found is not None and found.store.endswith("/moved.db") and found.heads["acme"].seq == 3


# -- the receipt -----------------------------------------------------------------------------


async def test_the_receipt_says_what_was_lost_and_keeps_the_reason_apart(tmp_path: Path) -> None:
    lost = LostHead("acme", Seen(9, "b" * 64), Seen(4, "c" * 64))
    entry = rolled_back(CLOCK, "cli:ana", lost, "Ann moved the disk")
    body = entry.receipt._asdict()
    assert (body["kind"], body["action"]) == ("control", ROLLBACK)
    assert tells_of_rollback(body) == (
        f"receipt 9 ({'b' * 64}) is lost; the chain goes on from 4 ({'c' * 64})"
    )
    assert "Ann" not in repr(entry.receipt)
    assert entry.facts is not None and entry.facts.arguments == '{"reason":"Ann moved the disk"}'
    assert tells_of_rollback(body | {"action": "store.prune_facts"}) is None
    assert tells_of_rollback(body | {"kind": "intent"}) is None
