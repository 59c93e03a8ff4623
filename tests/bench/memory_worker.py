"""A process that records calls and tells its resident memory: memory_worker.py URL CALLS STEP.

It imports the store and the ledger's seal and nothing else of the sidecar: its memory is theirs.
Prints one JSON line when the store is open, and one after each step: calls so far, bytes resident.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import store_calls

import storage
from sidecar.clock import Clock

CALLERS = 32
FOR_EVER_S = 1e9


def rss_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmRSS")


async def main(url: str, calls: int, step: int) -> None:
    clock = Clock()
    store = await storage.open_store(url, now_us=clock.now_us, node_id="node")
    gc.collect()
    gc.freeze()
    print(json.dumps([0, rss_bytes()]), flush=True)
    for done in range(step, calls + 1, step):
        await store_calls.drive(store, clock, CALLERS, FOR_EVER_S, calls_max=step)
        print(json.dumps([done, rss_bytes()]), flush=True)
    await store.close()


if __name__ == "__main__":
    store_calls.as_the_sidecar()
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
