"""The cases of tests/cases/wire/door.json over raw sockets, against one real sidecar.

Knows: how a case is sent, what must hold of each: its status, its closed connection, what arrives
at the upstream, and that nothing else does.
Must not know: why a case is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzz_check import CATALOGUES, INNER
from fuzz_upstream import Arrival, RecordingUpstream
from running import Process

CASES = Path(__file__).resolve().parents[1] / "cases" / "wire" / "door.json"
#: Nothing may take longer: the deadlines of the run are half a second.
ANSWER_S = 6.0
CLOSE_S = 3.0
IN_FLIGHT = 12
LIMITS = "limits: {header_wait: 500ms, body_wait: 500ms}"
#: An upstream that is open to what is refused elsewhere: compressed bodies, WebSockets.
OPEN = {
    "open.yaml": (
        "catalogue: open\ntools:\n  write: {route: POST /items, args: {mark: string, size: int}}\n"
        "  live: {route: GET /live, websocket: true}\n"
    ),
    "open-policy.yaml": (
        "policy: open\nrules:\n  - {id: open, effect: allow, tools: open/live}\n"
        "  - {id: small, effect: allow, tools: open/write, when: args.size <= 100}\n"
    ),
}
_STATUS = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9])[ \r]")


@dataclass(frozen=True)
class DoorCase:
    """One request and what must come of it."""

    case: str
    name: str
    data: bytes
    statuses: tuple[int, ...]
    closes: bool
    arrives: dict[str, Any] | None
    more: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.case} {self.name}"


@dataclass
class Heard:
    """What came back: the final status and its whole answer, interim answers apart."""

    status: int | None = None
    interim: list[int] = field(default_factory=list)
    raw: bytes = b""
    is_closed: bool = False


def door_cases(case: str) -> list[DoorCase]:
    """All cases of one id, in their order."""
    document = json.loads(CASES.read_text())
    return [_door_case(one) for one in document["cases"] if one["case"] == case]


def _door_case(one: dict[str, Any]) -> DoorCase:
    send, status = one["send"], one["status"]
    pieces = [[send, 1]] if isinstance(send, str) else send
    return DoorCase(
        one["case"],
        one["name"],
        b"".join(text.encode("latin-1") * times for text, times in pieces),
        tuple(status) if isinstance(status, list) else (status,),
        one.get("closes", False),
        one.get("arrives"),
        one,
    )


class Door:
    """A sidecar and its two upstreams, which keep what arrives."""

    def __init__(self, folder: Path) -> None:
        self.arrivals: list[Arrival] = []
        self.violations: list[str] = []
        self.sidecar = Process(folder, is_warm=False)
        self._upstreams = [
            RecordingUpstream(name, self.arrivals, self.violations)
            for name in ("up", "tools", "open")
        ]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self, limits: str = LIMITS) -> Door:
        self._thread.start()
        for upstream in self._upstreams:
            asyncio.run_coroutine_threadsafe(upstream.start(), self._loop).result(10)
        ports = [upstream.port for upstream in self._upstreams]
        self.sidecar.write(
            f"  up: {{url: 'http://127.0.0.1:{ports[0]}'}}\n"
            f"  tools: {{url: 'http://127.0.0.1:{ports[1]}/mcp', kind: mcp}}\n"
            f"  open: {{url: 'http://127.0.0.1:{ports[2]}', decode: [gzip, deflate]}}",
            CATALOGUES | OPEN,
            limits,
        )
        self.sidecar.start()
        return self

    def stop(self) -> None:
        self.sidecar.kill()
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        for upstream in self._upstreams:
            await upstream.stop()
        serving = asyncio.all_tasks() - {asyncio.current_task()}
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.sidecar.data_port), ANSWER_S)

    def resident_kib(self) -> int:
        """Peak memory of the sidecar's process."""
        assert self.sidecar.process is not None
        status = Path(f"/proc/{self.sidecar.process.pid}/status").read_text()
        match = re.search(r"VmHWM:\s+([0-9]+) kB", status)
        assert match is not None
        return int(match.group(1))

    def hear(self, case: DoorCase) -> Heard:
        """Sends one case and reads its answer, and its close if there must be one."""
        with self.connect() as connection:
            _send(connection, case.data)
            if case.more.get("leaves"):
                connection.shutdown(socket.SHUT_WR)
            heard = read_answer(connection, str(case.more.get("then", "")).encode("latin-1"))
            if case.closes and not heard.is_closed:
                heard.is_closed = is_closed(connection)
        return heard

    def problems_of(self, case: str) -> list[str]:
        """Everything that is not as the cases of one id say. Those that let nothing through are
        sent side by side, since some of them wait for a deadline."""
        cases = door_cases(case)
        assert cases, f"no case of {case}"
        refused = [one for one in cases if one.arrives is None]
        self.arrivals.clear()
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            found = [p for problems in pool.map(self.problems, refused) for p in problems]
        for one in cases:
            if one.arrives is not None:
                self.arrivals.clear()
                found += self.problems(one)
        return found

    def problems(self, case: DoorCase) -> list[str]:
        """Everything that is not as one case says."""
        heard = self.hear(case)
        found = []
        if heard.status not in case.statuses:
            found.append(f"status {heard.status} is not in {case.statuses}: {heard.raw[:300]!r}")
        if case.closes and not heard.is_closed:
            found.append("the connection stays open")
        if INNER.search(heard.raw):
            found.append(f"inner words: {heard.raw[:600]!r}")
        if "interim" in case.more and (100 in heard.interim) is not case.more["interim"]:
            found.append(f"interim answers {heard.interim}")
        says = case.more.get("says", [])
        if says and not any(word.encode() in heard.raw for word in says):
            found.append(f"says none of {says}: {heard.raw[:600]!r}")
        found += self._arrived_wrong(case, heard)
        found += self.violations
        self.violations.clear()
        return [f"{case}: {what}" for what in found]

    def _arrived_wrong(self, case: DoorCase, heard: Heard) -> Iterator[str]:
        if case.arrives is None or heard.status != 200:
            for arrival in self.arrivals:
                yield f"arrived: {arrival.message.method} {arrival.message.target}"
            return
        if len(self.arrivals) != 1:
            yield f"{len(self.arrivals)} requests arrived"
            return
        message = self.arrivals[0].message
        if message.target != case.arrives["target"]:
            yield f"arrived with target {message.target}"
        if message.body != case.arrives.get("body", "").encode("latin-1"):
            yield f"arrived with body {message.body!r}"
        for name in case.arrives.get("without", []):
            if message.count(name):
                yield f"arrived with {name}"
        if message.trailers:
            yield f"arrived with trailers {message.trailers}"


def _send(connection: socket.socket, data: bytes) -> None:
    with contextlib.suppress(ConnectionError):  # who is refused early may be cut off
        connection.sendall(data)


def read_answer(connection: socket.socket, then: bytes = b"") -> Heard:
    """The answer on a connection; `then` is sent after the first interim answer."""
    heard, data = Heard(), b""
    until = time.monotonic() + ANSWER_S
    while heard.status is None and time.monotonic() < until:
        connection.settimeout(max(0.01, until - time.monotonic()))
        try:
            piece = connection.recv(1 << 16)
        except TimeoutError:
            break
        except ConnectionError:
            piece = b""
        if not piece:
            heard.is_closed = True
            break
        data += piece
        heard.raw += piece
        data = _take(data, heard)
        if heard.interim and then:
            _send(connection, then)
            then = b""
    return heard


def _take(data: bytes, heard: Heard) -> bytes:
    """Reads whole answers off `data`; the rest is kept for later."""
    while True:
        head, separator, rest = data.partition(b"\r\n\r\n")
        if not separator:
            return data
        match = _STATUS.match(head)
        assert match is not None, f"no HTTP: {data[:200]!r}"
        status = int(match.group(1))
        if status < 200:
            heard.interim.append(status)
            data = rest
            continue
        length = re.search(rb"\r\ncontent-length: *([0-9]+)", head, re.IGNORECASE)
        if length is not None and len(rest) < int(length.group(1)):
            return data
        heard.status = status
        return rest


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side ends the connection now."""
    connection.settimeout(CLOSE_S)
    try:
        while connection.recv(1 << 16):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True
