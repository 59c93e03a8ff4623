"""What noticing costs the decisions of a burst, and that it passes over none of them.

Two sidecars, one with the detections that ship and one with none, are loaded with a burst of
refused calls as fast as they answer: at the same time, each with its load on a core of its own, for
machines change their speed by more than what is to be measured; and they change cores after each.
Between bursts the watcher catches up.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from running import ROOT, Process
from watch_kill import NOWHERE
from watch_oracle import CATALOGUE, POLICY, expected_of, is_caught_up, noticed_hits

import storage
from sidecar.policy.load import Source
from sidecar.soc.loading import detections_of, load_all

ROUNDS = 10
CONNECTIONS = 16
WARM_S = 1.0
CAUGHT_UP_S = 180.0
HERE = Path(__file__).resolve().parent
SHIPPED = sorted((ROOT / "policies" / "soc").glob("*.yaml"))


@dataclass
class Burst:
    """Calls a second with and without detections, by round; `slower` is the median of the rounds'
    own ratios."""

    watched: list[float] = field(default_factory=list)
    unwatched: list[float] = field(default_factory=list)
    calls: int = 0
    events: int = 0
    caught_up_s_max: float = 0.0
    share: float = 0.0
    violations: list[str] = field(default_factory=list)

    @property
    def slower(self) -> float:
        pairs = zip(self.watched, self.unwatched, strict=True)
        return 1.0 - median(a / b for a, b in pairs) if self.unwatched else 0.0

    def figures(self) -> dict[str, Any]:
        return {
            "watched_per_s": [round(one) for one in self.watched],
            "unwatched_per_s": [round(one) for one in self.unwatched],
            "slower": round(self.slower, 4),
            "calls": self.calls,
            "events": self.events,
            "caught_up_s_max": round(self.caught_up_s_max, 1),
            "loop_share_in_bursts": round(self.share, 4),
        }


def made(folder: Path, *, with_detections: bool) -> Process:
    folder.mkdir()
    process = Process(folder)
    files = {"tools.yaml": CATALOGUE, "policy.yaml": POLICY}
    if with_detections:
        files |= {path.name: path.read_text() for path in SHIPPED if "_test" not in path.stem}
    process.write(f"  up: {{url: '{NOWHERE}'}}\n", files)
    return process


def move_to(process: Process, core: int) -> None:
    """All threads of a sidecar, and with `fire` its load, on one core."""
    pid = str(process.process.pid)
    subprocess.run(["taskset", "-acp", str(core), pid], check=True, capture_output=True)


def fire(process: Process, seconds: float, core: int) -> dict[str, int]:
    done = subprocess.run(
        ["taskset", "-c", str(core),
         "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "--latency",
         "-s", str(HERE / "refused.lua"), f"{process.url}/up/never"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (line,) = [one for one in done.stdout.splitlines() if one.startswith("RESULT ")]
    row: dict[str, int] = json.loads(line.removeprefix("RESULT "))
    return row


async def run_burst(folder: Path, events: int, rounds: int, *, is_timed: bool) -> Burst:
    """Bursts of so many events. Untimed, there is nothing to compare with. Raises RuntimeError on a
    machine with one core only."""
    found = Burst()
    cores = sorted(os.sched_getaffinity(0))
    served = [made(folder / "watched", with_detections=True)]
    if is_timed:
        served.append(made(folder / "unwatched", with_detections=False))
    if len(cores) < len(served):
        raise RuntimeError("two sidecars are compared on two cores, and there is one")
    try:
        for process in served:
            await asyncio.to_thread(process.start)
        warm = await asyncio.gather(
            *(asyncio.to_thread(fire, one, WARM_S, cores[at]) for at, one in enumerate(served))
        )
        seconds = events / (warm[0]["requests"] / warm[0]["duration_us"] * 1e6)
        for number in range(rounds):
            await _round(served, cores if number % 2 else cores[1::-1], seconds, found)
        await _hold(served[0], found)
    finally:
        for process in served:
            process.kill()
    return found


async def _round(served: list[Process], cores: list[int], seconds: float, found: Burst) -> None:
    watched = served[0]
    before = watched.metrics()
    for process, core in zip(served, cores, strict=False):
        move_to(process, core)
    rows = await asyncio.gather(
        *(
            asyncio.to_thread(fire, process, seconds, core)
            for process, core in zip(served, cores, strict=False)
        )
    )
    rates = [row["requests"] / row["duration_us"] * 1e6 for row in rows]
    errors = sum(row["socket_errors"] for row in rows)
    if errors:
        found.violations.append(f"{errors} calls were not answered")
    found.watched.append(rates[0])
    found.unwatched += rates[1:]
    found.calls += rows[0]["requests"]
    name = "aegis_detection_busy_seconds_total"
    spent_s = watched.metrics()[name] - before[name]
    found.share = max(found.share, spent_s / (rows[0]["duration_us"] / 1e6))
    await _catch_up(watched, found)


async def _catch_up(process: Process, found: Burst) -> None:
    began = time.monotonic()
    reader = await storage.open_reader(f"sqlite:///{process.folder}/aegis.db")
    try:
        while not await is_caught_up(reader):
            if time.monotonic() - began > CAUGHT_UP_S:
                found.violations.append("it does not catch up with a burst")
                return
            await asyncio.sleep(0.2)
    finally:
        await reader.close()
    found.caught_up_s_max = max(found.caught_up_s_max, time.monotonic() - began)


async def _hold(process: Process, found: Burst) -> None:
    """What was noticed against the record."""
    sources = [Source(path.name, path.read_bytes()) for path in process.folder.glob("policies/*")]
    loaded = load_all(sources, upstreams={"up": "rest"}, default="deny", read_file=lambda *_: b"")
    reader = await storage.open_reader(f"sqlite:///{process.folder}/aegis.db")
    try:
        expected, events = await expected_of(reader, detections_of(loaded))
        noticed = await noticed_hits(reader)
    finally:
        await reader.close()
    found.events = events
    if noticed != expected:
        found.violations.append(f"alerts count {noticed}, the record holds {expected}")
    seen = int(process.metrics()["aegis_detection_events_total"])
    if seen != events or not noticed:
        found.violations.append(f"{seen} events were looked at, the record holds {events}")
