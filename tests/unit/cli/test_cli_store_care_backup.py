"""`store backup` and `store restore` as an operator runs them, beside a sidecar and without one."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from store_care_setup import (
    CLOCK,
    call,
    filled,
    held,
    reports,
    rows,
    store_command,
    tampered,
    url_of,
)

from sidecar.backup_file import kept, told
from storage.backup import copy_store

ROOT = Path(__file__).parents[3]

#: A process that keeps recording until it is told to stop; says how many calls it committed.
WRITER = """
import asyncio, sys
import storage
from store_care_setup import CLOCK, call
from sidecar.ledger.chain import seal

async def main():
    store = await storage.open_store(sys.argv[1], now_us=CLOCK.now_us, node_id="node")
    number = 1_000_000
    print("ready", flush=True)
    stop = asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
    while not stop.done():
        entries = [entry for n in range(number, number + 20) for entry in call(n)]
        await store.record(entries[::2], seal)
        await store.record(entries[1::2], seal)
        await store.after_commit()
        number += 20
    await store.close()
    print(2 * (number - 1_000_000), flush=True)

asyncio.run(main())
"""


def two_tenants(folder: Path) -> Path:
    return filled(
        folder / "aegis.db", *(call(n) for n in range(5)), *(call(n, "beta") for n in range(3))
    )


def test_a_backup_beside_a_running_store_is_private_and_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, target = two_tenants(tmp_path), tmp_path / "copy.db"
    before = reports(path)
    assert held(path, lambda: store_command("backup", path, target)) == 0
    printed = capsys.readouterr().out
    assert "tenant 'acme': receipts 1 to 10 hold, 5 with facts" in printed
    assert "tenant 'beta': receipts 1 to 6 hold" in printed
    assert before[0].head_hash in printed and "unanchored" in printed
    assert target.stat().st_mode & 0o777 == 0o600
    assert reports(target) == before
    backup = kept(path)
    assert backup is not None and backup.target == str(target)
    assert backup.file_bytes == target.stat().st_size
    assert 0 <= CLOCK.now_us() - backup.at_us < 60_000_000
    # Nothing is left beside it, and it needs nothing beside it.
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith("aegis.db")) == [
        "copy.db"
    ]


def test_a_backup_is_of_the_time_at_which_it_was_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is recorded while a large store is copied and verified is not in it."""
    path, begun_us = two_tenants(tmp_path), []

    def copy(*given: Any) -> None:
        begun_us.append(CLOCK.now_us())
        copy_store(*given)

    monkeypatch.setattr("storage.backup.copy_store", copy)
    assert store_command("backup", path, tmp_path / "copy.db") == 0
    backup = kept(path)
    assert backup is not None and backup.at_us <= begun_us[0]


def test_a_backup_that_cannot_be_told_of_is_one_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = two_tenants(tmp_path)
    assert told(path) == "No backup is known: `aegis-sidecar store backup TARGET`."
    (tmp_path / "aegis.db.backup.json").mkdir()
    assert store_command("backup", path, tmp_path / "copy.db") == 0
    assert "warning: the sidecar cannot tell of it" in capsys.readouterr().err
    assert told(path).startswith("No backup is known") and "cannot be read" in caplog.text
    (tmp_path / "aegis.db.backup.json").rmdir()
    assert store_command("backup", path, tmp_path / "again.db") == 0
    assert "bytes, verified." in told(path)
    assert told(None) == "Backups are made with the server's own tools."


def wait_for_writes(path: Path, above: int) -> None:
    """Until somebody has written more receipts than so many."""
    until = time.monotonic() + 20
    while rows(path, "SELECT max(seq) FROM receipts")[0][0] <= above:
        assert time.monotonic() < until, "the writer is not writing"
        time.sleep(0.05)


def test_a_backup_under_load_from_another_process_is_one_moment(tmp_path: Path) -> None:
    path = filled(tmp_path / "aegis.db", *(call(n) for n in range(20)))
    code = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]\n{WRITER}"
    writer = subprocess.Popen(
        [sys.executable, "-c", code, url_of(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert writer.stdin is not None and writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    lengths = []
    for number in range(3):
        wait_for_writes(path, above=max([40, *lengths]))
        target = tmp_path / f"copy{number}.db"
        assert store_command("backup", path, target) == 0
        [report] = reports(target)
        assert report.fault is None
        lengths.append(report.last_seq)
    writer.stdin.write("stop\n")
    writer.stdin.flush()
    committed = int(writer.stdout.readline())
    assert writer.wait(20) == 0
    writer.stdin.close()
    writer.stdout.close()
    [report] = reports(path)
    assert report.fault is None and report.last_seq == committed + 40
    assert lengths == sorted(set(lengths)) and lengths[0] > 40, "the writer was not writing"


def test_a_backup_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, target = two_tenants(tmp_path), tmp_path / "copy.db"
    target.write_text("precious")
    assert store_command("backup", path, target) == 1
    assert "[target_exists]" in capsys.readouterr().err
    assert target.read_text() == "precious"
    target.unlink()
    assert store_command("backup", path, target) == 0


def test_a_chain_that_does_not_hold_gives_no_backup(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, target = two_tenants(tmp_path), tmp_path / "copy.db"
    tampered(path, "UPDATE receipts SET agent_id = 'eve' WHERE tenant_id = 'acme' AND seq = 3")
    assert store_command("backup", path, target) == 1
    error = capsys.readouterr().err
    assert "tenant 'acme' DOES NOT HOLD: receipt 3" in error
    assert [p.name for p in tmp_path.iterdir() if "copy" in p.name] == []


def test_a_backup_to_a_place_that_is_full_or_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = two_tenants(tmp_path)
    assert store_command("backup", path, tmp_path / "none" / "copy.db") == 1
    assert "does not exist" in capsys.readouterr().err
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(small)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("cannot mount")
    try:
        assert store_command("backup", path, small / "copy.db") == 1
        assert "[store_full]" in capsys.readouterr().err
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_what_is_no_store_is_not_backed_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert store_command("backup", tmp_path / "none.db", tmp_path / "copy.db") == 1
    assert not (tmp_path / "none.db").exists()
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE cats (name TEXT)")
    other.close()
    assert store_command("backup", tmp_path / "other.db", tmp_path / "copy.db") == 1
    assert "is not a store of this program" in capsys.readouterr().err
    assert not (tmp_path / "copy.db").exists()


def test_a_backup_is_restored_where_there_is_no_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, copy = two_tenants(tmp_path), tmp_path / "copy.db"
    assert store_command("backup", path, copy) == 0
    elsewhere = tmp_path / "elsewhere" / "aegis.db"
    elsewhere.parent.mkdir()
    assert store_command("restore", elsewhere, copy) == 0
    was, now = reports(copy), reports(elsewhere)
    assert [(r.tenant_id, r.last_seq, r.fault) for r in now] == [
        ("acme", 11, None),
        ("beta", 7, None),
    ]
    assert elsewhere.stat().st_mode & 0o777 == 0o600
    # The chain itself says that it was put back, and to what.
    [(kind, action, resource)] = rows(
        elsewhere,
        "SELECT kind, action, resource FROM receipts WHERE tenant_id = 'acme' AND seq = 11",
    )
    assert (kind, action) == ("control", "store.restore")
    assert resource == f"backup of receipts up to 10 ({was[0].head_hash})"
    assert sorted(p.name for p in elsewhere.parent.iterdir() if "part" in p.name) == []
    filled(elsewhere, call(77))
    assert reports(elsewhere)[0].last_seq == 13


def test_f8_a_restore_says_what_is_lost_and_keeps_the_old_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, copy = two_tenants(tmp_path), tmp_path / "copy.db"
    assert store_command("backup", path, copy) == 0
    filled(path, call(50), call(51))
    newer = reports(path)
    capsys.readouterr()
    assert store_command("restore", path, copy) == 1
    said = capsys.readouterr().err
    assert "Give --replace: the store that is there is kept" in said and "another file" not in said
    assert reports(path) == newer
    assert store_command("restore", path, copy, "--replace") == 0
    said = capsys.readouterr()
    assert "tenant 'acme': receipts 11 to 14 were recorded after the backup" in said.err
    assert "'beta'" not in said.err
    [kept] = tmp_path.glob("aegis.db.replaced-*Z")
    assert reports(kept) == newer
    assert [r.last_seq for r in reports(path)] == [11, 7]


def test_a_restore_carries_the_log_of_the_replaced_store_with_it(tmp_path: Path) -> None:
    """A sidecar that was killed leaves commits in its log: they belong to the old store."""
    path, copy = two_tenants(tmp_path), tmp_path / "copy.db"
    assert store_command("backup", path, copy) == 0
    left = tmp_path / "left"
    left.mkdir()

    async def killed() -> None:
        import storage
        from sidecar.ledger.chain import seal

        store = await storage.open_store(url_of(path), now_us=lambda: 1, node_id="node")
        for entry in call(60):
            await store.record([entry], seal)
        for name in ("aegis.db", "aegis.db-wal"):
            shutil.copy(tmp_path / name, left / name)
        await store.close()

    asyncio.run(killed())
    assert (left / "aegis.db-wal").stat().st_size > 0
    assert store_command("restore", left / "aegis.db", copy, "--replace") == 0
    [kept] = left.glob("aegis.db.replaced-*Z")
    assert reports(kept)[0].last_seq == 12
    assert [(r.last_seq, r.fault) for r in reports(left / "aegis.db")] == [(11, None), (7, None)]


def test_a_damaged_store_is_replaced_and_kept_with_its_log(tmp_path: Path) -> None:
    path, copy = two_tenants(tmp_path), tmp_path / "copy.db"
    assert store_command("backup", path, copy) == 0
    path.write_bytes(b"\xff" * 20_000)
    log = path.with_name("aegis.db-wal")
    log.write_bytes(b"\xee" * 5_000)
    assert store_command("restore", path, copy, "--replace") == 0
    [kept] = tmp_path.glob("aegis.db.replaced-*Z")
    assert kept.read_bytes() == b"\xff" * 20_000
    assert kept.with_name(f"{kept.name}-wal").read_bytes() == b"\xee" * 5_000
    assert [(r.last_seq, r.fault) for r in reports(path)] == [(11, None), (7, None)]


def test_a_log_without_its_store_is_not_given_to_another(tmp_path: Path) -> None:
    path, copy = two_tenants(tmp_path), tmp_path / "copy.db"
    assert store_command("backup", path, copy) == 0
    path.unlink()
    path.with_name("aegis.db-wal").write_bytes(b"\xee" * 5_000)
    assert store_command("restore", path, copy) == 1
    assert store_command("restore", path, copy, "--replace") == 0
    assert [(r.last_seq, r.fault) for r in reports(path)] == [(11, None), (7, None)]


def test_no_restore_under_a_running_sidecar(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, copy = two_tenants(tmp_path), tmp_path / "copy.db"
    assert store_command("backup", path, copy) == 0
    before = reports(path)
    assert held(path, lambda: store_command("restore", path, copy, "--replace")) == 1
    error = capsys.readouterr().err
    assert "[store_held]" in error and "stop it first" in error
    assert reports(path) == before
    assert store_command("restore", path, copy, "--replace") == 0


@pytest.mark.parametrize("sql", [
    "UPDATE receipts SET outcome = 'x' WHERE tenant_id = 'beta' AND seq = 4",
    "DELETE FROM receipts WHERE tenant_id = 'beta' AND seq = 6",
    "DELETE FROM receipts WHERE tenant_id = 'beta' AND seq = 2",
    "UPDATE chain_head SET frontier = '' WHERE tenant_id = 'beta'",
    "DELETE FROM chain_head WHERE tenant_id = 'beta'",
    "UPDATE call_facts SET arguments = '{}' WHERE tenant_id = 'beta' AND seq = 1",
    "UPDATE call_facts SET facts = '{}' WHERE tenant_id = 'beta' AND seq = 1",
    "DROP INDEX receipts_call_begins",
])  # fmt: skip
def test_a_backup_that_was_changed_is_not_restored(
    tmp_path: Path, sql: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, copy = two_tenants(tmp_path), tmp_path / "copy.db"
    assert store_command("backup", path, copy) == 0
    before = reports(path)
    tampered(copy, sql)
    assert store_command("restore", path, copy, "--replace") == 1
    error = capsys.readouterr().err
    assert "the store is as it was" in error or "[schema_drift]" in error
    assert reports(path) == before
    assert not list(tmp_path.glob("*.part*")) and not list(tmp_path.glob(".*part*"))


def test_a_backup_with_a_broken_page_is_not_restored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, copy = two_tenants(tmp_path), tmp_path / "copy.db"
    assert store_command("backup", path, copy) == 0
    data = bytearray(copy.read_bytes())
    [(page,)] = rows(copy, "SELECT rootpage FROM sqlite_master WHERE name = 'receipts_call_ends'")
    data[(page - 1) * 4096 : page * 4096] = bytes(4096)
    copy.write_bytes(data)
    assert store_command("restore", path, copy, "--replace") == 1
    error = capsys.readouterr().err
    assert f"{copy} is no backup: " in error and "[store_corrupt]" in error
    assert "the store is as it was" in error and "Keep a copy" not in error


@pytest.mark.parametrize("content", [b"hello", b"", b"\0" * 8192, None])
def test_what_is_no_backup_is_told_as_such_and_not_as_of_the_store(
    tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path, junk = two_tenants(tmp_path), tmp_path / "junk"
    before = reports(path)
    if content is not None:
        junk.write_bytes(content)
    assert store_command("restore", path, junk, "--replace") == 1
    error = capsys.readouterr().err
    assert str(junk) in error and "Name a file that `store backup` made" in error
    assert "Keep a copy" not in error and "first start" not in error
    assert reports(path) == before and not list(tmp_path.glob("*.replaced-*"))


def test_a_server_is_not_backed_up_as_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import argparse

    from sidecar.cli import store_backup

    parser = argparse.ArgumentParser()
    store_backup.add_arguments(parser)
    url = "postgresql://u:hunter2@db/aegis"
    assert store_backup.run(parser.parse_args(["--store", url, str(tmp_path / "x")])) == 2
    error = capsys.readouterr().err
    assert "pg_dump" in error and "hunter2" not in error
