"""One JSON-RPC message of MCP, read strictly from the body of one POST.

Knows: JSON-RPC 2.0 as MCP narrows it: one message, exact member names, string or integer ids.
Must not know: HTTP headers, tools, policies.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any, NamedTuple

from sidecar.errors import Refused
from sidecar.proxy.dialects.mcp_methods import KNOWN_METHODS, RESPONSE, TOOLS_CALL, is_misspelt
from sidecar.proxy.dialects.mcp_params import misspelt_member
from sidecar.proxy.strict_json import parse

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
INVALID_PARAMS = -32602
HEADER_MISMATCH = -32020

ID_LENGTH_MAX = 256
TOOL_NAME_LENGTH_MAX = 128

_METHOD = re.compile(r"[A-Za-z0-9_$][A-Za-z0-9_$./-]{0,127}")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_./-]{1,128}")

_REQUEST_MEMBERS = frozenset({"jsonrpc", "id", "method", "params"})
_RESPONSE_MEMBERS = frozenset({"jsonrpc", "id", "result", "error"})
_CALL_MEMBERS = frozenset({"name", "arguments", "_meta", "task", "inputResponses", "requestState"})
#: Control, format, surrogate, private, unassigned; line and paragraph separators.
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


class RpcRefused(Refused):
    """A refusal of a message whose id, method or JSON-RPC error code is known."""

    def __init__(
        self,
        code: str,
        reason: str = "",
        *,
        rpc_code: int | None = None,
        message: Message | None = None,
        detail: str = "",
    ) -> None:
        super().__init__(code, reason, detail=detail)
        self.rpc_code = rpc_code
        self.message = message


class Message(NamedTuple):
    """A request (`expects_reply`), a notification, or a client's answer to the server.

    An answer (`is_answer`) has "response" for a method and its `result` or `error` in `params`.
    """

    method: str
    params: dict[str, Any]
    reply_id: str | int | None
    expects_reply: bool
    is_answer: bool = False


def read_message(body: bytes, depth_max: int, values_max: int) -> Message:
    """The one message in `body`.

    Raises RpcRefused: invalid_json, too_many_values, batch_refused, invalid_rpc; with the id where
    it was read.
    """
    try:
        document = parse(body, depth_max, values_max)
    except Refused as refused:
        raise RpcRefused(
            refused.code, refused.reason, rpc_code=PARSE_ERROR, detail=refused.detail
        ) from None
    if type(document) is list:
        raise RpcRefused("batch_refused", rpc_code=INVALID_REQUEST)
    if type(document) is not dict:
        raise _invalid("The body is not a JSON object")
    if document.get("jsonrpc") != "2.0":
        raise _invalid('"jsonrpc" must be "2.0"')
    if "method" not in document:
        return _read_response(document)
    return _read_request(document)


def _read_request(document: dict[str, Any]) -> Message:
    reply_id = document.get("id")
    if type(reply_id) is not int and "id" in document:
        reply_id = _read_id(reply_id)
    method = document["method"]
    if type(method) is not str or not _METHOD.fullmatch(method):
        raise _invalid("The method is no method name", Message("", {}, reply_id, True))
    message = Message(method, document.get("params", {}), reply_id, "id" in document)
    if not document.keys() <= _REQUEST_MEMBERS:
        raise _invalid("The message has members that JSON-RPC does not define", message)
    if type(message.params) is not dict:
        raise _invalid("params must be an object", message, INVALID_PARAMS)
    if method not in KNOWN_METHODS:
        _require_own_method(method, message)
    if method != TOOLS_CALL and message.params:  # whose members are told one by one
        _require_one_spelling(message)
    return message


def _require_own_method(method: str, message: Message) -> None:
    if is_misspelt(method):
        raise _invalid("The method differs from a known one in letter case", message)
    if method == RESPONSE:
        raise _invalid("The method has the name that a client's answer has here", message)


def _require_one_spelling(message: Message) -> None:
    """Readers who ignore letter case would take another member than the one that is judged."""
    name = misspelt_member(message.method, message.params)
    if name is not None:
        raise _invalid(
            f"params.{name[:80]} differs in letter case alone from another member",
            message,
            INVALID_PARAMS,
        )


def _read_response(document: dict[str, Any]) -> Message:
    if not document.keys() <= _RESPONSE_MEMBERS:
        raise _invalid("The message is no request, notification or response")
    if ("result" in document) is ("error" in document) or "id" not in document:
        raise _invalid("A response has an id and either a result or an error")
    reply_id = _read_id(document["id"]) if document["id"] is not None else None
    answer = {name: value for name, value in document.items() if name in ("result", "error")}
    return Message(RESPONSE, answer, reply_id, False, is_answer=True)


def _read_id(value: Any) -> str | int:
    if type(value) is int or (type(value) is str and len(value) <= ID_LENGTH_MAX):
        return value
    raise _invalid(f"An id must be an integer or a string of at most {ID_LENGTH_MAX} characters")


def read_tool_call(message: Message) -> tuple[str, dict[str, Any]]:
    """Name and arguments of a `tools/call`; raises RpcRefused("invalid_rpc")."""
    if not message.expects_reply:
        raise _invalid(f"{TOOLS_CALL} must be a request with an id", message)
    params = message.params
    if not params.keys() <= _CALL_MEMBERS:
        raise _invalid(
            "params has members that tools/call does not define", message, INVALID_PARAMS
        )
    name = params.get("name")
    if type(name) is not str:
        raise _invalid("params.name must be a string", message, INVALID_PARAMS)
    if not _PLAIN_NAME.fullmatch(name):
        _refuse_hidden_name(name, message)
    arguments = params.get("arguments", {})
    if type(arguments) is not dict:
        raise _invalid("params.arguments must be an object", message, INVALID_PARAMS)
    if "_meta" in params and type(params["_meta"]) is not dict:
        raise _invalid("params._meta must be an object", message, INVALID_PARAMS)
    return name, arguments


def is_callable_name(name: str) -> bool:
    """Whether a `tools/call` may name a tool so."""
    if _PLAIN_NAME.fullmatch(name):
        return True
    try:
        _refuse_hidden_name(name, Message(TOOLS_CALL, {}, None, True))
    except RpcRefused:
        return False
    return True


def _refuse_hidden_name(name: str, message: Message) -> None:
    if not name or len(name) > TOOL_NAME_LENGTH_MAX:
        raise _invalid(
            f"A tool name has 1 to {TOOL_NAME_LENGTH_MAX} characters", message, INVALID_PARAMS
        )
    if name != name.strip() or any(unicodedata.category(c) in _HIDDEN_CATEGORIES for c in name):
        raise _invalid(
            "The tool name holds invisible characters or blanks at its ends",
            message,
            INVALID_PARAMS,
        )


def _invalid(
    reason: str, message: Message | None = None, rpc_code: int = INVALID_REQUEST
) -> RpcRefused:
    return RpcRefused("invalid_rpc", reason, rpc_code=rpc_code, message=message)
