"""The way of a call, as one straight line: read, identify, judge, record, forward, conclude.

Knows: the order of things, and that nothing is forwarded before its record is durable. Every
refusal of the way is one exception, caught once, recorded, and said by the call's dialect.
Must not know: how a body is parsed, how a rule is judged, how a record is written.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from sidecar.clock import Clock
from sidecar.config.model import Config, Limits, Upstream
from sidecar.errors import Refused
from sidecar.identity.agent_states import require_active
from sidecar.identity.authenticator import Authenticator
from sidecar.ledger.recorder import Recorder
from sidecar.model import Outcome, OutcomeKind, Principal, ToolCall
from sidecar.policy.index import PolicySet
from sidecar.policy.protocol_methods import METADATA
from sidecar.policy_files import PolicyKeeper
from sidecar.proxy.agent_side import AgentSide, ClientGone
from sidecar.proxy.authorization import CHALLENGES, Authorization
from sidecar.proxy.dialects import DIALECTS
from sidecar.proxy.dialects.mcp_methods import CANCELLED, LISTING, TOOLS_CALL
from sidecar.proxy.dialects.reply import problem_reply
from sidecar.proxy.endings import NOT_FORWARDED, ending_by, failing_upstream
from sidecar.proxy.head import RequestHead
from sidecar.proxy.headers import reply_headers
from sidecar.proxy.held_answers import HeldAnswers
from sidecar.proxy.held_bodies import FREE_BYTES, HeldBodies
from sidecar.proxy.identify import Identify
from sidecar.proxy.judging import Judging
from sidecar.proxy.mcp_answers import McpAnswers
from sidecar.proxy.obligations_response import held_to
from sidecar.proxy.open_streams import OpenStreams
from sidecar.proxy.pinned_tools import PinnedTools
from sidecar.proxy.places import Places
from sidecar.proxy.relisting import Relisting
from sidecar.proxy.request_body import taken
from sidecar.proxy.server_requests import Within
from sidecar.proxy.tool_lists import ToolLists
from sidecar.proxy.traced import call_span
from sidecar.proxy.upstream import Reply, UpstreamLeg
from sidecar.proxy.visit import Visit
from sidecar.proxy.websocket_relay import Relay
from sidecar.telemetry.counters import Counters
from sidecar.telemetry.spans import Spans, Stages

_log = logging.getLogger("aegis.pipeline")


class Pipeline:
    """Carries requests; owns nothing but the counts of calls in flight."""

    def __init__(
        self,
        *,
        config: Config,
        policies: PolicyKeeper,
        authenticator: Authenticator,
        recorder: Recorder,
        leg: UpstreamLeg,
        judging: Judging,
        lists: ToolLists,
        pinned: PinnedTools,
        relisting: Relisting,
        places: Places,
        answers: McpAnswers,
        streams: OpenStreams,
        bodies: HeldBodies,
        held: HeldAnswers,
        counters: Counters,
        clock: Clock,
        spans: Spans | None = None,
    ) -> None:
        """`spans` are told of each call that has ended; without, none notes its stages."""
        self._spans = spans
        self._places = places
        self._streams = streams
        #: Those of other ways count together with these.
        self.bodies = bodies
        self._held = held
        self._limits: Limits = config.limits
        self._identify = Identify(authenticator)
        self._policies = policies
        self._recorder = recorder
        self._leg = leg
        self._authorization = Authorization(leg, counters)
        self._counters = counters
        self._clock = clock
        self._judging = judging
        self._lists = lists
        self._pinned = pinned
        self._relisting = relisting
        self._answers = answers

    async def handle(self, exchange: AgentSide) -> None:
        """Serves one request whose head is well formed: the way of a call."""
        visit = Visit(self._clock.new_id(), self._clock.monotonic_ns())
        try:
            upstream = visit.upstream = self._places.take(exchange.head.upstream)
        except Refused as refused:
            await self._refuse(exchange, visit, refused)
            return
        visit.agent, visit.has_place = exchange, True
        visit.stages = self._stages()
        self._counters.in_flight += 1
        try:
            head = exchange.head
            principal = await self._known(visit, exchange, upstream)
            body = exchange.arrived_body(upstream.limits.request_bytes)
            if body is None or len(body) > FREE_BYTES or "content-encoding" in head.first:
                wait_s = self._limits.body_wait_s
                head, body = await taken(visit, exchange, body, self.bodies, wait_s)
            call = await self._judged(visit, exchange, upstream, head, body)
            if call.received is not None:  # it is on record, and masked is what goes on
                call = visit.call = call._replace(received=None)
            del body
            if visit.obligations is not None:
                exchange.oblige(visit.obligations)
                self._answers.sessions.oblige(principal, call)
            reply = await self._forward(visit, upstream, call)
            try:
                reply = await self._fit_to_show(visit, principal, call, reply)
                headers = reply_headers(reply, upstream, head, visit.call_id)
                if reply.status in CHALLENGES:
                    headers = self._authorization.challenges(headers, upstream, head)
                if not reply.complete:
                    await self._streamed(exchange, visit, upstream, principal, headers, reply)
                elif exchange.write(reply.status, headers, reply.first):
                    await exchange.drain()
            finally:
                reply.close()
            self._conclude(visit, visit.ends_as)
        except Refused as refused:
            refused.is_hidden = self._is_hidden(visit, refused)
            await self._refuse(exchange, visit, refused)
        except ClientGone:
            self._end_unheard(exchange, visit, OutcomeKind.ABORTED_BY_CLIENT)
        except asyncio.CancelledError:
            # Who cuts a call off: the client by leaving, or we by stopping before it ended.
            cut = OutcomeKind.UNKNOWN if exchange.is_draining else OutcomeKind.ABORTED_BY_CLIENT
            self._end_unheard(exchange, visit, cut)
            raise
        except Exception:
            _log.exception("call failed inside the sidecar", extra={"call_id": visit.call_id})
            await self._refuse(exchange, visit, Refused("internal_error"))
        finally:
            self._leave(visit, upstream)
            self._counters.in_flight -= 1
            self._tell(visit, exchange)

    async def refuse_head(self, exchange: AgentSide, refused: Refused) -> None:
        """Answers a request whose head was refused; there is no caller yet, and it was counted."""
        self._counters.unrecorded_refusals += 1
        status, headers, body = problem_reply(refused, self._clock.new_id())
        await exchange.send(status, headers, body)

    async def said_by_server(self, exchange: AgentSide, upstream: Upstream, line: bytes) -> bytes:
        """What a server says over a pipe to the agent that `exchange` stands for; see
        `ServerRequests.said`. Raises Refused where that agent may not call either."""
        visit = Visit(self._clock.new_id(), self._clock.monotonic_ns())
        principal = await self._known(visit, exchange, upstream)
        return await self._answers.requests.said(Within(upstream, principal, None), line)

    # -- its steps -------------------------------------------------------------------------

    async def _known(self, visit: Visit, exchange: AgentSide, upstream: Upstream) -> Principal:
        """Who calls; raises Refused for one who may not, as he stands now."""
        known = self._identify.known(exchange, upstream)
        principal = visit.principal = known or await self._identify.asked(exchange, upstream)
        if self._places.are_shared and visit.has_place and visit.share is None:
            visit.share = self._places.share(upstream.name, principal.tenant)
        require_active(principal.state)
        return principal

    async def _judged(
        self,
        visit: Visit,
        exchange: AgentSide,
        upstream: Upstream,
        head: RequestHead,
        body: bytes,
    ) -> ToolCall:
        """The call as it is to be forwarded, once its intent is durable and stands in `visit`."""
        while True:
            principal = visit.principal
            if principal is None or visit.permit is not None:
                # A call that was held until somebody said yes: all is asked again, as it is by now.
                principal = await self._known(visit, exchange, upstream)
            policy_set = visit.policy_set = self._policies.current
            call = visit.call = self._read(head, body, upstream, policy_set, visit, principal)
            if call.action == TOOLS_CALL and not self._pinned.is_fit(principal, call):
                await self._require_fit(upstream, policy_set, principal, call)
            visit.intent = await self._judging.intent(visit, policy_set, principal, call)
            if visit.intent is not None:
                if call.action == CANCELLED:
                    meant = self._answers.sessions.meant(head, principal, call)
                    self._judging.holding.take_back(meant)
                return visit.call

    async def _require_fit(
        self, upstream: Upstream, policy_set: PolicySet, principal: Principal, call: ToolCall
    ) -> None:
        """Raises Refused, after the server was asked for a list that it owes."""
        try:
            await self._pinned.require_fit(policy_set, principal, call)
        except Refused as refused:
            owes = refused.code == "list_changed"
            if not owes or not await self._relisting.is_compared(upstream, principal, call):
                raise
            await self._pinned.require_fit(policy_set, principal, call)

    def _read(
        self,
        head: RequestHead,
        body: bytes,
        upstream: Upstream,
        policy_set: PolicySet,
        visit: Visit,
        principal: Principal,
    ) -> ToolCall:
        """The call; a signed claim says of which run it is, whatever the caller says beside it."""
        dialect = DIALECTS[upstream.kind]
        call = dialect.read_call(head, body, upstream, policy_set, self._limits, visit.call_id)
        visit.call = call  # what is refused from here on is a call
        if head.is_handshake and not call.upgrades:
            raise Refused("upgrade_refused")  # no protocol serves it by not knowing of it
        if call.dialect == "mcp":
            call = self._answers.sessions.entered(head, principal, call)
            self._answers.sessions.begin(visit, head, principal, call)
        return call._replace(run_id=principal.run) if principal.run else call

    async def _forward(self, visit: Visit, upstream: Upstream, call: ToolCall) -> Reply:
        visit.forwarding_ns = self._clock.monotonic_ns()
        may_have_arrived = True
        try:
            if call.upgrades:
                reply = await self._leg.open_websocket(upstream, call.target, call.headers)
            elif call.action == METADATA:
                reply = await self._authorization.metadata(upstream, str(call.args["resource"]))
            else:
                reply = await self._leg.send(
                    upstream, call.http.method, call.target, call.headers, call.body
                )
        except Refused as refused:
            may_have_arrived = refused.code not in NOT_FORWARDED
            raise
        finally:
            self._counters.forwarded += may_have_arrived
        visit.answered_ns = self._clock.monotonic_ns()
        visit.http_status, visit.was_whole = reply.status, reply.complete
        return reply

    async def _streamed(
        self,
        exchange: AgentSide,
        visit: Visit,
        upstream: Upstream,
        principal: Principal,
        headers: list[tuple[str, str]],
        reply: Reply,
    ) -> None:
        """A reply as it comes, or a WebSocket, whose frames are not judged; for as long as the
        agent may call."""
        tokens = self._identify.tokens(exchange, upstream)
        if reply.switched is None:
            chunks = self._held.passing(reply.chunks, visit)
            async with self._streams.cut_for(principal, tokens, visit.call):
                await exchange.stream(reply.status, headers, chunks)
            return
        counts = self._counters.websockets
        relay = Relay(reply.switched, upstream, counts, self._clock.random_bytes)
        try:
            with self._streams.ended_by(principal, relay.bar, tokens):
                await exchange.switch(headers, relay)
        finally:
            relay.cut()
        visit.ends_as = relay.kind

    async def _fit_to_show(
        self, visit: Visit, principal: Principal, call: ToolCall, reply: Reply
    ) -> Reply:
        """The reply as the policies let the caller see it; raises Refused, as its chunks may."""
        if not reply.complete and (call.dialect == "mcp" or visit.obligations is not None):
            reply = self._held.coming(reply, visit)
        if visit.obligations is not None:
            reply = await held_to(reply, visit.obligations, call)
        if call.dialect != "mcp":
            return reply
        if call.action in LISTING:
            reply = await self._lists.shown(reply, principal, call, visit.forwarding_ns)
        return await self._answers.shown(reply, visit, call)

    def _is_hidden(self, visit: Visit, refused: Refused) -> bool:
        if visit.principal is None or visit.upstream is None or visit.upstream.kind != "mcp":
            return False
        policy_set = visit.policy_set or self._policies.current
        upstream = visit.upstream.name
        return self._lists.hides(policy_set, visit.principal, upstream, visit.call, refused)

    # -- its ends --------------------------------------------------------------------------

    def _leave(self, visit: Visit, upstream: Upstream) -> None:
        """Gives back what the call took, however it ended."""
        if visit.has_place:
            self._places.give_back(upstream.name, visit.share)
        if visit.body is not None:
            visit.body.let_go()
        if visit.held_bytes:
            self._held.let_go(visit)
        self._answers.sessions.end(visit)

    def _stages(self) -> Stages | None:
        return Stages() if self._spans is not None else None

    def _tell(self, visit: Visit, exchange: AgentSide) -> None:
        """To whoever keeps traces."""
        if self._spans is not None and visit.stages is not None:
            self._spans.tell(call_span(visit, visit.stages, exchange.head, self._clock))

    def _conclude(self, visit: Visit, kind: OutcomeKind) -> None:
        """Records how a forwarded call ended; before an intent there is nothing to conclude."""
        if visit.intent is None:
            return
        outcome = Outcome(kind, visit.http_status, visit.request_state)
        self._recorder.outcome(visit.intent, outcome)
        visit.intent, visit.ended = None, kind
        self._counters.ended(kind)
        if visit.upstream is None or not visit.answered_ns:
            return
        upstream_ns = visit.answered_ns - visit.forwarding_ns
        added_ns = None
        if visit.was_whole:
            all_ns = self._clock.monotonic_ns() - visit.started_ns
            added_ns = all_ns - upstream_ns - visit.held_ns
        self._counters.took(visit.upstream.name, upstream_ns, added_ns, visit.http_status)

    def _end_unheard(self, exchange: AgentSide, visit: Visit, kind: OutcomeKind) -> None:
        """Nobody is there to be answered; a body that broke off is on record all the same."""
        self._conclude(visit, kind)
        if visit.principal is None:
            return
        refused = visit.unheard
        if refused is None:
            if visit.call is not None or exchange.has_whole_body:
                return
            refused = Refused("body_incomplete")
        self._counters.refused(refused.code, refused.detail)
        self._recorder.refusal_unheard(
            visit.principal,
            call_id=visit.call_id,
            upstream=exchange.head.upstream,
            action=exchange.head.method,
            refused=refused,
            call=visit.call,
            run=visit.run,
        )

    async def _refuse(self, exchange: AgentSide, visit: Visit, refused: Refused) -> None:
        is_new = visit.intent is None
        if refused.code == "unauthenticated" and visit.upstream is not None and is_new:
            try:
                if await self._authorization.answers(exchange, visit.upstream, visit.call_id):
                    return
            except Refused as other:
                refused = other
        upstream = failing_upstream(exchange, visit.upstream.kind if visit.upstream else "")
        self._counters.refused(refused.code, refused.detail, upstream)
        if visit.stages is not None:
            visit.stages.refused = refused.code
        if visit.intent is not None:
            self._conclude(visit, ending_by(refused))
        elif refused.is_recorded:
            pass
        elif visit.principal is not None:
            await self._recorder.refusal(
                visit.principal,
                call_id=visit.call_id,
                upstream=exchange.head.upstream,
                action=exchange.head.method,
                refused=refused,
                call=visit.call,
                run=visit.run,
            )
        else:
            self._counters.unrecorded_refusals += 1
        if exchange.has_begun:
            exchange.abort()
            return
        if visit.upstream is None:
            status, headers, body = problem_reply(refused, visit.call_id, None, exchange.head)
        else:
            refusal = DIALECTS[visit.upstream.kind].refusal
            status, headers, body = refusal(refused, visit.call_id, visit.call, exchange.head)
        with contextlib.suppress(ClientGone):  # the refusal stands, heard or not
            await exchange.send(status, headers, body)
