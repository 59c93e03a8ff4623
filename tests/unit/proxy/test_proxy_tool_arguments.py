"""Arguments of MCP tools, held against the pinned inputSchema, through a whole sidecar."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from proxy_whole_setup import Answer, Whole, receipts, whole
from proxy_wire_setup import until
from test_proxy_tool_lists import HEADERS, Server, ask_list, in_json, listing, names

from sidecar.cli.main import main

CASES = json.loads(
    (Path(__file__).parents[2] / "cases" / "mcp" / "input_schemas.json").read_text("utf-8")
)
POLICY = {
    "mcp.yaml": "catalogue: mcp\ntools: {look: {mutates: false}, write: {}, drop: {}}\n",
    "p.yaml": "policy: p\nrules:\n"
    "  - {id: most, effect: allow, tools: [mcp/look, mcp/write, mcp/unknown]}\n"
    "  - {id: drops, effect: deny, tools: mcp/drop, reason: nobody drops anything}\n",
}
SCHEMA = {
    "type": "object",
    "properties": {"to": {"type": "string"}, "copies": {"type": "integer"}},
    "required": ["to"],
    "additionalProperties": False,
}
DONE = in_json({"jsonrpc": "2.0", "id": 1, "result": {"content": [], "isError": False}})


def told(name: str, schema: Any = SCHEMA, **more: Any) -> dict[str, Any]:
    return {"name": name, "description": f"It is {name}.", "inputSchema": schema, **more}


def serve(folder: Path, *replies: bytes, mcp: str = "", more: str = "") -> Any:
    return whole(folder, Server(*replies), POLICY, more, mcp=mcp)


async def called(one: Whole, params: dict[str, Any]) -> Answer:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    return await one.ask("POST", "/mcp", message, HEADERS)


def refusal(answer: Answer) -> str:
    """What the client's model is told of a refusal; "" of a call that went ahead."""
    result = answer.json["result"]
    return str(result["content"][0]["text"]) if result["isError"] else ""


async def test_c11_what_fits_passes_byte_for_byte_and_what_does_not_goes_nowhere(
    tmp_path: Path,
) -> None:
    body = (
        b'{ "jsonrpc":"2.0", "id" : 1,"method":"tools/call",\n"params":{"arguments":'
        b'{"copies": 2.0, "to":"\\u0061cme"}, "name":"write"}}'
    )
    plain = {**HEADERS, "Content-Type": "application/json"}
    async with serve(tmp_path, DONE, in_json(listing([told("write")]))) as one:
        assert refusal(await called(one, {"name": "write", "arguments": {"no": 1}})) == "", "no pin"
        await ask_list(one)
    async with serve(tmp_path, DONE) as one:  # the pins are in the store by now
        assert refusal(await one.ask("POST", "/mcp", body, plain)) == ""
        assert one.arrived.endswith(body)
        before = len(one.arrived)
        said = refusal(await called(one, {"name": "write", "arguments": {"to": 7}}))
        assert "arguments_unfit" in said and "mcp/write: /arguments/to: type string" in said
        assert "required to" in refusal(await called(one, {"name": "write"})), "none are {}"
        assert "required to" in refusal(await called(one, {"name": "write", "arguments": {}}))
        extra = {"to": "me", "sudo": "hunter2hunter2"}
        said = refusal(await called(one, {"name": "write", "arguments": extra}))
        assert "/arguments: additionalProperties" in said and "hunter2" not in said
        for wrong in (None, [], "{}", '{"to": "me"}', 7, True):
            answer = await called(one, {"name": "write", "arguments": wrong})
            assert answer.json["error"]["code"] == -32602, wrong
        assert len(one.arrived) == before, "nothing was forwarded"
        assert await one.metric("aegis_tool_misfits_total") == {'{upstream="mcp"}': 4}
    refusals = [row for row in receipts(tmp_path) if row["outcome"] == "arguments_unfit"]
    assert [(row["kind"], row["tool"]) for row in refusals] == [("refusal", "mcp/write")] * 4
    assert "/arguments/to: type string" in refusals[0]["facts"]["reason"]
    assert "hunter2" not in json.dumps([row["facts"] for row in refusals])


async def test_c11_every_case_through_the_wire(tmp_path: Path) -> None:
    """Each tool has a schema of its own; what fits is answered by the server, all else is not."""
    cases = CASES["held"] + CASES["partly"]
    tools = [told(f"t{number}", case["schema"]) for number, case in enumerate(cases)]
    async with serve(tmp_path, in_json(listing(tools)), DONE) as one:
        await ask_list(one)
        for number, case in enumerate(cases):
            before = len(one.arrived)
            answer = await called(one, {"name": f"t{number}", "arguments": case["arguments"]})
            said = refusal(answer)
            assert case["says"] in said and bool(said) is bool(case["says"]), (case["name"], said)
            assert (len(one.arrived) == before) is bool(said), case["name"]
        left_out = len({json.dumps(case["schema"]) for case in CASES["partly"]})
        assert left_out and await one.metric("aegis_tools_unchecked") == {
            '{upstream="mcp"}': len(CASES["partly"])
        }


@contextlib.asynccontextmanager
async def listener() -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server on loopback that notes who connects; its port and the notes."""
    seen: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(10))
        writer.close()

    server = await asyncio.start_server(note, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], seen


@pytest.mark.parametrize("how", ["checked", "strict"])
async def test_c11_a_schema_that_leads_elsewhere_fetches_nothing(tmp_path: Path, how: str) -> None:
    async with listener() as (port, seen):
        url = f"http://127.0.0.1:{port}/s.json"
        schemas = [
            {"$ref": url}, {"type": "object", "properties": {"a": {"$ref": f"{url}#/x"}}},
            {"$schema": url, "type": "object"}, {"$id": url, "$ref": "other.json"},
            {"type": "object", "$defs": {"a": {"$id": url, "$ref": "#/b"}}},
            {"$schema": "http://json-schema.org/draft-07/schema#", "$ref": url},
        ]  # fmt: skip
        tools = [told(f"t{number}", schema) for number, schema in enumerate(schemas)]
        replies = in_json(listing([*tools, told("look")])), DONE
        async with serve(tmp_path, *replies, mcp=f", arguments: {how}") as one:
            await ask_list(one)
            for number in range(len(tools)):
                said = refusal(await called(one, {"name": f"t{number}", "arguments": {"a": 1}}))
                assert ("schema_unchecked" in said) is (how == "strict"), said
            unfit = refusal(await called(one, {"name": "look", "arguments": {}}))
            assert "arguments_unfit" in unfit, "positive control: others are checked"
            number = float(len(tools))
            assert await one.metric("aegis_tools_unchecked") == {'{upstream="mcp"}': number}
            await until(lambda: one.log.getvalue().count("cannot be checked") >= len(tools))
            lines = [json.loads(line) for line in one.log.getvalue().splitlines()]
            told_of = [line for line in lines if "cannot be checked" in str(line)]
            assert len(told_of) == len(tools), "each once"
            assert {line["tool"] for line in told_of} == {f"mcp/t{n}" for n in range(len(tools))}
        assert seen == []
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x" * 10)
        while not seen:  # positive control: a connection is noted
            await asyncio.sleep(0.01)
        writer.close()
        await writer.wait_closed()


async def test_c11_strict_refuses_what_is_checked_in_part_and_unchecked_checks_nothing(
    tmp_path: Path,
) -> None:
    partly = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(?!x)"}}}
    replies = in_json(listing([told("look", partly), told("write")])), DONE
    for how, look, write in (
        ("checked", "", "arguments_unfit"),
        ("strict", "schema_unchecked", "arguments_unfit"),
        ("unchecked", "", ""),
    ):
        folder = tmp_path / how
        folder.mkdir()
        async with serve(folder, *replies, mcp=f", arguments: {how}") as one:
            await ask_list(one)
            for _ in range(2):  # the second finds what the first has made
                fitting = refusal(await called(one, {"name": "look", "arguments": {"a": "x"}}))
                assert look in fitting and bool(fitting) is bool(look), (how, fitting)
                unfit = refusal(await called(one, {"name": "write", "arguments": {"no": 1}}))
                assert write in unfit and bool(unfit) is bool(write), (how, unfit)
            assert refusal(await called(one, {"name": "write", "arguments": {"to": "me"}})) == ""
            wrong = refusal(await called(one, {"name": "look", "arguments": {"a": 1}}))
            assert ("arguments_unfit" in wrong) is (how != "unchecked")


async def test_c11_a_new_schema_holds_once_it_was_accepted(tmp_path: Path) -> None:
    other = {"type": "object", "properties": {"whom": {"type": "string"}}, "required": ["whom"]}
    replies = [
        in_json(listing([told("write", schema), told("look")])) for schema in (SCHEMA, other)
    ]
    async with serve(tmp_path, replies[0], DONE, replies[1], DONE, DONE) as one:
        await ask_list(one)
        old, new = {"to": "me"}, {"whom": "me"}
        assert refusal(await called(one, {"name": "write", "arguments": old})) == ""
        assert names(await ask_list(one)) == ["look"]
        for arguments in (old, new):
            said = refusal(await called(one, {"name": "write", "arguments": arguments}))
            assert "tool_drifted" in said, "whatever the arguments are"
        unfit = refusal(await called(one, {"name": "look", "arguments": {}}))
        assert "arguments_unfit" in unfit, "its neighbour is checked as before"
        command = ["tools", "accept", "mcp", "--all", "--data-dir", str(tmp_path)]
        assert await asyncio.to_thread(main, command) == 0
        said = refusal(await called(one, {"name": "write", "arguments": old}))
        assert "required whom" in said
        assert refusal(await called(one, {"name": "write", "arguments": new})) == ""


async def test_c11_under_observe_what_does_not_fit_is_counted_and_goes_ahead(
    tmp_path: Path,
) -> None:
    replies = in_json(listing([told("write"), told("look", {"$ref": "#"})])), DONE
    more = "default: observe\n"
    async with serve(tmp_path, *replies, mcp=", arguments: strict", more=more) as one:
        await ask_list(one)
        assert refusal(await called(one, {"name": "write", "arguments": {"to": 7}})) == ""
        assert refusal(await called(one, {"name": "look", "arguments": {"to": 7}})) == ""
        assert await one.metric("aegis_tool_misfits_total") == {'{upstream="mcp"}': 1}
        assert await one.metric("aegis_tools_unchecked") == {'{upstream="mcp"}': 1}


async def test_c11_a_tool_that_is_hidden_stays_unknown(tmp_path: Path) -> None:
    """Whoever may never call it learns nothing of its schema either."""
    async with serve(tmp_path, in_json(listing([told("drop"), told("look")])), DONE) as one:
        assert names(await ask_list(one)) == ["look"]
        answer = await called(one, {"name": "drop", "arguments": {"to": 7}})
        assert answer.json["error"] == {"code": -32602, "message": "Unknown tool: drop"}
        seen = refusal(await called(one, {"name": "look", "arguments": {"to": 7}}))
        assert "arguments_unfit" in seen, "positive control"
    outcomes = [row["outcome"] for row in receipts(tmp_path) if row["kind"] == "refusal"]
    assert outcomes == ["arguments_unfit"] * 2


async def test_c11_a_large_schema_of_a_real_kind_is_checked(tmp_path: Path) -> None:
    """Hundreds of properties with descriptions, as they are made from OpenAPI documents."""
    properties = {
        f"field_{number}": {
            "type": "object", "description": "As the API describes it. " * 3,
            "properties": {"value": {"type": ["string", "null"]}, "since": {"type": "integer"}},
        }
        for number in range(250)
    }  # fmt: skip
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    assert 40_000 < len(json.dumps(schema)) < 64 * 1024
    async with serve(tmp_path, in_json(listing([told("write", schema)])), DONE) as one:
        await ask_list(one)
        fitting: dict[str, Any] = {name: {"value": "x" * 900, "since": 1} for name in properties}
        assert refusal(await called(one, {"name": "write", "arguments": fitting})) == ""
        fitting["field_249"] = {"since": "long ago"}
        said = refusal(await called(one, {"name": "write", "arguments": fitting}))
        assert "/arguments/field_249/since: type integer" in said
