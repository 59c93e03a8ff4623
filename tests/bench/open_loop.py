"""An open-loop load: requests leave on schedule, whether or not earlier ones were answered.

Each due request takes an idle connection or opens one; a refused or closed connection counts as
a refusal with the time it took. Prints one JSON line. Loopback only, bounded in rate and time.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections import deque

import uvloop

CONNECTIONS_MAX = 4000


class Load:
    """The schedule and the counts; latencies in seconds by what became of the request."""

    def __init__(self, host: str, port: int, path: str, note_bytes: int) -> None:
        self.host, self.port = host, port
        body = (
            b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"tool_42","arguments":'
            b'{"owner":"acme","repo":"web","number":1207,"note":"' + b"n" * note_bytes + b'"}}}'
        )
        self.request = (
            f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
            f"Accept: application/json, text/event-stream\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        self.idle: deque[Connection] = deque()
        self.open = 0
        self.answered: list[float] = []
        self.refused: list[float] = []
        self.unsent = 0
        self.pending: set[asyncio.Task[None]] = set()

    def send(self) -> None:
        while self.idle:
            connection = self.idle.popleft()
            if not connection.closed:
                connection.send()
                return
        if self.open >= CONNECTIONS_MAX:
            self.unsent += 1
            return
        self.open += 1
        task = asyncio.ensure_future(self._connect(time.perf_counter()))
        self.pending.add(task)
        task.add_done_callback(self.pending.discard)

    async def _connect(self, started: float) -> None:
        try:
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: Connection(self, started), self.host, self.port)
        except OSError:
            self.open -= 1
            self.refused.append(time.perf_counter() - started)


class Connection(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self, load: Load, started: float) -> None:
        self.load, self.started = load, started
        self.closed, self.busy = False, True
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(self.load.request)  # type: ignore[attr-defined]

    def send(self) -> None:
        self.started, self.busy = time.perf_counter(), True
        self.transport.write(self.load.request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.data += data
        head_end = self.data.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self.data[:head_end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self.data) < head_end + 4 + length:
            return
        is_refusal = head[9:12] != b"200" or b'"isError":true' in self.data
        (self.load.refused if is_refusal else self.load.answered).append(
            time.perf_counter() - self.started
        )
        self.data, self.busy = b"", False
        if b"connection: close" not in head:
            self.load.idle.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self.load.open -= 1
        if self.busy:
            self.busy = False
            self.load.refused.append(time.perf_counter() - self.started)


async def main(
    host: str, port: int, path: str, rate: float, seconds: float, note_bytes: int
) -> None:
    load = Load(host, port, path, note_bytes)
    started = time.perf_counter()
    sent = 0
    while (elapsed := time.perf_counter() - started) < seconds:
        for _ in range(min(int(elapsed * rate) - sent, 500)):
            load.send()
            sent += 1
        await asyncio.sleep(0.001)
    await asyncio.sleep(2.5)
    figures = {
        "offered_per_s": round((sent - load.unsent) / seconds),
        "answered_per_s": round(len(load.answered) / seconds),
        "refused_per_s": round(len(load.refused) / seconds),
        "unsent": load.unsent,
        "unanswered": sent - load.unsent - len(load.answered) - len(load.refused),
        "answered_p50_ms": percentile_ms(load.answered, 50),
        "answered_p99_ms": percentile_ms(load.answered, 99),
        "refused_p50_ms": percentile_ms(load.refused, 50),
        "refused_p99_ms": percentile_ms(load.refused, 99),
    }
    print(json.dumps(figures))


def percentile_ms(values: list[float], percent: int) -> float:
    if len(values) < 2:
        return 0.0
    return round(statistics.quantiles(values, n=100)[percent - 1] * 1000, 2)


if __name__ == "__main__":
    uvloop.run(
        main(
            sys.argv[1],
            int(sys.argv[2]),
            sys.argv[3],
            float(sys.argv[4]),
            float(sys.argv[5]),
            int(sys.argv[6]),
        )
    )
