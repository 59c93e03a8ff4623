"""B1-B20, C1-C11: the slice of the fuzz run in every test run, and the harness's own test."""

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


@pytest.mark.timeout(300)
def test_b1_b20_c1_c11_seeds_and_mutants_break_nothing() -> None:
    code, report = harness("--size", "1500")
    assert (code, report["violations"]) == (0, 0), json.dumps(report, indent=2)
    # positive controls: valid calls went through in between, and some mutants were still valid
    assert int(str(report["controls"])) >= 25
    assert int(str(report["mutants_forwarded"])) > 100
    assert int(str(report["receipts"])) > 500


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "fault", ["lenient-framing", "lenient-form", "header-disagreement", "inner-words"]
)
def test_the_seeds_find_a_planted_fault(fault: str) -> None:
    code, report = harness("--size", "200", "--planted", fault, "--seed", "7")
    assert code == 1
    assert int(str(report["violations"])) > 0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", ["lenient-json", "raw-path", "no-record"])
def test_the_mutants_alone_find_a_planted_fault(fault: str) -> None:
    code, report = harness("--size", "4000", "--planted", fault, "--seed", "7", "--only-mutants")
    assert code == 1
    assert int(str(report["violations"])) > 0
