"""Large, idle and broken-off replies: nothing is kept of them, and a download passes through."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

BENCH = Path(__file__).with_name("full.py")


def test_c17_streams_leave_nothing_behind_and_a_download_does_not_gather() -> None:
    command = [sys.executable, str(BENCH), "--json", "--size", "small", "--only", "streams"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    figures: dict[str, Any] = json.loads(done.stdout)["streams"]
    assert figures["download_is_whole"], figures
    assert figures["download_grows_mib"] < 16, figures
    assert figures["idle_streams_mib"] < 16, figures
    assert figures["aborted_leave_files"] == 0, figures
    assert figures["aborted_grow_mib"] < 8, figures
    assert figures["websockets_leave_files"] == 0, figures
    assert figures["websockets_grow_mib"] < 8, figures
