"""What can go wrong with a move: each fault is named by a code, the source loses nothing, and
when the cause is gone a later attempt comes through."""

from __future__ import annotations

import contextlib
import pwd
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import postgres_server
import pytest
from move_store import assert_moved, contents, fill, finished, intent_of, move, stopped_at

from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from storage import open_store
from storage.marks import StoreMoved

CALLS = 600
BULKY = 8000


@pytest.fixture
async def other_url(store_url: str, tmp_path: Path, postgres_dsn: str) -> str:
    """A store of the other engine that does not exist yet."""
    return await _new_target(store_url, tmp_path / "other.db", postgres_dsn)


async def _new_target(store_url: str, path: Path, postgres_dsn: str) -> str:
    if store_url.startswith("sqlite"):
        return await postgres_server.new_database(postgres_dsn)
    return f"sqlite:///{path}"


async def execute(url: str, text: str) -> None:
    """One statement by a hand that is not ours."""
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as raw:
            assert raw.execute(text).rowcount == 1
            raw.commit()
        return
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SELECT set_config('aegis.tenants', '*', false)")
        assert (await connection.execute(text)).endswith(" 1")
    finally:
        await connection.close()


async def cannot_be_opened(url: str) -> None:
    with pytest.raises(StoreMoved):
        await open_store(url, now_us=Clock().now_us, node_id="node")


async def record_one(url: str) -> None:
    store = await open_store(url, now_us=Clock().now_us, node_id="node")
    await store.record([intent_of(Clock(), "tenant-0", 1, 9)], seal)
    await store.close()


@contextlib.contextmanager
def small_disk(size: str, owner: str | None = None) -> Iterator[Path]:
    """A file system of so many bytes; skips the test where nothing may be mounted."""
    folder = Path(tempfile.mkdtemp(prefix="aegis-disk-", dir="/tmp"))
    options = f"size={size},mode=0700"
    if owner is not None:
        user = pwd.getpwnam(owner)
        options += f",uid={user.pw_uid},gid={user.pw_gid}"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
        capture_output=True, text=True,
    )  # fmt: skip
    try:
        if done.returncode:
            pytest.skip(f"cannot mount: {done.stderr.strip()}")
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def grow(folder: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


@pytest.mark.parametrize("store_url", ["postgres"], indirect=True)
async def test_a3_the_disk_under_a_sqlite_target_is_full(store_url: str) -> None:
    await fill(store_url, CALLS, 2, argument_bytes=BULKY)
    before = await contents(store_url)
    with small_disk("2m") as disk:
        target = f"sqlite:///{disk}/target.db"
        full = move(store_url, target)
        assert (full.returncode, "[store_full]" in full.stderr) == (1, True), full.stderr
        assert "Free disk space" in full.stderr
        assert await contents(store_url) == before
        grow(disk, "64m")
        assert move(store_url, target).returncode == 0
        await assert_moved(before, target)


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_a3_the_disk_under_a_postgres_target_is_full(store_url: str) -> None:
    """A server whose tablespace is on a small disk: it says 53100 itself."""
    await fill(store_url, CALLS, 2, argument_bytes=BULKY)
    before = await contents(store_url)
    with small_disk("12m", owner="nobody") as disk, postgres_server.new_cluster() as cluster:
        cluster.initialise()
        cluster.start("fsync=off", "full_page_writes=off")
        target = await postgres_server.new_database(cluster.dsn())
        admin = await asyncpg.connect(cluster.dsn())
        await admin.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
        await admin.execute(f"ALTER DATABASE {target.rpartition('/')[2]} SET TABLESPACE small")
        await admin.close()
        full = move(store_url, target)
        assert (full.returncode, "[store_full]" in full.stderr) == (1, True), full.stderr
        assert await contents(store_url) == before
        grow(disk, "128m")
        assert move(store_url, target).returncode == 0
        await assert_moved(before, target)


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_a3_the_disk_under_the_source_is_full(
    store_url: str, other_url: str, tmp_path: Path
) -> None:
    """A source can be read on a full disk; its mark is what cannot be set. Then it goes on."""
    with small_disk("4m") as disk:
        source = f"sqlite:///{disk}/source.db"
        await fill(source, 500, 2)
        before = await contents(source)
        with stopped_at("compared", 1, source, other_url) as mover:
            ballast = disk / "ballast"
            free = shutil.disk_usage(disk).free
            ballast.write_bytes(b"\0" * free)
            code, _, errors = finished(mover)
        assert code == 1 and "[store_full]" in errors, errors
        ballast.unlink()
        assert await contents(source) == before
        await cannot_be_opened(other_url)
        assert move(source, other_url).returncode == 0
        await assert_moved(before, other_url)


async def test_a_target_that_is_not_empty_is_refused_and_kept(
    store_url: str, other_url: str, tmp_path: Path, postgres_dsn: str
) -> None:
    await fill(store_url, 10, 1)
    await fill(other_url, 20, 3)
    before = await contents(other_url)
    done = move(store_url, other_url)
    assert (done.returncode, "is not empty [move_refused]" in done.stderr) == (1, True)
    assert await contents(other_url) == before
    empty = await _new_target(store_url, tmp_path / "empty.db", postgres_dsn)
    assert move(store_url, empty).returncode == 0, "positive control"


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_a11_a_source_with_one_flipped_byte_is_found_out(
    store_url: str, other_url: str, tmp_path: Path, postgres_dsn: str
) -> None:
    """The planted fault is one letter of one receipt: both stores say the same and it is wrong."""
    await fill(store_url, 400, 2)
    where = "WHERE tenant_id = 'tenant-1' AND seq = 301"
    await execute(store_url, f"UPDATE receipts SET upstream = 'shoq' {where}")
    done = move(store_url, other_url)
    assert (done.returncode, "[store_corrupt]" in done.stderr) == (1, True), done.stderr
    assert "receipt 301" in done.stderr and "tenant-1" in done.stderr
    await cannot_be_opened(other_url)
    await execute(store_url, f"UPDATE receipts SET upstream = 'shop' {where}")
    mended = move(store_url, other_url)
    assert (mended.returncode, "[move_differs]" in mended.stderr) == (1, True), "copied before"
    fresh = await _new_target(store_url, tmp_path / "fresh.db", postgres_dsn)
    assert move(store_url, fresh).returncode == 0


@pytest.mark.parametrize("store_url", ["postgres"], indirect=True)
async def test_a11_a_chain_that_lost_its_head_or_its_end_is_found_out(
    store_url: str, other_url: str
) -> None:
    await fill(store_url, 20, 2)
    await execute(store_url, "DELETE FROM chain_head WHERE tenant_id = 'tenant-1'")
    done = move(store_url, other_url)
    assert (done.returncode, "and no head [store_corrupt]" in done.stderr) == (1, True)
    await execute(store_url, "DELETE FROM receipts WHERE tenant_id = 'tenant-0' AND seq = 20")
    done = move(store_url, other_url)
    assert "is not the last receipt [store_corrupt]" in done.stderr


@pytest.mark.parametrize(
    ("store_url", "fault"),
    [
        ("sqlite", "UPDATE receipts SET agent_id = 'x' WHERE tenant_id = 'tenant-0' AND seq = 250"),
        ("postgres", "UPDATE call_facts SET facts = '' WHERE tenant_id = 'tenant-1' AND seq = 1"),
        ("sqlite", "INSERT INTO call_facts VALUES ('tenant-1', 900, '', NULL, '{}')"),
        ("postgres", "DELETE FROM open_intent"),
    ],
    indirect=["store_url"],
)
async def test_what_the_target_garbled_is_found_out(
    store_url: str, other_url: str, fault: str
) -> None:
    """The planted fault is in the target, between copying and comparing."""
    await fill(store_url, 300, 2, left_open=1)
    with stopped_at("small tables", 1, store_url, other_url) as mover:
        await execute(other_url, fault)
        code, _, errors = finished(mover)
    assert code == 1
    assert "[move_differs]" in errors or "facts of tenant" in errors, errors
    await cannot_be_opened(other_url)
    await record_one(store_url)


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_a_source_that_changed_between_two_attempts_needs_an_empty_target(
    store_url: str, other_url: str, tmp_path: Path, postgres_dsn: str
) -> None:
    await fill(store_url, 300, 2)
    with stopped_at("facts", 1, store_url, other_url) as mover:
        mover.kill()
    await record_one(store_url)
    changed = move(store_url, other_url)
    assert (changed.returncode, "has changed" in changed.stderr) == (1, True)
    assert "[move_refused]" in changed.stderr
    fresh = await _new_target(store_url, tmp_path / "fresh.db", postgres_dsn)
    assert move(store_url, fresh).returncode == 0
    assert len((await contents(fresh))["receipts"]) == 603, "and that it was moved, in two chains"


async def test_of_two_movers_at_once_one_is_refused_and_the_other_comes_through(
    store_url: str, other_url: str, tmp_path: Path, postgres_dsn: str
) -> None:
    await fill(store_url, 300, 2)
    before = await contents(store_url)
    elsewhere = await _new_target(store_url, tmp_path / "elsewhere.db", postgres_dsn)
    third = f"sqlite:///{tmp_path}/third.db"
    await fill(third, 10, 1)
    with stopped_at("receipts", 1, store_url, other_url) as mover:
        same_source = move(store_url, elsewhere)
        same_target = move(third, other_url)
        code, out, errors = finished(mover)
    assert same_source.returncode == same_target.returncode == 1
    assert "[move_refused]" in same_source.stderr
    assert "[move_refused]" in same_target.stderr or "[store_held]" in same_target.stderr
    assert code == 0, out + errors
    await assert_moved(before, other_url)
    assert move(third, elsewhere).returncode == 0, "positive control"
