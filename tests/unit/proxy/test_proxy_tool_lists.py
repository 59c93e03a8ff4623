"""What of a server's list of tools reaches whom, byte for byte, through a whole sidecar."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from proxy_whole_setup import Answer, Whole, receipts, whole
from proxy_wire_setup import Conversation

from sidecar.proxy.list_message import DEFINITION_LENGTH_MAX, LIST_TTL_MS_MAX
from sidecar.proxy.tool_lists import LIST_BYTES_MAX, TOLD_MAX

CATALOGUES = {
    "api.yaml": "catalogue: api\ntools: {get: GET /get}\n",
    "mcp.yaml": "catalogue: mcp\ntools: {look: {mutates: false}, send: {args: {to: string}}, "
    "drop: {}}\n",
}
POLICY = """policy: p
rules:
  - {id: looks, effect: allow, tools: mcp/look}
  - {id: sends, effect: allow, tools: mcp/send, when: "args.to == 'me'"}
  - {id: drops, effect: deny, tools: mcp/drop, reason: nobody drops anything}
"""
HEADERS = {"Accept": "application/json, text/event-stream", "Accept-Encoding": "gzip"}
MODERN = {
    **HEADERS,
    "MCP-Protocol-Version": "2026-07-28",
    "Mcp-Method": "tools/list",
}


def tool(name: str, **more: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"to": {"type": "string", "x-mcp-header": "To"}}}
    return {"name": name, "description": f"It is {name}.", "inputSchema": schema, **more}


def listing(tools: Sequence[Any], **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "result": {"tools": list(tools), **more}}


ALL = [tool("send"), tool("drop"), tool("stranger"), tool("look")]


class Server:
    """Answers every request with the next reply of its script, the last one for ever."""

    def __init__(self, *replies: bytes) -> None:
        self.replies = list(replies)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await _head(reader):
            length = int(_field(head, b"content-length") or 0)
            if length:
                await reader.readexactly(length)
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
            writer.write(reply)
            await writer.drain()
            if b"Connection: close" in reply:
                return


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


def _field(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip()
    return b""


def in_json(content: Any, status: str = "200 OK", more: str = "") -> bytes:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{more}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def in_events(*pieces: bytes, more: str = "") -> bytes:
    """A stream that ends with the connection."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{more}Connection: close\r\n\r\n"
    return head.encode() + b"".join(pieces)


def event(content: Any) -> bytes:
    return b"event: message\nid: 7\ndata: " + json.dumps(content).encode() + b"\n\n"


def without_tags(body: bytes) -> bytes:
    """A stream with the server's own ids."""
    return re.sub(rb"id: 7\.[\w-]{22}\n", b"id: 7\n", body)


async def ask_list(one: Whole, headers: Mapping[str, str] = HEADERS, **params: Any) -> Answer:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": params}
    return await one.ask("POST", "/mcp", message, headers)


def names(answer: Answer) -> list[str]:
    return [one["name"] for one in answer.json["result"]["tools"]]


def data_of(answer: Answer) -> list[Any]:
    lines = answer.body.decode().splitlines()
    return [json.loads(line[6:]) for line in lines if line.startswith("data: ")]


def serve(folder: Path, talk: Conversation, policy: str = POLICY, more: str = "") -> Any:
    return whole(folder, talk, {**CATALOGUES, "p.yaml": policy}, more)


async def test_c12_only_tools_that_a_call_might_reach_are_listed_in_the_servers_order(
    tmp_path: Path,
) -> None:
    """`send` needs the right arguments, so it is shown; `drop` and what nobody declared are not."""
    page = in_json(listing(ALL, nextCursor="page-2", _meta={"a": 1.0}))
    async with serve(tmp_path, Server(page)) as one:
        answer = await ask_list(one, cursor="page-1")
    assert (answer.status, answer.is_whole, names(answer)) == (200, True, ["send", "look"])
    result = answer.json["result"]
    assert result == {"tools": [ALL[0], ALL[3]], "nextCursor": "page-2", "_meta": {"a": 1.0}}
    assert b'"cursor": "page-1"' in one.arrived
    assert b"Accept-Encoding: identity" in one.arrived and b"gzip" not in one.arrived
    ends = [each["outcome"] for each in receipts(tmp_path) if each["kind"] == "outcome"]
    assert ends == ["completed"]


async def test_a_list_of_which_nothing_is_hidden_passes_byte_for_byte(tmp_path: Path) -> None:
    body = json.dumps(listing([tool("look"), tool("send")]), indent=2).encode()
    reply = in_json(body, more='ETag: "1"\r\n')
    async with serve(tmp_path, Server(reply)) as one:
        answer = await ask_list(one)
    assert (answer.body, answer.headers["etag"]) == (body, '"1"')


async def test_c12_events_are_filtered_and_all_else_of_a_stream_passes_as_it_came(
    tmp_path: Path,
) -> None:
    progress = event({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"p": 1}})
    before = b": keep-alive\n\nretry: 3000\r\n" + progress + b":\n"
    async with serve(tmp_path, Server(in_events(before, event(listing(ALL))))) as one:
        answer = await ask_list(one)
    assert answer.is_whole
    assert without_tags(answer.body).startswith(before + b"event: message\nid: 7\ndata: ")
    assert [each["name"] for each in data_of(answer)[1]["result"]["tools"]] == ["send", "look"]


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
async def test_c12_however_a_stream_is_cut_its_list_is_found(
    tmp_path: Path, size: int, end: bytes
) -> None:
    """Lines end in three ways, data stand in several lines, a mark may stand before the first."""
    text = json.dumps(listing(ALL), indent=1).encode().split(b"\n")
    stream = b"\xef\xbb\xbf" + end.join(b"data:" + line for line in text) + end + end

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"tools/list")
        writer.write(in_events())
        for at in range(0, len(stream), size):
            writer.write(stream[at : at + size])
            await writer.drain()

    async with serve(tmp_path, talk) as one:
        answer = await ask_list(one)
    assert answer.is_whole and b"stranger" not in answer.body
    (message,) = data_of(answer)
    assert [each["name"] for each in message["result"]["tools"]] == ["send", "look"]


async def test_c12_an_answer_that_is_repeated_on_the_sessions_stream_is_filtered_too(
    tmp_path: Path,
) -> None:
    result = event({"jsonrpc": "2.0", "id": 3, "result": {"content": [], "isError": False}})
    batch = event([listing(ALL), {"jsonrpc": "2.0", "method": "notifications/x"}])
    no_json = b"event: note\ndata: not json, though it says tools\n\n"
    stream = in_events(result, event(listing(ALL)), no_json, batch)
    async with serve(tmp_path, Server(stream)) as one:
        answer = await one.ask("GET", "/mcp", headers=HEADERS)
    assert answer.is_whole and b"stranger" not in answer.body and b"drop" not in answer.body
    assert without_tags(answer.body).startswith(result) and no_json in answer.body
    assert answer.body.count(b'"send"') == 2, "positive control: two lists were there"


WIDE: dict[str, Any] = {
    "type": "object",
    "properties": {"at": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
                   "of": {"type": "integer", "maximum": 2**64 - 1, "examples": [2**53 + 1]}},
}  # fmt: skip


async def test_c12_a_tool_whose_schema_tells_the_bounds_of_64_bits_takes_no_list_with_it(
    tmp_path: Path,
) -> None:
    """What other servers' frameworks write of their integers, digit for digit, also where the list
    is written anew; and the pin tells one from the next."""
    wide = in_json(listing([tool("look", inputSchema=WIDE), tool("stranger")]))
    other = json.loads(json.dumps(WIDE).replace(str(2**63 - 1), str(2**63 - 2)))
    server = Server(wide, wide, in_json({"jsonrpc": "2.0", "id": 1, "result": {"content": []}}))
    async with serve(tmp_path, server) as one:
        for _ in range(2):
            (shown,) = (await ask_list(one)).json["result"]["tools"]
            assert shown["inputSchema"] == WIDE
        assert "result" in (await one.tool("look", {"at": 2**53 - 1})).json
        misfit = await one.tool("look", {"at": "now"})
        assert "arguments_unfit" in misfit.body.decode(), "positive control: it is checked"
        server.replies = [in_json(listing([tool("look", inputSchema=other)]))]
        assert (await ask_list(one)).json["result"]["tools"] == [], "it has drifted"


TWICE = b'{"jsonrpc":"2.0","id":1,"result":{"tools":[]},"result":{"tools":[{"name":"drop"}]}}'
UNREADABLE = {
    "no JSON": in_json(b"{"),
    "a member twice": in_json(TWICE),
    "no tool": in_json(listing(["drop"])),
    "a name that is no text": in_json(listing([{"name": 1}])),
    "compressed": in_json(listing(ALL), more="Content-Encoding: gzip\r\n"),
    "another type": in_json(listing(ALL)).replace(b"application/json", b"text/plain"),
    "too large": in_json(listing([tool("look", description="x" * LIST_BYTES_MAX)])),
    "a tool that cannot be read, without a name": in_json(listing(["\ud800"])),
    "a fault beside the tools": in_json(listing([tool("look")], nextCursor="\ud800")),
    "a fault in a tool and one beside": in_json(listing([tool("look", x="\0")], _meta="\0")),
    "no list but for readers who repair": in_json(
        b'{"result":{"tools":[{"name":"look\\u0000"},]}}'
    ),
}


@pytest.mark.parametrize("kind", UNREADABLE)
async def test_c12_a_list_that_cannot_be_checked_is_refused_with_a_code(
    tmp_path: Path, kind: str
) -> None:
    async with serve(tmp_path, Server(UNREADABLE[kind], in_json(listing(ALL)))) as one:
        answer = await ask_list(one)
        after = await ask_list(one)
    assert (answer.status, answer.json["id"]) == (502, 1)
    assert answer.json["error"]["data"]["code"] == "list_unchecked"
    assert names(after) == ["send", "look"], "positive control"
    (line,) = [each for each in one.log.getvalue().splitlines() if "could not be checked" in each]
    assert answer.json["error"]["message"].endswith(json.loads(line)["reason"])
    outcomes = [each["outcome"] for each in receipts(tmp_path) if each["kind"] == "outcome"]
    assert outcomes == ["withheld", "completed"]


BAD_TEXT = json.dumps(tool("send", description="BAD"), indent=1).encode()
FAULTS = {
    "too large": json.dumps(tool("send", description="x" * DEFINITION_LENGTH_MAX)).encode(),
    "a lone surrogate": BAD_TEXT.replace(b"BAD", rb"\ud800"),
    "NUL": BAD_TEXT.replace(b"BAD", rb"\u0000"),
    "a raw control": BAD_TEXT.replace(b"BAD", b"\x01"),
    "no UTF-8": BAD_TEXT.replace(b"BAD", b"\xff"),
    "a member twice": BAD_TEXT.replace(b'"BAD"', b'"a", "description": "b"'),
    "a name twice": BAD_TEXT.replace(b'"BAD"', b'"a", "name": "harmless"'),
    "a number that is none": BAD_TEXT.replace(b'"BAD"', b"NaN"),
    "a number that nobody keeps": BAD_TEXT.replace(b'"BAD"', b"1" * 30),
    "too deep": BAD_TEXT.replace(b'"BAD"', b"[" * 62 + b"]" * 62),
}


def with_fault(kind: str, *others: Any) -> bytes:
    """A list in which one tool cannot be read, or not kept."""
    whole = json.dumps(listing([*others, "HERE", tool("look", description="it, äöü")]))
    return whole.encode().replace(b'"HERE"', FAULTS[kind])


@pytest.mark.parametrize("kind", FAULTS)
async def test_c12_a_tool_that_cannot_be_read_or_kept_takes_no_other_one_with_it(
    tmp_path: Path, kind: str
) -> None:
    data = with_fault(kind, tool("stranger"))
    lines = b"".join(b"data: %b\n" % line for line in data.split(b"\n"))
    done = in_json({"jsonrpc": "2.0", "id": 1, "result": {"content": []}})
    server = Server(in_json(data), in_json(data), in_events(lines + b"\n"), done)
    async with serve(tmp_path, server) as one:
        shown = [(await ask_list(one)).json for _ in range(2)] + data_of(await ask_list(one))
        called = await one.tool("send", {"to": "me"})
    for message in shown:
        assert message["result"]["tools"] == [tool("look", description="it, äöü")]
    assert "result" in called.json, "nothing is pinned of it"
    log = [json.loads(line) for line in one.log.getvalue().splitlines()]
    told = [(each["tool"], each["reason"]) for each in log if "it is hidden" in each["event"]]
    assert told and {name for name, _ in told} <= {"mcp/send", "mcp/harmless"} and told[0][1]
    assert len(told) == len(set(told)), "each once"
    assert "surrogate" in told[0][1] or kind != "a lone surrogate", "the cause is told"
    ends = [each["outcome"] for each in receipts(tmp_path) if each["kind"] == "outcome"]
    assert ends == ["completed"] * 4


async def test_the_log_tells_of_so_many_tools_that_cannot_be_read_and_of_each_once(
    tmp_path: Path,
) -> None:
    many = b",".join(b'{"name":"t%d","x":NaN}' % number for number in range(TOLD_MAX + 50))
    long = b'{"name":"%b","x":NaN}' % (b"n" * 100_000)
    body = b'{"jsonrpc":"2.0","id":1,"result":{"tools":[%b,%b,{"name":"look"}]}}' % (long, many)
    async with serve(tmp_path, Server(in_json(body))) as one:
        assert [names(await ask_list(one)) for _ in range(2)] == [["look"], ["look"]]
    log = one.log.getvalue()  # all of it is written by now
    lines = [line for line in log.splitlines() if "it is hidden" in line]
    assert 1 < len(lines) <= TOLD_MAX
    assert len({json.loads(line)["tool"] for line in lines}) == len(lines)
    assert max(map(len, lines)) < 1000, "a name may be as long as the list"


@pytest.mark.parametrize("kind", ["too large", "NUL", "no UTF-8", "a name twice"])
async def test_c12_a_pinned_tool_that_cannot_be_read_any_more_has_drifted(
    tmp_path: Path, kind: str
) -> None:
    sound = in_json(listing([tool("send"), tool("look")]))
    done = in_json({"jsonrpc": "2.0", "id": 1, "result": {"content": []}})
    server = Server(sound, done, in_json(with_fault(kind)))
    async with serve(tmp_path, server) as one:
        assert names(await ask_list(one)) == ["send", "look"]
        assert "result" in (await one.tool("send", {"to": "me"})).json, "positive control"
        assert names(await ask_list(one)) == []  # `look` is another one there, too
        refused = await one.tool("send", {"to": "me"})
        server.replies = [sound, done]
        assert names(await ask_list(one)) == ["send", "look"]
        assert "result" in (await one.tool("send", {"to": "me"})).json, "it is what it was"
    assert "tool_drifted" in refused.json["result"]["content"][0]["text"]
    found = [each["action"] for each in receipts(tmp_path) if each["kind"] == "control"]
    assert found == ["tools.pinned", "tools.drifted", "tools.returned"]


async def test_under_observe_what_can_be_read_is_not_hidden(tmp_path: Path) -> None:
    large, broken = in_json(with_fault("too large")), in_json(with_fault("NUL"))
    async with serve(tmp_path, Server(large, broken), more="default: observe\n") as one:
        shown = await ask_list(one)
        assert large.endswith(shown.body) and names(shown) == ["send", "look"]
        assert names(await ask_list(one)) == ["look"]


@pytest.mark.parametrize("bad", [b"data: {\n\n", b"data: " + TWICE + b"\n\n", b"data: " + b"x" * 9])
async def test_c12_in_a_stream_the_refusal_is_the_answer_and_then_it_breaks_off(
    tmp_path: Path, bad: bytes
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"tools/list")
        writer.write(in_events(b": first\n\n"))
        await writer.drain()
        await asyncio.sleep(0.05)  # so that the stream has begun for the client
        writer.write(bad)
        writer.write(event(listing(ALL)))

    async with serve(tmp_path, talk) as one:
        answer = await ask_list(one)
    assert not answer.is_whole and b"stranger" not in answer.body
    assert one.log.getvalue().count("could not be checked") == 1
    (message,) = data_of(answer)
    assert (message["id"], message["error"]["data"]["code"]) == (1, "list_unchecked")


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ({}, {"cacheScope": "private", "ttlMs": 0}),
        ({"cacheScope": "public", "ttlMs": 3_600_000},
         {"cacheScope": "private", "ttlMs": LIST_TTL_MS_MAX}),
        ({"cacheScope": "private", "ttlMs": 10}, {"cacheScope": "private", "ttlMs": 10}),
        ({"cacheScope": "x", "ttlMs": "long"}, {"cacheScope": "private", "ttlMs": 0}),
    ],
)  # fmt: skip
async def test_c12_a_list_may_be_kept_by_its_caller_alone_and_not_for_long(
    tmp_path: Path, terms: dict[str, Any], expected: dict[str, Any]
) -> None:
    async with serve(tmp_path, Server(in_json(listing([tool("look")], **terms)))) as one:
        modern = await ask_list(one, MODERN)
        older = await ask_list(one)
    result = modern.json["result"]
    assert {name: result[name] for name in expected} == expected
    kept = older.json["result"].keys() - {"tools"}
    assert kept == terms.keys(), "an older revision is told nothing it does not know"


async def test_errors_and_other_answers_to_a_list_request_pass(tmp_path: Path) -> None:
    error = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "no tools here"}}
    gone = in_json(b"gone", "404 Not Found")
    async with serve(tmp_path, Server(in_json(error), gone, in_json(listing(ALL)))) as one:
        first, second, third = await ask_list(one), await ask_list(one), await ask_list(one)
    assert (first.json, second.status, second.body) == (error, 404, b"gone")
    assert names(third) == ["send", "look"]


async def test_c12_names_that_no_call_may_have_and_second_definitions_are_not_listed(
    tmp_path: Path,
) -> None:
    policy = "policy: p\nrules: [{id: all, effect: allow, tools: [mcp/*, mcp/unknown]}]\n"
    odd = [tool("look"), tool("look"), tool("lo\u200bok"), tool(" send"), tool(""), tool("x" * 129)]
    async with serve(tmp_path, Server(in_json(listing([*odd, tool("stranger")]))), policy) as one:
        answer = await ask_list(one)
    assert names(answer) == ["look", "stranger"]


async def test_under_observe_nothing_is_hidden(tmp_path: Path) -> None:
    body = in_json(listing(ALL))
    async with serve(tmp_path, Server(body), more="default: observe\n") as one:
        answer = await ask_list(one)
        called = await one.tool("drop")
    assert body.endswith(answer.body) and len(names(answer)) == 4
    assert called.body == answer.body, "and a call goes ahead"


async def test_c12_a_hidden_tool_answers_as_unknown_and_the_receipt_knows_why(
    tmp_path: Path,
) -> None:
    async with serve(tmp_path, Server(in_json(listing(ALL)))) as one:
        denied = await one.tool("drop", {"a": 1})
        unlisted = await one.tool("stranger")
        nowhere = await one.tool("nowhere")
        wrong = await one.tool("send", {"to": "you"})
        misfit = await one.tool("send", {"to": 5})
    for answer, name in ((denied, "drop"), (unlisted, "stranger"), (nowhere, "nowhere")):
        error = {"code": -32602, "message": f"Unknown tool: {name}"}
        assert (answer.status, answer.json) == (200, {"jsonrpc": "2.0", "id": 1, "error": error})
    for answer in (wrong, misfit):
        assert answer.json["result"]["isError"] is True, "a visible tool says what is wrong"
    assert one.arrived == b""
    first, second, third, *_ = receipts(tmp_path)
    assert (first["tool"], first["rule_id"], first["outcome"]) == (
        "mcp/drop", "p/drops", "policy_deny",
    )  # fmt: skip
    assert first["facts"]["reason"] == "nobody drops anything"
    assert [second["outcome"], third["facts"]["called"]] == ["default_deny", "nowhere"]


async def test_c12_arguments_that_do_not_fit_do_not_tell_of_a_hidden_tool(tmp_path: Path) -> None:
    policy = "policy: p\nrules: [{id: looks, effect: allow, tools: mcp/look}]\n"
    async with serve(tmp_path, Server(in_json(listing(ALL))), policy) as one:
        answer = await one.tool("send", {"to": 5})
    assert answer.json["error"] == {"code": -32602, "message": "Unknown tool: send"}
    assert receipts(tmp_path)[0]["outcome"] == "invalid_argument"
