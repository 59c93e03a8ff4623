"""A request body that came compressed, made plain before anything looks at it.

Knows: the codings an upstream's `decode` may allow (RFC 9110 section 8.4.1), each as one whole
stream: a second member, another byte behind it or a missing end is refused, since the next reader
might go on. What is judged, recorded and sent is the plain body, without the headers that speak of
the compressed one.
Must not know: which upstream allows what (the head was checked), what a body means.
"""

from __future__ import annotations

import zlib
from typing import Final

from sidecar.errors import Refused
from sidecar.proxy.head import RequestHead

#: How many bytes one may become, once the body is larger than what is free of that.
RATIO_MAX: Final = 20
FREE_BYTES: Final = 64 * 1024

_WINDOW_BITS: Final = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
#: Digests of the bytes as they came, and signatures over them.
OF_THE_BYTES: Final = frozenset(
    {"content-digest", "content-md5", "digest", "repr-digest", "signature", "signature-input"}
)
_GONE: Final = OF_THE_BYTES | {"content-encoding", "content-length"}


def decoded(head: RequestHead, body: bytes, limit_bytes: int) -> tuple[RequestHead, bytes]:
    """Head and body as the sender had them before encoding.

    Raises Refused: corrupt_encoding, body_too_large. A body that says `identity` is left alone.
    """
    window_bits = _WINDOW_BITS.get(head.first["content-encoding"].strip().lower())
    if window_bits is None:
        return head, body
    plain = _inflated(body, window_bits, limit_bytes)
    headers = tuple([pair for pair in head.headers if pair[0].lower() not in _GONE])
    first = {name: value for name, value in head.first.items() if name not in _GONE}
    return head._replace(headers=headers, first=first), plain


def _inflated(body: bytes, window_bits: int, limit_bytes: int) -> bytes:
    most = min(limit_bytes, max(RATIO_MAX * len(body), FREE_BYTES))
    stream = zlib.decompressobj(window_bits)
    try:
        plain = stream.decompress(body, most + 1)
    except zlib.error as error:
        raise Refused("corrupt_encoding", detail=str(error)) from None
    if len(plain) > most:
        raise Refused("body_too_large", f"The body becomes larger than {most} bytes")
    if not stream.eof:
        raise Refused("corrupt_encoding", "The compressed body ends early")
    if stream.unused_data:
        raise Refused("corrupt_encoding", "Something follows the compressed body")
    return plain
