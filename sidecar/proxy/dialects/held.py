"""How an MCP client that can hear it is told that its call still waits, and then gets its answer.

Knows: `notifications/progress` for the token that the client gave (MCP 2025-11-25 and 2026-07-28,
utilities/progress), and the events in which it and the answer stand when the reply is a stream.
There any answer is read, whatever its status was: so only what was looked into stands in it.
Must not know: sockets, why a call waits.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import orjson

from sidecar.model import ToolCall
from sidecar.proxy.dialects.reply import CALL_ID_HEADER
from sidecar.proxy.reply_media import exact_media

#: An answer that is no JSON-RPC message is told by its status, and not looked at further.
OTHER_BYTES_MAX: Final = 64 * 1024
_LINE_ENDS: Final = bytes.maketrans(b"\r\n", b"  ")


class HeldReply:
    """The stream of one held call."""

    __slots__ = ("_call_id", "_progress", "_reply_id", "_token")

    def __init__(self, call: ToolCall, token: str | int) -> None:
        self._call_id = call.call_id
        self._reply_id = call.reply_id
        self._token = token
        self._progress = 0

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Those of the stream."""
        return [
            ("Content-Type", "text/event-stream"),
            (CALL_ID_HEADER, self._call_id),
            ("Cache-Control", "no-store"),
            ("X-Accel-Buffering", "no"),
        ]

    def progress(self, words: str) -> bytes:
        """The next notification, as a message."""
        self._progress += 1
        params = {"progressToken": self._token, "progress": self._progress, "message": words}
        return orjson.dumps(
            {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
        )

    def event(self, message: bytes) -> bytes:
        """A message as an event. Line ends in JSON stand between its parts only."""
        return b"event: message\ndata: " + message.translate(_LINE_ENDS) + b"\n\n"

    def answer(self, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> bytes:
        """A whole answer as the last events; never empty."""
        kind = exact_media(headers)
        if kind == "text/event-stream" and body:
            return body
        if kind == "application/json" and body:
            return self.event(body)
        return self.event(self._told(status))

    async def answers(
        self, status: int, headers: Sequence[tuple[str, str]], chunks: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        """The same of an answer as it comes; raises whatever `chunks` raises."""
        kind = exact_media(headers)
        if kind == "text/event-stream":
            async for chunk in chunks:
                yield chunk
        elif kind == "application/json":
            yield b"event: message\ndata: "
            async for chunk in chunks:
                yield chunk.translate(_LINE_ENDS)
            yield b"\n\n"
        else:
            size = 0
            async for chunk in chunks:
                size += len(chunk)
                if size > OTHER_BYTES_MAX:
                    break
            yield self.event(self._told(status))

    def _told(self, status: int) -> bytes:
        error: dict[str, Any] = {
            "code": status,
            "message": f"The server answered with HTTP status {status}",
            "data": {"http_status": status, "call_id": self._call_id},
        }
        return orjson.dumps({"jsonrpc": "2.0", "id": self._reply_id, "error": error})


def held_reply(call: ToolCall) -> HeldReply | None:
    """For a request whose client gave a progress token and takes a stream of events."""
    if not call.expects_reply or "text/event-stream" not in call.http.headers.get("accept", ""):
        return None
    params = orjson.loads(call.body).get("params") if call.body else None
    meta = params.get("_meta") if isinstance(params, dict) else None
    token = meta.get("progressToken") if isinstance(meta, dict) else None
    if isinstance(token, bool) or not isinstance(token, str | int):
        return None
    return HeldReply(call, token)
