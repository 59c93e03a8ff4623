"""One run of mutated requests against one real sidecar, and all that must hold of it.

Knows: the sidecar's process, what is fired at it and how fast, when everything has settled, what is
then held against what. A run with other upstreams overrides `make_upstreams` and `check_settled`.
Must not know: the command line, how figures are kept.
"""

from __future__ import annotations

import asyncio
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from fuzz_check import CATALOGUES, Told, check_arrival, check_heard
from fuzz_client import Heard, Shot, exchange
from fuzz_ledger import Ledger, check_sent, sent_keys
from fuzz_mutators import Mutation
from fuzz_seeds import Draft, load_cases
from fuzz_upstream import MAGIC, Arrival, RecordingUpstream
from running import Process

HERE = Path(__file__).resolve().parent
BATCH = 500
IN_FLIGHT = 32
CONTROL_EVERY = 50
DRAIN_S = 5.0
#: No exchange takes longer than the deadlines of the run and some waiting in between; one that
#: does was slow to judge, and held up all others.
SLOW_S = 5.0
LIMITS = "limits: {header_wait: 1s, body_wait: 1s}"
#: What stands in an answer of status 200 to a call that policies refused; a tool that a caller can
#: never reach answers as unknown.
_UNKNOWN_TOOL = b'"code":-32602,"message":"Unknown tool: '
_DENIED = (b"isError", b"default_deny", _UNKNOWN_TOOL)
LOG_FAULTS = ("Traceback", "failed inside", "background task failed", "never retrieved")


@dataclass
class Report:
    """Sums over the run; `violations` is empty in a good one."""

    requests: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    mutants_forwarded: int = 0
    closed_without_answer: int = 0
    controls: int = 0
    arrivals: int = 0
    receipts: int = 0
    slowest_s: float = 0.0
    violations: list[str] = field(default_factory=list)


class Stalled(Exception):
    """There is nothing left to send requests to."""


class Upstream(Protocol):
    """What a run needs of an upstream of its own."""

    port: int

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class FuzzProcess(Process):
    """The sidecar of the run, perhaps with a fault that `program` builds in."""

    planted: str | None = None
    program: Path = HERE / "fuzz_planted.py"

    def command(self, *arguments: str) -> list[str]:
        if self.planted is None or arguments[0] != "serve":
            return super().command(*arguments)
        return [sys.executable, str(self.program), self.planted, *arguments]


class Run:
    """One run against one sidecar."""

    def __init__(self, folder: Path, chance: random.Random, planted: str | None) -> None:
        self.report = Report()
        self.arrivals: list[Arrival] = []
        self.upstreams = self.make_upstreams()
        self.sidecar = FuzzProcess(folder)
        self.sidecar.planted = planted
        self.cases = load_cases()
        self.mutation = Mutation(chance, self.cases)
        self.ledger = Ledger(f"sqlite:///{folder}/aegis.db")
        self.told = Told()
        self.count = 0

    def make_upstreams(self) -> Sequence[Upstream]:
        """The REST upstream `up` and the MCP upstream `tools`; they add to `arrivals`."""
        return [
            RecordingUpstream(name, self.arrivals, self.report.violations)
            for name in ("up", "tools")
        ]

    async def stop(self) -> None:
        """Whatever the run started is gone afterwards."""
        self.sidecar.kill()
        for upstream in self.upstreams:
            await upstream.stop()

    async def start(self) -> None:
        """Starts the upstreams and the sidecar in front of them."""
        for upstream in self.upstreams:
            await upstream.start()
        rest, mcp = (upstream.port for upstream in self.upstreams)
        self.sidecar.write(
            f"  up: {{url: 'http://127.0.0.1:{rest}'}}\n"
            f"  tools: {{url: 'http://127.0.0.1:{mcp}/mcp', kind: mcp}}",
            CATALOGUES,
            LIMITS,
        )
        await asyncio.to_thread(self.sidecar.start)

    async def seeds(self) -> None:
        """Every seed as it is: each fares as it says."""
        shots = []
        for seed in self.cases.seeds:
            mark = self._mark()
            shots.append(Shot([seed.render(mark)], label=f"seed {seed.name}"))
        heard = await self._fire(shots)
        arrived = {arrival.mark for arrival in self.arrivals}
        for number, (seed, shot, one) in enumerate(
            zip(self.cases.seeds, shots, heard, strict=True)
        ):
            problem = _contradicts(seed, one, f"m-{number + 1:07}" in arrived)
            if problem:
                self._found(shot, problem)
        await self._settle(shots)

    async def batch(self, size: int) -> None:
        """Mutants, with a control now and then; then everything is held against everything."""
        shots = []
        for _ in range(size):
            mark = self._mark()
            if self.count % CONTROL_EVERY == 0:
                plain = self.mutation.chance.choice(self.mutation.plain)
                shots.append(Shot([plain.render(mark)], label="control"))
            else:
                shots.append(self.mutation.shot(mark))
        heard = await self._fire(shots)
        for shot, one in zip(shots, heard, strict=True):
            forwarded = _is_forwarded(one)
            if shot.label == "control":
                self.report.controls += 1
                if not forwarded:
                    self._found(shot, f"a valid call was not answered: {one.raw[:300]!r}")
            else:
                self.report.mutants_forwarded += forwarded
        await self._settle(shots)

    async def end(self) -> None:
        """Everything is stopped in order, and the receipts must hold."""
        found = self.report.violations
        if self.sidecar.readiness() != 200:
            found.append("the sidecar is not ready at the end")
        metrics = self.sidecar.metrics()
        if metrics["aegis_calls_in_flight"] or metrics["aegis_write_dropped_outcomes_total"]:
            found.append("calls in flight, or outcomes dropped, at the end")
        code = await asyncio.to_thread(self.sidecar.stop)
        if code != 0:
            found.append(f"the sidecar ended with {code}")
        found += await self.ledger.read_new() + self.ledger.check_end()
        self.report.receipts = self.ledger.receipts
        try:
            await asyncio.to_thread(self.sidecar.receipts)
        except AssertionError as error:
            found.append(f"receipts do not verify: {str(error)[:300]}")
        log = self.sidecar.log()
        for words in LOG_FAULTS:
            at = log.find(words)
            if at >= 0:
                found.append(f"in the log: {log[max(0, at - 200) : at + 1500]}")

    def _mark(self) -> str:
        self.count += 1
        return f"m-{self.count:07}"

    async def _fire(self, shots: list[Shot]) -> list[Heard]:
        places = asyncio.Semaphore(IN_FLIGHT)

        async def one(shot: Shot) -> Heard:
            async with places:
                started = time.perf_counter()
                try:
                    heard = await exchange(self.sidecar.data_port, shot)
                except ConnectionError as error:
                    self._found(shot, f"no connection: {error!r}")
                    return Heard()
                took_s = time.perf_counter() - started
                self.report.slowest_s = max(self.report.slowest_s, took_s)
                if took_s > SLOW_S and not heard.hung:
                    self._found(shot, f"took {took_s:.1f} s")
                return heard

        heard = await asyncio.gather(*(one(shot) for shot in shots))
        for shot, item in zip(shots, heard, strict=True):
            self.report.requests += 1
            self.report.answers.update(answer.status for answer in item.answers)
            self.report.closed_without_answer += item.closed and not item.answers
            for problem in check_heard(shot, item, self.told):
                self._found(shot, problem)
        return heard

    async def _settle(self, shots: list[Shot]) -> None:
        """Waits until nothing is under way, then checks arrivals and receipts."""
        process = self.sidecar.process
        if process is None or process.poll() is not None:
            raise Stalled(f"the sidecar died:\n{self.sidecar.log()[-3000:]}")
        if self.sidecar.readiness() != 200:
            raise Stalled("the sidecar is not ready")
        until = time.perf_counter() + DRAIN_S
        while time.perf_counter() < until:
            if not (await asyncio.to_thread(self.sidecar.metrics))["aegis_calls_in_flight"]:
                break
            await asyncio.sleep(0.1)
        arrivals, found = list(self.arrivals), self.report.violations
        self.arrivals.clear()
        self.report.arrivals += len(arrivals)
        wrong = await self.check_settled(shots, arrivals)
        found += [_with_shot(problem, shots) for problem in wrong]
        self.told = Told()

    async def check_settled(self, shots: list[Shot], arrivals: list[Arrival]) -> list[str]:
        """What is wrong with what arrived, held against what was sent and what is on record."""
        wrong = check_sent(sent_keys(shots), arrivals)
        for arrival in arrivals:
            wrong += check_arrival(arrival)
        wrong += await self.ledger.read_new() + self.ledger.match(arrivals)
        return wrong + self.ledger.check_told(self.told)

    def _found(self, shot: Shot, problem: str) -> None:
        self.report.violations.append(f"{shot.label}: {problem} <- {shot.raw[:1500]!r}")


def _with_shot(problem: str, shots: list[Shot]) -> str:
    """The problem, with the request that carries the mark it names."""
    mark = re.search(r"m-[0-9]{7}", problem)
    of_mark = [shot for shot in shots if mark and mark.group().encode() in shot.raw]
    return f"{problem} <- {of_mark[0].label}: {of_mark[0].raw[:1500]!r}" if of_mark else problem


def _is_forwarded(heard: Heard) -> bool:
    answers = heard.answers
    if not answers or answers[0].status != 200:
        return False
    return MAGIC.encode() in answers[0].body or not answers[0].body


def _contradicts(seed: Draft, heard: Heard, arrived: bool) -> str | None:
    status = heard.answers[0].status if heard.answers else None
    if seed.expect == "forwarded" and not (_is_forwarded(heard) and arrived):
        return f"was not forwarded: {heard.raw[:300]!r}"
    if seed.expect in ("denied", "refused") and arrived:
        return "was forwarded"
    if seed.expect == "denied" and not (
        status == 403 or any(mark in heard.raw for mark in _DENIED)
    ):
        return f"was not denied: {heard.raw[:300]!r}"
    is_judged = b"error" not in heard.raw or _UNKNOWN_TOOL in heard.raw
    if seed.expect == "refused" and status in (200, 403) and is_judged:
        return f"was not refused: {heard.raw[:300]!r}"
    return None


async def run(
    size: int, seed: int, planted: str | None, only_mutants: bool, kind: type[Run] = Run
) -> Report:
    """The whole run, of one kind; stops early once a planted fault was found."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="aegis-fuzz-") as name:
        fuzz = kind(Path(name), chance, planted)
        try:
            await fuzz.start()
            if not only_mutants:
                await fuzz.seeds()
            while fuzz.report.requests < size and not (planted and fuzz.report.violations):
                await fuzz.batch(min(BATCH, size - fuzz.report.requests))
            await fuzz.end()
        except Stalled as stalled:
            fuzz.report.violations.append(str(stalled))
        finally:
            await fuzz.stop()
    return fuzz.report
