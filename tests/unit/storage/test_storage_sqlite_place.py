"""Where a store may live, and that one process holds it."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from pathlib import Path

import pytest
from storage_sqlite_setup import check_chain, intent, opened, outcome, python, seal, url_of

from storage import open_reader, open_store, sqlite_file
from storage.errors import StoreHeld, StoreUnavailable, UnsupportedStore
from storage.sqlite_file import FileLock, check_place, file_system_of, path_of_url

HOLDER = """
import asyncio
from pathlib import Path
from storage_sqlite_setup import *

async def main():
    async with opened(Path(sys.argv[1])) as store:
        for number in range(50):
            await store.record([intent(f"c{number}")], seal)
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(main())
"""


async def holder(path: Path) -> asyncio.subprocess.Process:
    """Another process that holds the store at `path` until its stdin is closed."""
    process = await python(HOLDER, str(path))
    assert process.stdout is not None
    if (await process.stdout.readline()).strip() != b"ready":
        raise AssertionError((await process.communicate())[1].decode())
    return process


async def test_a9_a_second_process_is_refused_and_told_who_holds_the_store(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    process = await holder(path)
    with pytest.raises(StoreHeld, match=rf"store\.db is held by pid {process.pid} on "):
        async with opened(path):
            pass
    await process.communicate(b"")
    assert process.returncode == 0
    async with opened(path) as store:
        assert await check_chain(store) == 50


async def test_a9_a_lock_left_by_a_killed_process_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    process = await holder(path)
    process.kill()
    await process.communicate()
    assert str(process.pid) in (tmp_path / "store.db.lock").read_text()
    async with opened(path) as store:
        assert await check_chain(store) == 50
        await store.record([outcome("c0")], seal)


async def test_a9_a_store_is_held_once_within_a_process_and_under_every_name(
    tmp_path: Path,
) -> None:
    path, alias = tmp_path / "store.db", tmp_path / "alias.db"
    alias.symlink_to(path)
    async with opened(path):
        for name in (path, alias):
            with pytest.raises(StoreHeld, match=f"pid {os.getpid()} "):
                async with opened(name):
                    pass
    async with opened(alias) as store:
        await store.probe()


async def test_a_reader_works_beside_the_holder_and_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    process = await holder(path)
    reader = await open_reader(url_of(path))
    assert (await reader.head("acme")).seq == 50
    process.kill()
    await process.communicate()
    assert len(await reader.receipts("acme", 0, 100)) == 50
    await reader.close()
    reader = await open_reader(url_of(path))
    assert (await reader.head("acme")).seq == 50
    assert await reader.tenants() == ["acme"]
    await reader.close()
    with pytest.raises(StoreUnavailable):
        await reader.tenants()


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///file.db?mode=memory",
        "sqlite:///a#b.db",
        "sqlite:///a\0b",
        "mysql://localhost/aegis",
        "aegis.db",
        "",
    ],
)
async def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(UnsupportedStore):
        await open_store(url, now_us=lambda: 0)


def test_urls_are_relative_with_three_slashes_and_absolute_with_four(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert path_of_url("sqlite:///aegis.db") == tmp_path.resolve() / "aegis.db"
    assert path_of_url("sqlite:////var/lib/aegis.db") == Path("/var/lib/aegis.db")


async def test_odd_file_names_are_just_names(tmp_path: Path) -> None:
    path = tmp_path / "größe 100% &x=y.db"
    async with opened(path) as store:
        await store.record([intent("c1")], seal)
        assert await check_chain(store) == 1
    assert path.is_file()


async def test_a_folder_that_is_not_there_and_a_folder_for_a_file_are_named(
    tmp_path: Path,
) -> None:
    with pytest.raises(StoreUnavailable, match="does not exist"):
        async with opened(tmp_path / "nowhere" / "store.db"):
            pass
    with pytest.raises(UnsupportedStore, match="not a regular file"):
        async with opened(tmp_path):
            pass


async def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        await store.record([intent("c1")], seal)
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    names = ("store.db", "store.db-wal", "store.db-shm", "store.db.lock")
    assert modes == dict.fromkeys(names, 0o600)


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:26 / /proc rw,nosuid - proc proc rw
40 22 0:45 / /srv/share\\040one rw - {kind} server:/export rw
41 40 8:1 / /srv/share\\040one/disk rw - xfs /dev/sdb1 rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/share one", "nfs4"),
        ("/srv/share one/data", "nfs4"),
        ("/srv/share one/disk/data", "xfs"),
        ("/srv/share onerous", "ext4"),
        ("/", "ext4"),
    ],
)
def test_the_file_system_is_that_of_the_nearest_mount(path: str, kind: str) -> None:
    assert file_system_of(Path(path), MOUNTS.format(kind="nfs4")) == kind


@pytest.mark.parametrize(("kind", "word"), [
    ("tmpfs", "in memory"), ("ramfs", "in memory"), ("overlay", "container's own"), ("xfs", ""),
])  # fmt: skip
async def test_a_place_that_keeps_nothing_for_long_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, word: str
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        f"22 1 254:0 / / rw - ext4 /dev/vda rw\n40 22 0:45 / {tmp_path} rw - {kind} x rw"
    )
    monkeypatch.setattr(sqlite_file, "_MOUNTS", mounts)
    async with opened(tmp_path / "store.db") as store:
        found = [one for one in store.facts().warnings if str(tmp_path) in one]
    assert len(found) == bool(word) and word in "".join(found)


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "fuse.sshfs", "9p"])
def test_a10_a_network_file_system_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    mounts = tmp_path / "mountinfo"
    monkeypatch.setattr(sqlite_file, "_MOUNTS", mounts)
    for found in ("ext4", "overlay", "btrfs"):
        mounts.write_text(f"22 1 254:0 / / rw - {found} /dev/vda rw\n")
        check_place(tmp_path / "store.db")
    mounts.write_text(f"22 1 254:0 / / rw - {kind} server:/ rw\n")
    with pytest.raises(UnsupportedStore, match=kind):
        check_place(tmp_path / "store.db")


def test_a10_locks_that_are_not_carried_out_or_only_pretended_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.db"
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    with pytest.raises(UnsupportedStore, match="pretends"):
        FileLock(path)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UnsupportedStore, match="No locks available"):
        FileLock(path)
    monkeypatch.undo()
    FileLock(path).release()
