"""Numbers as people and programs set them: with no-break, thin and invisible blanks, with dashes
for hyphens, in full width; written as detectors know them, each character in its place.

Knows: which characters stand for a blank, a hyphen, a digit. Whether a text has one of them is
asked for one by one: a set of them, or a pattern, takes many times as long.
Must not know: what is looked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: Blanks in a line, and what takes no place in it: a soft hyphen, joiners, marks of direction.
_BLANKS: Final = (0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000)
_UNSEEN: Final = (0xAD, *range(0x200B, 0x2010), 0x2060, 0xFEFF)
_HYPHENS: Final = (*range(0x2010, 0x2016), 0x2212, 0xFE58, 0xFE63, 0xFF0D)
_WIDE_ZERO: Final = 0xFF10
_PLAIN: Final[Mapping[str, str]] = {
    **{chr(code): " " for code in (*_BLANKS, *_UNSEEN)},
    **{chr(code): "-" for code in _HYPHENS},
    **{chr(_WIDE_ZERO + digit): str(digit) for digit in range(10)},
}


def plainly(text: str) -> str:
    """As many characters, those of numbers as they mostly are; the same object where all are."""
    if text.isascii():
        return text
    for character, plain in _PLAIN.items():
        if character in text:
            text = text.replace(character, plain)
    return text
