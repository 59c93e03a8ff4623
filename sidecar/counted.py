"""How many of what, in words: one receipt, two receipts.

Must not know: what is counted.
"""

from __future__ import annotations


def counted(count: int, one: str, several: str = "") -> str:
    """`1 receipt`, `2 receipts`. `one` is what stands behind the number where it is one, be it with
    a verb; `several` what stands there else, where that is more than an s."""
    return f"{count} {one if count == 1 else several or f'{one}s'}"
