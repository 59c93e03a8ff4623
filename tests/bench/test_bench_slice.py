"""The benchmark runs and its figures hang together; what must not collapse does not.

Speeds are not asserted here: machines are shared. Ratios are in tests/results/bench.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).with_name("full.py")


def bench(part: str) -> dict[str, Any]:
    command = [sys.executable, str(BENCH), "--json", "--size", "small", "--only", part]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    figures: dict[str, Any] = json.loads(done.stdout)
    assert figures["machine"]["cores"]
    return dict(figures[part])


@pytest.mark.serial
@pytest.mark.timeout(120)
def test_four_times_the_capacity_is_refused_quickly_and_nothing_collapses() -> None:
    figures = bench("overload")
    assert figures["offered_to_capacity"] > 2.5, ("positive control: overloaded", figures)
    assert figures["kept_ratio"] > 0.5, figures
    assert figures["after_ratio"] > 0.5, figures
    assert figures["refused_p50_ms"] < 250, figures
    assert figures["refused_p99_ms"] < 2000, figures
    assert figures["answered_p99_ms"] < 2000, figures
    assert figures["newcomers_refused"] > 0, figures
    assert figures["newcomer_refused_p50_ms"] < 250, figures
    assert figures["receipts"]["verified"], figures
    assert figures["receipts"]["intent"] == figures["receipts"]["outcome"], figures


@pytest.mark.timeout(120)
def test_decisions_and_commits_are_measured_beside_their_yardsticks() -> None:
    policy, store = bench("policy"), bench("store")
    assert policy["decision_us_1000_rules"] < 10 * policy["decision_us_1_rules"] + 5, policy
    assert 0 < store["ratio_to_raw_loop_1"] < store["ratio_to_raw_loop_256"], store
    assert store["bytes_per_call"] < 3000, store
