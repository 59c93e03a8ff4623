"""An open WebSocket: bytes both ways between the agent and the upstream, until one end is reached.

Knows: two transports, that whoever does not take makes the other wait, and how long a connection
may be silent, stuck and open. Frames are followed by their heads (websocket_frames), so that a
limit or a stop is said in a Close frame where one may stand; where frames crowd, the rest of them
is taken when the event loop comes round again, and nothing is read meanwhile. Nothing of a payload
is kept, read or judged.
Must not know: how the connections came about, policies, the ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sidecar.model import OutcomeKind
from sidecar.proxy.websocket_frames import (
    GOING_AWAY,
    POLICY_VIOLATION,
    TOO_BIG,
    Fault,
    FrameWalk,
    close_frame,
)

if TYPE_CHECKING:
    from sidecar.config.model import Upstream
    from sidecar.proxy.upstream import Switched
    from sidecar.telemetry.counters import WebSocketCounters

#: How long a peer that does not take what it is sent may keep the other waiting.
WRITE_WAIT_S: Final = 60.0
#: How long a peer may take to read the last it is sent, and to close.
FAREWELL_S: Final = 5.0

#: What an ending is on record, by its cause.
ENDINGS: Final = {
    "closed": OutcomeKind.COMPLETED,
    "agent_gone": OutcomeKind.ABORTED_BY_CLIENT,
    "agent_fault": OutcomeKind.ABORTED_BY_CLIENT,
    "upstream_gone": OutcomeKind.UPSTREAM_ERROR,
    "upstream_fault": OutcomeKind.UPSTREAM_ERROR,
    "message_too_large": OutcomeKind.WITHHELD,
    "idle": OutcomeKind.WITHHELD,
    "open_too_long": OutcomeKind.WITHHELD,
    "slow_reader": OutcomeKind.WITHHELD,
    "agent_barred": OutcomeKind.WITHHELD,
    "shutting_down": OutcomeKind.UNKNOWN,
}


class End:
    """One end of a relay: where its bytes go, and how far what it sends has come."""

    __slots__ = ("is_lost", "is_paused", "stuck", "transport", "turn", "walk")

    def __init__(self, walk: FrameWalk) -> None:
        self.walk = walk
        #: None before it begins and after it is lost.
        self.transport: asyncio.Transport | None = None
        self.is_paused = False
        #: Whether the connection is gone, while frames of it still wait for their turn.
        self.is_lost = False
        #: When more of what it sent is taken; None while nothing of it waits, or waits for the
        #: other end to take what it is sent.
        self.turn: asyncio.Handle | None = None
        self.stuck: asyncio.TimerHandle | None = None


class Relay:
    """Carries one WebSocket. `begin` it, wait for `ended`, then read `kind`; `cut` in any case.

    The agent's connection tells it what came there (`from_agent`, `agent_pauses`, `agent_resumes`,
    `agent_lost`); the upstream's it takes over itself.
    """

    def __init__(
        self,
        switched: Switched,
        upstream: Upstream,
        counters: WebSocketCounters,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        size = upstream.limits.message_bytes
        self._loop = asyncio.get_running_loop()
        self._switched = switched
        self._agent = End(FrameWalk(is_masked=True, message_bytes_max=size))
        self._upstream = End(FrameWalk(is_masked=False, message_bytes_max=size))
        self._idle_s = upstream.timeouts.idle_s
        self._open_s = upstream.timeouts.websocket_s
        self._counters = counters
        self._random_bytes = random_bytes
        self._moved_at_s = self._loop.time()
        self._has_begun = False
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self.ended: asyncio.Future[None] = self._loop.create_future()
        #: Why it ends, from the moment on that it does.
        self.cause = ""

    @property
    def kind(self) -> OutcomeKind:
        """How it ended, once it has."""
        if self.cause == "shutting_down" and self._agent.walk.has_closed:
            return OutcomeKind.COMPLETED  # both have taken leave
        return ENDINGS[self.cause]

    def begin(self, agent: asyncio.Transport) -> None:
        """From now on bytes pass."""
        self._has_begun = True
        self._counters.open += 1
        self._counters.opened += 1
        self._agent.transport = agent
        upstream = self._switched.transport
        self._timers["idle"] = self._loop.call_later(self._idle_s, self._look_for_silence)
        self._timers["open"] = self._loop.call_later(self._open_s, self._ran_out)
        if upstream.is_closing():
            self._end("upstream_gone")
            return
        self._upstream.transport = upstream
        self._upstream.is_paused = True
        upstream.set_protocol(_UpstreamEnd(self))
        if self._switched.first:
            self.from_upstream(self._switched.first)
        if not self.cause:
            self._read_again(self._upstream, self._agent)

    # -- what the two connections say ----------------------------------------------------------

    def from_agent(self, data: bytes) -> None:
        """The agent sent bytes."""
        self._counters.agent_bytes += len(data)
        self._pass_on(data, self._agent, self._upstream)

    def from_upstream(self, data: bytes) -> None:
        """The upstream sent bytes."""
        self._counters.upstream_bytes += len(data)
        self._pass_on(data, self._upstream, self._agent)

    def agent_pauses(self) -> None:
        """The agent does not take what is sent to it."""
        self._wait_for(self._agent, self._upstream)

    def agent_resumes(self) -> None:
        """The agent takes what is sent to it again."""
        self._go_on(self._agent, self._upstream)

    def upstream_pauses(self) -> None:
        """The upstream does not take what is sent to it."""
        self._wait_for(self._upstream, self._agent)

    def upstream_resumes(self) -> None:
        """The upstream takes what is sent to it again."""
        self._go_on(self._upstream, self._agent)

    def agent_lost(self) -> None:
        """The agent's connection is gone; nobody is left to be told anything."""
        self._agent.transport = None
        if self._agent.walk.has_more and not self.cause:
            self._agent.is_lost = True  # what it said last is passed on before that is told
            return
        self._end(self._cause_of_loss("agent_gone"))
        upstream = self._upstream.transport
        if upstream is not None:
            # What it was sent last, a Close for one, it may still read, until the farewell is over.
            upstream.close()

    def upstream_lost(self) -> None:
        """The upstream's connection is gone."""
        self._upstream.transport = None
        if self._upstream.walk.has_more and not self.cause:
            self._upstream.is_lost = True
            return
        self._end(self._cause_of_loss("upstream_gone"))

    # -- what its owner does -------------------------------------------------------------------

    def go_away(self) -> None:
        """The sidecar is stopping."""
        self._end("shutting_down", GOING_AWAY)

    def bar(self) -> None:
        """The agent may not call any more."""
        self._end("agent_barred", POLICY_VIOLATION)

    def cut(self) -> None:
        """Drops both connections, if they are still there."""
        if not self.cause:
            self.cause = "shutting_down"
            self._counters.ended[self.cause] += self._has_begun
        for end in (self._agent, self._upstream):
            if end.transport is not None:
                end.transport.abort()
        if not self._switched.transport.is_closing():
            self._switched.transport.abort()
        self._finish()

    # -- its own -------------------------------------------------------------------------------

    def _pass_on(self, data: bytes, sender: End, receiver: End) -> None:
        walk = sender.walk
        before = walk.messages
        good = walk.take(data)
        self._counters.messages += walk.messages - before
        if walk.has_more:
            self._pause(sender)
            self._take_soon(sender, receiver)
        if self.cause:
            # All is said; what still comes is only read, so that the peer gets to read.
            if walk.has_closed:
                self._shut(sender)
            return
        self._moved_at_s = self._loop.time()
        if good and receiver.transport is not None:
            receiver.transport.write(good)
        if walk.fault is not None:
            self._fail(walk.fault, "agent_fault" if sender is self._agent else "upstream_fault")

    def _take_soon(self, sender: End, receiver: End) -> None:
        if sender.walk.has_more and sender.turn is None:
            sender.turn = self._loop.call_soon(self._take_more, sender, receiver)

    def _take_more(self, sender: End, receiver: End) -> None:
        """What came beside too many other frames."""
        sender.turn = None
        if self.ended.done() or receiver.stuck is not None:
            return  # for good, or until it takes what it is sent
        self._pass_on(b"", sender, receiver)
        if sender.walk.has_more:
            return
        if sender.is_lost:
            self.agent_lost() if sender is self._agent else self.upstream_lost()
        else:
            self._read_again(sender, receiver)

    def _fail(self, fault: Fault, whose: str) -> None:
        self._end("message_too_large" if fault.code == TOO_BIG else whose, fault.code)

    def _wait_for(self, slow: End, other: End) -> None:
        if self.cause:
            return
        slow.stuck = self._loop.call_later(WRITE_WAIT_S, self._is_stuck)
        self._pause(other)

    def _go_on(self, slow: End, other: End) -> None:
        if slow.stuck is not None:
            slow.stuck.cancel()
            slow.stuck = None
        self._take_soon(other, slow)
        self._read_again(other, slow)

    def _pause(self, end: End) -> None:
        if end.transport is not None and not end.is_paused:
            end.is_paused = True
            end.transport.pause_reading()

    def _read_again(self, end: End, receiver: End) -> None:
        """Unless what it sends would have to wait."""
        if end.walk.has_more or receiver.stuck is not None:
            return
        if end.is_paused and end.transport is not None and not end.transport.is_closing():
            end.is_paused = False
            end.transport.resume_reading()

    def _is_stuck(self) -> None:
        self._end("slow_reader", POLICY_VIOLATION)

    def _ran_out(self) -> None:
        self._end("open_too_long", GOING_AWAY)

    def _look_for_silence(self) -> None:
        left_s = self._moved_at_s + self._idle_s - self._loop.time()
        if left_s > 0:
            # Never finer than a tenth of a second.
            self._timers["idle"] = self._loop.call_later(max(left_s, 0.1), self._look_for_silence)
        else:
            self._end("idle", GOING_AWAY)

    def _cause_of_loss(self, otherwise: str) -> str:
        is_said = self._agent.walk.has_closed or self._upstream.walk.has_closed
        return "closed" if is_said else otherwise

    def _end(self, cause: str, code: int = 0) -> None:
        """Begins to end it: with a Close frame of ours, if there is a code and room for one."""
        if self.cause:
            if self._upstream.transport is None and self._agent.transport is None:
                self._finish()
            return
        self.cause = cause
        self._counters.ended[cause] += 1
        self._stop_timers()
        self._timers["farewell"] = self._loop.call_later(FAREWELL_S, self.cut)
        for end, sender in ((self._agent, self._upstream), (self._upstream, self._agent)):
            transport = end.transport
            if transport is None:
                continue
            is_told = sender.walk.has_closed
            if code and sender.walk.is_between_frames and not is_told:
                mask = self._random_bytes(4) if end is self._upstream else b""
                transport.write(close_frame(code, mask))
                is_told = True
            self._take_soon(end, sender)
            self._read_again(end, sender)
            # Who was told answers with a Close of its own, unless it cannot be understood.
            if not is_told or end.walk.has_closed or end.walk.fault is not None:
                self._shut(end)
        if self._upstream.transport is None and self._agent.transport is None:
            self._finish()

    def _shut(self, end: End) -> None:
        """Nothing more is sent there."""
        transport = end.transport
        if transport is None:
            return
        if transport.can_write_eof():
            with contextlib.suppress(OSError):  # it is gone, and will be told of as lost
                transport.write_eof()
        else:
            transport.close()

    def _finish(self) -> None:
        """It has ended: nothing of it stays."""
        self._stop_timers()
        if not self.ended.done():
            self._counters.open -= self._has_begun
            self.ended.set_result(None)

    def _stop_timers(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for end in (self._agent, self._upstream):
            if end.stuck is not None:
                end.stuck.cancel()
                end.stuck = None


class _UpstreamEnd(asyncio.Protocol):
    """The upstream's connection, once it speaks frames."""

    __slots__ = ("_relay",)

    def __init__(self, relay: Relay) -> None:
        self._relay: Relay | None = relay

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._relay is not None:
            self._relay.from_upstream(data)

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        if self._relay is not None:
            self._relay.upstream_pauses()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        if self._relay is not None:
            self._relay.upstream_resumes()

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio.Protocol."""
        relay, self._relay = self._relay, None
        if relay is not None:
            relay.upstream_lost()
