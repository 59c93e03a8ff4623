"""Session and event ids of MCP servers where they stand: in headers of requests and answers.

Knows: that an agent has ids with tags (`Mcp-Session-Id`, `Last-Event-ID`) and the server its own;
that an event's id belongs to the session in which it was given; that of the requests of a session
which are not answered yet no two have one id; that an agent answers what it was asked, once.
Must not know: what a tag is made of, policies, bodies.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sidecar.errors import Refused
from sidecar.model import OutcomeKind, Principal, ToolCall
from sidecar.proxy.asked_ids import AskedId, AskedIds
from sidecar.proxy.bindings import Bindings
from sidecar.proxy.dialects.mcp_message import INVALID_REQUEST, RpcRefused
from sidecar.proxy.dialects.mcp_methods import RESPONSE
from sidecar.proxy.head import RequestHead
from sidecar.proxy.obliged_ids import ObligedIds
from sidecar.proxy.upstream import Headers, Reply
from sidecar.proxy.visit import OpenRequest, Visit

SESSION: Final = "mcp-session-id"
LAST_EVENT: Final = "last-event-id"
#: Told sooner than a name.
_LENGTHS: Final = frozenset({len(SESSION), len(LAST_EVENT)})
#: Sessions that are known to have ended.
ENDED_MAX: Final = 4096


class McpSessions:
    """Puts the server's ids in the place of the agent's, and the other way round.

    The last sessions that a DELETE ended by this sidecar are remembered: of any other the server
    tells that it has ended.
    """

    def __init__(self, bindings: Bindings, asked: AskedIds | None = None) -> None:
        """`asked` are the requests that may be answered; None: any, as far as is known here."""
        self._asked = asked
        self._bindings = bindings
        #: What no reply but its own may answer.
        self.obliged = ObligedIds()
        self._ended: dict[tuple[str, str], None] = {}
        #: What is in flight or held here; the bounds of these bound it.
        self._open: dict[OpenRequest, Visit] = {}

    def entered(self, head: RequestHead, principal: Principal, call: ToolCall) -> ToolCall:
        """The call with the server's own ids; raises Refused: session_unknown, event_unknown."""
        session, event = head.first.get(SESSION), head.first.get(LAST_EVENT)
        if session is None and event is None:
            return call
        own: dict[str, str] = {}
        if session is not None:
            raw = own[SESSION] = self._bindings.session_in(principal, head.upstream, session)
            if (head.upstream, raw) in self._ended:
                raise Refused("session_unknown", "The session was ended")
        if event:
            scope = own.get(SESSION, "")
            own[LAST_EVENT] = self._bindings.event_in(principal, head.upstream, scope, event)
        headers = [
            pair if len(pair[0]) not in _LENGTHS else (pair[0], own.get(pair[0].lower(), pair[1]))
            for pair in call.headers
        ]
        return call._replace(headers=tuple(headers))

    def begin(self, visit: Visit, head: RequestHead, principal: Principal, call: ToolCall) -> None:
        """Notes a request of a session as not answered yet, until `end`; once for a visit, which
        may be judged again. Without a session nothing tells two clients' ids apart.

        Raises RpcRefused("invalid_rpc") where its id is that of another one; of an answer
        Refused("unasked_answer") where the server asks nothing under its id.
        """
        if call.reply_id is None and call.action == RESPONSE and visit.open_request is None:
            self._begin_answer(visit, principal, call)
            return
        session = head.first.get(SESSION)
        if session is None or call.reply_id is None or visit.open_request is not None:
            return
        key = (principal.tenant, principal.agent, head.upstream, session, call.reply_id)
        if key in self._open:
            # Answered without an id: under this one it would be taken for the first one's answer.
            visit.call = call._replace(reply_id=None)
            reason = "The id is that of a request which is not answered yet"
            raise RpcRefused("invalid_rpc", reason, rpc_code=INVALID_REQUEST)
        self._open[key] = visit
        visit.open_request = key
        if self.obliged.by_session:
            self.obliged.forget(principal, head.upstream, _own_session(call), call.reply_id)

    def end(self, visit: Visit) -> None:
        """The visit's request is answered, or will not be: its id may be used again. An answer that
        did not go to the server leaves the request open."""
        key = visit.open_request
        if key is None:
            return
        visit.open_request = None
        if not isinstance(key, AskedId):
            self._open.pop(key, None)
            return
        went = visit.forwarding_ns and visit.ended is not OutcomeKind.NOT_FORWARDED
        if self._asked is not None and not went:
            self._asked.give_back(key)

    def oblige(self, principal: Principal, call: ToolCall) -> None:
        """The answer to this request is held to obligations; without a session nothing tells two
        clients' ids apart."""
        session = _own_session(call)
        if session and call.reply_id is not None:
            self.obliged.note(principal, call.tool.upstream, session, call.reply_id)

    def meant(self, head: RequestHead, principal: Principal, call: ToolCall) -> Visit | None:
        """The request that a client says over MCP it wants no more, if that is not answered yet."""
        session, about = head.first.get(SESSION), call.args.get("requestId")
        if session is None or isinstance(about, bool) or not isinstance(about, str | int):
            return None
        return self._open.get((principal.tenant, principal.agent, head.upstream, session, about))

    def ask(
        self, principal: Principal, upstream: str, session: str, ids: Iterable[str | int]
    ) -> None:
        """The agent is about to get requests of the server in this session, by its own id."""
        if self._asked is not None:
            for asks in ids:
                self._asked.note(principal, upstream, session, asks)

    def _begin_answer(self, visit: Visit, principal: Principal, call: ToolCall) -> None:
        """Once for a visit; two answers at once do not find one request."""
        if self._asked is None:
            return
        session = _own_session(call)
        one = self._asked.take(principal, call.tool.upstream, session, call.answers)
        if one is None:
            raise Refused("unasked_answer")
        visit.open_request = one

    def bound(self, reply: Reply, principal: Principal, call: ToolCall) -> tuple[Reply, str]:
        """The reply with the agent's id of the session, and the server's own ("" without one).

        Raises Refused("answer_unchecked").
        """
        given = _sessions_in(reply.headers)
        own = _sessions_in(call.headers)
        if own and call.action == "DELETE" and 200 <= reply.status < 300:
            self._end(call.tool.upstream, own[0])
        if not given:
            return reply, own[0] if own else ""
        if len(given) > 1:
            raise Refused("answer_unchecked", "The answer names two sessions")
        if not own:  # begun anew: some servers have one id for each client, or for all
            self._ended.pop((call.tool.upstream, given[0]), None)
        bound = self._bindings.session_out(principal, call.tool.upstream, given[0])
        headers = tuple(
            [(name, bound if name.lower() == SESSION else value) for name, value in reply.headers]
        )
        if reply.complete:
            return Reply(reply.status, headers, reply.first, close=reply.close), given[0]
        return Reply(reply.status, headers, source=reply.chunks, close=reply.close), given[0]

    def _end(self, upstream: str, session: str) -> None:
        self._ended[upstream, session] = None
        if len(self._ended) > ENDED_MAX:
            self._ended.pop(next(iter(self._ended)))

    def renamed(self, principal: Principal, upstream: str, session: str, event_id: bytes) -> bytes:
        """An event's id as the agent gets it; raises Refused("answer_unchecked")."""
        return self._bindings.event_out(principal, upstream, session, event_id)


def _own_session(call: ToolCall) -> str:
    """The server's own id of the call's session; "" without one."""
    return next(iter(_sessions_in(call.headers)), "")


def _sessions_in(headers: Headers) -> list[str]:
    length = len(SESSION)  # told sooner than a name
    return [value for name, value in headers if len(name) == length and name.lower() == SESSION]
