"""What a call costs in each upstream leg: CPU µs of this process, legs taking turns.

    python tests/bench/leg_speed.py [--rounds N] [--calls N] [--json]

A 300-byte POST, an answer of 1 kB, 1 and 32 in flight, uvloop, against a trivial upstream in
another process. `floor` is the same without HTTP: one write and one read of a connection that is
there, woken by a future; no leg can cost less. Rounds are short and
many, so that a busy machine is busy for all of them; figures are medians over the rounds, and of
each round's ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import cast

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from aiohttp_leg import AiohttpLeg

from sidecar.app import GC_THRESHOLD
from sidecar.config.model import Upstream, UpstreamLimits
from sidecar.proxy.upstream import Reply, UpstreamLeg
from sidecar.proxy.upstream_lean import LeanLeg

BODY = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"text":"' + b"y" * 231 + b'"}}\n'
HEADERS = (
    ("Accept", "application/json, text/event-stream"),
    ("Content-Type", "application/json"),
    ("User-Agent", "agent/1.0"),
    ("X-Trace", "0190c0ffee007000"),
)
IN_FLIGHT = (1, 32)


class Floor:
    """Writes, waits for bytes, knows nothing: what the event loop and the kernel cost."""

    def __init__(self) -> None:
        self._idle: list[_Bare] = []
        head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS)
        self._request = f"POST / HTTP/1.1\r\n{head}Content-Length: {len(BODY)}\r\n\r\n".encode()

    async def send(
        self,
        upstream: Upstream,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
    ) -> Reply:
        loop = asyncio.get_running_loop()
        if self._idle:
            bare = self._idle.pop()
        else:
            port = int(upstream.url.rpartition(":")[2])
            _, bare = await loop.create_connection(_Bare, "127.0.0.1", port)
        bare.answer = loop.create_future()
        bare.transport.write(self._request + body)
        data = await bare.answer
        self._idle.append(bare)
        return Reply(200, (), data)

    async def open_websocket(
        self, upstream: Upstream, target: str, headers: Sequence[tuple[str, str]]
    ) -> Reply:
        raise NotImplementedError("the floor carries plain calls only")

    async def close(self) -> None:
        for bare in self._idle:
            bare.transport.abort()


class _Bare(asyncio.Protocol):
    transport: asyncio.Transport
    answer: asyncio.Future[bytes]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.answer.set_result(data)


LEGS: dict[str, Callable[[], UpstreamLeg]] = {
    "floor": Floor,
    "aiohttp": AiohttpLeg,
    "lean": LeanLeg,
}


async def _calls(leg: UpstreamLeg, upstream: Upstream, count: int, size: int) -> None:
    for _ in range(count):
        reply = await leg.send(upstream, "POST", "/mcp", HEADERS, BODY)
        assert reply.status == 200 and len(reply.first) >= size, reply
        reply.close()


async def _cost_us(leg: UpstreamLeg, upstream: Upstream, calls: int, in_flight: int) -> float:
    each = calls // in_flight
    before = time.process_time_ns()
    work: list[Awaitable[None]] = [_calls(leg, upstream, each, 1024) for _ in range(in_flight)]
    await asyncio.gather(*work)
    return (time.process_time_ns() - before) / 1000 / (each * in_flight)


async def measure(port: int, rounds: int, calls: int) -> dict[str, dict[str, float]]:
    """CPU µs per call by leg and calls in flight."""
    upstream = Upstream(
        name="up", url=f"http://127.0.0.1:{port}", private=True,
        limits=UpstreamLimits(request_bytes=1 << 20, calls=256),
    )  # fmt: skip
    legs = {name: make() for name, make in LEGS.items()}
    gc.freeze()  # as the sidecar does
    gc.set_threshold(GC_THRESHOLD)
    taken: dict[tuple[str, int], list[float]] = {}
    for number in range(rounds + 1):
        for in_flight in IN_FLIGHT:
            for name, leg in legs.items():
                cost = await _cost_us(leg, upstream, calls, in_flight)
                if number:  # the first round is for warming up
                    taken.setdefault((name, in_flight), []).append(cost)
    for leg in legs.values():
        await leg.close()
    figures = {
        name: {f"c{n}": round(statistics.median(taken[name, n]), 1) for n in IN_FLIGHT}
        for name in legs
    }
    figures["lean / aiohttp"] = {
        f"c{n}": round(_median_ratio(taken["lean", n], taken["aiohttp", n]), 2) for n in IN_FLIGHT
    }
    return figures


def _median_ratio(mine: list[float], other: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(mine, other, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU per call of the upstream legs")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--calls", type=int, default=320)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    script = Path(__file__).with_name("leg_upstream.py")
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        figures = uvloop.run(measure(port, options.rounds, options.calls))
        other.communicate()
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    print("| leg | " + " | ".join(f"CPU µs/call, {n} in flight" for n in IN_FLIGHT) + " |")
    print("| --- |" + " ---: |" * len(IN_FLIGHT))
    for name, row in figures.items():
        print(f"| {name} | " + " | ".join(f"{row[f'c{n}']}" for n in IN_FLIGHT) + " |")


if __name__ == "__main__":
    main()
