"""Replies on their way: the first byte's delay, and what large, idle and broken-off ones cost.

Everything is measured on the sidecar's process as Linux accounts for it, and beside the same calls
made directly.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import targets
from proxies import fdatasync_p50_ms

MIB = 1 << 20
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
POLICIES = {
    "tools.yaml": "catalogue: up\ntools: {read: 'GET /{path...}', "
    "live: {route: GET /live, websocket: true}}\n",
    "rules.yaml": "policy: bench\nrules:\n  - {id: all, effect: allow, tools: up/*}\n",
}


@dataclass(frozen=True)
class Size:
    """How much is done."""

    firsts: int
    big_bytes: int
    idle: int
    aborted: int


SIZES = {
    "small": Size(60, 64 * MIB, 100, 300),
    "default": Size(1000, 1024 * MIB, 1000, 10_000),
    "large": Size(5000, 4096 * MIB, 2000, 50_000),
}


class Client:
    """One connection; `prefix` is the path of the tools behind it."""

    def __init__(self, port: int, prefix: str) -> None:
        self.port, self.prefix = port, prefix

    async def ask(self, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Sends a request on a connection of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.write(writer, path)
        return reader, writer

    def write(self, writer: asyncio.StreamWriter, path: str) -> None:
        head = f"GET {self.prefix}{path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
        writer.write(f"{head}{UPGRADE if path == '/live' else ''}\r\n".encode())

    async def first_bytes_ms(self, count: int) -> list[float]:
        """From the request to the first byte of the body, one after the other."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        took = []
        for _ in range(count):
            started = time.perf_counter()
            self.write(writer, "/first")
            head = await reader.readuntil(b"first")
            if b"HTTP/1.1 200 " not in head:  # what was left of the last reply stands before it
                raise RuntimeError(f"not what was asked for: {head!r}")
            took.append((time.perf_counter() - started) * 1000)
            await reader.readuntil(b"last")
        writer.close()
        return took


def _status(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {key} in the status of a process")


def _files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


async def _firsts(direct: Client, through: Client, size: Size, sync_ms: float) -> dict[str, Any]:
    for client in (direct, through):
        await client.first_bytes_ms(20)
    plain: list[float] = []
    own: list[float] = []
    for _ in range(5):
        plain += await direct.first_bytes_ms(size.firsts // 5)
        own += await through.first_bytes_ms(size.firsts // 5)
    added = median(own) - median(plain)
    return {
        "first_byte_direct_p50_ms": round(median(plain), 3),
        "first_byte_added_p50_ms": round(added, 3),
        "first_byte_added_beyond_fdatasync_p50_ms": round(added - sync_ms, 3),
    }


async def _big(through: Client, pid: int, size: Size) -> dict[str, Any]:
    await _drain(through, 8 * MIB)
    before = _status(pid, "VmRSS")
    _forget_peak(pid)
    started = time.perf_counter()
    got = await _drain(through, size.big_bytes)
    took_s = time.perf_counter() - started
    return {
        "download_mib": size.big_bytes // MIB,
        "download_is_whole": got == size.big_bytes,
        "download_mib_per_s": round(got / MIB / took_s),
        "download_grows_mib": round((_status(pid, "VmHWM") - before) / MIB, 2),
    }


async def _drain(client: Client, size: int) -> int:
    reader, writer = await client.ask(f"/big/{size}")
    await reader.readuntil(b"\r\n\r\n")
    got = 0
    while got < size and (piece := await reader.read(1 << 18)):
        got += len(piece)
    writer.close()
    return got


async def _idle(through: Client, pid: int, size: Size) -> dict[str, Any]:
    before = _status(pid, "VmRSS")
    streams = []
    for _ in range(size.idle):
        reader, writer = await through.ask("/events")
        await reader.readuntil(b"hello")
        streams.append(writer)
    grown = _status(pid, "VmRSS") - before
    for writer in streams:
        writer.close()
    return {"idle_streams": size.idle, "idle_streams_mib": round(grown / MIB, 1)}


async def _aborted(
    through: Client, pid: int, size: Size, paths: list[str], name: str
) -> dict[str, Any]:
    """Calls and connections that nobody waits for: what is left of them when all have gone."""

    async def leave(path: str) -> None:
        reader, writer = await through.ask(path)
        if path != "/slow":
            await reader.readuntil(b"hello")
        writer.transport.abort()

    async def many(count: int) -> None:
        for start in range(0, count, 20):
            some = [paths[n % len(paths)] for n in range(start, min(start + 20, count))]
            await asyncio.gather(*map(leave, some))
        await asyncio.sleep(1.5)

    await many(max(200, size.aborted // 10))
    rss, files = _status(pid, "VmRSS"), _files(pid)
    await many(size.aborted)
    return {
        name: size.aborted,
        f"{name}_grow_mib": round((_status(pid, "VmRSS") - rss) / MIB, 2),
        f"{name}_leave_files": _files(pid) - files,
    }


async def _measure(
    port: int, sidecar: targets.Target, size: Size, sync_ms: float
) -> dict[str, Any]:
    direct = Client(port, "")
    through = Client(int(sidecar.url.rpartition(":")[2]), "/up")
    pid = sidecar.process.pid
    figures = await _firsts(direct, through, size, sync_ms)
    figures |= await _big(through, pid, size)
    figures |= await _idle(through, pid, size)
    figures |= await _aborted(through, pid, size, ["/events", "/slow"], "aborted")
    return figures | await _aborted(through, pid, size, ["/live"], "websockets")


def run(size: Size) -> dict[str, Any]:
    """Starts an upstream and a sidecar, measures, stops both."""
    load_core, proxy_core = targets.cores()
    with tempfile.TemporaryDirectory(prefix="aegis-streams-") as name:
        folder = Path(name)
        sync_ms = fdatasync_p50_ms(folder)
        upstream = subprocess.Popen(
            ["taskset", "-c", load_core, sys.executable,
             str(targets.HERE / "stream_upstream.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        sidecar = None
        try:
            assert upstream.stdout is not None
            port = int(upstream.stdout.readline())
            sidecar = targets.start_with_policies(
                folder, proxy_core, f"  up: {{url: 'http://127.0.0.1:{port}', "
                "limits: {calls: 4096}}", POLICIES,
            )  # fmt: skip
            with targets.load_on(load_core):
                return asyncio.run(_measure(port, sidecar, size, sync_ms))
        finally:
            if sidecar is not None:
                sidecar.stop()
            upstream.kill()
            upstream.wait()
