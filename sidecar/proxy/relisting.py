"""The list of tools that a server owes, asked for by the sidecar itself (MCP over HTTP).

Knows: that most clients list again when a server announces that its tools changed, and others never
do: before a pinned tool is called then, the whole list is asked for in the caller's own session and
compared, once for all who wait for it. What does not come, in time and whole, leaves it owed.
Must not know: what is compared and hidden how, sockets, who is refused what.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import orjson

from sidecar.clock import Clock
from sidecar.config.model import STDIO, Upstream
from sidecar.errors import Refused
from sidecar.ledger.pin_announcements import PAGES_MAX, Announcements
from sidecar.model import Principal, ToolCall
from sidecar.proxy.dialects.mcp_beside import headers_beside, speaks_stateless
from sidecar.proxy.dialects.mcp_methods import TOOLS_LIST
from sidecar.proxy.events import Event, EventCutter
from sidecar.proxy.list_message import is_same_id, listed_in, unchecked
from sidecar.proxy.reply_media import exact_media
from sidecar.proxy.server_requests import ServerRequests, Within, read_aside
from sidecar.proxy.tool_lists import LIST_BYTES_MAX, ToolLists
from sidecar.proxy.upstream import Reply, UpstreamLeg

_log = logging.getLogger("aegis.lists")

_META: Final = "_meta"
_OF_ONE_REQUEST: Final = "progressToken"


class Relisting:
    """One for a sidecar; it keeps nothing but whose turn it is."""

    def __init__(
        self,
        leg: UpstreamLeg,
        lists: ToolLists,
        requests: ServerRequests,
        announced: Announcements,
        clock: Clock,
    ) -> None:
        self._leg = leg
        self._lists = lists
        self._requests = requests
        self._owed = announced.open
        self._clock = clock
        self._turns: dict[tuple[str, str], asyncio.Lock] = {}
        #: How many tries have ended.
        self._tries: dict[tuple[str, str], int] = {}

    async def is_compared(self, upstream: Upstream, principal: Principal, call: ToolCall) -> bool:
        """Whether the list is owed no more, which it may have been just now. Over a pipe nobody but
        the agent asks. Who waited for another one's try makes none of its own."""
        if upstream.url == STDIO:
            return False
        place = (principal.tenant, upstream.name)
        tries = self._tries.get(place, 0)
        async with self._turns.setdefault(place, asyncio.Lock()):
            if place in self._owed and self._tries.get(place, 0) == tries:
                try:
                    async with asyncio.timeout(upstream.timeouts.response_s):
                        await self._ask(upstream, principal, call)
                except (Refused, TimeoutError) as error:
                    _tell(upstream, call, error)
                finally:
                    self._tries[place] = tries + 1
            return place not in self._owed

    async def _ask(self, upstream: Upstream, principal: Principal, call: ToolCall) -> None:
        """All pages; raises Refused."""
        cursor: str | None = None
        for _ in range(PAGES_MAX):
            cursor = await self._page(upstream, principal, call, cursor)
            if not cursor:
                return
        raise unchecked(f"it has more than {PAGES_MAX} pages")

    async def _page(
        self, upstream: Upstream, principal: Principal, call: ToolCall, cursor: str | None
    ) -> str | None:
        """Compares one page, and gives the cursor of the next one; raises Refused."""
        reply_id = f"aegis-{self._clock.new_id()}"
        params = _params(call, cursor)
        said = {"jsonrpc": "2.0", "id": reply_id, "method": TOOLS_LIST, "params": params}
        asking = call._replace(
            action=TOOLS_LIST, args=params, body=orjson.dumps(said), reply_id=reply_id, called=None
        )
        named = [("Mcp-Method", TOOLS_LIST)] if speaks_stateless(call) else []
        headers = headers_beside(call, *named)
        asked_ns = self._clock.monotonic_ns()
        reply = await self._leg.send(upstream, "POST", "", headers, asking.body)
        try:
            if reply.status != 200:
                raise unchecked(f"the server answered with status {reply.status}")
            shown = await self._lists.shown(reply, principal, asking, asked_ns)
            result = await self._listed(shown, Within(upstream, principal, call), reply_id)
        finally:
            reply.close()
        following = result.get("nextCursor")
        return following if isinstance(following, str) else None

    async def _listed(self, reply: Reply, within: Within, reply_id: str) -> dict[str, Any]:
        """What answers our request; raises Refused. Nobody is given what else is said with it, but
        another announcement is one."""
        if exact_media(reply.headers) == "application/json":
            return _result(b"".join([piece async for piece in reply.chunks]), reply_id)
        cutter, size = EventCutter(LIST_BYTES_MAX), 0
        async for piece in reply.chunks:
            size += len(piece)
            if size > LIST_BYTES_MAX:
                break
            for one in cutter.feed(piece):
                if not isinstance(one, Event) or not one.data.strip():
                    continue
                said = await read_aside(one.data, self._requests.values_max)
                self._requests.heard(within, said)
                if said.answers == reply_id:
                    return _result(one.data, reply_id)
        raise unchecked("the stream holds none")


def _params(call: ToolCall, cursor: str | None) -> dict[str, Any]:
    """Who speaks which revision stands in the params of a stateless one."""
    params: dict[str, Any] = {}
    try:
        meta = orjson.loads(call.body)["params"].get(_META)
    except orjson.JSONDecodeError as error:  # less than what the call was read with
        raise unchecked("the call cannot be repeated in part", repr(error)) from error
    if isinstance(meta, dict):
        params[_META] = {name: said for name, said in meta.items() if name != _OF_ONE_REQUEST}
    if cursor:
        params["cursor"] = cursor
    return params


def _result(data: bytes, reply_id: str) -> dict[str, Any]:
    try:
        message = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise unchecked("it is no JSON", repr(error)) from error
    result = listed_in(message)
    if result is None or not is_same_id(message.get("id"), reply_id):
        raise unchecked("the server answered with something else")
    return result


def _tell(upstream: Upstream, call: ToolCall, error: Refused | TimeoutError) -> None:
    reason, cause = "it did not come in time", ""
    if isinstance(error, Refused):
        reason, cause = error.reason, error.detail
    _log.warning(
        "the list of an MCP server that announced other tools could not be compared",
        extra={
            "upstream": upstream.name, "call_id": call.call_id, "reason": reason, "cause": cause,
        },
    )  # fmt: skip
