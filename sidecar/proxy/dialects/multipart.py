"""`multipart/form-data`, in the one form that every reader takes alike (RFC 7578, RFC 2046 5.1.1).

Knows: delimiters, the headers of a part, names of fields and files. What two servers are known to
read differently is refused, never repaired: a preamble or an epilogue, delimiters with blanks or
bare line feeds, a boundary inside a part, parameters with escapes, continuations or `*`, folded or
unknown headers, parts within parts, transfer encodings, `_charset_`.
Must not know: arguments, rules, what a field means. The caller bounds the size of the body.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from sidecar.errors import Refused

#: Of one part: its header lines in all, and how many of them there may be.
HEADER_BYTES_MAX: Final = 1024
HEADERS_MAX: Final = 4
NAME_CHARACTERS_MAX: Final = 256

#: RFC 2046 section 5.1.1, without blanks and what some readers take for the end of the parameter.
_BOUNDARY = re.compile(r"[0-9A-Za-z'+_./=-]{1,70}")
_HEADER = re.compile(r"([A-Za-z-]{1,32}):[ \t]*([^\r\n]*)")
_VALUE = r"(?:\"([^\"\\;]*)\"|([0-9A-Za-z!#$&+.^_`|~-]+))"
_DISPOSITION = re.compile(
    rf"form-data;[ ]?name={_VALUE}(;[ ]?filename={_VALUE})?", re.IGNORECASE | re.DOTALL
)
_MEDIA_TYPE = re.compile(
    r"([0-9A-Za-z!#$&^_.+-]+/[0-9A-Za-z!#$&^_.+-]+)(?:;[ ]*charset=\"?([0-9A-Za-z_-]+)\"?)?"
)
_PLAIN_ENCODINGS = frozenset({"7bit", "8bit", "binary"})
#: What browsers write for a quote and a line end; some readers turn it back, others do not.
_ESCAPE = re.compile(r"%(22|0[ad])", re.IGNORECASE)


class Part(NamedTuple):
    """One part. `filename` None: a field; `media_type` in lower case, "" if none is stated."""

    name: str
    filename: str | None
    media_type: str
    content: bytes


def read_parts(body: bytes, boundary: str, parts_max: int) -> list[Part]:
    """The parts of a body, in their order.

    Raises Refused: invalid_form, too_many_parameters, unsupported_media_type.
    """
    if not _BOUNDARY.fullmatch(boundary):
        raise _invalid("the boundary is missing or malformed")
    delimiter = b"--" + boundary.encode("ascii")
    if not body.startswith(delimiter + b"\r\n"):
        raise _invalid("it does not begin with its boundary")
    # Every place where a reader might see a delimiter must be one, and every delimiter plain.
    pieces = body.split(delimiter)[1:]
    last = pieces.pop()
    if last not in (b"--\r\n", b"--"):
        raise _invalid("it does not end with its closing boundary")
    if not pieces:
        raise _invalid("it has no part")
    if len(pieces) > parts_max:
        raise Refused("too_many_parameters", f"More than {parts_max} parts")
    return [_part(piece) for piece in pieces]


def _part(piece: bytes) -> Part:
    if not (piece.startswith(b"\r\n") and piece.endswith(b"\r\n")):
        raise _invalid("the boundary stands inside a part, or not on a line of its own")
    raw_headers, separator, content = piece[2:].partition(b"\r\n\r\n")
    if not (separator and content.endswith(b"\r\n")):
        raise _invalid("a part has no headers, or no end of them")
    headers = _headers(raw_headers)
    disposition = _DISPOSITION.fullmatch(headers.pop("content-disposition", ""))
    if disposition is None:
        raise _invalid("a part's Content-Disposition is not plain form-data with a name")
    name = _checked(disposition[1], disposition[2])
    is_file = disposition[3] is not None
    filename = _filename(_checked(disposition[4], disposition[5])) if is_file else None
    media_type = _media_type(headers.pop("content-type", ""))
    if headers.pop("content-transfer-encoding", "binary").lower() not in _PLAIN_ENCODINGS:
        raise _invalid("a part has a transfer encoding")
    if headers.pop("content-length", str(len(content) - 2)) != str(len(content) - 2):
        raise _invalid("a part's Content-Length is not its length")
    if headers:
        raise _invalid("a part has a header that is not known")
    return Part(name, filename, media_type, content[:-2])


def _headers(raw: bytes) -> dict[str, str]:
    if len(raw) > HEADER_BYTES_MAX:
        raise _invalid(f"the headers of a part are longer than {HEADER_BYTES_MAX} bytes")
    try:
        lines = raw.decode("utf-8").split("\r\n")
    except UnicodeDecodeError:
        raise _invalid("a header of a part is not UTF-8") from None
    if len(lines) > HEADERS_MAX:
        raise _invalid(f"a part has more than {HEADERS_MAX} headers")
    headers: dict[str, str] = {}
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None or not line.replace("\t", " ").isprintable() or line[-1:] in " \t":
            raise _invalid("a header of a part is malformed")
        name = header[1].lower()
        if name in headers:
            raise _invalid("a part has a header twice")
        headers[name] = header[2]
    return headers


def _checked(quoted: str | None, bare: str | None) -> str:
    value = quoted if quoted is not None else bare or ""
    if not value or len(value) > NAME_CHARACTERS_MAX:
        raise _invalid("a name is empty or too long")
    if value != value.strip() or "\t" in value or _ESCAPE.search(value):
        raise _invalid("a name begins or ends with a blank, or holds an escape")
    if value == "_charset_":
        raise _invalid("a field names another charset")
    return value


def _filename(value: str) -> str:
    """Servers that keep files by their last segment would read another name."""
    if "/" in value or value in (".", ".."):
        raise _invalid("a file's name is a path")
    return value


def _media_type(value: str) -> str:
    if not value:
        return ""
    match = _MEDIA_TYPE.fullmatch(value)
    if match is None:
        raise _invalid("a part's Content-Type is malformed, or has a parameter besides charset")
    if (match[2] or "utf-8").lower() not in ("utf-8", "utf8"):
        raise Refused("unsupported_media_type", "Only UTF-8 is accepted in a form")
    name = match[1].lower()
    if name.startswith(("multipart/", "message/")):
        raise _invalid("a part holds parts of its own")
    return name


def _invalid(reason: str) -> Refused:
    return Refused("invalid_form", f"The form cannot be read in one way only: {reason}")
