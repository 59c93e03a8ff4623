"""Masking of bodies that come piece by piece: lines of text or of JSON, events of a stream.

Knows: that a piece may end anywhere, so that a line or an event is held back until its end was
seen, up to a bound; that a private key goes over many lines. What spreads one number over several
lines or events is not put together again.
Must not know: HTTP, where pieces come from.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from sidecar.policy.terms import Redaction
from sidecar.proxy.detectors import begins_private_key, ends_private_key, mask
from sidecar.proxy.masking import NotMaskable, masked_json, read_json, write_json
from sidecar.proxy.masking_mcp import masked_message, masked_text

#: A line, or an event, is held in memory as a whole.
HELD_BYTES_MAX: Final = 1024 * 1024

_LINE_END: Final = re.compile(rb"\r\n|\n|\r(?!\Z)")
_LAST_EVENT: Final = "[DONE]"
#: A byte order mark, which readers take away where a stream of events begins.
_MARK: Final = "\ufeff"


class StreamMasker(Protocol):
    """Takes pieces of a body and gives what of it may go on."""

    @property
    def held_bytes(self) -> int:
        """How much waits for its end."""
        ...

    def feed(self, piece: bytes) -> bytes:
        """What is masked and complete so far; raises NotMaskable."""
        ...

    def end(self) -> bytes:
        """What was still held back; raises NotMaskable."""
        ...


class _Held:
    """Bytes cut into lines; what has no end yet is held, and not looked at again."""

    def __init__(self) -> None:
        self._rest = bytearray()
        #: A final CR, of which it is not known yet whether LF follows.
        self._cr = b""

    @property
    def size(self) -> int:
        """How many bytes have no end yet."""
        return len(self._rest) + len(self._cr)

    def lines(self, piece: bytes) -> list[tuple[str, str]]:
        """Whole lines with their ends. A final CR waits: LF may follow."""
        data, self._cr = self._cr + piece, b""
        found: list[tuple[str, str]] = []
        at = 0
        for end in _LINE_END.finditer(data):
            line = data[at : end.start()]
            if self._rest:
                line = bytes(self._rest) + line
                self._rest.clear()
            found.append((_text(line), end[0].decode()))
            at = end.end()
        if data.endswith(b"\r"):
            self._cr = b"\r"
        self._rest += memoryview(data)[at : len(data) - len(self._cr)]
        if self.size > HELD_BYTES_MAX:
            raise NotMaskable(f"a line is too long: more than {HELD_BYTES_MAX} bytes")
        return found

    def last(self) -> str:
        """What has no end."""
        rest = bytes(self._rest) + self._cr
        self._rest.clear()
        self._cr = b""
        return _text(rest)


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotMaskable("not UTF-8") from error


class _KeySkipper:
    """Masks texts in which a private key may go on from one to the next."""

    def __init__(self, detectors: tuple[str, ...]) -> None:
        self._detectors = detectors
        self._looks = "private_key" in detectors
        self._is_inside = False

    def mask(self, text: str) -> str:
        if not self._looks:
            return mask(text, self._detectors)
        if self._is_inside:
            end = ends_private_key(text)
            if end is None:
                return ""
            self._is_inside = False
            text = text[end:]
        self._is_inside = begins_private_key(text)
        return mask(text, self._detectors)


class LineMasker:
    """Lines of text, or of JSON documents."""

    def __init__(self, redaction: Redaction, *, is_json: bool) -> None:
        self._redaction = redaction
        self._is_json = is_json
        self._held = _Held()
        self._skipper = _KeySkipper(redaction.detectors)

    @property
    def held_bytes(self) -> int:
        """How much waits for its end."""
        return self._held.size

    def feed(self, piece: bytes) -> bytes:
        """Whole lines, masked."""
        lines = self._held.lines(piece)
        return "".join(f"{self._masked(line)}{end}" for line, end in lines).encode()

    def end(self) -> bytes:
        """A last line without an end."""
        return self._masked(self._held.last()).encode()

    def _masked(self, line: str) -> str:
        if not self._is_json:
            return self._skipper.mask(line)
        return masked_json(line.encode(), self._redaction).decode() if line.strip() else line


class EventMasker:
    """Server-sent events, each masked as a whole; `is_mcp`: their data are MCP messages."""

    def __init__(self, redaction: Redaction, *, is_mcp: bool) -> None:
        self._redaction = redaction
        self._is_mcp = is_mcp
        self._held = _Held()
        self._skipper = _KeySkipper(redaction.detectors)
        self._event: list[str] = []
        self._size = 0
        self._has_begun = False

    @property
    def held_bytes(self) -> int:
        """How much waits for its end."""
        return self._held.size + self._size

    def feed(self, piece: bytes) -> bytes:
        """Whole events, masked."""
        made: list[str] = []
        for whole, _ in self._held.lines(piece):
            line = self._plain_line(whole)
            if line:
                self._event.append(line)
                self._size += len(line)
                if self._size > HELD_BYTES_MAX:
                    raise NotMaskable(f"an event is too long: more than {HELD_BYTES_MAX} bytes")
            else:
                made += (*self._masked(), "")
        return "".join(f"{line}\n" for line in made).encode()

    def end(self) -> bytes:
        """An event without an end; clients ignore it, but it may be looked at."""
        last = self._plain_line(self._held.last().removesuffix("\r"))
        if last:
            self._event.append(last)
        return "".join(f"{line}\n" for line in self._masked()).encode()

    def _plain_line(self, line: str) -> str:
        if self._has_begun:
            return line
        self._has_begun = True
        return line.removeprefix(_MARK)

    def _masked(self) -> list[str]:
        lines, self._event, self._size = self._event, [], 0
        data = [_value(line) for line in lines if _is_data(line)]
        others = [self._skipper.mask(line) for line in lines if not _is_data(line)]
        if not data:
            return others
        text = self._data("\n".join(data))
        return [*others, *(f"data: {line}" for line in text.split("\n"))]

    def _data(self, text: str) -> str:
        if self._is_mcp and text.strip():
            return masked_message(text, self._redaction).decode()
        has_fields = text.strip() != _LAST_EVENT
        if text.lstrip()[:1] not in ("{", "["):
            return self._plain(text, has_fields)
        return masked_text(text, self._redaction, has_fields=has_fields)

    def _plain(self, text: str, has_fields: bool) -> str:
        if self._redaction.paths and has_fields and text.strip():
            raise NotMaskable("an event without fields")
        try:
            value = read_json(text)
        except NotMaskable:
            value = None
        if isinstance(value, str):  # as JSON it may be written with escapes
            return write_json(self._skipper.mask(value)).decode()
        return self._skipper.mask(text)


def _is_data(line: str) -> bool:
    return line.partition(":")[0] == "data"


def _value(line: str) -> str:
    """The spec takes one blank behind the colon away."""
    return line.partition(":")[2].removeprefix(" ")
