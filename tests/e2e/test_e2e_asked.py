"""A server on the official SDK asks its client's model over HTTP, and is answered through us."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import mcp_fixture
import pytest
from mcp.client import Client
from mcp.server.mcpserver import MCPServer
from mcp_behind import behind
from mcp_types import CreateMessageResult, TextContent

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The sampling capability is deprecated"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

CATALOGUE = "catalogue: tools\ntools:\n  ask: {mutates: false}\n"
POLICY = """policy: p
rules:
  - {id: all, effect: allow, tools: [tools/ask, "tools/mcp:sampling/createMessage"]}
"""


def build() -> MCPServer:
    server = MCPServer("asking")
    mcp_fixture.add_ask(server)
    return server


async def model(_: Any, params: Any) -> CreateMessageResult:
    text = f"yes to {params.messages[0].content.text}"
    content = TextContent(type="text", text=text)
    return CreateMessageResult(role="assistant", content=content, model="m")


async def test_c8_what_a_server_asked_its_client_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several at once, whose answers come in any order."""
    monkeypatch.setattr(mcp_fixture, "build", build)
    async with behind(tmp_path, CATALOGUE, POLICY) as sidecar:
        url = f"{sidecar.url}/tools/mcp"
        async with Client(url, mode="legacy", sampling_callback=model) as client:
            said = await asyncio.gather(
                *(client.call_tool("ask", {"question": f"tea {n}?"}) for n in range(5))
            )
    told = [one.content[0].text for one in said]  # type: ignore[union-attr]
    assert told == [f"the model said yes to tea {n}?" for n in range(5)]
    receipts = await asyncio.to_thread(sidecar.receipts)
    intents = [one["tool"] for one in receipts if one["kind"] == "intent"]
    assert intents.count("tools/mcp:response") == 5
    assert not [one for one in receipts if one["kind"] == "refusal"]
