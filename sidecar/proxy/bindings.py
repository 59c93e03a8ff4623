"""Ids that a server gives out, bound to whom they were given: sessions, and events of streams.

Knows: that an agent gets the server's id with a tag behind it, a MAC (RFC 2104) over the id and all
it belongs to: tenant, agent, upstream, and for an event its session. A tag that does not fit says
that the id was guessed, stolen or made for another; nothing has to be kept to tell that, so it
holds over restarts and on every node that has the same key. A session is never an authentication:
who calls was settled before.
Must not know: HTTP, streams, where the key is kept.
"""

from __future__ import annotations

import base64
import hmac
import re
from typing import Final

from sidecar.errors import Refused
from sidecar.model import Principal

KEY_BYTES: Final = 32
#: 16 bytes of a SHA-256 MAC, in base64 for URLs.
TAG_BYTES: Final = 16
_TAG_LENGTH: Final = 22
#: Sessions whose tags are not looked at anew.
KNOWN_MAX: Final = 4096
#: The longest id of a server, in bytes, without its tag.
ID_BYTES_MAX: Final = 1024

#: MCP: a session id holds visible ASCII only.
_VISIBLE: Final = re.compile(rb"[\x21-\x7e]+")
_SESSION, _EVENT = b"session", b"event"


class Bindings:
    """Tags ids on their way out, checks tags and takes them off on their way in."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"the key has {KEY_BYTES} bytes")
        self._key = key
        #: Sessions that were found to be their caller's: the same ones come again and again.
        self._known: dict[tuple[str, str, str, str], str] = {}

    def session_out(self, principal: Principal, upstream: str, session_id: str) -> str:
        """A session's id as the agent gets it; raises Refused("answer_unchecked")."""
        raw = session_id.encode("utf-8", "surrogateescape")
        if len(raw) > ID_BYTES_MAX:
            why = f"The server's session id is longer than {ID_BYTES_MAX} bytes"
            raise Refused("answer_unchecked", why)
        if not _VISIBLE.fullmatch(raw):
            raise Refused("answer_unchecked", "The server's session id is not one of MCP")
        return f"{session_id}.{self._tag(_SESSION, principal, upstream, b'', raw).decode()}"

    def session_in(self, principal: Principal, upstream: str, given: str) -> str:
        """The server's own id of a session; raises Refused("session_unknown")."""
        whole = (principal.tenant, principal.agent, upstream, given)
        known = self._known.get(whole)
        if known is not None:
            return known
        raw = self._opened(_SESSION, principal, upstream, b"", given)
        if raw is None or not _VISIBLE.fullmatch(raw):
            raise Refused("session_unknown")
        if len(self._known) >= KNOWN_MAX:
            self._known.pop(next(iter(self._known)))
        session_id = self._known[whole] = raw.decode("ascii")
        return session_id

    def event_out(
        self, principal: Principal, upstream: str, session_id: str, event_id: bytes
    ) -> bytes:
        """An event's id as the agent gets it; raises Refused("answer_unchecked")."""
        if len(event_id) > ID_BYTES_MAX:
            raise Refused("answer_unchecked", f"An event's id is longer than {ID_BYTES_MAX} bytes")
        scope = session_id.encode("utf-8", "surrogateescape")
        return b"%b.%b" % (event_id, self._tag(_EVENT, principal, upstream, scope, event_id))

    def event_in(self, principal: Principal, upstream: str, session_id: str, given: str) -> str:
        """The server's own id of an event; raises Refused("event_unknown")."""
        raw = self._opened(_EVENT, principal, upstream, session_id.encode(), given)
        if raw is None:
            raise Refused("event_unknown")
        return raw.decode("utf-8")

    def _opened(
        self, kind: bytes, principal: Principal, upstream: str, scope: bytes, given: str
    ) -> bytes | None:
        """The id without its tag; None where the tag does not fit, however it was found out."""
        found = given.encode("utf-8", "surrogateescape")
        if not 0 < len(found) - _TAG_LENGTH - 1 <= ID_BYTES_MAX:
            return None
        raw, dot, tag = found[: -_TAG_LENGTH - 1], found[-_TAG_LENGTH - 1], found[-_TAG_LENGTH:]
        fits = hmac.compare_digest(tag, self._tag(kind, principal, upstream, scope, raw))
        return raw if fits and dot == ord(".") else None

    def _tag(
        self, kind: bytes, principal: Principal, upstream: str, scope: bytes, raw: bytes
    ) -> bytes:
        """Each part with its length before it, so that no two wholes read alike."""
        parts = (kind, principal.tenant.encode(), principal.agent.encode(), upstream.encode())
        said = b"".join([b"%d:%b" % (len(part), part) for part in (*parts, scope, raw)])
        digest = hmac.digest(self._key, said, "sha256")[:TAG_BYTES]
        return base64.urlsafe_b64encode(digest)[:_TAG_LENGTH]
