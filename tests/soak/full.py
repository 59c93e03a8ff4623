"""Steady load for a long time: memory, file handles, write-ahead log and queue stay where they are.

    bash tests/full.sh soak [MINUTES]        (default 60; the default test run takes a third of one)

One real sidecar under a bounded load of plain calls, refused calls, streams that are read to
their end, streams whose client leaves, and callers that leave in the middle of a body. Watched
from outside: resident memory, open files, threads, the WAL, the sidecar's own gauges. At the end
everything is back at rest, receipts and answers are the same set, and the chain verifies.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "e2e")]

from full_report import checked_out, tell
from running import Process
from soak_load import Answers, Load
from soak_upstream import CountingUpstream

import storage
from sidecar.clock import Clock

MIB = 1 << 20
WAL_BYTES_MAX = 64 * MIB
FILES_SPREAD_MAX = 60
REST_S = 15.0
WARM_UP_SHARE = 0.3
#: From this length on the slope is held to the goal; below it start-up and noise outweigh it.
SLOPE_MINUTES_MIN = 10.0
SLOPE_MIB_PER_10_MIN_MAX = 1.0
SHORT_GROWTH_MIB_MAX = 32.0

CATALOGUE = """\
catalogue: up
tools:
  do: POST /do
  stream: GET /stream
  never: POST /never
"""
POLICY = """\
policy: soak
rules:
  - {id: some, effect: allow, tools: [up/do, up/stream]}
  - {id: never, effect: deny, tools: up/never}
"""
#: Gauges that are 0 when nothing is under way.
AT_REST = (
    "aegis_calls_in_flight",
    'aegis_write_queue_depth{lane="committed"}',
    'aegis_write_queue_depth{lane="queued"}',
    "aegis_write_queue_reserved",
)
#: Counters of things that should not happen.
NEVER = (
    "aegis_write_dropped_outcomes_total",
    "aegis_intents_left_open_total",
    "aegis_write_failed_batches_total",
    'aegis_refusals_total{code="internal_error"}',
)


@dataclass
class Sample:
    at_s: float
    rss_bytes: int
    files: int
    threads: int
    wal_bytes: int
    depth: float


def sample(sidecar: Process, started: float) -> Sample:
    """What /proc, the folder and /metrics say now."""
    if sidecar.process is None or sidecar.process.poll() is not None:
        raise RuntimeError(f"the sidecar died:\n{sidecar.log()[-3000:]}")
    proc = Path(f"/proc/{sidecar.process.pid}")
    status = dict(
        line.split(":", 1) for line in (proc / "status").read_text().splitlines() if ":" in line
    )
    wal = sidecar.folder / "aegis.db-wal"
    metrics = sidecar.metrics()
    return Sample(
        at_s=time.monotonic() - started,
        rss_bytes=int(status["VmRSS"].split()[0]) * 1024,
        files=len(list((proc / "fd").iterdir())),
        threads=int(status["Threads"]),
        wal_bytes=wal.stat().st_size if wal.exists() else 0,
        depth=metrics[AT_REST[1]] + metrics[AT_REST[2]],
    )


def slope_mib_per_10_min(samples: list[Sample]) -> float:
    """Least squares over resident memory, the warm-up left out."""
    kept = samples[int(len(samples) * WARM_UP_SHARE) :]
    mean_at = sum(s.at_s for s in kept) / len(kept)
    mean_rss = sum(s.rss_bytes for s in kept) / len(kept)
    spread = sum((s.at_s - mean_at) ** 2 for s in kept)
    if not spread:
        return 0.0
    rise = sum((s.at_s - mean_at) * (s.rss_bytes - mean_rss) for s in kept) / spread
    return rise * 600 / MIB


def judge_samples(samples: list[Sample], minutes: float) -> list[str]:
    """What grew that should not have."""
    kept = samples[int(len(samples) * WARM_UP_SHARE) :]
    problems = []
    growth = (kept[-1].rss_bytes - kept[0].rss_bytes) / MIB
    slope = slope_mib_per_10_min(samples)
    if minutes >= SLOPE_MINUTES_MIN and slope > SLOPE_MIB_PER_10_MIN_MAX:
        problems.append(f"memory grows by {slope:.2f} MiB in 10 min")
    if minutes < SLOPE_MINUTES_MIN and growth > SHORT_GROWTH_MIB_MAX:
        problems.append(f"memory grew by {growth:.1f} MiB")
    wal = max(s.wal_bytes for s in samples)
    if wal > WAL_BYTES_MAX:
        problems.append(f"the WAL had {wal / MIB:.0f} MiB")
    third = max(1, len(kept) // 3)
    first, last = kept[:third], kept[-third:]
    if min(s.files for s in last) > max(s.files for s in first) + 5:
        problems.append(f"open files rise: {first[0].files} to {last[-1].files}")
    if max(s.files for s in kept) - min(s.files for s in kept) > FILES_SPREAD_MAX:
        problems.append("open files swing")
    if samples[-1].threads > samples[0].threads + 4:
        problems.append(f"threads rise: {samples[0].threads} to {samples[-1].threads}")
    return problems


async def come_to_rest(sidecar: Process, files_before: int) -> list[str]:
    """After the load: gauges at 0, connections closed; gives what is not."""
    problems: list[str] = []
    until = time.monotonic() + REST_S
    while time.monotonic() < until:
        metrics = await asyncio.to_thread(sidecar.metrics)
        files = sample(sidecar, 0).files
        problems = [f"{name} is {metrics[name]:g} at rest" for name in AT_REST if metrics[name]]
        if metrics["aegis_connections"]:
            problems.append(f"{metrics['aegis_connections']:g} connections at rest")
        if files > files_before + 40:  # the upstream pool may stay
            problems.append(f"{files} open files at rest, {files_before} before")
        problems += [f"{name} is {metrics[name]:g}" for name in NEVER if metrics.get(name)]
        if not problems:
            return []
        await asyncio.sleep(0.5)
    return problems


async def check_receipts(
    sidecar: Process, answers: Answers, upstream: CountingUpstream
) -> tuple[list[str], Counter[str]]:
    """Receipts and answers are the same set; gives problems and the outcomes counted."""
    kinds: dict[str, set[str]] = {"intent": set(), "refusal": set(), "outcome": set()}
    outcomes: Counter[str] = Counter()
    problems, seq = [], 0
    reader = await storage.open_reader(f"sqlite:///{sidecar.folder}/aegis.db")
    try:
        while page := await reader.receipts("default", seq, 1000):
            for row in page:
                seq += 1
                if row.seq != seq:
                    problems.append(f"gap: {row.seq} instead of {seq}")
                    seq = row.seq
                if row.kind in kinds:
                    kinds[row.kind].add(row.call_id or "")
                if row.kind == "outcome":
                    outcomes[row.outcome or ""] += 1
    finally:
        await reader.close()
    lost = answers.forwarded - kinds["intent"]
    unsaid = answers.refused - kinds["refusal"]
    if lost or unsaid:
        problems.append(f"{len(lost)} answers and {len(unsaid)} refusals without a receipt")
    if kinds["intent"] != kinds["outcome"]:
        problems.append(f"{len(kinds['intent'] ^ kinds['outcome'])} intents without an outcome")
    arrived = upstream.do + upstream.streams
    if len(kinds["intent"]) < arrived:
        problems.append(f"{arrived} calls at the upstream, {len(kinds['intent'])} intents")
    if not set(outcomes) <= {"completed", "aborted_by_client", "not_forwarded"}:
        problems.append(f"outcomes {dict(outcomes)}")
    if outcomes["completed"] > len(answers.forwarded):
        problems.append("more completed calls than answers")
    return problems, outcomes


def verify(sidecar: Process) -> list[str]:
    """Exports to a file and verifies offline."""
    path = sidecar.folder / "receipts.jsonl"
    command = sidecar.command("receipts", "export", "--config", str(sidecar.config))
    with path.open("wb") as output:
        exported = subprocess.run(command, cwd=ROOT, stdout=output)
    command = sidecar.command("receipts", "verify", str(path))
    verified = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if exported.returncode or verified.returncode:
        return [f"receipts do not verify: {verified.stdout[-300:]}{verified.stderr[-300:]}"]
    return []


async def run(minutes: float, rate: float, seed: int) -> dict[str, Any]:
    """The whole run; gives its figures."""
    upstream = CountingUpstream()
    await upstream.start()
    with tempfile.TemporaryDirectory(prefix="aegis-soak-") as name:
        sidecar = Process(Path(name), is_warm=False)
        url = f"  up: {{url: 'http://127.0.0.1:{upstream.port}'}}"
        sidecar.write(url, {"tools.yaml": CATALOGUE, "policy.yaml": POLICY})
        try:
            await asyncio.to_thread(sidecar.start)
            started = time.monotonic()
            before = sample(sidecar, started)
            load = Load(sidecar, rate, random.Random(seed))
            working = asyncio.ensure_future(load.run())
            samples = []
            pause_s = min(10.0, max(0.5, minutes * 60 / 360))
            while time.monotonic() - started < minutes * 60 and not working.done():
                await asyncio.sleep(pause_s)
                samples.append(await asyncio.to_thread(sample, sidecar, started))
            load.stop.set()
            await working
            violations = await come_to_rest(sidecar, before.files)
            code = await asyncio.to_thread(sidecar.stop)
            if code != 0:
                violations.append(f"the sidecar ended with {code}")
            violations += judge_samples(samples, minutes)
            violations += load.answers.unexpected[:20]
            problems, outcomes = await check_receipts(sidecar, load.answers, upstream)
            violations += problems + await asyncio.to_thread(verify, sidecar)
            if "Traceback" in sidecar.log():
                violations.append(f"in the log: {sidecar.log()[-1500:]}")
        finally:
            sidecar.kill()
            await upstream.stop()
    return {
        "answered": len(load.answers.forwarded),
        "refused": len(load.answers.refused),
        "left": load.answers.left,
        "outcomes": dict(outcomes),
        "rss_mib_first": round(before.rss_bytes / MIB, 1),
        "rss_mib_last": round(samples[-1].rss_bytes / MIB, 1),
        "rss_slope_mib_per_10_min": round(slope_mib_per_10_min(samples), 2),
        "open_files_max": max(s.files for s in samples),
        "threads_max": max(s.threads for s in samples),
        "wal_mib_max": round(max(s.wal_bytes for s in samples) / MIB, 2),
        "queue_depth_max": max(s.depth for s in samples),
        "violations": len(violations),
        "first_violations": violations[:10],
    }


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=float, default=60, help="minutes")
    parser.add_argument("--rate", type=float, default=100, help="calls a second")
    parser.add_argument("--seed", type=int, default=Clock().now_us() % 1_000_000)
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    figures: dict[str, Any] = {
        "commit": checked_out(),
        "minutes": options.size,
        "rate": options.rate,
        "seed": options.seed,
        **asyncio.run(run(options.size, options.rate, options.seed)),
    }
    return tell(figures, options.results)


if __name__ == "__main__":
    sys.exit(main())
