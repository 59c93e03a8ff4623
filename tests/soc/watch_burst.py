"""What noticing costs the decisions of a burst, and that it passes over none of them.

Two sidecars serve side by side, one with the detections that ship and one with none, and are loaded
in turn with a burst of refused calls as fast as they answer. Between bursts the watcher catches up.
"""

from __future__ import annotations

import asyncio
import json
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

ROUNDS = 5
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


def fire(process: Process, seconds: float) -> dict[str, int]:
    done = subprocess.run(
        ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "--latency",
         "-s", str(HERE / "refused.lua"), f"{process.url}/up/never"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (line,) = [one for one in done.stdout.splitlines() if one.startswith("RESULT ")]
    row: dict[str, int] = json.loads(line.removeprefix("RESULT "))
    return row


async def run_burst(folder: Path, events: int, rounds: int, *, is_timed: bool) -> Burst:
    """Bursts of so many events. Untimed, there is nothing to compare with."""
    found = Burst()
    served = [made(folder / "watched", with_detections=True)]
    if is_timed:
        served.append(made(folder / "unwatched", with_detections=False))
    try:
        for process in served:
            await asyncio.to_thread(process.start)
        warm = await asyncio.to_thread(fire, served[-1], WARM_S)
        seconds = events / (warm["requests"] / warm["duration_us"] * 1e6)
        for number in range(rounds):
            for process in served[:: -1 if number % 2 else 1]:
                await _round(process, seconds, found, is_watched=process is served[0])
        await _hold(served[0], found)
    finally:
        for process in served:
            process.kill()
    return found


async def _round(process: Process, seconds: float, found: Burst, *, is_watched: bool) -> None:
    before = process.metrics() if is_watched else {}
    row = await asyncio.to_thread(fire, process, seconds)
    rate = row["requests"] / row["duration_us"] * 1e6
    if row["socket_errors"]:
        found.violations.append(f"{row['socket_errors']} calls were not answered")
    if not is_watched:
        found.unwatched.append(rate)
        return
    found.watched.append(rate)
    found.calls += row["requests"]
    name = "aegis_detection_busy_seconds_total"
    spent_s = process.metrics()[name] - before[name]
    found.share = max(found.share, spent_s / (row["duration_us"] / 1e6))
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
