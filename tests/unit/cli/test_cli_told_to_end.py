"""SIGTERM to a command: `timeout 1h aegis-sidecar store backup …`, a systemd timer that stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from store_care_setup import call, filled, reports, store_command

SLOW_BACKUP = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from store_care_setup import store_command
from storage import backup
backup.PAUSE_S = 60
sys.exit(store_command("backup", Path(sys.argv[2]), sys.argv[3]))
"""
SLOW_LIFT = """
import asyncio, signal, sys
from sidecar.cli.chosen_store import finished

async def work():
    try:
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(60)
    finally:
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0.01)
        print("lifted", flush=True)

sys.exit(finished(work()))
"""


def half_copied(tmp_path: Path) -> tuple[Path, Path, subprocess.Popen[bytes]]:
    """A store, the folder it is copied to, and the command that is in the middle of it."""
    path = filled(tmp_path / "aegis.db", *(call(n) for n in range(3)))
    folder = tmp_path / "backups"
    folder.mkdir()
    here = str(Path(__file__).parent)
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_BACKUP, here, str(path), str(folder / "copy.db")]
    )
    until = time.monotonic() + 20
    while not any(one.stat().st_size for one in folder.glob(".copy.db.*.part")):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    return path, folder, process


def test_a_backup_that_is_told_to_end_leaves_no_half_copy(tmp_path: Path) -> None:
    path, folder, process = half_copied(tmp_path)
    process.terminate()
    assert process.wait(10) == 128 + signal.SIGTERM
    assert os.listdir(folder) == []
    assert reports(path)[0].fault is None


def test_what_a_killed_backup_leaves_the_next_one_to_its_place_removes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder, process = half_copied(tmp_path)
    assert store_command("backup", path, folder / "copy.db") == 0, "one beside it"
    assert "is being written by another process" in capsys.readouterr().err
    (folder / "copy.db").unlink()
    process.kill()
    process.wait(10)
    assert len(os.listdir(folder)) == 1, "a whole store's size, hidden"
    assert store_command("backup", path, folder / "copy.db") == 0
    assert "by a process that is gone: removed" in capsys.readouterr().err
    assert os.listdir(folder) == ["copy.db"]


def test_what_has_to_be_put_in_order_is_waited_for_and_said_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SLOW_LIFT], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stdout) == (128 + signal.SIGTERM, "lifted\n"), done.stderr
