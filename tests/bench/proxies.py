"""Interleaved rounds of the same load on every proxy; medians, ratios, receipts verified."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import half_load
import targets
import targets_peers

CONCURRENCIES = (1, 32, 256)
#: Below this ratio of the bare pass-through to nginx the yardstick itself was disturbed.
BARE_TO_NGINX_MIN = 0.09


def fdatasync_p50_ms(folder: Path, times: int = 300) -> float:
    """The median of appending 4 KiB and syncing them, on the disk the store uses."""
    took = []
    path = folder / "fdatasync"
    handle = os.open(path, os.O_CREAT | os.O_WRONLY)
    block = b"x" * 4096
    for _ in range(times):
        os.write(handle, block)
        started = time.perf_counter()
        os.fdatasync(handle)
        took.append(time.perf_counter() - started)
    os.close(handle)
    path.unlink()
    return statistics.median(took) * 1000


def load(
    target: targets.Target,
    core: str,
    concurrency: int,
    seconds: float,
    script: Path = targets.HERE / "post.lua",
) -> dict[str, Any]:
    """One wrk run; requests/s, p50 and p99 in ms, CPU µs per request, errors."""
    before = target.cpu_seconds()
    printed = subprocess.run(
        ["taskset", "-c", core, "wrk", "-t1", f"-c{concurrency}", f"-d{round(seconds)}s",
         "--timeout", "10s", "-s", str(script), target.url + target.path],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    line = next(line for line in printed.splitlines() if line.startswith("RESULT "))
    result = json.loads(line.removeprefix("RESULT "))
    requests = max(1, result["requests"])
    return {
        "requests": result["requests"],
        "requests_per_s": result["requests"] / (result["duration_us"] / 1e6),
        "p50_ms": result["p50_us"] / 1000,
        "p99_ms": result["p99_us"] / 1000,
        "cpu_us": (target.cpu_seconds() - before) * 1e6 / requests,
        "errors": result["status_errors"] + result["socket_errors"],
    }


def verify_receipts(target: targets.Target, python: str) -> dict[str, Any]:
    """Exports the running sidecar's receipts and verifies them offline."""
    path = target.folder / "receipts.jsonl"
    command = [python, "-m", "sidecar.cli.main", "receipts"]
    with path.open("wb") as output:
        subprocess.run(
            [*command, "export", "--config", str(target.folder / "sidecar.yaml")],
            stdout=output, check=True, cwd=targets.ROOT,
        )  # fmt: skip
    verdict = subprocess.run([*command, "verify", str(path)], cwd=targets.ROOT, capture_output=True)
    counts: dict[str, int] = defaultdict(int)
    with path.open("rb") as lines:
        for line in lines:
            counts[json.loads(line)["kind"]] += 1
    return {"verified": verdict.returncode == 0, **counts}


def run(rounds: int, seconds: float, python: str, *, with_peers: bool = True) -> dict[str, Any]:
    """Everything: start, interleave, verify, stop; figures by target and concurrency. Without
    peers nothing needs to be installed."""
    load_core, proxy_core = targets.cores()
    samples: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="aegis-bench-") as name:
        folder = Path(name)
        sync_ms = fdatasync_p50_ms(folder)
        upstream = targets.start_upstream(folder, load_core)
        running = [upstream]
        try:
            starts = [targets.start_nginx, targets.start_bare, targets.start_sidecar]
            if with_peers:
                starts += [targets_peers.start_envoy, targets_peers.start_mitmproxy]
            proxies = []
            for start in starts:
                proxies.append(start(folder, proxy_core, upstream.url))
                running.append(proxies[-1])
            bare, sidecar = proxies[1:3]
            for target in proxies:
                load(target, load_core, 32, 1)
            for _ in range(rounds):
                for concurrency in CONCURRENCIES:
                    for target in proxies:
                        sample = load(target, load_core, concurrency, seconds)
                        samples[target.name, concurrency].append(sample)
            rates = [row["requests_per_s"] for row in samples["sidecar", 32]]
            at_half = half_load.measure(
                bare, sidecar, load_core, statistics.median(rates) / 2, (rounds, seconds)
            )
            sync_ms = (sync_ms + fdatasync_p50_ms(folder)) / 2
            receipts = verify_receipts(sidecar, python)
            rss_bytes = sidecar.rss_bytes()
        finally:
            for target in running:
                target.stop()
    figures = summary(samples, sync_ms, receipts, rss_bytes, (rounds, seconds))
    return {**figures, "half_load": at_half}


def summary(
    samples: dict[tuple[str, int], list[dict[str, Any]]],
    sync_ms: float,
    receipts: dict[str, Any],
    rss_bytes: int,
    effort: tuple[int, float],
) -> dict[str, Any]:
    """Medians, and the ratios everything is judged by."""
    table: dict[str, dict[str, Any]] = defaultdict(dict)
    for (name, concurrency), rows in samples.items():
        table[name][f"c{concurrency}"] = {
            key: round(statistics.median(row[key] for row in rows), 3) for key in rows[0]
        }
    answered = sum(
        row["requests"] for (name, _), rows in samples.items() if name == "sidecar" for row in rows
    )
    figures: dict[str, Any] = {
        "rounds": effort[0],
        "seconds": effort[1],
        "fdatasync_p50_ms": round(sync_ms, 3),
        "sidecar_rss_mb": round(rss_bytes / 1e6, 1),
        "receipts": receipts,
        "answered": answered,
    }
    for concurrency in CONCURRENCIES:
        key = f"c{concurrency}"
        rates = {name: table[name][key]["requests_per_s"] for name in table}
        figures[f"ratio_to_bare_aiohttp_{key}"] = round(rates["sidecar"] / rates["bare"], 3)
        figures[f"ratio_to_nginx_{key}"] = round(rates["sidecar"] / rates["nginx"], 3)
        figures[f"bare_to_nginx_{key}"] = round(rates["bare"] / rates["nginx"], 3)
    own = table["sidecar"]["c32"]
    if "envoy" in table:
        peer = table["mitmproxy"]["c32"]
        ratio = own["requests_per_s"] / peer["requests_per_s"]
        figures["ratio_to_mitmproxy_c32"] = round(ratio, 3)
        figures["cpu_to_envoy_c32"] = round(own["cpu_us"] / table["envoy"]["c32"]["cpu_us"], 3)
    added = table["sidecar"]["c1"]["p50_ms"] - table["bare"]["c1"]["p50_ms"]
    figures["added_p50_beyond_fdatasync_ms_c1"] = round(added - sync_ms, 3)
    figures["void"] = figures["bare_to_nginx_c32"] < BARE_TO_NGINX_MIN
    figures["targets"] = dict(table)
    return figures
