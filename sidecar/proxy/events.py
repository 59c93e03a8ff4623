"""Server-sent events cut out of a stream as they come, byte for byte (WHATWG HTML, section 9.2.6).

Knows: line ends (CR, LF, both), comments, fields, the byte order mark before the first line, and
that a piece may end anywhere. Comments and other lines pass at once; from its first line of data
on an event is held back until its end, up to a bound. Who changes an event changes its data, or
the value of its id, and no other byte. A strict cutter takes no line that is none of the four
fields and no comment: a reader less careful than the specification could make something of it.
Must not know: what the data mean, HTTP.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

#: Of one event: each is kept until its end, and costs far more than its bytes.
DATA_LINES_MAX: Final = 100_000

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_MARK: Final = b"\xef\xbb\xbf"
_FIELDS: Final = frozenset({b"", b"data", b"event", b"id", b"retry"})
#: Types under which clients of MCP take an event for a message; "" is the type of one without.
_MESSAGE_TYPES: Final = (b"", b"message")


class EventTooLong(Exception):
    """An event has no end within the bound, in bytes; or in lines, then the text says so."""


class NoEvent(Exception):
    """A line that no stream of events has; what it holds is not told."""


class Event(NamedTuple):
    """An event with data, as it came; `others` are its lines that are no data, those before the
    first data left out. `is_message`: its type is the usual one. Without `has_end` its stream ended
    before it did. `kind` is its type as it stands there, "" without one."""

    raw: bytes
    data: bytes
    others: bytes
    is_message: bool = True
    has_end: bool = True
    kind: bytes = b""

    def with_data(self, data: bytes) -> bytes:
        """The event with other data, which hold no line end."""
        return b"%bdata: %b\n\n" % (self.others, data)

    def without_data(self) -> bytes:
        """What ends the event, so that nobody is given it: what went before is forgotten."""
        return b"%b\n" % self.others


class EventCutter:
    """Takes pieces of a stream and gives bytes that may pass, and events, in order.

    `renamed` gives another value for each id that is not empty; what it raises passes.
    """

    def __init__(
        self,
        held_bytes_max: int,
        *,
        is_strict: bool = False,
        renamed: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self._held_bytes_max = held_bytes_max
        self._is_strict = is_strict
        self._renamed = renamed
        self._type = b""
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
        """What is complete by now; raises EventTooLong, and NoEvent if it is strict."""
        return list(self.pieces(piece))

    def pieces(self, piece: bytes) -> Iterator[bytes | Event]:
        """The same one after the other, to be taken to its end: what stood before a fault is given
        before that is raised."""
        found: list[bytes | Event] = []
        if self._ended_by_cr and piece:
            self._ended_by_cr = False
            if piece[:1] == b"\n":  # the other half of a line end that was taken for whole
                piece = piece[1:]
                self._add_half(found)
        begin, searched = 0, len(self._rest)
        self._rest += piece
        while (end := _LINE_END.search(self._rest, searched)) is not None:
            if found:
                yield from found
                found.clear()
            self._take(bytes(self._rest[begin : end.start()]), end[0], found)
            begin = searched = end.end()
        yield from found
        self._ended_by_cr |= begin == len(self._rest) and self._rest[-1:] == b"\r"
        del self._rest[:begin]
        if len(self._rest) + self._size > self._held_bytes_max:
            raise EventTooLong

    def _add_half(self, found: list[bytes | Event]) -> None:
        if self._lines:
            self._lines[-1] += b"\n"
        else:
            found.append(b"\n")

    def end(self) -> list[bytes | Event]:
        """What has no end; clients ignore such an event, but it may be looked at. Half a line that
        a strict cutter does not take is left out."""
        found: list[bytes | Event] = []
        if self._rest:
            with contextlib.suppress(NoEvent):
                self._take(bytes(self._rest), b"", found)
            self._rest.clear()
        if self._data:
            self._close(found, has_end=False)
        return found

    def _take(self, line: bytes, end: bytes, found: list[bytes | Event]) -> None:
        if len(line) + self._size > self._held_bytes_max:
            raise EventTooLong
        text = line
        if self._is_first:
            text, self._is_first = line.removeprefix(_MARK), False
        if not text:
            if self._data:
                self._lines.append(line + end)
                self._close(found)
            else:
                self._type = b""
                found.append(line + end)
            return
        name, _, value = text.partition(b":")
        if name != b"data":
            line = self._field(name, value.removeprefix(b" "), line)
        if name == b"data":
            if len(self._data) >= DATA_LINES_MAX:
                raise EventTooLong(f"an event has more than {DATA_LINES_MAX} lines of data")
            self._data.append(value.removeprefix(b" "))
        elif not self._data:
            found.append(line + end)
            return
        else:
            self._others.append(line + end)
        self._lines.append(line + end)
        self._size += len(line)

    def _field(self, name: bytes, value: bytes, line: bytes) -> bytes:
        """The line of a field that is no data, as it may pass; raises NoEvent."""
        if self._is_strict and name not in _FIELDS:
            raise NoEvent
        if name == b"event":
            self._type = value
        elif name == b"id" and value and self._renamed is not None and b"\0" not in value:
            # With NUL in it an id is none to any client.
            return line[: len(line) - len(value)] + self._renamed(value)
        return line

    def _close(self, found: list[bytes | Event], has_end: bool = True) -> None:
        is_message = self._type in _MESSAGE_TYPES
        raw, others = b"".join(self._lines), b"".join(self._others)
        found.append(Event(raw, b"\n".join(self._data), others, is_message, has_end, self._type))
        self._type = b""
        self._begin()
