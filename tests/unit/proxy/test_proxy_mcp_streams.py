"""What an MCP server answers is one message or a stream of them, exactly; else it ends (C15)."""

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
    call,
    event,
    reply,
    result,
    stream,
)
from proxy_whole_setup import Answer, receipts, whole

DONE = event(result("done"))
PROGRESS = event(
    {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"text": "größer 😀"}}
)
SMALL = "limits: {message: 64KiB}\n"


def serve(folder: Path, talk: McpServer, more: str = "") -> Any:
    return whole(folder, talk, {**CATALOGUES, "p.yaml": POLICY}, more)


async def asked(folder: Path, *answer: bytes, more: str = "", is_whole: bool = False) -> Answer:
    """What a `tools/call` gets of this answer; the pieces come one after the other, or at once."""
    talk = McpServer(lambda _: answer[0] if is_whole else answer)
    async with serve(folder, talk, more) as one:
        return await one.ask("POST", "/mcp", call(), ACCEPT)


def outcomes(folder: Path) -> list[str]:
    return [one["outcome"] for one in receipts(folder) if one["kind"] == "outcome"]


def outcome(folder: Path) -> str:
    (end,) = outcomes(folder)
    return end


MEDIA = [
    "text/event-stream-x", "text/event-streams", "xtext/event-stream", "application/jsonx",
    "application/problem+json", "text/plain", "text/html", "text/event-stream,application/json",
    "application/json; charset=utf-16", "text/event-stream; charset=latin-1", "",
]  # fmt: skip
BODIES = (DONE, json.dumps(result()).encode())


async def test_c15_only_exact_media_types_are_answers(tmp_path: Path) -> None:
    script = [reply(body, media) for media in MEDIA for body in BODIES]
    script += [
        reply(DONE, "text/event-stream", "Content-Encoding: gzip\r\n"),
        reply(result(), more="Content-Encoding: br\r\n"),
        reply(result(), more="Content-Type: text/event-stream\r\n"),
    ]
    fine = reply(result("fine"))
    talk = McpServer(
        lambda _: script[len(talk.seen) - 1] if len(talk.seen) <= len(script) else fine
    )
    async with serve(tmp_path, talk) as one:
        for case in script:
            answer = await one.ask("POST", "/mcp", call(), ACCEPT)
            assert answer.status == 502, case
            assert answer.json["error"]["data"]["code"] == "answer_unchecked"
            assert answer.json["id"] == 1 and b"done" not in answer.body
        answer = await one.ask("POST", "/mcp", call(), ACCEPT)
        assert answer.json == result("fine"), "positive control"
    assert outcomes(tmp_path) == ["withheld"] * len(script) + ["completed"]


@pytest.mark.parametrize(
    ("media", "more"),
    [("application/json", ""), ("Application/JSON; charset=UTF-8", ""),
     ("application/json;charset=\"utf-8\"", "Content-Encoding: identity\r\n")],
)  # fmt: skip
async def test_c15_an_exact_type_passes_byte_for_byte(
    tmp_path: Path, media: str, more: str
) -> None:
    body = json.dumps(result(), indent=1).encode()
    answer = await asked(tmp_path, reply(body, media, more), is_whole=True)
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, body, media)
    assert outcome(tmp_path) == "completed"


async def test_the_servers_own_errors_pass(tmp_path: Path) -> None:
    page = b"<html>gateway timeout</html>"
    answer = await asked(tmp_path, reply(page, "text/html", status=504), is_whole=True)
    assert (answer.status, answer.body) == (504, page)


#: What clients take, cut anywhere, passes byte for byte.
SOUND = [
    b": keep-alive\n\n", b"retry: 3000\r\n\r\n", PROGRESS, b"event: message\r\n",
    DONE.replace(b"\n", b"\r\n"), b":\r\r", PROGRESS.replace(b"\n", b"\r"),
    b'data: {"jsonrpc":"2.0",\ndata:"method":"notifications/x"\ndata:  }\n\n',
    b"event: note\ndata: hello, no JSON\n\n", b"data\n\ndata:\n\n", b"id\nid:\n\n", b"event\n\n",
]  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 3, 7, 4096])
async def test_c15_line_ends_split_characters_and_a_mark_pass_however_they_are_cut(
    tmp_path: Path, size: int
) -> None:
    body = b"\xef\xbb\xbf" + b"".join(SOUND)
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    answer = await asked(tmp_path, stream(), *pieces)
    assert (answer.status, answer.is_whole) == (200, True)
    assert answer.body == body
    assert outcome(tmp_path) == "completed"


INVALID = [
    ("JSON in place of events", json.dumps(result("evil")).encode() + b"\n\n"),
    ("a list", b"[]\n\n"),
    ("an unknown field", b"datas: x\n\n"),
    ("a blank before the field", b' data: {"evil":1}\n\n'),
    ("a mark in the middle", b"\xef\xbb\xbfdata: {}\n\n"),
    ("no JSON", b"data: evil\n\n"),
    ("half of JSON", b'data: {"jsonrpc":"2.0","evil":\n\n'),
    ("JSON that is no message", b'data: {"evil":1}\n\n'),
    ("not UTF-8", b'data: {"jsonrpc":"2.0","id":1,"result":"\xff evil"}\n\n'),
    ("a surrogate's half in bytes", b'data: {"jsonrpc":"2.0","id":1,"result":"\xed\xa0\x80"}\n\n'),
    ("a line end within a text", b'data: {"jsonrpc":"2.0","id":1,"result":"a\rdata: evil"}\n\n'),
    ("a name twice", b'data: {"id":1,"result":{},"result":{"evil":1}}\n\n'),
    ("a giant event", b'data: {"jsonrpc":"2.0","id":1,"result":"%b"}\n\n' % (b"e" * 70_000)),
    ("a giant of many lines", b"data: evil\n" * 9000),
    ("a giant line", b": " + b"e" * 70_000),
]


async def test_c15_an_invalid_event_ends_the_stream_and_the_record_says_so(tmp_path: Path) -> None:
    """What came before it has passed; the agent reads why; nothing of it and behind it passes."""
    rest = asyncio.Event()
    bad = b""
    talk = McpServer(lambda _: [stream(), PROGRESS, rest, bad, DONE])
    async with serve(tmp_path, talk, SMALL) as one:
        for name, bad in INVALID:  # noqa: B007 - the server says it
            rest.clear()
            asking = asyncio.ensure_future(one.ask("POST", "/mcp", call(), ACCEPT))
            await asyncio.sleep(0.1)  # so that the stream has begun for the client
            rest.set()
            answer = await asking
            assert not answer.is_whole, name
            assert answer.body.startswith(PROGRESS)
            said = answer.body[len(PROGRESS) :]
            assert said.startswith(b"\ndata: ") and b"evil" not in said and b"done" not in said, (
                name
            )
            refusal = json.loads(said[len(b"\ndata: ") :])
            assert (refusal["id"], refusal["error"]["data"]["code"]) == (1, "answer_unchecked")
        bad = b": fine\n"
        answer = await one.ask("POST", "/mcp", call(), ACCEPT)
        assert answer.is_whole and b"done" in answer.body, "positive control"
    assert outcomes(tmp_path) == ["withheld"] * len(INVALID) + ["completed"]


BEGUN = b"id: 1\ndata:\n\n"
#: Of a stream that breaks off within an event, or within a line.
BROKEN_OFF = [
    b'data: {"jsonrpc":"2.0","id":1,"res', b'data: {"jsonrpc":"2.0","id":1,\n', b"data: {\nda",
    b'data: {"jsonrpc":"2.0","method":"sampling/createMessage","id":3,', b"data: \xe2\x82", b"dat",
    b'data: {"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a"', b"even", b"ret",
]  # fmt: skip


@pytest.mark.parametrize("tail", BROKEN_OFF)
@pytest.mark.parametrize("action", ["tools/call", "tools/list"])
async def test_c15_c14_a_stream_that_breaks_off_within_an_event_can_be_resumed(
    tmp_path: Path, tail: bytes, action: str
) -> None:
    """An event that has no end is none; a refusal in its place would be the answer to the call."""
    talk = McpServer(lambda _: (stream(), BEGUN, tail))
    message = call() if action == "tools/call" else {"jsonrpc": "2.0", "id": 1, "method": action}
    async with serve(tmp_path, talk) as one:
        answer = await one.ask("POST", "/mcp", message, ACCEPT)
    said = b"".join(answer.body.splitlines(keepends=True)[1:])
    assert (answer.status, answer.is_whole, said) == (200, True, b"data:\n\n")
    assert outcome(tmp_path) == "completed"


async def test_c15_an_event_without_an_end_that_can_be_read_passes_as_it_is_judged(
    tmp_path: Path,
) -> None:
    """There may be clients that take it for one."""
    done = DONE.removesuffix(b"\n")
    answer = await asked(tmp_path, stream(), done)
    assert (answer.is_whole, answer.body) == (True, done)
    twice = b'data: {"id":1,"result":{},"result":{"evil":1}}\n'
    answer = await asked(tmp_path, stream(), twice)
    assert b"evil" not in answer.body and b"answer_unchecked" in answer.body


async def test_c15_what_came_whole_before_a_fault_in_one_piece_passes(tmp_path: Path) -> None:
    answer = await asked(tmp_path, stream(), PROGRESS + b"evil: 1\n\n" + DONE)
    assert answer.body.startswith(PROGRESS) and b"done" not in answer.body


async def test_c15_a_stream_that_is_resumed_repeats_the_event_without_data_as_an_empty_object(
    tmp_path: Path,
) -> None:
    """So the TypeScript SDK keeps it, and its event store may put it behind one that the client
    has. Clients read over it; any other object there ends the stream, and the log says why."""
    rest = b": kept\n\n" + DONE
    talk = McpServer(lambda _: (stream(), b"event: message\nid: 1\n", bad, rest))
    async with serve(tmp_path, talk) as one:
        bad = b"data: {}\n\n"
        answer = await one.ask("GET", "/mcp", None, ACCEPT)
        assert (answer.status, answer.is_whole) == (200, True)
        said = [line for line in answer.body.splitlines() if not line.startswith(b"id: 1.")]
        assert said == [b"event: message", b"", *rest.splitlines()]
        bad = b'data: {"evil": 1}\n\n'
        answer = await one.ask("GET", "/mcp", None, ACCEPT)
        assert not answer.is_whole and b"evil" not in answer.body and b"done" not in answer.body
    (line,) = [each for each in one.log.getvalue().splitlines() if "could not be checked" in each]
    told = json.loads(line)
    assert told["reason"].endswith("an event holds no JSON-RPC message")
    assert (told["level"], told["tool"]) == ("warning", "mcp/mcp:stream")
    assert outcomes(tmp_path) == ["completed", "withheld"]


MASKED = POLICY + "  - {id: m, tools: mcp/look, obligations: {redact: {response: [email]}}}\n"


@pytest.mark.parametrize("other", [b"", PROGRESS, event({**result(), "id": 2})])
@pytest.mark.parametrize("is_whole", [True, False])
async def test_a_masked_stream_that_ends_without_the_answer_says_so(
    tmp_path: Path, other: bytes, is_whole: bool
) -> None:
    """It has no places, so that no client resumes it: each waited until its patience ended."""
    going = asyncio.Event()
    talk = McpServer(
        lambda _: (stream(), BEGUN + other) if is_whole else (stream(), BEGUN, going, other)
    )
    async with whole(tmp_path, talk, {**CATALOGUES, "p.yaml": MASKED}) as one:
        asking = asyncio.ensure_future(one.ask("POST", "/mcp", call(), ACCEPT))
        await asyncio.sleep(0.1)
        going.set()
        answer = await asking
    (line,) = [each for each in one.log.getvalue().splitlines() if "could not be checked" in each]
    assert "its stream ended" in json.loads(line)["reason"]
    said = json.loads(answer.body[answer.body.rindex(b'{"jsonrpc"') :])
    assert (said["id"], said["error"]["data"]["code"]) == (1, "answer_unchecked")
    assert outcome(tmp_path) == "withheld"


WORDS = event(
    {"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": "evil"}]}}
)
OBLIGED = [
    ("cannot_redact", "redact: {response: [body.name]}", "", (WORDS,)),
    ("cannot_redact", "redact: {response: [email]}", "", (event(result("evil" * 300_000)),)),
    ("response_too_large", "max_response: 1KiB", "", (event(result("evil" * 900)),)),
    ("upstream_timeout", "max_response: 1KiB", ", timeouts: {idle: 300ms}", (asyncio.Event(),)),
    ("upstream_broken", "redact: {response: [email]}", "", ()),
]


@pytest.mark.parametrize(("code", "obligation", "mcp", "answer"), OBLIGED)
async def test_an_answer_that_is_kept_back_within_its_stream_is_told(
    tmp_path: Path, code: str, obligation: str, mcp: str, answer: tuple[Any, ...]
) -> None:
    """Its client waited until its patience ended, and the model heard of no reason."""
    begun = stream()
    if code == "upstream_broken":  # a body that ends before its length
        begun = begun.replace(b"Connection: close", b"Content-Length: 9999\r\nConnection: close")
    talk = McpServer(lambda _: (begun, PROGRESS, *answer))
    rules = POLICY + f"  - {{id: m, tools: mcp/look, obligations: {{{obligation}}}}}\n"
    async with whole(tmp_path, talk, {**CATALOGUES, "p.yaml": rules}, mcp=mcp) as one:
        told = await one.ask("POST", "/mcp", call(), ACCEPT)
    assert (told.status, told.is_whole) == (200, False)
    assert b"evil" not in told.body
    said = json.loads(told.body[told.body.rindex(b'{"jsonrpc"') :])
    assert said["id"] == 1 and said["result"]["isError"] is True
    assert f"({code})" in said["result"]["content"][0]["text"]
    assert outcome(tmp_path) == ("upstream_error" if code.startswith("upstream") else "withheld")


async def test_of_an_answer_that_came_nothing_more_is_told(tmp_path: Path) -> None:
    rest = asyncio.Event()
    talk = McpServer(lambda _: (stream(), DONE, rest, event({**result("evil" * 900), "id": 2})))
    rules = POLICY + "  - {id: m, tools: mcp/look, obligations: {max_response: 1KiB}}\n"
    async with whole(tmp_path, talk, {**CATALOGUES, "p.yaml": rules}) as one:
        asking = asyncio.ensure_future(one.ask("POST", "/mcp", call(), ACCEPT))
        await asyncio.sleep(0.2)  # so that the answer is given
        rest.set()
        told = await asking
    assert not told.is_whole and told.body == DONE


async def test_a_masked_stream_with_the_answer_ends_as_it_is(tmp_path: Path) -> None:
    talk = McpServer(lambda _: (stream(), BEGUN, PROGRESS, DONE))
    async with whole(tmp_path, talk, {**CATALOGUES, "p.yaml": MASKED}) as one:
        answer = await one.ask("POST", "/mcp", call(), ACCEPT)
    assert answer.is_whole and answer.body.count(b"jsonrpc") == 2 and b"done" in answer.body
    assert outcome(tmp_path) == "completed"


@pytest.mark.parametrize("place", ["/messages?sessionId=1", "http://127.0.0.1:1/messages"])
async def test_c15_no_agent_is_told_to_send_its_messages_past_the_sidecar(
    tmp_path: Path, place: str
) -> None:
    """As a server of 2024-11-05 tells it first; the log says what is wrong with the upstream."""
    told = b"event: endpoint\ndata: %b\n\n" % place.encode()
    talk = McpServer(lambda _: (stream(), told, DONE))
    async with serve(tmp_path, talk) as one:
        answer = await one.ask("GET", "/mcp", None, ACCEPT)
    assert not answer.is_whole and b"data" not in answer.body
    (line,) = [each for each in one.log.getvalue().splitlines() if "could not be checked" in each]
    assert "HTTP+SSE" in json.loads(line)["reason"]
    assert outcome(tmp_path) == "withheld"


@pytest.mark.parametrize("kind", ["json", "json in pieces", "event"])
async def test_c15_a_message_may_be_so_large_and_no_larger(tmp_path: Path, kind: str) -> None:
    for size, fits in ((60_000, True), (70_000, False)):
        folder = tmp_path / str(size)
        folder.mkdir()
        message = result("x" * size)
        if kind == "event":
            answer = await asked(folder, stream(), event(message), more=SMALL)
        elif kind == "json":
            answer = await asked(folder, reply(message), more=SMALL, is_whole=True)
        else:
            whole_reply = reply(message).replace(b"Content-Length", b"X-Length", 1)
            head, _, body = whole_reply.partition(b"\r\n\r\n")
            head += b"\r\nConnection: close\r\n\r\n"
            answer = await asked(folder, head, body[:9], body[9:], more=SMALL)
        assert (b"xxx" in answer.body) is fits
        assert (b"limits.message" in answer.body) is not fits
        assert outcome(folder) == ("completed" if fits else "withheld")


async def test_c15_c17_each_event_and_comment_passes_within_50_ms(tmp_path: Path) -> None:
    """The head at once, then each line or event when it is whole, whatever follows it."""
    pieces = [b": keep-alive\n", PROGRESS, b"retry: 1\n", b"event: message\n", DONE]
    gates = [asyncio.Event() for _ in pieces]
    script: list[Any] = [stream("X-Accel-Buffering: no\r\n")]
    for gate, piece in zip(gates, pieces, strict=True):
        script += [gate, piece]
    talk = McpServer(lambda _: script)
    body = json.dumps(call()).encode()
    async with serve(tmp_path, talk) as one:
        reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
        head = f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{one.port}\r\nContent-Type: application/json"
        writer.write(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        async with asyncio.timeout(5):
            assert b"X-Accel-Buffering: no" in await reader.readuntil(b"\r\n\r\n")
            took_s: list[float] = []
            now = asyncio.get_running_loop().time
            for gate, piece in zip(gates, pieces, strict=True):
                began = now()
                gate.set()
                framed = b"%x\r\n%b\r\n" % (len(piece), piece)
                assert await reader.readexactly(len(framed)) == framed
                took_s.append(now() - began)
        writer.close()
    assert sorted(took_s)[len(took_s) // 2] <= 0.05, took_s


async def test_a_silent_stream_of_the_server_is_no_failure_of_it_and_a_silent_answer_is(
    tmp_path: Path,
) -> None:
    """Servers that send no comments are silent all night; each client listens anew."""
    silence = asyncio.Event()
    begun = stream() + PROGRESS
    talk = McpServer(lambda _: [begun, silence])
    failures = "aegis_upstream_failures_total"
    async with whole(
        tmp_path, talk, {**CATALOGUES, "p.yaml": POLICY}, mcp=", timeouts: {idle: 200ms}"
    ) as one:
        heard = await one.ask("GET", "/mcp", headers={"Accept": "text/event-stream"})
        assert heard.status == 200 and not heard.is_whole
        assert await one.metric("aegis_refusals_total") == {'{code="upstream_timeout"}': 1}
        assert await one.metric(failures) == {}
        assert not (await one.ask("POST", "/mcp", call(), ACCEPT)).is_whole
        assert await one.metric(failures) == {'{cause="timeout",upstream="mcp"}': 1}
        silence.set()
