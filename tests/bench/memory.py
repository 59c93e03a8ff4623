"""Resident memory by number of calls: the store API alone on both engines, and the whole sidecar.

The slope is the least-squares line after the first third: caches fill, buffers grow to their size.
Each is a process of its own, so that the measuring does not count. Of the sidecar it is also said
what the memory is made of: when it is ready, and what the calls added.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bench_cluster
import proxies
import targets
import uvloop
from bench_cluster import postgres_server

CONNECTIONS = 32
STEPS = 30
WARM_UP_SHARE = 1 / 3
LOAD_S = 2
Sample = tuple[int, int]


def slope_mb_per_100k(samples: Sequence[Sample]) -> float:
    """Least squares over (calls, bytes), the warm-up left out; 0 of fewer than two."""
    kept = [one for one in samples if one[0] >= WARM_UP_SHARE * samples[-1][0]]
    mean_calls = sum(calls for calls, _ in kept) / len(kept)
    mean_bytes = sum(size for _, size in kept) / len(kept)
    spread = sum((calls - mean_calls) ** 2 for calls, _ in kept)
    if not spread:
        return 0.0
    rise = sum((calls - mean_calls) * (size - mean_bytes) for calls, size in kept) / spread
    return rise * 100_000 / 1e6


def _figures(samples: Sequence[Sample]) -> dict[str, Any]:
    return {
        "calls": samples[-1][0],
        "rss_mb_at_start": round(samples[0][1] / 1e6, 1),
        "rss_mb_at_end": round(samples[-1][1] / 1e6, 1),
        "rss_mb_largest": round(max(size for _, size in samples) / 1e6, 1),
        "slope_mb_per_100k_calls": round(slope_mb_per_100k(samples), 3),
    }


def of_store(url: str, calls: int) -> dict[str, Any]:
    """The store API alone."""
    script = Path(__file__).with_name("memory_worker.py")
    done = subprocess.run(
        [sys.executable, str(script), url, str(calls), str(max(1, calls // STEPS))],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return _figures([(n, size) for n, size in map(json.loads, done.stdout.splitlines())])


def of_sidecar(calls: int) -> dict[str, Any]:
    """A sidecar between wrk and nginx, with 100 rules, until it has answered so many calls."""
    load_core, proxy_core = targets.cores()
    with tempfile.TemporaryDirectory(prefix="aegis-memory-") as name:
        folder = Path(name)
        upstream = targets.start_upstream(folder, load_core)
        sidecar = None
        try:
            sidecar = targets.start_sidecar(folder, proxy_core, upstream.url)
            samples = [(0, sidecar.rss_bytes())]
            at_start = _kinds(sidecar.process.pid)
            while samples[-1][0] < calls:
                seen = proxies.load(sidecar, load_core, CONNECTIONS, LOAD_S)
                if seen["errors"]:
                    raise RuntimeError(f"{seen['errors']} of {seen['requests']} calls failed")
                samples.append((samples[-1][0] + seen["requests"], sidecar.rss_bytes()))
            at_end = _kinds(sidecar.process.pid)
        finally:
            if sidecar is not None:
                sidecar.stop()
            upstream.stop()
    return {**_figures(samples), "kinds_at_start": at_start, "kinds_at_end": at_end}


def _kinds(pid: int) -> dict[str, float]:
    """Resident memory by kind: what the process has written itself, and files it has mapped."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    return {
        "own_mb": round(int(found["RssAnon"]) * 1024 / 1e6, 1),
        "libraries_mb": round(int(found["RssFile"]) * 1024 / 1e6, 1),
    }


def run(store_calls: int, proxied_calls: int) -> dict[str, Any]:
    """Memory at the start and the end, and its slope."""
    with tempfile.TemporaryDirectory(prefix="aegis-memory-") as folder:
        figures = {"store_sqlite": of_store(f"sqlite:///{folder}/aegis.db", store_calls)}
    with bench_cluster.durable_cluster() as dsn:
        url = uvloop.run(postgres_server.new_database(dsn))
        figures["store_postgres"] = of_store(url, store_calls)
    figures["sidecar"] = of_sidecar(proxied_calls)
    return figures
