"""A slice of the replay's benchmark: all calls are judged, and told of as they must come out. How
long it takes is not asserted: machines are shared."""

from __future__ import annotations

from pathlib import Path

import pytest
import replay_full


def test_every_recorded_call_is_judged_again(tmp_path: Path) -> None:
    found = replay_full.run(tmp_path, 1_500)
    assert found["violations"] == [] and found["different"] == 150
    assert found["same"] + found["different"] == 1_500


def test_a_replay_that_comes_out_otherwise_is_a_violation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_full, "OTHER", replay_full.POLICY.replace("<= 50", "<= 30"))
    assert replay_full.run(tmp_path, 600)["violations"]
