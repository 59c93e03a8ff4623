"""Replies as they come out of one connection's bytes, one after the other.

Knows: the wire of HTTP/1.1 replies (RFC 9112). `httptools` splits the bytes; what it leaves to its
user is decided here: which protocol a status line may name, interim replies, replies to HEAD, how
much of what may come, and that a byte nobody asked for spoils everything behind it.
Must not know: sockets, event loops, who waits for what.
"""

from __future__ import annotations

import re

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from sidecar.errors import Refused
from sidecar.proxy.reply_head import framing, read_headers
from sidecar.proxy.upstream import Headers

#: The head of a reply, status line and header lines; an interim one counts for itself.
HEAD_BYTES_MAX = 64 * 1024
INTERIM_REPLIES_MAX = 8
#: What a chunked body may say about itself (extensions, trailers) before its next byte.
ASIDE_BYTES_MAX = 16 * 1024

_STATUS_LINE = b"HTTP/1."
_DIGIT_AT = 9
_USUAL_START = re.compile(rb"HTTP/1\.[01] [2-5]")
_INTERIM = ord("1")
_NO_CONTENT = 204

# Where a connection stands: nothing was asked, a head is waited for, a body comes, the reply is
# whole, nothing that comes is believed any more; the upstream has agreed to another protocol.
IDLE, HEAD, BODY, DONE, BROKEN, SWITCHED = range(6)


class LeanReply:
    """The reply on its way: `feed` it, and look at `phase`, `status`, `headers` and `pieces`.

    It is the object that the parser speaks to; the connection is made of it.
    """

    __slots__ = (
        "_aside_bytes",
        "_head",
        "_held",
        "_interim",
        "_is_head_request",
        "_may_switch",
        "_parser",
        "headers",
        "keeps_alive",
        "phase",
        "pieces",
        "status",
    )

    status: int
    headers: Headers

    def __init__(self) -> None:
        self._parser = HttpResponseParser(self)
        self.phase = IDLE
        #: What of the body has come and was not taken yet.
        self.pieces: list[bytes] = []
        #: Whether another reply may follow on the connection.
        self.keeps_alive = False
        self._is_head_request = False
        self._may_switch = False
        #: Of a head: what has come while it is not whole, then the whole of it.
        self._held = b""
        self._head = b""
        self._aside_bytes = 0
        self._interim = 0

    def await_reply(self, is_head_request: bool, may_switch: bool = False) -> None:
        """A request is sent: what comes from now on is its reply, or after a 101 (`may_switch`)
        another protocol."""
        self.phase = HEAD
        self._is_head_request = is_head_request
        self._may_switch = may_switch
        self._interim = 0
        self._aside_bytes = 0

    def feed(self, data: bytes) -> bool:
        """Takes what came, in phase HEAD or BODY; False while the head is not whole.

        Raises Refused("upstream_broken"). If the phase is DONE then, the reply is good, and what
        came behind it is not. In phase SWITCHED `pieces` are the other protocol's.
        """
        if self.phase == HEAD:
            end = data.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX)
            if end > 0 and not self._held and _USUAL_START.match(data):
                self._head = data[:end]
            elif not (data := self._from_head(data)):
                return self.phase == SWITCHED
            self._parse(data)
            if self.phase == HEAD:  # the parser sees its end elsewhere: neither is believed
                raise Refused("upstream_broken", detail="a head that ends twice")
            return True
        self._parse(data)
        if self.pieces:
            self._aside_bytes = 0
        else:
            self._aside_bytes += len(data)
            if self._aside_bytes > ASIDE_BYTES_MAX:
                raise Refused("upstream_broken", detail="a chunk's extensions, or trailers")
        return True

    def ends_with_connection(self) -> bool:
        """Whether nothing but the end of the connection ends this body."""
        return self.phase == BODY and not framing(self.headers)

    def start_over(self) -> None:
        """The reply was read to its end, and another request may follow."""
        if self._is_head_request:  # its parser may still expect a body
            self._parser = HttpResponseParser(self)
        self.phase = IDLE

    def let_go(self) -> None:
        """Nothing will come any more: the parser holds on to this object, as this one did to it."""
        del self._parser

    # -- what the parser says ----------------------------------------------------------------

    def on_message_begin(self) -> None:
        """The first byte of a reply."""
        if self.phase != HEAD:
            raise Refused("upstream_broken", detail="a second reply")

    def on_headers_complete(self) -> None:
        """The end of a head: here it is judged, before anything is made of the body."""
        parser = self._parser
        status = parser.get_status_code()
        if status < 200:
            self._interim_came(status)
            return
        self.status = status
        self.headers = headers = read_headers(status, self._head)
        self.keeps_alive = parser.should_keep_alive()
        if status == _NO_CONTENT and any(value != "0" for _, value in framing(headers)):
            self.keeps_alive = False  # the parser expects no body, the upstream may send one
        self.phase = DONE if self._is_head_request else BODY

    def on_body(self, piece: bytes) -> None:
        """Bytes of a body, as they came."""
        if self.phase != BODY:
            raise Refused("upstream_broken", detail="a body where none may be")
        self.pieces.append(piece)

    def on_message_complete(self) -> None:
        """The end of a reply, interim or final."""
        if self.phase == BODY:
            self.phase = DONE

    # -- its own -------------------------------------------------------------------------------

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if self.phase == SWITCHED:
                return
            if isinstance(error.__context__, Refused):  # what a callback of ours said
                raise error.__context__ from None
            raise Refused("upstream_broken", detail=repr(error)) from error

    def _from_head(self, data: bytes) -> bytes:
        """All that is here, from the final reply's head on; b"" while that head is not whole.

        A head goes to the parser in one piece, so that its status line and its end are seen here
        too: alone, the parser takes RTSP for HTTP, and empty lines for nothing.
        """
        if self._held:
            data = self._held + data
            self._held = b""
        while (end := data.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX)) >= 0:
            if not data.startswith(_STATUS_LINE):
                break
            self._head = data[:end]
            if data[_DIGIT_AT] != _INTERIM:
                return data
            self._parse(data[: end + 4])
            data = data[end + 4 :]
            if self.phase == SWITCHED:
                self.pieces = [data] if data else []
                return b""
        if data[: len(_STATUS_LINE)] != _STATUS_LINE[: len(data)]:
            raise Refused("upstream_broken", detail=f"no status line: {data[:32]!r}")
        if len(data) > HEAD_BYTES_MAX:
            raise Refused("upstream_broken", "The upstream's header is too large")
        if b"\n\n" in data:  # who ends lines so has said all there is, and waits too
            raise Refused("upstream_broken", detail="a head whose lines end with LF alone")
        self._held = data
        return b""

    def _interim_came(self, status: int) -> None:
        self._interim += 1
        if status == 101:
            if self._may_switch:
                self.status, self.headers = status, read_headers(status, self._head)
                self.phase = SWITCHED
                return
            raise Refused("upstream_broken", "The upstream switched protocols unasked")
        if self._interim > INTERIM_REPLIES_MAX:
            raise Refused("upstream_broken", "The upstream sent interim replies without end")
        if framing(read_headers(status, self._head)):
            raise Refused("upstream_broken", detail="an interim reply with a body")
