"""Obligations on what comes back: its largest size, and its masked values.

Knows: JSON is held back whole, masked and written anew; text is masked line by line, events of a
stream one by one; what cannot be read (compressed, binary, a part, too large) is withheld, and what
cannot be measured (compressed).
Must not know: rules, how a reply is sent. Nothing unmasked is ever given on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Final

from sidecar.errors import Refused
from sidecar.model import ToolCall
from sidecar.policy.terms import Obligations, Redaction
from sidecar.proxy.dialects.content_type import is_json, is_lines_of_json
from sidecar.proxy.line_turns import in_turns
from sidecar.proxy.masking import NotMaskable, masked_json
from sidecar.proxy.masking_mcp import masked_message
from sidecar.proxy.masking_stream import EventMasker, LineMasker, StreamMasker
from sidecar.proxy.upstream import Headers, Reply

#: A JSON document that is masked is held in memory as a whole.
DOCUMENT_BYTES_MAX: Final = 8 * 1024 * 1024
#: What is larger is masked in a thread.
INLINE_BYTES_MAX: Final = 16 * 1024

#: They speak of the very bytes that were masked, or of a part of them.
_OF_THE_BYTES: Final = frozenset(
    {"accept-ranges", "content-digest", "content-length", "content-md5", "digest", "etag",
     "repr-digest", "signature", "signature-input"}
)  # fmt: skip
_BODILESS: Final = frozenset({204, 304})


async def held_to(reply: Reply, obligations: Obligations, call: ToolCall) -> Reply:
    """The reply to a call as the obligations want it; `close()` ends the upstream's.

    Raises Refused: response_too_large, cannot_redact; so may its chunks, and then the reply must
    break off.
    """
    if call.http.method == "HEAD" or reply.status in _BODILESS:
        return reply  # its length is that of another answer
    if obligations.max_response_bytes is not None:
        reply = _limited(reply, obligations.max_response_bytes)
    if obligations.response:
        reply = await _masked(reply, obligations.response, call.dialect)
    return reply


def _limited(reply: Reply, most: int) -> Reply:
    if _is_compressed(reply):  # a hundredth of it, for one
        why = "The answer is compressed, so that its size cannot be told"
        raise Refused("response_too_large", why)
    announced = _first(reply.headers, "content-length")
    if announced.isascii() and announced.isdigit() and int(announced[:18]) > most:
        raise _too_large(most)
    if not reply.complete:
        return Reply(reply.status, reply.headers, source=_cut(reply, most), close=reply.close)
    if len(reply.first) > most:
        raise _too_large(most)
    return reply


async def _cut(reply: Reply, most: int) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in reply.chunks:
        size += len(chunk)
        if size > most:
            raise _too_large(most)
        yield chunk


def _too_large(most: int) -> Refused:
    return Refused("response_too_large", f"The answer is larger than {most} bytes")


async def _masked(reply: Reply, redaction: Redaction, dialect: str) -> Reply:
    if reply.complete and not reply.first:
        return reply
    media = _readable_media(reply)
    headers = tuple(pair for pair in reply.headers if pair[0].lower() not in _OF_THE_BYTES)
    if is_json(media):
        body = await _whole(reply)
        made = await _aside(len(body), partial(_document, body, redaction, dialect))
        return Reply(reply.status, headers, made, close=reply.close)
    masker = _masker(media, redaction, dialect)
    source = _stream(reply, masker)
    if not reply.complete:
        return Reply(reply.status, headers, source=source, close=reply.close)
    pieces = [piece async for piece in source]
    return Reply(reply.status, headers, b"".join(pieces), close=reply.close)


def _readable_media(reply: Reply) -> str:
    """The media type of a body that can be read as UTF-8 text; raises Refused."""
    if reply.status == 206:
        raise _cannot("a part of a whole")
    if _is_compressed(reply):
        raise _cannot("compressed")
    types = [value for name, value in reply.headers if name.lower() == "content-type"]
    if len(types) != 1:
        raise _cannot("without one content type")
    media, *parameters = (part.strip().lower() for part in types[0].split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip(' "') not in ("utf-8", "utf8", "us-ascii"):
            raise _cannot("not UTF-8")
    return media


def _masker(media: str, redaction: Redaction, dialect: str) -> StreamMasker:
    """Raises Refused for what is neither lines nor events, or whose paths nobody can follow."""
    if media == "text/event-stream":
        return EventMasker(redaction, is_mcp=dialect == "mcp")
    if is_lines_of_json(media):
        return LineMasker(redaction, is_json=True)
    if redaction.paths:
        raise _cannot("paths lead through JSON only")
    if media.startswith("text/"):
        return LineMasker(redaction, is_json=False)
    raise _cannot("neither JSON nor text")


def _document(body: bytes, redaction: Redaction, dialect: str) -> bytes:
    try:
        if dialect == "mcp":
            return masked_message(body, redaction)
        return masked_json(body, redaction)
    except NotMaskable as error:
        raise _cannot(str(error)) from error


async def _whole(reply: Reply) -> bytes:
    if reply.complete:
        if len(reply.first) > DOCUMENT_BYTES_MAX:
            raise _cannot(f"too large: more than {DOCUMENT_BYTES_MAX} bytes")
        return reply.first
    pieces: list[bytes] = []
    size = 0
    async for chunk in reply.chunks:
        size += len(chunk)
        if size > DOCUMENT_BYTES_MAX:
            raise _cannot(f"too large: more than {DOCUMENT_BYTES_MAX} bytes")
        pieces.append(chunk)
    return b"".join(pieces)


async def _stream(reply: Reply, masker: StreamMasker) -> AsyncIterator[bytes]:
    try:
        async for chunk in in_turns(reply.chunks):
            size = masker.held_bytes + len(chunk)
            if made := await _aside(size, partial(masker.feed, chunk)):
                yield made
        if made := await _aside(masker.held_bytes, masker.end):
            yield made
    except NotMaskable as error:
        raise _cannot(str(error)) from error


async def _aside(size: int, work: Callable[[], bytes]) -> bytes:
    """The result of the work; much of it is done in a thread, so that other calls go on."""
    return work() if size <= INLINE_BYTES_MAX else await asyncio.to_thread(work)


def _is_compressed(reply: Reply) -> bool:
    """By any coding: what is asked for is a plain answer."""
    codings = [value for name, value in reply.headers if name.lower() == "content-encoding"]
    return any(one.strip().lower() not in ("", "identity") for one in codings)


def _cannot(why: str) -> Refused:
    return Refused("cannot_redact", f"The answer cannot be masked: {why}")


def _first(headers: Headers, wanted: str) -> str:
    return next((value for name, value in headers if name.lower() == wanted), "")
