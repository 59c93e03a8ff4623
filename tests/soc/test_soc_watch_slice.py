"""The slice of the watching run that every test run takes, and the harness's own test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).with_name("full.py")


def harness(*arguments: str) -> tuple[int, dict[str, object]]:
    done = subprocess.run(
        [sys.executable, str(HARNESS), *arguments], capture_output=True, text=True
    )
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.timeout(400)
def test_kills_between_decision_and_detection_lose_and_double_no_alert() -> None:
    code, report = harness("--size", "2", "--events", "300", "--rounds", "1", "--untimed")
    assert (code, report["violations"]) == (0, 0), report
    # positive controls: there were kills on both stores, hits, a takeover, and a burst
    assert (int(str(report["kills"])) + int(str(report["stops"])), report["takeovers"]) == (3, 1)
    assert int(str(report["hits"])) > 50
    burst = report["burst"]
    assert isinstance(burst, dict)
    assert burst["events"] >= 300


@pytest.mark.timeout(200)
def test_the_harness_finds_a_mark_that_is_committed_before_its_alerts() -> None:
    code, report = harness("--size", "2", "--planted", "mark-before-alert", "--seed", "7")
    assert code == 1
    assert int(str(report["violations"])) > 0
