"""Moving a store: whole, compared, verified; refused rather than mixed; resumed where it was."""

from __future__ import annotations

import hmac
import sqlite3
import subprocess
import sys
from pathlib import Path

import postgres_server
import pytest
from conformance_setup import intent, outcome

from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from storage import move as moving
from storage import open_reader, open_store
from storage.move import StoreMoved
from storage.records import Entry, OpenIntentRow

ROOT = Path(__file__).parents[2]
CALLS = 900


def move(source: str, target: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sidecar.cli.main", "store", "move"]
    return subprocess.run(
        [*command, "--from", source, "--to", target],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def committed(entry: Entry) -> Entry:
    """The intent with a commitment to the arguments beside it, as the ledger's verifier asks."""
    assert entry.facts is not None and entry.facts.arguments is not None
    salt, arguments = bytes.fromhex(entry.facts.salt), entry.facts.arguments.encode()
    digest = hmac.digest(salt, arguments, "sha256").hex()
    entry.receipt = entry.receipt._replace(args_commitment=digest)
    return entry


async def fill(url: str) -> None:
    """Two tenants, calls that ended and one in flight, a raised epoch."""
    store = await open_store(url, now_us=Clock().now_us, node_id="node")
    for first in range(0, CALLS, 300):
        names = [f"call-{number:06}" for number in range(first, first + 300)]
        await store.record([committed(intent(name, "acme")) for name in names], seal)
        await store.record([outcome(name, "acme") for name in names], seal)
    await store.record([committed(intent("in-flight", "rival"))], seal)
    await store.raise_epoch("acme")
    await store.close()


@pytest.fixture
async def other_url(store_url: str, tmp_path: Path, postgres_dsn: str) -> str:
    """A store of the other engine that does not exist yet."""
    if store_url.startswith("sqlite"):
        return await postgres_server.new_database(postgres_dsn)
    return f"sqlite:///{tmp_path}/other.db"


async def test_a_store_moves_to_the_other_engine_and_everything_verifies(
    store_url: str, other_url: str
) -> None:
    await fill(store_url)
    done = move(store_url, other_url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"moved {CALLS * 2 + 1} receipts of 2 tenants" in done.stdout
    assert postgres_server.PASSWORD not in done.stdout + done.stderr
    reader = await open_reader(other_url)
    head = await reader.head("acme")
    assert (head.seq, head.epoch) == (CALLS * 2, 1)
    assert await reader.open_intents("node", 9) == [
        OpenIntentRow("rival", "in-flight", "node", "boot")
    ]
    assert (await reader.call_facts("acme", 1)) is not None
    await reader.close()
    with pytest.raises(StoreMoved):
        await open_store(store_url, now_us=Clock().now_us, node_id="node")
    store = await open_store(other_url, now_us=Clock().now_us, node_id="node")
    [answer] = await store.record([intent("next", "acme")], seal)
    assert answer[0] == CALLS * 2 + 1
    await store.close()
    again = move(store_url, other_url)
    assert again.returncode == 1
    assert "move_refused" in again.stderr


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_a_move_that_was_cut_off_goes_on(
    store_url: str, other_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import storage
    from storage.move import Side

    await fill(store_url)
    clock = Clock()

    class CutOff(Exception):
        pass

    async def attempt(stop_at: str) -> None:
        source, one = await storage.open_side(store_url, "a", now_us=clock.now_us, is_target=False)
        target, two = await storage.open_side(other_url, "b", now_us=clock.now_us, is_target=True)

        async def verify(tenant_id: str) -> None:
            if stop_at == "verify":
                raise CutOff

        def progress(what: str, done: int, total: int) -> None:
            if what == stop_at:
                raise CutOff

        try:
            await moving.move(source, target, verify, progress)
        finally:
            await one.close()
            await two.close()

    assert Side is moving.Side
    monkeypatch.setattr(moving, "PAGE_ROWS", 100)
    for stop_at in ("receipts", "facts", "compared", "verify"):
        with pytest.raises(CutOff):
            await attempt(stop_at)
        with pytest.raises(StoreMoved):
            await open_store(other_url, now_us=clock.now_us, node_id="node")
    await attempt("")
    reader = await open_reader(other_url)
    assert (await reader.head("acme")).seq == CALLS * 2
    await reader.close()


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_a_row_that_differs_is_found_and_nothing_is_finished(
    store_url: str, other_url: str, tmp_path: Path
) -> None:
    """The planted fault: one receipt of the source changes between copy and comparison."""
    await fill(store_url)
    path = store_url.removeprefix("sqlite:///")
    raw = sqlite3.connect(path)
    raw.execute("UPDATE receipts SET agent_id = 'else' WHERE seq = 7 AND tenant_id = 'acme'")
    raw.commit()
    raw.close()
    done = move(store_url, other_url)
    assert done.returncode == 1
    assert "move_differs" in done.stderr
    with pytest.raises(StoreMoved):
        await open_store(other_url, now_us=Clock().now_us, node_id="node")
    store = await open_store(store_url, now_us=Clock().now_us, node_id="node")
    await store.close()


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_a_target_with_something_in_it_is_refused(store_url: str, other_url: str) -> None:
    await fill(store_url)
    await fill(other_url)
    done = move(store_url, other_url)
    assert done.returncode == 1
    assert "is not empty" in done.stderr


async def test_a_store_in_use_is_not_moved(store_url: str, other_url: str) -> None:
    await fill(store_url)
    store = await open_store(store_url, now_us=Clock().now_us, node_id="node")
    if store.has_leases:
        await store.renew_lease("boot", 60)
    done = move(store_url, other_url)
    assert done.returncode == 1
    assert "move_refused" in done.stderr or "store_held" in done.stderr
    await store.close()
