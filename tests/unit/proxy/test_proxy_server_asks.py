"""What servers ask: of the agent as it stands by now, in whatever message, by whatever spelling."""

from __future__ import annotations

import asyncio
import json
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
    reply,
    stream,
)  # fmt: skip
from proxy_mcp_setup import result as answer_of
from proxy_whole_setup import receipts, whole
from test_proxy_mcp_sessions import called, initialized

from sidecar.errors import Refused
from sidecar.identity.containment_words import read_wanted
from sidecar.proxy.dialects.mcp_said import read_server_message

ALLOW_ALL = "policy: p\nrules:\n  - {id: all, effect: allow, tools: [mcp/*, 'mcp/mcp:*']}\n"
DENY_QUESTIONS = "  - {id: no, effect: deny, tools: ['mcp/mcp:elicitation/create']}\n"


async def test_c16_who_is_contained_no_more_is_asked_again_on_the_stream_he_has(
    tmp_path: Path,
) -> None:
    go = asyncio.Event()
    roots = event(asks("roots/list", 91))

    def answer(seen: Seen) -> Any:
        if seen.method == "GET":
            return [stream(), b": here\n\n", go, roots]
        if seen.json["method"] == "initialize":
            return reply(answer_of("hello"), more="Mcp-Session-Id: up-1\r\n")
        if seen.json["method"] == "tools/call":
            return [stream(), roots, event(answer_of())]
        return reply(b"", status=202)

    talk = McpServer(answer)
    async with whole(tmp_path, talk, {**CATALOGUES, "p.yaml": POLICY}) as one:
        containing = one.sidecar.callers.containing
        wanted = read_wanted(
            "default", "block-tool", "mcp/mcp:roots/list", "agent", actor="t", reason="t"
        )
        contained = await containing.contain(wanted)
        session = await initialized(one)
        listening = asyncio.create_task(called(one, session, "GET"))
        async with asyncio.timeout(5):
            while not any(seen.method == "GET" for seen in talk.seen):
                await asyncio.sleep(0.01)
        await containing.undo("default", contained.row.containment_id, actor="t")
        beside = await called(one, session)
        assert b"roots/list" in beside.body, "control: it is contained no more"
        go.set()
        heard = await listening
    assert b"roots/list" in heard.body, [r["outcome"] for r in receipts(tmp_path)]


@pytest.mark.parametrize("length", [256, 257])
@pytest.mark.parametrize("method", ["roots/list", "ping"])
async def test_c16_a_question_that_nobody_could_answer_is_not_asked(
    tmp_path: Path, method: str, length: int
) -> None:
    """Under such an id the agent's answer is refused: the server would wait for it."""
    asked = "q" * length

    def answer(seen: Seen) -> Any:
        if seen.json.get("method") == "initialize":
            return reply(answer_of("hello"), more="Mcp-Session-Id: up-1\r\n")
        if seen.json.get("method") == "tools/call":
            return [stream(), event(asks(method, asked)), event(answer_of("done"))]
        return reply(b"", status=202)

    talk = McpServer(answer)
    said = {"jsonrpc": "2.0", "id": asked, "result": {"roots": []}}
    async with whole(tmp_path, talk, {**CATALOGUES, "p.yaml": ALLOW_ALL}) as one:
        session = await initialized(one)
        heard = await called(one, session)
        told = await one.ask("POST", "/mcp", said, {**ACCEPT, "Mcp-Session-Id": session})
    assert b"done" in heard.body, "the call goes on"
    assert (asked.encode() in heard.body) is (told.status == 202) is (length == 256)
    answers = [seen.json for seen in talk.seen if seen.json.get("id") == asked]
    if length == 256:
        assert answers == [said], "control"
        return
    assert [one["error"]["data"]["code"] for one in answers] == ["invalid_rpc"]
    refused = [(row["action"], row["outcome"]) for row in receipts(tmp_path)]
    assert (method, "invalid_rpc") in refused


@pytest.mark.parametrize("how", ["a request", "a result", "a notification"])
async def test_c16_a_question_is_judged_by_itself_wherever_it_stands(
    tmp_path: Path, how: str
) -> None:
    question = {"method": "elicitation/create", "params": {"message": "your password?"}}
    wanted = {"inputRequests": {"a": question}}
    told: dict[str, Any] = {"jsonrpc": "2.0", "id": 9, **question}
    if how == "a result":
        told = {"jsonrpc": "2.0", "id": 1, "result": {"resultType": "input_required", **wanted}}
    elif how == "a notification":  # SEP-2663
        params = {"taskId": "t", "status": "input_required", **wanted}
        told = {"jsonrpc": "2.0", "method": "notifications/tasks", "params": params}
    talk = McpServer(lambda _: [stream(), event(told), event(answer_of())])
    for rules, reaches in ((ALLOW_ALL, True), (ALLOW_ALL + DENY_QUESTIONS, False)):
        async with whole(tmp_path, talk, {**CATALOGUES, "p.yaml": rules}) as one:
            answer = await one.ask("POST", "/mcp", call(), ACCEPT)
            intents = await one.metric("aegis_intents_total")
            forwarded = await one.metric("aegis_forwarded_total")
        assert (b"password" in answer.body) is reaches, answer.body
        # What an alert compares: no intent stays that could hide a call without a record.
        assert intents == forwarded == {"": 1.0 + reaches}


@pytest.mark.parametrize("name", ["inputReque\u017fts", "InputReque\u017ft\u017f"])
def test_c1_a_letter_that_some_readers_fold_is_no_way_past(name: str) -> None:
    text = json.dumps(
        {
            "jsonrpc": "2.0",
            "id": 1,
            "result": {"resultType": "input_required", name: {"a": {"method": "roots/list"}}},
        },
        ensure_ascii=False,
    )
    with pytest.raises(Refused):
        read_server_message(text.encode(), 250_000)


@pytest.mark.parametrize(
    "error",
    [
        {"Code": -32042, "message": "", "data": {"elicitations": [{"mode": "url"}]}},
        {"code": -32042, "message": "", "data": {"Elicitations": [{"mode": "url"}]}},
    ],
)
def test_c1_an_error_s_members_have_one_spelling(error: dict[str, Any]) -> None:
    text = json.dumps({"jsonrpc": "2.0", "id": 1, "error": error})
    with pytest.raises(Refused):
        read_server_message(text.encode(), 250_000)
    plain = {"code": -32603, "message": "no", "data": {"More": 1}}
    said = read_server_message(
        json.dumps({"jsonrpc": "2.0", "id": 1, "error": plain}).encode(), 250_000
    )
    assert said.requests == (), "positive control"
