"""Streams of events that say nothing for long: their clients are sent a comment now and then.

Knows: that whatever stands on the way cuts what is silent, and that a client which vanished is
noticed by what is sent to it alone (WHATWG HTML, section 9.2.7). One sweep looks after all streams,
since nothing has to come at its very second. What waits for its client to take it is not silent.
Must not know: upstreams, why nothing comes, how a reply is framed.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from sidecar.proxy.event_boundary import EventBoundary

#: So often, while one silence lasts, it is looked for: a comment comes that much late at most.
LOOKS: Final = 8
#: It is never looked for more often than so.
LOOK_S_MIN: Final = 0.01


class Carries(Protocol):
    """What a stream is sent by."""

    @property
    def is_quiet(self) -> bool:
        """Whether the client has been given all that was sent so far."""
        ...

    def interject(self, piece: bytes) -> None:
        """Sends a piece in the middle of the stream."""
        ...


class Heartbeat(EventBoundary):
    """Of one stream; all that is sent in it must have passed."""

    __slots__ = ("_carries", "_looks")

    def __init__(self, carries: Carries) -> None:
        super().__init__()
        self._carries = carries
        self._looks = 0

    def passes(self, piece: bytes) -> bytes:
        """See EventBoundary.passes."""
        self._looks = 0
        return super().passes(piece)

    def look(self) -> None:
        """The sweep comes by."""
        self._looks += 1
        if self._looks > LOOKS and self.is_open and self._carries.is_quiet:
            self._carries.interject(self.put_in())
            self._looks = 1


class Heartbeats:
    """Of all streams of a front door; all is done on the event loop's thread."""

    def __init__(self, after_s: float, loop: asyncio.AbstractEventLoop) -> None:
        """`after_s` is the silence after which a comment is sent; 0: none ever is."""
        self._look_s = max(after_s / LOOKS, LOOK_S_MIN) if after_s else 0.0
        self._loop = loop
        self._open: set[Heartbeat] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, carries: Carries) -> Heartbeat | None:
        """What the pieces of a stream must pass from now on, until `end`; None: nothing does."""
        if not self._look_s:
            return None
        beat = Heartbeat(carries)
        self._open.add(beat)
        if self._timer is None:
            self._timer = self._loop.call_later(self._look_s, self._sweep)
        return beat

    def end(self, beat: Heartbeat) -> None:
        """The stream has ended, or it is broken off."""
        self._open.discard(beat)

    def _sweep(self) -> None:
        self._timer = self._loop.call_later(self._look_s, self._sweep) if self._open else None
        for beat in tuple(self._open):
            beat.look()
