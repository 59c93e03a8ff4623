"""E6 through a whole sidecar: an approver reads the name that was called and all that is sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from proxy_approvals_setup import ANA, TENANT, asking, pending
from proxy_whole_setup import Whole

from sidecar.approvals.asked import NOT_KEPT
from sidecar.approvals.view import compared_with

SHORT = "approvals: {hold: 0s}\n"
UNDECLARED = """policy: p
rules:
  - {id: asks, effect: require_approval, tools: mcp/*, reason: "{tool.name} needs somebody"}
"""
MASKING = """policy: p
rules:
  - id: asks
    effect: require_approval
    tools: mcp/*
    reason: "{tool.name} needs somebody"
    obligations: {redact: {request: [email]}}
"""


async def call(one: Whole, name: str, **beside: Any) -> None:
    message = {
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": name, "arguments": {"text": "x"}, "_meta": {"m": 1}, **beside},
    }  # fmt: skip
    accepts = {"Accept": "application/json, text/event-stream"}
    answer = await one.ask("POST", "/mcp", message, accepts)
    said = answer.json["error"]["data"]["code"] if "task" in beside else answer.json["result"]
    assert "approval_pending" in str(said), answer.json


async def read(one: Whole) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the one that waits asks, and the answer to it beside the one before; it gets its yes."""
    deciding = one.sidecar.approvals.deciding
    row = await pending(one)
    before = await deciding.granted_before(row)
    await deciding.approve(TENANT, row.approval_id, ANA)
    asked: dict[str, Any] = json.loads(row.asked)
    return asked, compared_with(row, before)


async def test_e6_a_yes_for_one_undeclared_tool_is_not_the_same_as_for_another(
    tmp_path: Path,
) -> None:
    async with asking(tmp_path, SHORT, UNDECLARED) as one:
        await call(one, "echo")
        asked, _ = await read(one)
        assert (asked["tool"], asked["called"]) == ("mcp/unknown", "echo")
        await call(one, "delete_everything")
        asked, told = await read(one)
        assert asked["called"] == "delete_everything"
        assert [tuple(one.values()) for one in told["last_approved"]["differences"]] == [
            ("changed", "called", "echo", "delete_everything")
        ]


async def test_e6_what_is_sent_beside_the_arguments_is_read_and_compared(tmp_path: Path) -> None:
    async with asking(tmp_path, SHORT, UNDECLARED) as one:
        await call(one, "send")
        asked, _ = await read(one)
        assert "beside" not in asked, "positive control"
        answers = {"q1": {"action": "accept", "content": {"amount": 9, "password": "hidden"}}}
        await call(one, "send", inputResponses=answers, requestState="s\u202e1", task={"ttl": 5})
        asked, told = await read(one)
        shown = answers["q1"] | {"content": {"amount": 9, "password": "***"}}
        assert asked["beside"] == {
            "inputResponses": {"q1": shown}, "requestState": "s\\u202e1", "task": {"ttl": 5},
        }  # fmt: skip
        found = [(one["what"], one["at"]) for one in told["last_approved"]["differences"]]
        assert found == [("added", "beside")]


@pytest.mark.parametrize(
    ("more", "policy", "shown"),
    [
        ("record: {arguments: digest}\n", UNDECLARED, NOT_KEPT),
        ("", MASKING, {"requestState": "of ***"}),
        ("", UNDECLARED, {"requestState": "of ana@example.com"}),
    ],
    ids=["digests", "masked", "control"],
)
async def test_e6_what_is_not_to_be_kept_is_not_kept_beside_the_arguments_either(
    tmp_path: Path, more: str, policy: str, shown: Any
) -> None:
    async with asking(tmp_path, SHORT + more, policy) as one:
        await call(one, "send", requestState="of ana@example.com")
        asked, _ = await read(one)
        assert asked["beside"] == shown
