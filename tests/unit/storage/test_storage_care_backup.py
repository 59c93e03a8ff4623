"""Copies: names that are never taken from anybody, files that are gone when something fails."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import subprocess
from pathlib import Path

import pytest
from storage_sqlite_setup import check_chain, intent, opened, seal

from storage.backup import (
    TargetExists,
    check_free,
    check_pages,
    clear_left_behind,
    copy_store,
    discard,
    made_beside,
    partial_of,
    publish,
    replace,
    set_aside,
)
from storage.errors import StoreCorrupt, StoreReadOnly, StoreUnavailable


async def a_store(path: Path, count: int = 3) -> Path:
    async with opened(path) as store:
        await store.record([intent(f"c{n}") for n in range(count)], seal)
    return path


async def test_a_copy_is_one_snapshot_while_the_store_goes_on(tmp_path: Path) -> None:
    """Commits between the steps are not in it, and do not make it start over."""
    path, copy = tmp_path / "store.db", tmp_path / "copy.db"
    steps: list[tuple[int, int]] = []
    async with opened(path) as store:
        for start in range(0, 20_000, 1000):
            await store.record([intent(f"c{n}") for n in range(start, start + 1000)], seal)
        with sqlite3.connect(path) as raw:
            raw.execute("PRAGMA wal_autocheckpoint = 0")

            def progress(done: int, total: int) -> None:
                steps.append((done, total))
                raw.execute("INSERT INTO store_state VALUES (?, 'x')", (f"n{len(steps)}",))
                raw.commit()

            copy_store(path, copy, progress)
        raw.close()
        assert await check_chain(store) == 20_000
    assert len(steps) > 2 and steps == sorted(steps) and steps[-1][0] == steps[-1][1]
    assert len({total for _, total in steps}) == 1
    raw = sqlite3.connect(copy)
    assert raw.execute("SELECT count(*) FROM store_state WHERE value = 'x'").fetchone() == (0,)
    assert raw.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    raw.close()
    async with opened(copy) as store:
        assert await check_chain(store) == 20_000


async def test_a_copy_that_is_broken_off_leaves_nothing(tmp_path: Path) -> None:
    path, copy = await a_store(tmp_path / "store.db"), tmp_path / "copy.db"

    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_store(path, copy, stop)
    assert sorted(p.name for p in tmp_path.glob("copy*")) == []
    copy_store(path, copy)
    with pytest.raises(TargetExists):
        copy_store(path, copy)
    check_pages(copy)
    async with opened(copy) as store:
        assert await check_chain(store) == 3


async def test_what_is_no_database_or_not_there_is_not_copied(tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    with pytest.raises(StoreUnavailable):
        copy_store(tmp_path / "none.db", copy)
    (tmp_path / "noise.db").write_bytes(os.urandom(8192))
    with pytest.raises(StoreCorrupt):
        copy_store(tmp_path / "noise.db", copy)
    assert list(tmp_path.glob("copy*")) == []
    with pytest.raises((StoreUnavailable, StoreReadOnly)):
        copy_store(await a_store(tmp_path / "store.db"), tmp_path / "none" / "copy.db")


async def test_broken_pages_are_found(tmp_path: Path) -> None:
    path, copy = await a_store(tmp_path / "store.db", 500), tmp_path / "copy.db"
    copy_store(path, copy)
    check_pages(copy)
    data = bytearray(copy.read_bytes())
    data[20 * 4096 : 20 * 4096 + 100] = os.urandom(100)  # what says of a page how to read it
    copy.write_bytes(data)
    with pytest.raises(StoreCorrupt):
        check_pages(copy)


def test_a_name_is_never_taken(tmp_path: Path) -> None:
    target = tmp_path / "a"
    partial = partial_of(target)
    assert partial.parent == tmp_path and partial.name.startswith(".a.")
    partial.write_text("new")
    target.write_text("old")
    with pytest.raises(TargetExists):
        publish(partial, target)
    assert (target.read_text(), partial.read_text()) == ("old", "new")
    target.unlink()
    publish(partial, target)
    assert target.read_text() == "new" and not partial.exists()
    for name in ("b-wal", "c"):
        (tmp_path / name).write_text("old")
    for name in ("b", "c"):
        with pytest.raises(TargetExists):
            check_free(tmp_path / name)
    check_free(tmp_path / "d")
    with pytest.raises(StoreUnavailable):
        check_free(tmp_path / "none" / "d")


def test_where_a_file_has_one_name_none_is_taken_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stick, a share: where backups go."""

    def link(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    target = tmp_path / "a"
    (partial := partial_of(target)).write_text("new")
    target.write_text("old")
    with pytest.raises(TargetExists):
        publish(partial, target)
    assert (target.read_text(), partial.read_text()) == ("old", "new")
    target.unlink()
    publish(partial, target)
    assert [one.name for one in tmp_path.iterdir()] == ["a"] and target.read_text() == "new"


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    target, own = tmp_path / "a[b].db", os.getpid()
    gone = subprocess.Popen(["true"])
    gone.wait()
    dead = [f".a[b].db.{gone.pid}-01234567.part", f".a[b].db.{own}-89abcdef.part",
            f".a[b].db.{gone.pid}.part"]  # fmt: skip
    other = [f".a[b].db.{os.getppid()}-01234567.part", ".a[b].db.x.part", f".ab.db.{gone.pid}.part",
             f".a[b].db.{gone.pid}-01234567.part.mine", f"a[b].db.{gone.pid}.part"]  # fmt: skip
    for name in (*dead, *other):
        (tmp_path / name).touch()
    (tmp_path / f"{dead[0]}-journal").touch()
    with made_beside(target) as folder:
        (Path(folder) / "salvage.db").touch()
        (kept := tmp_path / f".a[b].db.{gone.pid}-a1_b2c3d.part").mkdir()
        assert re.fullmatch(r"\.a\[b\]\.db\.[0-9]+-[a-z0-9_]{8}\.part", Path(folder).name)
    (kept / "salvage.db").touch()
    dead.append(kept.name)
    removed, left = clear_left_behind(target)
    assert sorted(one.name for one in removed) == sorted(dead)
    assert [one.name for one in left] == other[:1]
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted(other)
    assert partial_of(target) != partial_of(target)


async def test_setting_aside_leaves_the_store_whole_until_it_is_replaced(tmp_path: Path) -> None:
    path, kept, new = tmp_path / "store.db", tmp_path / "kept.db", tmp_path / "new.db"
    await a_store(path, 3)
    await a_store(new, 7)
    set_aside(path, kept)
    async with opened(path) as store:  # as if killed here
        assert await check_chain(store) == 3
    replace(new, path)
    async with opened(path) as store:
        assert await check_chain(store) == 7
    async with opened(kept) as store:
        assert await check_chain(store) == 3
    with pytest.raises(TargetExists):
        set_aside(path, kept)


def test_discarding_removes_what_lies_beside(tmp_path: Path) -> None:
    for end in ("", "-wal", "-shm", "-journal", ".lock"):
        (tmp_path / f"x{end}").write_text("")
    (tmp_path / "xy").write_text("")
    discard(tmp_path / "x")
    assert [p.name for p in tmp_path.iterdir()] == ["xy"]
