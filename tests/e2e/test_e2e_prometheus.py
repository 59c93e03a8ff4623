"""The alert for the ceiling, in a real Prometheus that scrapes a real sidecar under a real load.

The rules are those of deploy/prometheus, word for word, with every duration divided by SCALE; the
load is committed through the sidecar's own write queue, because over HTTP the load generator would
need more of the machine than the sidecar does.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TextIO

import pytest
import uvloop
import yaml
from aiohttp import ClientError, ClientSession
from running import Process, free_port

from sidecar.app import Sidecar, running
from sidecar.calibration import ordinary_call
from sidecar.clock import Clock
from sidecar.config.load import load_config
from sidecar.config.model import Config

FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"
ALERT = "AegisNearCeiling"
NEARER = "aegis:utilisation_nearer:ratio"
SCALE = 150
CALLERS = 512
LOOK_S = 0.1

UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
DURATION = re.compile(r"(?<=\[)\d+[a-z]+(?=\])|(?<=for: )\d+[a-z]+|(?<=interval: )\d+[a-z]+"
                      r"|(?<=offset )\d+[a-z]+")  # fmt: skip


def scaled(text: str) -> str:
    """The same rules or configuration, with every duration divided by SCALE."""

    def shorter(found: re.Match[str]) -> str:
        number, unit = re.fullmatch(r"(\d+)([a-z]+)", found[0]).groups()  # type: ignore[union-attr]
        return f"{int(number) * UNIT_MS[unit] // SCALE}ms"

    return DURATION.sub(shorter, text)


class Prometheus:
    """A running Prometheus, asked over its HTTP API."""

    def __init__(self, url: str, session: ClientSession) -> None:
        self.url = url
        self._session = session

    async def ask(self, path: str, **parameters: str) -> Any:
        async with self._session.get(f"{self.url}/api/v1/{path}", params=parameters) as reply:
            answer = await reply.json()
        assert answer["status"] == "success", answer
        return answer["data"]

    async def value(self, expression: str) -> float | None:
        """The one value of an expression now; None if there is none."""
        result = (await self.ask("query", query=expression))["result"]
        assert len(result) <= 1, result
        return float(result[0]["value"][1]) if result else None

    async def rules(self) -> list[dict[str, Any]]:
        groups = (await self.ask("rules"))["groups"]
        return [rule for group in groups for rule in group["rules"]]

    async def alert(self, name: str) -> dict[str, Any] | None:
        """The alert of that name that is pending or firing; None if it is neither."""
        active = (await self.ask("alerts"))["alerts"]
        found = [alert for alert in active if alert["labels"]["alertname"] == name]
        assert len(found) <= 1, found
        return found[0] if found else None

    async def state(self, name: str) -> str:
        alert = await self.alert(name)
        return "inactive" if alert is None else str(alert["state"])

    async def is_ready(self) -> bool:
        try:
            async with self._session.get(f"{self.url}/-/ready") as reply:
                return reply.status == 200
        except ClientError:
            return False


@contextmanager
def process(arguments: list[str], log: Path) -> Iterator[None]:
    """Runs a program, and ends it by its own handle."""
    with log.open("wb") as output:
        started = subprocess.Popen(arguments, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        started.terminate()
        try:
            started.wait(5)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


@asynccontextmanager
async def prometheus(folder: Path, target: str) -> AsyncIterator[Prometheus]:
    """The example of deploy/prometheus with the target in question, and the durations scaled."""
    program = shutil.which("prometheus")
    assert program is not None, "prometheus is missing: install Debian's package prometheus"
    config = yaml.safe_load(scaled((FOLDER / "prometheus.yaml").read_text("utf-8")))
    config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    folder.mkdir()
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    for name in config["rule_files"]:
        (folder / name).write_text(scaled((FOLDER / name).read_text("utf-8")))
    address = f"127.0.0.1:{free_port()}"
    arguments = [
        program,
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    log = folder / "log"
    async with ClientSession() as session:
        with process(arguments, log):
            started = Prometheus(f"http://{address}", session)
            try:
                await until(started.is_ready, 15)
            except AssertionError:
                raise AssertionError(log.read_text()) from None
            yield started


async def until(is_so: Callable[[], Awaitable[bool]], patience_s: float) -> None:
    give_up = time.monotonic() + patience_s
    while not await is_so():
        assert time.monotonic() < give_up, f"not within {patience_s} s"
        await asyncio.sleep(LOOK_S)


class Load:
    """Callers of the sidecar's write queue: `share` of its ceiling, or all it can carry at 1."""

    def __init__(self, sidecar: Sidecar, clock: Clock, ceiling: float) -> None:
        self.share = 0.0
        self._sidecar = sidecar
        self._clock = clock
        self._ceiling = ceiling
        self._is_over = False

    async def _call(self) -> None:
        slot = self._sidecar.queue.reserve()
        intent, outcome = ordinary_call(self._clock)
        await self._sidecar.queue.submit(intent)
        self._sidecar.queue.enqueue(outcome, slot)

    async def _caller(self, number: int) -> None:
        await asyncio.sleep(number / CALLERS)
        while not self._is_over:
            share = self.share
            if share == 0:
                await asyncio.sleep(LOOK_S)
                continue
            started = time.perf_counter()
            await self._call()
            if share < 1:
                period = CALLERS / (share * self._ceiling)
                await asyncio.sleep(max(0.0, started + period - time.perf_counter()))

    @asynccontextmanager
    async def on(self) -> AsyncIterator[Load]:
        """Nobody is cut off: a caller ends after its call."""
        callers = [asyncio.create_task(self._caller(number)) for number in range(CALLERS)]
        try:
            yield self
        finally:
            self._is_over = True
            await asyncio.gather(*callers)


def config_of(folder: Path) -> Process:
    process = Process(folder)
    process.write(
        f"  up: {{url: 'http://127.0.0.1:{free_port()}'}}",
        {
            "tools.yaml": "catalogue: up\ntools: {get: GET /get}\n",
            "policy.yaml": "policy: p\nrules: [{id: r, effect: allow, tools: up/get}]\n",
        },
    )
    return process


async def story(folder: Path) -> None:
    """A third of the ceiling: quiet. All of it: pending, firing. Nothing: over. Gone: down."""
    clock = Clock()
    loaded = load_config(config_of(folder).config, {}, [])
    assert loaded.config is not None, loaded.problems
    target = loaded.config.listen.control.url.removeprefix("http://")
    with (folder / "log").open("w") as log:
        async with prometheus(folder / "prometheus", target) as prom:
            await _play(prom, loaded.config, clock, log)


async def _play(prom: Prometheus, config: Config, clock: Clock, log: TextIO) -> None:
    async with running(config, log=log) as sidecar:
        ceiling = "aegis_store_ceiling_calls_per_second"
        await until(lambda: _is(prom, ceiling, lambda value: value > 0), 5)
        load = Load(sidecar, clock, await prom.value(ceiling) or 0.0)
        async with load.on():
            await _quiet_at_a_third(prom, load)
            await _fires_at_the_ceiling(prom, load)
            await _clears_afterwards(prom, load)
        for rule in await prom.rules():
            assert (rule["health"], rule.get("lastError", "")) == ("ok", ""), rule
        assert await prom.state("AegisSidecarDown") == "inactive"
    await until(lambda: _has(prom, "AegisSidecarDown", "firing"), 5)
    for state in ("pending", "firing"):
        series = f'count_over_time(ALERTS{{alertname="{ALERT}",alertstate="{state}"}}[5m])'
        assert (await prom.value(series) or 0) > 3, f"the {state} alert is on record"


async def _is(prom: Prometheus, expression: str, fits: Callable[[float], bool]) -> bool:
    value = await prom.value(expression)
    return value is not None and fits(value)


async def _has(prom: Prometheus, alert: str, state: str) -> bool:
    return await prom.state(alert) == state


async def _quiet_at_a_third(prom: Prometheus, load: Load) -> None:
    load.share = 0.33
    await until(lambda: _is(prom, NEARER, lambda value: 0.15 < value < 0.65), 8)
    await until(lambda: _has(prom, ALERT, "inactive"), 1)  # it may have met the busy start
    for _ in range(15):
        await asyncio.sleep(LOOK_S)
        assert await prom.state(ALERT) == "inactive", await prom.value(NEARER)


async def _fires_at_the_ceiling(prom: Prometheus, load: Load) -> None:
    load.share = 1.0
    await until(lambda: _has(prom, ALERT, "pending"), 8)
    pending_s = time.monotonic()
    await until(lambda: _has(prom, ALERT, "firing"), 15)
    assert time.monotonic() - pending_s > 0.9 * 15 * 60 / SCALE, "it waited its quarter of an hour"
    alert = await prom.alert(ALERT)
    assert alert is not None
    assert alert["labels"]["severity"] == "warning"
    assert float(alert["value"]) > 0.7
    said = alert["annotations"]["description"]
    assert re.search(r"the (store|process) is at \d\d", said), said


async def _clears_afterwards(prom: Prometheus, load: Load) -> None:
    load.share = 0.0
    await until(lambda: _has(prom, ALERT, "inactive"), 8)
    assert await prom.value("up") == 1, "it cleared because the load went, not the sidecar"
    assert await _is(prom, NEARER, lambda value: value <= 0.7)


def test_durations_are_scaled_and_nothing_else() -> None:
    text = 'expr: max(x{le="15m"}[15m] offset 2d) > 15\nfor: 1d\nscrape_interval: 15s\n'
    assert scaled(text) == (
        'expr: max(x{le="15m"}[6000ms] offset 1152000ms) > 15\nfor: 576000ms\n'
        "scrape_interval: 100ms\n"
    )


# A load that is measured against the ceiling of a quiet machine: nothing may run beside it.
@pytest.mark.serial
@pytest.mark.timeout(90)
def test_the_alert_for_the_ceiling_fires_and_clears(tmp_path: Path) -> None:
    uvloop.run(story(tmp_path))
