"""The slice of the long move that every test run takes, and the harness's own test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HARNESS = Path(__file__).with_name("move_full.py")
#: More of the mover's memory than this is a leak, or pages that are not bounded.
RSS_MIB_MAX = 200


def harness(*arguments: str) -> tuple[int, dict[str, object]]:
    done = subprocess.run(
        [sys.executable, str(HARNESS), *arguments], capture_output=True, text=True
    )
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout)


def test_two_thousand_calls_go_there_and_back_and_are_the_same_bytes() -> None:
    code, report = harness("--size", "2000")
    assert (code, report["violations"]) == (0, 0), report
    for way in ("to_postgresql", "to_sqlite"):
        figures = report[way]
        assert isinstance(figures, dict)
        assert figures["rss_peak_mib"] < RSS_MIB_MAX
        assert figures["receipts_per_s"] > 0
    last = report["last"]
    assert isinstance(last, dict)
    assert last["receipts"] == 4000 + 2 * 5, "and in each chain that it was moved, twice"


def test_the_harness_finds_a_planted_fault() -> None:
    code, report = harness("--size", "200", "--planted", "garble")
    assert code == 1
    assert "does not match its receipt_hash" in str(report["first_violations"])
