"""A1, A13: the slice of the fault run that every test run takes, and the harness's own test."""

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
def test_a1_a13_fifty_kills_under_load_lose_nothing() -> None:
    code, report = harness("--size", "50")
    assert (code, report["violations"]) == (0, 0), report
    assert report["cycles"] == 50
    # positive controls: there was load, calls went through, and kills left intents open
    assert int(str(report["answered"])) > 500
    assert int(str(report["refused"])) > 50
    assert int(str(report["recovered"])) > 0


@pytest.mark.timeout(200)
@pytest.mark.parametrize("fault", ["forward-before-commit", "acknowledge-before-commit"])
def test_the_harness_finds_a_planted_fault(fault: str) -> None:
    code, report = harness("--size", "30", "--planted", fault, "--seed", "7")
    assert code == 1
    assert int(str(report["violations"])) > 0
