"""Two sidecars on one PostgreSQL: a session that was opened through one is the same agent's through
the other, until it is ended, and nobody else's."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from typing import Any

import pytest
from running import Process
from test_e2e_tool_pins import pair

__all__ = ["pair"]
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": "2025-11-25",
}


def message(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def ask(
    process: Process, body: dict[str, Any] | None, session: str = "", method: str = "POST"
) -> tuple[int, str, str]:
    """Status, body and the session that was given."""
    headers = {**HEADERS, **({"Mcp-Session-Id": session} if session else {})}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"{process.url}/tools/mcp", data, headers=headers, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, reply.read().decode(), reply.headers.get("Mcp-Session-Id", "")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), ""


def story(one: Process, other: Process) -> None:
    client = {"name": "test", "version": "1"}
    opening = message(
        "initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=client
    )
    status, _, session = ask(one, opening)
    assert status == 200 and len(session.rpartition(".")[2]) == 22
    call = message("tools/call", name="add", arguments={"a": 2, "b": 3})
    for node in (one, other):
        ask(node, {"jsonrpc": "2.0", "method": "notifications/initialized"}, session)
        status, body, again = ask(node, call, session)
        assert status == 200 and '"result":5' in body.replace(" ", "")
        assert again in ("", session), "the same on every node"
        status, body, _ = ask(node, call, session[:-1] + ("A" if session[-1] != "A" else "B"))
        assert status == 404 and "session_unknown" in body
    assert ask(one, None, session, "DELETE")[0] == 200
    for node, code in ((one, "session_unknown"), (other, "")):
        status, body, _ = ask(node, call, session)
        assert status == 404 and code in body, "after its end: by the sidecar, or by the server"


async def test_c13_a_session_is_the_agents_on_every_node(pair: tuple[Process, Process]) -> None:
    await asyncio.to_thread(story, *pair)
    receipts = await asyncio.to_thread(pair[0].receipts)
    refused = [one["outcome"] for one in receipts if one["kind"] == "refusal"]
    assert refused == ["session_unknown"] * 3
