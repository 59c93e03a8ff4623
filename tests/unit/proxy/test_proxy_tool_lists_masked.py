"""Of a tool whose answers might be masked a list tells no `outputSchema`: the clients of the SDKs
hold an answer against it, and of one that was masked their agents heard an error alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_proxy_tool_lists import Server, ask_list, in_json, listing, serve, tool

SCHEMA = {"type": "object", "properties": {"email": {"type": "string", "format": "email"}}}
#: `send` is masked by its arguments.
POLICY = """policy: p
rules:
  - {id: all, effect: allow, tools: mcp/*}
  - id: masked
    tools: mcp/send
    when: args.to != "me"
    obligations: {redact: {response: [email]}}
"""
ALL = [tool("send", outputSchema=SCHEMA), tool("look", outputSchema=SCHEMA), tool("drop")]


async def test_what_an_answer_that_might_be_masked_looks_like_is_not_told(tmp_path: Path) -> None:
    async with serve(tmp_path, Server(in_json(listing(ALL))), POLICY) as one:
        answer = await ask_list(one)
        again = await ask_list(one)
    assert answer.json["result"]["tools"] == [tool("send"), *ALL[1:]]
    assert answer.body == again.body, "what was pinned is what the server said"


@pytest.mark.parametrize("more", ["default: observe\n", ""])
async def test_where_nothing_is_masked_a_list_passes_byte_for_byte(
    tmp_path: Path, more: str
) -> None:
    body = json.dumps(listing(ALL if more else ALL[1:]), indent=1).encode()
    async with serve(tmp_path, Server(in_json(body)), POLICY, more) as one:
        assert (await ask_list(one)).body == body
