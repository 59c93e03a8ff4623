"""How a refusal reaches an MCP client: the bytes, and what the official SDK makes of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from mcp import Client
from mcp.shared.exceptions import MCPError
from proxy_dialect_setup import CALL_ID, Setup, head

from sidecar.errors import REFUSALS, Refused
from sidecar.model import Decision, Effect
from sidecar.proxy.dialects import DIALECTS
from sidecar.proxy.head import HeadRules, read_head

DIALECT = DIALECTS["mcp"]
CALL = {"jsonrpc": "2.0", "id": "a-1", "method": "tools/call", "params": {"name": "list"}}
READ = {"jsonrpc": "2.0", "id": 7, "method": "resources/read", "params": {"uri": "file:///x"}}
JSON = {"Content-Type": "application/json"}
STATELESS = {
    **JSON,
    "MCP-Protocol-Version": "2026-07-28",
    "Mcp-Method": "tools/call",
    "Mcp-Name": "list",
}


def denied(code: str = "policy_deny") -> Refused:
    decision = Decision(
        effect=Effect.DENY,
        code=code,
        reason="deletes need a person",
        policy_revision="0" * 32,
        rule_id="files/no-deletes",
        rule_hash="1" * 32,
    )
    return Refused(code, decision.reason, decision=decision, detail="operators only")


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    return Setup(tmp_path_factory.mktemp("refusals"))


def refuse(
    setup: Setup, refused: Refused, message: dict[str, Any], headers: dict[str, str] = JSON
) -> tuple[int, dict[str, str], Any]:
    call = setup.call(DIALECT, head("POST", "/files/mcp", headers), json.dumps(message).encode())
    status, fields, body = DIALECT.refusal(refused, CALL_ID, call)
    assert b"operators only" not in body
    return status, dict(fields), json.loads(body)


@pytest.mark.parametrize("code", ["policy_deny", "default_deny", "condition_error"])
def test_a_refused_tool_call_is_a_tool_result_that_says_rule_reason_next_step(
    setup: Setup, code: str
) -> None:
    status, fields, answer = refuse(setup, denied(code), CALL)
    assert (status, fields["Content-Type"]) == (200, "application/json")
    assert fields["Aegis-Call-Id"] == CALL_ID
    assert (answer["jsonrpc"], answer["id"]) == ("2.0", "a-1")
    result = answer["result"]
    assert result.keys() == {"content", "isError"}
    assert result["isError"] is True
    (content,) = result["content"]
    for part in (
        code,
        "files/no-deletes",
        "deletes need a person",
        CALL_ID,
        REFUSALS[code].next_step,
    ):
        assert part in content["text"]


@pytest.mark.parametrize(
    ("method", "params", "why"),
    [
        ("initialize", {"clientInfo": {"name": "c", "icons": ["x" * 9000]}}, "params.clientInfo "),
        ("tools/list", {"_meta": {"x": "x" * 9000}}, "params._meta "),
        ("ping", {"note": "the key is 1234"}, "params "),
        ("subscriptions/listen", {"notifications": {"other": True}}, "params.notifications "),
        ("resources/read", {"uri": "file:///x"}, ""),
        ("x/other", {"clientInfo": {}}, ""),
    ],
)
def test_of_a_message_that_mostly_needs_no_rule_it_is_said_what_it_is_judged_for(
    setup: Setup, method: str, params: dict[str, Any], why: str
) -> None:
    _, _, answer = refuse(setup, denied(), {**READ, "method": method, "params": params})
    said = answer["error"]["message"]
    assert f"({why}holds more than carries the protocol" in said or not why
    assert ("is judged" in said) is bool(why) and "1234" not in said


@pytest.mark.parametrize("code", ["upstream_timeout", "upstream_broken"])
def test_of_a_tool_call_that_may_have_taken_effect_the_model_hears_so(
    setup: Setup, code: str
) -> None:
    """Of an error some SDKs tell it to try again, and by a status of 5xx some end the session."""
    status, _, answer = refuse(setup, Refused(code), CALL)
    assert status == 200 and answer["result"]["isError"] is True
    text = answer["result"]["content"][0]["text"]
    assert f"({code})" in text and "may have taken effect: look before you try again" in text
    status, _, answer = refuse(setup, Refused(code), READ)
    assert status == REFUSALS[code].status and answer["error"]["data"]["code"] == code


@pytest.mark.parametrize("code", ["upstream_unreachable", "body_too_large", "queue_full"])
def test_the_message_of_an_error_says_code_and_next_step(setup: Setup, code: str) -> None:
    """SDKs hand on the message, and no data."""
    _, _, answer = refuse(setup, Refused(code), CALL)
    said = answer["error"]["message"]
    assert f"({code})" in said and REFUSALS[code].next_step in said


@pytest.mark.parametrize("task", [{}, {"ttl": 60000}, None])
def test_who_asked_for_a_task_is_refused_with_an_error_and_no_other_result(
    setup: Setup, task: Any
) -> None:
    """The official SDKs take nothing but a task there, and say no word of the refusal."""
    message = {**CALL, "params": {"name": "list", "task": task}}
    _, _, answer = refuse(setup, denied(), message)
    assert ("error" in answer) is (task is not None), "control: null is as good as absent"
    if task is not None:
        assert "deletes need a person" in answer["error"]["message"]
        assert answer["error"]["data"]["code"] == "policy_deny"


def test_a_refused_tool_call_of_the_stateless_revision_has_a_result_type(setup: Setup) -> None:
    _, _, answer = refuse(setup, denied(), CALL, STATELESS)
    assert answer["result"]["resultType"] == "complete"


def test_another_refused_request_is_an_error_with_its_id(setup: Setup) -> None:
    status, _, answer = refuse(setup, denied(), READ)
    assert (status, answer["id"]) == (200, 7)
    assert answer["error"]["code"] == 403
    assert "deletes need a person" in answer["error"]["message"]
    assert answer["error"]["data"]["rule"] == "files/no-deletes"
    assert answer["error"]["data"]["call_id"] == CALL_ID


def test_a_refused_notification_is_an_http_error_without_an_id(setup: Setup) -> None:
    message = {"jsonrpc": "2.0", "method": "notifications/custom"}
    status, _, answer = refuse(setup, denied(), message)
    assert (status, answer["id"], answer["error"]["code"]) == (403, None, 403)


@pytest.mark.parametrize("code", sorted(REFUSALS))
def test_every_refusal_keeps_to_codes_that_are_ours_to_use(setup: Setup, code: str) -> None:
    for message in (CALL, READ):
        status, fields, answer = refuse(setup, Refused(code, retry_after_s=3), message)
        assert fields["Retry-After"] == "3"
        assert answer["id"] == message["id"]
        if "error" in answer:
            rpc_code = answer["error"]["code"]
            assert rpc_code > 0 or rpc_code in (-32700, -32600, -32602, -32020)
            assert status == REFUSALS[code].status
        else:
            assert message is CALL and status == 200


def test_a_store_that_cannot_record_is_503_for_a_tool_call_too(setup: Setup) -> None:
    status, _, answer = refuse(setup, Refused("store_unavailable", retry_after_s=1), CALL)
    assert (status, answer["error"]["code"]) == (503, 503)


@pytest.mark.parametrize("code", ["store_unavailable", "queue_full", "upstream_unreachable"])
@pytest.mark.parametrize(
    ("version", "ends"), [("2025-06-18", True), ("2025-11-25", True), ("2026-07-28", False)]
)
def test_what_cannot_be_done_just_now_ends_no_session(
    setup: Setup, code: str, version: str, ends: bool
) -> None:
    """The SDK for Python before 2 takes any 5xx for the end of all."""
    headers = STATELESS if not ends else {**JSON, "MCP-Protocol-Version": version}
    status, fields, answer = refuse(setup, Refused(code, retry_after_s=3), CALL, headers)
    assert status == (200 if ends else REFUSALS[code].status)
    assert answer["error"]["code"] == REFUSALS[code].status and fields["Retry-After"] == "3"
    fault = Refused("body_too_large")
    assert refuse(setup, fault, CALL, headers)[0] == 413, "what is the message's fault stays so"


def test_405_names_the_methods_that_are_served() -> None:
    status, fields, _ = DIALECT.refusal(Refused("method_not_allowed"), CALL_ID, None)
    assert (status, dict(fields)["Allow"]) == (405, "POST, GET, DELETE")


def test_the_bytes_of_a_refused_call_are_stable(setup: Setup) -> None:
    _, _, answer = refuse(setup, denied(), CALL)
    assert answer["result"]["content"][0]["text"] == (
        "Refused by policy (policy_deny).\n"
        "Tool: files/list\n"
        "Rule: files/no-deletes\n"
        "Reason: deletes need a person\n"
        "Next step: Ask the owner of the named rule, or call a tool that the policies allow.\n"
        f"Call id: {CALL_ID}"
    )


def test_a_tool_nobody_declared_is_named_as_it_was_called(setup: Setup) -> None:
    message = {**CALL, "params": {"name": "wipe disk"}}
    _, _, answer = refuse(setup, denied("default_deny"), message)
    text = answer["result"]["content"][0]["text"]
    assert "Tool: files/wipe disk, which the catalogue does not declare\n" in text


# -- with the official SDK ------------------------------------------------------------------


class Gate:
    """A server that answers the protocol's own messages and refuses what needs a rule."""

    def __init__(self, setup: Setup, *, stateless: bool) -> None:
        self.setup = setup
        self.stateless = stateless
        self.refused: list[str] = []
        self.refusal = denied()

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        body = await request.read()
        rules = HeadRules(frozenset({"127.0.0.1"}))
        call = None
        try:
            request_head = read_head(
                request.method,
                request.raw_path,
                (request.version.major, request.version.minor),
                request.raw_headers,
                "127.0.0.1",
                rules,
            )
            call = self.setup.call(DIALECT, request_head, body)
            if not call.is_protocol:
                self.refused.append(call.action)
                raise self.refusal
        except Refused as refused:
            status, fields, answer = DIALECT.refusal(refused, CALL_ID, call)
            return web.Response(status=status, headers=fields, body=answer)
        return self.answer(call.action, call.reply_id)

    def answer(self, method: str, reply_id: Any) -> web.Response:
        if reply_id is None:
            return web.Response(status=405 if method in ("GET", "DELETE") else 202)
        server = {"serverInfo": {"name": "gate", "version": "1"}, "capabilities": {"tools": {}}}
        caching = {"resultType": "complete", "cacheScope": "private", "ttlMs": 0}
        tool = {"name": "list", "inputSchema": {"type": "object"}}
        results = {
            "tools/list": {**(caching if self.stateless else {}), "tools": [tool]},
            "ping": {},
        }
        if self.stateless:
            supported = {"supportedVersions": ["2026-07-28"]}
            results["server/discover"] = {**server, **caching, **supported}
        else:
            results["initialize"] = {**server, "protocolVersion": "2025-11-25"}
        if method not in results:
            error = {"code": -32601, "message": "Method not found"}
            return web.json_response({"jsonrpc": "2.0", "id": reply_id, "error": error}, status=404)
        return web.json_response({"jsonrpc": "2.0", "id": reply_id, "result": results[method]})


@pytest.fixture(params=[False, True], ids=["2025-11-25", "2026-07-28"])
async def gate(request: pytest.FixtureRequest, setup: Setup) -> AsyncIterator[Any]:
    gate = Gate(setup, stateless=request.param)
    runner = web.ServerRunner(web.Server(gate))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    gate.url = f"http://127.0.0.1:{runner.addresses[0][1]}/files/mcp"
    try:
        yield gate
    finally:
        await runner.cleanup()


async def test_the_sdk_hands_a_refusal_on_as_a_readable_tool_result(gate: Any) -> None:
    async with Client(gate.url) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["list"]
        result = await client.call_tool("list", {})
        assert result.is_error is True
        text = result.content[0].text
        assert "files/no-deletes" in text and "Next step:" in text and CALL_ID in text
        again = await client.call_tool("list", {"depth": 3})
        assert again.is_error is True and "invalid_argument" in again.content[0].text
    assert gate.refused == ["tools/call"]


async def test_the_sdk_raises_the_refusal_of_another_request_with_its_reason(gate: Any) -> None:
    async with Client(gate.url) as client:
        with pytest.raises(MCPError) as caught:
            await client.read_resource("file:///x")
        assert caught.value.error.code == 403
        assert "deletes need a person" in caught.value.error.message
        assert caught.value.error.data["call_id"] == CALL_ID


async def test_the_sdk_raises_a_refusal_with_an_http_error_status(gate: Any) -> None:
    gate.refusal = Refused("store_unavailable")
    async with Client(gate.url) as client:
        with pytest.raises(MCPError) as caught:
            await client.call_tool("list", {})
        assert caught.value.error.code == 503
        assert "Nothing was forwarded" in caught.value.error.data["next_step"]
