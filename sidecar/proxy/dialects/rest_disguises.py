"""What says that it is one thing and would be read as another by some servers: refused.

Knows: by what a request says that it is of another method; what a JSON text begins with, in UTF-8
or with the NULs of UTF-16 and UTF-32 between; that servers read JSON and forms whatever the media
type says. Only the beginning is looked at: readers
of streams take the first value and leave what follows it.
Must not know: arguments, routes, what is done with a body that goes by its digest.
"""

from __future__ import annotations

import re

from sidecar.errors import Refused
from sidecar.proxy.dialects.content_type import MediaType
from sidecar.proxy.head import RequestHead

FORM = "application/x-www-form-urlencoded"
#: Parameters that make another method of a request, in lower case; `_HttpMethod` is Salesforce's.
METHOD_OVERRIDES = frozenset({"_method", "_httpmethod", "x-http-method-override"})
#: Headers that do.
_METHOD_HEADERS = frozenset({"x-http-method", "x-http-method-override", "x-method-override"})

#: Blanks, NUL, record separator, and the bytes of byte order marks.
_SKIPPED_BEFORE_JSON = b" \t\r\n\v\f\0\x1e\xef\xbb\xbf\xfe\xff"
#: How far a NUL tells of UTF-16 or UTF-32: the length of one character there.
_WIDEST_CHARACTER_BYTES = 4
#: An object, or lists down to one or to a first element that ends as one does. Possessive, so that
#: a hostile body costs one pass; of a number's parts each fits in one way only. Graph queries, RTF,
#: TOML and lines of a log begin otherwise.
_JSON_BEGINS = re.compile(
    rb"(?:\[[ \t\r\n]*+)*+"
    rb"(?:\{[ \t\r\n]*+[\"}]"
    rb"|[\"\]]"
    rb"|(?:true|false|null|-?[0-9]++(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?)[ \t\r\n]*+[,\]])"
)


def refuse_other_method(head: RequestHead) -> None:
    """No such header goes on, so that a request which says by one that it is of another method
    would be sent as what it is not: Google's clients send a long GET as a POST, and the list that
    an agent asked for would have become a file that it makes. What says what it is passes.

    Raises Refused("invalid_argument").
    """
    if _METHOD_HEADERS.isdisjoint(head.first):
        return
    for name, value in head.headers:
        if name.lower() in _METHOD_HEADERS and value.strip().upper() != head.method:
            raise Refused(
                "invalid_argument",
                f"{name} makes another method of the request: send it with that method itself",
            )


def refuse_disguised_json(media: MediaType, body: bytes, *, is_by_digest: bool) -> None:
    """Servers that read JSON from text/plain (or a JSON type of their own, or whatever the type
    says: a form is what curl sends if nobody names one) would see arguments that no rule saw; some
    skip a byte order mark or a record separator, or guess UTF-16.

    `is_by_digest` says that the operation's author wants the body by its digest, whatever is in
    it. Raises Refused("unsupported_media_type").
    """
    if "json" in media.name:
        raise Refused("unsupported_media_type", "JSON must be sent as application/json")
    text = body.lstrip(_SKIPPED_BEFORE_JSON)
    if text[:1] not in (b"{", b"["):
        return
    if media.name.startswith("text/") or media.name == FORM:
        raise Refused("unsupported_media_type", "JSON must be sent as application/json")
    if not is_by_digest and _begins_like_json(text):
        raise Refused(
            "unsupported_media_type",
            "JSON must be sent as application/json, or to an operation that declares body_sha256",
        )


def _begins_like_json(text: bytes) -> bool:
    if b"\0" in text[:_WIDEST_CHARACTER_BYTES]:
        text = text.replace(b"\0", b"")
    return _JSON_BEGINS.match(text) is not None


def refuse_disguised_form(media: MediaType, body: bytes) -> None:
    """Rack and Tomcat read a form from other multipart types too: parameters that no rule saw, the
    one that overrides the method among them (Rack takes a Content-ID for a name as well).

    Raises Refused("unsupported_media_type").
    """
    if media.name.startswith("multipart/"):
        text = body.lower()
        if b"content-disposition" in text or any(
            name.encode() in text for name in METHOD_OVERRIDES
        ):
            raise Refused("unsupported_media_type", "A form must be sent as multipart/form-data")
