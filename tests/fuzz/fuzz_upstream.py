"""The upstreams of the fuzz run: raw sockets, one strict reader, a list of all that arrived.

It lives in the harness, so what it has received is known for certain, byte for byte.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from fuzz_reader import Message, Unclear, Unfinished, read_one

#: Stands in every answer of an upstream, and in nothing the sidecar says itself.
MAGIC = "said-by-the-upstream"
HEAD_BYTES_MAX = 1 << 21


@dataclass
class Arrival:
    """One request as an upstream received it."""

    upstream: str
    message: Message

    @property
    def mark(self) -> str | None:
        return self.message.header("x-mark")


class RecordingUpstream:
    """Answers 200 to everything; `violations` tells what no upstream should ever receive."""

    def __init__(self, name: str, arrivals: list[Arrival], violations: list[str]) -> None:
        self.name, self.arrivals, self.violations = name, arrivals, violations
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = b""
        try:
            while piece := await reader.read(1 << 16):
                data += piece
                try:
                    message, data = read_one(data)
                except Unfinished:
                    if len(data) > HEAD_BYTES_MAX:
                        self.violations.append(f"{self.name}: an endless request")
                        return
                    continue
                except Unclear as error:
                    self.violations.append(f"{self.name} got an unclear {error}: {data[:300]!r}")
                    return
                self.arrivals.append(Arrival(self.name, message))
                if data:
                    self.violations.append(
                        f"{self.name} got bytes behind a request: {data[:300]!r}"
                    )
                    return
                writer.write(answer_to(message))
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            return  # the sidecar hung up, or the run is over
        finally:
            writer.close()


def answer_to(message: Message) -> bytes:
    """What every upstream of a run says: 200, with the mark it got."""
    body = json.dumps({"magic": MAGIC, "mark": message.header("x-mark")}).encode()
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    return head if message.method == "HEAD" else head + body
