"""Bytes of a pipe, cut into lines.

Knows: MCP's stdio framing (one JSON-RPC message a line, ended by LF; what comes before the LF may
be CR), and that a line has a largest size. What is longer is skipped up to its end; how it begins
and ends can be asked for, once for each such line.
Must not know: JSON, which pipe it is.
"""

from __future__ import annotations

from collections import deque
from typing import Final

#: A pipe is read in pieces of at most this size.
PIECE_BYTES_MAX: Final = 64 * 1024
#: Of a line that is skipped, at each of its ends.
ENDS_BYTES_MAX: Final = 512


class LineCutter:
    """Cuts what is fed to it; gives None in the place of a line of more than `most` bytes.

    `keeps_ends`: begin and end of each such line wait in `skipped` for whoever takes them out.
    """

    def __init__(self, most: int, *, keeps_ends: bool = False) -> None:
        self._most = most
        self._pieces: list[bytes] = []
        self._size = 0
        self._is_too_long = False
        self._begin = self._last = b""
        self._keeps_ends = keeps_ends
        self.skipped: deque[tuple[bytes, bytes]] = deque()

    def feed(self, data: bytes) -> list[bytes | None]:
        """The lines that end in `data`, in order, without their ends."""
        *whole, rest = data.split(b"\n")
        lines = [self._ended(piece) for piece in whole]
        self._hold(rest)
        return lines

    def end(self) -> bool:
        """Whether something stood there that no line end came after."""
        was_begun = bool(self._size) or self._is_too_long
        self._ended(b"")
        return was_begun

    def _hold(self, piece: bytes) -> None:
        self._size += len(piece)
        # One more than a line may have: the CR of its end.
        if self._size > self._most + 1:
            if not self._is_too_long:
                whole = b"".join([*self._pieces, piece])
                self._begin, self._last = whole[:ENDS_BYTES_MAX], whole[-ENDS_BYTES_MAX:]
                self._is_too_long = True
                self._pieces.clear()
            else:
                self._last = (self._last + piece[-ENDS_BYTES_MAX:])[-ENDS_BYTES_MAX:]
        elif piece:
            self._pieces.append(piece)

    def _ended(self, piece: bytes) -> bytes | None:
        self._hold(piece)
        line = None if self._is_too_long else b"".join(self._pieces).removesuffix(b"\r")
        self._pieces.clear()
        self._size = 0
        if line is not None and len(line) <= self._most:
            return line
        if line is not None:
            self._begin, self._last = line[:ENDS_BYTES_MAX], line[-ENDS_BYTES_MAX:]
        if self._keeps_ends:
            self.skipped.append((self._begin, self._last.removesuffix(b"\r")))
        self._is_too_long, self._begin, self._last = False, b"", b""
        return None
