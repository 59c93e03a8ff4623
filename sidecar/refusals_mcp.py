"""Refusals of what is said in MCP, by agents and by servers.

Must not know: how a refusal is raised or said; the one table of all kinds stands in refusals.
"""

from __future__ import annotations

from typing import Final

from sidecar.refusal_kinds import RefusalKind

OF_MCP: Final = (
    RefusalKind(
        "batch_refused",
        400,
        "JSON-RPC batches are refused",
        "Send one message per request.",
    ),
    RefusalKind(
        "invalid_rpc",
        400,
        "Not a JSON-RPC 2.0 message the sidecar can judge",
        "Send one request or notification with jsonrpc, method, params and a string or integer id.",
    ),
    RefusalKind(
        "header_mismatch",
        400,
        "An MCP header contradicts the body",
        "Make Mcp-Method, Mcp-Name and MCP-Protocol-Version equal to the body, or leave them out.",
    ),
    RefusalKind(
        "unasked_answer",
        400,
        "The server has asked nothing under this id",
        "Answer each request of the server once, under the id that it has.",
    ),
    RefusalKind(
        "session_unknown",
        404,
        "No such session",
        "Begin a new one: send `initialize` without Mcp-Session-Id.",
    ),
    RefusalKind(
        "event_unknown",
        400,
        "No such event of this session",
        "Open the stream without Last-Event-ID.",
    ),
    RefusalKind(
        "input_refused",
        403,
        "The server asks the agent for what the policies refuse",
        "The call may have taken effect. Ask the operator to allow the named operation.",
    ),
    RefusalKind(
        "tool_drifted",
        403,
        "The tool is not what it was when it was pinned",
        "Ask the operator: `tools diff` shows what has changed, `tools accept` takes it over.",
    ),
    RefusalKind(
        "list_changed",
        403,
        "The server announced that its tools changed, and its whole list was not compared since",
        "List the tools again (`tools/list`, every page), look at this one, and call it then. "
        "Where that does not help, ask the operator: the log says why.",
    ),
    RefusalKind(
        "arguments_unfit",
        400,
        "The arguments do not fit the tool's inputSchema",
        "Send what `tools/list` says the tool takes: the reason names the place and the keyword.",
    ),
    RefusalKind(
        "schema_unchecked",
        403,
        "The tool's inputSchema cannot be checked",
        "Ask the operator: `arguments: checked` of the upstream checks what can be.",
    ),
    RefusalKind(
        "method_not_allowed",
        405,
        "This HTTP method is not served here",
        "TRACE is served nowhere; MCP upstreams take POST, GET and DELETE on their one endpoint.",
    ),
    RefusalKind(
        "answer_unchecked",
        502,
        "The MCP server's answer cannot be checked",
        "The call may have taken effect. Ask the operator: answers are JSON or events in UTF-8.",
    ),
    RefusalKind(
        "cannot_wait",
        403,
        "This needs an approval and cannot wait for one",
        "Ask the operator for another rule: what a server asks in an answer waits for nobody.",
    ),
)
