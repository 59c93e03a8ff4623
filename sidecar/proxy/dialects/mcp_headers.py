"""MCP's HTTP headers must not say anything else than the body: an intermediary may route by them.

Knows: `MCP-Protocol-Version`, `Mcp-Method`, `Mcp-Name`, `Mcp-Param-*` of revision 2026-07-28 and
their `=?base64?…?=` form. A header that is there must agree in every revision; from 2026-07-28 on
a request must also carry them.
Must not know: tools, policies. Rules read the body only. A name twice is refused with the head.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable
from typing import Any

from sidecar.proxy.dialects.mcp_message import HEADER_MISMATCH, Message, RpcRefused
from sidecar.proxy.dialects.mcp_methods import NAME_MEMBER
from sidecar.proxy.head import RequestHead

VERSION_HEADER = "mcp-protocol-version"
METHOD_HEADER = "mcp-method"
NAME_HEADER = "mcp-name"
PARAMETER_PREFIX = "mcp-param-"

#: The first revision without sessions, in which headers repeat what the body says.
FIRST_STATELESS = "2026-07-28"

#: Values of a call's arguments that are looked at to find the ones that headers repeat.
SCALARS_MAX = 4096

_VERSION_MEMBER = "io.modelcontextprotocol/protocolVersion"
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_WHOLE_NUMBER = re.compile(r"(-?[0-9]{1,16})(?:\.0+)?")


def is_stateless(version: str | None) -> bool:
    """Whether `version` names 2026-07-28 or a later revision."""
    return version is not None and version >= FIRST_STATELESS and bool(_DATE.fullmatch(version))


def require_agreement(head: RequestHead, message: Message) -> None:
    """Raises RpcRefused("header_mismatch") where a header contradicts or should be there."""
    version = head.first.get(VERSION_HEADER)
    stated = _stated_version(message) if "_meta" in message.params else None
    if stated is not None and version is not None and version != stated:
        raise _mismatch("MCP-Protocol-Version is not the version the body states", message)
    is_required = (
        (version is not None or stated is not None)
        and message.expects_reply
        and (is_stateless(version) or is_stateless(stated))
    )
    if is_required and version is None:
        raise _mismatch("MCP-Protocol-Version is missing", message)
    if is_required or METHOD_HEADER in head.first:
        _require_method(head, message, is_required)
    if is_required or NAME_HEADER in head.first:
        _require_name(head, message, is_required)
    if [name for name in head.first if name[:10] == PARAMETER_PREFIX]:
        _require_parameters(head, message)


def decode(value: str) -> str | None:
    """A header's text, its `=?base64?…?=` form undone; None if that is malformed."""
    if not (value.startswith("=?base64?") and value.endswith("?=") and len(value) >= 11):
        return value
    payload = value[9:-2]
    try:
        raw = base64.b64decode(payload, validate=True)
        text = raw.decode("utf-8")
    except (binascii.Error, ValueError):
        return None
    return text if base64.b64encode(raw).decode("ascii") == payload else None


def encoded(text: str) -> str:
    """A text in the form that `decode` undoes."""
    return f"=?base64?{base64.b64encode(text.encode()).decode('ascii')}?="


def repeating(
    headers: Iterable[tuple[str, str]], arguments: Any, instead: str, masked: Callable[[str], str]
) -> tuple[tuple[str, str], ...]:
    """The headers of a call whose arguments are others now: where one repeated what no argument
    says any more, it says the same `masked`, or `instead` where no argument says that either."""
    scalars = _scalars(arguments) or set()

    def said(name: str, value: str) -> str:
        if name[:10].lower() != PARAMETER_PREFIX:
            return value
        text = decode(value)
        if text is None:
            return instead
        if _say(scalars, text):
            return value
        other = masked(text)
        if not _say(scalars, other):
            return instead
        return other if text == value else encoded(other)

    return tuple([(name, said(name, value)) for name, value in headers])


def _stated_version(message: Message) -> str | None:
    meta = message.params.get("_meta")
    stated = meta.get(_VERSION_MEMBER) if type(meta) is dict else None
    return stated if type(stated) is str else None


def _require_method(head: RequestHead, message: Message, is_required: bool) -> None:
    value = head.first.get(METHOD_HEADER)
    if value is None:
        if is_required:
            raise _mismatch("Mcp-Method is missing", message)
    elif value != message.method or message.is_answer:
        raise _mismatch("Mcp-Method is not the method of the body", message)


def _require_name(head: RequestHead, message: Message, is_required: bool) -> None:
    value = head.first.get(NAME_HEADER)
    member = NAME_MEMBER.get(message.method)
    if value is None:
        if is_required and member is not None and message.params.get(member) is not None:
            raise _mismatch("Mcp-Name is missing", message)
        return
    name = decode(value)
    if member is not None:
        agrees = name is not None and message.params.get(member) == name
    else:  # later revisions may name other things; what it names must stand in the body
        agrees = name is not None and name in _texts_of(message.params)
    if not agrees:
        raise _mismatch("Mcp-Name is not the name in the body", message)


def _texts_of(params: dict[str, Any]) -> list[str]:
    return [value for value in params.values() if type(value) is str]


def _require_parameters(head: RequestHead, message: Message) -> None:
    """Which argument a header repeats stands in the server's schema, which we need not trust:
    a value that no argument has is refused here, a swap of two arguments by the server."""
    scalars = _scalars(message.params.get("arguments"))
    if scalars is None:
        raise _mismatch("the body has too many arguments for headers to repeat one", message)
    for name, value in head.first.items():
        if name[:10] != PARAMETER_PREFIX:
            continue
        if head.header_count(name) > 1:
            raise _mismatch(f"{name} is there twice", message)
        text = decode(value)
        if text is None or not _say(scalars, text):
            raise _mismatch(f"{name} repeats no argument of the body", message)


def _scalars(arguments: Any) -> set[tuple[type, Any]] | None:
    """Every value that a header can repeat, walked once for all headers: members of objects, and
    not items of lists, which no header can name. None if there are more than anyone declares."""
    found: set[tuple[type, Any]] = set()
    stack = [arguments]
    while stack:
        item = stack.pop()
        if type(item) is dict:
            if len(item) + len(stack) + len(found) > SCALARS_MAX:
                return None
            stack += item.values()
        elif type(item) is float and item.is_integer():
            found.add((int, int(item)))
        elif type(item) is float:
            found.add((float, repr(item)))
        elif type(item) is not list:
            found.add((type(item), item))
    return found


def _say(scalars: set[tuple[type, Any]], text: str) -> bool:
    if (str, text) in scalars:
        return True
    if text in ("true", "false"):
        return (bool, text == "true") in scalars
    match = _WHOLE_NUMBER.fullmatch(text)
    if match is not None:
        return (int, int(match.group(1))) in scalars
    return (float, text) in scalars


def _mismatch(reason: str, message: Message) -> RpcRefused:
    return RpcRefused("header_mismatch", reason, rpc_code=HEADER_MISMATCH, message=message)
