"""Kills what watches, at random moments between a decision and its detection, again and again.

Afterwards the hits that alerts count must be those that the record holds (watch_oracle): none lost,
none doubled. On a file one process is killed and started again; on PostgreSQL two serve, and the
one that watches is killed, so that the other takes over.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from running import Process
from watch_oracle import TENANT, differences, is_caught_up, write_policies

import storage
from sidecar.soc.watch_lease import WATCHER

HERE = Path(__file__).resolve().parent
CLIENTS = 6
#: An upstream that nobody answers for: a call that goes ahead ends as upstream_error.
NOWHERE = "http://127.0.0.1:9"
CALLING_S = (0.05, 0.5)
#: Until a kill, once calls have ended: within the watcher's look, page and commit.
LATER_S = (0.0, 0.35)
CAUGHT_UP_S = 60.0
#: Share of ends in order (SIGTERM), which must not lose what was begun either.
STOPS = 0.2


@dataclass
class Report:
    """Sums over all kills; `violations` is empty in a good run."""

    kills: int = 0
    stops: int = 0
    calls: int = 0
    hits: int = 0
    takeovers: int = 0
    takeover_s_max: float = 0.0
    violations: list[str] = field(default_factory=list)


class Planted(Process):
    """A sidecar with a fault built in."""

    fault = ""

    def command(self, *arguments: str) -> list[str]:
        if not self.fault:
            return super().command(*arguments)
        return [sys.executable, str(HERE / "watch_planted.py"), self.fault, *arguments]


def made(folder: Path, url: str, fault: str) -> Planted:
    """A sidecar, not yet started."""
    folder.mkdir(parents=True)
    process = Planted(folder, environment={"AEGIS_DB": url}, store="{env: AEGIS_DB}")
    process.fault = fault
    process.write(f"  up: {{url: '{NOWHERE}'}}\n", {}, "limits: {drain: 1s}")
    write_policies(folder / "policies")
    return process


async def call_for(processes: list[Planted], seconds: float, chance: random.Random) -> int:
    """Some agents call for so long; gives how many calls were answered."""
    until, answered = time.monotonic() + seconds, 0

    async def client(session: aiohttp.ClientSession, number: int) -> None:
        nonlocal answered
        while time.monotonic() < until:
            process = processes[number % len(processes)]
            tool = "do" if chance.random() < 0.2 else "never"
            body = {"kind": f"k{chance.randrange(400)}"}
            with suppress(aiohttp.ClientError, OSError):
                async with session.post(f"{process.url}/up/{tool}", json=body) as reply:
                    await reply.read()
                    answered += reply.status in (403, 502)
            await asyncio.sleep(chance.uniform(0, 0.02))

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(client(session, number) for number in range(CLIENTS)))
    return answered


async def run_on_a_file(
    folder: Path, kills: int, seed: int, fault: str = "", report: Report | None = None
) -> Report:
    """One process, ended so often, mostly killed."""
    report, chance = report or Report(), random.Random(seed)
    url = f"sqlite:///{folder}/kill/aegis.db"
    process = made(folder / "kill", url, fault)
    try:
        await asyncio.to_thread(process.start)
        for _ in range(kills):
            report.calls += await call_for([process], chance.uniform(*CALLING_S), chance)
            await asyncio.sleep(chance.uniform(*LATER_S))
            if chance.random() < STOPS:
                await asyncio.to_thread(process.stop)
                report.stops += 1
            else:
                process.kill()
                report.kills += 1
            await asyncio.to_thread(process.start)
        await _conclude(url, report)
        if process.stop() != 0:
            report.violations.append("it did not stop in order")
    finally:
        process.kill()
    return report


async def run_on_postgres(
    folder: Path, url: str, kills: int, seed: int, report: Report | None = None
) -> Report:
    """Two processes; the one that watches is killed so often, and started again."""
    report, chance = report or Report(), random.Random(seed)
    pair = [made(folder / f"node{number}", url, "") for number in range(2)]
    reader = None
    try:
        await asyncio.gather(*(asyncio.to_thread(one.start) for one in pair))
        reader = await storage.open_reader(url)
        for _ in range(kills):
            report.calls += await call_for(pair, chance.uniform(*CALLING_S), chance)
            await asyncio.sleep(chance.uniform(*LATER_S))
            before = await reader.watch_mark(TENANT, WATCHER)
            assert before is not None
            (dead,) = [one for one in pair if before.node_id.endswith(f":{one.data_port}")]
            dead.kill()
            report.kills += 1
            killed_at = time.monotonic()
            left = [one for one in pair if one is not dead]
            while True:
                report.calls += await call_for(left, 0.1, chance)
                now = await reader.watch_mark(TENANT, WATCHER)
                if now is not None and now.node_id != before.node_id:
                    break
                if time.monotonic() - killed_at > CAUGHT_UP_S:
                    report.violations.append("nobody took over")
                    break
                await asyncio.sleep(0.4)
            report.takeovers += 1
            report.takeover_s_max = max(report.takeover_s_max, time.monotonic() - killed_at)
            await asyncio.to_thread(dead.start)
        await _conclude(url, report)
    finally:
        if reader is not None:
            await reader.close()
        for one in pair:
            one.kill()
    return report


async def _conclude(url: str, report: Report) -> None:
    """Waits until all is looked at, then holds the alerts against the record."""
    reader = await storage.open_reader(url)
    until = time.monotonic() + CAUGHT_UP_S
    try:
        while not await is_caught_up(reader):
            if time.monotonic() > until:
                report.violations.append("it does not catch up")
                break
            await asyncio.sleep(0.2)
        report.hits += sum(row.hits for row in await reader.alerts_before(TENANT, "z", 10_000))
    finally:
        await reader.close()
    report.violations += await differences(url)
