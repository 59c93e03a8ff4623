"""The policies' benchmark runs at its smallest, peers and all, and its figures hang together.

Speeds are not asserted here: machines are shared. Figures are in tests/results/policy.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import policy_engines
import policy_rules
import policy_speed
import pytest

BENCH = Path(__file__).with_name("policy_full.py")


def test_every_part_is_measured_and_held_against_its_lines(tmp_path: Path) -> None:
    results = tmp_path / "policy.json"
    command = [sys.executable, str(BENCH), "--size", "small", "--results", str(results)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(results.read_text())
    peers = figures["decisions"]["peers"]
    assert "cedarpy" in peers and "pycasbin" in peers
    for kind in policy_rules.KINDS:
        for rules in ("1", "30"):
            row = figures["decisions"][kind][rules]
            wanted = {"sidecar_us", "every_tool_us"}
            wanted |= {f"{peer}_us" for peer in peers} if kind in policy_rules.SHARED else set()
            assert set(row) == wanted, (kind, row)
            assert all(us > 0 for us in row.values()), row
    assert figures["loading"]["cpu_s"] > 0
    assert figures["lateness"]["loading"]["ticks"] > 0
    held = {line["figure"] for line in figures["lines"]}
    assert "lateness.extra_max_ms" in held
    assert {f"decisions.cel.least_times_{peer}" for peer in peers} <= held


def test_a_peer_that_judges_otherwise_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lenient(policy_engines.Cedar):
        def allows(self, prepared: dict[str, str]) -> bool:
            return True

    effort = policy_speed.Effort(1, 0.001, (2,), peers=("cedarpy",))
    assert policy_speed.measure("plain", 2, effort), "positive control"
    monkeypatch.setitem(policy_speed.ENGINES, "cedarpy", Lenient)
    with pytest.raises(AssertionError, match="cedarpy does not say the same of plain rules"):
        policy_speed.measure("plain", 2, effort)
