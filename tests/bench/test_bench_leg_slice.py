"""The comparison of upstream legs runs: each leg carries its calls, and each costs something."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).with_name("leg_speed.py")


def test_every_leg_is_measured_beside_the_floor() -> None:
    command = [sys.executable, str(BENCH), "--json", "--rounds", "3", "--calls", "64"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout)
    for level in ("c1", "c32"):
        assert all(figures[leg][level] > 0 for leg in ("floor", "aiohttp", "lean")), figures
