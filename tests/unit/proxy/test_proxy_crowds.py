"""What servers send to hold everybody else up: crowds of lines, and of values."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy_mcp_setup import (
    ACCEPT,
    CATALOGUES,
    POLICY,
    McpServer,
    call,
    event,
    reply,
    stream,
)
from proxy_whole_setup import Answer, Whole, whole
from test_proxy_mcp_streams import DONE, serve

from sidecar.errors import Refused
from sidecar.policy.terms import Redaction
from sidecar.proxy.events import DATA_LINES_MAX, EventCutter, EventTooLong
from sidecar.proxy.line_turns import LINES_AT_ONCE, in_turns
from sidecar.proxy.list_cutting import ITEMS_MAX
from sidecar.proxy.list_message import LIST_VALUES_MAX, read_listing
from sidecar.proxy.masking import VALUES_MAX, NotMaskable, masked_json


async def asked(
    folder: Path, answer: list[bytes], more: str = "", method: str = "tools/call"
) -> Answer:
    talk = McpServer(lambda _: answer)
    async with serve(folder, talk, more) as one:
        body = call() if method == "tools/call" else {"jsonrpc": "2.0", "id": 1, "method": method}
        return await one.ask("POST", "/mcp", body, ACCEPT)


@pytest.mark.parametrize("line", [b"\n", b":\n", b"id: 1\n\n", b"\r", b"data: \n\n"])
async def test_c15_a_crowd_of_lines_leaves_others_their_turns(tmp_path: Path, line: bytes) -> None:
    longest_s = 0.0

    async def other() -> None:
        nonlocal longest_s
        while True:
            had_s = time.thread_time()
            await asyncio.sleep(0)
            longest_s = max(longest_s, time.thread_time() - had_s)

    lines = 300_000 // len(line)
    talk = McpServer(lambda _: [stream() + line * lines + DONE])
    async with serve(tmp_path, talk) as one:
        waiting = asyncio.create_task(other())
        answer = await one.ask("POST", "/mcp", call(), ACCEPT)
        waiting.cancel()
    assert answer.status == 200 and DONE in answer.body, "positive control"
    assert longest_s < 0.03, longest_s  # all that lay there at once takes 0.07 to 0.2 s


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"\n" * 3000, b"a\r\n" * 900])))
async def test_c15_pieces_are_the_same_bytes(chunks: list[bytes]) -> None:
    async def source() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    pieces = [piece async for piece in in_turns(source())]
    assert b"".join(pieces) == b"".join(chunks)
    assert all(piece.count(b"\n") <= 4 * LINES_AT_ONCE for piece in pieces), "too many in one"


def crowd(count: int, word: str) -> bytes:
    """The answer to the call, with so many lists in it and a word that has to be looked into."""
    lists = b",".join([b"[]"] * (count - 2))
    return b'{"jsonrpc":"2.0","id":1,"result":{"note":"%b","x":[%b]}}' % (word.encode(), lists)


@pytest.mark.parametrize("word", ["input", "tools", "plain"])
@pytest.mark.parametrize("in_stream", [False, True])
async def test_c15_an_answer_of_too_many_values_is_not_looked_into(
    tmp_path: Path, word: str, in_stream: bool
) -> None:
    def sent(body: bytes) -> list[bytes]:
        return [stream() + b"data: " + body + b"\n\n"] if in_stream else [reply(body)]

    few = crowd(2_000, word)
    answer = await asked(tmp_path, sent(few))
    assert few in answer.body, "positive control"
    many = crowd(140_000, word)
    answer = await asked(tmp_path, sent(many))
    if word == "plain":  # nobody has to look for anything in it
        assert many in answer.body
        return
    assert many not in answer.body and b"limits.message_values" in answer.body
    assert b"answer_unchecked" in answer.body
    answer = await asked(tmp_path, sent(many), "limits: {message_values: 300000}\n")
    assert many in answer.body


async def test_c15_a_list_of_too_many_values_is_refused_unread(tmp_path: Path) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"result":{"tools":[%b]}}'
    answer = await asked(tmp_path, [reply(body % b"")], method="tools/list")
    assert answer.json["result"]["tools"] == [], "positive control"
    many = body % b",".join([b"[]"] * LIST_VALUES_MAX)
    answer = await asked(tmp_path, [reply(many)], method="tools/list")
    assert answer.json["error"]["data"]["code"] == "list_unchecked"
    begun = time.process_time()
    for is_list in (False, True):
        with pytest.raises(Refused):
            read_listing(many, is_list)
    assert time.process_time() - begun < 0.05  # to read it takes 0.1 s, each time


@pytest.mark.parametrize("count", [ITEMS_MAX, ITEMS_MAX + 1])
async def test_c15_a_list_has_no_more_tools_than_anyone_has(tmp_path: Path, count: int) -> None:
    """Each is looked at by itself: 120,000, which fit into one, held everybody up for 0.2 s."""
    tools = b",".join(b'{"name":"t%d"}' % number for number in range(count - 1))
    body = b'{"jsonrpc":"2.0","id":1,"result":{"tools":[%b,{"name":"look"}]}}' % tools
    answer = await asked(tmp_path, [reply(body)], method="tools/list")
    if count > ITEMS_MAX:
        assert answer.json["error"]["data"]["code"] == "list_unchecked"
        assert f"more than {ITEMS_MAX} tools" in answer.json["error"]["message"]
    else:
        assert isinstance(answer.json["result"]["tools"], list), "control"


def test_c15_a_document_of_too_many_values_cannot_be_masked() -> None:
    redaction = Redaction(paths=(("body", "a"),), detectors=())
    lists = b",".join([b"[]"] * 1000)
    assert masked_json(b'{"a":1,"x":[%b]}' % lists, redaction).startswith(b'{"a":"***"')
    with pytest.raises(NotMaskable, match="values"):
        masked_json(b'{"a":1,"x":[%b]}' % b",".join([b"[]"] * VALUES_MAX), redaction)


def test_c15_an_event_has_no_more_lines_than_anyone_writes() -> None:
    lines = b"data: 1\n" * DATA_LINES_MAX
    (found,) = EventCutter(2**24).feed(lines + b"\n")
    assert not isinstance(found, bytes) and len(found.data) == 2 * DATA_LINES_MAX - 1
    with pytest.raises(EventTooLong, match="lines of data"):
        EventCutter(2**24).feed(lines + b"data: 1\n\n")


async def test_c15_an_event_of_too_many_lines_ends_its_stream(tmp_path: Path) -> None:
    sent: list[Any] = [stream(), b"data: \n" * (DATA_LINES_MAX + 1), b"\n", DONE]
    answer = await asked(tmp_path, sent)
    assert b"lines of data" in answer.body and b"done" not in answer.body


async def held_bytes(one: Whole) -> float:
    return sum((await one.metric("aegis_answer_bytes_held")).values())


HELD = "limits: {held: 1MiB, message: 4MiB}\n"


async def test_c15_answers_that_are_held_have_one_bound_for_all(tmp_path: Path) -> None:
    """Half of it is one upstream's: three answers of 200 kB at once are too many."""
    go = asyncio.Event()
    body = b'{"jsonrpc":"2.0","id":1,"result":{"text":"%b"}}' % (b"x" * 200_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    talk = McpServer(lambda _: [head % len(body), body[:-1], go, body[-1:]])
    async with serve(tmp_path, talk, HELD) as one:
        asking = [asyncio.create_task(one.ask("POST", "/mcp", call(), ACCEPT)) for _ in range(3)]
        done, waiting = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        (refused,) = [task.result() for task in done]
        assert refused.status == 503
        assert refused.json["error"]["data"]["code"] == "answers_full"
        assert 400_000 <= await held_bytes(one) <= 512 * 1024
        go.set()
        for task in waiting:
            assert (await task).body == body, "positive control"
        assert await held_bytes(one) == 0
        answer = await one.ask("POST", "/mcp", call(), ACCEPT)
        assert answer.body == body, "what was held is given back"
        assert await held_bytes(one) == 0


async def test_c15_a_stream_that_passes_is_not_held(tmp_path: Path) -> None:
    note = event({"jsonrpc": "2.0", "method": "notifications/message", "params": {"x": "y" * 9000}})
    sent: list[Any] = [stream(), *[note] * 300, DONE]  # 2.7 MB, of which each event is held alone
    talk = McpServer(lambda _: sent)
    async with serve(tmp_path, talk, HELD) as one:
        answer = await one.ask("POST", "/mcp", call(), ACCEPT)
        assert answer.body.count(note) == 300 and DONE in answer.body
        assert await held_bytes(one) == 0


async def test_c15_an_event_that_has_no_end_counts_as_held(tmp_path: Path) -> None:
    sent: list[Any] = [stream(), b"data: " + b"x" * 600_000, b"\n\n"]
    talk = McpServer(lambda _: sent)
    async with serve(tmp_path, talk, HELD) as one:
        answer = await one.ask("POST", "/mcp", call(), ACCEPT)
        assert answer.status == 200 and not answer.is_whole and answer.body == b""
        assert await held_bytes(one) == 0


async def test_c15_what_is_taken_out_of_a_stream_is_not_held(tmp_path: Path) -> None:
    """2.7 MB of events, of which a hundredth is left once they are masked, under a bound of 512 kB;
    then it is silent."""
    go = asyncio.Event()
    key = "sk-" + "y" * 9000
    note = event({"jsonrpc": "2.0", "method": "notifications/message", "params": {"x": key}})
    talk = McpServer(lambda _: [stream(), *[note] * 300, go, DONE])
    rule = "id: looks, effect: allow"
    masks = POLICY.replace(rule, f"{rule}, obligations: {{redact: {{response: [api_key]}}}}")
    assert masks != POLICY
    async with whole(tmp_path, talk, {**CATALOGUES, "p.yaml": masks}, HELD) as one:
        asking = asyncio.create_task(one.ask("POST", "/mcp", call(), ACCEPT))
        while not talk.seen:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
        assert await held_bytes(one) == 0
        go.set()
        answer = await asking
        assert answer.is_whole and b"yyy" not in answer.body
        assert answer.body.count(b"***") == 300, "positive control"
