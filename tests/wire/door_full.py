"""B19 at full size: crowds of connections at the door, and what a well-behaved client notices.

    bash tests/full.sh door [CONNECTIONS]      (default 5,000; pipelined requests are twice as many)

One real sidecar. A client asks one request after the other, over a connection of its own, while one
after the other comes: nobody else; CONNECTIONS idle connections; as many with half a head; twice as
many requests pipelined on one connection; readers that never read. Its p99 may be at most twice as
high in each as alone (and need not be below 20 ms); all pipelined requests are answered in order;
connections over the cap are told so; half heads end with their deadline; and afterwards the sidecar
holds no connection, and no more memory than 64 KiB for each at the peak.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [
    str(HERE),
    str(ROOT),
    str(ROOT / "tests"),
    str(ROOT / "tests" / "e2e"),
    str(ROOT / "tests" / "fuzz"),
]

from full_report import checked_out, tell
from wire_door import Door

REQUEST = b"GET /up/items/7 HTTP/1.1\r\nHost: localhost\r\nX-Mark: %b\r\n\r\n"
#: Below this a p99 says more of the machine's other users than of the crowd.
P99_FREE_MS = 20.0
P99_RATIO_MAX = 2.0
KIB_PER_CONNECTION_MAX = 64
SLOW_READERS, SLOW_REQUESTS = 20, 20
LEAVING_MAX_S = 10.0


@dataclass
class Pace:
    """How long crowds stand, and so many requests give a p99 that is more than one odd moment."""

    stands_s: float = 2.0
    header_wait_s: int = 4
    asked_min: int = 400
    judges_p99: bool = True


PACE = Pace()
#: For the slice in every test run: everything but the times, which a busy machine makes up.
BRIEF = Pace(stands_s=0.2, header_wait_s=1, asked_min=20, judges_p99=False)
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def bystander(port: int) -> AsyncIterator[dict[str, Any]]:
    """A well-behaved client while the block runs; what it noticed stands in the dict afterwards."""
    noticed: dict[str, Any] = {}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(HERE / "door_bystander.py"),
        str(port),
        str(PACE.asked_min),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield noticed
    finally:
        said, _ = await process.communicate(b"")
        noticed.update(json.loads(said))


async def connected(port: int, count: int) -> list[Streams]:
    """That many connections, made a few at a time."""
    made: list[Streams] = []
    for start in range(0, count, 100):
        some = (asyncio.open_connection("127.0.0.1", port) for _ in range(min(100, count - start)))
        made += await asyncio.gather(*some)
    return made


@asynccontextmanager
async def crowd_of(port: int, count: int) -> AsyncIterator[list[Streams]]:
    made = await connected(port, count)
    try:
        yield made
    finally:
        for _, writer in made:
            writer.transport.abort()


async def alone(port: int, _: int) -> dict[str, Any]:
    async with bystander(port) as noticed:
        await asyncio.sleep(PACE.stands_s)
    return noticed


async def idle(port: int, count: int) -> dict[str, Any]:
    async with crowd_of(port, count), bystander(port) as noticed:
        await asyncio.sleep(PACE.stands_s)
    return noticed


async def half_heads(port: int, count: int) -> dict[str, Any]:
    """How many were cut off by the deadline of a head."""
    cut = 0
    async with crowd_of(port, count) as made:
        # Before the bystander, whose start takes a while: who sends nothing is cut off unheard.
        for _, writer in made:
            writer.write(b"GET /up/items/7 HTTP/1.1\r\nHost: localh")
        async with bystander(port) as noticed:
            for reader, _ in made:
                with contextlib.suppress(TimeoutError, ConnectionError):
                    async with asyncio.timeout(PACE.header_wait_s * 3):
                        cut += b" 408 " in await reader.read(4096)
    wrong = [f"{count - cut} half heads stay"] if cut != count else []
    return {**noticed, "cut_off": cut, "wrong": wrong}


async def pipelined(port: int, count: int) -> dict[str, Any]:
    """How many answers came, in which order."""
    marks: list[int] = []
    async with crowd_of(port, 1) as made, bystander(port) as noticed:
        reader, writer = made[0]

        async def send() -> None:
            for number in range(2 * count):
                writer.write(REQUEST % b"%d" % number)
                if number % 100 == 0:
                    await writer.drain()

        sending = asyncio.ensure_future(send())
        async with asyncio.timeout(300):
            while len(marks) < 2 * count:
                line = await reader.readuntil(b"}")
                marks.append(int(line.partition(b'"mark": "')[2].partition(b'"')[0]))
        await sending
    wrong = [] if marks == list(range(2 * count)) else ["pipelined answers are out of order"]
    return {**noticed, "answered": len(marks), "wrong": wrong}


async def never_reading(port: int, _: int) -> dict[str, Any]:
    """Readers that ask and do not read, with as small a window as there is."""
    sockets = []
    async with bystander(port) as noticed:
        for _number in range(SLOW_READERS):
            one = socket.socket()
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            one.setblocking(False)
            await asyncio.get_running_loop().sock_connect(one, ("127.0.0.1", port))
            with contextlib.suppress(BlockingIOError):
                one.send((REQUEST % b"slow") * SLOW_REQUESTS)
            sockets.append(one)
        await asyncio.sleep(PACE.stands_s)
    for one in sockets:
        one.close()
    return {**noticed, "readers": SLOW_READERS}


async def over_the_cap(port: int, cap: int) -> dict[str, Any]:
    """Connections beyond the cap are told so; below it they are served again afterwards."""
    async with crowd_of(port, cap), crowd_of(port, 20) as more:
        told = 0
        for reader, _ in more:
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(3):
                    told += b" 503 " in await reader.read(4096)
    return {"told": told, "wrong": [f"only {told} of 20 were told"] if told < 20 else []}


CROWDS: dict[str, Callable[[int, int], Awaitable[dict[str, Any]]]] = {
    "alone": alone,
    "idle": idle,
    "half_heads": half_heads,
    "pipelined": pipelined,
    "never_reading": never_reading,
}


async def left_behind(door: Door) -> int:
    """How many connections the sidecar still counts once a crowd has had time to leave."""
    until = time.monotonic() + LEAVING_MAX_S
    while (left := door.sidecar.metrics()["aegis_connections"]) and time.monotonic() < until:
        await asyncio.sleep(0.05)
    return int(left)


async def run(door: Door, count: int, cap: int) -> tuple[dict[str, Any], list[str]]:
    port = door.sidecar.data_port
    told: dict[str, Any] = {}
    found: list[str] = []
    base_kib = door.resident_kib()
    for name, crowd in CROWDS.items():
        came = await crowd(port, count)
        # A crowd that is still leaving takes places of the next, which is then told 503.
        if left := await left_behind(door):
            found.append(f"{name}: {left} connections are left")
        found += [f"{name}: {what}" for what in came.pop("wrong", [])]
        told[name] = came
        p99, alone_ms = came["p99_ms"], told["alone"]["p99_ms"]
        if came["failed"]:
            found.append(f"{name}: {came['failed']} well-behaved requests were not answered 200")
        if PACE.judges_p99 and p99 > max(P99_FREE_MS, P99_RATIO_MAX * alone_ms):
            found.append(f"{name}: p99 {p99:.1f} ms, alone {alone_ms:.1f} ms")
    told["over_the_cap"] = came = await over_the_cap(port, cap)
    found += came.pop("wrong")
    if left := await left_behind(door):
        found.append(f"over_the_cap: {left} connections are left")
    grown_kib = door.resident_kib() - base_kib
    told["grown_kib"] = grown_kib
    if grown_kib > KIB_PER_CONNECTION_MAX * cap:
        found.append(f"memory grew by {grown_kib} KiB")
    return told, found


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=5000, help="connections")
    parser.add_argument("--brief", action="store_true", help="all but the times")
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    if options.brief:
        vars(PACE).update(vars(BRIEF))
    started = time.perf_counter()
    count, cap = options.size, options.size + 50
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * cap + 1000
    if hard < needed:
        parser.error(f"{needed} open files are needed, {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    limits = f"{{connections: {cap}, per_address: {cap}, header_wait: {PACE.header_wait_s}s}}"
    with tempfile.TemporaryDirectory(prefix="aegis-door-") as name:
        door = Door(Path(name)).start(f"limits: {limits}")
        try:
            told, found = asyncio.run(run(door, count, cap))
            if door.sidecar.stop() != 0 or "Traceback" in door.sidecar.log():
                found.append(f"the sidecar did not end well: {door.sidecar.log()[-1500:]}")
        finally:
            door.stop()
    report = {
        "commit": checked_out(),
        "size": count,
        "seconds": round(time.perf_counter() - started, 1),
        **told,
        "violations": len(found),
        "first_violations": found[:10],
    }
    return tell(report, options.results)


if __name__ == "__main__":
    sys.exit(main())
