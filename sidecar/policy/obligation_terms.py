"""`obligations` of a rule: what is done with a call that goes ahead.

Knows: the keys and the forms of their values, the names of detectors, which headers a policy may
not touch because others stand for them (framing, credentials, what the body is).
Must not know: how any of it is carried out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from sidecar.policy.fields import (
    Field,
    Parse,
    Problems,
    did_you_mean,
    list_of,
    name,
    read_fields,
    text,
)
from sidecar.policy.quantities import size_bytes
from sidecar.policy.terms import NO_REDACTION, Obligations, Redaction
from sidecar.yaml_reader import Node

DETECTORS: Final = ("card_number", "iban", "email", "api_key", "private_key")

#: Where a path may begin: in a request and in a response.
_REQUEST_ROOTS: Final = ("args", "body")
_RESPONSE_ROOTS: Final = ("body",)
_STEPS_MAX: Final = 16

_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_HEADER_VALUE: Final = re.compile(r"[!-~]([ -~]{0,1022}[!-~])?")
#: What says where a request goes, how long it is, what its body is or who sends it.
_FIXED_HEADERS: Final = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "forwarded",
        "host",
        "http2-settings",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "x-original-url",
        "x-rewrite-url",
    }
)
_FIXED_PREFIXES: Final = ("aegis-", "mcp-", "proxy-", "x-forwarded-")
#: An operator may take these away, but gives credentials in sidecar.yaml only.
_NEVER_SET: Final = frozenset({"authorization"})


def obligations(node: Node, problems: Problems) -> Obligations | None:
    """`{redact, max_response, headers, idempotency_key, add_labels}`."""
    before = problems.error_count
    values = read_fields(node, "`obligations`", _FIELDS, problems)
    if problems.error_count > before:
        return None
    if not values:
        problems.error(node.position, "`obligations` says nothing")
        return None
    request, response = values.get("redact", (NO_REDACTION, NO_REDACTION))
    set_headers, remove_headers = values.get("headers", ((), ()))
    return Obligations(
        request,
        response,
        values.get("max_response"),
        set_headers,
        remove_headers,
        "idempotency_key" in values,
        tuple(sorted(set(values.get("add_labels", ())))),
    )


def _redact(node: Node, problems: Problems) -> tuple[Redaction, Redaction] | None:
    before = problems.error_count
    values = read_fields(node, "`redact`", _REDACT_FIELDS, problems)
    if problems.error_count == before and not values:
        problems.error(node.position, "`redact` says nothing", "give it request or response")
    if problems.error_count > before:
        return None
    return _redaction(values.get("request", ())), _redaction(values.get("response", ()))


def _redaction(items: tuple[str, ...]) -> Redaction:
    detectors = sorted({item for item in items if item in DETECTORS})
    paths = sorted({tuple(item.split(".")) for item in items if item not in DETECTORS})
    return Redaction(tuple(paths), tuple(detectors))


def _item(roots: tuple[str, ...]) -> Parse:
    def read(node: Node, problems: Problems) -> str | None:
        value = text(node, problems)
        if value is None or value in DETECTORS:
            return value
        root, *steps = value.split(".")
        if root in roots and steps and all(steps) and len(steps) <= _STEPS_MAX:
            return value
        problems.error(
            node.position,
            f'"{value}" is neither a path nor a detector',
            did_you_mean(value, DETECTORS)
            or f"{' or '.join(f'{one}.NAME' for one in roots)}, or one of {', '.join(DETECTORS)}",
        )
        return None

    return read


def _headers(
    node: Node, problems: Problems
) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]] | None:
    before = problems.error_count
    values = read_fields(node, "`headers`", _HEADERS_FIELDS, problems)
    if problems.error_count == before and not values:
        problems.error(node.position, "`headers` says nothing", "give it set or remove")
    given = values.get("set", {})
    removed = tuple(sorted(set(values.get("remove", ()))))
    for header in removed:
        if header in given:
            problems.error(node.position, f'the header "{header}" is set and removed')
    if problems.error_count > before:
        return None
    return tuple(sorted(given.items())), removed


def _set(node: Node, problems: Problems) -> dict[str, str] | None:
    if not node.is_mapping or not node.value:
        problems.error(node.position, f"set must be a mapping of header to value, not {node.kind}")
        return None
    given: dict[str, str] = {}
    for key, member in node.value.items():
        place = Node(key, member.key_position or member.position)
        header = _header(place, problems)
        if header in _NEVER_SET:
            hint = "credentials stand in sidecar.yaml (`auth` of the upstream)"
            problems.error(place.position, f'a policy cannot set "{header}"', hint)
            continue
        if not isinstance(member.value, str) or not _HEADER_VALUE.fullmatch(member.value):
            hint = "printable ASCII, at most 1024 characters, no blank at its ends; quote numbers"
            problems.error(member.position, "this cannot be the value of a header", hint)
        elif header in given:
            problems.error(place.position, f'the header "{header}" is here twice')
        elif header is not None:
            given[header] = member.value
    return given


def _header(node: Node, problems: Problems) -> str | None:
    value = text(node, problems)
    if value is None:
        return None
    if not _HEADER.fullmatch(value):
        problems.error(node.position, f'"{value}" is not a header name')
        return None
    lower = value.lower()
    if lower in _FIXED_HEADERS or lower.startswith(_FIXED_PREFIXES):
        problems.error(node.position, f'a policy cannot touch the header "{lower}"')
        return None
    return lower


def _required(node: Node, problems: Problems) -> bool | None:
    if node.value == "required":
        return True
    problems.error(node.position, "idempotency_key is: required", "or leave the key out")
    return None


_REDACT_FIELDS: Mapping[str, Field] = {
    "request": Field(list_of(_item(_REQUEST_ROOTS))),
    "response": Field(list_of(_item(_RESPONSE_ROOTS))),
}
_HEADERS_FIELDS: Mapping[str, Field] = {
    "set": Field(_set),
    "remove": Field(list_of(_header)),
}
_FIELDS: Mapping[str, Field] = {
    "redact": Field(_redact),
    "max_response": Field(size_bytes),
    "headers": Field(_headers),
    "idempotency_key": Field(_required),
    "add_labels": Field(list_of(name)),
}
