"""What the two doors take and refuse before a request is read; each with its positive control."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from authorize_setup import AGENT_TOKEN, call, stage
from multidict import CIMultiDict

from storage.standing import PinRow

SERVER = "files: {url: 'http://127.0.0.1:9/mcp', kind: mcp}"
TOOLS = "catalogue: files\ntools:\n  read: {mutates: false}\n  list: {mutates: false}\n"
READS = "policy: files\nrules:\n  - {id: reads, effect: allow, tools: files/*, mutates: false}\n"
LIMITS = "limits: {request: 4KiB, body_wait: 1s}\n"


@pytest.mark.parametrize("control", [False, True], ids=["data", "control"])
async def test_requests_that_are_refused_at_the_door(tmp_path: Path, control: bool) -> None:
    body = json.dumps(call()).encode()
    async with stage(tmp_path, more=LIMITS) as one:

        async def asked(data: bytes = body, path: str = "/v1/authorize", **headers: str) -> int:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            sent.setdefault("Authorization", f"Bearer {AGENT_TOKEN}")
            answer = await one.ask("POST", path, data, headers=sent, control=control)
            return answer.status

        assert await asked() == 200, "positive control"
        assert await asked(body + b" " * 4096) == 413
        assert await asked(gzip.compress(body), Content_Encoding="gzip") == 415
        assert await asked(Content_Type="application/json; charset=utf-16") == 415
        assert await asked(Content_Type="application/json; charset=utf-8") == 200
        assert await asked(path="/v1/authorize?dry_run=true") == 400, "nothing is read from there"
        assert await asked(path="/v1/authorize/") in (200, 404), "one reading, or none"
        assert await asked(path="/v1//authorize") in (400, 404)
        assert await asked(path="/v1/%61uthorize") in (200, 404), "one reading, or none"
        assert await asked(Aegis_Token=AGENT_TOKEN) == 200, "the same credential twice is one"
        assert await asked(Aegis_Token="agent_default.agent.another") == 401
        assert await asked(Authorization="Basic YTpi") == 401
        headers = CIMultiDict({"Content-Type": "application/json"})
        for _ in range(2):
            headers.add("Authorization", f"Bearer {AGENT_TOKEN}")
        base = one.sidecar.control_url if control else one.sidecar.data_url
        async with one.session.post(f"{base}/v1/authorize", data=body, headers=headers) as reply:
            assert reply.status in (400, 401)
        assert len([row for row in one.receipts() if row["kind"] == "intent"]) >= 3


async def test_on_the_data_listener_only_what_agents_need(tmp_path: Path) -> None:
    async with stage(tmp_path) as one:
        for method, path in (
            ("GET", "/v1/agents"), ("GET", "/v1/receipts"), ("GET", "/v1"), ("POST", "/v1/keys"),
            ("GET", "/v1/openapi.json"), ("POST", "/v1/approvals/1/approve"),
        ):  # fmt: skip
            answer = await one.ask(method, path, token=AGENT_TOKEN)
            assert answer.status == 404, path
            assert answer.json["details"]["reason"] == "unknown_route"
        answer = await one.ask("POST", "/github/read_issue", {}, token=AGENT_TOKEN)
        assert (answer.status, answer.json["code"]) == (404, "unknown_upstream"), "it has no server"
        assert (await one.authorize(call(), token=AGENT_TOKEN)).status == 200, "positive control"
        assert (await one.authorize(call())).status == 200, "the default agent, without a token"


async def test_nothing_is_answered_that_is_not_durable(tmp_path: Path) -> None:
    """F: the store is fenced; a decision that cannot be recorded is no decision."""
    async with stage(tmp_path) as one:
        await one.fence()
        answer = await one.authorize(call(request_id="r"), token=AGENT_TOKEN)
        assert answer.status == 503 and "Retry-After" in answer.headers
        assert answer.json["details"]["reason"] == "store_fenced"
        denied = await one.authorize(call("note", trust="unknown"), token=AGENT_TOKEN)
        assert denied.status == 503, "nor is a deny"
        await one.fence(lift=True)
        answer = await one.authorize(call(request_id="r"), token=AGENT_TOKEN)
        assert answer.json["decision"] == "allow", "positive control, under the same id"


async def test_c12_a_tool_that_drifted_is_refused_to_who_calls_it_himself_too(
    tmp_path: Path,
) -> None:
    pins = [
        PinRow("default", "files", "read", 1, '{"name":"read"}', "ab" * 32, 1, "{}", "cd" * 32, 2),
        PinRow("default", "files", "list", 1, '{"name":"list"}', "ef" * 32, 1),
    ]
    made = stage(tmp_path, policy=READS, catalogue=TOOLS, upstream=SERVER, rows=pins)
    async with made as one:
        for tool in ("mcp:files", "files"):
            drifted = await one.authorize(call("read", tool=tool), token=AGENT_TOKEN)
            assert drifted.json["decision"] == "deny", drifted
            assert drifted.json["matched_policies"] == ["tool_drifted"]
            assert one.receipts()[-1]["outcome"] == "tool_drifted"
            pinned = await one.authorize(call("list", tool=tool), token=AGENT_TOKEN)
            assert pinned.json["decision"] == "allow", "positive control"


@pytest.mark.parametrize("how", ["checked", "unchecked"])
async def test_c11_arguments_fit_the_pinned_schema_also_of_who_calls_the_tool_himself(
    tmp_path: Path, how: str
) -> None:
    schema = {"type": "object", "required": ["path"], "properties": {"path": {"type": "string"}}}
    text = json.dumps({"name": "read", "inputSchema": schema})
    pins = [PinRow("default", "files", "read", 1, text, "ab" * 32, 1)]
    server = SERVER.replace("kind: mcp", f"kind: mcp, arguments: {how}")
    made = stage(tmp_path, policy=READS, catalogue=TOOLS, upstream=server, rows=pins)
    async with made as one:
        for tool in ("mcp:files", "files"):

            async def asked(parameters: object, action: str = "read", tool: str = tool) -> str:
                said = call(action, tool=tool, parameters=parameters)
                answer = await one.authorize(said, token=AGENT_TOKEN)
                assert answer.status == 200, answer
                return "".join(answer.json["matched_policies"])

            assert "arguments_unfit" not in await asked({"path": "/a"}), "positive control"
            assert "arguments_unfit" not in await asked({"no": 1}, action="list"), "no pin"
            for wrong in ({"path": 7}, {}, ["path"], "path"):
                assert ("arguments_unfit" in await asked(wrong)) is (how == "checked"), wrong
    rows = [row for row in one.receipts() if row["outcome"] == "arguments_unfit"]
    assert len(rows) == (8 if how == "checked" else 0)
