"""Obligations carried out by a whole sidecar: what reaches the upstream, the caller, the record."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from proxy_whole_setup import receipts, whole
from proxy_wire_setup import Conversation, answering, read_request

CARD = "4111 1111 1111 1111"
CATALOGUES = {
    "api.yaml": "catalogue: api\ntools: {get: GET /get, at: 'GET /at/{place}', post: POST /post}\n",
    "mcp.yaml": "catalogue: mcp\ntools: {send: {}, look: {mutates: false}}\n",
}


def policy(obligations: str, *more: str) -> dict[str, str]:
    text = "policy: p\nrules:\n  - {id: all, effect: allow, tools: [api/*, mcp/*, api/unknown]}\n"
    text += f'  - {{id: must, tools: "*", obligations: {obligations}}}\n'
    return {**CATALOGUES, "p.yaml": text + "".join(f"  - {one}\n" for one in more)}


def reply(body: bytes, media: str = "application/json", *more: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Type: {media}", *more, f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(*pieces: bytes, media: str, end: bytes = b"0\r\n\r\n") -> Conversation:
    """Answers in pieces, a moment apart."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {media}\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head.encode())
        for piece in pieces:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
            await asyncio.sleep(0.01)
        writer.write(end)

    return talk


def forwarded(arrived: bytes) -> Any:
    head, _, body = arrived.partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head.lower()
    return json.loads(body)


OK = answering(reply(b'{"ok":true}'))
MASK_REQUEST = policy("{redact: {request: [args.a.pin, body.note, card_number]}}")


async def test_c_what_is_masked_is_forwarded_and_recorded_and_nothing_else(tmp_path: Path) -> None:
    sent = {"a": {"pin": 1, "n": 2}, "note": "x", "text": f"pay {CARD}", "n": 4111111111111111}
    masked = {"a": {"pin": "***", "n": 2}, "note": "***", "text": "pay ***", "n": "***"}
    async with whole(tmp_path, OK, MASK_REQUEST) as one:
        answer = await one.ask("POST", "/api/post", sent, {"Content-Digest": "x"})
    assert (answer.status, answer.json) == (200, {"ok": True})
    assert forwarded(one.arrived) == masked
    assert b"content-digest" not in one.arrived.lower()
    intent = receipts(tmp_path)[0]
    assert json.loads(intent["arguments"]) == masked
    salt, body = bytes.fromhex(_salt(tmp_path)), one.arrived.partition(b"\r\n\r\n")[2]
    assert intent["request_sha256"] == hmac.new(salt, body, hashlib.sha256).hexdigest()
    came = hmac.new(salt[:16], json.dumps(sent).encode(), hashlib.sha256).hexdigest()
    assert intent["facts"]["received_sha256"] == came
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("aegis.db*"))
    for secret in (b"4111 1111", b"4111111111111111"):
        assert secret not in stored
        assert secret not in one.log.getvalue().encode()


async def test_only_of_a_body_that_was_changed_both_digests_are_recorded(tmp_path: Path) -> None:
    talk = answering(reply(b'{"jsonrpc":"2.0","id":1,"result":{"content":[]}}'))
    params: dict[str, Any] = {"name": "send", "arguments": {"a": {"pin": 1}}}
    message = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    media = {"Content-Type": "application/json"}
    async with whole(tmp_path, talk, MASK_REQUEST) as one:
        await one.tool("send", params["arguments"])
        await one.ask("POST", "/api/post", b'{ "text": "clean" }', media)
        await one.ask("GET", "/api/get", None)
        await one.ask("POST", "/api/post", b'{"text":"' + CARD.encode() + b'"}', media)
        refused = await one.ask("POST", "/api/post?note=x", b'{"note": "x"}', media)
    assert refused.status == 403, "what is not sent on was not changed"
    told = [one["facts"] for one in receipts(tmp_path) if one["kind"] in ("intent", "refusal")]
    first, clean, empty, last, unsent = told
    salt = bytes.fromhex(_salt(tmp_path))
    assert (
        first["received_sha256"]
        == hmac.new(salt[:16], message.encode(), hashlib.sha256).hexdigest()
    )
    assert len(last["received_sha256"]) == 64
    for facts in (clean, empty, unsent):
        assert "received_sha256" not in facts


def _salt(folder: Path) -> str:
    import sqlite3

    with sqlite3.connect(folder / "aegis.db") as store:
        return str(store.execute("SELECT salt FROM call_facts ORDER BY seq LIMIT 1").fetchone()[0])


async def test_arguments_of_a_tool_are_masked_in_the_message(tmp_path: Path) -> None:
    talk = answering(reply(b'{"jsonrpc":"2.0","id":1,"result":{"content":[]}}'))
    async with whole(tmp_path, talk, MASK_REQUEST) as one:
        await one.tool("send", {"a": {"pin": 1}, "card": CARD, "b": 2})
    message = forwarded(one.arrived)
    assert message["params"] == {
        "name": "send", "arguments": {"a": {"pin": "***"}, "card": "***", "b": 2},
    }  # fmt: skip
    assert (message["id"], message["method"]) == (1, "tools/call")


FILE = (
    b"--x\r\nContent-Disposition: form-data; name=file; filename=y\r\n\r\n"
    b"4111 1111 1111 1111\r\n--x--\r\n"
)
UNMASKABLE: list[tuple[str, str, bytes | None, str | None]] = [
    ("GET", "/api/get?card=4111111111111111", None, None),
    ("GET", "/api/at/4111111111111111", None, None),
    ("GET", "/api/nowhere/4111111111111111", None, None),
    ("GET", "/api/get?x=1&4111111111111111", None, None),
    ("POST", "/api/post", b"note=x", "application/x-www-form-urlencoded"),
    ("POST", "/api/post", b"c=4111-1111-1111-1111", "application/x-www-form-urlencoded"),
    ("POST", "/api/post", b"\x00\x01", "application/octet-stream"),
    ("POST", "/api/post", FILE, "multipart/form-data; boundary=x"),
    ("POST", "/api/post", FILE.replace(b"; filename=y", b"").replace(b"file", b"note"),
     "multipart/form-data; boundary=x"),
    ("POST", "/api/post?note=x", b'{"note": "x"}', "application/json"),
    ("POST", "/api/post", b"a[pin]=hush-1", "application/x-www-form-urlencoded"),
    ("POST", "/api/post", b"a%5B0%5D.pin=hush-2&b=1", "application/x-www-form-urlencoded"),
    ("POST", "/api/post", b"note%5B%5D=hush-3", "application/x-www-form-urlencoded"),
    ("POST", "/api/post", FILE.replace(b"; filename=y", b"").replace(b"file", b'"a[pin]"').replace(
        CARD.encode(), b"hush-4"), "multipart/form-data; boundary=x"),
    ("POST", "/api/post?a[pin]=hush-5", b'{"n": 1}', "application/json"),
    ("GET", "/api/get?a[pin][x]=hush-6", None, None),
]  # fmt: skip


async def test_what_cannot_be_masked_is_not_forwarded(tmp_path: Path) -> None:
    async with whole(tmp_path, OK, MASK_REQUEST) as one:
        for method, path, body, media in UNMASKABLE:
            refused = await one.ask(method, path, body, {"Content-Type": media} if media else {})
            assert (refused.status, refused.json["code"]) == (403, "unredactable_request"), path
        control = await one.ask("GET", "/api/get?x=1&a[pins]=1&b[a][pin]=1&a=1", None)
    assert control.status == 200, "positive control"
    assert one.arrived.count(b" HTTP/1.1\r\n") == 1
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("aegis.db*"))
    assert b"4111-1111" not in stored
    assert b"hush-" not in stored
    assert b"4111111111111111" not in stored
    refusals = [one for one in receipts(tmp_path) if one["kind"] == "refusal"]
    assert [one["outcome"] for one in refusals] == ["unredactable_request"] * len(UNMASKABLE)
    decided = {(one["decision"], one["rule_id"], one["mode"]) for one in refusals}
    assert decided == {("deny", "p/all", "enforce")}, "the rule that lets it through on these terms"
    assert all(one["policy_revision"] for one in refusals)


async def test_a_document_that_is_no_object_is_an_argument_of_its_own(tmp_path: Path) -> None:
    rules = policy("{redact: {request: [args.body.pin, body.mail]}}")
    async with whole(tmp_path, OK, rules) as one:
        await one.ask("POST", "/api/post", [{"pin": 1, "mail": 2, "n": 3}])
    assert forwarded(one.arrived) == [{"pin": "***", "mail": "***", "n": 3}]


async def test_lines_of_json_are_masked_each(tmp_path: Path) -> None:
    rules = policy("{redact: {request: [args.body.pin, body.mail, card_number]}}")
    sent = {"Content-Type": "application/vnd.elasticsearch+x-ndjson; compatible-with=9"}
    body = b'{"index":{}}\n{"pin":1, "mail":2,"n":3}\r\n{"card":"4111 1111 1111 1111"}'
    async with whole(tmp_path, OK, rules) as one:
        await one.ask("POST", "/api/post", body, sent)
    head, _, arrived = one.arrived.partition(b"\r\n\r\n")
    assert arrived == b'{"index":{}}\n{"pin":"***","mail":"***","n":3}\n{"card":"***"}\n'
    assert f"content-length: {len(arrived)}".encode() in head.lower()
    assert json.loads(receipts(tmp_path)[0]["arguments"]) == {
        "body": [{"index": {}}, {"mail": "***", "n": 3, "pin": "***"}, {"card": "***"}]
    }


async def test_json_as_aws_calls_it_is_masked_both_ways(tmp_path: Path) -> None:
    rules = policy("{redact: {request: [args.Key], response: [body.Item]}}")
    media = "application/x-amz-json-1.0"
    async with whole(tmp_path, answering(reply(b'{"Item":1,"n":2}', media)), rules) as one:
        answer = await one.ask("POST", "/api/post", {"Key": 1, "T": 2}, {"Content-Type": media})
    assert forwarded(one.arrived) == {"Key": "***", "T": 2}
    assert answer.json == {"Item": "***", "n": 2}


@pytest.mark.parametrize(
    ("body", "media", "shown"),
    [
        (b'[{"pin":"hush","card":"hush","n":1}]', "application/json",
         [{"pin": "***", "card": "***", "n": 1}]),
        (b'{"pin":"hush","n":1}\n{"a":{"card":1}}\n', "application/x-ndjson",
         [{"pin": "***", "n": 1}, {"a": {"card": 1}}]),
    ],
)  # fmt: skip
async def test_a_refused_list_is_recorded_and_told_masked(
    tmp_path: Path, body: bytes, media: str, shown: Any
) -> None:
    rules = policy(
        "{redact: {request: [body.pin, args.body.card]}}",
        "{id: no, effect: deny, tools: api/post, reason: 'not {args.body}'}",
    )
    async with whole(tmp_path, OK, rules) as one:
        answer = await one.ask("POST", "/api/post", body, {"Content-Type": media})
    assert (answer.json["code"], b"hush" in answer.body) == ("policy_deny", False)
    assert json.loads(receipts(tmp_path)[0]["arguments"]) == {"body": shown}


async def test_what_is_refused_is_recorded_masked(tmp_path: Path) -> None:
    rules = policy(
        "{redact: {request: card_number}}",
        "{id: no, effect: deny, tools: api/post, when: 'args.n > 1', reason: 'too many'}",
    )
    async with whole(tmp_path, OK, rules) as one:
        answer = await one.ask("POST", "/api/post", {"n": 2, "card": CARD})
    assert answer.json["code"] == "policy_deny"
    assert json.loads(receipts(tmp_path)[0]["arguments"]) == {"n": 2, "card": "***"}


async def test_headers_are_set_and_removed_and_keys_required(tmp_path: Path) -> None:
    key = "{id: key, tools: api/post, obligations: {idempotency_key: required}}"
    rules = policy("{headers: {set: {X-Team: platform}, remove: [X-Secret]}}", key)
    async with whole(tmp_path, OK, rules) as one:
        sent = {"X-Team": "mine", "x-secret": "1", "X-Other": "2"}
        missing = await one.ask("POST", "/api/post", {}, sent)
        made = await one.ask("POST", "/api/post", {}, {**sent, "Idempotency-Key": "k-1"})
    assert (missing.status, missing.json["code"]) == (400, "idempotency_key_required")
    refused = receipts(tmp_path)[0]
    assert (refused["decision"], refused["outcome"]) == ("deny", "idempotency_key_required")
    assert (refused["rule_id"], missing.json["rule"]) == ("p/all", "p/all")
    assert made.status == 200
    head = one.arrived.partition(b"\r\n\r\n")[0].lower()
    assert head.count(b"x-team: ") == 1
    assert b"x-team: platform" in head
    assert b"x-secret" not in head
    assert b"x-other: 2" in head
    assert b"idempotency-key: k-1" in head


async def test_two_values_for_one_header_are_a_deny(tmp_path: Path) -> None:
    other = (
        "{id: other, tools: api/get, when: has(args.q), obligations: {headers: {set: {x-team: b}}}}"
    )
    rules = policy("{headers: {set: {X-Team: a}}}", other)
    async with whole(tmp_path, OK, rules) as one:
        conflict = await one.ask("GET", "/api/get?q=1")
        control = await one.ask("GET", "/api/get")
    assert (conflict.status, conflict.json["code"]) == (403, "obligations_conflict")
    assert "x-team" in conflict.json["detail"]
    assert control.status == 200


MASK_REPLY = policy("{redact: {response: [card_number, email, body.customer.name]}}")
RECORD = {"customer": {"name": "Ana", "mail": "ana@acme.io"}, "cards": [CARD, 4111111111111111]}


async def test_an_answer_is_masked_and_says_its_own_length(tmp_path: Path) -> None:
    talk = answering(reply(json.dumps(RECORD).encode(), "application/json", 'ETag: "1"'))
    async with whole(tmp_path, talk, MASK_REPLY) as one:
        answer = await one.ask("GET", "/api/get", None, {"Accept-Encoding": "gzip", "Range": "b"})
    assert answer.is_whole
    assert answer.json == {"customer": {"name": "***", "mail": "***"}, "cards": ["***", "***"]}
    assert "etag" not in answer.headers
    head = one.arrived.lower()
    assert b"accept-encoding: identity" in head
    assert b"gzip" not in head
    assert b"range:" not in head


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 304)])
async def test_an_answer_without_a_body_is_not_too_large(
    tmp_path: Path, method: str, status: int
) -> None:
    length = b"Content-Length: 5000\r\n"
    talk = answering(b"HTTP/1.1 %d X\r\n%bContent-Type: image/png\r\n\r\n" % (status, length))
    rules = policy("{max_response: 1KiB, redact: {response: email}}")
    async with whole(tmp_path, talk, rules) as one:
        answer = await one.ask(method, "/api/get")
    assert (answer.status, answer.headers["content-length"]) == (status, "5000")


async def test_a_large_document_is_masked_in_pieces_as_it_came(tmp_path: Path) -> None:
    rows = [{"customer": RECORD["customer"], "n": n} for n in range(4000)]
    data = json.dumps(rows).encode()
    pieces = [data[at : at + 30_000] for at in range(0, len(data), 30_000)]
    rules = policy("{redact: {response: [email, body.customer.name]}}")
    async with whole(tmp_path, chunked(*pieces, media="application/json"), rules) as one:
        answer = await one.ask("GET", "/api/get")
    assert [row["n"] for row in answer.json] == list(range(4000))
    assert b"acme" not in answer.body
    assert b"Ana" not in answer.body


async def test_a_stream_of_events_is_masked_event_by_event(tmp_path: Path) -> None:
    event = {"jsonrpc": "2.0", "id": 1, "result": {"structuredContent": RECORD, "content": []}}
    data = b"event: message\ndata: " + json.dumps(event).encode() + b"\n\n"
    talk = chunked(data[:50], data[50:90], data[90:], media="text/event-stream")
    async with whole(tmp_path, talk, MASK_REPLY) as one:
        answer = await one.tool("look")
    assert answer.is_whole
    assert b"acme" not in answer.body
    assert b"Ana" not in answer.body
    assert b"4111" not in answer.body
    assert json.loads(answer.body.partition(b"data: ")[2])["id"] == 1


PART = b"HTTP/1.1 206 Partial Content\r\nContent-Type: application/json\r\n"
UNREADABLE = [
    reply(gzip.compress(b"{}"), "application/json", "Content-Encoding: gzip"),
    reply(b"\x89PNG", "image/png"),
    reply(b"{broken", "application/json"),
    reply(b"name,mail", "text/csv"),
    reply(b"{}", "application/json; charset=utf-16"),
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    PART + b"Content-Length: 2\r\n\r\n{}",
]


async def test_an_answer_that_cannot_be_masked_is_withheld(tmp_path: Path) -> None:
    talk = answering(*UNREADABLE, reply(b"{}"))
    async with whole(tmp_path, talk, MASK_REPLY) as one:
        for number in range(len(UNREADABLE)):
            rest = await one.ask("GET", "/api/get")
            assert (rest.status, rest.json["code"]) == (403, "cannot_redact"), number
        assert (await one.ask("GET", "/api/get")).body == b"{}", "positive control"
    kinds = [one["outcome"] for one in receipts(tmp_path) if one["kind"] == "outcome"]
    assert kinds == ["withheld"] * len(UNREADABLE) + ["completed"]


async def test_no_answer_and_no_body_need_no_masking(tmp_path: Path) -> None:
    empty = b"HTTP/1.1 204 No Content\r\n\r\n"
    async with whole(tmp_path, answering(empty), MASK_REPLY) as one:
        assert (await one.ask("GET", "/api/get")).status == 204


async def test_a_stream_that_turns_out_unreadable_breaks_off(tmp_path: Path) -> None:
    talk = chunked(b"data: {}\n\n", b"data: \xff\n\n", media="text/event-stream")
    async with whole(tmp_path, talk, MASK_REPLY) as one:
        answer = await one.ask("GET", "/api/get")
    assert answer.status == 200
    assert not answer.is_whole
    assert b"\xff" not in answer.body
    assert receipts(tmp_path)[-1]["outcome"] == "withheld"


LIMITED = policy("{max_response: 1KiB}")


async def test_b_too_large_an_answer_is_refused_before_it_begins(tmp_path: Path) -> None:
    async with whole(tmp_path, answering(reply(b"a" * 1025, "text/plain")), LIMITED) as one:
        answer = await one.ask("GET", "/api/get")
        tool = await one.tool("look")
    assert (answer.status, answer.json["code"]) == (403, "response_too_large")
    assert tool.json["result"]["isError"] is True
    assert {one["outcome"] for one in receipts(tmp_path) if one["kind"] == "outcome"} == {
        "withheld"
    }


async def test_b_an_answer_that_grows_too_large_breaks_off_visibly(tmp_path: Path) -> None:
    pieces = [b"a" * 500] * 4
    async with whole(tmp_path, chunked(*pieces, media="text/plain"), LIMITED) as one:
        answer = await one.ask("GET", "/api/get")
    assert answer.status == 200
    assert not answer.is_whole, "no silent end"
    assert len(answer.body) <= 1024
    assert receipts(tmp_path)[-1]["outcome"] == "withheld"


async def test_b_what_is_bounded_comes_plain(tmp_path: Path) -> None:
    """Compressed, a thousand times as much were within the bound."""
    packed = gzip.compress(b"a" * 100_000)
    assert len(packed) < 1024
    talk = answering(reply(packed, "text/plain", "Content-Encoding: identity, gzip"))
    asked = {"Accept-Encoding": "gzip, br", "Range": "bytes=0-9"}
    async with whole(tmp_path, talk, LIMITED) as one:
        answer = await one.ask("GET", "/api/get", None, asked)
    assert (answer.status, answer.json["code"]) == (403, "response_too_large")
    assert "compressed" in answer.json["detail"]
    head = one.arrived.lower()
    assert b"accept-encoding: identity\r\n" in head and b"gzip" not in head
    assert b"range: bytes=0-9" in head, "a part may be asked for"


async def test_an_answer_of_just_the_size_passes(tmp_path: Path) -> None:
    async with whole(tmp_path, chunked(b"a" * 512, b"a" * 512, media="text/plain"), LIMITED) as one:
        answer = await one.ask("GET", "/api/get")
    assert answer.is_whole
    assert len(answer.body) == 1024


async def test_d8_what_only_observes_masks_and_cuts_nothing(tmp_path: Path) -> None:
    talk = answering(reply(json.dumps(RECORD).encode()))
    async with whole(tmp_path, talk, MASK_REPLY, "default: observe\n") as one:
        answer = await one.ask("POST", "/api/post", {"card": CARD})
    assert answer.json == RECORD
    assert forwarded(one.arrived) == {"card": CARD}
