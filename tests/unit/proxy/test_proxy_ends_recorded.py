"""How a forwarded call ended, and a request that never became one, as the record tells it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from free_ports import free_port
from proxy_whole_setup import Answer, receipts, whole
from proxy_wire_setup import Conversation, answering, read_request

POLICIES = {
    "api.yaml": "catalogue: api\ntools: {get: GET /get, post: POST /post}\n",
    "p.yaml": "policy: p\nrules:\n  - {id: all, effect: allow, tools: [api/*, dead/*]}\n",
}
QUICK = ", timeouts: {connect: 500ms, response: 300ms, idle: 300ms}"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"


def breaking_off(sent: bytes, *, by_reset: bool) -> Conversation:
    """Sends so much, and hangs up."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(sent)
        await writer.drain()
        await asyncio.sleep(0.05)  # what was sent is read before the end of it is seen
        if by_reset:
            writer.transport.abort()

    return talk


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    await asyncio.sleep(2)


class Bad(NamedTuple):
    """A bad end: what the upstream does, and the status that its caller and the outcome have."""

    talk: Conversation
    status: int
    recorded: int | None = None


BAD: dict[str, Bad] = {
    "no answer": Bad(breaking_off(b"", by_reset=False), 502),
    "a reset for an answer": Bad(breaking_off(b"", by_reset=True), 502),
    "half a head": Bad(breaking_off(OK, by_reset=False), 502),
    "no HTTP": Bad(answering(b"SSH-2.0-x\r\n\r\n"), 502),
    "two lengths": Bad(answering(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx"), 502),
    "a line feed in a header": Bad(answering(OK + b"X: a\n b\r\nContent-Length: 1\r\n\r\nx"), 502),
    "101 unasked": Bad(answering(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n"), 502),
    "silence": Bad(silent, 504),
    "a body that is hung up on": Bad(
        breaking_off(OK + b"Content-Length: 9\r\n\r\nabc", by_reset=False), 200, 200
    ),
    "a body that is reset": Bad(
        breaking_off(OK + b"Content-Length: 9\r\n\r\nabc", by_reset=True), 200, 200
    ),
    "chunks that are hung up on": Bad(
        breaking_off(OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", by_reset=False),
        200,
        200,
    ),
    "chunks that are broken": Bad(
        answering(OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n"), 502
    ),
}


def told(folder: Path) -> list[tuple[Any, ...]]:
    found = [one for one in receipts(folder) if one["kind"] in ("intent", "refusal", "outcome")]
    return [(one["kind"], one["outcome"], one["http_status"]) for one in found]


def seen(answer: Answer) -> tuple[int, bool]:
    return answer.status, answer.is_whole


@pytest.mark.parametrize("name", BAD)
async def test_b21_an_answer_that_goes_wrong_is_recorded_as_such(tmp_path: Path, name: str) -> None:
    bad = BAD[name]
    async with whole(tmp_path, bad.talk, POLICIES, api=QUICK) as one:
        answer = await one.ask("GET", "/api/get")
    is_refused = bad.recorded is None
    assert seen(answer) == (bad.status, is_refused), "a broken body never looks whole"
    assert told(tmp_path) == [
        ("intent", None, None), ("outcome", "upstream_error", bad.recorded),
    ]  # fmt: skip


async def test_b21_a_dead_upstream_is_recorded_as_never_reached(tmp_path: Path) -> None:
    dead = f"  dead: {{url: 'http://127.0.0.1:{free_port()}'{QUICK}}}\n"
    good = answering(OK + b"Content-Length: 2\r\n\r\nok")
    policies = {**POLICIES, "dead.yaml": "catalogue: dead\ntools: {get: GET /get}\n"}
    async with whole(tmp_path, good, policies, dead) as one:
        answer = await one.ask("GET", "/dead/get")
        assert (answer.status, answer.json["code"]) == (502, "upstream_unreachable")
        control = await one.ask("GET", "/api/get")
    assert seen(control) == (200, True), "positive control"
    ends = {one for one in told(tmp_path) if one[0] == "outcome"}
    assert ends == {("outcome", "not_forwarded", None), ("outcome", "completed", 200)}


async def test_b15_a_body_that_does_not_come_is_on_record_and_not_forwarded(tmp_path: Path) -> None:
    good = answering(OK + b"Content-Length: 2\r\n\r\nok")
    async with whole(tmp_path, good, POLICIES, "limits: {body_wait: 200ms}\n") as one:
        reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
        head = f"POST /api/post HTTP/1.1\r\nHost: 127.0.0.1:{one.port}\r\n"
        writer.write(f"{head}Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nabc".encode())
        async with asyncio.timeout(5):
            answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 408 ") and b"request_timeout" in answer
        assert one.arrived == b""
        control = await one.ask("POST", "/api/post", b"abcde", {"Content-Type": "text/plain"})
    assert control.status == 200, "positive control"
    refusal, *after = receipts(tmp_path)
    assert (refusal["kind"], refusal["outcome"]) == ("refusal", "request_timeout")
    assert (refusal["http_status"], refusal["decision"]) == (408, "deny")
    assert (refusal["upstream"], refusal["action"]) == ("api", "POST")
    assert refusal["call_id"].encode() in answer
    assert [one["outcome"] for one in after] == [None, "completed"]
