"""From what an agent says of its call to the call as rules judge it. Pure.

Knows: that the tool is `<tool>/<action>` of the catalogue, exactly as written there, and unknown
otherwise; that an MCP server may be named `mcp:<server>`; that what the caller says of mutation and
trust counts only where it makes the call stricter; what of the caller's words is kept as a fact.
Must not know: HTTP, stores, how rules judge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

from sidecar.authorize.request import AuthorizeRequest
from sidecar.config.model import Upstream
from sidecar.ledger.recorded_call import AUTHORIZE
from sidecar.model import HttpFacts, Tool, ToolCall, TrustLevel
from sidecar.policy.catalogue import Catalogue, Entry
from sidecar.policy.matchers import MCP_PREFIX, UNKNOWN

#: In front of the name of an MCP server.
_SERVER: Final = "mcp:"


def call_of(
    request: AuthorizeRequest,
    body: bytes,
    catalogue: Catalogue,
    upstreams: Mapping[str, Upstream],
    *,
    call_id: str,
    source_ip: str,
) -> ToolCall:
    """The call, with its arguments as they were sent."""
    entry = entry_of(request, catalogue, upstreams)
    tool = entry.tool
    if request.mutates_state and not tool.mutates:
        tool = _mutating(tool)
    return ToolCall(
        call_id=call_id,
        tool=tool,
        action=request.action,
        args=_arguments(request.parameters),
        http=HttpFacts("", "", "", source_ip, {}),
        target="",
        headers=(),
        body=body,
        dialect=AUTHORIZE,
        run_id=request.run_id,
        trace_id=request.trace_id,
        called=None if tool.declared else f"{request.tool}/{request.action}",
        beside=_beside(request),
    )


def entry_of(
    request: AuthorizeRequest, catalogue: Catalogue, upstreams: Mapping[str, Upstream]
) -> Entry:
    """What the catalogue says of the tool; of one it does not know, what is unknown."""
    name = request.tool
    if name.startswith(_SERVER):
        name = name.removeprefix(_SERVER)
        if name in upstreams and upstreams[name].kind != "mcp":
            return catalogue.unknown(UNKNOWN)
    if name not in upstreams:
        return catalogue.unknown(UNKNOWN)
    found = None
    if not request.action.startswith(MCP_PREFIX):
        found = catalogue.entry(name, request.action)
    return catalogue.unknown(name) if found is None else found


def bound(call: ToolCall, entry: Entry) -> ToolCall:
    """The call with its arguments as the catalogue declares them; raises Refused."""
    if entry.args is None:
        return call
    return call._replace(args=entry.args.bind(call.args, ()))


def declared_trust(request: AuthorizeRequest) -> TrustLevel:
    """The least of what the caller says of his sources; a name nobody knows is UNKNOWN."""
    trust = TrustLevel.named(request.source_trust)
    if request.root_trust_level is None:
        return trust
    return min(trust, TrustLevel.named(request.root_trust_level))


def _arguments(parameters: Any) -> Mapping[str, Any]:
    """What rules read: an object's members, and of anything else the whole as `body`."""
    if type(parameters) is dict:
        return parameters
    return {} if parameters is None else {"body": parameters}


def _beside(request: AuthorizeRequest) -> dict[str, Any]:
    """The caller's words that no column of a receipt holds, as far as he said any; a level is one
    there is, for in its place could stand anything."""
    said = {
        "tool": request.tool,
        "agent": request.agent_id,
        "environment": request.environment,
        "resource": request.resource,
        "mutates_state": request.mutates_state,
        "source_trust": TrustLevel.named(request.source_trust).label,
        "root_trust_level": request.root_trust_level
        and TrustLevel.named(request.root_trust_level).label,
        "contains_sensitive_data": request.contains_sensitive_data or None,
        "user_role": request.user_role,
        "parent_run_id": request.parent_run_id,
    }
    return {name: value for name, value in said.items() if value is not None}


@lru_cache(maxsize=4096)
def _mutating(tool: Tool) -> Tool:
    """The same object for the same tool, so that the rules for it are found quickly."""
    return replace(tool, mutates=True)
