"""The slice of the failover run that every test run takes: the primary is killed under load, its
synchronous standby takes over, and nothing that was acknowledged is missing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from failover import WRITABLE_AGAIN_S

HARNESS = Path(__file__).with_name("failover_full.py")


def test_a15_three_failovers_lose_nothing_that_was_acknowledged() -> None:
    done = subprocess.run(
        [sys.executable, str(HARNESS), "--size", "3"], capture_output=True, text=True
    )
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert (done.returncode, report["violations"]) == (0, 0), json.dumps(report, indent=2)
    assert (report["failovers"], report["missing"]) == (3, 0)
    assert report["writable_again_s"]["max"] < WRITABLE_AGAIN_S
    # positive controls: there was load, the failovers were felt, and a standby that missed some
    # is found out
    assert report["acknowledged"] >= 3000
    assert sum(report["refused_meanwhile"].values()) >= 3
    assert report["planted"]["missing"] >= 200
