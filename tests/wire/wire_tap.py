"""Upstreams of the wire run: each byte the sidecar sends goes to every parser, over one connection
of its own for each connection of the sidecar's, so that what is left over or missing shows too.

Knows: how answers are counted, how long a parser may take, when a parser refused.
Must not know: what parsers read, whether that is right.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from fuzz_reader import Message, Unclear, Unfinished, read_one
from fuzz_upstream import HEAD_BYTES_MAX, Arrival, answer_to
from wire_parsers import Parser

#: A parser that has not answered by then waits for more: it does not see the request's end.
PARSER_WAIT_S = 5.0
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


class Mirror:
    """One connection to one parser; `statuses` are those of its answers so far."""

    def __init__(self, parser: Parser) -> None:
        self.parser = parser
        self.port = 0
        self.statuses: list[int] = []
        self._data = b""
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self.is_closed = False

    async def open(self) -> None:
        reader, self._writer = await asyncio.open_connection("127.0.0.1", self.parser.port)
        self.port = self._writer.get_extra_info("sockname")[1]
        # Ports come again; what stands there is of a connection that has ended long ago.
        self.parser.readings.pop(self.port, None)
        self._task = asyncio.ensure_future(self._listen(reader))

    def write(self, data: bytes) -> None:
        if self._writer is not None and not self.is_closed:
            self._writer.write(data)

    async def answered(self, count: int) -> bool:
        """Waits for `count` answers; whether they came."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PARSER_WAIT_S):
                while len(self.statuses) < count and not self.is_closed:
                    self._changed.clear()
                    await self._changed.wait()
        return len(self.statuses) >= count

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while piece := await reader.read(1 << 18):
                self._data += piece
                while self._take_one():
                    pass
                self._changed.set()
        except ConnectionError:
            pass
        self.is_closed = True
        self._changed.set()

    def _take_one(self) -> bool:
        head, separator, rest = self._data.partition(b"\r\n\r\n")
        if not separator:
            return False
        length = _LENGTH.search(head)
        # Only a refusal has a body, and after a refusal nothing else is read.
        self._data = rest if length is None or length[1] == b"0" else b""
        self.parser.take_answer(self.port, head)
        self.statuses.append(int(head[9:12]))
        return True


@dataclass
class Visit:
    """A request as it arrived, and where each parser's reading of it is to be found."""

    arrival: Arrival
    place: int
    ports: dict[str, int] = field(default_factory=dict)
    refused_by: set[str] = field(default_factory=set)


class Tap:
    """One upstream: answers 200 itself once every parser has answered what it read."""

    def __init__(
        self,
        name: str,
        parsers: Sequence[Parser],
        arrivals: list[Arrival],
        violations: list[str],
    ) -> None:
        self.name, self.port = name, 0
        self.visits: list[Visit] = []
        self.refusals: Counter[str] = Counter()
        self._parsers, self._arrivals, self._violations = parsers, arrivals, violations
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mirrors = [Mirror(parser) for parser in self._parsers]
        count = 0
        try:
            await asyncio.gather(*(mirror.open() for mirror in mirrors))
            data = b""
            while piece := await reader.read(1 << 18):
                for mirror in mirrors:
                    mirror.write(piece)
                data += piece
                try:
                    message, data = read_one(data)
                except Unfinished:
                    if len(data) > HEAD_BYTES_MAX:
                        self._violations.append(f"{self.name}: an endless request")
                        return
                    continue
                except Unclear as error:
                    self._violations.append(f"{self.name} got an unclear {error}: {data[:300]!r}")
                    return
                is_last = await self._take(message, mirrors, count)
                count += 1
                if data:
                    self._violations.append(f"{self.name} got bytes behind one: {data[:300]!r}")
                    return
                writer.write(_last(answer_to(message)) if is_last else answer_to(message))
                await writer.drain()
                if is_last:
                    return
        except (ConnectionError, asyncio.CancelledError):
            return  # the sidecar hung up, or the run is over
        finally:
            for mirror in mirrors:
                if len(mirror.statuses) > count:
                    self._violations.append(
                        f"{mirror.parser.name} read {len(mirror.statuses)} requests for {count}"
                    )
                await mirror.close()
            writer.close()

    async def _take(self, message: Message, mirrors: list[Mirror], place: int) -> bool:
        """Keeps the request with its readings; whether it was the connection's last."""
        visit = Visit(Arrival(self.name, message), place)
        answered = await asyncio.gather(*(mirror.answered(place + 1) for mirror in mirrors))
        for mirror, has_answered in zip(mirrors, answered, strict=True):
            name = mirror.parser.name
            visit.ports[name] = mirror.port
            if has_answered and mirror.statuses[place] != 200:
                visit.refused_by.add(name)
                self.refusals[f"{name} {mirror.statuses[place]}"] += 1
            elif not has_answered:
                visit.refused_by.add(name)
                self._violations.append(
                    f"{name} sees no end, or hung up: {message.method} {message.target} "
                    f"{message.headers!r:.800} {message.body[:300]!r}"
                )
        self._arrivals.append(visit.arrival)
        self.visits.append(visit)
        return bool(visit.refused_by)


def _last(answer: bytes) -> bytes:
    return answer.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
