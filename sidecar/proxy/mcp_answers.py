"""What an MCP server answers over HTTP, on its way to the agent: ids bound to whom they are given,
each message looked into before the agent has it.

Knows: where ids stand (a header, lines of a stream), that an answer is one JSON message or a stream
of events and by exactly which media types, that only what cannot ask the agent for anything passes
unread. A message is held until its end, up to a bound; of a stream nothing else is. A request that
is refused is dropped, and the server is told so where it has a session to tell it in; an answer
that asks what is refused is answered with the refusal.
Must not know: how requests are judged and recorded, sockets.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial
from typing import Final, NamedTuple, TypeVar

from sidecar.errors import Refused
from sidecar.model import OutcomeKind, ToolCall, state_digest
from sidecar.proxy.dialects.mcp import McpDialect
from sidecar.proxy.dialects.mcp_beside import headers_beside
from sidecar.proxy.dialects.mcp_methods import LISTING, STREAM_METHOD, TOOLS_CALL
from sidecar.proxy.dialects.mcp_said import (
    Asked,
    ServerMessage,
    is_broken_off,
    is_plain_answer,
    may_ask,
    require_few_values,
)
from sidecar.proxy.event_marks import of_its_own, without_message
from sidecar.proxy.event_pieces import cut_events
from sidecar.proxy.events import Event, EventCutter, EventTooLong, NoEvent
from sidecar.proxy.list_message import (
    answered_ids,
    begins_task,
    lists_for_another,
    may_begin_task,
    may_list,
)
from sidecar.proxy.mcp_sessions import SESSION, McpSessions
from sidecar.proxy.reply_media import UNCLEAR, exact_media, without_bytes
from sidecar.proxy.server_requests import (
    INLINE_BYTES_MAX,
    RequestRefused,
    ServerRequests,
    Within,
    read_aside,
    refusal_message,
)
from sidecar.proxy.upstream import Reply, UpstreamLeg
from sidecar.proxy.visit import Visit

_log = logging.getLogger("aegis.mcp")

Found = TypeVar("Found")

#: Statuses of answers that no client reads, or that have no body.
_UNREAD: Final = (202, 204, 304)


class _Asker(NamedTuple):
    """Whose answer it is, and `session`, the server's own id of his session ("" without one)."""

    visit: Visit
    within: Within
    call: ToolCall
    session: str


class McpAnswers:
    """One for a sidecar; it keeps nothing itself. `message_bytes_max` bounds one message."""

    def __init__(
        self,
        sessions: McpSessions,
        requests: ServerRequests,
        leg: UpstreamLeg,
        *,
        message_bytes_max: int,
    ) -> None:
        self.sessions = sessions
        self.requests = requests
        self._leg = leg
        self._most = message_bytes_max
        self._dialect = McpDialect()

    # -- on the way back ---------------------------------------------------------------------

    async def shown(self, reply: Reply, visit: Visit, call: ToolCall) -> Reply:
        """The reply as the agent may have it; `close()` ends the upstream's.

        Raises Refused: answer_unchecked, input_refused, response_too_large; so may its chunks,
        after they have said so to the agent, and then the reply must break off.
        """
        if visit.upstream is None or visit.principal is None:
            raise Refused("internal_error", detail="an answer to nobody")
        within = Within(visit.upstream, visit.principal, call)
        try:
            reply, session = self.sessions.bound(reply, visit.principal, call)
            if reply.complete and not reply.first:
                return reply
            asker = _Asker(visit, within, call, session)
            media = exact_media(reply.headers)
            if media == "text/event-stream":
                return await self._stream(reply, asker)
            if media == "application/json":
                return await self._document(reply, asker)
            is_read = call.expects_reply or call.action == STREAM_METHOD
            is_read = is_read and reply.status not in _UNREAD
            if is_read and (media == UNCLEAR or 200 <= reply.status < 300):
                raise _unchecked("it is neither JSON nor a stream of events, or it is compressed")
        except Refused as refused:
            _tell(refused, call)
            raise
        return reply

    # -- one message ---------------------------------------------------------------------------

    async def _document(self, reply: Reply, asker: _Asker) -> Reply:
        body = reply.first if reply.complete else await self._whole(reply)
        if len(body) > self._most:
            raise self._too_large()
        await self._require_own(body, asker)
        if not may_ask(body):
            if reply.complete:
                return reply
            return Reply(reply.status, reply.headers, body, close=reply.close)
        said = await read_aside(body, self.requests.values_max)
        self.requests.heard(asker.within, said)
        made = await self._judged(said, body, asker) if said.requests else body
        self._note_state(said, asker)
        headers = reply.headers if made is body else without_bytes(reply.headers)
        return Reply(reply.status, headers, made, close=reply.close)

    async def _judged(self, said: ServerMessage, data: bytes, asker: _Asker) -> bytes:
        """A whole answer that asks; raises Refused."""
        if not said.is_answer:
            raise _unchecked("it is a request, and no answer")
        try:
            return await self.requests.judged(asker.within, said, data)
        except RequestRefused as error:
            raise _input_refused(error) from error

    async def _whole(self, reply: Reply) -> bytes:
        pieces: list[bytes] = []
        size = 0
        async for chunk in reply.chunks:
            size += len(chunk)
            if size > self._most:
                raise self._too_large()
            pieces.append(chunk)
        return b"".join(pieces)

    def _too_large(self) -> Refused:
        return _unchecked(f"a message of it is larger than {self._most} bytes (`limits.message`)")

    async def _require_own(self, data: bytes, asker: _Asker) -> None:
        """Raises Refused for a list of tools, or an answer that is held to obligations, in the
        answer to something else: clients tell by its id what a message answers, so that it would
        pass beside the pins, or as nothing obliges it. And for a task in the answer to a call that
        is held to obligations: its result comes by a request that names no tool."""
        call, most = asker.call, self.requests.values_max
        is_held = asker.visit.obligations is not None and call.action == TOOLS_CALL
        if is_held and may_begin_task(data):
            require_few_values(data, most)
            if await _aside(begins_task, data):
                raise Refused("task_unchecked")
        if self.sessions.obliged.by_session:
            await self._require_unobliged(data, asker)
        if call.action in LISTING or not may_list(data):
            return
        if await _aside(partial(_is_strange, call=call, values_max=most), data):
            raise _unchecked("it holds a list of tools for another request")

    async def _require_unobliged(self, data: bytes, asker: _Asker) -> None:
        obliged, own = self.sessions.obliged, asker.call.reply_id
        whose = (asker.within.principal, asker.within.upstream.name, asker.session)
        if not obliged.are_in(*whose):
            return
        require_few_values(data, self.requests.values_max)
        answers = await _aside(answered_ids, data)
        if obliged.answered(*whose, answers, own):
            raise _unchecked("it answers another call, whose own answer is held to rules")

    @staticmethod
    def _note_state(said: ServerMessage, asker: _Asker) -> None:
        if said.request_state is not None:
            asker.visit.request_state = state_digest(said.request_state)

    # -- events --------------------------------------------------------------------------------

    async def _stream(self, reply: Reply, asker: _Asker) -> Reply:
        headers = without_bytes(reply.headers)
        if not reply.complete:
            source = self._events(reply, asker)
            return Reply(reply.status, headers, source=source, close=reply.close)
        body = b"".join([piece async for piece in self._events(reply, asker)])
        return Reply(reply.status, headers, body, close=reply.close)

    async def _events(self, reply: Reply, asker: _Asker) -> AsyncIterator[bytes]:
        """The stream as the agent may have it. It ends with an answer that is refused; what
        cannot be checked is said to the agent, and raised."""
        obligations = asker.visit.obligations
        is_placeless = obligations is not None and obligations.touches_response
        #: Whether this stream alone can bring the answer, and has not yet.
        is_owed = is_placeless and asker.call.expects_reply
        cutter = self._cutter(asker, is_placeless=is_placeless)
        pieces = cut_events(reply.chunks, cutter, lambda: is_owed)
        async for found in pieces:
            passing: list[bytes] = []
            fault: Exception | None = None
            try:
                for one in found:
                    if not isinstance(one, Event):
                        passing.append(one)
                        continue
                    if passing and may_ask(one.data):  # to judge it may take a while
                        yield b"".join(passing)
                        passing.clear()
                    passing.append(await self._event(one, asker))
                    is_owed = is_owed and not await _aside(partial(_answers, asker.call), one.data)
            except (EventTooLong, NoEvent, Refused) as error:
                fault = error
            if passing:
                yield b"".join(passing)
            if fault is None:
                continue
            refused = self._fault(fault)
            if said := self._last_words(refused, reply, asker):
                yield said
            if refused.code == "input_refused" and not reply.complete:
                asker.visit.ends_as = OutcomeKind.WITHHELD
                return
            raise refused from fault
        if is_owed:  # nobody else says so, and the client would wait until its patience ends
            refused = _unchecked("its stream ended before it, and one that is masked has no places")
            if said := self._last_words(refused, reply, asker):
                yield said
            raise refused

    def _cutter(self, asker: _Asker, *, is_placeless: bool) -> EventCutter:
        within = asker.within
        renamed: Callable[[bytes], bytes] = partial(
            self.sessions.renamed, within.principal, within.upstream.name, asker.session
        )
        if is_placeless:
            renamed = _no_place  # what a stream that is resumed repeats would be held to nothing
        return EventCutter(self._most, is_strict=True, renamed=renamed)

    def _last_words(self, refused: Refused, reply: Reply, asker: _Asker) -> bytes:
        """What is said within a stream of a refusal that ends it; of a whole one it
        is the reply."""
        if reply.complete:
            return b""
        _tell(refused, asker.call)
        is_said = refused.code == "input_refused" or asker.call.expects_reply
        return self._said(refused, asker) if is_said else b""

    def _fault(self, error: Exception) -> Refused:
        if isinstance(error, Refused):
            return error
        if isinstance(error, EventTooLong):
            return _unchecked(f"{error}") if error.args else self._too_large()
        return _unchecked("a line of the stream is none of an event")

    def _said(self, refused: Refused, asker: _Asker) -> bytes:
        """The refusal as an event of its own, whatever was begun before it."""
        said = self._dialect.refusal(refused, asker.call.call_id, asker.call)
        return b"\ndata: %b\n\n" % said.body

    async def _event(self, event: Event, asker: _Asker) -> bytes:
        """An event as the agent may have it; raises Refused for what is no message."""
        data = event.data
        await self._require_own(data, asker)
        if not data.strip():
            return event.raw
        if is_plain_answer(data):
            self.sessions.end(asker.visit)  # the agent has it before the stream ends
            return event.raw
        try:
            said = await read_aside(data, self.requests.values_max)
        except Refused:
            if not event.has_end and is_broken_off(data):
                return b""  # no event to any client, who may resume the stream
            if not event.is_message and not may_ask(data):
                return of_its_own(event)
            raise
        if event.is_message and not said.is_rpc:
            return without_message(event)
        self._note_state(said, asker)
        self.requests.heard(asker.within, said)
        if said.answers is not None:
            self.sessions.end(asker.visit)
        if not said.requests:
            self._ask(said.pings, asker)
            return event.raw
        try:
            made = await self.requests.judged(asker.within, said, data)
        except RequestRefused as error:
            if said.is_answer and asker.call.expects_reply:
                raise _input_refused(error) from error
            if said.is_answer:  # to a call whose own stream broke off
                asker.visit.ends_as = OutcomeKind.WITHHELD
                return event.with_data(refusal_message(said.answers, _input_refused(error)))
            await self._tell_server(said.requests[0], error.refused, asker)
            return event.without_data()
        self._ask([one.asks for one in said.requests if one.asks is not None], asker)
        return event.raw if made is data else event.with_data(made)

    def _ask(self, ids: Iterable[str | int], asker: _Asker) -> None:
        within = asker.within
        self.sessions.ask(within.principal, within.upstream.name, asker.session, ids)

    async def _tell_server(self, asked: Asked, refused: Refused, asker: _Asker) -> None:
        """Answers a request that does not reach the agent, in the agent's own session; without one
        no server could tell whose answer it is."""
        call = asker.call
        if asked.asks is None or not asker.session:
            return
        has_session = any(name.lower() == SESSION for name, _ in call.headers)
        session = () if has_session else (("Mcp-Session-Id", asker.session),)
        headers = headers_beside(call, *session)
        body = refusal_message(asked.asks, refused)
        try:
            reply = await self._leg.send(asker.within.upstream, "POST", "", headers, body)
            reply.close()
        except Refused as error:
            _log.warning(
                "the server could not be told that its request was refused",
                extra={
                    "upstream": asker.within.upstream.name,
                    "call_id": call.call_id,
                    "cause": error.code,
                },
            )


def _tell(refused: Refused, call: ToolCall) -> None:
    """The operator's side of an answer that is kept back; of one on a session's stream nobody else
    hears."""
    if refused.code == "answer_unchecked":
        _log.warning(
            "an answer of an MCP server could not be checked",
            extra={
                "upstream": call.tool.upstream,
                "tool": call.tool.name,
                "call_id": call.call_id,
                "reason": refused.reason,
            },
        )


def _input_refused(error: RequestRefused) -> Refused:
    """The refusal of an answer, by that of what it asks."""
    why = f"{error.operation}: {error.refused.reason}"
    return Refused("input_refused", why, decision=error.refused.decision)


async def _aside(look: Callable[[bytes], Found], data: bytes) -> Found:
    """What a look at a message finds; at a large one in a thread, so that other calls go on."""
    if len(data) <= INLINE_BYTES_MAX:
        return look(data)
    return await asyncio.to_thread(look, data)


def _answers(call: ToolCall, data: bytes) -> bool:
    return call.reply_id in answered_ids(data)


def _is_strange(data: bytes, call: ToolCall, values_max: int) -> bool:
    require_few_values(data, values_max)
    return lists_for_another(data, call.reply_id)


def _no_place(event_id: bytes) -> bytes:
    """An id with which nothing is resumed."""
    return b""


def _unchecked(why: str) -> Refused:
    return Refused("answer_unchecked", f"The answer cannot be checked: {why}")
