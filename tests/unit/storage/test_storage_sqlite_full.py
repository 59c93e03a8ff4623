"""A disk that is full or read-only: refused with the reason, and over when its cause is."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path

import pytest
from storage_sqlite_setup import bulky, check_chain, intent, mounted, opened, seal, url_of

from storage import SqlStore, open_reader
from storage.errors import StoreFull, StoreReadOnly, StoreUnavailable
from storage.records import Recorded
from storage.sqlite import BATCHES_PER_CHECKPOINT


async def fill(store: SqlStore) -> int:
    """Records until the disk is full; gives the number of acknowledged calls."""
    for number in range(10_000):
        try:
            await store.record([bulky(f"c{number:05}")], seal)
            await store.after_commit()
        except StoreFull:
            return number
    raise AssertionError("the disk never was full")


async def test_a3_a_full_disk_refuses_and_recovers_when_space_returns(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=2m", "tmpfs") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(b"\0" * 1_000_000)
        async with opened(disk / "store.db") as store:
            acknowledged = await fill(store)
            assert acknowledged > 10
            with pytest.raises(StoreFull):
                await store.record([bulky("again")], seal)
            assert await check_chain(store) == acknowledged
            ballast.unlink()
            [answer] = await store.record([bulky("after")], seal)
            assert isinstance(answer, Recorded)
            await store.probe()
            assert await check_chain(store) == acknowledged + 1
        async with opened(disk / "store.db") as store:
            assert await check_chain(store) == acknowledged + 1


async def test_a3_a_checkpoint_on_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=4m", "tmpfs") as disk:
        async with opened(disk / "store.db") as store:
            for number in range(40):
                await store.record([bulky(f"c{number:05}")], seal)
            (disk / "ballast").write_bytes(b"\0" * (shutil.disk_usage(disk).free))
            for _ in range(BATCHES_PER_CHECKPOINT):
                await store.after_commit()
            facts = store.facts()
            assert facts.checkpoints_total == 1 and facts.checkpoint_failures_total == 1
            assert await check_chain(store) == 40
            (disk / "ballast").unlink()
            for _ in range(BATCHES_PER_CHECKPOINT):
                await store.after_commit()
            assert store.facts().checkpoint_failures_total == 1
            await store.record([intent("after")], seal)
            assert await check_chain(store) == 41


async def test_a3_a_full_disk_stops_the_first_start_and_a_later_start_succeeds(
    tmp_path: Path,
) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=1m", "tmpfs") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(b"\0" * (shutil.disk_usage(disk).free - 48 * 1024))
        with pytest.raises((StoreFull, StoreUnavailable)):
            async with opened(disk / "store.db"):
                pass
        ballast.unlink()
        async with opened(disk / "store.db") as store:
            await store.record([intent("c1")], seal)


async def test_a3_a_limit_on_pages_is_a_full_store_too(tmp_path: Path) -> None:
    """The same without a mount, so that it runs anywhere."""
    async with opened(tmp_path / "store.db") as store:
        writer = store._driver._writer._conn  # type: ignore[attr-defined]
        await store._driver._writer.execute("PRAGMA max_page_count = 100")  # type: ignore[attr-defined]
        acknowledged = await fill(store)
        assert not writer.in_transaction
        await store._driver._writer.execute("PRAGMA max_page_count = 100000")  # type: ignore[attr-defined]
        await store.record([bulky("after")], seal)
        assert await check_chain(store) == acknowledged + 1
        assert store.facts().reopened_total == 0


async def test_a10_a_read_only_file_system_is_named_and_can_still_be_read(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    async with opened(source / "store.db") as store:
        await store.record([intent("c1")], seal)
    with mounted(tmp_path / "view", "--bind", str(source)) as view:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(view)], check=True)
        with pytest.raises(StoreReadOnly, match="Read-only"):
            async with opened(view / "store.db"):
                pass
        with pytest.raises(StoreReadOnly):
            async with opened(view / "new.db"):
                pass
        subprocess.run(["mount", "-o", "remount,rw,bind", str(view)], check=True)
        async with opened(view / "store.db") as store:
            assert await check_chain(store) == 1


async def test_a_file_that_may_not_be_written_is_read_only(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with opened(path):
        pass
    if subprocess.run(["chattr", "+i", str(path)], capture_output=True).returncode:
        pytest.skip("no immutable files here")
    try:
        with pytest.raises(StoreReadOnly, match=r"store\.db"):
            async with opened(path):
                pass
    finally:
        subprocess.run(["chattr", "-i", str(path)], check=True)
    async with opened(path) as store:
        await store.probe()


async def test_a_full_disk_on_which_nothing_can_be_read_is_told_to_be_looked_at(
    tmp_path: Path,
) -> None:
    """What reads a store in this mode puts an index beside it, if no sidecar runs."""
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=2m", "tmpfs") as disk:
        async with opened(disk / "store.db") as store:
            await store.record([intent("c1")], seal)
        with (disk / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(b"\0" * 4096)
        with pytest.raises(StoreUnavailable) as found:
            await open_reader(url_of(disk / "store.db"))
        assert "disk is full" in found.value.next_step
        (disk / "ballast").unlink()
        await (await open_reader(url_of(disk / "store.db"))).close()
