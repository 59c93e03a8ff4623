"""A13, C17: ten seconds of the soak run, with wide bounds, and the test of what judges them."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

HARNESS = Path(__file__).with_name("full.py")
MIB = 1 << 20


@pytest.fixture(scope="module")
def soak() -> ModuleType:
    """The harness as a module."""
    found = importlib.util.spec_from_file_location("soak_full", HARNESS)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules["soak_full"] = module
    path = list(sys.path)
    try:
        found.loader.exec_module(module)
    finally:
        sys.path[:] = path
    return module


def test_c17_ten_seconds_of_steady_load_leave_nothing_behind() -> None:
    done = subprocess.run(
        [sys.executable, str(HARNESS), "--size", "0.17", "--rate", "100"],
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert (done.returncode, report["violations"]) == (0, 0), done.stdout
    # positive controls: every kind of call was there
    assert report["answered"] > 250
    assert report["refused"] > 40
    assert report["left"] > 20
    assert report["outcomes"]["aborted_by_client"] > 5


def test_what_grows_is_found(soak: ModuleType) -> None:
    def samples(rss: float = 0, files: int = 0, wal: int = 0, threads: int = 0) -> list[object]:
        return [
            soak.Sample(
                at_s=10.0 * n,
                rss_bytes=int((80 + rss * n) * MIB),
                files=40 + files * n,
                threads=9 + threads * n,
                wal_bytes=wal * n * MIB,
                depth=0,
            )
            for n in range(100)
        ]

    assert soak.judge_samples(samples(), 16) == []
    assert soak.slope_mib_per_10_min(samples(rss=0.1)) == pytest.approx(6)
    assert "memory grows" in soak.judge_samples(samples(rss=0.1), 16)[0]
    assert "memory grew" in soak.judge_samples(samples(rss=0.5), 5)[0]
    assert "open files rise" in soak.judge_samples(samples(files=1), 5)[0]
    assert "WAL" in soak.judge_samples(samples(wal=1), 5)[0]
    assert "threads" in soak.judge_samples(samples(threads=1), 5)[0]
