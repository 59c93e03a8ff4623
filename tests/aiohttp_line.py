"""One connection of aiohttp's connector, as `aiohttp_leg` uses it.

Knows: aiohttp's response parser and its limits. aiohttp's connector opens connections; they are
kept in our own pool, because its pool walks through its limits, its traces and its waiters.
Must not know: requests, what a refusal is.
"""

from __future__ import annotations

from aiohttp.client_exceptions import ClientConnectionError, SocketTimeoutError
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

from sidecar.proxy.reply_head import HEADERS_MAX

LINE_BYTES_MAX = 16 * 1024


class LineProtocol(ResponseHandler):
    """aiohttp's, but for what it does at the end of every body though nothing was paused."""

    def resume_reading(self, resume_parser: bool = True) -> None:
        """See BaseProtocol."""
        if self._reading_paused:
            super().resume_reading(resume_parser)


class Line:
    """One open connection. `protocol` is what replies are read from."""

    __slots__ = ("_connection", "_is_ready", "protocol", "until_s")

    def __init__(self, connection: Connection) -> None:
        """Takes over a connection just opened; raises ClientConnectionError if it is not fit."""
        if connection.protocol is None:
            raise ClientConnectionError("the connection closed at once")
        self.protocol: ResponseHandler = connection.protocol
        self._connection = connection
        self._is_ready = False
        #: Until when it may lie idle, by the loop's clock.
        self.until_s = 0.0
        if not self.is_fit():
            self.abort()
            raise ClientConnectionError("the upstream talks before it is asked")

    def is_fit(self) -> bool:
        """See Kept."""
        protocol = self.protocol
        return not protocol.should_close and protocol.is_connected()

    def expect_reply(self, *, has_body: bool) -> None:
        """Gets ready to parse the reply to a request; to HEAD it has no body.

        A parser goes on from one reply to the next, as they do on the wire.
        """
        if self._is_ready and has_body:
            return
        self.protocol.set_response_params(
            skip_payload=not has_body,
            read_until_eof=True,
            auto_decompress=False,
            max_line_size=LINE_BYTES_MAX,
            max_field_size=LINE_BYTES_MAX,
            max_headers=HEADERS_MAX,
        )
        self._is_ready = has_body

    def may_serve_again(self) -> bool:
        """See Kept."""
        return not self.protocol.should_close

    def out_of_time(self) -> None:
        """See Waiting: whoever reads from the protocol gets SocketTimeoutError."""
        self.protocol.set_exception(SocketTimeoutError("no reply head in time"))

    def abort(self) -> None:
        """See Kept."""
        self.protocol.abort()
        self._connection.close()
