"""What is masked goes no other way: not by a stream that is resumed, beside an argument, in the
address, in a header, in a reason, or behind what readers take away.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from proxy_mcp_setup import ACCEPT, CATALOGUES, McpServer, Seen, call, event, reply, stream
from proxy_mcp_setup import result as answer_of
from proxy_whole_setup import receipts, whole
from proxy_wire_setup import answering
from test_proxy_mcp_sessions import called, ids, initialized
from test_proxy_obligations import MASK_REQUEST
from test_proxy_obligations import reply as plain_reply

from sidecar.policy.terms import Redaction
from sidecar.proxy.masking_stream import EventMasker

CARD = "4111 1111 1111 1111"
MASKING = """policy: p
rules:
  - {id: all, effect: allow, tools: [mcp/*]}
  - {id: must, tools: mcp/look, obligations: {redact: {response: [card_number]}}}
"""
TOOLS = "{put: {route: 'PUT /people/{phone}'}, post: {route: POST /post, args: {ids: '[string]'}}}"
OK = answering(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")


def policies(tools: str, obligations: str, *more: str) -> dict[str, str]:
    text = "policy: p\nrules:\n  - {id: all, effect: allow, tools: 'api/*'}\n"
    if obligations:
        text += f"  - {{id: must, tools: '*', obligations: {obligations}}}\n"
    text += "".join(f"  - {one}\n" for one in more)
    return {"api.yaml": f"catalogue: api\ntools: {tools}\n", "p.yaml": text}


async def test_what_is_masked_in_a_stream_is_not_had_by_resuming_it(tmp_path: Path) -> None:
    def answer(seen: Seen) -> Any:
        if seen.method == "POST" and seen.json["method"] == "initialize":
            return reply(answer_of("hello"), more="Mcp-Session-Id: up-1\r\n")
        if seen.method == "GET":  # what came after that place, as servers with an event store do
            return [stream(), event(answer_of(f"card {CARD}"), b"id: 8\n")]
        if seen.method == "POST":
            progress = {
                "jsonrpc": "2.0",
                "method": "notifications/progress",
                "params": {"progress": 1, "progressToken": 1},
            }
            return [
                stream(),
                event(progress, b"id: 7\n"),
                event(answer_of(f"card {CARD}"), b"id: 8\n"),
            ]

    talk = McpServer(answer)
    async with whole(tmp_path, talk, {**CATALOGUES, "p.yaml": MASKING}) as one:
        session = await initialized(one)
        first = await called(one, session)
        assert CARD.encode() not in first.body and b"***" in first.body, "control"
        place = (ids(first.body) or [""])[0]
        more = {"Last-Event-ID": place} if place else {}
        resumed = await called(one, session, "GET", **more)
        assert not place or CARD.encode() not in resumed.body, resumed.body


@pytest.mark.parametrize("other", ["GET", "POST"])
@pytest.mark.parametrize("asked", [1, 1.0, "1"])
async def test_what_is_masked_does_not_come_on_another_stream_of_its_session(
    tmp_path: Path, other: str, asked: Any
) -> None:
    """A client takes an answer by its id, wherever it comes."""

    def answer(seen: Seen) -> Any:
        told = {**answer_of(f"card {CARD}"), "id": asked}
        if seen.method == "GET" or seen.json["method"] == "ping":
            return [stream(), event(told)]
        if seen.json["method"] == "initialize":
            return reply(answer_of("hello"), more="Mcp-Session-Id: up-1\r\n")
        return reply(b"", status=202)

    talk = McpServer(answer)
    async with whole(tmp_path, talk, {**CATALOGUES, "p.yaml": MASKING}) as one:
        session = await initialized(one)
        ping = {"jsonrpc": "2.0", "id": 7, "method": "ping"}
        in_session = {**ACCEPT, "Mcp-Session-Id": session}

        async def elsewhere() -> bytes:
            if other == "GET":
                return (await called(one, session, "GET")).body
            return (await one.ask("POST", "/mcp", ping, in_session)).body

        assert CARD.encode() in await elsewhere(), "control: nothing is held to a rule yet"
        await called(one, session)
        body = await elsewhere()
        assert CARD.encode() not in body, body
        unmasked = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        again = await one.ask("POST", "/mcp", unmasked, in_session)
        assert CARD.encode() in again.body, "control: another request has the id by now"


@pytest.mark.parametrize("masks", [True, False])
async def test_what_is_masked_is_not_had_as_the_result_of_a_task(
    tmp_path: Path, masks: bool
) -> None:
    """By `tasks/result`, which names no tool: the rule about the tool would not be asked."""

    def answer(seen: Seen) -> Any:
        if seen.json["method"] == "tasks/result":
            return reply({**answer_of(f"card {CARD}"), "id": 2})
        if "task" in seen.json["params"]:
            task = {"taskId": "t1", "status": "working", "ttl": 1, "createdAt": "2026-01-01"}
            return reply({"jsonrpc": "2.0", "id": 1, "result": {"task": task}})
        return reply(answer_of(f"card {CARD}"))

    talk = McpServer(answer)
    policy = MASKING.replace("[mcp/*]", '[mcp/*, "mcp/mcp:tasks/result"]')
    if not masks:
        policy = policy.partition("  - {id: must")[0]
    result = {"jsonrpc": "2.0", "id": 2, "method": "tasks/result", "params": {"taskId": "t1"}}
    async with whole(tmp_path, talk, {**CATALOGUES, "p.yaml": policy}) as one:
        begun = await one.ask("POST", "/mcp", call(task={"ttl": 1000}), ACCEPT)
        had = await one.ask("POST", "/mcp", result, ACCEPT) if b"t1" in begun.body else None
        plain = await one.ask("POST", "/mcp", call(), ACCEPT)
    if masks:
        assert had is None and b"task_unchecked" in begun.body, "the card is had by asking twice"
        assert CARD.encode() not in plain.body and b"***" in plain.body
        refused = [row["outcome"] for row in receipts(tmp_path) if row["kind"] == "refusal"]
        assert refused == ["task_unchecked"]
    else:
        assert had is not None and CARD.encode() in had.body, "positive control"


HANDLE = {"taskId": "t1", "status": "working", "ttlMs": 1, "createdAt": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize("is_stream", [True, False])
@pytest.mark.parametrize("obligation", ["redact: {response: [card_number]}", "max_response: 9KiB"])
@pytest.mark.parametrize("handle", [{"resultType": "task", **HANDLE}, {"task": HANDLE}])
async def test_what_is_masked_is_not_had_of_a_task_that_the_server_chose_to_make(
    tmp_path: Path, handle: dict[str, Any], obligation: str, is_stream: bool
) -> None:
    """By `tasks/get` (the tasks extension of 2026-07-28), which names no tool either."""

    def answer(seen: Seen) -> Any:
        if seen.json["method"] == "tasks/get":
            done = {"resultType": "complete", **HANDLE, "result": answer_of(CARD)["result"]}
            return reply({"jsonrpc": "2.0", "id": 2, "result": done})
        said = {"jsonrpc": "2.0", "id": 1, "result": handle}
        return [stream(), event(said)] if is_stream else reply(said)

    rules = MASKING.replace("[mcp/*]", '[mcp/*, mcp/unknown, "mcp/mcp:tasks/get"]')
    policy = rules.replace("redact: {response: [card_number]}", obligation)
    get = {"jsonrpc": "2.0", "id": 2, "method": "tasks/get", "params": {"taskId": "t1"}}
    async with whole(tmp_path, McpServer(answer), {**CATALOGUES, "p.yaml": policy}) as one:
        begun = await one.ask("POST", "/mcp", call(), ACCEPT)
        other = await one.ask("POST", "/mcp", call("other"), ACCEPT)
        had = await one.ask("POST", "/mcp", get, ACCEPT)
    assert b"t1" in other.body and CARD.encode() in had.body, "control: a tool without such a rule"
    assert b"task_unchecked" in begun.body and b"t1" not in begun.body
    ends = [row["outcome"] for row in receipts(tmp_path) if row["kind"] == "outcome"]
    assert ends == ["withheld", "completed", "completed"]


@pytest.mark.parametrize("name", ["resultType", "Result\\u0054ype", "re\u017fultType"])
async def test_a_task_is_one_however_its_name_is_spelt_and_large_answers_pass(
    tmp_path: Path, name: str
) -> None:
    """The second answer holds more values than are looked into, and nothing to look for."""
    many = b'{"jsonrpc":"2.0","id":1,"result":{"x":[%b]}}' % b",".join([b"1"] * 300_000)
    task = f'{{"jsonrpc":"2.0","id":1,"result":{{"{name}":"tas\u212a","id":"t1"}}}}'
    answers = [reply(task.encode()), reply(many)]
    rules = MASKING.replace("redact: {response: [card_number]}", "max_response: 9MiB")
    talk = McpServer(lambda _: answers.pop(0))
    async with whole(tmp_path, talk, {**CATALOGUES, "p.yaml": rules}) as one:
        begun = await one.ask("POST", "/mcp", call(), ACCEPT)
        large = await one.ask("POST", "/mcp", call(), ACCEPT)
    assert b"task_unchecked" in begun.body, begun.body
    assert large.body == many


@pytest.mark.parametrize("where", ["inputResponses", "_meta"])
async def test_what_goes_beside_the_arguments_of_a_tool_is_masked_too(
    tmp_path: Path, where: str
) -> None:
    talk = answering(plain_reply(b'{"jsonrpc":"2.0","id":1,"result":{"content":[]}}'))
    value: Any = {"a": {"action": "accept", "content": {"card": CARD}}}
    body = call("send", **{where: value})
    async with whole(tmp_path, talk, MASK_REQUEST) as one:
        await one.ask("POST", "/mcp", body, ACCEPT)
    assert b"***" in one.arrived, "positive control"
    assert CARD.encode() not in one.arrived, one.arrived


@pytest.mark.parametrize("is_mcp", [False, True])
def test_a_mark_before_a_stream_of_events_hides_nothing(is_mcp: bool) -> None:
    said = {"customer": {"name": "Ana"}}
    data = {"jsonrpc": "2.0", "id": 1, "result": {"structuredContent": said}} if is_mcp else said
    masker = EventMasker(Redaction((("body", "customer", "name"),), ()), is_mcp=is_mcp)
    event = f"data: {json.dumps(data)}\n\n".encode()
    out = masker.feed(b"\xef\xbb\xbf" + event) + masker.end()
    assert b"Ana" not in out


async def test_a_mark_before_a_stream_of_events_hides_nothing_from_end_to_end(
    tmp_path: Path,
) -> None:
    event = b'\xef\xbb\xbfdata: {"customer":{"name":"Ana"}}\n\n'
    talk = answering(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n%b"
        % (len(event), event)
    )
    rules = policies("{get: GET /get}", "{redact: {response: [body.customer.name]}}")
    async with whole(tmp_path, talk, rules) as one:
        answer = await one.ask("GET", "/api/get")
    assert b"Ana" not in answer.body


def test_escapes_in_an_event_that_is_a_json_text_hide_nothing() -> None:
    masker = EventMasker(Redaction((), ("email",)), is_mcp=False)
    out = masker.feed(b'data: "ana\\u0040acme.io"\n\n') + masker.end()
    assert json.loads(out.strip().removeprefix(b"data: ")) != "ana@acme.io"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/api/people/+491511234567", {"phone": "+491511234567"}),
        ("POST", "/api/post?ids=s3cret-1&ids=s3cret-2", {"ids": ["s3cret-1", "s3cret-2"]}),
    ],
)
async def test_what_is_masked_in_the_body_does_not_go_in_the_address(
    tmp_path: Path, method: str, path: str, body: dict[str, object]
) -> None:
    rules = policies(TOOLS, "{redact: {request: [args.phone, args.ids]}}")
    async with whole(tmp_path, OK, rules) as one:
        answer = await one.ask(method, path, body)
    assert b"491511234567" not in one.arrived and b"s3cret" not in one.arrived
    assert answer.json["code"] == "unredactable_request"


@pytest.mark.parametrize("value", ["+491511234567", "=?base64?KzQ5MTUxMTIzNDU2Nw==?="])
async def test_c9_an_argument_that_is_masked_does_not_go_in_the_header_that_repeats_it(
    tmp_path: Path, value: str
) -> None:
    rules = {
        "mcp.yaml": "catalogue: mcp\ntools: {send: {}}\n",
        "p.yaml": "policy: p\nrules:\n  - {id: all, effect: allow, tools: 'mcp/*',"
        " obligations: {redact: {request: [args.phone]}}}\n",
    }
    talk = answering(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 49\r\n\r\n"
        b'{"jsonrpc":"2.0","id":1,"result":{"content":[]}} '
    )
    params = {"name": "send", "arguments": {"phone": "+491511234567"}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    sent = {"Accept": "application/json, text/event-stream", "Mcp-Param-Phone": value}
    async with whole(tmp_path, talk, rules) as one:
        answer = await one.ask("POST", "/mcp", message, sent)
    assert answer.status == 200
    assert b'"phone":"***"' in one.arrived, "positive control"
    assert value.encode() not in one.arrived


async def test_a_value_to_mask_that_stands_in_the_query_is_not_in_a_reason(tmp_path: Path) -> None:
    rules = policies(
        "{get: GET /get}",
        "{redact: {request: [args.pin]}}",
        "{id: no, effect: deny, tools: api/get, when: has(args.pin), reason: 'not {http.query}'}",
    )
    async with whole(tmp_path, OK, rules) as one:
        answer = await one.ask("GET", "/api/get?pin=s3cret-9")
    assert answer.json["code"] == "policy_deny"
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("aegis.db*"))
    assert b"s3cret-9" not in stored
    assert b"s3cret-9" not in answer.body


async def test_c9_a_header_that_repeats_an_argument_says_what_the_masked_one_says(
    tmp_path: Path,
) -> None:
    talk = answering(plain_reply(b'{"jsonrpc":"2.0","id":1,"result":{"content":[]}}'))
    text = f"pay with {CARD} now"
    headers = {**ACCEPT, "Mcp-Param-Note": text}
    async with whole(tmp_path, talk, MASK_REQUEST) as one:
        await one.ask("POST", "/mcp", call("send", arguments={"note": text}), headers)
    head, _, body = one.arrived.partition(b"\r\n\r\n")
    said = json.loads(body)["params"]["arguments"]["note"]
    assert "***" in said and f"mcp-param-note: {said}".encode() in head.lower()
