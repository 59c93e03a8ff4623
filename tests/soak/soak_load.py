"""The clients of the soak run: plain and refused calls, streams, and callers that leave.

Knows: how each kind calls, at which share of the rate, and what it was answered.
Must not know: receipts, what the process uses.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp
from running import Process
from soak_upstream import EVENTS


@dataclass
class Answers:
    """What clients saw, by call id."""

    forwarded: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    left: int = 0
    unexpected: list[str] = field(default_factory=list)


class Load:
    """The clients; each kind runs at its share of the rate until `stop` is set."""

    def __init__(self, sidecar: Process, rate: float, chance: random.Random) -> None:
        self.url, self.port = sidecar.url, sidecar.data_port
        self.rate, self.chance = rate, chance
        self.answers = Answers()
        self.stop = asyncio.Event()

    async def run(self) -> None:
        connector = aiohttp.TCPConnector(limit=100)
        async with aiohttp.ClientSession(connector=connector) as session:
            kinds: list[tuple[float, Callable[[aiohttp.ClientSession], Awaitable[None]]]] = [
                (0.70, self._do),
                (0.15, self._never),
                (0.05, self._stream),
                (0.05, self._leave_stream),
                (0.05, self._leave_body),
            ]
            await asyncio.gather(
                *(self._steadily(session, share * self.rate, call) for share, call in kinds)
            )

    async def _steadily(
        self,
        session: aiohttp.ClientSession,
        rate: float,
        call: Callable[[aiohttp.ClientSession], Awaitable[None]],
    ) -> None:
        """Starts calls at `rate` a second; never more than a second's worth and a bit at once."""
        places = asyncio.Semaphore(int(rate * 2) + 2)
        running: set[asyncio.Future[None]] = set()

        def ended(task: asyncio.Future[None]) -> None:
            running.discard(task)
            places.release()
            if not task.cancelled() and task.exception() is not None:
                self.answers.unexpected.append(repr(task.exception()))

        while not self.stop.is_set():
            await places.acquire()
            task = asyncio.ensure_future(call(session))
            running.add(task)
            task.add_done_callback(ended)
            await asyncio.sleep(self.chance.uniform(0, 2 / rate))
        if running:
            await asyncio.wait(running)

    async def _do(self, session: aiohttp.ClientSession) -> None:
        body = {"size": 1, "text": "x" * self.chance.choice((10, 200, 3000))}
        async with session.post(f"{self.url}/up/do", json=body) as reply:
            await reply.read()
            self._note(reply, 200, self.answers.forwarded)

    async def _never(self, session: aiohttp.ClientSession) -> None:
        async with session.post(f"{self.url}/up/never", json={"size": 1}) as reply:
            await reply.read()
            self._note(reply, 403, self.answers.refused)

    async def _stream(self, session: aiohttp.ClientSession) -> None:
        async with session.get(f"{self.url}/up/stream") as reply:
            text = await reply.read()
            self._note(reply, 200, self.answers.forwarded)
            if text.count(b"data: ") != EVENTS:
                self.answers.unexpected.append(f"a stream of {text.count(b'data: ')} events")

    async def _leave_stream(self, session: aiohttp.ClientSession) -> None:
        async with session.get(f"{self.url}/up/stream") as reply:
            await reply.content.readany()
            self._note(reply, 200, self.answers.forwarded)
            await asyncio.sleep(self.chance.uniform(0, 0.5))
            reply.close()
        self.answers.left += 1

    async def _leave_body(self, _: aiohttp.ClientSession) -> None:
        _reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(
            b"POST /up/do HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b'Content-Length: 500\r\n\r\n{"size": 1'
        )
        await writer.drain()
        await asyncio.sleep(self.chance.uniform(0, 0.2))
        writer.close()
        self.answers.left += 1

    def _note(self, reply: aiohttp.ClientResponse, status: int, ids: set[str]) -> None:
        if reply.status == status:
            ids.add(reply.headers["Aegis-Call-Id"])
        else:
            self.answers.unexpected.append(f"status {reply.status} instead of {status}")
