"""The list of tools that a server owes, asked for by the sidecar itself.

Knows: that most clients list again when a server announces that its tools changed, and others never
do: before a pinned tool is called then, the whole list is asked for in the caller's own session, or
over his own pipe, and compared, once for all who wait for it. What is asked so is judged and on
record as what the agent asks is, and as asked by the sidecar. What does not come, in time and
whole, leaves the list owed, and the log says why.
Must not know: what is compared and hidden how, sockets, who is refused what.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import orjson

from sidecar.clock import Clock
from sidecar.config.model import Upstream
from sidecar.errors import Refused
from sidecar.ledger.pin_announcements import PAGES_MAX, Announcements
from sidecar.ledger.recorder import Recorder
from sidecar.model import Outcome, OutcomeKind, Principal, ToolCall
from sidecar.policy.index import PolicySet
from sidecar.proxy.dialects.mcp_beside import headers_beside, speaks_stateless
from sidecar.proxy.dialects.mcp_methods import TOOLS_LIST
from sidecar.proxy.endings import NOT_FORWARDED, ending_by
from sidecar.proxy.events import Event, EventCutter
from sidecar.proxy.judging import Judging
from sidecar.proxy.list_message import is_same_id, listed_in, unchecked
from sidecar.proxy.reply_media import exact_media
from sidecar.proxy.server_requests import ServerRequests, Within, read_aside
from sidecar.proxy.tool_lists import LIST_BYTES_MAX, HasPolicies, ToolLists
from sidecar.proxy.upstream import Reply, UpstreamLeg
from sidecar.proxy.visit import Visit
from sidecar.telemetry.counters import Counters

_log = logging.getLogger("aegis.lists")

_META: Final = "_meta"
_OF_ONE_REQUEST: Final = "progressToken"
#: As a bridge does that starts its server anew for each request: no list is ever the newest.
_ANNOUNCED_AGAIN: Final = "the server announced other tools again while it listed them"


class Relisting:
    """One for a sidecar; it keeps nothing but whose turn it is."""

    def __init__(
        self,
        *,
        leg: UpstreamLeg,
        lists: ToolLists,
        requests: ServerRequests,
        announced: Announcements,
        policies: HasPolicies,
        judging: Judging,
        recorder: Recorder,
        counters: Counters,
        clock: Clock,
    ) -> None:
        self._leg = leg
        self._lists = lists
        self._requests = requests
        self._owed = announced.open
        self._policies = policies
        self._judging = judging
        self._recorder = recorder
        self._counters = counters
        self._clock = clock
        self._turns: dict[tuple[str, str], asyncio.Lock] = {}
        #: How many tries have ended.
        self._tries: dict[tuple[str, str], int] = {}

    async def is_compared(self, upstream: Upstream, principal: Principal, call: ToolCall) -> bool:
        """Whether the list is owed no more, which it may have been just now. Who waited for another
        one's try makes none of its own."""
        place = (principal.tenant, upstream.name)
        tries = self._tries.get(place, 0)
        async with self._turns.setdefault(place, asyncio.Lock()):
            if place in self._owed and self._tries.get(place, 0) == tries:
                try:
                    async with asyncio.timeout(upstream.timeouts.response_s):
                        await self._ask(upstream, principal, call)
                    if place in self._owed:
                        raise unchecked(_ANNOUNCED_AGAIN)
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
        visit = Visit(self._clock.new_id(), self._clock.monotonic_ns(), upstream, principal)
        policy_set = self._policies.current
        reply_id = f"aegis-{visit.call_id}"
        asking = _asking(policy_set, visit.call_id, upstream, call, cursor, reply_id)
        intent = await self._judging.intent(visit, policy_set, principal, asking)
        if intent is None:  # never: there is nobody who could wait for a yes
            raise Refused("internal_error", detail="a list of ours was held")
        outcome = Outcome(OutcomeKind.UNKNOWN)
        try:
            outcome, result = await self._sent(upstream, principal, call, asking, reply_id)
        except Refused as refused:
            outcome = Outcome(ending_by(refused))
            raise
        finally:
            self._recorder.outcome(intent, outcome)
            self._counters.ended(outcome.kind)
        following = result.get("nextCursor")
        return following if isinstance(following, str) else None

    async def _sent(
        self,
        upstream: Upstream,
        principal: Principal,
        call: ToolCall,
        asking: ToolCall,
        reply_id: str,
    ) -> tuple[Outcome, dict[str, Any]]:
        """How the request ended, and the result that answers it; raises Refused."""
        asked_ns, may_have_arrived = self._clock.monotonic_ns(), True
        try:
            reply = await self._leg.ask(upstream, reply_id, asking.headers, asking.body)
        except Refused as refused:
            may_have_arrived = refused.code not in NOT_FORWARDED
            raise
        finally:
            self._counters.forwarded += may_have_arrived
        try:
            if reply.status != 200:
                raise unchecked(f"the server answered with status {reply.status}")
            shown = await self._lists.shown(reply, principal, asking, asked_ns)
            result = await self._listed(shown, Within(upstream, principal, call), reply_id)
        finally:
            reply.close()
        return Outcome(OutcomeKind.COMPLETED, reply.status), result

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


def _asking(
    policy_set: PolicySet,
    call_id: str,
    upstream: Upstream,
    call: ToolCall,
    cursor: str | None,
    reply_id: str,
) -> ToolCall:
    """The request for a page as a call of its own, beside the one that waits for it."""
    params = _params(call, cursor)
    said = {"jsonrpc": "2.0", "id": reply_id, "method": TOOLS_LIST, "params": params}
    named = [("Mcp-Method", TOOLS_LIST)] if speaks_stateless(call) else []
    return ToolCall(
        call_id=call_id,
        tool=policy_set.catalogue.mcp_method(upstream.name, TOOLS_LIST).tool,
        action=TOOLS_LIST,
        args=params,
        http=call.http,
        target="",
        headers=tuple(headers_beside(call, *named)),
        body=orjson.dumps(said),
        dialect="mcp",
        reply_id=reply_id,
        run_id=call.run_id,
        trace_id=call.trace_id,
        is_protocol=True,
        beside={"asked_by": "sidecar", "within": call.call_id},
    )


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
            "next_step": f"See that it lists its tools. `upstreams.{upstream.name}.list_changed: "
            "pass` lets calls go on under the old pins.",
        },
    )  # fmt: skip
