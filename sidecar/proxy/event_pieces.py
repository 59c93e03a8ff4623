"""What of a stream of events is complete with each of its chunks, up to the end they come to.

Knows: that what gives the chunks may refuse the rest of them: what is masked cannot be, or is too
large, or the server broke off.
Must not know: what events hold, how a refusal is told.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator

from sidecar.errors import Refused
from sidecar.proxy.events import Event, EventCutter
from sidecar.proxy.line_turns import in_turns


async def cut_events(
    chunks: AsyncIterator[bytes], cutter: EventCutter, is_owed: Callable[[], bool]
) -> AsyncIterator[Iterable[bytes | Event]]:
    """What is complete with each chunk, and at the end. While an answer `is_owed`, a refusal of the
    chunks is the last of it, raised where the others are read: there its client can be told."""
    try:
        async for chunk in in_turns(chunks):
            yield cutter.pieces(chunk)
    except Refused as refused:
        if not is_owed():
            raise
        yield _raising(refused)
        return
    yield cutter.end()


def _raising(refused: Refused) -> Iterator[Event]:
    yield from ()
    raise refused
