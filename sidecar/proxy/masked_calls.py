"""What is masked of a call: made once for all who ask, and apart from the event loop if it is much.

Knows: that a decision may wait for nothing between its run as it was read and its record in the
queue: where masks are missing it is given up, they are made, and it is made anew. There is one
thread for them, one call after the other, so that a crowd of large calls takes no more of the
interpreter's time than one; agents take turns, so that the crowd is waited for by its own; whoever
does not wait any more takes none.
Must not know: rules, how a value is masked, what is recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from sidecar.errors import Refused
from sidecar.model import Principal, ToolCall
from sidecar.policy.terms import Redaction
from sidecar.proxy.obligations_request import masked_to_send, recordable
from storage.lanes import Lane

T = TypeVar("T")

#: Arguments of so many bytes are masked where they are met; larger ones apart.
INLINE_BYTES_MAX: Final = 8 * 1024


class MaskedCall:
    """A call as a redaction wants it recorded, and sent."""

    __slots__ = ("_call", "_redaction", "_sent", "_shown")

    def __init__(self, call: ToolCall, redaction: Redaction) -> None:
        self._call = call
        self._redaction = redaction
        self._shown: ToolCall | None = None
        self._sent: ToolCall | Refused | None = None

    def is_of(self, call: ToolCall, redaction: Redaction) -> bool:
        """Whether it is this very call that was masked, and so."""
        return self._call is call and self._redaction == redaction

    def shown(self) -> ToolCall:
        """As it may be recorded, and as reasons may show it."""
        if self._shown is None:
            self._shown = recordable(self._call, self._redaction)
        return self._shown

    def sent(self) -> ToolCall:
        """As it may be sent; raises Refused("unredactable_request")."""
        if self._sent is None:
            try:
                self._sent = masked_to_send(self._call, self._redaction)
            except Refused as refused:
                self._sent = refused
        if isinstance(self._sent, Refused):
            raise self._sent
        return self._sent


class Unmasked(Exception):
    """A call is too large to be masked at once: its masks are to be made first."""

    def __init__(self, redaction: Redaction) -> None:
        super().__init__()
        self.redaction = redaction


class HasMasks(Protocol):
    """What keeps the masks of a call while it is judged."""

    masked: MaskedCall | None


def masks_of(judged: HasMasks, call: ToolCall, redaction: Redaction) -> MaskedCall:
    """The masks of a call that is judged: those it has, or new ones of a small one, which it then
    has. Raises Unmasked."""
    known = judged.masked
    if known is None or not known.is_of(call, redaction):
        if is_large(call):
            raise Unmasked(redaction)
        known = judged.masked = MaskedCall(call, redaction)
    return known


def is_large(call: ToolCall) -> bool:
    """Whether it is masked apart; what has no body is told by its arguments."""
    return (len(call.body) or len(repr(call.args))) > INLINE_BYTES_MAX


class _Work:
    """Something to be done apart, and who waits for it."""

    __slots__ = ("do", "future")

    def __init__(self, do: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        self.do = do
        self.future = future


class Masking:
    """One thread, made when first needed, in which callers take turns. One for a sidecar: `close`
    it."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="aegis-masking")
        self._waiting: Lane[_Work] = Lane()
        self._is_busy = False

    async def do(self, principal: Principal, work: Callable[[], T]) -> T:
        """What the work gives, done apart, when it is the caller's turn; not begun if nobody waits
        for it any more."""
        whose = f"{principal.tenant}/{principal.agent}"
        one = _Work(work, asyncio.get_running_loop().create_future())
        self._waiting.add(whose, one)
        if not self._is_busy:
            self._begin_next()
        try:
            done: T = await one.future
            return done
        finally:
            self._waiting.remove(whose, one)

    def close(self) -> None:
        """Nothing more is begun; the thread ends with what it does."""
        for one in self._waiting.take(self._waiting.depth):
            one.future.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def of(
        self, principal: Principal, call: ToolCall, redaction: Redaction, *, is_sent: bool
    ) -> MaskedCall:
        """The masks of a call, however large; `is_sent` if it may go on to an upstream."""
        return await self.do(principal, partial(_made, call, redaction, is_sent=is_sent))

    def _begin_next(self) -> None:
        self._is_busy = bool(self._waiting.depth)
        if self._is_busy:
            (one,) = self._waiting.take(1)
            loop = asyncio.get_running_loop()
            loop.run_in_executor(self._executor, one.do).add_done_callback(partial(self._told, one))

    def _told(self, one: _Work, done: asyncio.Future[Any]) -> None:
        error = None if done.cancelled() else done.exception()
        if not one.future.done():
            if done.cancelled():
                one.future.cancel()
            elif error is not None:
                one.future.set_exception(error)
            else:
                one.future.set_result(done.result())
        self._begin_next()


def _made(call: ToolCall, redaction: Redaction, *, is_sent: bool) -> MaskedCall:
    made = MaskedCall(call, redaction)
    made.shown()
    if is_sent:
        with contextlib.suppress(Refused):  # whoever wants to send it is told
            made.sent()
    return made
