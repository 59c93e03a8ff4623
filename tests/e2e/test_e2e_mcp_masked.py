"""What a rule masks by its field, in each form in which a server on the official SDK gives it; the
official client reads the answers.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import mcp_fixture
import pytest
from mcp.client import Client
from mcp.server.mcpserver import Context, MCPServer
from mcp_behind import behind
from pydantic import BaseModel
from running import Process

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

CATALOGUE = "catalogue: tools\ntools:\n  '*': {mutates: false}\n"
POLICY = (
    "policy: p\nrules:\n"
    "  - {id: all, effect: allow, tools: [tools/*, tools/unknown]}\n"
    "  - id: mask\n    tools: tools/*\n"
    "    obligations: {redact: {response: [body.customer.email]}}\n"
)
SECRET = "ana@acme.example"
RECORD: dict[str, Any] = {"customer": {"email": SECRET, "id": 7}}


class Customer(BaseModel):
    email: str
    id: int


class Record(BaseModel):
    customer: Customer


def build() -> MCPServer:
    """A server whose tools give the same record in the ways in which tools are written."""
    server = MCPServer("records")

    @server.tool()
    def as_text() -> str:
        return json.dumps(RECORD)

    @server.tool()
    def as_texts() -> list[str]:
        return [json.dumps(RECORD)]

    @server.tool()
    def health() -> dict[str, Any]:
        return {"status": "all is well"}

    @server.tool()
    def as_list() -> list[dict[str, Any]]:
        return [RECORD, RECORD]

    @server.tool()
    def as_dict() -> dict[str, Any]:
        return RECORD

    @server.tool()
    def as_model() -> Record:
        return Record(customer=Customer(**RECORD["customer"]))

    @server.tool()
    def as_models() -> list[Record]:
        return [as_model()]

    @server.tool()
    async def as_log(ctx: Context) -> dict[str, Any]:
        with warnings.catch_warnings(action="ignore"):
            await ctx.log("error", RECORD)
        return RECORD

    return server


@pytest.fixture
async def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Process]:
    monkeypatch.setattr(mcp_fixture, "build", build)
    async with behind(tmp_path, CATALOGUE, POLICY) as sidecar:
        yield sidecar


TOOLS = ("as_text", "as_texts", "as_list", "as_dict", "as_model", "as_models", "as_log")


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_field_is_masked_in_whatever_form_it_comes(served: Process, mode: Any) -> None:
    logged: list[Any] = []

    async def log(said: Any) -> None:
        logged.append(said.data)

    url = f"{served.url}/tools/mcp"
    async with Client(url, mode=mode, logging_callback=log) as client:
        answers = {name: await client.call_tool(name, {}) for name in TOOLS}
        plain = await client.call_tool("health", {})
    for name, answer in answers.items():
        said = answer.model_dump_json()
        assert SECRET not in said, (name, said)
        assert said.count("***") >= 2 and not answer.is_error, (name, said)
    assert plain.structured_content == {"status": "all is well"}, "it has no such field"
    masked = {"customer": {"email": "***", "id": 7}}
    assert logged == ([masked] if mode == "legacy" else []), "told unasked before 2026-07-28"
