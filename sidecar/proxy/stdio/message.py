"""What a line says, as far as its way depends on it: of the agent, and of the server.

Knows: JSON-RPC ids, what answers what, and that a bare CR ends a line for some readers. The agent's
lines are read strictly. The server's are read as its client would read them: what a client takes
must pass, and nothing is decided by it but whose answer it is.
Must not know: pipes, what is allowed.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any, Final, NamedTuple

import orjson

from sidecar.errors import Refused
from sidecar.policy.exact_numbers import INTEGER_MAX
from sidecar.proxy.dialects.mcp_headers import is_stateless
from sidecar.proxy.dialects.mcp_message import (
    ID_LENGTH_MAX,
    Message,
    RpcRefused,
    read_message,
)
from sidecar.proxy.dialects.mcp_methods import NAME_MEMBER
from sidecar.proxy.head import RequestHead
from sidecar.proxy.stdio.lines import ENDS_BYTES_MAX

#: An id with its type: 1, 1.0 and true are equal to Python, and not the same id.
IdKey = tuple[str, str | int | float | bool]

CANCELLED: Final = "notifications/cancelled"
#: A request that is answered when its subscription ends.
LISTEN: Final = "subscriptions/listen"

_JSON_TYPE: Final = ("Content-Type", "application/json")
_ACCEPTS: Final = ("Accept", "application/json, text/event-stream")
_TEXT: Final = rb'"(?:[^"\\]|\\.)*+"'
_PLAIN: Final = rb"(?:" + _TEXT + rb"|-?[0-9]+(?![0-9.eE])|true|false|null)"
_PLAIN_MEMBER: Final = re.compile(
    rb'\s*+"((?:[^"\\]|\\.)*+)"\s*+:\s*+(' + _PLAIN + rb")\s*+([,}])", re.DOTALL
)
_OPENING: Final = re.compile(rb"\s*+\{")
#: Behind the last object or list of a message, its last members.
_CLOSING: Final = re.compile(
    rb"[}\]]\s*+,((?:\s*+" + _TEXT + rb"\s*+:\s*+" + _PLAIN + rb"\s*+,?+)+\})\s*\Z", re.DOTALL
)
_NUMBER: Final = re.compile(r"0|-?[1-9][0-9]{0,15}")
_VERSION_MEMBER: Final = "io.modelcontextprotocol/protocolVersion"


class Incoming(NamedTuple):
    """A line of the agent: its bytes, what they say (None if that is not known), and why it is
    refused before anything else is asked. `asks` is the id of a request that cannot be read."""

    body: bytes
    message: Message | None
    fault: Refused | None = None
    asks: str | int | None = None

    @property
    def key(self) -> IdKey | None:
        """The id under which an answer is expected."""
        if self.message is None or not self.message.expects_reply:
            return None
        return id_key(self.message.reply_id)

    @property
    def refused_under(self) -> str | int | None:
        """The id under which a refusal is said; None where that belongs to another request."""
        if self.message is None:
            return self.asks
        return None if self.fault else self.message.reply_id

    @property
    def is_answer(self) -> bool:
        """Whether it answers a request of the server."""
        return self.message is not None and self.message.is_answer

    @property
    def answers(self) -> IdKey | None:
        """The id of the request that it answers."""
        return id_key(self.message.reply_id) if self.message is not None else None

    @property
    def cancels(self) -> IdKey | None:
        """The id of the request that this notification takes back."""
        message = self.message
        if message is None or message.method != CANCELLED or message.expects_reply:
            return None
        return id_key(message.params.get("requestId"))


class Said(NamedTuple):
    """A line of the server. `answers` is the id it answers; else it is a notification, or a
    request of its own under `asks`."""

    line: bytes
    answers: IdKey | None = None
    asks: str | int | None = None


def id_key(value: Any) -> IdKey | None:
    """The id as a key; None for what is no id."""
    if type(value) in (str, int, float, bool):
        return type(value).__name__, value
    return None


def number_key(key: IdKey) -> IdKey | None:
    """The id that a text is for clients, who take a number written as text for that number: so do
    the official ones. None for any other."""
    kind, value = key
    return id_key(int(value)) if kind == "str" and _NUMBER.fullmatch(str(value)) else None


def read_line(line: bytes, depth_max: int, values_max: int) -> Incoming:
    """What a line of the agent says. The pipeline refuses again what is refused here."""
    if b"\r" in line:
        # Python's text streams end a line there: one message to us, three to such a server.
        reason = "A carriage return stands within the line: it ends a line for some readers"
        return Incoming(line, None, Refused("invalid_json", reason))
    try:
        return Incoming(line, read_message(line, depth_max, values_max))
    except RpcRefused as refused:
        if refused.message is not None:
            return Incoming(line, refused.message)
        asks = asked_in(line[:ENDS_BYTES_MAX], line[-ENDS_BYTES_MAX:])
        return Incoming(line, None, asks=asks)


def asked_in(begin: bytes, end: bytes) -> str | int | None:
    """The id of a request that is not read any further, by how its line begins and ends.

    It has to stand beside a method, once, among the first or the last members of the message, as
    clients write it: before or behind its params. None where it is not as plain as that.
    """
    opening = _OPENING.match(begin)
    members = [] if opening is None else _members_from(begin, opening.end())
    if not members or (members[-1][2] == b"}" and begin[members[-1][3] :].strip()):
        return None
    if members[-1][2] != b"}" and (closing := _CLOSING.search(end)) is not None:
        members += _members_from(end, closing.start(1))
    names = [name for name, _, _, _ in members]
    if len(set(names)) != len(names) or b"method" not in names or b"\\" in b"".join(names):
        return None
    found = next((value for name, value, _, _ in members if name == b"id"), b"null")
    value = _leniently(found)
    is_id = type(value) is str and len(value) <= ID_LENGTH_MAX and value.isprintable()
    return value if is_id or (type(value) is int and abs(value) <= INTEGER_MAX) else None


def _members_from(text: bytes, at: int) -> list[tuple[bytes, bytes, bytes, int]]:
    """Members whose values are plain, up to the first that is not: name, value, what stands behind
    it, and where that ends."""
    found: list[tuple[bytes, bytes, bytes, int]] = []
    while (one := _PLAIN_MEMBER.match(text, at)) is not None:
        at = one.end()
        found.append((one[1], one[2], one[3], at))
        if one[3] == b"}":
            break
    return found


def head_of(incoming: Incoming, upstream: str) -> RequestHead:
    """The head that an HTTP client would send with this message, so that both are judged alike."""
    headers = [_JSON_TYPE, _ACCEPTS]
    message = incoming.message
    if message is not None:
        meta = message.params.get("_meta")
        version = meta.get(_VERSION_MEMBER) if type(meta) is dict else None
        if type(version) is str and is_stateless(version):
            headers += [("MCP-Protocol-Version", version), ("Mcp-Method", message.method)]
            name = message.params.get(NAME_MEMBER.get(message.method, ""))
            if type(name) is str:
                headers.append(("Mcp-Name", _encoded(name)))
    return RequestHead(
        method="POST",
        upstream=upstream,
        segments=(),
        target="",
        path="",
        query="",
        headers=tuple(headers),
        source_ip="",
        version=(1, 1),
        first={name.lower(): value for name, value in headers},
    )


def _encoded(name: str) -> str:
    """A name as a header can carry it (revision 2026-07-28)."""
    if name.isascii() and name.isprintable() and not name.startswith("=?"):
        return name
    return f"=?base64?{base64.b64encode(name.encode()).decode('ascii')}?="


def read_said(line: bytes) -> Said | None:
    """What a line of the server says; None if it is no message, or one that two clients could
    take for different ones."""
    if b"\r" in line:
        return None
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError:
        document = _leniently(line)
    if type(document) is not dict or document.get("jsonrpc") != "2.0":
        return None
    is_answer = ("result" in document) is not ("error" in document)
    if "result" in document and "error" in document:  # some write what is not there as null
        is_answer = (document["result"] is None) is not (document["error"] is None)
    if "method" in document:
        if type(document["method"]) is not str or "result" in document or "error" in document:
            return None
        asks = document.get("id")
        return Said(line, asks=asks if type(asks) in (str, int) else None)
    key = id_key(document.get("id")) if is_answer else None
    return None if key is None else Said(line, answers=key)


def _leniently(line: bytes) -> Any:
    """Lone surrogates and NaN: many clients read them."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
