"""Draws lines, dots and words into a PNG with the standard library alone."""

from __future__ import annotations

import struct
import zlib
from itertools import pairwise
from pathlib import Path

Colour = tuple[int, int, int]

BLACK, GREY, LIGHT = (30, 30, 30), (120, 120, 120), (225, 225, 225)

#: The usual 5 x 7 letters from the space to z: five columns each, the lowest bit on top.
_LETTERS = bytes.fromhex(
    "0000000000 00005F0000 0007000700 147F147F14 242A7F2A12 2313086462 3649562050 0005030000"
    "001C224100 0041221C00 082A1C2A08 08083E0808 0050300000 0808080808 0060600000 2010080402"
    "3E5149453E 00427F4000 4261514946 2141454B31 1814127F10 2745454539 3C4A494930 0171090503"
    "3649494936 064949291E 0036360000 0056360000 0814224100 1414141414 0041221408 0201510906"
    "324979413E 7E1111117E 7F49494936 3E41414122 7F4141221C 7F49494941 7F09090901 3E4149497A"
    "7F0808087F 00417F4100 2040413F01 7F08142241 7F40404040 7F020C027F 7F0408107F 3E4141413E"
    "7F09090906 3E4151215E 7F09192946 4649494931 01017F0101 3F4040403F 1F2040201F 3F4038403F"
    "6314081463 0708700807 6151494543 007F414100 0204081020 0041417F00 0402010204 4040404040"
    "0001020400 2054545478 7F48444438 3844444420 384444487F 3854545418 087E090102 0C5252523E"
    "7F08040478 00447D4000 2040443D00 7F10284400 00417F4000 7C04180478 7C08040478 3844444438"
    "7C14141408 081414187C 7C08040408 4854545420 043F444020 3C4040207C 1C2040201C 3C4030403C"
    "4428102844 0C5050503C 4464544C44"
)
_WIDTH = 6


class Canvas:
    """White; x to the right and y downward, in pixels."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._pixels = bytearray(b"\xff" * (3 * width * height))

    def dot(self, x: float, y: float, colour: Colour, size: int = 1) -> None:
        """A square around the point; what lies outside is left out."""
        left, top = round(x) - size // 2, round(y) - size // 2
        for row in range(max(0, top), min(self.height, top + size)):
            for column in range(max(0, left), min(self.width, left + size)):
                at = 3 * (row * self.width + column)
                self._pixels[at : at + 3] = bytes(colour)

    def line(
        self, start: tuple[float, float], end: tuple[float, float], colour: Colour, size: int = 1
    ) -> None:
        """Straight from start to end."""
        (x0, y0), (x1, y1) = start, end
        steps = max(1, round(max(abs(x1 - x0), abs(y1 - y0))))
        for step in range(steps + 1):
            share = step / steps
            self.dot(x0 + share * (x1 - x0), y0 + share * (y1 - y0), colour, size)

    def curve(self, points: list[tuple[float, float]], colour: Colour) -> None:
        """Lines from point to point, with a mark on each."""
        for start, end in pairwise(points):
            self.line(start, end, colour, 3)
        for x, y in points:
            self.dot(x, y, colour, 9)

    def text(self, x: float, y: float, words: str, colour: Colour = BLACK, size: int = 2) -> None:
        """Left edge and top; letters it has none for are left out."""
        for number, letter in enumerate(words):
            index = ord(letter) - 32
            for column, bits in enumerate(_LETTERS[5 * index : 5 * index + 5]):
                for row in range(8):
                    if bits >> row & 1:
                        at = x + size * (_WIDTH * number + column), y + size * row
                        self.dot(*at, colour, size)

    def save(self, path: Path) -> None:
        """As a PNG: 8 bits a channel, no filter."""
        stride = 3 * self.width
        rows = b"".join(
            b"\0" + self._pixels[at : at + stride] for at in range(0, len(self._pixels), stride)
        )
        head = struct.pack(">IIBBBBB", self.width, self.height, 8, 2, 0, 0, 0)
        path.write_bytes(
            b"\x89PNG\r\n\x1a\n"
            + _chunk(b"IHDR", head)
            + _chunk(b"IDAT", zlib.compress(rows, 9))
            + _chunk(b"IEND", b"")
        )


def text_width(words: str, size: int = 2) -> int:
    """Pixels that `text` takes to the right."""
    return size * _WIDTH * len(words)


def _chunk(name: bytes, content: bytes) -> bytes:
    checked = name + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))
