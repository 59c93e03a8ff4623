"""The forms of values in test files, and why a value is none.

Knows: tools, requests, times, rules, codes. Must not know: which key of which mapping has which
form.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sidecar.errors import REFUSALS
from sidecar.policy.fields import Field, Problems, did_you_mean, name, read_fields, text
from sidecar.policy.matchers import Glob
from sidecar.problems import Position
from sidecar.yaml_reader import Node

TIMES_MAX: Final = 10_000
#: Codes of decisions that go ahead; those of refusals stand in their own table.
CODES: Final = frozenset({"policy_allow", "protocol", *REFUSALS})

_TOOL = re.compile(r"[a-z0-9][a-z0-9-]{0,62}/\S{1,140}")
_RULE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}/[a-z0-9][a-z0-9-]{0,62}")
_METHOD = re.compile(r"[A-Z][A-Z-]{0,19}")
_PATH = re.compile(r"/[^/?#]+.*")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Request:
    """A call as an agent sends it: `path` begins with the upstream and may have a query. `body`
    is JSON if it is a mapping or a list, bytes as they are if it is text, None for none."""

    method: str
    path: str
    body: Any = None


def tool_name(node: Node, problems: Problems) -> str | None:
    value = text(node, problems)
    if value is not None and not _TOOL.fullmatch(value):
        problems.error(node.position, f'"{value}" is not a tool', "write <upstream>/<operation>")
        return None
    return value


def called(node: Node, problems: Problems) -> str | Request | None:
    """A tool's name, or a request."""
    if not node.is_mapping:
        return tool_name(node, problems)
    before = problems.error_count
    values = read_fields(node, "a request", _REQUEST_FIELDS, problems)
    if problems.error_count > before:
        return None
    return Request(values["method"], values["path"], values.get("body"))


def http_method(node: Node, problems: Problems) -> str | None:
    value = text(node, problems)
    if value is not None and not _METHOD.fullmatch(value):
        problems.error(node.position, f'"{value}" is not an HTTP method', "in capitals, e.g. GET")
        return None
    return value


def request_path(node: Node, problems: Problems) -> str | None:
    value = text(node, problems)
    if value is not None and not _PATH.fullmatch(value):
        problems.error(
            node.position, "a path begins with /<upstream>, as agents call it", "e.g. /github/user"
        )
        return None
    return value


def request_body(node: Node, problems: Problems) -> Any:
    if node.is_mapping or node.is_list or isinstance(node.value, str):
        return node.plain()
    problems.error(
        node.position,
        "a body is a mapping or a list, sent as JSON, or text, sent as it is",
        "text needs its content-type under http.headers",
    )
    return None


def mapping(what: str) -> Callable[[Node, Problems], dict[str, Any] | None]:
    """Reads any mapping as plain data."""

    def read(node: Node, problems: Problems) -> dict[str, Any] | None:
        if node.is_mapping:
            plain: dict[str, Any] = node.plain()
            return plain
        problems.error(node.position, f"{what} must be a mapping, not {node.kind}")
        return None

    return read


def _headers(node: Node, problems: Problems) -> dict[str, str] | None:
    if not node.is_mapping:
        problems.error(node.position, f"headers must be a mapping, not {node.kind}")
        return None
    headers = {}
    for key, member in node.value.items():
        value = text(member, problems)
        if value is not None:
            headers[key.lower()] = value
    return headers


def any_text(node: Node, problems: Problems) -> str | None:
    """Text, empty too: to say that there is none."""
    return "" if node.value == "" else text(node, problems)


def http_facts(node: Node, problems: Problems) -> dict[str, Any] | None:
    return read_fields(node, "http", _HTTP_FIELDS, problems)


def read_moment(text: str) -> int | None:
    """Microseconds since 1970 of a time with its zone; None if it is none."""
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        return None
    if value.tzinfo is None or not 1970 <= value.year < 9999:
        return None  # zones have no times at the ends of the calendar
    since = value - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def moment_us(node: Node, problems: Problems) -> int | None:
    """A time with its zone, as microseconds since 1970."""
    at_us = read_moment(node.value) if isinstance(node.value, str) else None
    if at_us is None:
        shown = str(node.plain())[:40]
        problems.error(node.position, f'"{shown}" is no time', "e.g. 2026-11-23T10:00:00Z")
    return at_us


def repetitions(node: Node, problems: Problems) -> int | None:
    if type(node.value) is int and 1 <= node.value <= TIMES_MAX:
        return node.value
    problems.error(node.position, f"times is an integer from 1 to {TIMES_MAX}")
    return None


def rule_name(node: Node, problems: Problems) -> tuple[str, Position] | None:
    value = text(node, problems)
    if value is not None and not _RULE.fullmatch(value):
        problems.error(node.position, f'"{value}" is not a rule', "write <policy>/<id>")
        return None
    return None if value is None else (value, node.position)


def code(node: Node, problems: Problems) -> str | None:
    value = text(node, problems)
    if value is not None and value not in CODES:
        problems.error(node.position, f'there is no code "{value}"', did_you_mean(value, CODES))
        return None
    return value


def text_glob(node: Node, problems: Problems) -> Glob | None:
    value = text(node, problems)
    return None if value is None else Glob(value)


def policy_name(node: Node, problems: Problems) -> tuple[str, Position] | None:
    value = name(node, problems)
    return None if value is None else (value, node.position)


_REQUEST_FIELDS = {
    "method": Field(http_method, is_required=True),
    "path": Field(request_path, is_required=True),
    "body": Field(request_body),
}
_HTTP_FIELDS = {
    "method": Field(http_method),
    "path": Field(any_text),
    "query": Field(any_text),
    "source_ip": Field(any_text),
    "headers": Field(_headers),
}
