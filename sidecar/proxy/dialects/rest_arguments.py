"""Where the arguments of a REST call stand: path, query, form, JSON; one mapping out of them.

Knows: percent-decoding, `application/x-www-form-urlencoded`, what fields and files of a multipart
form become, which bodies are read (lines of JSON are a list, `body`) and which are known by digest
only. A name twice, in two places with different values, or in another case beside it, is refused.
Must not know: routes, rules. Types are the catalogue's (`ArgumentTypes.bind`).
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Mapping
from typing import Any

from sidecar.config.model import Limits
from sidecar.errors import Refused
from sidecar.policy.catalogue import ArgumentTypes
from sidecar.proxy.dialects.content_type import FORM_DATA, media_type, require_utf8
from sidecar.proxy.dialects.multipart import Part, read_parts
from sidecar.proxy.dialects.rest_disguises import (
    FORM,
    METHOD_OVERRIDES,
    refuse_disguised_form,
    refuse_disguised_json,
)
from sidecar.proxy.head import RequestHead
from sidecar.proxy.json_lines import parse_lines
from sidecar.proxy.strict_json import parse

#: Methods with which most servers pass a body over, and some read it.
_WITHOUT_BODIES = frozenset({"GET", "HEAD", "OPTIONS"})
#: What rules know of a body that is not read. Only the sidecar says it: a rule that trusts a digest
#: must not be answered by a member of some JSON.
_DIGEST_KEYS = ("body_sha256", "body_size")
#: What rules know of a file in a form; its `content_type` is "" if none is stated.
FILE_KEYS = frozenset({"sha256", "size", "filename", "content_type"})

_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
#: What PHP makes of a name: `.method` is `_method` there.
_IN_PHP = str.maketrans(" .", "__")


def gather(
    head: RequestHead,
    body: bytes,
    path_values: Mapping[str, str],
    types: ArgumentTypes | None,
    limits: Limits,
) -> dict[str, Any]:
    """The call's arguments, bound to the declared types where there are any.

    Raises Refused: ambiguous_argument, invalid_argument, invalid_form, invalid_json,
    too_many_parameters, unsupported_media_type, malformed_request.
    """
    arguments = _Arguments(types)
    for name, value in path_values.items():
        arguments.add_text({name: [value]})
    if head.query:
        arguments.add_text(_read_pairs(head.query, limits.query))
    if body:
        _add_body(arguments, head, body, limits)
    return arguments.bound()


class _Arguments:
    """Arguments as they are gathered; `textual` are those whose value came as text."""

    def __init__(self, types: ArgumentTypes | None) -> None:
        self._types = types
        self._values: dict[str, Any] = {}
        self._textual: set[str] = set()
        self._has_digest = False

    def add_text(self, pairs: Mapping[str, list[str]]) -> None:
        for name, values in pairs.items():
            is_list = self._types is not None and self._types.is_list(name)
            if len(values) > 1 and not is_list:
                raise Refused("ambiguous_argument", f"{_shown(name)} is given more than once")
            value: Any = values if is_list else values[0]
            if name not in self._values:
                self._values[name] = value
                self._textual.add(name)
            elif self._values[name] != value:
                raise _given_twice(name)

    def add_json(self, members: Mapping[str, Any]) -> None:
        for name, value in members.items():
            if name in self._textual:
                if not _is_same(self._values[name], value):
                    raise _given_twice(name)
                self._textual.discard(name)
            self._values[name] = value

    def add_values(self, values: Mapping[str, list[Any]]) -> None:
        """Values that are no text, by name; several only where a list is declared."""
        for name, found in values.items():
            is_list = self._types is not None and self._types.is_list(name)
            if len(found) > 1 and not is_list:
                raise Refused("ambiguous_argument", f"{_shown(name)} is given more than once")
            self.add_json({name: found if is_list else found[0]})

    @property
    def wants_digest(self) -> bool:
        """Whether the operation declares that it takes a body by its digest."""
        return self._types is not None and _DIGEST_KEYS[0] in self._types.names

    def add_digest(self, sha256: str, size: int) -> None:
        """A body that is known by its digest: said by the sidecar, and by nobody else."""
        self._has_digest = True
        self.add_json(dict(zip(_DIGEST_KEYS, (sha256, size), strict=True)))

    def bound(self) -> dict[str, Any]:
        if not self._has_digest:
            for name in _DIGEST_KEYS:
                if name in self._values:
                    raise Refused(
                        "ambiguous_argument", f"{name} is what the sidecar says of a body"
                    )
        if self._types is None:
            _refuse_names_of_other_case(self._values)
            return self._values
        bound: dict[str, Any] = self._types.bind(self._values, self._textual)
        return bound


def _refuse_names_of_other_case(values: Mapping[str, Any]) -> None:
    """Servers that pass over case (Go's JSON, what ASP.NET binds) take one for the other. Where
    both are declared, the author of the operation tells them apart."""
    if len(set(map(str.casefold, values))) == len(values):
        return
    seen: set[str] = set()
    for name in values:
        if name.casefold() in seen:
            raise Refused("ambiguous_argument", f"{_shown(name)} is there in another case too")
        seen.add(name.casefold())


def _add_body(arguments: _Arguments, head: RequestHead, body: bytes, limits: Limits) -> None:
    media = media_type(head)
    if media is None:
        raise Refused("unsupported_media_type", "A body needs a Content-Type")
    if media.is_json or media.is_lines_of_json:
        require_utf8(media)
        read = parse if media.is_json else parse_lines
        value = read(body, limits.depth, limits.values)
        members = value if type(value) is dict else {"body": value}
        if members and head.method in _WITHOUT_BODIES:
            raise Refused(
                "ambiguous_argument",
                f"Arguments stand in the body of a {head.method}: send them in the query",
            )
        if not METHOD_OVERRIDES.isdisjoint(map(str.lower, members)):  # Laravel looks there too
            raise Refused("invalid_argument", "A member overrides the method")
        _refuse_claimed_files(members)
        arguments.add_json(members)
    elif media.name == FORM:
        _refuse_unread(head)
        require_utf8(media)
        refuse_disguised_json(media, body, is_by_digest=False)
        arguments.add_text(_read_pairs(_form(body), limits.query))
    elif media.name == FORM_DATA:
        _refuse_unread(head)
        require_utf8(media)
        _add_parts(arguments, read_parts(body, media.boundary, limits.query), limits)
    else:
        refuse_disguised_json(media, body, is_by_digest=arguments.wants_digest)
        refuse_disguised_form(media, body)
        arguments.add_digest(hashlib.sha256(body).hexdigest(), len(body))


def _overrides_method(name: str) -> bool:
    """PHP drops blanks before a name and makes dots underscores; Rack drops brackets around it."""
    return name.lower().strip(" []").translate(_IN_PHP) in METHOD_OVERRIDES


def _refuse_unread(head: RequestHead) -> None:
    """Some servers read a form whatever the method is, others pass it over: rules would see
    arguments that the tool does not. Of JSON it is the same: what a rule asks of the query (`owner`
    must be ours) was said in the body, and the tool listed everybody's."""
    if head.method in _WITHOUT_BODIES:
        raise Refused("invalid_form", f"A form stands in the body of a {head.method}")


def _form(body: bytes) -> str:
    """The text of a form; some servers drop blanks at its ends, and read another value then."""
    text = _ascii(body)
    if text != text.strip():
        raise Refused("invalid_form", "The form begins or ends with a blank")
    return text


def _add_parts(arguments: _Arguments, parts: list[Part], limits: Limits) -> None:
    texts: dict[str, list[str]] = {}
    values: dict[str, list[Any]] = {}
    for part in parts:
        if _overrides_method(part.name):
            raise Refused("invalid_argument", "A parameter overrides the method")
        if part.filename is not None:
            values.setdefault(part.name, []).append(_file(part, part.filename))
        elif part.media_type == "application/json":
            value = parse(part.content, limits.depth, limits.values)
            _refuse_claimed_files({part.name: value})
            values.setdefault(part.name, []).append(value)
        elif part.media_type in ("", "text/plain"):
            texts.setdefault(part.name, []).append(_text(part.content))
        else:
            raise Refused("unsupported_media_type", "A field that is no text needs a filename")
    for name in texts.keys() & values.keys():
        raise Refused("ambiguous_argument", f"{_shown(name)} is a field and a file")
    arguments.add_text(texts)
    arguments.add_values(values)


def _refuse_claimed_files(members: Mapping[str, Any]) -> None:
    """JSON that reads like what the sidecar says of a file, where a file may stand."""
    for name, value in members.items():
        for one in value if type(value) is list else (value,):
            if type(one) is dict and one.keys() >= FILE_KEYS:
                raise Refused("ambiguous_argument", f"{_shown(name)} reads like a file of a form")


def _file(part: Part, filename: str) -> dict[str, Any]:
    return {
        "sha256": hashlib.sha256(part.content).hexdigest(),
        "size": len(part.content),
        "filename": filename,
        "content_type": part.media_type,
    }


def _text(content: bytes) -> str:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("malformed_request", "A field is not UTF-8") from None
    if "\0" in text:
        raise Refused("malformed_request", "A field holds a NUL character")
    return text


def _read_pairs(text: str, count_max: int) -> dict[str, list[str]]:
    """Names and values of a query or form, in order of appearance."""
    if ";" in text:
        raise Refused("ambiguous_argument", "A `;` between parameters must be written as %3B")
    pieces = [piece for piece in text.split("&") if piece]
    if len(pieces) > count_max:
        raise Refused("too_many_parameters")
    pairs: dict[str, list[str]] = {}
    for piece in pieces:
        raw_name, _, raw_value = piece.partition("=")
        name = _decoded(raw_name)
        if not name or _overrides_method(name):
            raise Refused("invalid_argument", "A parameter has no name, or overrides the method")
        pairs.setdefault(name, []).append(_decoded(raw_value))
    return pairs


def _decoded(text: str) -> str:
    if "+" in text:
        text = text.replace("+", " ")
    if "%" in text:
        if _STRAY_PERCENT.search(text):
            raise Refused("malformed_request", "A parameter holds a % that encodes nothing")
        try:
            text = _percent_decoded(text).decode("utf-8")
        except UnicodeDecodeError:
            raise Refused("malformed_request", "A parameter is not UTF-8") from None
    if "\0" in text:
        raise Refused("malformed_request", "A parameter holds a NUL character")
    return text


def _percent_decoded(text: str) -> bytes:
    """What `urllib.parse.unquote_to_bytes` gives for valid escapes. That takes 0.1 s for 1 MiB of
    them; quoted-printable (RFC 2045 section 6.7) has the same escapes under another sign."""
    return binascii.a2b_qp(text.encode().replace(b"=", b"=3D").replace(b"%", b"="))


def _ascii(body: bytes) -> str:
    try:
        return body.decode("ascii")
    except UnicodeDecodeError:
        raise Refused("malformed_request", "A form must be percent-encoded ASCII") from None


def _is_same(text: Any, value: Any) -> bool:
    if type(value) is int:
        return bool(text == str(value))
    return type(value) is type(text) and bool(value == text)


def _given_twice(name: str) -> Refused:
    return Refused("ambiguous_argument", f"{_shown(name)} has different values in two places")


def _shown(name: str) -> str:
    """An argument's name as a refusal may print it: short, without control characters."""
    return "".join(c if c.isprintable() else "�" for c in name[:64])
