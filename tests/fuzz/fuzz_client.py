"""One connection of the fuzz run: sends bytes, reads what comes back, never waits for ever.

Knows: how a response is framed, when an exchange is over.
Must not know: what the bytes mean, what an answer should say.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass, field

from fuzz_reader import read_all

HANG_S = 10.0
QUIET_S = 0.05
STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2})(?: [ -~]*)?")


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Shot:
    """What is sent: `pieces` are written one by one; with `leaves` the client is gone at once."""

    pieces: list[bytes]
    leaves: bool = False
    label: str = ""

    @property
    def raw(self) -> bytes:
        return b"".join(self.pieces)


@dataclass
class Heard:
    """What came back. `is_broken`: bytes that are no response."""

    answers: list[Answer] = field(default_factory=list)
    hung: bool = False
    closed: bool = False
    is_broken: bool = False
    raw: bytes = b""


async def exchange(port: int, shot: Shot) -> Heard:
    """Sends one shot on a connection of its own; raises OSError if there is no connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    heard = Heard()
    try:
        for piece in shot.pieces:
            writer.write(piece)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            if len(shot.pieces) > 1:
                await asyncio.sleep(0.002)
        if not shot.leaves:
            await _listen(reader, shot.raw, heard)
    finally:
        writer.close()
    return heard


async def _listen(reader: asyncio.StreamReader, sent: bytes, heard: Heard) -> None:
    messages, end = read_all(sent)
    heads = [message.method == "HEAD" for message in messages]
    heads += [sent.startswith(b"HEAD ")] if not heads else [False]
    expected = len(messages) if end == "" else None
    until = asyncio.get_running_loop().time() + HANG_S
    while True:
        _parse(heard, heads)
        if heard.is_broken or (expected is not None and len(heard.answers) >= expected):
            return
        left = until - asyncio.get_running_loop().time()
        may_end = bool(heard.answers) and expected is None
        try:
            piece = await asyncio.wait_for(reader.read(1 << 16), QUIET_S if may_end else left)
        except TimeoutError:
            heard.hung = not may_end
            return
        except ConnectionError:
            piece = b""
        if not piece:
            heard.closed = True
            _parse(heard, heads)
            return
        heard.raw += piece


def _parse(heard: Heard, heads: list[bool]) -> None:
    """Reads `heard.raw` anew: answers are few and short."""
    heard.answers = []
    data = heard.raw
    while data:
        head, separator, rest = data.partition(b"\r\n\r\n")
        if not separator:
            return
        lines = head.split(b"\r\n")
        match = STATUS_LINE.fullmatch(lines[0])
        if match is None:
            heard.is_broken = True
            return
        status = int(match.group(1))
        headers = {}
        for line in lines[1:]:
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        if status < 200:
            data = rest
            continue
        is_head = heads[min(len(heard.answers), len(heads) - 1)]
        size = 0 if is_head or status in (204, 304) else int(headers.get("content-length", "0"))
        if len(rest) < size:
            return
        heard.answers.append(Answer(status, headers, rest[:size]))
        data = rest[size:]
