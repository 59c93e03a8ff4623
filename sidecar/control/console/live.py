"""Calls as they are recorded, as server-sent events: rows of the list, rendered at the server.

Knows: that only what is committed is shown, that a stream looks once a second however many calls
there are, and shows so many of them and the number of the rest. Few streams at a time, each for a
bounded time; a browser comes back by itself.
Must not know: HTTP, what a row looks like.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final

from sidecar.control.api.decisions import told
from sidecar.control.api.route import Asked
from storage.listings import CallFilter, Listings

STREAMS_MAX: Final = 16
LOOK_S: Final = 1.0
LIFE_S: Final = 600.0
#: Rows that one look shows.
ROWS_MAX: Final = 20
#: Receipts that one look reads, so that a burst costs no more than a quiet second.
STRETCH: Final = 2_000
#: Looks between two comments that keep the connection, at which is asked whether it may go on.
LOOKS_PER_SIGN: Final = 10

Render = Callable[[Sequence[dict[str, Any]]], str]
IsOn = Callable[[], Awaitable[bool]]


def event(name: str, text: str) -> bytes:
    """One event (WHATWG HTML section 9.2): each line of the text behind `data:`."""
    lines = "\n".join(f"data: {line}" for line in text.split("\n"))
    return f"event: {name}\n{lines}\n\n".encode()


async def calls(
    asked: Asked, wanted: CallFilter, render: Render, is_on: IsOn
) -> AsyncIterator[bytes]:
    """Events `calls` with rows, newest first, and `missed` with a number; until the session is
    over, or the time."""
    listings = Listings(asked.rooms.reader)
    seen = (await asked.rooms.reader.head(asked.tenant)).seq
    yield b"retry: 2000\n\n"
    for look in range(1, int(LIFE_S / LOOK_S)):
        await asyncio.sleep(LOOK_S)
        head = (await asked.rooms.reader.head(asked.tenant)).seq
        if head > seen:
            after = max(seen, head - STRETCH)
            found, looked = await listings.calls(asked.tenant, wanted, after, head, ROWS_MAX)
            if found:
                yield event("calls", render([told(one) for one in found]))
            if looked > seen:
                yield event("missed", "There were more calls than are shown here.")
            seen = head
        elif look % LOOKS_PER_SIGN == 0:
            yield b": still here\n\n"
        if look % LOOKS_PER_SIGN == 0 and not await is_on():
            yield event("over", "")
            return
