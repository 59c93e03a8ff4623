"""One process among several on one store: process_worker.py URL NUMBER CALLERS.

Each line on standard input is a slice: the monotonic second at which to begin, for how many
seconds, and its tenants, separated by blanks. Prints how many calls were committed in it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import store_calls

import storage
from sidecar.clock import Clock


async def main(url: str, number: int, callers: int) -> None:
    clock = Clock()
    store = await storage.open_store(url, now_us=clock.now_us, node_id=f"node-{number}")
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        at_s, seconds, *tenants = line.split()
        await asyncio.sleep(max(0.0, float(at_s) - time.monotonic()))
        rate = await store_calls.drive(store, clock, callers, float(seconds), tuple(tenants))
        print(rate, flush=True)
    await store.close()


if __name__ == "__main__":
    store_calls.as_the_sidecar()
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
