"""kill -9 under load, again and again: nothing acknowledged may be missing afterwards.

    bash tests/full.sh faults [CYCLES]        (default 500; the default test run takes 50)

Each cycle starts the real sidecar as a process, keeps 64 calls in flight, kills it with SIGKILL
at a random moment, starts it again and holds what clients and the upstream saw against the
receipts: I1 every answered call is recorded, I2 every call the upstream saw has a committed
intent, I3 chains verify without a gap. `--planted NAME` runs a sidecar with a fault built in;
then the run must find it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(ROOT), str(ROOT / "tests")]

import warm
from free_ports import free_port
from full_report import checked_out, tell
from kept_figures import keep_figures
from upstream import MarkingUpstream

import storage
from sidecar.clock import Clock

IN_FLIGHT = 64
#: So many stores are killed side by side: most of a cycle is waiting for a process to start.
LANES = 2
CYCLES_PER_STORE = 10
READY_S_MAX = 20.0
PLANTED = ("forward-before-commit", "acknowledge-before-commit")

CONFIGURATION = """\
listen: {{data: "127.0.0.1:{data}", control: "127.0.0.1:{control}"}}
store: sqlite:///aegis.db
policies: ./policies
upstreams:
  up: {{url: "http://127.0.0.1:{upstream}"}}
"""
CATALOGUE = """\
catalogue: up
tools:
  do: POST /do
  never: POST /never
"""
POLICY = """\
policy: faults
rules:
  - {id: do, effect: allow, tools: up/do, when: args.size >= 0}
  - {id: never, effect: deny, tools: up/never}
"""


@dataclass
class Seen:
    """What the outside knows of one store's life: call ids answered, by mark."""

    answered: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


@dataclass
class Report:
    """Sums over all cycles; `violations` is empty in a good run."""

    cycles: int = 0
    answered: int = 0
    refused: int = 0
    forwarded: int = 0
    receipts: int = 0
    recovered: int = 0
    restart_s_max: float = 0.0
    violations: list[str] = field(default_factory=list)


class Sidecar:
    """One store's folder, and the process serving it."""

    def __init__(self, folder: Path, upstream_port: int, planted: str | None) -> None:
        self.folder, self.planted = folder, planted
        self.data_port, self.control_port = free_port(), free_port()
        policies = folder / "policies"
        policies.mkdir(parents=True)
        (policies / "tools.yaml").write_text(CATALOGUE)
        (policies / "faults.yaml").write_text(POLICY)
        self.config = folder / "sidecar.yaml"
        self.config.write_text(
            CONFIGURATION.format(
                data=self.data_port, control=self.control_port, upstream=upstream_port
            )
        )
        self.process: Any = None
        keep_figures(folder)

    async def start(self) -> float:
        """Starts it and waits until it is ready; gives the seconds that took."""
        started = time.perf_counter()
        if self.planted is None:
            command = [sys.executable, "-m", "sidecar.cli.main"]
        else:
            command = [sys.executable, str(HERE / "planted.py"), self.planted]
        with (self.folder / "log").open("ab") as log:
            self.process = warm.popen(
                [*command, "serve", "--config", str(self.config)],
                cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        async with aiohttp.ClientSession() as session:
            while time.perf_counter() - started < READY_S_MAX:
                if self.process.poll() is not None:
                    break
                try:
                    url = f"http://127.0.0.1:{self.control_port}/readyz"
                    async with session.get(url) as reply:
                        if reply.status == 200:
                            return time.perf_counter() - started
                except OSError:
                    pass
                await asyncio.sleep(0.02)
        tail = (self.folder / "log").read_text()[-2000:]
        raise RuntimeError(f"the sidecar did not get ready:\n{tail}")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


async def keep_calling(port: int, seen: Seen, label: str, stop: asyncio.Event) -> None:
    """64 clients, each one call at a time, until the sidecar is gone."""

    async def client(session: aiohttp.ClientSession, number: int) -> None:
        count = 0
        while not stop.is_set():
            count += 1
            mark = f"{label}-{number}-{count}"
            path = "never" if (number + count) % 5 == 0 else "do"
            try:
                async with session.post(
                    f"http://127.0.0.1:{port}/up/{path}", json={"mark": mark, "size": count}
                ) as reply:
                    call_id = reply.headers.get("Aegis-Call-Id", "")
                    if reply.status == 200:
                        seen.answered[mark] = call_id
                    elif reply.status == 403:
                        seen.refused[mark] = call_id
            except (aiohttp.ClientError, OSError):
                return

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        await asyncio.gather(*(client(session, number) for number in range(IN_FLIGHT)))


async def check(
    sidecar: Sidecar, seen: Seen, forwarded: set[str], after_seq: int, report: Report
) -> int:
    """Holds the new receipts against what was seen; gives the last seq."""
    reader = await storage.open_reader(f"sqlite:///{sidecar.folder}/aegis.db")
    kinds: dict[str, set[str]] = {"intent": set(), "refusal": set()}
    marks: dict[str, str] = {}
    try:
        while page := await reader.receipts("default", after_seq, 1000):
            for row in page:
                report.receipts += 1
                report.recovered += row.kind == "recovery"
                if row.seq != after_seq + 1:
                    report.violations.append(f"I3 gap: {row.seq} after {after_seq}")
                after_seq = row.seq
                if row.kind in kinds and row.call_id is not None:
                    kinds[row.kind].add(row.call_id)
                    facts = await reader.call_facts("default", row.seq)
                    if facts is not None and facts.arguments:
                        marks[json.loads(facts.arguments)["mark"]] = row.kind
    finally:
        await reader.close()
    for mark, call_id in seen.answered.items():
        if call_id not in kinds["intent"]:
            report.violations.append(f"I1 answered, not recorded: {mark} {call_id}")
    for mark, call_id in seen.refused.items():
        if call_id not in kinds["refusal"]:
            report.violations.append(f"I1 refused, not recorded: {mark} {call_id}")
    for mark in forwarded:
        if marks.get(mark) != "intent":
            report.violations.append(f"I2 at the upstream without an intent: {mark}")
    return after_seq


def verify(sidecar: Sidecar) -> str | None:
    """Exports and verifies the chain with the product's own commands; None if it holds."""
    command = [sys.executable, "-m", "sidecar.cli.main", "receipts"]
    path = sidecar.folder / "receipts.jsonl"
    exported = warm.run([*command, "export", "--config", str(sidecar.config)], cwd=ROOT)
    if exported.returncode != 0:
        return exported.stdout[-2000:] + exported.stderr
    path.write_text(exported.stdout)
    done = warm.run([*command, "verify", str(path)], cwd=ROOT)
    return None if done.returncode == 0 else done.stdout + done.stderr


async def run(cycles: int, seed: int, planted: str | None) -> Report:
    """The whole run, in lanes side by side; stops early once a planted fault was found."""
    report = Report()
    upstream = MarkingUpstream()
    await upstream.start()
    left = iter(range(cycles))
    with tempfile.TemporaryDirectory(prefix="aegis-faults-") as name:
        lanes = [
            Lane(Path(name) / f"lane{number}", upstream, report, left, planted, seed + number)
            for number in range(LANES)
        ]
        try:
            async with asyncio.TaskGroup() as running:
                for lane in lanes:
                    running.create_task(lane.run())
        finally:
            for lane in lanes:
                lane.end()
            await upstream.stop()
    return report


class Lane:
    """Stores one after the other, each killed up to ten times, beside the other lanes."""

    def __init__(
        self,
        folder: Path,
        upstream: MarkingUpstream,
        report: Report,
        left: Iterator[int],
        planted: str | None,
        seed: int,
    ) -> None:
        self._folder, self._upstream, self._report = folder, upstream, report
        self._left, self._planted = left, planted
        self._chance = random.Random(seed)
        self._sidecar: Sidecar | None = None

    def end(self) -> None:
        if self._sidecar is not None:
            self._sidecar.kill()

    def _next(self) -> int | None:
        """The number of the next cycle; None if there is none to be run."""
        if self._planted and self._report.violations:
            return None
        return next(self._left, None)

    async def run(self) -> None:
        number = self._next()
        while number is not None:
            self._sidecar = Sidecar(
                self._folder / f"store{number}", self._upstream.port, self._planted
            )
            await self._sidecar.start()
            number = await self._store_life(self._sidecar, number)
            self._sidecar.kill()
            problem = await asyncio.to_thread(verify, self._sidecar)
            if problem:
                self._report.violations.append(f"I3 {problem}")

    async def _store_life(self, sidecar: Sidecar, number: int | None) -> int | None:
        """Up to ten kills of one store, which is running when this begins and when it ends; gives
        the number of the cycle after it."""
        after_seq = 0
        for _ in range(CYCLES_PER_STORE):
            if number is None:
                break
            after_seq = await self._cycle(sidecar, f"c{number}", after_seq)
            number = self._next()
        return number

    async def _cycle(self, sidecar: Sidecar, label: str, after_seq: int) -> int:
        report, seen, stop = self._report, Seen(), asyncio.Event()
        load = asyncio.ensure_future(keep_calling(sidecar.data_port, seen, label, stop))
        await asyncio.sleep(self._chance.uniform(0.1, 0.5))
        sidecar.kill()
        stop.set()
        await load
        await asyncio.sleep(0.05)  # what was already on its way to the upstream arrives
        report.restart_s_max = max(report.restart_s_max, await sidecar.start())
        forwarded = self._upstream.take(f"{label}-")
        report.cycles += 1
        report.answered += len(seen.answered)
        report.refused += len(seen.refused)
        report.forwarded += len(forwarded)
        return await check(sidecar, seen, forwarded, after_seq, report)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=500, help="cycles")
    parser.add_argument("--seed", type=int, default=Clock().now_us() % 1_000_000)
    parser.add_argument("--planted", choices=PLANTED)
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    report = asyncio.run(run(options.size, options.seed, options.planted))
    figures: dict[str, Any] = {
        "commit": checked_out(),
        "size": options.size,
        "seed": options.seed,
        "planted": options.planted,
        "cycles": report.cycles,
        "answered": report.answered,
        "refused": report.refused,
        "forwarded": report.forwarded,
        "receipts": report.receipts,
        "recovered": report.recovered,
        "restart_s_max": round(report.restart_s_max, 2),
        "violations": len(report.violations),
        "first_violations": report.violations[:5],
    }
    return tell(figures, options.results)


if __name__ == "__main__":
    sys.exit(main())
