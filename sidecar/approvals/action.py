"""The exact action a yes is bound to, as one digest. Pure.

Knows: what makes two calls the same action: tenant, agent, user, upstream, tool with its pinned
definition, method, target, everything that will be sent but what only carries it (JSON-RPC id,
`_meta`), the headers the catalogue calls significant, and what the policies will do to the request.
Raw values go in, before anything is masked: two secrets are two actions.
Must not know: who approves, what is stored, HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

import orjson

from sidecar.ledger.canonical import canonical_arguments
from sidecar.model import Principal, ToolCall
from sidecar.policy.terms import Obligations

VERSION: Final = 1
#: What carries a message and is no part of what it asks for.
_META: Final = "_meta"
#: Of an MCP call of a tool: whose params say more than what is called and with what.
_TOOLS_CALL: Final = "tools/call"
#: Members of such params that approvers are shown on their own.
_NAMED: Final = frozenset({"name", "arguments", _META})


def action_sha256(
    principal: Principal,
    call: ToolCall,
    obligations: Obligations | None,
    *,
    definition_sha256: str,
    bind_headers: Sequence[str],
) -> str:
    """The digest, in hex. `definition_sha256` is that of the tool's pinned definition ("" without
    one), `bind_headers` are names in lower case. Raises NotCanonical."""
    return sha256(
        canonical_arguments(
            {
                "v": VERSION,
                "tenant": principal.tenant,
                "agent": principal.agent,
                "user": principal.user,
                "upstream": call.tool.upstream,
                "tool": call.tool.name,
                "called": call.called,
                "definition": definition_sha256,
                "dialect": call.dialect,
                "method": call.action,
                "target": call.target,
                "media_type": _media_type(call),
                "arguments": _sent(call),
                "headers": {name: _values(call, name) for name in sorted(bind_headers)},
                "request": _request(obligations),
            }
        )
    ).hexdigest()


def sent_beside(call: ToolCall) -> dict[str, Any]:
    """What a call of an MCP tool is sent beside its arguments, and is bound with them: what answers
    the server (`inputResponses`), `task`, `requestState`. Raw, like the arguments."""
    if call.action != _TOOLS_CALL:
        return {}  # all of the params are the call's arguments
    params = _params(call) or {}
    return {name: value for name, value in params.items() if name not in _NAMED}


def _sent(call: ToolCall) -> Any:
    """All that the upstream is asked: for MCP the message's params as they stand in the body, for
    REST what the path, the query and the body give."""
    params = _params(call)
    if params is None:
        return dict(call.args)
    return {name: value for name, value in params.items() if name != _META}


def _params(call: ToolCall) -> dict[str, Any] | None:
    """The params of an MCP message; None of anything else."""
    if call.dialect != "mcp" or not call.body:
        return None
    params = orjson.loads(call.body).get("params")
    return params if isinstance(params, dict) else None


def _media_type(call: ToolCall) -> str:
    """The same arguments may be a form or JSON, which are two requests."""
    if call.dialect == "mcp" or not call.body:
        return ""
    return call.http.headers.get("content-type", "").partition(";")[0].strip(" \t").lower()


def _values(call: ToolCall, name: str) -> list[str]:
    return [value for header, value in call.headers if header.lower() == name]


def _request(obligations: Obligations | None) -> Any:
    """What is done to the request before it is sent; None if nothing is."""
    if obligations is None or not obligations.touches_request:
        return None
    return {
        "redact": [[list(path) for path in obligations.request.paths],
                   list(obligations.request.detectors)],
        "set": [list(pair) for pair in obligations.set_headers],
        "remove": list(obligations.remove_headers),
    }  # fmt: skip
