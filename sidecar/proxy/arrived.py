"""A body that has arrived whole, taken out of aiohttp's stream reader at once.

Knows: that `StreamReader.read_nowait` resumes the connection after every read, which runs the
parser once more over nothing; for a body that is all there this is the dearest part of taking it.
It leans on inner names of aiohttp (`StreamReader._buffer`, `_buffer_offset` and `_exception`,
`BaseProtocol._reading_paused`).
Must not know: which side of the sidecar the body came from.
"""

from __future__ import annotations

from aiohttp.base_protocol import BaseProtocol
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader


def arrived_body(payload: StreamReader, protocol: BaseProtocol) -> bytes:
    """The body of a payload whose end was seen; the payload must not be read again.

    Raises the payload's own exception, if one was set.
    """
    if payload is EMPTY_PAYLOAD:
        return b""
    if payload._exception is not None or protocol._reading_paused:
        return payload.read_nowait()
    pieces = payload._buffer
    if len(pieces) == 1 and not payload._buffer_offset:
        return pieces[0]
    return payload.read_nowait() if pieces else b""
