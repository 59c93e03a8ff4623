"""Where a stream of server-sent events stands that is sent piece by piece (WHATWG HTML, 9.2.6).

Knows: whether something of our own may be put in now: between two events, at the begin of a line,
and not between the two halves of a line end. Lines of comment begin no event.
Must not know: what the events say, who takes them, clocks.
"""

from __future__ import annotations

import re
from typing import Final

#: A line that every client ignores, and the empty line behind it: no event comes of it.
COMMENT: Final = b":\n\n"

_MARK: Final = b"\xef\xbb\xbf"
_EMPTY_LINES: Final = (b"\n\n", b"\r\n\r\n")
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_ENDS: Final = b"\r\n"
#: The end of a line and that of an empty one behind it, or their first halves.
_TWO_ENDS: Final = (b"\n\n", b"\n\r", b"\r\r")
_MAY_BEGIN: Final = b":\r\n"
#: Behind a line end a line that is neither empty nor a comment.
_NO_COMMENT: Final = re.compile(rb"[\r\n][^:\r\n]")


class EventBoundary:
    """Reads along; `is_open` says whether a comment may be put in behind what passed so far.

    Of a final CR it cannot be known whether it is half of a line end: a stream whose lines end with
    CR alone is never open once it has begun.
    """

    __slots__ = ("_after_cr", "_at_line_start", "_held", "_in_event", "_is_first", "is_open")

    def __init__(self) -> None:
        self.is_open = True
        self._is_first = True
        self._at_line_start = True
        #: Whether a line of an event has come since the last empty line.
        self._in_event = False
        self._after_cr = False
        #: Once a comment stands before the first byte: what may be the begin of a mark.
        self._held: bytes | None = None

    def put_in(self) -> bytes:
        """The comment, which is then sent; only while it is open."""
        if self._is_first and self._held is None:
            self._held = b""
        return COMMENT

    def passes(self, piece: bytes) -> bytes:
        """What is to be sent of a piece: all of it, but for a byte order mark behind a comment: it
        is none any more where it does not stand first, and would spoil the line it begins."""
        if self._held is not None:
            piece = self._without_mark(self._held + piece)
        if not piece:
            return b""
        self._is_first = False
        if piece.endswith(_EMPTY_LINES):
            self.is_open = self._at_line_start = True
            self._in_event = self._after_cr = False
        else:
            self._read(piece)
        return piece

    def _without_mark(self, begin: bytes) -> bytes:
        if len(begin) < len(_MARK) and _MARK.startswith(begin):
            self._held = begin
            return b""
        self._held, self._is_first = None, False
        return begin.removeprefix(_MARK)

    def _read(self, piece: bytes) -> None:
        """Line by line it would take its time where lines crowd."""
        begin = 1 if self._after_cr and piece[:1] == b"\n" else 0
        self._after_cr = piece[-1:] == b"\r"
        if not self._at_line_start:
            end = _LINE_END.search(piece, begin)
            begin = len(piece) if end is None else end.end()
            self._at_line_start = end is not None
        empty = max(piece.rfind(pair, begin) for pair in _TWO_ENDS) + 1
        if empty or (begin < len(piece) and piece[begin] in _ENDS):
            # An empty line, the last one: it ends behind its own line end.
            self._in_event = False
            begin = max(begin, empty)
            begin += 2 if piece[begin : begin + 2] == b"\r\n" else 1
        if begin < len(piece):
            self._in_event |= _NO_COMMENT.search(piece, begin) is not None or (
                piece[begin] not in _MAY_BEGIN
            )
            self._at_line_start = piece[-1] in _ENDS
        self.is_open = self._at_line_start and not self._in_event and not self._after_cr
