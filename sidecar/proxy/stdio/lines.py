"""Bytes of a pipe, cut into lines.

Knows: MCP's stdio framing (one JSON-RPC message a line, ended by LF; what comes before the LF may
be CR), and that a line has a largest size. What is longer is skipped up to its end.
Must not know: JSON, which pipe it is.
"""

from __future__ import annotations

from typing import Final

#: A pipe is read in pieces of at most this size.
PIECE_BYTES_MAX: Final = 64 * 1024


class LineCutter:
    """Cuts what is fed to it; gives None in the place of a line of more than `most` bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._pieces: list[bytes] = []
        self._size = 0
        self._is_too_long = False

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
            self._is_too_long = True
            self._pieces.clear()
        elif piece:
            self._pieces.append(piece)

    def _ended(self, piece: bytes) -> bytes | None:
        self._hold(piece)
        line = None if self._is_too_long else b"".join(self._pieces).removesuffix(b"\r")
        self._pieces.clear()
        self._size, self._is_too_long = 0, False
        return line if line is None or len(line) <= self._most else None
