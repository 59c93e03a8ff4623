"""Text in which nothing hides: what agents and tools wrote, safe to be shown to people. Pure.

Knows: which characters are not seen, pass for a blank, or cover what stands beside them: those
stand as escapes. What is escaped already stays as it is.
Must not know: what is shown where, markup, terminals.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

#: Controls, formats (bidirectional ones among them), halves, lines of their own, private and
#: unassigned ones; and of separators all but the blank, which they would pass for.
_ESCAPED: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})
#: What Unicode calls letters, marks and symbols, and nobody sees (Default_Ignorable_Code_Point of
#: version 15.1, in no category above): joiners and fillers, variation selectors; a blank Braille
#: cell.
_UNSEEN: Final = frozenset(
    map(
        chr,
        (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x180E), 0x180F, 0x2800, 0x3164,
         *range(0xFE00, 0xFE10), 0xFFA0, *range(0xE0100, 0xE01F0)),
    )
)  # fmt: skip
#: Marks upon one letter; more than any script has are drawn over the lines above and below it.
_MARKS_MAX: Final = 4
_MARKS: Final = frozenset({"Mn", "Me"})


def printable(text: str) -> str:
    """The text with an escape for every character that would not be seen, or would hide others."""
    if text.isascii() and text.isprintable():
        return text
    # Each character is looked at once, however long the text is.
    categories = {one: unicodedata.category(one) for one in set(text)}
    marks = [one for one, category in categories.items() if category in _MARKS]
    if marks:
        some = f"[{re.escape(''.join(sorted(marks)))}]"
        heaped = f"(?<={some}{{{_MARKS_MAX}}}){some}"
        text = re.sub(heaped, lambda found: _escape(found[0]), text)
    hidden = {
        ord(one): _escape(one)
        for one, category in categories.items()
        if one != " " and (category in _ESCAPED or one in _UNSEEN)
    }
    return text.translate(hidden) if hidden else text


def _escape(character: str) -> str:
    point = ord(character)
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"
