"""C8: an answer that nobody asked for is no way to tell a server anything; over HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from proxy_mcp_setup import ACCEPT, CATALOGUES, McpServer, Seen, asks, call, event, reply, stream
from proxy_mcp_setup import result as answer_of
from proxy_whole_setup import Whole, receipts, whole
from test_proxy_mcp_sessions import INITIALIZE

from sidecar.model import Principal
from sidecar.proxy.asked_ids import ASKED_MAX, AskedIds
from sidecar.proxy.dialects.mcp_message import ID_LENGTH_MAX

POLICY = """policy: p
rules:
  - {id: all, effect: allow, tools: [mcp/look, "mcp/mcp:roots/list"]}
  - {id: no-error, effect: deny, tools: "mcp/mcp:response", when: "'error' in args"}
"""
LONG = "x" * (ID_LENGTH_MAX + 1)


def roots(asked: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": asked, "result": {"roots": [{"uri": "file:///w"}]}}


def pong(asked: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": asked, "result": {}}


class Server:
    """Gives sessions; on the next stream it asks what stands in `questions`, once."""

    def __init__(self, *questions: Any) -> None:
        self.questions = list(questions)
        self.given = 0
        self.talk = McpServer(self.answer)

    def answer(self, seen: Seen) -> Any:
        method = seen.json.get("method") if seen.body else seen.method
        if method == "initialize":
            self.given += 1
            return reply(answer_of("hello"), more=f"Mcp-Session-Id: up-{self.given}\r\n")
        if method in ("tools/call", "GET"):
            said, self.questions = [event(one) for one in self.questions], []
            return [stream(), *said, *([event(answer_of())] if method != "GET" else [])]
        return reply(b"", status=202)

    @property
    def heard(self) -> list[Any]:
        """The answers that reached it."""
        bodies = [seen.json for seen in self.talk.seen if seen.body]
        return [one for one in bodies if "method" not in one]


def serve(folder: Path, server: Server, more: str = "") -> Any:
    return whole(folder, server.talk, {**CATALOGUES, "p.yaml": POLICY}, more)


async def session_of(one: Whole) -> dict[str, str]:
    got = await one.ask("POST", "/mcp", INITIALIZE, ACCEPT)
    return {**ACCEPT, "Mcp-Session-Id": got.headers["mcp-session-id"]}


async def say(one: Whole, message: dict[str, Any], headers: dict[str, str] = ACCEPT) -> Any:
    """What comes of an answer: 202, or the refusal's code."""
    got = await one.ask("POST", "/mcp", message, headers)
    if got.status == 202:
        return 202
    assert got.status in (400, 403) and got.json["id"] is None
    return got.json["error"]["data"]["code"]


async def test_c8_an_answer_is_forwarded_once_for_each_question_and_no_other_is(
    tmp_path: Path,
) -> None:
    server = Server(asks("roots/list", 7), asks("roots/list", "a"), asks("ping", "p"))
    async with serve(tmp_path, server) as one:
        headers = await session_of(one)
        for message in (roots(7), roots("a"), pong("p"), pong(0), pong("secret, in an id")):
            assert await say(one, message, headers) == "unasked_answer", "before the question"
        await one.ask("POST", "/mcp", call(), headers)
        for stranger in ("7", 8, 7.5, None, "A", "p ", -7):
            told = await say(one, roots(stranger), headers)
            assert told in ("unasked_answer", "invalid_rpc"), stranger
        for message in (roots(7), roots("a"), pong("p")):
            assert await say(one, message, headers) == 202, message
            assert await say(one, message, headers) == "unasked_answer", "once"
        assert server.heard == [roots(7), roots("a"), pong("p")]
    refused = [each for each in receipts(tmp_path) if each["kind"] == "refusal"]
    assert {each["outcome"] for each in refused} == {"unasked_answer", "invalid_rpc"}
    assert {each["decision"] for each in refused} == {"deny"}


@pytest.mark.parametrize("how", ["POST", "GET"])
async def test_c8_a_question_is_its_sessions_on_whatever_stream_it_came(
    tmp_path: Path, how: str
) -> None:
    server = Server(asks("roots/list", 7))
    async with serve(tmp_path, server) as one:
        own, other = await session_of(one), await session_of(one)
        got = await one.ask(how, "/mcp", call() if how == "POST" else None, own)
        assert b"roots/list" in got.body
        for headers in (other, ACCEPT):
            assert await say(one, roots(7), headers) == "unasked_answer"
        assert await say(one, roots(7), own) == 202


async def test_c8_without_a_session_too(tmp_path: Path) -> None:
    server = Server(asks("roots/list", 7))
    async with serve(tmp_path, server) as one:
        assert await say(one, roots(7)) == "unasked_answer"
        await one.ask("POST", "/mcp", call(), ACCEPT)
        own = await session_of(one)
        assert await say(one, roots(7), own) == "unasked_answer"
        assert await say(one, roots(7)) == 202


async def test_c8_what_a_resumed_stream_repeats_can_be_answered(tmp_path: Path) -> None:
    """Also behind a restart, which forgets what was asked before."""
    server = Server(asks("roots/list", 7))
    async with serve(tmp_path, server) as one:
        own = await session_of(one)
        await one.ask("POST", "/mcp", call(), own)
    async with serve(tmp_path, server) as one:
        assert await say(one, roots(7), own) == "unasked_answer", "it is forgotten"
        server.questions = [asks("roots/list", 7)]
        await one.ask("GET", "/mcp", None, own)
        assert await say(one, roots(7), own) == 202


async def test_c8_a_refused_answer_leaves_the_question_open(tmp_path: Path) -> None:
    server = Server(asks("roots/list", 7))
    trouble = {"jsonrpc": "2.0", "id": 7, "error": {"code": -1, "message": "stolen"}}
    async with serve(tmp_path, server) as one:
        await one.ask("POST", "/mcp", call(), ACCEPT)
        assert await say(one, trouble) == "policy_deny"
        assert await say(one, roots(7)) == 202
        assert server.heard == [roots(7)]


async def test_c8_a_refused_question_has_no_answer(tmp_path: Path) -> None:
    server = Server(asks("sampling/createMessage", 7), asks("roots/list", 8))
    async with serve(tmp_path, server) as one:
        got = await one.ask("POST", "/mcp", call(), ACCEPT)
        assert b"sampling" not in got.body
        assert await say(one, roots(7)) == "unasked_answer"
        assert await say(one, roots(8)) == 202, "positive control"


async def test_c8_two_answers_at_once_are_one(tmp_path: Path) -> None:
    server = Server(asks("roots/list", 7))
    async with serve(tmp_path, server) as one:
        await one.ask("POST", "/mcp", call(), ACCEPT)
        ends = await asyncio.gather(*(say(one, roots(7)) for _ in range(8)))
        assert sorted(map(str, ends)) == ["202"] + ["unasked_answer"] * 7
        assert len(server.heard) == 1


def caller(agent: str = "coder", tenant: str = "acme") -> Principal:
    return Principal(tenant=tenant, agent=agent)


def test_c8_whose_question_it_was() -> None:
    asked = AskedIds()
    asked.note(caller(), "mcp", "s", 1)
    for wrong in (
        (caller("other"), "mcp", "s", 1), (caller(tenant="rival"), "mcp", "s", 1),
        (caller(), "files", "s", 1), (caller(), "mcp", "", 1), (caller(), "mcp", "s", "1"),
        (caller(), "mcp", "s", None), (caller(), "mcp", "s", True),
    ):  # fmt: skip
        assert asked.take(*wrong) is None, wrong
    found = asked.take(caller(), "mcp", "s", 1)
    assert found is not None
    assert asked.take(caller(), "mcp", "s", 1) is None
    asked.give_back(found)
    assert asked.take(caller(), "mcp", "s", 1) == found


def test_c8_of_too_many_the_oldest_are_forgotten_and_nobody_elses() -> None:
    asked = AskedIds()
    asked.note(caller(), "files", "s", 0)
    for number in range(ASKED_MAX + 1):
        asked.note(caller(), "mcp", "s", number)
    assert asked.take(caller(), "mcp", "s", 0) is None
    assert asked.take(caller(), "mcp", "s", 1) is not None
    assert asked.take(caller(), "mcp", "s", ASKED_MAX) is not None
    assert asked.take(caller(), "files", "s", 0) is not None
    for too_long in (LONG, 1 << 100_000):
        asked.note(caller(), "mcp", "s", too_long)
        assert asked.take(caller(), "mcp", "s", too_long) is None
    asked.note(caller(), "mcp", "s", LONG[1:])
    assert asked.take(caller(), "mcp", "s", LONG[1:]) is not None, "positive control"
