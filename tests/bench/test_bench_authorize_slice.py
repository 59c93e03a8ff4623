"""A slice of the authorize benchmark: it measures, and an authorize call keeps its promise."""

from __future__ import annotations

from pathlib import Path

import authorize_speed


def test_an_authorize_call_costs_little_more_than_the_proxy_adds(tmp_path: Path) -> None:
    figures = authorize_speed.measured(tmp_path, calls=60, rounds=3)
    assert figures["proxy_added_p50_us"] > 0 and figures["p50_us"]["authorize"] > 0
    assert figures["ratio_p50"] <= 1.5, figures


def test_the_ratio_can_fail() -> None:
    took = {"direct": [10_000], "proxy": [110_000], "authorize": [250_000]}
    figures = authorize_speed.summed(took, {"proxy": [1.0], "authorize": [1.0]})
    assert figures["ratio_p50"] == 2.5
