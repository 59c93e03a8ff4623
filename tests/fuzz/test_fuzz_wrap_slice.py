"""C1-C11 over stdio: the slice of the run over spoilt lines, and the harness's own test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).with_name("wrap_full.py")


def harness(*arguments: str) -> tuple[int, dict[str, object]]:
    done = subprocess.run(
        [sys.executable, str(HARNESS), *arguments], capture_output=True, text=True
    )
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout)


def test_c1_c11_spoilt_lines_say_to_no_reader_what_was_not_decided() -> None:
    code, report = harness("--size", "1200")
    assert (code, report["violations"]) == (0, 0), json.dumps(report, indent=2)
    # positive controls: some spoilt lines were still sound, and went through
    assert int(str(report["intents"])) > 100
    assert int(str(report["refusals"])) > 500


@pytest.mark.parametrize("fault", ["lenient-json", "carriage-return", "no-record", "inner-words"])
def test_spoilt_lines_find_a_planted_fault(fault: str) -> None:
    code, report = harness("--size", "400", "--planted", fault, "--seed", "7")
    assert code == 1
    assert int(str(report["violations"])) > 0
