"""Sessions and places in streams belong to whom the server gave them, through a whole sidecar."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from proxy_mcp_setup import ACCEPT, CATALOGUES, POLICY, McpServer, Seen, call, event, reply, stream
from proxy_mcp_setup import result as answer_of
from proxy_whole_setup import Answer, Whole, receipts, whole

from sidecar.model import Principal
from sidecar.proxy.bindings import Bindings

INITIALIZE = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t"}},
}  # fmt: skip
OTHER_AGENT = "tenants: {default: {agents: {other: {}}}}\n"
OTHER_TENANT = "tenants: {rival: {agents: {agent: {}}}}\n"


def server() -> McpServer:
    """A server of 2025-11-25: it gives sessions, keeps them by name and ends them."""
    living: set[str] = set()

    def answer(seen: Seen) -> Any:
        if seen.method == "POST" and seen.json["method"] == "initialize":
            name = f"up-{len(living) + 1}"
            living.add(name)
            return reply(answer_of("hello"), more=f"Mcp-Session-Id: {name}\r\n")
        session = seen.headers.get("mcp-session-id", "")
        if session not in living:
            return reply({"error": "no such session"}, status=404)
        if seen.method == "DELETE":
            return reply(b"", status=200)
        if seen.method == "GET":
            place = seen.headers.get("last-event-id", "0")
            first = event(answer_of("resumed"), b": keep-alive\nid: %d\n" % (int(place) + 1))
            return [stream(), b"retry: 300\n\n", first]
        return [stream(), event(answer_of("done"), b"event: message\nid: 7\n")]

    return McpServer(answer)


async def initialized(one: Whole) -> str:
    """The id of a new session, as the agent gets it."""
    answer = await one.ask("POST", "/mcp", INITIALIZE, ACCEPT)
    assert answer.status == 200, answer.body
    return answer.headers["mcp-session-id"]


async def called(one: Whole, session: str, method: str = "POST", **more: str) -> Answer:
    body = call() if method == "POST" else None
    return await one.ask(method, "/mcp", body, {**ACCEPT, "Mcp-Session-Id": session, **more})


def serve(folder: Path, talk: McpServer, more: str = "") -> Any:
    return whole(folder, talk, {**CATALOGUES, "p.yaml": POLICY}, more)


async def test_c13_the_server_sees_its_own_session_and_the_agent_a_bound_one(
    tmp_path: Path,
) -> None:
    talk = server()
    async with serve(tmp_path, talk) as one:
        session = await initialized(one)
        assert re.fullmatch(r"up-1\.[\w-]{22}", session)
        answer = await called(one, session)
        assert (answer.status, b"done" in answer.body) == (200, True)
    assert [seen.headers.get("mcp-session-id") for seen in talk.seen] == [None, "up-1"]


async def test_c13_foreign_and_guessed_sessions_are_404_on_record_and_reach_nobody(
    tmp_path: Path,
) -> None:
    talk = server()
    async with serve(tmp_path, talk) as one:
        session = await initialized(one)
        tag = session.partition(".")[2]
        wrong = ["up-1", "up-2." + tag, session[:-1], session + "A", "x" * 3000, tag, "up-1."]
        for given in wrong:
            for method in ("POST", "GET", "DELETE"):
                answer = await called(one, given, method)
                assert answer.status == 404, (given, method)
                assert answer.json["error"]["data"]["code"] == "session_unknown"
                assert tag not in answer.body.decode()
        assert (await called(one, session)).status == 200, "positive control"
    assert len(talk.seen) == 2, "nothing of them reached the server"
    found = receipts(tmp_path)
    refused = [each for each in found if each["kind"] == "refusal"]
    assert len(refused) == len(wrong) * 3
    assert {each["outcome"] for each in refused} == {"session_unknown"}
    assert {each["tool"] for each in refused} == {"mcp/look", "mcp/mcp:stream",
                                                  "mcp/mcp:session-end"}  # fmt: skip
    assert tag not in repr(found) and "up-1" not in repr(found), "a session works like a credential"


@pytest.mark.parametrize("more", [OTHER_AGENT, OTHER_TENANT])
async def test_c13_of_another_agent_or_tenant_a_session_is_unknown_and_it_outlives_a_restart(
    tmp_path: Path, more: str
) -> None:
    talk = server()
    async with serve(tmp_path, talk) as one:
        session = await initialized(one)
    async with serve(tmp_path, talk) as one:
        assert (await called(one, session)).status == 200, "the same agent, after a restart"
    async with serve(tmp_path, talk, more) as one:
        assert (await called(one, session)).status == 404
        mine = await initialized(one)
        assert (await called(one, mine)).status == 200, "positive control: its own"
    sessions = [seen.headers.get("mcp-session-id") for seen in talk.seen]
    assert sessions == [None, "up-1", None, "up-2"]


async def test_c13_after_its_end_a_session_is_unknown(tmp_path: Path) -> None:
    talk = server()  # it forgets to end sessions: what is ended here stays so here
    async with serve(tmp_path, talk) as one:
        session, other = await initialized(one), await initialized(one)
        assert (await called(one, session, "DELETE")).status == 200
        answer = await called(one, session)
        assert (answer.status, answer.json["error"]["data"]["code"]) == (404, "session_unknown")
        assert (await called(one, other)).status == 200, "positive control"
    assert sum(seen.method == "POST" for seen in talk.seen) == 3


async def test_c13_a_session_that_its_server_begins_anew_under_the_same_id_is_one_again(
    tmp_path: Path,
) -> None:
    """Some servers have one id for each client, or for all."""

    def answer(seen: Seen) -> Any:
        begins = seen.method == "POST" and seen.json["method"] == "initialize"
        # While the session lives too, as some name it in every answer.
        more = "Mcp-Session-Id: only\r\n" if begins or "mcp-session-id" in seen.headers else ""
        return reply(answer_of("done"), more=more)

    async with serve(tmp_path, McpServer(answer)) as one:
        session = await initialized(one)
        assert (await called(one, session, "DELETE")).status == 200
        assert (await called(one, session)).status == 404, "positive control"
        assert await initialized(one) == session
        assert (await called(one, session)).status == 200
        assert (await called(one, session, "DELETE")).status == 200
        assert (await called(one, session)).status == 404


@pytest.mark.parametrize("given", ["a b", "\x80", "é", "a" * 2000, "a\r\nMcp-Session-Id: b"])
async def test_c13_a_server_that_gives_out_no_session_id_is_not_believed(
    tmp_path: Path, given: str
) -> None:
    talk = McpServer(lambda _: reply(answer_of(), more=f"Mcp-Session-Id: {given}\r\n"))
    async with serve(tmp_path, talk) as one:
        answer = await one.ask("POST", "/mcp", INITIALIZE, ACCEPT)
    assert answer.status == 502 and "mcp-session-id" not in answer.headers


# -- places in a stream --------------------------------------------------------------------------


def ids(body: bytes) -> list[str]:
    return [one.decode() for one in re.findall(rb"^id: (.*)$", body, re.MULTILINE)]


async def test_c14_a_stream_is_resumed_by_its_owner_where_he_was(tmp_path: Path) -> None:
    talk = server()
    async with serve(tmp_path, talk) as one:
        session = await initialized(one)
        answer = await called(one, session)
        (place,) = ids(answer.body)
        assert re.fullmatch(r"7\.[\w-]{22}", place)
        plain = answer.body.replace(place.encode(), b"7")
        assert plain == event(answer_of("done"), b"event: message\nid: 7\n"), "no other byte"
        resumed = await called(one, session, "GET", **{"Last-Event-ID": place})
        assert resumed.body.startswith(b"retry: 300\n\n: keep-alive\nid: 8.")
        (following,) = ids(resumed.body)
    async with serve(tmp_path, talk) as one:
        again = await called(one, session, "GET", **{"Last-Event-ID": following})
        assert b"resumed" in again.body, "after a restart"
    places = [seen.headers.get("last-event-id") for seen in talk.seen]
    assert places == [None, None, "7", "8"]


async def test_c14_places_of_others_and_garbage_are_400_and_reach_nobody(tmp_path: Path) -> None:
    talk = server()
    async with serve(tmp_path, talk) as one:
        session, other = await initialized(one), await initialized(one)
        (place,) = ids((await called(one, session)).body)
        reached = len(talk.seen)
        for given in ("7", "0", place[:-1], "8" + place[1:], "x" * 4000, "*", session):
            answer = await called(one, session, "GET", **{"Last-Event-ID": given})
            assert (answer.status, answer.json["error"]["data"]["code"]) == (400, "event_unknown")
        foreign = await called(one, other, "GET", **{"Last-Event-ID": place})
        assert foreign.status == 400, "of another session of the same agent"
        assert len(talk.seen) == reached
        fine = await called(one, session, "GET", **{"Last-Event-ID": place})
        assert fine.status == 200, "positive control"
    async with serve(tmp_path, talk, OTHER_AGENT) as one:
        foreign = await called(one, await initialized(one), "GET", **{"Last-Event-ID": place})
        assert foreign.status == 400, "of another agent"
    refused = [each["outcome"] for each in receipts(tmp_path) if each["kind"] == "refusal"]
    assert refused == ["event_unknown"] * 9


async def test_c14_without_ids_a_stream_is_untouched(tmp_path: Path) -> None:
    body = b"\xef\xbb\xbf: hello\r\n\r\nid\nid:\nretry: 5\r" + event(
        answer_of(), b"event: message\n"
    )
    talk = McpServer(lambda _: [stream(), body])
    async with serve(tmp_path, talk) as one:
        answer = await one.ask("POST", "/mcp", call(), ACCEPT)
    assert (answer.body, answer.is_whole) == (body, True)


def test_c13_a_tag_costs_microseconds() -> None:
    bindings, ana = Bindings(bytes(32)), Principal("acme", "ana")
    session = "0f3c0a3c-86a1-44a5-a4c3-0d0a3a1f4a9d"
    tagged = bindings.session_out(ana, "files", session)
    best = 1.0
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(200):
            bindings.session_in(ana, "files", tagged)
            bindings.session_out(ana, "files", session)
        best = min(best, (time.perf_counter() - began) / 200)
    assert best < 100e-6, f"{best * 1e6:.1f} µs"
