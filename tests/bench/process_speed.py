"""Four processes on one PostgreSQL beside one of them: on one tenant, and on sixteen.

Every process has a write queue of its own and as many waiting callers as the one that is measured
alone. On sixteen tenants either each process has four to itself, or all of them have all: then
every batch locks every head, and they wait for each other as on one tenant. The server and all
processes share the machine's cores, and they stand in the figures: on two cores one process and
its server keep both of them busy, so that four have little left to gain.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import bench_cluster
import store_calls
import uvloop
from bench_cluster import postgres_server

import storage
from sidecar.clock import Clock

PROCESSES = 4
CALLERS = 256
START_S = 0.1
TENANTS = tuple(f"tenant-{number}" for number in range(16))
ONE_TENANT = ("default",)


class Worker:
    """A process that drives the store when told to."""

    def __init__(self, url: str, number: int) -> None:
        script = Path(__file__).with_name("process_worker.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script), url, str(number), str(CALLERS)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker ended with {self.process.wait()}")
        return line.strip()

    def stop(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def together(workers: Sequence[Worker], tenants: Sequence[Sequence[str]], seconds: float) -> float:
    """Calls/s of all workers, who begin at one time; each with its tenants."""
    at_s = time.monotonic() + START_S
    for worker, own in zip(workers, tenants, strict=True):
        worker.say(f"{at_s} {seconds} {' '.join(own)}")
    return sum(float(worker.hear()) for worker in workers)


async def _new_store(dsn: str) -> tuple[str, dict[str, Any]]:
    url = await postgres_server.new_database(dsn)
    await (await storage.open_store(url, now_us=Clock().now_us, node_id="node")).close()
    return url, await bench_cluster.settings(dsn)


async def _tail_is_sound(url: str) -> bool:
    """Opening checks that every head is its tenant's last receipt."""
    await (await storage.open_store(url, now_us=Clock().now_us, node_id="node")).close()
    return True


def run(seconds: float, rounds: int) -> dict[str, Any]:
    """Calls/s, and the ratios to the one process."""
    share = len(TENANTS) // PROCESSES
    own = [TENANTS[n * share : (n + 1) * share] for n in range(PROCESSES)]
    with bench_cluster.durable_cluster() as dsn:
        url, server = uvloop.run(_new_store(dsn))
        workers: list[Worker] = []
        try:
            workers += [Worker(url, number) for number in range(PROCESSES)]
            for worker in workers:
                worker.hear()
            kinds = {
                "one": (workers[:1], [ONE_TENANT]),
                "one_tenant": (workers, [ONE_TENANT] * PROCESSES),
                "own_tenants": (workers, own),
                "all_tenants": (workers, [TENANTS] * PROCESSES),
            }

            async def slices() -> dict[str, list[float]]:
                async def one(name: str) -> float:
                    return together(*kinds[name], seconds)

                return await store_calls.alternate(
                    {name: (lambda name=name: one(name)) for name in kinds}, rounds
                )

            seen = uvloop.run(slices())
        finally:
            for worker in workers:
                worker.stop()
        is_sound = uvloop.run(_tail_is_sound(url))
    return {
        "server": server,
        "cores": os.cpu_count(),
        "processes": PROCESSES,
        "callers_each": CALLERS,
        **{f"{name}_calls_per_s": round(median(rates)) for name, rates in seen.items()},
        "ratio_four_on_one_tenant": store_calls.ratio(seen["one_tenant"], seen["one"]),
        "ratio_four_on_16_tenants": store_calls.ratio(seen["own_tenants"], seen["one"]),
        "ratio_four_on_16_shared_tenants": store_calls.ratio(seen["all_tenants"], seen["one"]),
        "ratio_spread_one_tenant": store_calls.spread(seen["one_tenant"], seen["one"]),
        "ratio_spread_16_tenants": store_calls.spread(seen["own_tenants"], seen["one"]),
        "tail_is_sound": is_sound,
    }
