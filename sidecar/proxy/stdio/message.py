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
from sidecar.proxy.dialects.mcp_headers import is_stateless
from sidecar.proxy.dialects.mcp_message import Message, RpcRefused, read_message
from sidecar.proxy.dialects.mcp_methods import NAME_MEMBER
from sidecar.proxy.head import RequestHead

#: An id with its type: 1, 1.0 and true are equal to Python, and not the same id.
IdKey = tuple[str, str | int | float | bool]

CANCELLED: Final = "notifications/cancelled"
#: A request that is answered when its subscription ends.
LISTEN: Final = "subscriptions/listen"

_JSON_TYPE: Final = ("Content-Type", "application/json")
_ACCEPTS: Final = ("Accept", "application/json, text/event-stream")
_NUMBER: Final = re.compile(r"0|-?[1-9][0-9]{0,15}")
_VERSION_MEMBER: Final = "io.modelcontextprotocol/protocolVersion"


class Incoming(NamedTuple):
    """A line of the agent: its bytes, what they say (None if that is not known), and why it is
    refused before anything else is asked."""

    body: bytes
    message: Message | None
    fault: Refused | None = None

    @property
    def key(self) -> IdKey | None:
        """The id under which an answer is expected."""
        if self.message is None or not self.message.expects_reply:
            return None
        return id_key(self.message.reply_id)

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
        return Incoming(line, refused.message)


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
