"""What an MCP server asks of the agent, judged like a call of the agent: by the same policies, as
the operation `<upstream>/mcp:<method>`, refused where no rule allows it, on record either way.

Knows: that a request is recorded before the agent gets it; that of several in one answer all must
be allowed; that what a decision obliges to is done to the request on its way to the agent, since
the agent's answer cannot be changed any more. Facts beside a record name the call in whose answer
the server asked.
Must not know: HTTP, streams, pipes: how a request came, and what the server is told of a refusal.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from sidecar.clock import Clock
from sidecar.config.model import Upstream
from sidecar.errors import Refused
from sidecar.ledger.pin_announcements import Announcements
from sidecar.ledger.recorder import Intent, Recorder
from sidecar.model import HttpFacts, Outcome, OutcomeKind, Principal, ToolCall
from sidecar.policy.catalogue import Entry
from sidecar.policy.index import PolicySet
from sidecar.policy.terms import Obligations
from sidecar.proxy.dialects.mcp_message import ID_LENGTH_MAX
from sidecar.proxy.dialects.mcp_methods import RESPONSE
from sidecar.proxy.dialects.mcp_said import Asked, ServerMessage, read_server_message
from sidecar.proxy.judging import Judging
from sidecar.proxy.masking import NotMaskable
from sidecar.proxy.masking_mcp import masked_message
from sidecar.proxy.obligations_response import INLINE_BYTES_MAX as MASKED_INLINE_BYTES_MAX
from sidecar.proxy.tool_lists import HasPolicies
from sidecar.proxy.visit import Visit
from sidecar.telemetry.counters import Counters

_log = logging.getLogger("aegis.mcp")

_METHOD: Final = re.compile(r"[A-Za-z0-9_$][A-Za-z0-9_$./-]{0,127}")
#: What is larger is read in a thread.
INLINE_BYTES_MAX: Final = 64 * 1024
#: Of a method that is no name of one, in characters.
METHOD_SHOWN_MAX: Final = 128
_NOWHERE: Final = HttpFacts("POST", "", "", "", {})


class Within(NamedTuple):
    """Where a server asked: of which caller, and in whose answer (None: over a pipe that all calls
    share)."""

    upstream: Upstream
    principal: Principal
    call: ToolCall | None


class RequestRefused(Exception):
    """A request that must not reach the agent: which, and why. It is on record."""

    def __init__(self, operation: str, refused: Refused) -> None:
        super().__init__(operation)
        self.operation = operation
        self.refused = refused


class _Allowed(NamedTuple):
    intent: Intent
    body: bytes
    obligations: Obligations | None


class ServerRequests:
    """One for a sidecar; it keeps nothing itself."""

    def __init__(
        self,
        *,
        policies: HasPolicies,
        judging: Judging,
        recorder: Recorder,
        clock: Clock,
        counters: Counters,
        announced: Announcements,
        values_max: int,
    ) -> None:
        """`values_max` bounds what a message holds."""
        self.values_max = values_max
        self._announced = announced
        self._policies = policies
        self._judging = judging
        self._recorder = recorder
        self._clock = clock
        self._counters = counters

    async def said(self, within: Within, line: bytes) -> bytes:
        """What a server says by itself, as the agent may have it.

        Raises RequestRefused, and Refused("answer_unchecked") for what readers could differ on.
        """
        said = await read_aside(line, self.values_max)
        self.heard(within, said)
        return await self.judged(within, said, line) if said.requests else line

    def heard(self, within: Within, said: ServerMessage) -> None:
        """Notes what a message tells beside what it asks, before the agent has it: the list that
        the agent asks for then is newer."""
        upstream, tenant = within.upstream, within.principal.tenant
        if not said.tools_changed or upstream.list_changed == "pass":
            return
        if self._announced.announce(tenant, upstream.name, self._clock.monotonic_ns()):
            _log.warning(
                "an MCP server announced that its tools changed: those that are pinned are not "
                "called before its whole list was compared",
                extra={"upstream": upstream.name, "tenant": tenant},
            )

    async def judged(self, within: Within, said: ServerMessage, data: bytes) -> bytes:
        """The message as the agent may have it; raises RequestRefused for one that must not reach
        it. What was judged of it is on record by then, with its outcome."""
        allowed: list[_Allowed] = []
        try:
            for asked in said.requests:
                allowed.append(await self._judge(within, asked, said, data))
            shown = await self._shown(within, said, data, allowed)
        except BaseException:
            self._end(allowed, OutcomeKind.WITHHELD)
            raise
        self._counters.forwarded += len(allowed)
        self._end(allowed, OutcomeKind.COMPLETED)
        return shown

    async def _shown(
        self, within: Within, said: ServerMessage, data: bytes, allowed: list[_Allowed]
    ) -> bytes:
        try:
            return await _obliged(said, data, allowed)
        except Refused as refused:
            self._counters.refused(refused.code, refused.detail)
            operation = f"{within.upstream.name}/mcp:{said.requests[0].method}"
            raise RequestRefused(operation, refused) from refused

    def _end(self, allowed: list[_Allowed], kind: OutcomeKind) -> None:
        for one in allowed:
            self._recorder.outcome(one.intent, Outcome(kind))
            self._counters.ended(kind)

    async def _judge(
        self, within: Within, asked: Asked, said: ServerMessage, data: bytes
    ) -> _Allowed:
        policy_set = self._policies.current
        visit = Visit(
            self._clock.new_id(), self._clock.monotonic_ns(), within.upstream, within.principal
        )
        try:
            call = visit.call = _call(policy_set, visit.call_id, within, asked, said, data)
            # A stream may be open for long.
            principal = visit.principal = self._judging.standing(within.principal)
            intent = await self._judging.intent(visit, policy_set, principal, call)
            if intent is None:  # never: what cannot wait for a yes is refused
                raise Refused("internal_error", detail="a server's request was held")
        except Refused as refused:
            await self._refused(within, asked, visit, refused)
            operation = f"{within.upstream.name}/mcp:{asked.method[:METHOD_SHOWN_MAX]}"
            raise RequestRefused(operation, refused) from refused
        # What a decision obliges to has made another call of it.
        return _Allowed(intent, visit.call.body, visit.obligations)

    async def _refused(self, within: Within, asked: Asked, visit: Visit, refused: Refused) -> None:
        self._counters.refused(refused.code, refused.detail)
        if refused.is_recorded:
            return
        await self._recorder.refusal(
            within.principal,
            call_id=visit.call_id,
            upstream=within.upstream.name,
            action=asked.method if _METHOD.fullmatch(asked.method) else "request",
            refused=refused,
            call=visit.call,
            run=visit.run,
        )


async def read_aside(data: bytes, values_max: int) -> ServerMessage:
    """See `read_server_message`; much is read in a thread, so that other calls go on."""
    if len(data) <= INLINE_BYTES_MAX:
        return read_server_message(data, values_max)
    return await asyncio.to_thread(read_server_message, data, values_max)


def refusal_message(asks: str | int | None, refused: Refused) -> bytes:
    """What is told of a refusal to whom the policies are none of his business: the code, and
    nothing of rules or reasons."""
    kind = refused.kind
    error = {"code": kind.status, "message": kind.title, "data": {"code": kind.code}}
    # An id that was read leniently may be one that orjson does not write.
    said = {"jsonrpc": "2.0", "id": asks, "error": error}
    return json.dumps(said, separators=(",", ":")).encode()


def _call(
    policy_set: PolicySet,
    call_id: str,
    within: Within,
    asked: Asked,
    said: ServerMessage,
    data: bytes,
) -> ToolCall:
    """The request as a call that policies can judge; raises Refused."""
    if not _METHOD.fullmatch(asked.method) or asked.method == RESPONSE:
        raise Refused("invalid_rpc", "The server's request has no method name")
    if type(asked.asks) is str and len(asked.asks) > ID_LENGTH_MAX:
        why = f"The server's request has an id of more than {ID_LENGTH_MAX} characters"
        raise Refused("invalid_rpc", f"{why}: no answer to it could be passed on")
    entry: Entry = policy_set.catalogue.mcp_method(within.upstream.name, asked.method)
    args: Mapping[str, Any] = asked.params
    if entry.args is not None:
        args = entry.args.bind(asked.params, ())
    body = data
    if _is_within(said):
        body = orjson.dumps({"method": asked.method, "params": asked.params})
    around = within.call
    return ToolCall(
        call_id=call_id,
        tool=entry.tool,
        action=asked.method,
        args=args,
        http=_NOWHERE if around is None else around.http,
        target="",
        headers=(),
        body=body,
        dialect="mcp",
        reply_id=asked.asks,
        run_id=None if around is None else around.run_id,
        trace_id=None if around is None else around.trace_id,
        beside={"asked_by": "server"} | ({} if around is None else {"within": around.call_id}),
    )


def _is_within(said: ServerMessage) -> bool:
    """Whether what is asked stands in an answer or a notification, and is no message itself."""
    return said.is_answer or said.is_news


async def _obliged(said: ServerMessage, data: bytes, allowed: list[_Allowed]) -> bytes:
    """The message with what the decisions oblige to; raises Refused."""
    if not _is_within(said):
        data = allowed[0].body if allowed else data
    else:
        data = _with_requests(said, data, allowed)
    for one in allowed:
        obligations = one.obligations
        if obligations is None:
            continue
        most = obligations.max_response_bytes
        if most is not None and len(data) > most:
            raise Refused("response_too_large", f"The server's request is larger than {most} bytes")
        if obligations.response:
            try:
                if len(data) <= MASKED_INLINE_BYTES_MAX:
                    data = masked_message(data, obligations.response)
                else:
                    data = await asyncio.to_thread(masked_message, data, obligations.response)
            except NotMaskable as error:
                why = f"The server's request cannot be masked: {error}"
                raise Refused("cannot_redact", why) from error
    return data


def _with_requests(said: ServerMessage, data: bytes, allowed: list[_Allowed]) -> bytes:
    """An answer whose input requests are as the decisions left them."""
    changed = {
        asked.key: orjson.loads(one.body)
        for asked, one in zip(said.requests, allowed, strict=True)
        if orjson.loads(one.body)["params"] != asked.params
    }
    if not changed:
        return data
    message = orjson.loads(data)
    if "error" in message:
        wanted = message["error"]["data"]["elicitations"]
        for key, request in changed.items():
            wanted[int(key)] = request["params"]
    else:
        message["result" if said.is_answer else "params"]["inputRequests"].update(changed)
    return orjson.dumps(message)
