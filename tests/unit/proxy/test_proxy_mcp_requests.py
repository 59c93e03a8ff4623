"""MCP requests: what is read as which call, and what is refused with which code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from proxy_dialect_setup import CALL_ID, Setup, head

from sidecar.errors import Refused
from sidecar.proxy.dialects import DIALECTS

CASES = json.loads((Path(__file__).parents[2] / "cases/mcp/requests.json").read_bytes())
DIALECT = DIALECTS["mcp"]


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    return Setup(tmp_path_factory.mktemp("mcp"))


def read(setup: Setup, case: dict[str, Any]) -> tuple[Any, bytes]:
    method = case.get("method", "POST")
    headers = {"Content-Type": "application/json"} if method == "POST" else {}
    headers = {**headers, **case.get("headers", {})}
    headers = {name: value for name, value in headers.items() if value is not None}
    if "text" in case:
        body = case["text"].encode()
    else:
        body = json.dumps(case["body"]).encode() if "body" in case else b""
    request = head(method, case.get("target", "/files/mcp"), headers)
    return setup.call(DIALECT, request, body), body


def named(kind: str) -> Any:
    cases = [case for case in CASES["requests"] if kind in case]
    return pytest.mark.parametrize(
        "case", cases, ids=[f"{case['case'].lower()}-{case['name']}" for case in cases]
    )


@named("call")
def test_mcp_request_is_read_as_this_call(setup: Setup, case: dict[str, Any]) -> None:
    call, body = read(setup, case)
    upstream = case.get("target", "/files").split("/")[1]
    expected = {"operation": call.tool.operation, **case["call"]}
    seen = {
        name: call.tool.operation if name == "operation" else getattr(call, name)
        for name in expected
    }
    assert seen == expected
    assert call.tool.upstream == upstream
    assert (call.call_id, call.dialect, call.target, call.body) == (CALL_ID, "mcp", "", body)
    if call.tool.operation == "unknown":
        assert call.tool.mutates and not call.tool.declared


@named("refused")
def test_mcp_request_is_refused_with_this_code(setup: Setup, case: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        read(setup, case)
    refused, expected = caught.value, case["refused"]
    assert refused.code == expected["code"]
    status, headers, body = DIALECT.refusal(refused, CALL_ID, None)
    answer = json.loads(body)
    assert dict(headers)["Content-Type"] == "application/json"
    assert dict(headers)["Aegis-Call-Id"] == CALL_ID
    assert answer["id"] == expected["id"]
    if "rpc_code" in expected:
        assert (answer["error"]["code"], status) == (expected["rpc_code"], 400)
    elif "result" in answer:
        assert (status, answer["result"]["isError"]) == (200, True)
    else:
        assert (answer["error"]["code"], status) == (refused.status, refused.status)


def test_the_corpus_covers_its_threats_with_both_kinds() -> None:
    threats = {f"C{number}" for number in (1, 3, 5, 7, 8, 9, 10, 11, 16)} | {"B9", "B18"}
    for kind in ("call", "refused"):
        assert threats <= {case["case"] for case in CASES["requests"] if kind in case}


def test_c9_a_routing_header_twice_is_refused_with_the_head() -> None:
    from sidecar.proxy.head import HeadRules, read_head

    for name in (b"Mcp-Method", b"Mcp-Name", b"MCP-Protocol-Version", b"Mcp-Session-Id"):
        fields = [(b"Host", b"h"), (name, b"a"), (name.lower(), b"a")]
        rules = HeadRules(frozenset({"h"}))
        assert read_head("POST", "/files", (1, 1), fields[:2], "::1", rules).first.get(
            name.decode().lower()
        )
        with pytest.raises(Refused):
            read_head("POST", "/files", (1, 1), fields, "::1", rules)


def test_c9_a_parameter_header_twice_is_refused(setup: Setup) -> None:
    from sidecar.proxy.head import HeadRules, read_head

    params = {"name": "x", "arguments": {"a": "b"}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    body = json.dumps(message).encode()
    fields = [
        (b"Host", b"h"),
        (b"Content-Type", b"application/json"),
        (b"Mcp-Param-A", b"b"),
        (b"mcp-param-a", b"b"),
    ]
    rules = HeadRules(frozenset({"h"}))
    once = read_head("POST", "/files", (1, 1), fields[:3], "::1", rules)
    assert setup.call(DIALECT, once, body).tool.operation == "unknown"
    twice = read_head("POST", "/files", (1, 1), fields, "::1", rules)
    with pytest.raises(Refused) as caught:
        setup.call(DIALECT, twice, body)
    assert caught.value.code == "header_mismatch"
