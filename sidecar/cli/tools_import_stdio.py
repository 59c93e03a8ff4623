"""Asks a local MCP server for its tools, over its standard input and output.

Knows: that it answers under our ids, one line each, and may say other things in between; that a
server of an earlier revision may never answer a question it does not know. Everything is bounded.
Must not know: YAML, catalogues, where the result goes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from subprocess import Popen
from typing import Any, Final

import orjson

from sidecar.cli.tools_import import (
    DEADLINE_S,
    ImportFailed,
    Listing,
    NotSpoken,
    error_text,
    list_from,
    read_message,
)
from sidecar.proxy.stdio.child import Child, ChildGone
from sidecar.proxy.stdio.message import id_key, read_said

#: How long a server may think about a question that its revision may not know.
PROBE_S: Final = 5.0
#: For the server to end: after its input did, and after SIGTERM.
END_S: Final = 2.0

_PROBE: Final = "server/discover"


def run_list_tools(process: Popen[bytes], name: str) -> Listing:
    """All tools of the server that `process` is, which is ended. Raises ImportFailed."""
    return asyncio.run(_list(process, name))


async def _list(process: Popen[bytes], name: str) -> Listing:
    child = Child(process)
    await child.open()
    try:
        async with asyncio.timeout(DEADLINE_S):
            return await list_from(_LocalServer(child, name))
    except TimeoutError:
        raise ImportFailed(f"{name} did not answer within {DEADLINE_S:g} s") from None
    except ChildGone:
        raise ImportFailed(f"{name} ended before it answered") from None
    finally:
        child.close_input()
        await child.ended_within(END_S)
        await child.end(END_S)


class _LocalServer:
    """A server that is asked one question at a time."""

    def __init__(self, child: Child, name: str) -> None:
        self.url = name
        self.headers: dict[str, str] = {}
        self._child = child
        self._lines: AsyncIterator[bytes | None] = child.lines()
        self._next_id = 1

    async def request(
        self, method: str, params: dict[str, Any], headers: Mapping[str, str]
    ) -> dict[str, Any]:
        """The result of one request; raises NotSpoken for an error, or silence to a probe."""
        reply_id, self._next_id = self._next_id, self._next_id + 1
        await self._say({"jsonrpc": "2.0", "id": reply_id, "method": method, "params": params})
        try:
            async with asyncio.timeout(PROBE_S if method == _PROBE else None):
                answer = await self._answer(reply_id)
        except TimeoutError:
            if method != _PROBE:
                raise
            self._lines = self._child.lines()  # the one that was broken off is at its end
            raise NotSpoken(f"{method}: no answer") from None
        if "error" in answer:
            raise NotSpoken(f"{method}: {error_text(answer['error'])}")
        result = answer.get("result")
        if not isinstance(result, dict):
            raise ImportFailed(f"{self.url} answered {method} without a result")
        return result

    async def notify(self, method: str, headers: Mapping[str, str]) -> None:
        """Says what needs no answer."""
        await self._say({"jsonrpc": "2.0", "method": method})

    async def end_session(self, headers: Mapping[str, str]) -> None:
        """There is none: the server ends with its input."""

    async def _say(self, message: dict[str, Any]) -> None:
        await self._child.tell(orjson.dumps(message))

    async def _answer(self, reply_id: int) -> dict[str, Any]:
        async for line in self._lines:
            said = read_said(line) if line is not None else None
            if said is not None and said.answers == id_key(reply_id):
                try:
                    answer: dict[str, Any] = read_message(said.line)
                except orjson.JSONDecodeError as error:
                    raise ImportFailed(f"{self.url} answered no JSON: {error}") from None
                return answer
        raise ChildGone
