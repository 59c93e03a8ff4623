"""What noticing costs the decisions of a burst, and that it passes over none of them.

A sidecar with the detections that ship, on a core of its own, is loaded with bursts of refused
calls as fast as it answers. While it is timed, watching stands still in every other window of a
quarter of a second (watch_toggled), and windows are held against their neighbours: machines, cores
and processes differ by more than what is to be measured. Between bursts the watcher catches up.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from kept_figures import keep_figures
from running import ROOT, Process
from watch_kill import NOWHERE
from watch_oracle import CATALOGUE, POLICY, expected_of, is_caught_up, noticed_hits
from watch_toggled import WINDOW_S

import storage
from sidecar.policy.load import Source
from sidecar.soc.loading import detections_of, load_all

ROUNDS = 10
#: Windows at the ends of a burst that are not compared: connections come and go.
EDGE = 2
CONNECTIONS = 16
WARM_S = 1.0
CAUGHT_UP_S = 180.0
HERE = Path(__file__).resolve().parent
SHIPPED = sorted((ROOT / "policies" / "soc").glob("*.yaml"))


@dataclass
class Burst:
    """Calls of windows with watching and without, and of each of the first what it had less than
    the two beside it, as a share."""

    watched: list[int] = field(default_factory=list)
    unwatched: list[int] = field(default_factory=list)
    less: list[float] = field(default_factory=list)
    calls: int = 0
    events: int = 0
    caught_up_s_max: float = 0.0
    share: float = 0.0
    violations: list[str] = field(default_factory=list)

    @property
    def slower(self) -> float:
        return median(self.less) if self.less else 0.0

    def figures(self) -> dict[str, Any]:
        timed = len(self.less) > 1
        return {
            "windows": len(self.less),
            "watched_per_s": round(median(self.watched) / WINDOW_S) if timed else 0,
            "unwatched_per_s": round(median(self.unwatched) / WINDOW_S) if timed else 0,
            "slower": round(self.slower, 4),
            "slower_mean": round(mean(self.less), 4) if timed else 0.0,
            "standard_error": round(stdev(self.less) / len(self.less) ** 0.5, 4) if timed else 0.0,
            "calls": self.calls,
            "events": self.events,
            "caught_up_s_max": round(self.caught_up_s_max, 1),
            "loop_share_in_bursts": round(self.share, 4),
        }

    def compare(self, windows: dict[int, int]) -> None:
        """Takes the calls of windows, by number: it watched in those that are even."""
        for number, calls in windows.items():
            (self.unwatched if number % 2 else self.watched).append(calls)
            beside = windows.get(number - 1, 0) + windows.get(number + 1, 0)
            if not number % 2 and number - 1 in windows and number + 1 in windows:
                self.less.append(1.0 - 2 * calls / beside)


class Toggled(Process):
    """One whose watching stands still in every other window."""

    counts: Path

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(HERE / "watch_toggled.py"), str(self.counts), *arguments]

    def windows(self) -> dict[int, int]:
        """Calls of all windows there were so far, by number."""
        lines = self.counts.read_text().splitlines() if self.counts.exists() else []
        return {int(number): int(calls) for number, calls in map(str.split, lines)}


def made(folder: Path, *, is_timed: bool) -> Process:
    folder.mkdir()
    process = Toggled(folder, is_warm=False) if is_timed else Process(folder)
    if isinstance(process, Toggled):
        process.counts = folder / "counts"
        keep_figures(folder)
    files = {"tools.yaml": CATALOGUE, "policy.yaml": POLICY}
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
    """Bursts of so many events. Untimed, nothing is compared."""
    found = Burst()
    process = made(folder / "watched", is_timed=is_timed)
    try:
        await asyncio.to_thread(process.start)
        core = str(min(os.sched_getaffinity(0)))
        pid = str(process.process.pid)
        subprocess.run(["taskset", "-acp", core, pid], check=True, capture_output=True)
        warm = await asyncio.to_thread(fire, process, WARM_S)
        await _catch_up(process, found)
        seconds = events / (warm["requests"] / warm["duration_us"] * 1e6)
        for _ in range(rounds):
            await _round(process, seconds, found)
        await _hold(process, found)
    finally:
        process.kill()
    return found


async def _round(process: Process, seconds: float, found: Burst) -> None:
    before = process.metrics()
    begun = len(process.windows()) if isinstance(process, Toggled) else 0
    row = await asyncio.to_thread(fire, process, seconds)
    if row["socket_errors"]:
        found.violations.append(f"{row['socket_errors']} calls were not answered")
    found.calls += row["requests"]
    name = "aegis_detection_busy_seconds_total"
    spent_s = process.metrics()[name] - before[name]
    found.share = max(found.share, spent_s / (row["duration_us"] / 1e6))
    if isinstance(process, Toggled):
        await asyncio.sleep(2 * WINDOW_S)
        windows = list(process.windows().items())[begun:]
        busy = [at for at, (_, calls) in enumerate(windows) if calls]
        found.compare(dict(windows[busy[0] + EDGE : busy[-1] + 1 - EDGE]))
    await _catch_up(process, found)


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
