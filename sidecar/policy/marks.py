"""Combining marks in a row: what Unicode puts in order one by one, in the square of their number.

Knows: how many no script needs (UAX #15 section 13 lets a text hold 30), and which characters
stand for marks.
Must not know: what the text is.
"""

from __future__ import annotations

import unicodedata
from typing import Final

ROW_MAX: Final = 30
#: Halfwidth marks of kana: letters by their category, marks once they are normalised (NFKC).
_OF_KANA: Final = "\uff9e\uff9f"


def with_few_marks(text: str) -> str:
    """The text without the marks beyond ROW_MAX in a row; the same object if it has none."""
    if len(text) <= ROW_MAX or text.isascii():
        return text
    kept: list[str] = []
    row = 0
    for character in text:
        is_mark = unicodedata.category(character)[0] == "M" or character in _OF_KANA
        row = row + 1 if is_mark else 0
        if row <= ROW_MAX:
            kept.append(character)
    return text if len(kept) == len(text) else "".join(kept)
