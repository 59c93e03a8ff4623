"""Heads are signed when they are due, agree with the receipts, and reach their files."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from ledger_checkpoint_setup import (
    StillClock,
    checkpointer,
    key_of,
    opened,
    record,
    signed_now,
    until,
)
from ledger_tree_reference import anchored_at, key_id, signed_head

from sidecar.clock import Clock
from sidecar.ledger import checkpoint_file
from sidecar.ledger.canonical import canonical_body
from sidecar.ledger.chain import seal
from sidecar.ledger.checkpoint import read_signed, tenant_of
from sidecar.ledger.checkpoint_file import Kept, kept_in, last_of_each
from sidecar.ledger.exported import StoreBehindCheckpoint, accepted, check_exported
from sidecar.ledger.fence import Fence, Standing
from sidecar.ledger.proofs import latest_checkpoint, list_checkpoints
from sidecar.ledger.receipt import body_of
from sidecar.ledger.rollback import rolled_back
from storage.errors import StoreBusy
from storage.known_heads import LostHead, Seen
from storage.sql_store import SqlStore
from storage.tree import FORK, CheckpointRow, TreeWriter


async def bodies(store: SqlStore, tenant: str = "default") -> list[bytes]:
    rows = await store.receipts(tenant, 0, 10_000)
    prevs = ["", *(row.receipt_hash for row in rows)]
    return [canonical_body(body_of(row, prev)) for row, prev in zip(rows, prevs, strict=False)]


async def latest(store: SqlStore, tenant: str = "default") -> CheckpointRow:
    row = await latest_checkpoint(store, tenant)
    assert row is not None
    return row


async def test_a_head_is_signed_after_so_many_receipts_or_so_long(tmp_path: Path) -> None:
    clock = StillClock()
    async with opened(tmp_path) as store:
        one = checkpointer(store, clock=clock, every_s=10, receipts=100)
        await one.turn()
        assert await latest_checkpoint(store, "default") is None, "nothing moved"
        await record(store, 3)
        await one.turn()
        assert one.signed_total == 0 and one.lag_s() == 0
        clock.ns += 8_999_999_999
        await one.turn()
        assert one.signed_total == 0 and one.lag_s() > 8
        clock.ns += 1
        await one.turn()
        assert (await latest(store)).size == 3 and one.lag_s() == 0
        clock.ns += 60_000_000_000
        await one.turn()
        assert one.signed_total == 1, "only who moved"
        await record(store, 100)
        await record(store, 2, "rival")
        await one.turn()
        assert (await latest(store)).size == 103, "without waiting"
        assert await latest_checkpoint(store, "rival") is None
        await one.close()
        assert (await latest(store, "rival")).size == 2, "at the end, what is left"
        assert [row.size for row in await list_checkpoints(store, "default")] == [103, 3]
        assert [row.size for row in await list_checkpoints(store, "default", limit=1)] == [103]
        assert len(await list_checkpoints(store, "default", before_size=103)) == 1


async def test_a_second_verifier_agrees_with_what_is_signed(tmp_path: Path) -> None:
    public = key_of(1).public
    async with opened(tmp_path) as store:
        for count in (1, 255, 300):
            await record(store, count)
            await signed_now(store)
        found = await bodies(store)
        rows = await list_checkpoints(store, "default")
        notes = [row.note for row in rows]
        assert anchored_at(found, notes, public) == 556
        for row in rows:
            origin, size, root = signed_head(row.note, public) or ("", 0, b"")
            assert (size, root.hex(), tenant_of(origin)) == (row.size, row.root, "default")
        assert signed_head(notes[0], key_of(2).public) is None
        assert signed_head(notes[0].replace("\n556\n", "\n557\n"), public) is None
        with pytest.raises(ValueError, match="cut"):
            anchored_at(found[:-1], notes, public)
        with pytest.raises(ValueError, match="rewritten"):
            anchored_at([b"{}", *found[1:]], notes, public)


async def test_names_keys_and_origins_are_as_c2sp_has_them(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await record(store, 2, "acme corp+é")
        await signed_now(store)
        checkpoint, note = read_signed((await latest(store, "acme corp+é")).note)
    (signature,) = note.signatures
    first = (await _first_hash(tmp_path, "acme corp+é"))[:16]
    assert checkpoint.origin == f"aegis-sidecar/acme%20corp%2B%C3%A9/{first}"
    assert signature.name == checkpoint.origin
    assert signature.key_id == key_id(checkpoint.origin, 1, key_of(1).public)
    assert tenant_of(checkpoint.origin) == "acme corp+é"


async def _first_hash(folder: Path, tenant: str) -> str:
    async with opened(folder) as store:
        return (await store.receipts(tenant, 0, 1))[0].receipt_hash


@pytest.mark.parametrize(("count", "seq"), [(300, 5), (300, 299), (3, 2)])
async def test_f1_nothing_is_signed_of_a_chain_that_was_changed(
    tmp_path: Path, count: int, seq: int
) -> None:
    """In a whole tile, in the leaves after it, in a chain that fills none."""
    async with opened(tmp_path) as store:
        await record(store, count)
        await record(store, 3, "rival")
    change(tmp_path, seq, "x")
    async with opened(tmp_path) as store:
        one = checkpointer(store)
        await one.turn(is_last=True)
        assert one.differing == {"default"}
        assert await latest_checkpoint(store, "default") is None
        assert (await latest(store, "rival")).size == 3, "its neighbour is signed"
    change(tmp_path, seq, "agent-1")
    async with opened(tmp_path) as store:
        one = checkpointer(store)
        await one.turn(is_last=True)
        assert not one.differing and (await latest(store)).size == count, "positive control"


def change(folder: Path, seq: int, agent: str) -> None:
    with closing(sqlite3.connect(folder / "aegis.db")) as raw:
        sql = "UPDATE receipts SET agent_id = ? WHERE tenant_id = 'default' AND seq = ?"
        assert raw.execute(sql, (agent, seq)).rowcount == 1
        raw.commit()


async def test_f2_a_head_that_was_rewritten_with_its_receipts_is_not_signed(
    tmp_path: Path,
) -> None:
    """Receipts written anew with hashes and links, and the frontier left as it was."""
    async with opened(tmp_path) as store:
        await record(store, 5)
        frontier = (await store.head("default")).frontier
    (tmp_path / "aegis.db").unlink()
    async with opened(tmp_path) as store:
        await record(store, 5, who="mallory")
    with closing(sqlite3.connect(tmp_path / "aegis.db")) as raw:
        raw.execute("UPDATE chain_head SET frontier = ?", (frontier,))
        raw.commit()
    async with opened(tmp_path) as store:
        one = checkpointer(store)
        await one.turn(is_last=True)
        assert one.differing == {"default"} and one.signed_total == 0


async def test_each_receipt_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sidecar.ledger import tiles

    hashed: list[int] = []
    hashes = tiles.leaf_hashes

    def counted(rows, prev_hash):  # type: ignore[no-untyped-def]
        hashed.extend(row.seq for row in rows)
        return hashes(rows, prev_hash)

    monkeypatch.setattr(tiles, "leaf_hashes", counted)
    async with opened(tmp_path) as store:
        one = checkpointer(store)
        for count in (3, 100, 200, 300, 1):
            await record(store, count)
            await one.turn(is_last=True)
        assert one.signed_total == 5
    assert sorted(hashed) == list(range(1, 605))


async def test_a_head_is_shown_to_nobody_before_it_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "heads"

    async def failing(self: TreeWriter, rows: object) -> None:
        raise StoreBusy("planted")

    async with opened(tmp_path) as store:
        await record(store, 3)
        one = checkpointer(store, f"file:{place}")
        with monkeypatch.context() as planted:
            planted.setattr(TreeWriter, "put_checkpoints", failing)
            await one.turn(is_last=True)
        await one.exporters[0].deliver_all()
        assert not place.exists() and one.signed_total == 0
        await one.close()
        assert [kept.checkpoint.size for kept in kept_in(place)] == [3], (
            "and then it is tried again"
        )


async def test_a_store_that_stands_still_is_left_alone(tmp_path: Path) -> None:
    fence = Fence()
    async with opened(tmp_path) as store:
        await record(store, 3)
        one = checkpointer(store, fence=fence)
        fence.stand(Standing("f", "elsewhere", "moving", 1))
        await one.turn(is_last=True)
        assert one.signed_total == 0
        fence.lift()
        await one.turn(is_last=True)
        assert one.signed_total == 1


async def test_a_long_chain_is_caught_up_with_in_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.ledger.checkpointer.TILES_A_TURN", 2)
    async with opened(tmp_path) as store:
        await record(store, 1200)
        one = checkpointer(store)
        await one.turn(is_last=True)
        assert one.signed_total == 0
        await one.turn(is_last=True)
        assert (await latest(store)).size == 1200


# -- files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_folder", [False, True])
async def test_heads_reach_a_file_that_is_only_appended_to(tmp_path: Path, is_folder: bool) -> None:
    place = tmp_path / "worm"
    if is_folder:
        place.mkdir()
    async with opened(tmp_path) as store:
        for count in (2, 3):
            await record(store, count)
            await record(store, count, "rival")
            await signed_now(store, f"file:{place}")
        await signed_now(store, f"file:{place}")  # nothing new, nothing twice
    files = sorted(place.iterdir()) if is_folder else [place]
    assert len(files) == (2 if is_folder else 1)
    found = [(tenant_of(k.checkpoint.origin), k.checkpoint.size) for f in files for k in kept_in(f)]
    assert sorted(map(str, found)) == sorted(
        map(str, [("default", 2), ("rival", 2), ("default", 5), ("rival", 5)])
    )
    assert {k.checkpoint.size for k in last_of_each(place).values()} == {5}
    assert all(file.stat().st_mode & 0o777 == 0o640 for file in files)


async def test_a_torn_last_line_does_not_swallow_the_next(tmp_path: Path) -> None:
    place = tmp_path / "heads"
    async with opened(tmp_path) as store:
        await record(store, 2)
        await signed_now(store, f"file:{place}")
        place.write_bytes(place.read_bytes() + b'{"at_us": 5, "no')
        await record(store, 2)
        await signed_now(store, f"file:{place}")
    assert [kept.checkpoint.size for kept in kept_in(place)] == [2, 4]


async def test_of_a_file_of_years_only_the_last_lines_are_read_as_notes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, read = tmp_path / "heads", checkpoint_file.read_line
    async with opened(tmp_path) as store:
        for _ in range(3):
            await record(store, 2)
            await record(store, 2, "rival")
            await signed_now(store, f"file:{place}")
    lines = place.read_bytes().splitlines(keepends=True)
    assert len(lines) == 6
    many = lines[:2] * 500 + lines
    looked: list[bytes] = []

    def noted(line: bytes) -> Kept | None:
        looked.append(line)
        return read(line)

    monkeypatch.setattr(checkpoint_file, "read_line", noted)
    begins = b', "note": "'
    other_form = lines[5].replace(begins, b',"note":"')
    forged = lines[5].replace(begins, begins + b"no/origin/of-it\\n")
    assert lines[5] not in (other_form, forged)
    cut = lines[5][:90] + b"\n"
    every = 1_000
    for odd, looks in (
        ([], 2), ([b'{"at_us": 5, "no\n'], 3), ([other_form], 3), ([b"\n", b"\xff\n"], 4),
        ([cut], every), ([forged], every),
    ):  # fmt: skip
        place.write_bytes(b"".join(many + odd))
        looked.clear()
        found = last_of_each(place)
        assert len(looked) == looks or len(looked) > looks == every, odd
        assert found == {kept.checkpoint.origin: kept for kept in kept_in(place)}, odd
        assert [kept.checkpoint.size for kept in found.values()] == [6, 6]


async def test_a_target_that_fails_is_tried_again_and_counted(tmp_path: Path) -> None:
    place = tmp_path / "not" / "there"
    async with opened(tmp_path) as store:
        await record(store, 2)
        clock = StillClock()
        one = checkpointer(store, f"file:{place}", clock=clock, every_s=0.1)
        await one.turn(is_last=True)
        (exporter,) = one.exporters
        clock.ns += 7_000_000_000
        assert exporter.lag_s() == 7
        running = asyncio.create_task(one.run())
        await until(lambda: exporter.failures_total["unwritable"] >= 2, "a second try")
        assert exporter.delivered_total == 0
        place.parent.mkdir()
        await until(lambda: exporter.delivered_total == 1, "taken once there is a folder")
        assert exporter.lag_s() == 0
        running.cancel()
        await asyncio.wait([running])
        await one.close()
    assert [kept.checkpoint.size for kept in kept_in(place)] == [2]


async def test_f8_a_file_that_is_ahead_is_not_gone_on_from(tmp_path: Path) -> None:
    place, old = tmp_path / "heads", tmp_path / "old.db"
    async with opened(tmp_path) as store:
        await record(store, 2)
    old.write_bytes((tmp_path / "aegis.db").read_bytes())
    async with opened(tmp_path) as store:
        await record(store, 3)
        await signed_now(store, f"file:{place}")
    before = place.read_bytes()
    old.rename(tmp_path / "aegis.db")
    async with opened(tmp_path) as store:
        await record(store, 1)
        one = checkpointer(store, f"file:{place}")
        await one.turn(is_last=True)
        assert not await one.exporters[0].deliver_all()
        assert one.exporters[0].failures_total == {"ahead": 1}
        await record(store, 9, who="other")
        await one.turn(is_last=True)
        assert not await one.exporters[0].deliver_all()
        assert one.exporters[0].failures_total == {"ahead": 1, "fork": 1}
        rows = await list_checkpoints(store, "default")
        (evidence,) = [row for row in rows if row.kind == FORK]
        assert evidence.size == 5 and evidence.note == json.loads(before)["note"]
    assert place.read_bytes() == before


async def test_f4_a_head_by_another_key_is_no_evidence_against_us(tmp_path: Path) -> None:
    place, url = tmp_path / "heads", tmp_path / "aegis.db"
    async with opened(tmp_path) as store:
        await record(store, 2)
    older = url.read_bytes()
    async with opened(tmp_path) as store:
        await record(store, 2)
        await signed_now(store, f"file:{place}", key=key_of(2))
        await signed_now(store, f"file:{place}", key=key_of(1))
        assert len(list(kept_in(place))) == 1, "an equal history is no fork, whoever signed it"
    url.write_bytes(older)
    async with opened(tmp_path) as store:
        await record(store, 9, who="other")
        one = checkpointer(store, f"file:{place}")
        await one.turn(is_last=True)
        assert not await one.exporters[0].deliver_all()
        assert one.exporters[0].failures_total == {"foreign": 1}
        assert [row.kind for row in await list_checkpoints(store, "default")] == ["signed"]


# -- at start ----------------------------------------------------------------------------------


async def test_f8_a_store_behind_an_exported_head_does_not_start(tmp_path: Path) -> None:
    place, url = tmp_path / "heads", tmp_path / "aegis.db"
    targets = [f"file:{place}", "https://witness.example/add"]
    async with opened(tmp_path) as store:
        await record(store, 2)
        await check_exported(store, targets, key_of(1), is_only_store=True)
    older = url.read_bytes()
    async with opened(tmp_path) as store:
        await record(store, 3)
        await signed_now(store, targets[0])
        await check_exported(store, targets, key_of(1), is_only_store=True)
        await record(store, 7)
        await check_exported(store, targets, key_of(1), is_only_store=True)
    url.write_bytes(older)
    async with opened(tmp_path) as store:
        with pytest.raises(StoreBehindCheckpoint, match="a head of 5 receipts") as caught:
            await check_exported(store, targets, key_of(1), is_only_store=True)
        assert "the store ends at 2" in str(caught.value)
        await check_exported(store, targets, key_of(2), is_only_store=True)  # not ours to tell
        await record(store, 9, who="other")
        with pytest.raises(StoreBehindCheckpoint, match="another history"):
            await check_exported(store, targets, key_of(1), is_only_store=True)
        lost = await _lost(store, targets)
        await TreeWriter(store).set_checkpoint(accepted(lost, 7))
        with pytest.raises(StoreBehindCheckpoint, match="another history"):
            # Whoever put the older store back can write that row too: it has to be on record.
            await check_exported(store, targets, key_of(1), is_only_store=True)
        less = LostHead("default", Seen(4, ""), Seen(2, ""))
        await store.record([rolled_back(Clock(), "cli:root", less, "of less")], seal)
        with pytest.raises(StoreBehindCheckpoint, match="another history"):
            await check_exported(store, targets, key_of(1), is_only_store=True)
        await store.record([rolled_back(Clock(), "cli:root", lost.head, "the disk died")], seal)
        await check_exported(store, targets, key_of(1), is_only_store=True)
        await signed_now(store, targets[0])
        assert [kept.checkpoint.size for kept in kept_in(place)] == [5, 13], "and it goes on"
        await check_exported(store, targets, key_of(1), is_only_store=True)
    url.unlink()
    async with opened(tmp_path) as store:
        with pytest.raises(StoreBehindCheckpoint, match="the store ends at 0"):
            await check_exported(store, targets, key_of(1), is_only_store=True)
        await check_exported(store, targets, key_of(1), is_only_store=False)


async def test_f2_a_history_begun_anew_does_not_start_beside_the_heads_of_the_old_one(
    tmp_path: Path,
) -> None:
    place, url = tmp_path / "heads", tmp_path / "aegis.db"
    targets = [f"file:{place}"]
    async with opened(tmp_path) as store:
        await record(store, 5)
        await signed_now(store, targets[0])
    url.unlink()
    async with opened(tmp_path) as store:
        await record(store, 9, who="other")
        for _ in range(2):
            with pytest.raises(StoreBehindCheckpoint, match="another history"):
                await check_exported(store, targets, key_of(1), is_only_store=True)
            await signed_now(store, key=key_of(2))  # a head that somebody else signed shows nothing
        await check_exported(store, targets, key_of(1), is_only_store=False)
    url.unlink()
    async with opened(tmp_path) as store:
        await record(store, 9, who="other")
        await signed_now(store)
        await check_exported(store, targets, key_of(1), is_only_store=True)  # one of several


async def _lost(store: SqlStore, targets: list[str]):  # type: ignore[no-untyped-def]
    from sidecar.ledger.exported import lost_checkpoints

    (lost,) = await lost_checkpoints(store, targets, key_of(1), is_only_store=True)
    return lost
