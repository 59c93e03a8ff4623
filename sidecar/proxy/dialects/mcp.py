"""MCP over streamable HTTP, revisions 2025-11-25 (sessions) and 2026-07-28 (stateless).

Knows: how one HTTP request to the upstream's one endpoint becomes a ToolCall, and how a refusal
reads to an MCP client: as a tool result it can show its model, else as a JSON-RPC error.
Must not know: whether a call is allowed, how it is recorded or sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson

from sidecar.config.model import Limits, Upstream
from sidecar.errors import Refused
from sidecar.model import ToolCall, state_digest
from sidecar.policy.arguments import ArgumentTypes
from sidecar.policy.catalogue import Catalogue, Entry
from sidecar.policy.index import PolicySet
from sidecar.proxy.dialects.content_type import require_json
from sidecar.proxy.dialects.context import http_facts, run_id, trace_id
from sidecar.proxy.dialects.held import HeldReply, held_reply
from sidecar.proxy.dialects.mcp_authorization import asks_for_metadata, read_metadata_call
from sidecar.proxy.dialects.mcp_headers import VERSION_HEADER, is_stateless, require_agreement
from sidecar.proxy.dialects.mcp_message import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    INVALID_REQUEST,
    Message,
    RpcRefused,
    read_message,
    read_tool_call,
)
from sidecar.proxy.dialects.mcp_methods import (
    PROMPTS_GET,
    SESSION_END,
    STREAM,
    STREAM_METHOD,
    TOOLS_CALL,
)
from sidecar.proxy.dialects.mcp_params import (
    PROTOCOL_PARAMS,
    alike,
    beyond_protocol,
    is_bare_answer,
    is_protocol_message,
)
from sidecar.proxy.dialects.reply import (
    WholeReply,
    json_reply,
    refusal_facts,
    refusal_text,
)
from sidecar.proxy.head import RequestHead
from sidecar.proxy.headers import forward_headers, readable

#: Refusals of a tools/call that a model can act on: said as a tool result, with status 200.
_SAID_AS_RESULT = frozenset(
    {
        "policy_deny",
        "default_deny",
        "condition_error",
        "approval_pending",
        "approval_rejected",
        "approval_expired",
        "approval_spent",
        "approval_outdated",
        "approval_withdrawn",
        "approvals_full",
        "rate_limited",
        "obligations_conflict",
        "idempotency_key_required",
        "unredactable_request",
        "response_too_large",
        "cannot_redact",
        "invalid_argument",
        "ambiguous_argument",
        "tool_drifted",
        "list_changed",
        "arguments_unfit",
        "schema_unchecked",
        "input_refused",
        # The call may have taken effect, and the model must hear that before it tries again: of
        # an error SDKs tell it that much at most that something failed.
        "upstream_timeout",
        "upstream_broken",
    }
)

#: From this HTTP status on it is not the message that is at fault.
SERVER_FAULT = 500

#: JSON-RPC codes the specifications fix. Every other refusal has its HTTP status as its code:
#: positive, since -32000 to -32099 belong to implementations and to the specification.
_FIXED_CODES = {
    "batch_refused": INVALID_REQUEST,
    "invalid_rpc": INVALID_REQUEST,
    "invalid_argument": INVALID_PARAMS,
    "ambiguous_argument": INVALID_PARAMS,
    "arguments_unfit": INVALID_PARAMS,
    "header_mismatch": HEADER_MISMATCH,
}

#: Beside a call: what of it is more than the protocol.
_BEYOND = "beyond_protocol"
_BODILESS = {STREAM_METHOD: STREAM, "DELETE": SESSION_END}
_DEFAULT_ENDPOINT = ("mcp",)


class McpDialect:
    """Reads requests to an MCP endpoint and words refusals for MCP clients."""

    def read_call(
        self,
        head: RequestHead,
        body: bytes,
        upstream: Upstream,
        policy_set: PolicySet,
        limits: Limits,
        call_id: str,
    ) -> ToolCall:
        """The call in this request; raises Refused (RpcRefused once the message is known)."""
        if asks_for_metadata(head):
            return read_metadata_call(head, body, upstream, policy_set.catalogue, call_id)
        _require_endpoint(head, upstream)
        if head.method == "POST":
            return _read_post(head, body, upstream, policy_set.catalogue, limits, call_id)
        operation = _BODILESS.get(head.method)
        if operation is None:
            raise Refused("method_not_allowed")
        if body:
            raise Refused("malformed_request", f"{head.method} takes no body here")
        entry = policy_set.catalogue.mcp_method(upstream.name, operation)
        message = Message(head.method, {}, None, False)
        return _call(head, body, upstream, call_id, entry, message, {}, is_protocol=True)

    def held(self, call: ToolCall) -> HeldReply | None:
        """Progress, where the client asked for it and can hear it."""
        return held_reply(call)

    def refusal(
        self,
        refused: Refused,
        call_id: str,
        call: ToolCall | None,
        head: RequestHead | None = None,
    ) -> WholeReply:
        """The refusal as the client's SDK hands it on: a tool result or a JSON-RPC error.

        A refused tools/call answers 200 with `isError`; so does a judged request with an error.
        Faults of the message or of the sidecar keep their HTTP status, but for clients that a fault
        of the sidecar or the server would cost their session. A tool that no call of the
        caller can ever reach answers as one the server does not have: it is in no list either, and
        whoever guesses names learns nothing; rule and reason stand in the receipt of the call id.
        Who asked for a task waits for one, and takes no other result: he gets an error.
        """
        method, reply_id = _addressee(refused, call)
        has_addressee = reply_id is not None
        if refused.is_hidden and has_addressee:
            return _unknown_tool(refused, reply_id, call_id, call)
        is_said = has_addressee and method == TOOLS_CALL and refused.code in _SAID_AS_RESULT
        if is_said and not _asks_for_task(refused, call):
            result = _tool_result(refused, call_id, call)
            return json_reply(200, _rpc(reply_id, result=result), refused, call_id)
        error = {
            "code": _rpc_code(refused),
            "message": _said(refused) + _why_judged(call) + _and_next(refused, method),
            "data": refusal_facts(refused, call_id, call),
        }
        is_answer = refused.decision is not None or _would_end_session(refused, call)
        status = 200 if has_addressee and is_answer else refused.status
        return json_reply(status, _rpc(reply_id, error=error), refused, call_id)


def _would_end_session(refused: Refused, call: ToolCall | None) -> bool:
    """Of what cannot be done just now: the SDK for Python before 2, which speaks no revision from
    2026-07-28 on, ends its whole session by any status of 5xx. The JSON-RPC error says the same."""
    version = None if call is None else call.http.headers.get(VERSION_HEADER)
    return refused.status >= SERVER_FAULT and version is not None and not is_stateless(version)


def _unknown_tool(
    refused: Refused, reply_id: str | int | None, call_id: str, call: ToolCall | None
) -> WholeReply:
    """What a server says of a tool it does not have; the receipt has rule and reason."""
    if call is not None:
        name = call.called or call.tool.operation
    else:
        message = refused.message if isinstance(refused, RpcRefused) else None
        name = "" if message is None else message.params["name"]
    error = {"code": INVALID_PARAMS, "message": f"Unknown tool: {name}"}
    return json_reply(200, _rpc(reply_id, error=error), refused, call_id)


def _require_endpoint(head: RequestHead, upstream: Upstream) -> None:
    """The endpoint answers to `/<upstream>`, `/<upstream>/mcp` and its own path below that."""
    segments = head.segments
    if segments and segments != _DEFAULT_ENDPOINT:
        own_path = urlsplit(upstream.url).path.strip("/")
        if segments != tuple(own_path.split("/")):
            raise Refused(
                "unknown_upstream",
                f"An MCP upstream has one endpoint: /{upstream.name}/mcp",
            )
    if head.query:
        raise Refused("malformed_request", "An MCP endpoint takes no query here")


def _read_post(
    head: RequestHead,
    body: bytes,
    upstream: Upstream,
    catalogue: Catalogue,
    limits: Limits,
    call_id: str,
) -> ToolCall:
    if head.first.get("content-type") != "application/json":
        require_json(head)
    message = read_message(body, limits.depth, limits.values)
    require_agreement(head, message)
    if message.method == TOOLS_CALL:
        name, arguments = read_tool_call(message)
        entry = catalogue.mcp_tool(upstream.name, name)
        bound = arguments if entry.args is None else _bound(entry.args, message, arguments)
        if entry.args is None and len(arguments) > 1:
            _require_apart(arguments, message)
        return _call(head, body, upstream, call_id, entry, message, bound)
    entry = catalogue.mcp_method(upstream.name, message.method)
    params = message.params
    bound = params if entry.args is None else _bound(entry.args, message, params)
    if message.method == PROMPTS_GET and type(params.get("arguments")) is dict:
        _require_apart(params["arguments"], message)
    if message.is_answer:
        is_protocol = is_bare_answer(params)
        made = _call(head, body, upstream, call_id, entry, message, bound, is_protocol=is_protocol)
        return made._replace(answers=message.reply_id)
    is_protocol = is_protocol_message(message.method, params, expects_reply=message.expects_reply)
    made = _call(head, body, upstream, call_id, entry, message, bound, is_protocol=is_protocol)
    if not is_protocol and message.method in PROTOCOL_PARAMS:
        beyond = beyond_protocol(message.method, params)
        if beyond is not None:  # who reads of a rule for it wonders: mostly it needs none
            made = made._replace(beside={**(made.beside or {}), _BEYOND: beyond})
    return made


def _require_apart(arguments: Mapping[str, Any], message: Message) -> None:
    """A server that ignores letter case would read another argument than the one that is judged.
    Where the catalogue declares both, the tool is known to tell them apart."""
    name = alike(arguments)
    if name is not None:
        reason = f"argument {name[:80]!r} differs in letter case alone from another one"
        raise RpcRefused("ambiguous_argument", reason, message=message)


def _bound(declared: ArgumentTypes, message: Message, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        bound = declared.bind(arguments, ())
    except Refused as refused:
        raise RpcRefused(
            refused.code, refused.reason, message=message, detail=refused.detail
        ) from None
    return bound


def _call(
    head: RequestHead,
    body: bytes,
    upstream: Upstream,
    call_id: str,
    entry: Entry,
    message: Message,
    arguments: Mapping[str, Any],
    *,
    is_protocol: bool = False,
) -> ToolCall:
    headers = forward_headers(head, upstream)
    return ToolCall(
        call_id=call_id,
        tool=entry.tool,
        action=message.method,
        args=arguments,
        http=http_facts(head),
        target="",
        headers=readable(headers),
        body=body,
        dialect="mcp",
        reply_id=message.reply_id if message.expects_reply else None,
        expects_reply=message.expects_reply,
        run_id=run_id(head),
        trace_id=trace_id(head),
        is_protocol=is_protocol,
        called=None if entry.tool.declared else _called(message),
        beside=_continued(message.params) if "requestState" in message.params else None,
        is_json=entry.args is None and bool(body),
    )


def _continued(params: Mapping[str, Any]) -> Mapping[str, str] | None:
    """Which call this one goes on with: the one whose outcome has the same digest beside it."""
    state = params["requestState"]
    return {"continues": state_digest(state)} if type(state) is str else None


def _called(message: Message) -> str | None:
    """The name of an undeclared tool in the caller's words."""
    return str(message.params["name"]) if message.method == TOOLS_CALL else None


def _addressee(refused: Refused, call: ToolCall | None) -> tuple[str, str | int | None]:
    """Method and id of the request that is refused, as far as they are known."""
    if call is not None:
        return call.action, call.reply_id
    message = refused.message if isinstance(refused, RpcRefused) else None
    if message is None or not message.expects_reply:
        return "", None
    return message.method, message.reply_id


def _asks_for_task(refused: Refused, call: ToolCall | None) -> bool:
    """Whether a refused tools/call is to run as a task (revision 2025-11-25)."""
    if call is not None:
        return orjson.loads(call.body)["params"].get("task") is not None
    message = refused.message if isinstance(refused, RpcRefused) else None
    return message is not None and message.params.get("task") is not None


def _rpc_code(refused: Refused) -> int:
    if isinstance(refused, RpcRefused) and refused.rpc_code is not None:
        return refused.rpc_code
    return _FIXED_CODES.get(refused.code, refused.status)


def _said(refused: Refused) -> str:
    title = refused.kind.title
    return title if refused.reason == title else f"{title}: {refused.reason}"


def _and_next(refused: Refused, method: str) -> str:
    """Code and next step of what a model called: SDKs hand it the message at most, and no data."""
    return f" ({refused.code}). {refused.kind.next_step}" if method == TOOLS_CALL else ""


def _why_judged(call: ToolCall | None) -> str:
    """Of a message that would need no rule, what it is judged for."""
    if call is None or call.beside is None or _BEYOND not in call.beside:
        return ""
    what = call.beside[_BEYOND]
    return f" ({what} holds more than carries the protocol, so that {call.action} is judged)"


def _rpc(reply_id: str | int | None, **answer: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": reply_id, **answer}


def _tool_result(refused: Refused, call_id: str, call: ToolCall | None) -> dict[str, Any]:
    called = None
    if call is not None and not call.tool.declared:
        called = orjson.loads(call.body)["params"]["name"]
    text = refusal_text(refused, call_id, call, called)
    result: dict[str, Any] = {"content": [{"type": "text", "text": text}], "isError": True}
    if call is None or is_stateless(call.http.headers.get(VERSION_HEADER)):
        result["resultType"] = "complete"
    return result
