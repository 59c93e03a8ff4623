"""What an MCP server says of its tools, on its way to a caller: compared, filtered, in order.

Knows: where a list of tools can stand in an answer (the whole body, an event of a stream, an answer
that is repeated on a session's stream), that a caller is shown only tools that a call of his might
reach and that are what they were pinned to, and in the order of the server, so that a list reads as
it does without a sidecar. Of a tool whose answers might be masked no `outputSchema` is told: by one
clients throw away what fits it no more. What cannot be read is kept back, and if that is one tool
it alone; what was not changed passes byte for byte. Under `observe` nothing that can be read is
kept back.
Must not know: how rules are judged, how pins are kept, sockets.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from operator import is_not
from typing import Any, Final, NamedTuple, Protocol

import orjson

from sidecar.errors import Refused
from sidecar.ledger.pin_keeper import PinKeeper, PinsUnknown
from sidecar.ledger.tool_definition import Definition
from sidecar.model import Principal, ToolCall
from sidecar.policy.index import PolicySet
from sidecar.policy.prospect import MCP_CALL_METHOD, may_be_masked, may_go_ahead
from sidecar.proxy.dialects.mcp import McpDialect
from sidecar.proxy.dialects.mcp_headers import VERSION_HEADER, is_stateless
from sidecar.proxy.dialects.mcp_message import (
    TOOL_NAME_LENGTH_MAX,
    RpcRefused,
    is_callable_name,
)
from sidecar.proxy.dialects.mcp_methods import TOOLS_CALL, TOOLS_LIST
from sidecar.proxy.dialects.mcp_said import is_broken_off
from sidecar.proxy.events import Event, EventCutter, EventTooLong
from sidecar.proxy.line_turns import in_turns
from sidecar.proxy.list_message import (
    cache_terms,
    is_same_id,
    listed_in,
    read_listing,
    unchecked,
)
from sidecar.proxy.reply_media import without_bytes
from sidecar.proxy.upstream import Headers, Reply

_log = logging.getLogger("aegis.lists")

#: An answer with a list, or one event of a stream, is held in memory as a whole.
LIST_BYTES_MAX: Final = 4 * 1024 * 1024
#: What is larger, or holds more objects, is read in a thread.
INLINE_BYTES_MAX: Final = 64 * 1024
INLINE_OBJECTS_MAX: Final = 1024
#: Tools of one tenant and upstream that the log is told of.
TOLD_MAX: Final = 256
_OUTPUT: Final = "outputSchema"
#: Refusals of a call that would tell that there is such a tool.
_TELLING: Final = frozenset(
    {
        "policy_deny",
        "default_deny",
        "condition_error",
        "contained",
        "obligations_conflict",
        "invalid_argument",
        "ambiguous_argument",
        "tool_drifted",
        "list_changed",
        "arguments_unfit",
        "schema_unchecked",
    }
)


class HasPolicies(Protocol):
    """Where the policies of the moment stand."""

    @property
    def current(self) -> PolicySet:
        """The set that judges calls now."""
        ...


class _Asker(NamedTuple):
    """Who asked, by what and when; `is_list` says that the answer must be a list, or none at
    all."""

    principal: Principal
    call: ToolCall
    is_list: bool
    asked_ns: int


class ToolLists:
    """One for a sidecar; it keeps nothing but what the log was told."""

    def __init__(self, policies: HasPolicies, pins: PinKeeper) -> None:
        self._policies = policies
        self._pins = pins
        #: Where lists are owed; mostly nowhere.
        self._owed = pins.announced.open
        self._dialect = McpDialect()
        #: Tools that cannot be read or kept, by tenant and upstream, as the log was told.
        self._told: dict[tuple[str, str], set[str]] = {}

    # -- calls -------------------------------------------------------------------------------

    @staticmethod
    def hides(
        policy_set: PolicySet,
        principal: Principal,
        upstream: str,
        call: ToolCall | None,
        refused: Refused,
    ) -> bool:
        """Whether a refusal must not tell that there is such a tool: no call of this caller to it
        can ever go ahead."""
        if refused.code not in _TELLING:
            return False
        if call is None:
            message = refused.message if isinstance(refused, RpcRefused) else None
            if message is None or message.method != TOOLS_CALL:
                return False
            tool = policy_set.catalogue.mcp_tool(upstream, message.params["name"]).tool
        elif call.action == TOOLS_CALL:
            tool = call.tool
        else:
            return False
        return not may_go_ahead(policy_set, principal, tool, MCP_CALL_METHOD)

    # -- answers -----------------------------------------------------------------------------

    async def shown(
        self, reply: Reply, principal: Principal, call: ToolCall, asked_ns: int
    ) -> Reply:
        """The reply to a listing action, forwarded at `asked_ns`, as the caller may see it;
        `close()` ends the upstream's.

        Raises Refused("list_unchecked"); so may its chunks, after they have said so to the caller,
        and then the reply must break off.
        """
        is_list = call.action == TOOLS_LIST and 200 <= reply.status < 300
        asker = _Asker(principal, call, is_list, asked_ns)
        try:
            return await self._shown_reply(reply, asker)
        except Refused as refused:
            _tell(refused, asker)
            raise

    async def _shown_reply(self, reply: Reply, asker: _Asker) -> Reply:
        if reply.complete and not reply.first:
            return reply
        media = _media(reply)
        is_readable = _first(reply.headers, "content-encoding").strip().lower() in ("", "identity")
        if media == "text/event-stream" and is_readable:
            return await self._shown_stream(reply, asker)
        if media == "application/json" and is_readable:
            body = await _whole(reply)
            made = await self._shown_message(body, asker)
            if made is body:
                return Reply(reply.status, reply.headers, body, close=reply.close)
            return Reply(reply.status, without_bytes(reply.headers), made, close=reply.close)
        if asker.is_list or (media == "text/event-stream" and reply.status == 200):
            raise unchecked("it is neither JSON nor a stream of events, or it is compressed")
        return reply

    async def _shown_stream(self, reply: Reply, asker: _Asker) -> Reply:
        headers = without_bytes(reply.headers)
        source = self._events(reply, asker)
        if not reply.complete:
            return Reply(reply.status, headers, source=source, close=reply.close)
        body = b"".join([piece async for piece in source])
        return Reply(reply.status, headers, body, close=reply.close)

    async def _events(self, reply: Reply, asker: _Asker) -> AsyncIterator[bytes]:
        cutter = EventCutter(LIST_BYTES_MAX)
        try:
            async for chunk in in_turns(reply.chunks):
                if made := await self._pieces(cutter.feed(chunk), asker):
                    yield made
            if made := await self._pieces(cutter.end(), asker):
                yield made
        except (EventTooLong, Refused) as error:
            refused = error if isinstance(error, Refused) else unchecked("it is too large")
            if not reply.complete:
                _tell(refused, asker)
            if asker.is_list and refused.code == "list_unchecked" and not reply.complete:
                said = self._dialect.refusal(refused, asker.call.call_id, asker.call)
                yield b"data: %b\n\n" % said.body
            raise refused from error

    async def _pieces(self, found: list[bytes | Event], asker: _Asker) -> bytes:
        made: list[bytes] = []
        for one in found:
            if isinstance(one, bytes):
                made.append(one)
                continue
            if not one.has_end and is_broken_off(one.data):
                continue  # no event to any client, who may resume the stream
            data = await self._shown_message(one.data, asker)
            made.append(one.raw if data is one.data else one.with_data(data))
        return b"".join(made)

    async def _shown_message(self, data: bytes, asker: _Asker) -> bytes:
        """The bytes of a JSON-RPC message as they may be shown; the same ones if it holds no list
        or nothing of it is changed."""
        if not data.strip():
            return data
        if len(data) > INLINE_BYTES_MAX or data.count(b"{") > INLINE_OBJECTS_MAX:
            read = await asyncio.to_thread(read_listing, data, asker.is_list)
        else:
            read = read_listing(data, asker.is_list)
        if read is None:
            return data
        drifted = await self._compared(read.definitions, asker)
        if self._owed and asker.is_list:
            self._note_page(read.message, asker)
        if read.unknown:
            self._tell_of_unknown(read.unknown, asker)
        message = self._filtered(read.message, drifted | read.unknown.keys(), asker)
        return data if message is read.message and not read.is_cut else orjson.dumps(message)

    async def _compared(self, definitions: list[Definition], asker: _Asker) -> frozenset[str]:
        principal, call = asker.principal, asker.call
        try:
            return await self._pins.compare(
                principal.tenant, principal.agent, call.tool.upstream, definitions, call.call_id
            )
        except PinsUnknown as error:
            why = "it cannot be compared with what was pinned"
            raise unchecked(why, f"{error.code}: {error}") from error

    def _tell_of_unknown(self, unknown: Mapping[str, str], asker: _Asker) -> None:
        """Once of each tool, and of no more than so many."""
        place = (asker.principal.tenant, asker.call.tool.upstream)
        told = self._told.setdefault(place, set())
        for name, why in unknown.items():
            if len(told) == TOLD_MAX:
                return
            shown = ascii(name[:TOOL_NAME_LENGTH_MAX])[1:-1]
            if shown in told:
                continue
            told.add(shown)
            is_last = len(told) == TOLD_MAX
            _log.warning(
                "what an MCP server says of a tool cannot be read or kept: it is hidden"
                + (", and the log tells of no others of this server" if is_last else ""),
                extra={
                    "tool": f"{place[1]}/{shown}",
                    "reason": why,
                    "tenant": place[0],
                    "call_id": asker.call.call_id,
                },
            )

    def _note_page(self, message: Any, asker: _Asker) -> None:
        """A page of the list was compared, if that is what answers the request."""
        call, tenant = asker.call, asker.principal.tenant
        result = listed_in(message)
        if result is None or not is_same_id(message.get("id"), call.reply_id):
            return
        upstream, cursor = call.tool.upstream, call.args.get("cursor")
        if self._pins.announced.compared(
            tenant, upstream, asker.asked_ns, cursor, result.get("nextCursor")
        ):
            _log.info(
                "the whole list of an MCP server that announced other tools was compared",
                extra={"upstream": upstream, "tenant": tenant, "call_id": call.call_id},
            )

    def _filtered(self, message: Any, drifted: frozenset[str], asker: _Asker) -> Any:
        """The message, or another in its place; a batch of answers is several messages."""
        if type(message) is list:
            shown = [self._filtered(one, drifted, asker) for one in message]
            is_same = all(new is old for new, old in zip(shown, message, strict=True))
            return message if is_same else shown
        result = listed_in(message)
        if result is None:
            return message
        policy_set = self._policies.current
        tools: list[dict[str, Any]] = []
        names: set[str] = set()
        for tool in result["tools"]:
            name = tool["name"]
            if policy_set.default == "observe" or (
                name not in drifted
                and name not in names
                and self._may_call(policy_set, asker, name)
            ):
                tools.append(self._told_of(policy_set, asker, tool))
            names.add(name)
        changed: dict[str, Any] = {}
        is_same = len(tools) == len(result["tools"])
        if not is_same or any(map(is_not, tools, result["tools"])):
            changed["tools"] = tools
        has_terms = is_stateless(asker.call.http.headers.get(VERSION_HEADER))
        changed |= cache_terms(result, has_terms=has_terms)
        return {**message, "result": {**result, **changed}} if changed else message

    @staticmethod
    def _told_of(policy_set: PolicySet, asker: _Asker, tool: dict[str, Any]) -> dict[str, Any]:
        if _OUTPUT not in tool:
            return tool
        known = policy_set.catalogue.mcp_tool(asker.call.tool.upstream, tool["name"]).tool
        if not may_be_masked(policy_set, asker.principal, known, MCP_CALL_METHOD):
            return tool
        return {name: value for name, value in tool.items() if name != _OUTPUT}

    def _may_call(self, policy_set: PolicySet, asker: _Asker, name: str) -> bool:
        if not is_callable_name(name):
            return False
        tool = policy_set.catalogue.mcp_tool(asker.call.tool.upstream, name).tool
        return may_go_ahead(policy_set, asker.principal, tool, MCP_CALL_METHOD)


def _tell(refused: Refused, asker: _Asker) -> None:
    """The operator's side of a list that is kept back."""
    if refused.code == "list_unchecked":
        call = asker.call
        _log.warning(
            "a list of tools could not be checked",
            extra={
                "upstream": call.tool.upstream,
                "call_id": call.call_id,
                "reason": refused.reason,
                "cause": refused.detail,
            },
        )


async def _whole(reply: Reply) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for chunk in reply.chunks:
        size += len(chunk)
        if size > LIST_BYTES_MAX:
            raise unchecked(f"it is larger than {LIST_BYTES_MAX} bytes")
        pieces.append(chunk)
    return b"".join(pieces)


def _media(reply: Reply) -> str:
    """The media type; "" if there is none or more than one."""
    types = [value for name, value in reply.headers if name.lower() == "content-type"]
    return types[0].partition(";")[0].strip().lower() if len(types) == 1 else ""


def _first(headers: Headers, wanted: str) -> str:
    return next((value for name, value in headers if name.lower() == wanted), "")
