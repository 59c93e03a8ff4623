"""The store's benchmarks run, and their figures hang together.

Speeds are not asserted here: machines are shared, and small slices tell little. What is asserted is
what does not depend on them: bytes, counts, and that a fault in the measured thing is seen.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import bench_cluster
import memory
import pytest
import store_calls
import store_full

BENCH = Path(__file__).parent
ROOT = BENCH.parent.parent


def slice_of(tmp_path: Path, *parts: str) -> dict[str, Any]:
    """The small size of some parts, as the harness keeps it."""
    results = tmp_path / "store.json"
    only = [word for part in parts for word in ("--only", part)]
    done = subprocess.run(
        [sys.executable, str(BENCH / "store_full.py"), "--size", "small", *only,
         "--results", str(results)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    figures: dict[str, Any] = json.loads(results.read_text())
    assert figures == json.loads(done.stdout)
    assert {name for name in store_full.PARTS if name in figures} == set(parts)
    return figures


def test_both_engines_are_measured_beside_their_raw_loops(tmp_path: Path) -> None:
    figures = slice_of(tmp_path, "postgres", "processes")
    postgres, processes = figures["postgres"], figures["processes"]
    assert postgres["server"]["fsync"] == postgres["server"]["synchronous_commit"] == "on"
    raw = [postgres[f"raw_{style}_calls_per_s"] for style in ("tables", "one_statement", "values")]
    assert max(raw) == postgres[f"raw_{postgres['yardstick']}_calls_per_s"]
    assert postgres["ratio_to_raw_insert"] > 0.1, postgres
    assert processes["ratio_four_on_one_tenant"] > 0.2, processes
    assert processes["ratio_four_on_16_tenants"] > 0.3, processes
    assert processes["tail_is_sound"]


@pytest.mark.serial
def test_four_times_the_ceiling_is_refused_quickly_on_both_engines(tmp_path: Path) -> None:
    figures = slice_of(tmp_path, "overload")["overload"]
    for engine in ("sqlite", "postgres"):
        seen = figures[engine]
        assert seen["offered_to_ceiling"] > 2.5, ("positive control: overloaded", seen)
        assert seen["refused"] > 0, seen
        assert seen["kept_ratio"] > 0.3, seen
        assert seen["refused_p99_ms"] < 500, seen


@pytest.mark.serial
def test_tail_age_memory_and_verifying_are_measured(tmp_path: Path) -> None:
    figures = slice_of(tmp_path, "tail", "age", "memory", "verify")
    tail, age = figures["tail"], figures["age"]
    assert tail["checkpoints"] > 0, ("positive control: checkpoints fell into the run", tail)
    for name in ("batch_of_16", "half_load"):
        assert 0 < tail[name]["p50_ms"] <= tail[name]["p99_ms"] <= tail[name]["max_ms"], tail
    assert age["receipts"] >= 30_000
    assert age["ratio_full_to_empty"] > 0.2, age
    assert figures["verify"]["receipts_per_s"] > 10_000, figures["verify"]
    assert figures["memory"]["sidecar"]["rss_mb_at_end"] < 160, figures["memory"]
    assert figures["memory"]["store_postgres"]["calls"] == 9_000


def test_bytes_on_disk_are_those_of_the_readme(tmp_path: Path) -> None:
    figures = slice_of(tmp_path, "bytes")["bytes"]
    kept = json.loads((ROOT / "tests/results/store.json").read_text())["bytes"]
    assert figures["sqlite"]["total"] == pytest.approx(kept["sqlite"]["total"], rel=0.1)
    assert figures["postgres"]["total"] == pytest.approx(kept["postgres"]["total"], rel=0.2)
    for engine in ("sqlite", "postgres"):
        assert figures[engine]["total"] <= 2000, figures
        assert "receipts" in figures[engine]["by_name"]


def test_a_slope_is_found_and_a_full_cache_is_none() -> None:
    growing = [(n * 10_000, 80_000_000 + n * 200_000) for n in range(31)]
    assert memory.slope_mb_per_100k(growing) == pytest.approx(2.0)
    filled = [(n * 10_000, 80_000_000 + min(n, 8) * 2_000_000) for n in range(31)]
    assert memory.slope_mb_per_100k(filled) == pytest.approx(0.0)


def test_every_line_is_judged_from_its_own_side() -> None:
    figures = {
        "postgres": {"ratio_to_raw_insert": 0.5},
        "bytes": {"sqlite": {"total": 2100}, "postgres": {"total": 1300}},
    }
    said = {one["figure"]: one for one in store_full.lines(figures)}
    assert set(said) == {
        "postgres.ratio_to_raw_insert", "bytes.sqlite.total", "bytes.postgres.total",
    }  # fmt: skip
    one = said["postgres.ratio_to_raw_insert"]
    assert (one["holds"], one["reaches_goal"]) == (True, False)
    assert (said["bytes.sqlite.total"]["holds"], said["bytes.postgres.total"]["holds"]) == (
        False, True,
    )  # fmt: skip


async def test_slices_take_turns_and_a_ratio_is_the_middle_of_the_rounds() -> None:
    order: list[str] = []

    async def one(name: str) -> float:
        order.append(name)
        return float(len(order))

    seen = await store_calls.alternate({"a": lambda: one("a"), "b": lambda: one("b")}, 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert seen == {"a": [1, 4, 5], "b": [2, 3, 6]}
    assert store_calls.ratio(seen["a"], seen["b"]) == round(5 / 6, 3)


def test_small_processes_are_set_as_the_sidecar_sets_itself() -> None:
    from sidecar import app

    wanted = (app.SWITCH_INTERVAL_S, app.GC_THRESHOLD)
    assert wanted == (store_calls.SWITCH_INTERVAL_S, store_calls.GC_THRESHOLD)


async def test_a_server_that_may_lose_commits_is_not_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TEST_POSTGRES_DSN", raising=False)
    with (
        bench_cluster.postgres_server.server() as dsn,
        pytest.raises(RuntimeError, match="not durable"),
    ):
        await bench_cluster.settings(dsn)
