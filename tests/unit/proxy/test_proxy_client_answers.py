"""C8, C11: what a client says beside its calls is no way past the rules, through a whole sidecar:
messages that carry more than the protocol, and answers to the server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from proxy_approvals_setup import ANA, TENANT, pending
from proxy_mcp_setup import ACCEPT, McpServer, Seen, asks, call, event, reply, result, stream
from proxy_whole_setup import Whole, receipts, whole

CATALOGUES = {
    "api.yaml": "catalogue: api\ntools: {get: GET /get}\n",
    "mcp.yaml": "catalogue: mcp\ntools:\n"
    "  look: {mutates: false, labels: reads-secret, returns: trusted_internal_signed}\n"
    "  note: {mutates: false, returns: trusted_internal_signed}\n"
    "  mcp:roots/list: {mutates: false, returns: trusted_internal_signed}\n",
}
#: Once the run has read secrets, nothing goes out any more.
POLICY = """policy: p
rules:
  - {id: reads, effect: allow, tools: [mcp/look, mcp/note]}
  - {id: roots, effect: allow, tools: "mcp/mcp:roots/list"}
  - {id: nothing-out, effect: deny, tools: "*", run: {labels: reads-secret}}
"""
ANSWER: dict[str, Any] = {"jsonrpc": "2.0", "id": 91, "result": {"roots": [{"uri": "file:///w"}]}}
PONG: dict[str, Any] = {"jsonrpc": "2.0", "id": 92, "result": {}}
TROUBLE: dict[str, Any] = {"jsonrpc": "2.0", "id": 91, "error": {"code": -1, "message": "stolen"}}


QUESTIONS = [event(asks("roots/list", 91)), event(asks("ping", 92))]


def answer(seen: Seen) -> Any:
    message = seen.json
    if message.get("method") == "tools/call" and message["params"]["name"] == "note":
        return [stream(), *QUESTIONS, event(result("done"))]
    if message.get("method") == "tools/call":
        return [stream(), event(result("done"))]
    if "id" in message and "method" in message:
        return reply({"jsonrpc": "2.0", "id": message["id"], "result": {}})
    return reply(b"", status=202)


def serve(folder: Path, policy: str = POLICY, more: str = "") -> tuple[Any, McpServer]:
    talk = McpServer(answer)
    return whole(folder, talk, {**CATALOGUES, "p.yaml": policy}, more), talk


async def asked(one: Whole) -> None:
    """The server asks, within a call, what 91 and 92 answer."""
    assert b"done" in (await one.tool("note")).body


def heard(talk: McpServer) -> list[Any]:
    """The answers that reached the server."""
    return [seen.json for seen in talk.seen if "method" not in seen.json]


async def say(one: Whole, message: dict[str, Any]) -> tuple[int, str]:
    """Status and code of what comes of a message."""
    got = await one.ask("POST", "/mcp", message, ACCEPT)
    if got.status < 300 or not got.body:
        return got.status, ""
    return got.status, got.json["error"]["data"]["code"]


def request(method: str, params: dict[str, Any], *, is_news: bool = False) -> dict[str, Any]:
    message = {"jsonrpc": "2.0", "method": method, "params": params}
    return message if is_news else {**message, "id": 5}


PLAIN = [
    request("ping", {}),
    request("tools/list", {"cursor": "c", "_meta": {"progressToken": 1}}),
    request("notifications/progress", {"progressToken": 1, "progress": 1}, is_news=True),
]
LADEN = [
    request("ping", {"data": "stolen"}),
    request("tools/list", {"filter": "stolen"}),
    request("notifications/initialized", {"data": "stolen"}, is_news=True),
    request("notifications/cancelled", {"requestId": 1, "reason": "s" * 9000}, is_news=True),
]


async def test_c8_c11_a_run_that_may_say_nothing_cannot_say_it_beside_its_calls(
    tmp_path: Path,
) -> None:
    serving, talk = serve(tmp_path)
    async with serving as one:
        await asked(one)
        assert (await one.ask("POST", "/mcp", call("look"), ACCEPT)).status == 200
        reached = len(talk.seen)
        for message in (*LADEN, ANSWER, TROUBLE):
            got = await one.ask("POST", "/mcp", message, ACCEPT)
            assert got.json["error"]["data"]["code"] == "policy_deny", message
        assert len(talk.seen) == reached, "nothing of it reached the server"
        for message in (*PLAIN, PONG):
            assert (await say(one, message))[0] < 300, message
        assert len(talk.seen) == reached + len(PLAIN) + 1, "what carries nothing goes on"
    refused = [each for each in receipts(tmp_path) if each["kind"] == "refusal"]
    assert [each["rule_id"] for each in refused] == ["p/nothing-out"] * (len(LADEN) + 2)
    assert refused[-1]["tool"] == "mcp/mcp:response"


async def test_c8_c11_more_than_the_protocol_needs_a_rule_and_an_answer_needs_none(
    tmp_path: Path,
) -> None:
    serving, talk = serve(tmp_path)
    async with serving as one:
        for message in LADEN:
            got = await one.ask("POST", "/mcp", message, ACCEPT)
            assert got.json["error"]["data"]["code"] == "default_deny", message
        assert not talk.seen
        for message in (ANSWER, TROUBLE, PONG):
            await asked(one)
            assert await say(one, message) == (202, ""), message
        assert heard(talk) == [ANSWER, TROUBLE, PONG]
    intents = [each for each in receipts(tmp_path) if each["kind"] == "intent"]
    assert [each["tool"] for each in intents].count("mcp/mcp:response") == 3
    assert {each["decision"] for each in intents} == {"allow"}


async def test_c8_where_no_server_may_ask_there_is_nothing_to_answer(tmp_path: Path) -> None:
    """Also where it asked: the request does not reach the agent."""
    serving, talk = serve(tmp_path, POLICY.replace("roots/list", "prompts/get"))
    async with serving as one:
        await asked(one)
        for message in (ANSWER, TROUBLE):
            assert await say(one, message) == (400, "unasked_answer")
        assert await say(one, PONG) == (202, ""), "any server may ask whether its client is there"
        assert heard(talk) == [PONG]


async def test_c8_where_no_server_may_ask_any_more_there_is_nothing_to_answer(
    tmp_path: Path,
) -> None:
    """The rules are others when the answer comes."""
    before = "policy: p\nrules: [{id: all, effect: allow, tools: [mcp/*, 'mcp/mcp:roots/list']}]\n"
    serving, talk = serve(tmp_path, before)
    async with serving as one:
        await asked(one)
        rules = "policy: p\nrules: [{id: notes, effect: allow, tools: mcp/note}]\n"
        (tmp_path / "policies" / "p.yaml").write_text(rules)
        one.sidecar.reload_soon()
        async with asyncio.timeout(10):
            while b"done" in (await one.ask("POST", "/mcp", call("look"), ACCEPT)).body:
                await asyncio.sleep(0.05)
        got = await one.ask("POST", "/mcp", ANSWER, ACCEPT)
        assert got.json["error"]["data"]["code"] == "default_deny"
        assert "ask for anything" in got.json["error"]["message"]
        assert heard(talk) == []


async def test_c8_a_rule_can_let_more_than_the_protocol_pass(tmp_path: Path) -> None:
    allowed = '  - {id: pings, effect: allow, tools: "mcp/mcp:ping"}\n'
    serving, talk = serve(tmp_path, POLICY + allowed)
    async with serving as one:
        assert (await say(one, LADEN[0]))[0] == 200
        assert talk.seen[0].json == LADEN[0]


async def test_c8_an_answer_brings_nothing_back_so_trust_stays(tmp_path: Path) -> None:
    """What no catalogue declares returns content of unknown trust; an answer returns none."""
    policy = POLICY.replace("labels: reads-secret", "trust: untrusted_external")
    serving, _ = serve(tmp_path, policy)
    async with serving as one:
        await asked(one)
        assert (await say(one, ANSWER))[0] == 202
        assert b"done" in (await one.tool("note")).body, "still allowed"


async def test_c8_an_answer_is_masked_like_any_call(tmp_path: Path) -> None:
    mask = (
        "  - {id: mask, tools: 'mcp/*', "
        "obligations: {redact: {request: [args.result.secret, email]}}}\n"
    )
    serving, talk = serve(tmp_path, POLICY + mask)
    async with serving as one:
        said = {**ANSWER, "result": {"secret": "hunter2", "who": "ana@acme.io", "x": 1}}
        for message in (said, ANSWER):
            await asked(one)
            assert (await say(one, message))[0] == 202
    first, other = (seen for seen in talk.seen if "method" not in seen.json)
    assert first.json["id"] == 91 and first.json["result"]["x"] == 1
    assert b"hunter2" not in first.body and b"acme" not in first.body
    assert other.json == ANSWER, "what holds nothing to be masked is as it was"
    assert "hunter2" not in repr(receipts(tmp_path))


async def test_c8_an_answer_can_wait_for_a_yes(tmp_path: Path) -> None:
    asks = '  - {id: asks, effect: require_approval, tools: "mcp/mcp:response"}\n'
    serving, talk = serve(tmp_path, POLICY + asks, "approvals: {hold: 5s}\n")
    async with serving as one:
        await asked(one)
        assert await say(one, PONG) == (202, ""), "what says nothing needs no yes"
        answering = asyncio.create_task(say(one, ANSWER))
        row = await pending(one)
        assert heard(talk) == [PONG]
        assert await say(one, TROUBLE) == (400, "unasked_answer"), "it is being answered"
        await one.sidecar.approvals.deciding.approve(TENANT, row.approval_id, ANA)
        assert await answering == (202, "")
        assert heard(talk) == [PONG, ANSWER]
        assert await say(one, ANSWER) == (400, "unasked_answer"), "once"


@pytest.mark.parametrize("is_asked", [False, True])
async def test_c8_no_request_passes_for_an_answer(tmp_path: Path, is_asked: bool) -> None:
    """Neither of the agent nor of the server: the operation `mcp:response` needs no rule."""
    message = request("response", {"result": {"data": "stolen"}})
    talk = McpServer(lambda _: [stream(), event({**message, "id": 93}), event(result("done"))])
    async with whole(tmp_path, talk, {**CATALOGUES, "p.yaml": POLICY}) as one:
        if is_asked:
            got = await one.ask("POST", "/mcp", call("note"), ACCEPT)
            assert b"done" in got.body and b"stolen" not in got.body
        else:
            assert await say(one, message) == (400, "invalid_rpc")
            assert not talk.seen
    refused = [each["outcome"] for each in receipts(tmp_path) if each["kind"] == "refusal"]
    assert refused == ["invalid_rpc"]
