"""A local MCP server and its one agent: every line of either, in order.

Knows: which requests wait for an answer, and whose answer a line is. The agent's lines go through
the pipeline one after the other, so that the server gets them in the order in which they were said;
their answers are waited for side by side. The server's lines go out in their order too: what comes
behind an answer waits until that is judged, masked and handed over.
Must not know: policies, the ledger, how a process is started or ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from sidecar.errors import Refused
from sidecar.proxy.agent_side import AgentSide, ClientGone
from sidecar.proxy.dialects.mcp_message import INVALID_REQUEST, RpcRefused
from sidecar.proxy.masking import NotMaskable
from sidecar.proxy.masking_mcp import masked_message
from sidecar.proxy.server_requests import RequestRefused, refusal_message
from sidecar.proxy.stdio.agent import AgentPipes
from sidecar.proxy.stdio.child import Child, ChildGone
from sidecar.proxy.stdio.exchange import StdioExchange
from sidecar.proxy.stdio.message import (
    LISTEN,
    IdKey,
    Incoming,
    Said,
    asked_in,
    head_of,
    id_key,
    number_key,
    read_line,
    read_said,
)
from sidecar.proxy.upstream import Reply

if TYPE_CHECKING:
    from sidecar.config.model import Limits, Upstream
    from sidecar.policy.terms import Obligations, Redaction

_log = logging.getLogger("aegis.stdio")

#: Ids of requests that nobody waits for any more, which the server may still answer.
ABANDONED_MAX: Final = 4096
#: Requests of the server that the agent may still answer; of more, the oldest it may not.
ASKED_MAX: Final = 4096
#: What is larger is masked in a thread, so that other calls go on.
INLINE_BYTES_MAX: Final = 16 * 1024

_ANSWER_HEADERS: Final = (("Content-Type", "application/json"),)

Handle = Callable[[AgentSide], Awaitable[None]]
Refuse = Callable[[AgentSide, Refused], Awaitable[None]]
Judge = Callable[[AgentSide, "Upstream", bytes], Awaitable[bytes]]


class StdioSession:
    """Carries lines between `agent` and `child`; it is the pipeline's leg to the server, too.

    `dropped` counts lines of the server that nobody was given, by
    cause: no_message, unasked, too_long, unmaskable, refused.
    """

    def __init__(self, upstream: Upstream, limits: Limits, agent: AgentPipes, child: Child) -> None:
        self._upstream = upstream
        self._limits = limits
        self._agent = agent
        self._child = child
        self._of_task: dict[asyncio.Task[None], StdioExchange] = {}
        #: In whose place the server is heard when it says something by itself.
        self._listener = StdioExchange(
            Incoming(b"", None), head_of(Incoming(b"", None), upstream.name), agent
        )
        self._open: dict[IdKey, StdioExchange] = {}
        self._waiting: dict[IdKey, asyncio.Future[bytes]] = {}
        self._abandoned: dict[IdKey, Obligations | None] = {}
        #: What those were held to whose ids are forgotten by now.
        self._lingering: dict[Redaction, None] = {}
        #: What the server has asked and the agent has not answered.
        self._asked: dict[IdKey, None] = {}
        self._heard_at_s = 0.0
        self.dropped: Counter[str] = Counter()

    # -- from the agent to the server ------------------------------------------------------

    async def take_in(self, handle: Handle, refuse: Refuse) -> None:
        """Carries the agent's lines to the server until the agent says no more.

        `handle` is the way of a call, `refuse` answers what fell off it.
        """
        async for line in self._agent.lines():
            await self._take(self._incoming(line), handle, refuse)
        if self._agent.ended_within_a_line():
            broken = Incoming(b"", None, Refused("body_incomplete"))
            await self._take(broken, handle, refuse)

    def _incoming(self, line: bytes | None) -> Incoming:
        if line is None:
            most = self._upstream.limits.request_bytes
            fault = Refused("body_too_large", f"The line is longer than {most} bytes")
            asks = asked_in(*self._agent.ends_of_skipped())
            return self._addressed(Incoming(b"", None, fault, asks))
        incoming = read_line(line, self._limits.depth, self._limits.values)
        if incoming.asks is not None:
            return self._addressed(incoming)
        if incoming.is_answer:
            return self._as_asked(incoming)
        key = incoming.key
        if self._is_taken(key):
            # Answered without an id: under this one it would be taken for the first one's answer.
            reason = "The id is that of a request which is not answered yet"
            fault = RpcRefused("invalid_rpc", reason, rpc_code=INVALID_REQUEST)
            return incoming._replace(fault=fault)
        return incoming

    def _addressed(self, incoming: Incoming) -> Incoming:
        """Without an id that cannot be answered: another request has it."""
        return incoming._replace(asks=None) if self._is_taken(id_key(incoming.asks)) else incoming

    def _is_taken(self, key: IdKey | None) -> bool:
        return key in self._open or key in self._abandoned or key in self._waiting

    def _as_asked(self, incoming: Incoming) -> Incoming:
        """An answer of the agent; made up, it would be a way to tell the server anything."""
        key = incoming.answers
        if key is not None and key in self._asked:
            del self._asked[key]
            return incoming
        return incoming._replace(fault=Refused("unasked_answer"))

    async def _take(self, incoming: Incoming, handle: Handle, refuse: Refuse) -> None:
        """One line through the pipeline, until it went to the server or will not."""
        exchange = StdioExchange(incoming, head_of(incoming, self._upstream.name), self._agent)
        key = incoming.key if incoming.fault is None else None
        if key is not None:
            self._open[key] = exchange
        task = asyncio.ensure_future(self._handled(exchange, key, handle, refuse))
        exchange.task = task
        self._of_task[task] = exchange
        task.add_done_callback(self._of_task.pop)
        await exchange.passed.wait()
        if incoming.cancels is not None and exchange.was_told:
            self._take_back(incoming.cancels)

    async def _handled(
        self, exchange: StdioExchange, key: IdKey | None, handle: Handle, refuse: Refuse
    ) -> None:
        try:
            await handle(exchange)
        except ClientGone:
            pass  # the end of the agent's pipe is seen elsewhere
        except Exception:
            _log.exception("the handling of a line failed")
            if not exchange.has_begun and not self._agent.is_gone:
                await refuse(exchange, Refused("internal_error"))
        finally:
            if key is not None:
                self._open.pop(key, None)
            exchange.passed.set()
            exchange.ended.set()

    def _take_back(self, key: IdKey) -> None:
        """The agent does not wait for this answer any more: the server heard of it, or never will
        hear of the call, which is held."""
        exchange = self._open.get(key)
        if exchange is None or exchange.task is None:
            return
        if key in self._waiting or exchange.is_held:
            exchange.task.cancel()

    async def send(
        self,
        upstream: Upstream,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
    ) -> Reply:
        """Gives the line that is on its way to the server, and waits for its answer if it asks.

        Raises Refused: upstream_unreachable, upstream_broken, upstream_timeout.
        """
        # A call that was held goes later than lines that came after it, so its task tells which.
        task = asyncio.current_task()
        exchange = self._of_task.get(task) if task is not None else None
        if exchange is None or b"\n" in body or b"\r" in body:
            raise Refused("internal_error", detail="not one line on its way")
        if not self._child.is_open:
            raise Refused("upstream_unreachable", "The server has ended")
        key = exchange.incoming.key
        if key is not None:
            self._waiting[key] = asyncio.get_running_loop().create_future()
        try:
            await self._child.tell(body)
            exchange.was_told = True
            exchange.passed.set()
            if key is None:
                return Reply(202, ())
            return Reply(200, _ANSWER_HEADERS, await self._answer(exchange, key))
        except ChildGone:
            raise Refused("upstream_broken", "The server has ended") from None
        finally:
            if key is not None and self._waiting.pop(key, None) is not None:
                self._abandon(key, exchange.obligations)

    async def ask(
        self, upstream: Upstream, reply_id: str, headers: Sequence[tuple[str, str]], body: bytes
    ) -> Reply:
        """What else the agent says goes ahead meanwhile: the server may first want an answer that
        stands behind the call that waits. Raises Refused."""
        key, task = id_key(reply_id), asyncio.current_task()
        if key is None or self._is_taken(key) or b"\n" in body or b"\r" in body:
            raise Refused("internal_error", detail="no request of our own")
        if task in self._of_task:
            self._of_task[task].let_others_pass()
        waiting = self._waiting[key] = asyncio.get_running_loop().create_future()
        try:
            await self._child.tell(body)
            return Reply(200, _ANSWER_HEADERS, await waiting)
        except ChildGone:
            raise Refused("upstream_broken", "The server has ended") from None
        finally:
            if self._waiting.pop(key, None) is not None:
                self._abandon(key, None)

    async def open_websocket(
        self, upstream: Upstream, target: str, headers: Sequence[tuple[str, str]]
    ) -> Reply:
        """A pipe carries lines and nothing else."""
        raise Refused("upgrade_refused")

    async def close(self) -> None:
        """Nothing is kept that could be dropped: the process is its owner's."""

    async def _answer(self, exchange: StdioExchange, key: IdKey) -> bytes:
        """The answer; a server that says nothing at all for so long is not waited for."""
        waiting = self._waiting[key]
        message = exchange.incoming.message
        if message is not None and message.method == LISTEN:
            return await waiting
        idle_s = self._upstream.timeouts.idle_s
        now_s = asyncio.get_running_loop().time
        since_s = now_s()
        while not waiting.done():
            left_s = max(since_s, self._heard_at_s) + idle_s - now_s()
            if left_s <= 0:
                raise Refused("upstream_timeout", f"The server was silent for {idle_s:g} s")
            await asyncio.wait({waiting}, timeout=left_s)
        return waiting.result()

    def _abandon(self, key: IdKey, obligations: Obligations | None) -> None:
        self._abandoned[key] = obligations
        if len(self._abandoned) > ABANDONED_MAX:
            oldest = self._abandoned.pop(next(iter(self._abandoned)))
            if oldest is not None and oldest.response:
                self._lingering[oldest.response] = None

    def _redactions(self) -> list[Redaction]:
        """Of every call that the server may still be at: it need not stop at a call that nobody
        waits for."""
        obliged = (*(one.obligations for one in self._open.values()), *self._abandoned.values())
        found = {one.response: None for one in obliged if one is not None and one.response}
        return [*(found | self._lingering)]

    # -- from the server to the agent ------------------------------------------------------

    async def give_out(self, judge: Judge) -> None:
        """Carries the server's lines to the agent until the server says no more.

        `judge` is the way of what the server says by itself.
        """
        async for line in self._child.lines():
            self._heard_at_s = asyncio.get_running_loop().time()
            said = read_said(line) if line is not None else None
            if line is None:
                # Whose answer it was cannot be told: none that is waited for may be taken as given.
                self._drop("too_long")
                self.fail(Refused("upstream_broken", "The server said a line that is too long"))
            elif said is None:
                self._drop("no_message")
            elif said.answers is None:
                await self._pass_on(said, judge)
            else:
                await self._give(said.answers, said.line)
            if self._agent.is_full:
                await self._agent.drain()

    async def _give(self, key: IdKey, line: bytes) -> None:
        """Gives an answer to the one who waits for it, and waits until it is handed over."""
        if key not in self._waiting and key not in self._abandoned:
            key = number_key(key) or key
        waiting = self._waiting.pop(key, None)
        if waiting is None or waiting.done():
            if self._abandoned.pop(key, ()) == ():
                self._drop("unasked")
            return
        exchange = self._open.get(key)
        waiting.set_result(line)
        if exchange is not None:  # nobody is given what answers us
            await exchange.ended.wait()

    async def _pass_on(self, said: Said, judge: Judge) -> None:
        """A notification or a request of the server, held to what calls in flight are held to, and
        to what the policies say of it."""
        line = said.line
        try:
            for redaction in self._redactions():
                if len(line) <= INLINE_BYTES_MAX:
                    line = masked_message(line, redaction)
                else:
                    line = await asyncio.to_thread(masked_message, line, redaction)
        except NotMaskable:
            self._drop("unmaskable")
            self._say_withheld(said, Refused("cannot_redact"))
            return
        try:
            line = await judge(self._listener, self._upstream, line)
        except (RequestRefused, Refused) as error:
            self._drop("refused")
            refused = error.refused if isinstance(error, RequestRefused) else error
            self._say_withheld(said, refused)
            return
        if not self._agent.is_gone:
            if said.asks is not None:
                self._note_asked(said.asks)
            self._agent.write(line)

    def _note_asked(self, asks: str | int) -> None:
        self._asked[type(asks).__name__, asks] = None
        if len(self._asked) > ASKED_MAX:
            del self._asked[next(iter(self._asked))]

    def _say_withheld(self, said: Said, refused: Refused) -> None:
        """A server that asked learns that its request went nowhere."""
        if said.asks is None:
            return
        if not self._child.tell_if_room(refusal_message(said.asks, refused)):
            _log.warning("the server could not be told that its request was kept from the agent")

    def _drop(self, cause: str) -> None:
        self.dropped[cause] += 1
        _log.warning("a line of the server was kept from the agent", extra={"cause": cause})

    # -- the end ---------------------------------------------------------------------------

    def fail(self, refused: Refused) -> None:
        """Every answer that is waited for will not come."""
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(refused)

    async def finish(self, *, is_clients_end: bool, is_draining: bool, wait_s: float) -> None:
        """Ends what is still in flight, on record: by the agent who left, or for want of a server.

        `is_draining` says that we were told to stop.
        """
        if is_clients_end or is_draining:
            for exchange in list(self._open.values()):
                exchange.is_draining = is_draining
                if exchange.task is not None:
                    exchange.task.cancel()
        else:
            self.fail(Refused("upstream_broken", "The server ended before it answered"))
        tasks = set(self._of_task)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=wait_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
