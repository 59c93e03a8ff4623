"""The comparison of two trees runs: the same tree twice costs the same, but for the noise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).with_name("side_by_side.py")
ROOT = BENCH.parents[2]


@pytest.mark.timeout(120)
def test_two_trees_are_measured_beside_the_bare_pass_through() -> None:
    command = [sys.executable, str(BENCH), f"a={ROOT}", f"b={ROOT}"]
    command += ["--rounds", "1", "--at-once", "8", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout)["c8"]
    assert set(figures) == {"bare", "a", "b"}
    for row in figures.values():
        assert row["errors"] == 0 and row["requests_per_s"] > 0
    for tree in ("a", "b"):
        assert figures[tree]["other_us"] > 0, "positive control: a writer of its own was seen"
        assert figures[tree]["cpu_us"] > figures[tree]["loop_us"] > 0
    assert 0.3 < figures["b"]["cpu_us_to_a"] < 3
