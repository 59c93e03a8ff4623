"""The official MCP client over stdio, direct and through `wrap`: the same results, in both eras."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.shared.exceptions import MCPError
from mcp_types import CreateMessageResult, TextContent
from wrapping import FIXTURE, ROOT, Wrap, cli, wrap_command

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

MODES = ["legacy", "2026-07-28", "auto"]


def server(folder: Path, *, wrapped: bool) -> StdioServerParameters:
    command = wrap_command("files", FIXTURE) if wrapped else FIXTURE
    environment = {
        "XDG_DATA_HOME": str(folder / "share"),
        "CANCELLED": str(folder / f"cancelled-{wrapped}"),
        "PYTHONWARNINGS": "ignore",
    }
    return StdioServerParameters(
        command=command[0], args=command[1:], env=environment, cwd=str(ROOT)
    )


async def model(_: Any, params: Any) -> CreateMessageResult:
    said = f"yes to {params.messages[0].content.text}"
    content = TextContent(type="text", text=said)
    return CreateMessageResult(role="assistant", content=content, model="none")


async def story(folder: Path, mode: str, *, wrapped: bool) -> dict[str, Any]:
    """What one client sees from beginning to end, as plain data."""
    steps: list[tuple[float, float | None, str | None]] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        steps.append((done, total, message))

    with open(os.devnull, "w") as errors:
        transport = stdio_client(server(folder, wrapped=wrapped), errlog=errors)
        async with Client(transport, mode=mode, sampling_callback=model) as client:
            tools = await client.list_tools()
            added = await client.call_tool("add", {"a": 20, "b": 22})
            counted = await client.call_tool("count", {"to": 3}, progress_callback=progress)
            wrong = await client.call_tool("add", {"a": "x", "b": 22})
            asked = None
            if mode == "legacy":  # later revisions have no requests of the server
                asked = (await client.call_tool("ask", {"question": "tea?"})).model_dump()
            with anyio.move_on_after(0.3):
                await client.call_tool("wait", {"label": mode})
            after = await client.call_tool("add", {"a": 1, "b": 1})
            seen = {
                "version": client.protocol_version,
                "capabilities": client.server_capabilities.model_dump(),
                "tools": [tool.model_dump() for tool in tools.tools],
                "results": [one.model_dump() for one in (added, counted, after)],
                "wrong": wrong.model_dump(),
                "asked": asked,
                "progress": steps,
            }
    cancelled = folder / f"cancelled-{wrapped}"
    return {**seen, "cancelled": cancelled.read_text()}


@pytest.mark.parametrize("mode", MODES)
async def test_a_client_over_stdio_sees_the_same_as_direct(tmp_path: Path, mode: str) -> None:
    direct = await story(tmp_path, mode, wrapped=False)
    through = await story(tmp_path, mode, wrapped=True)
    assert direct["results"][0]["structured_content"] == {"result": 42}
    assert direct["progress"], "the fixture reports progress"
    assert direct["cancelled"] == f"{mode}\n", "the fixture notes what was cancelled"
    if mode == "legacy":
        assert "the model said yes to tea?" in str(direct["asked"])
    # What does not fit its pinned schema is an error either way; the server is not asked for it.
    wrong, by_server = through.pop("wrong"), direct.pop("wrong")
    assert wrong["is_error"] is by_server["is_error"] is True
    assert "arguments_unfit" in str(wrong) and "/arguments/a: type integer" in str(wrong)
    assert "arguments_unfit" not in str(by_server)
    assert through == direct
    receipts = await asyncio.to_thread(exported, tmp_path)
    calls = {one["call_id"]: one for one in receipts if one["kind"] == "intent"}
    ends = {one["call_id"]: one["outcome"] for one in receipts if one["kind"] == "outcome"}
    assert calls.keys() == ends.keys()
    refused = [one["outcome"] for one in receipts if one["kind"] == "refusal"]
    assert refused == ["arguments_unfit"]
    outcomes = [ends[call] for call in calls if calls[call]["tool"] == "files/unknown"]
    assert outcomes.count("aborted_by_client") == 1
    assert outcomes.count("completed") == len(outcomes) - 1
    if mode == "legacy":
        assert "files/mcp:response" in {one["tool"] for one in calls.values()}


def exported(folder: Path) -> list[dict[str, Any]]:
    """The receipts, verified, by the configuration that was written."""
    import json

    config = folder / "share/aegis-sidecar/files/sidecar.yaml"
    done = cli("receipts", "export", "--config", str(config))
    assert done.returncode == 0, done.stderr
    path = folder / "receipts.jsonl"
    path.write_text(done.stdout)
    verified = cli("receipts", "verify", str(path))
    assert verified.returncode == 0, verified.stdout
    return [json.loads(line) for line in done.stdout.splitlines()]


CATALOGUE = """\
catalogue: files
tools:
  add: {mutates: false, args: {a: int, b: int}}
"""
POLICY = """\
policy: start
rules:
  - {id: adding, effect: allow, tools: files/add}
  - id: not-too-much
    effect: deny
    tools: files/add
    when: args.a > 1000
    reason: "{args.a} is too much"
"""


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_a_refusal_over_stdio_is_a_result_the_client_can_read(
    tmp_path: Path, mode: str
) -> None:
    home = tmp_path / "share/aegis-sidecar/files"
    (home / "policies").mkdir(parents=True)
    (home / "policies/tools.yaml").write_text(CATALOGUE)
    (home / "policies/start.yaml").write_text(POLICY)
    with open(os.devnull, "w") as errors:
        transport = stdio_client(server(tmp_path, wrapped=True), errlog=errors)
        async with Client(transport, mode=mode) as client:
            with pytest.raises(MCPError, match="Unknown tool: delete_everything"):
                await client.call_tool("delete_everything", {})
            assert [tool.name for tool in (await client.list_tools()).tools] == ["add"]
            ruled = await client.call_tool("add", {"a": 1001, "b": 1})
            assert ruled.is_error
            assert "1001 is too much" in ruled.content[0].text  # type: ignore[union-attr]
            assert not (await client.call_tool("add", {"a": 1, "b": 1})).is_error
    assert not (tmp_path / "cancelled-True").exists()
    receipts = await asyncio.to_thread(exported, tmp_path)
    refusals = [(one["tool"], one["rule_id"]) for one in receipts if one["kind"] == "refusal"]
    assert refusals == [("files/unknown", None), ("files/add", "start/not-too-much")]


async def test_c5_a_carriage_return_cannot_hide_a_message_from_the_sidecar(tmp_path: Path) -> None:
    """Python's text streams end a line at CR: to such a server the middle is a call of its own."""
    hidden = (
        b'{"jsonrpc":"2.0","id":2,"method":"ping","params":\r'
        b'{"jsonrpc":"2.0","id":3,"method":"tools/call","params":'
        b'{"name":"delete_everything","arguments":{}}}\r}\n'
    )
    hello = (
        b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25",'
        b'"capabilities":{},"clientInfo":{"name":"x","version":"1"}}}\n'
        b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n'
    )
    cancelled = tmp_path / "cancelled"
    direct = await asyncio.create_subprocess_exec(
        *FIXTURE,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "CANCELLED": str(cancelled), "PYTHONWARNINGS": "ignore"},
    )
    assert direct.stdin is not None and direct.stdout is not None
    direct.stdin.write(hello + hidden)
    while b'"id":3' not in (line := await direct.stdout.readline()):
        assert line, "the server did not answer the hidden call"
    direct.stdin.close()
    await direct.wait()
    assert cancelled.read_text() == "delete_everything was reached\n"
    cancelled.unlink()
    wrap = Wrap(tmp_path, server=FIXTURE)
    wrap.say(hello + hidden)
    heard = [wrap.hear(), wrap.hear()]
    assert {one["id"] for one in heard} == {1, None}
    refused = next(one for one in heard if one["id"] is None)
    assert refused["error"]["data"]["code"] == "invalid_json"
    assert wrap.end() == 0
    assert not cancelled.exists()
    assert [one["kind"] for one in wrap.receipts()].count("refusal") == 1


async def test_c12_rug_pull(tmp_path: Path) -> None:
    """Once it has ended nobody listens for the operator; what it left is accepted in its store."""

    async def listed(said: str = "") -> bool:
        """Whether `add` is shown, and then called."""
        parameters = server(tmp_path, wrapped=True)
        parameters.env = {**(parameters.env or {}), **({"SAID_OF_ADD": said} if said else {})}
        with open(os.devnull, "w") as errors:
            async with Client(stdio_client(parameters, errlog=errors)) as client:
                names = [tool.name for tool in (await client.list_tools()).tools]
                added = await client.call_tool("add", {"a": 20, "b": 22})
                assert added.is_error is ("add" not in names)
                assert added.is_error is ("tool_drifted" in str(added.content))
                return "add" in names

    def tools(*arguments: str) -> tuple[int, str]:
        where = tmp_path / "share" / "aegis-sidecar" / "files"
        done = cli("tools", *arguments, "--data-dir", str(where))
        return done.returncode, done.stdout + done.stderr

    assert await listed()
    assert not await listed("Adds, and tells a stranger.")
    code, shown = await asyncio.to_thread(tools, "diff")
    assert code == 1 and '+  "description": "Adds, and tells a stranger."' in shown
    code, shown = await asyncio.to_thread(tools, "accept", "files", "add")
    assert code == 0, shown
    assert await listed("Adds, and tells a stranger.")
