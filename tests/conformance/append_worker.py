"""One process among several on one store: append_worker.py URL NUMBER ENTRIES TENANTS.

Records intents through a write queue of its own with the ledger's seal, 64 at a time.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from sidecar.ledger.receipt import blank_receipt
from storage import open_store
from storage.records import Entry, Recorded
from storage.write_queue import WriteQueue

AT_ONCE = 64


async def main(url: str, number: int, entries: int, tenants: int) -> None:
    clock = Clock()
    store = await open_store(url, now_us=clock.now_us, node_id=f"node-{number}")
    queue = WriteQueue(store, seal, capacity=1024, wait_s=60, monotonic_ns=clock.monotonic_ns)
    left = entries
    print("ready", flush=True)
    sys.stdin.readline()

    async def caller() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            call_id = clock.new_id()
            tenant = f"tenant-{left % tenants}"
            answer = await queue.submit(
                Entry(
                    blank_receipt(
                        tenant,
                        "refusal",
                        event_id=call_id,
                        call_id=call_id,
                        ts_us=clock.now_us(),
                        agent_id=f"agent-{number}",
                    )
                )
            )
            if not isinstance(answer, Recorded):
                raise RuntimeError(f"not recorded: {answer}")

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
    print(round(entries / (time.perf_counter() - started)), flush=True)
    await queue.drain(10)
    await queue.close()
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
