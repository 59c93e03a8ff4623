"""Server-sent events cut out of a stream as they come, byte for byte (WHATWG HTML, section 9.2.6).

Knows: line ends (CR, LF, both), comments, fields, the byte order mark before the first line, and
that a piece may end anywhere. Comments and other lines pass at once; from its first line of data
on an event is held back until its end, up to a bound. Who changes an event changes its data only.
Must not know: what the data mean, HTTP.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_MARK: Final = b"\xef\xbb\xbf"


class EventTooLong(Exception):
    """An event has no end within the bound."""


class Event(NamedTuple):
    """An event with data, as it came; `others` are its lines that are no data."""

    raw: bytes
    data: bytes
    others: bytes

    def with_data(self, data: bytes) -> bytes:
        """The event with other data, which hold no line end."""
        return b"%bdata: %b\n\n" % (self.others, data)


class EventCutter:
    """Takes pieces of a stream and gives bytes that may pass, and events, in order."""

    def __init__(self, held_bytes_max: int) -> None:
        self._held_bytes_max = held_bytes_max
        self._rest = bytearray()
        self._is_first = True
        self._ended_by_cr = False
        self._begin()

    def _begin(self) -> None:
        self._lines: list[bytes] = []
        self._data: list[bytes] = []
        self._others: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> list[bytes | Event]:
        """What is complete by now; raises EventTooLong."""
        found: list[bytes | Event] = []
        if self._ended_by_cr and piece:
            self._ended_by_cr = False
            if piece[:1] == b"\n":  # the other half of a line end that was taken for whole
                piece = piece[1:]
                self._add_half(found)
        begin, searched = 0, len(self._rest)
        self._rest += piece
        while (end := _LINE_END.search(self._rest, searched)) is not None:
            self._take(bytes(self._rest[begin : end.start()]), end[0], found)
            begin = searched = end.end()
        self._ended_by_cr |= begin == len(self._rest) and self._rest[-1:] == b"\r"
        del self._rest[:begin]
        if len(self._rest) + self._size > self._held_bytes_max:
            raise EventTooLong
        return found

    def _add_half(self, found: list[bytes | Event]) -> None:
        if self._lines:
            self._lines[-1] += b"\n"
        else:
            found.append(b"\n")

    def end(self) -> list[bytes | Event]:
        """What has no end; clients ignore such an event, but it may be looked at."""
        found: list[bytes | Event] = []
        if self._rest:
            self._take(bytes(self._rest), b"", found)
            self._rest.clear()
        if self._data:
            self._close(found)
        return found

    def _take(self, line: bytes, end: bytes, found: list[bytes | Event]) -> None:
        text = line
        if self._is_first:
            text, self._is_first = line.removeprefix(_MARK), False
        if not text:
            if self._data:
                self._lines.append(line + end)
                self._close(found)
            else:
                found.append(line + end)
            return
        name, _, value = text.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
        elif not self._data:
            found.append(line + end)
            return
        else:
            self._others.append(line + end)
        self._lines.append(line + end)
        self._size += len(line)

    def _close(self, found: list[bytes | Event]) -> None:
        others = b"".join(self._others)
        found.append(Event(b"".join(self._lines), b"\n".join(self._data), others))
        self._begin()
