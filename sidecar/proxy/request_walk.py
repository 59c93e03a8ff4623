"""Where one request of a connection ends and the next begins, told from the bytes themselves.

Knows: RFC 9112 sections 2.2, 6 and 7.1: empty lines may stand before a request, and lines end with
CR and LF. The parser takes a CR or an LF alone for such a line; another one on the way may take it
for the first byte of a method, or for a blank, and then the two do not agree on what was asked.
Within heads and between chunks the parser is strict itself. Its word on where a body ends is held
against the bytes here, so that the two cannot come apart unseen. Trailers are nobody's here, but
the parser (aiohttp 3.14) keeps the last of them and makes it a header of the request behind it.
Must not know: what a request means, sockets, how the parser works.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Protocol

HEAD_END: Final = b"\r\n\r\n"
_LINE_END: Final = b"\r\n"
#: Nothing is tried again in another way: a size may have as many noughts before it as one likes.
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]++)[^\r\n]*\r\n")
_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)++")
_CR, _LF = 13, 10


class Arriving(Protocol):
    """A body as the parser has it so far."""

    total_bytes: int

    def is_eof(self) -> bool:
        """Whether its end has come."""
        ...


class RequestWalk:
    """Follows what a connection sends. What the parser did not take yet waits here too."""

    __slots__ = ("_body", "_chunks", "_counted", "_is_over", "_waiting", "has_trailers")

    def __init__(self) -> None:
        self._waiting = bytearray()
        #: The body that arrives; None between two requests and within a head.
        self._body: Arriving | None = None
        self._chunks: _Chunks | None = None
        #: How much of it was followed, chunks apart.
        self._counted = 0
        #: Whether the parser has given up, so that nothing more is a request.
        self._is_over = False
        #: Whether trailers came behind a body: its request is the last that may be read.
        self.has_trailers = False

    def let_go(self) -> None:
        """Nothing comes any more: a body leads back to its connection."""
        self._body = self._chunks = None

    def is_simple(self, data: bytes, begun: Arriving | None) -> bool:
        """Whether that is all there is to say of a piece: the head that has `begun` in it, a body
        of known length as far as the parser took it, and nothing behind. Else ask `follows`."""
        if self._waiting:
            return False
        body, counted, head = self._body, self._counted, 0
        if begun is not None:
            if body is not None or data[0] <= _CR:
                return False
            body, counted, head = begun, 0, data.find(HEAD_END) + len(HEAD_END)
        elif body is None or self._chunks is not None:
            return False
        total = body.total_bytes
        if head + total - counted != len(data):
            return False
        self._body, self._counted = (None, 0) if body.is_eof() else (body, total)
        return True

    def follows(
        self, data: bytes, begun: Sequence[tuple[object, Arriving]], *, is_last: bool = False
    ) -> int | None:
        """None if all is well; else how many of the requests that have `begun` in this piece are:
        behind them a line ends with CR or LF alone, or, if now `has_trailers`, anything. Each is a
        head that tells whether its body is `chunked`, or what could not be read, and a body. What
        comes behind all of them is looked at by nobody if the one before it `is_last`."""
        self._is_over |= any(not hasattr(head, "chunked") for head, _ in begun)
        if self._is_over:
            return None
        waiting = self._waiting
        waiting += data
        at, number = 0, 0
        while True:
            if self._body is not None:
                at, is_well = self._through(self._body, at)
                if not is_well:
                    return number
                if self._body is not None:
                    break
            if self.has_trailers:
                return number
            if is_last and number == len(begun):
                self._is_over = True
                waiting.clear()
                return None
            lines = _EMPTY_LINES.match(waiting, at)
            at = at if lines is None else lines.end()
            if at == len(waiting):
                break
            if waiting[at] == _LF or (waiting[at] == _CR and at + 1 < len(waiting)):
                return number
            if waiting[at] == _CR or number == len(begun):
                break  # a line end may become whole, as a head may
            end = waiting.find(HEAD_END, at)
            if end < 0:
                return number
            at = end + len(HEAD_END)
            head, self._body = begun[number]
            is_chunked = getattr(head, "chunked", False)
            self._chunks, self._counted = _Chunks() if is_chunked else None, 0
            number += 1
        del waiting[:at]
        return None

    def _through(self, body: Arriving, at: int) -> tuple[int, bool]:
        """How far the body goes, and whether the parser agrees; at its end there is none."""
        if self._chunks is None:
            at, self._counted = at + body.total_bytes - self._counted, body.total_bytes
            is_whole = body.is_eof()
        else:
            try:
                at = self._chunks.through(self._waiting, at)
            except ValueError:
                return at, False
            # The parser may be behind, while nobody takes what it has; it is never ahead.
            is_whole = self._chunks.are_whole and body.is_eof()
            if body.is_eof() and not self._chunks.are_whole:
                return at, False
        if is_whole:
            self.has_trailers = self._chunks is not None and self._chunks.have_trailers
            self._body = self._chunks = None
        return at, True


class _Chunks:
    """The chunks of one body. Their sizes were read by the parser, which refuses odd ones."""

    __slots__ = ("_left", "_looked_at", "_looks_for_trailers", "are_whole", "have_trailers")

    def __init__(self) -> None:
        #: What is still to come of the chunk that has begun, and of the line end behind it.
        self._left = 0
        #: How much of a line was here that is not whole yet.
        self._looked_at = 0
        self._looks_for_trailers = False
        self.are_whole = False
        self.have_trailers = False

    def through(self, data: bytearray, at: int) -> int:
        """How far they go; raises ValueError for a size that is none."""
        size = len(data)
        if self._looked_at:
            # Its end is looked for only in what has come since, however it drips.
            if data.find(_LINE_END, at + self._looked_at - 1) < 0:
                self._looked_at = size - at
                return at
            self._looked_at = 0
        at += self._left
        while at < size and not self._looks_for_trailers:
            line = _SIZE.match(data, at)
            if line is None:
                break
            length = int(line[1], 16)
            self._looks_for_trailers = not length
            at = line.end() + (length + len(_LINE_END) if length else 0)
        self._left = max(0, at - size)
        if self._looks_for_trailers:
            return self._through_trailers(data, at)
        if at < size:
            if data.find(_LINE_END, at) >= 0:
                raise ValueError("no size of a chunk")
            self._looked_at = size - at
        return min(at, size)

    def _through_trailers(self, data: bytearray, at: int) -> int:
        while not self.are_whole and (end := data.find(_LINE_END, at)) >= 0:
            self.are_whole = end == at
            self.have_trailers |= not self.are_whole
            at = end + len(_LINE_END)
        return at
