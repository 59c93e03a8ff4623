"""The upstream of the fault runs: answers at once and keeps, in order, every mark it was sent.

It lives in the harness, which is never killed; so what it has seen is known for certain.
"""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web


class MarkingUpstream:
    """`seen` holds the `mark` argument of every call that arrived."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.port = 0
        self._runner: web.ServerRunner | None = None

    async def start(self) -> None:
        self._runner = web.ServerRunner(web.Server(self._serve))
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    def take(self, beginning: str) -> set[str]:
        """The marks that begin so, which are forgotten."""
        taken = {mark for mark in self.seen if mark.startswith(beginning)}
        self.seen -= taken
        return taken

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _serve(self, request: web.BaseRequest) -> web.Response:
        body: dict[str, Any] = json.loads(await request.read())
        self.seen.add(body["mark"])
        return web.json_response({"done": body["mark"]})
