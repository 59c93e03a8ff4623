"""The upstream of the soak run: answers at once, or in a stream of events, and counts both."""

from __future__ import annotations

import asyncio

from aiohttp import web

EVENTS = 20
EVENT_S = 0.05


class CountingUpstream:
    """`do` and `streams` count the calls that arrived."""

    def __init__(self) -> None:
        self.do = 0
        self.streams = 0
        self.port = 0
        self._runner: web.ServerRunner | None = None

    async def start(self) -> None:
        self._runner = web.ServerRunner(
            web.Server(self._serve, access_log=None, handler_cancellation=True)
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path != "/stream":
            await request.read()
            self.do += 1
            return web.json_response({"done": True})
        self.streams += 1
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number in range(EVENTS):
            await response.write(b"data: %d %s\n\n" % (number, b"x" * 500))
            await asyncio.sleep(EVENT_S)
        return response
