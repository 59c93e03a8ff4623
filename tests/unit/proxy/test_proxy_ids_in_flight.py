"""C7: of the requests of one MCP session that are not answered yet no two have one id, over HTTP,
and an id is free again however its request ended; through a whole sidecar."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from proxy_approvals_setup import ANA, TENANT, asking, pending
from proxy_mcp_setup import (
    ACCEPT,
    CATALOGUES,
    POLICY,
    McpServer,
    Seen,
    call,
    event,
    input_required,
    reply,
    result,
    stream,
)
from proxy_whole_setup import Answer, Whole, receipts, whole
from proxy_wire_setup import until
from test_proxy_approvals import given_to_agent
from test_proxy_mcp_sessions import initialized

REASON = "The id is that of a request which is not answered yet"


class Slow(McpServer):
    """Gives sessions, and answers each call as soon as it may."""

    def __init__(self, begun: tuple[bytes, ...] = ()) -> None:
        super().__init__(self._made)
        self.may_answer = asyncio.Event()
        self._begun = begun
        self._given = 0

    def _made(self, seen: Seen) -> Any:
        if b"initialize" in seen.body:
            self._given += 1
            return reply(result("hello"), more=f"Mcp-Session-Id: up-{self._given}\r\n")
        if b"tools/call" not in seen.body:
            return reply(b"", status=202)
        answer = {**result("done"), "id": seen.json["id"]}
        return [*(self._begun or (stream(),)), self.may_answer, event(answer)]

    @property
    def calls(self) -> int:
        return sum(b"tools/call" in seen.body for seen in self.seen)


def serve(folder: Path, talk: McpServer, more: str = "") -> Any:
    return whole(folder, talk, {**CATALOGUES, "p.yaml": POLICY}, more)


async def called(
    one: Whole, session: str | None, reply_id: int | str = 1, name: str = "look", **params: Any
) -> Answer:
    headers = ACCEPT if session is None else {**ACCEPT, "Mcp-Session-Id": session}
    return await one.ask("POST", "/mcp", {**call(name, **params), "id": reply_id}, headers)


def is_refused(answer: Answer) -> bool:
    """Refused as one whose id is in flight: under no id, or the first one would be answered."""
    if answer.status != 400:
        return False
    said = answer.json
    assert said["id"] is None and said["error"]["code"] == -32600
    assert said["error"]["data"]["code"] == "invalid_rpc" and REASON in said["error"]["message"]
    return True


async def test_c7_an_id_in_flight_is_refused_on_record_and_the_first_is_answered(
    tmp_path: Path,
) -> None:
    talk = Slow()
    async with serve(tmp_path, talk) as one:
        session = await initialized(one)
        first = asyncio.create_task(called(one, session))
        await until(lambda: talk.calls == 1)
        for _ in range(3):
            assert is_refused(await called(one, session))
        assert talk.calls == 1, "it reached nobody"
        talk.may_answer.set()
        assert b"done" in (await first).body
        assert b"done" in (await called(one, session)).body, "answered, so the id is free"
    refused = [each for each in receipts(tmp_path) if each["kind"] == "refusal"]
    assert [(each["outcome"], each["tool"]) for each in refused] == [
        ("invalid_rpc", "mcp/look")
    ] * 3


async def test_c7_another_id_session_or_none_is_another_request(tmp_path: Path) -> None:
    talk = Slow()
    async with serve(tmp_path, talk) as one:
        session, other = await initialized(one), await initialized(one)
        assert session != other
        asked: list[tuple[str | None, int | str]] = [
            (session, 1), (session, "1"), (session, 2), (other, 1), (None, 1), (None, 1),
        ]  # fmt: skip
        tasks = [asyncio.create_task(called(one, *each)) for each in asked]
        await until(lambda: talk.calls == len(asked))
        talk.may_answer.set()
        assert all(b"done" in answer.body for answer in await asyncio.gather(*tasks))


async def test_c7_an_answer_frees_the_id_before_its_stream_ends(tmp_path: Path) -> None:
    """A client sends on when it has its answer, and counts its ids as it likes."""
    ends = asyncio.Event()

    def made(seen: Seen) -> Any:
        if b"initialize" in seen.body:
            return reply(result("hello"), more="Mcp-Session-Id: up-1\r\n")
        return [stream(), event(result("done")), ends]

    async with serve(tmp_path, McpServer(made)) as one:
        headers = {**ACCEPT, "Mcp-Session-Id": await initialized(one)}
        asked = []
        for _ in range(3):
            asked.append(asyncio.create_task(one.ask("POST", "/mcp", call(), headers)))
            await asyncio.sleep(0.2)
            assert not asked[-1].done(), "it was not refused, and its stream goes on"
        ends.set()
        assert all(b"done" in answer.body for answer in await asyncio.gather(*asked))


async def left(one: Whole, session: str, talk: Slow) -> None:
    """A client that goes away in the middle of its call."""
    before = talk.calls
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"look"}}'
    reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
    head = (
        f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{one.port}\r\nContent-Type: application/json\r\n"
        f"Accept: {ACCEPT['Accept']}\r\nMcp-Session-Id: {session}\r\nContent-Length: {len(body)}"
    )
    writer.write(head.encode() + b"\r\n\r\n" + body)
    await until(lambda: talk.calls == before + 1)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    await asyncio.sleep(0.2)
    assert reader is not None


async def test_c7_c17_an_id_is_free_when_its_client_left(tmp_path: Path) -> None:
    talk = Slow()
    async with serve(tmp_path, talk) as one:
        session = await initialized(one)
        await left(one, session, talk)
        talk.may_answer.set()
        assert b"done" in (await called(one, session)).body


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("drop", lambda _: reply(result("done"))),
        ("look", lambda _: reply(b"broken", status=500, media="text/plain")),
        ("look", lambda _: b"nonsense\r\n\r\n"),
        ("look", lambda _: [stream(), b"no line of an event\n\n"]),
        ("look", lambda _: reply(result("done"))),
        ("look", lambda _: reply(input_required())),
    ],
    ids=["refused", "an error", "nonsense", "a broken stream", "whole", "asks for more"],
)
async def test_c7_an_id_is_free_however_its_request_ended(
    tmp_path: Path, name: str, answer: Callable[[Seen], Any]
) -> None:
    def made(seen: Seen) -> Any:
        if b"initialize" in seen.body:
            return reply(result("hello"), more="Mcp-Session-Id: up-1\r\n")
        return answer(seen)

    async with serve(tmp_path, McpServer(made)) as one:
        session = await initialized(one)
        for _ in range(3):
            assert not is_refused(await called(one, session, name=name))


async def test_c7_e8_a_held_call_keeps_its_id_is_judged_again_and_can_be_taken_back(
    tmp_path: Path,
) -> None:
    async with asking(tmp_path) as one:
        session = given_to_agent(tmp_path, "s1")
        first = asyncio.create_task(called(one, session, name="send"))
        row = await pending(one)
        assert is_refused(await called(one, session, name="drop")), "the first one is held"
        await one.sidecar.approvals.deciding.approve(TENANT, row.approval_id, ANA)
        assert (await first).status == 200, "its own id is no hindrance after the yes"
        taken = asyncio.create_task(called(one, session, name="send", arguments={"n": 2}))
        row = await pending(one)
        assert is_refused(await called(one, session, name="drop"))
        await asyncio.sleep(0.1)
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
        await one.ask("POST", "/mcp", cancel, {**ACCEPT, "Mcp-Session-Id": session})
        await one.sidecar.approvals.deciding.approve(TENANT, row.approval_id, ANA)
        await taken
        assert (await called(one, session)).status == 200, "and its id is free"
    ends = [(each["kind"], each["outcome"]) for each in receipts(tmp_path)]
    assert ends.count(("refusal", "invalid_rpc")) == 2
    assert ends.count(("refusal", "approval_pending")) == 1, "of the one that was taken back"
