"""Moving a store: whole, compared, verified; refused rather than mixed; killed, it goes on."""

from __future__ import annotations

import sys
from pathlib import Path

import postgres_server
import pytest
import warm
from move_store import ROOT, assert_moved, contents, fill, intent_of, move, stopped_at

from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from storage import open_reader, open_store
from storage.marks import MOVED, StoreMoved
from storage.move import PHASES

CALLS = 1000


@pytest.fixture
async def other_url(store_url: str, tmp_path: Path, postgres_dsn: str) -> str:
    """A store of the other engine that does not exist yet."""
    if store_url.startswith("sqlite"):
        return await postgres_server.new_database(postgres_dsn)
    return f"sqlite:///{tmp_path}/other.db"


async def test_a_store_moves_to_the_other_engine_and_everything_verifies(
    store_url: str, other_url: str, tmp_path: Path
) -> None:
    await fill(store_url, CALLS, 2, left_open=1)
    before = await contents(store_url)
    done = move(store_url, other_url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"moved {CALLS * 2 + 1} receipts of 2 tenants" in done.stdout
    assert postgres_server.PASSWORD not in done.stdout + done.stderr
    await assert_moved(before, other_url)
    reader = await open_reader(other_url)
    assert (await reader.head("tenant-0")).epoch == 1
    assert [intent.tenant_id for intent in await reader.open_intents("node", 9)] == ["tenant-0"]
    await reader.close()
    after = await contents(store_url)
    marks = [row[0] for row in after["store_state"] if row not in before["store_state"]]
    assert marks == [MOVED]
    assert after | {"store_state": []} == before | {"store_state": []}
    with pytest.raises(StoreMoved):
        await open_store(store_url, now_us=Clock().now_us, node_id="node")
    again = move(store_url, other_url)
    assert (again.returncode, "nothing is left to do" in again.stdout) == (0, True)
    elsewhere = move(store_url, f"sqlite:///{tmp_path}/elsewhere.db")
    assert "was moved already, to " in elsewhere.stderr and "[move_refused]" in elsewhere.stderr
    assert "Set `store:` to that URL. The way back is another move" in elsewhere.stderr
    store = await open_store(other_url, now_us=Clock().now_us, node_id="node")
    [answer] = await store.record([intent_of(Clock(), "tenant-1", 1, 9)], seal)
    assert answer[0] == CALLS + 2, "after what was moved, and that it was"
    await store.close()


async def test_a15_killed_at_every_step_a_move_goes_on_and_comes_to_the_same(
    store_url: str, other_url: str
) -> None:
    """SIGKILL where each step has been told of, one after the other, on one and the same move;
    the last is after the source's mark and before that of the target is taken away."""
    await fill(store_url, CALLS, 2, left_open=3)
    before = await contents(store_url)
    for phase in PHASES:
        count = 2 if phase in ("receipts", "facts", "verified") else 1
        with stopped_at(phase, count, store_url, other_url) as mover:
            mover.kill()
        is_marked = phase in ("source marked", "done")
        if is_marked:
            with pytest.raises(StoreMoved):
                await open_store(store_url, now_us=Clock().now_us, node_id="node")
        else:
            assert await contents(store_url) == before, phase
        if phase != "done":
            with pytest.raises(StoreMoved):
                await open_store(other_url, now_us=Clock().now_us, node_id="node")
    last = move(store_url, other_url)
    assert (last.returncode, "nothing is left to do" in last.stdout) == (0, True), last.stderr
    # An uninterrupted move gives what the source held (the test above); so did this one, and that
    # it was moved was put on record by the last command, once.
    await assert_moved(before, other_url)
    assert move(store_url, other_url).returncode == 0
    await assert_moved(before, other_url)


async def test_a_store_in_use_is_not_moved(store_url: str, other_url: str) -> None:
    await fill(store_url, 10, 1)
    store = await open_store(store_url, now_us=Clock().now_us, node_id="busy-node")
    if store.has_leases:
        await store.renew_lease("boot", 60)
    done = move(store_url, other_url)
    assert done.returncode == 1
    assert "move_refused" in done.stderr
    assert "--fence" in done.stderr
    if store.has_leases:
        assert "busy-node" in done.stderr
        await store.end_lease("boot")
    await store.close()
    assert move(store_url, other_url).returncode == 0, "positive control"


async def test_a_store_that_was_left_or_is_half_filled_says_so_when_it_is_looked_at(
    store_url: str, other_url: str
) -> None:
    def info(url: str) -> str:
        command = [sys.executable, "-m", "sidecar.cli.main", "store", "info", "--store", url]
        done = warm.run(command, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        return done.stdout

    await fill(store_url, 10, 1)
    with stopped_at("verified", 1, store_url, other_url) as mover:
        mover.kill()
    assert "NOT IN USE" not in info(store_url), "still the one to work on"
    half = info(other_url).splitlines()[0]
    assert half.startswith("NOT IN USE: this store is being filled from ")
    assert move(store_url, other_url).returncode == 0
    assert info(store_url).startswith("NOT IN USE: this store was moved to ")
    assert postgres_server.PASSWORD not in info(store_url)
    assert "NOT IN USE" not in info(other_url)


async def test_a_store_is_not_moved_onto_itself(store_url: str) -> None:
    await fill(store_url, 10, 1)
    done = move(store_url, store_url)
    assert done.returncode == 2
    assert "--from and --to name the same store" in done.stderr
    store = await open_store(store_url, now_us=Clock().now_us, node_id="node")
    await store.close()
