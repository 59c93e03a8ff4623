"""A well-behaved client in a process of its own: asks, waits for the answer, asks again.

    python door_bystander.py PORT COUNT     (until its input ends, and at least COUNT times)

Prints {"p99_ms", "asked", "failed"}. Knows: one request. Must not know: what others do meanwhile.
"""

from __future__ import annotations

import http.client
import json
import select
import sys
import time

PAUSE_S = 0.002


def main(port: int, count: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    took_ms: list[float] = []
    failed = 0
    while len(took_ms) < count or not select.select([sys.stdin], [], [], 0)[0]:
        started = time.perf_counter()
        connection.request("GET", "/up/items/7", headers={"X-Mark": "bystander"})
        answer = connection.getresponse()
        answer.read()
        took_ms.append((time.perf_counter() - started) * 1000)
        failed += answer.status != 200
        time.sleep(PAUSE_S)
    p99 = sorted(took_ms)[int(len(took_ms) * 0.99)]
    print(json.dumps({"p99_ms": round(p99, 2), "asked": len(took_ms), "failed": failed}))


main(int(sys.argv[1]), int(sys.argv[2]))
