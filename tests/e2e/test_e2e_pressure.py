"""Utilisation as /metrics tells it, against the truth, from almost idle to the ceiling.

The whole sidecar runs in this process; calls are committed through its own write queue, because
over HTTP the process would be the limit long before the store is. The truth is the rate that was
committed, over the rate that the store was measured to sustain with everyone waiting.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
import uvloop
from aiohttp import ClientSession
from running import Process, free_port

from sidecar.app import Sidecar, running
from sidecar.calibration import ordinary_call
from sidecar.clock import Clock
from sidecar.config.load import load_config

LEVELS = (0.05, 0.25, 0.5, 0.75, 1.0)
CALLERS = 512
LEVEL_S = 6.5
TOLERANCE = 0.15


async def one_call(sidecar: Sidecar, clock: Clock) -> None:
    slot = sidecar.queue.reserve()
    intent, outcome = ordinary_call(clock)
    await sidecar.queue.submit(intent)
    sidecar.queue.enqueue(outcome, slot)


async def saturate(sidecar: Sidecar, clock: Clock, seconds: float) -> float:
    """Calls per second with every caller always waiting."""
    done = 0
    until = time.perf_counter() + seconds

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < until:
            await one_call(sidecar, clock)
            done += 1

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return done / seconds


async def offer(sidecar: Sidecar, clock: Clock, rate: float, seconds: float) -> float:
    """Calls per second committed when `rate` is offered on schedule."""
    done = 0
    started = time.perf_counter()
    period = CALLERS / rate

    async def caller(number: int) -> None:
        nonlocal done
        due = started + period * number / CALLERS
        while due < started + seconds:
            delay = due - time.perf_counter()
            if delay > 0:
                await asyncio.sleep(delay)
            await one_call(sidecar, clock)
            done += 1
            due += period

    await asyncio.gather(*(caller(number) for number in range(CALLERS)))
    return done / (time.perf_counter() - started)


async def scrape(url: str) -> dict[str, float]:
    async with ClientSession() as session, session.get(f"{url}/metrics") as reply:
        text = await reply.text()
    samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


async def measure(folder: Path) -> dict[str, list[float]]:
    """Per level: the truth, the utilisation read from /metrics, and the writer's busy share.

    After a level that is wrong the others are not looked at: the whole is then.
    """
    process = Process(folder)
    process.write(
        f"  up: {{url: 'http://127.0.0.1:{free_port()}'}}",
        {
            "tools.yaml": "catalogue: up\ntools: {get: GET /get}\n",
            "policy.yaml": "policy: p\nrules: [{id: r, effect: allow, tools: up/get}]\n",
        },
    )
    loaded = load_config(process.config, {}, [])
    assert loaded.config is not None, loaded.problems
    clock = Clock()
    found: dict[str, list[float]] = {"truth": [], "utilisation": [], "busy": []}
    async with running(loaded.config) as sidecar:
        ceiling = await saturate(sidecar, clock, 3.0)
        await asyncio.sleep(1.0)
        for level in LEVELS:
            if level < 1:
                rate = await offer(sidecar, clock, level * ceiling, LEVEL_S)
            else:
                rate = await saturate(sidecar, clock, LEVEL_S)
            samples = await scrape(sidecar.control_url)
            found["truth"].append(min(1.0, rate / ceiling))
            found["utilisation"].append(samples["aegis_store_utilisation_ratio"])
            found["busy"].append(samples["aegis_write_busy_ratio"])
            if worst_error(found, "utilisation") > TOLERANCE:
                break
    return found


def worst_error(found: dict[str, list[float]], name: str) -> float:
    return max(abs(a - b) for a, b in zip(found["truth"], found[name], strict=True))


@pytest.mark.serial
@pytest.mark.timeout(180)
def test_utilisation_is_the_truth_and_busy_share_is_not(tmp_path: Path) -> None:
    # Machines are shared: a disturbed run is measured again, a wrong formula stays wrong.
    for _ in range(3):
        found = uvloop.run(measure(tmp_path))
        print({name: [round(value, 2) for value in values] for name, values in found.items()})
        if worst_error(found, "utilisation") <= TOLERANCE:
            break
    assert worst_error(found, "utilisation") <= TOLERANCE, found
    assert len(found["truth"]) == len(LEVELS)
    assert worst_error(found, "busy") > TOLERANCE, "the test can tell the two apart"
