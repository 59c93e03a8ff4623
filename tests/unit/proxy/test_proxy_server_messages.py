"""What a server's message asks of the agent: the cases, and that no request hides in its bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import Refused
from sidecar.proxy.dialects.mcp_said import ASKED_MAX, may_ask, read_server_message

CASES = json.loads(
    (Path(__file__).parents[2] / "cases" / "mcp" / "server_messages.json").read_text()
)["messages"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_c15_c16_a_message_is_read_as_every_client_reads_it(case: dict[str, Any]) -> None:
    data = case["text"].encode()
    if case.get("refused"):
        with pytest.raises(Refused) as caught:
            read_server_message(data, 250_000)
        assert caught.value.code == "answer_unchecked"
        return
    said = read_server_message(data, 250_000)
    assert [one.method for one in said.requests] == case["asks"]
    assert said.is_rpc is case.get("is_rpc", True)
    assert said.request_state == case.get("state")
    if case["asks"] or "state" in case:
        assert may_ask(data), "what asks is always looked into"


@pytest.mark.parametrize("data", [b"\xff", b'{"a":"\xed\xa0\x80"}', '{"id":1}'.encode("utf-16")])
def test_c15_other_encodings_are_no_message(data: bytes) -> None:
    with pytest.raises(Refused):
        read_server_message(data, 250_000)


def test_c15_utf_16_is_looked_into() -> None:
    """Python's own reader takes it: what asks must not pass as bytes that nobody read."""
    asks = '{"jsonrpc":"2.0","id":1,"method":"roots/list"}'
    assert all(may_ask(asks.encode(each)) for each in ("utf-16-le", "utf-16-be", "utf-32-le"))
    assert not may_ask(b'{"jsonrpc":"2.0","id":1,"result":{"content":[]}}')


def test_c16_so_many_requests_and_no_more() -> None:
    def answer(count: int) -> bytes:
        requests = {str(number): {"method": "roots/list"} for number in range(count)}
        return orjson.dumps({"jsonrpc": "2.0", "id": 1, "result": {"inputRequests": requests}})

    assert len(read_server_message(answer(ASKED_MAX), 250_000).requests) == ASKED_MAX
    with pytest.raises(Refused):
        read_server_message(answer(ASKED_MAX + 1), 250_000)


NAMES = st.sampled_from(
    ["jsonrpc", "id", "method", "Method", "params", "result", "error", "inputRequests", "x"]
)
VALUES = st.recursive(
    st.sampled_from([None, 1, "ping", "roots/list", "notifications/x", "2.0", "input_required"]),
    lambda inner: st.dictionaries(NAMES, inner, max_size=4) | st.lists(inner, max_size=2),
    max_leaves=8,
)


@given(VALUES)
def test_c16_what_a_careless_client_would_take_for_a_request_is_found_or_refused(
    message: Any,
) -> None:
    data = orjson.dumps(message)
    try:
        said = read_server_message(data, 250_000)
    except Refused:
        return
    if isinstance(message, dict) and not message.keys() & {"result", "error"}:
        method = message.get("method", message.get("Method"))
        if isinstance(method, str) and method == "roots/list":
            assert [one.method for one in said.requests] == ["roots/list"]
    result = message.get("result") if isinstance(message, dict) else None
    if isinstance(result, dict) and isinstance(result.get("inputRequests"), dict):
        assert len(said.requests) == len(result["inputRequests"])
