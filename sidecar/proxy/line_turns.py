"""Pieces of a stream that is read line by line, so small that others get their turn between them.

Knows: that a line takes a while however short it is, and that what lies there already is read
without waiting: who sends nothing but line ends would have the event loop for himself.
Must not know: what lines mean, HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

#: About so many lines are read at a time; where they crowd, some thousands.
LINES_AT_ONCE: Final = 256


async def in_turns(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes, cut further where many lines end in one chunk; between two pieces of it the
    event loop goes round."""
    async for chunk in chunks:
        lines = chunk.count(b"\n") + chunk.count(b"\r")
        if lines <= LINES_AT_ONCE:
            yield chunk
            continue
        size = max(LINES_AT_ONCE, len(chunk) * LINES_AT_ONCE // lines)
        for at in range(0, len(chunk), size):
            yield chunk[at : at + size]
            await asyncio.sleep(0)
