"""What a server asks of the agent is judged like a call of the agent (C16), and calls that go on
after such an answer are linked to it in the record."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from proxy_mcp_setup import (
    ACCEPT,
    CATALOGUES,
    POLICY,
    McpServer,
    Seen,
    asks,
    call,
    event,
    input_required,
    reply,
    result,
    stream,
)
from proxy_whole_setup import Answer, receipts, whole

from sidecar.cli.main import main
from sidecar.errors import REFUSALS
from sidecar.model import state_digest

SAMPLE = asks("sampling/createMessage", "s-1", maxTokens=5, messages=["buy gold"])
ROOTS = asks("roots/list", 91)
DONE = event(result("done"))
MODERN = {**ACCEPT, "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call",
          "Mcp-Name": "look"}  # fmt: skip


def serve(folder: Path, talk: McpServer, policy: str = POLICY, more: str = "") -> Any:
    return whole(folder, talk, {**CATALOGUES, "p.yaml": policy}, more)


def in_session(answer: Any) -> McpServer:
    """A server that gives a session first and then answers calls so; other messages it takes."""

    def answered(seen: Seen) -> Any:
        message = seen.json if seen.body else {}
        if message.get("method") == "initialize":
            return reply(result(), more="Mcp-Session-Id: up-1\r\n")
        return (
            answer
            if message.get("method") == "tools/call" or not seen.body
            else reply(b"", status=202)
        )

    return McpServer(answered)


async def session_of(one: Any) -> dict[str, str]:
    initialize = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}
    answer = await one.ask("POST", "/mcp", initialize, ACCEPT)
    return {**ACCEPT, "Mcp-Session-Id": answer.headers["mcp-session-id"]}


def by_server(folder: Path) -> list[dict[str, Any]]:
    return [
        one for one in receipts(folder) if one["facts"].get("mcp", {}).get("asked_by") == "server"
    ]


def ends(folder: Path, call_id: str) -> list[str]:
    found = receipts(folder)
    return [x["outcome"] for x in found if x["call_id"] == call_id and x["kind"] == "outcome"]


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_c16_a_refused_request_is_dropped_told_to_the_server_and_on_record(
    tmp_path: Path, method: str
) -> None:
    """Of one stream: the allowed request passes, the refused one does not, nor is anything else
    held back or changed."""
    before, after = event(ROOTS, b"id: 3\nevent: message\n"), b": still here\n"
    script = [stream(), before, event(SAMPLE, b"event: message\n"), after, DONE]
    talk = in_session(script)
    async with serve(tmp_path, talk) as one:
        headers = await session_of(one)
        body = call() if method == "POST" else None
        answer = await one.ask(method, "/mcp", body, headers)
        refused = await one.metric("aegis_refusals_total")
    assert (answer.status, answer.is_whole) == (200, True)
    assert b"buy gold" not in answer.body and b"sampling" not in answer.body
    sent = [json.loads(line[6:]) for line in answer.body.split(b"\n") if line[:6] == b"data: "]
    assert sent == [ROOTS, result("done")]
    assert b"event: message\n\n: still here\n" in answer.body
    told = [seen for seen in talk.seen if b"s-1" in seen.body]
    (seen,) = told
    assert seen.headers["mcp-session-id"] == "up-1" and seen.method == "POST"
    assert seen.json["id"] == "s-1" and seen.json["error"]["data"] == {"code": "default_deny"}
    assert refused['{code="default_deny"}'] == 1
    call_id = answer.headers["aegis-call-id"]
    passed, denied = by_server(tmp_path)
    assert (passed["kind"], passed["tool"]) == ("intent", "mcp/mcp:roots/list")
    assert (denied["kind"], denied["tool"]) == ("refusal", "mcp/mcp:sampling/createMessage")
    assert denied["outcome"] == "default_deny" and "buy gold" in denied["arguments"]
    assert passed["facts"]["mcp"]["within"] == denied["facts"]["mcp"]["within"] == call_id
    assert ends(tmp_path, passed["call_id"]) == ends(tmp_path, call_id) == ["completed"]


async def test_c16_without_a_session_it_is_dropped_and_the_record_says_so(tmp_path: Path) -> None:
    talk = McpServer(lambda _: [stream(), event(SAMPLE), DONE])
    async with serve(tmp_path, talk) as one:
        answer = await one.ask("POST", "/mcp", call(), ACCEPT)
    assert b"sampling" not in answer.body and b"done" in answer.body
    assert len(talk.seen) == 1, "no server could tell whose answer it is"
    (denied,) = by_server(tmp_path)
    assert (denied["kind"], denied["outcome"]) == ("refusal", "default_deny")


async def test_c16_a_server_that_cannot_be_told_does_not_break_the_stream(tmp_path: Path) -> None:
    """It takes no second connection while it streams; the refusal stands all the same."""

    def answer(seen: Seen) -> Any:
        if b"initialize" in seen.body:
            return reply(result(), more="Mcp-Session-Id: up-1\r\n")
        return [stream(), event(SAMPLE), DONE] if b"tools/call" in seen.body else [b"nonsense"]

    async with serve(tmp_path, McpServer(answer)) as one:
        got = await one.ask("POST", "/mcp", call(), await session_of(one))
        assert b"done" in got.body and b"sampling" not in got.body
    assert "could not be told" in one.log.getvalue()


async def test_c16_a_request_is_recorded_before_the_agent_has_it(tmp_path: Path) -> None:
    hold = asyncio.Event()
    talk = McpServer(lambda _: [stream(), event(ROOTS), hold, DONE])
    body = json.dumps(call()).encode()
    async with serve(tmp_path, talk) as one:
        reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
        head = f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{one.port}\r\nContent-Type: application/json"
        writer.write(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        async with asyncio.timeout(5):
            await reader.readuntil(b"roots/list")
        recorded = by_server(tmp_path)
        hold.set()
        writer.close()
    assert [one["tool"] for one in recorded] == ["mcp/mcp:roots/list"]


OBSERVED = "default: observe\n"
ASKING = """policy: p
rules:
  - {id: looks, effect: allow, tools: mcp/look}
  - {id: asks, effect: require_approval, tools: "mcp/mcp:*"}
"""
CONDITION = """policy: p
rules:
  - {id: looks, effect: allow, tools: mcp/look}
  - {id: few, effect: allow, tools: "mcp/mcp:sampling/createMessage", when: args.maxTokens < 6}
"""


@pytest.mark.parametrize(
    ("policy", "more", "code"),
    [(POLICY, "", "default_deny"), (ASKING, "", "cannot_wait"), (CONDITION, "", None),
     (CONDITION.replace("6", "5"), "", "default_deny"), (POLICY, OBSERVED, None)],
)  # fmt: skip
async def test_c16_policies_judge_it_by_its_params(
    tmp_path: Path, policy: str, more: str, code: str | None
) -> None:
    talk = McpServer(lambda _: [stream(), event(SAMPLE), DONE])
    async with serve(tmp_path, talk, policy, more) as one:
        answer = await one.ask("POST", "/mcp", call(), ACCEPT)
    assert (event(SAMPLE) in answer.body) is (code is None)
    (judged,) = by_server(tmp_path)
    assert judged["outcome"] == code


MASKING = (
    POLICY
    + """  - {id: asks, effect: allow, tools: "mcp/mcp:sampling/createMessage"}
  - {id: masks, tools: "mcp/mcp:*", obligations: {redact: {request: [card_number]}}}
"""
)


async def test_c16_what_rules_mask_of_it_the_agent_does_not_see(tmp_path: Path) -> None:
    card = "4111 1111 1111 1111"
    asked = asks("sampling/createMessage", 5, messages=[f"charge {card}"])
    talk = McpServer(lambda _: [stream(), event(asked), DONE])
    async with serve(tmp_path, talk, MASKING) as one:
        answer = await one.ask("POST", "/mcp", call(), ACCEPT)
    assert card.encode() not in answer.body and b"charge ***" in answer.body
    assert card not in repr(receipts(tmp_path))


async def test_c16_a_request_in_place_of_an_answer_is_kept_back(tmp_path: Path) -> None:
    async with serve(tmp_path, McpServer(lambda _: reply(ROOTS))) as one:
        answer = await one.ask("POST", "/mcp", call(), ACCEPT)
    assert answer.json["error"]["data"]["code"] == "answer_unchecked"


# -- input requests of 2026-07-28 ----------------------------------------------------------------

ELICIT = {"method": "elicitation/create", "params": {"message": "your password?"}}
LIST = {"method": "roots/list", "params": {}}


def answers(said: Mapping[str, Any], how: str) -> McpServer:
    """A server that answers so: as JSON, as one event of a small answer, or of a stream."""
    if how == "json":
        return McpServer(lambda _: reply(said))
    if how == "events":
        return McpServer(lambda _: reply(event(said), "text/event-stream"))
    return McpServer(lambda _: [stream(), b": hello\n\n", event(said, b"event: message\n")])


def said_of(answer: Answer) -> Any:
    if answer.headers["content-type"] == "application/json":
        return answer.json
    lines = [line for line in answer.body.split(b"\n") if line[:6] == b"data: "]
    (line,) = lines
    return json.loads(line[6:])


@pytest.mark.parametrize("how", ["json", "events", "stream"])
async def test_c16_an_answer_that_asks_what_is_refused_is_answered_with_the_refusal(
    tmp_path: Path, how: str
) -> None:
    talk = answers(input_required(a=LIST, b=ELICIT), how)
    async with serve(tmp_path, talk) as one:
        answer = await one.ask("POST", "/mcp", call(), MODERN)
    assert (answer.status, answer.is_whole) == (200, True)
    assert b"password" not in answer.body
    refusal = said_of(answer)["result"]
    assert refusal["isError"] is True and refusal["resultType"] == "complete"
    assert "input_refused" in refusal["content"][0]["text"]
    assert "mcp/mcp:elicitation/create" in refusal["content"][0]["text"]
    call_id = answer.headers["aegis-call-id"]
    assert ends(tmp_path, call_id) == ["withheld"]
    listed, denied = by_server(tmp_path)
    assert (listed["tool"], ends(tmp_path, listed["call_id"])) == (
        "mcp/mcp:roots/list",
        ["withheld"],
    )
    assert (denied["kind"], denied["tool"]) == ("refusal", "mcp/mcp:elicitation/create")
    assert denied["facts"]["mcp"]["within"] == call_id


@pytest.mark.parametrize("how", ["json", "events", "stream"])
async def test_c16_an_answer_that_asks_what_is_allowed_passes_byte_for_byte(
    tmp_path: Path, how: str
) -> None:
    said = input_required(a=LIST, b=LIST)
    async with serve(tmp_path, answers(said, how)) as one:
        answer = await one.ask("POST", "/mcp", call(), MODERN)
    assert json.dumps(said).encode() in answer.body
    assert [one["kind"] for one in by_server(tmp_path)] == ["intent", "intent"]
    ended = {end for one in by_server(tmp_path) for end in ends(tmp_path, one["call_id"])}
    assert ended == {"completed"}


async def test_c16_an_answer_that_is_repeated_on_the_sessions_stream_is_refused_there(
    tmp_path: Path,
) -> None:
    """The caller of then reads the refusal under his id; the stream goes on."""
    asks_much = {**input_required(b=ELICIT), "id": "of-then"}
    talk = in_session([stream(), event(asks_much, b"id: 1\n"), DONE])
    async with serve(tmp_path, talk) as one:
        answer = await one.ask("GET", "/mcp", None, await session_of(one))
    assert answer.is_whole and b"password" not in answer.body
    lines = [line for line in answer.body.split(b"\n") if line[:6] == b"data: "]
    refusal, done = (json.loads(line[6:]) for line in lines)
    assert (refusal["id"], refusal["error"]["data"]["code"]) == ("of-then", "input_refused")
    assert done == result("done")
    assert ends(tmp_path, answer.headers["aegis-call-id"]) == ["withheld"]


async def test_c16_a_refused_prompt_is_a_json_rpc_error(tmp_path: Path) -> None:
    get = {"jsonrpc": "2.0", "id": 1, "method": "prompts/get", "params": {"name": "p"}}
    headers = {**MODERN, "Mcp-Method": "prompts/get", "Mcp-Name": "p"}
    async with serve(tmp_path, answers(input_required(b=ELICIT), "json")) as one:
        answer = await one.ask("POST", "/mcp", get, headers)
    assert (answer.status, answer.json["id"]) == (200, 1)
    assert answer.json["error"]["data"]["code"] == "input_refused"


async def test_c16_addresses_that_an_error_asks_to_open_are_judged(tmp_path: Path) -> None:
    data = {"elicitations": [{"mode": "url", "url": "https://evil.example", "message": "log in"}]}
    error = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32042, "message": "x", "data": data}}
    async with serve(tmp_path, answers(error, "json")) as one:
        answer = await one.ask("POST", "/mcp", call(), ACCEPT)
    assert b"evil" not in answer.body and b"input_refused" in answer.body


# -- rounds linked in the record -------------------------------------------------------------------


def rounds() -> McpServer:
    def answer(seen: Seen) -> bytes:
        state = seen.json["params"].get("requestState")
        return reply(result("done") if state else input_required("state-of-round-1", a=LIST))

    return McpServer(answer)


async def test_c16_a_retry_is_linked_to_the_call_it_continues_over_a_restart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    talk = rounds()
    again = call(requestState="state-of-round-1", inputResponses={"a": {"roots": []}})
    async with serve(tmp_path, talk) as one:
        first = await one.ask("POST", "/mcp", call(), MODERN)
        plain = await one.ask("POST", "/mcp", call(), MODERN)  # a further call, answered alike
    async with serve(tmp_path, talk) as one:
        retry = await one.ask("POST", "/mcp", again, MODERN)
        odd = await one.ask("POST", "/mcp", call(requestState="made up"), MODERN)
    assert talk.seen[2].json["params"]["requestState"] == "state-of-round-1", "untouched"
    digest = state_digest("state-of-round-1")
    found = receipts(tmp_path)
    assert "state-of-round-1" not in repr([one["facts"] for one in found])

    def facts(answer: Answer, kind: str) -> dict[str, Any]:
        call_id = answer.headers["aegis-call-id"]
        (one,) = [x for x in found if x["call_id"] == call_id and x["kind"] == kind]
        return dict(one["facts"])

    assert facts(first, "outcome") == facts(plain, "outcome") == {"mcp": {"request_state": digest}}
    assert facts(retry, "intent")["mcp"] == {"continues": digest}
    assert "mcp" not in facts(first, "intent") and not facts(retry, "outcome")
    shown = await explained(tmp_path, retry, capsys)
    assert shown["continues"] == digest
    assert shown["continues_call"] == plain.headers["aegis-call-id"], "the last one of them"
    assert (await explained(tmp_path, odd, capsys))["continues_call"] is None
    text = ["policy", "explain", "--id", retry.headers["aegis-call-id"]]
    await asyncio.to_thread(main, [*text, "--config", str(tmp_path / "sidecar.yaml")])
    said = capsys.readouterr().out
    assert f"continues call {plain.headers['aegis-call-id']}, by the request state" in said


async def explained(
    folder: Path, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> dict[str, Any]:
    """What `policy explain --json` has recorded of a call."""
    call_id = answer.headers["aegis-call-id"]
    arguments = ["policy", "explain", "--id", call_id, "--json"]
    arguments += ["--config", str(folder / "sidecar.yaml")]
    assert await asyncio.to_thread(main, arguments) == 0
    return dict(json.loads(capsys.readouterr().out)["recorded"])


async def test_c16_explain_says_where_a_server_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    talk = McpServer(lambda _: [stream(), event(SAMPLE), DONE])
    async with serve(tmp_path, talk) as one:
        answer = await one.ask("POST", "/mcp", call(), ACCEPT)
    (denied,) = by_server(tmp_path)
    config = str(tmp_path / "sidecar.yaml")
    arguments = ["policy", "explain", "--id", denied["call_id"], "--config", config]
    assert await asyncio.to_thread(main, arguments) == 0
    said = capsys.readouterr().out
    assert f"asked by the server, in the answer to call {answer.headers['aegis-call-id']}" in said


def test_codes_of_what_servers_ask_are_stable() -> None:
    codes = {"cannot_wait": 403, "session_unknown": 404, "event_unknown": 400, "input_refused": 403,
             "answer_unchecked": 502}  # fmt: skip
    assert {code: REFUSALS[code].status for code in codes} == codes


async def test_c16_an_allow_rule_of_all_tools_lets_no_server_ask(tmp_path: Path) -> None:
    """`*` of an allow rule covers no `mcp:…`: what may be asked of the agent must be named."""
    everything = 'policy: p\nrules:\n  - {id: all, effect: allow, tools: "*"}\n'
    talk = McpServer(lambda _: [stream(), event(SAMPLE), DONE])
    async with serve(tmp_path, talk, everything) as one:
        answer = await one.ask("POST", "/mcp", call(), ACCEPT)
    assert b"done" in answer.body and b"sampling" not in answer.body
