"""What callers and the record see of approvals and limits, through a whole sidecar."""

from __future__ import annotations

from pathlib import Path

from proxy_whole_setup import receipts, whole
from proxy_wire_setup import answering

CATALOGUES = {
    "api.yaml": "catalogue: api\ntools: {get: GET /get, put: PUT /put, post: POST /post}\n",
    "mcp.yaml": "catalogue: mcp\ntools: {send: {}, look: {mutates: false}}\n",
}
POLICY = """policy: p
rules:
  - {id: all, effect: allow, tools: [api/*, mcp/*]}
  - id: asks
    effect: require_approval
    tools: [api/put, mcp/send]
    reason: "{tool.name} needs somebody"
    approval: {approvers: finance, quorum: 2}
  - id: pace
    tools: [api/get, mcp/look]
    limits: {per: agent, max: 2, window: 1h}
    reason: "{agent.name}: {limit.used} of {limit.max} an hour"
"""
OK = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 36\r\n\r\n"
    b'{"jsonrpc":"2.0","id":1,"result":{}}'
)


async def test_c_what_needs_an_approval_is_refused_said_and_recorded(tmp_path: Path) -> None:
    async with whole(tmp_path, answering(OK), {**CATALOGUES, "p.yaml": POLICY}) as one:
        rest = await one.ask("PUT", "/api/put", {})
        tool = await one.tool("send")
        allowed = await one.ask("POST", "/api/post", {})
    assert (rest.status, rest.json["code"], rest.json["rule"]) == (
        403, "approval_required", "p/asks",
    )  # fmt: skip
    assert rest.json["detail"] == "api/put needs somebody"
    assert rest.json["next_step"]
    assert tool.status == 200
    assert tool.json["result"]["isError"] is True
    assert "approval_required" in tool.json["result"]["content"][0]["text"]
    assert allowed.status == 200, "positive control"
    assert one.arrived.count(b" HTTP/1.1\r\n") == 1
    first, second, *rest_of_it = receipts(tmp_path)
    for receipt in (first, second):
        assert (receipt["kind"], receipt["decision"], receipt["mode"]) == (
            "refusal", "require_approval", "enforce",
        )  # fmt: skip
        assert (receipt["rule_id"], receipt["outcome"]) == ("p/asks", "approval_required")
        assert receipt["facts"]["code"] == "approval_required"
    assert [one["kind"] for one in rest_of_it] == ["intent", "outcome"]


async def test_d9_over_the_limit_is_429_with_retry_after_and_on_record(tmp_path: Path) -> None:
    async with whole(tmp_path, answering(OK), {**CATALOGUES, "p.yaml": POLICY}) as one:
        answers = [await one.ask("GET", "/api/get") for _ in range(2)]
        tool = await one.tool("look")
        over = await one.ask("GET", "/api/get")
        other = await one.ask("POST", "/api/post", {})
    assert [answer.status for answer in answers] == [200, 200]
    assert over.status == 429
    assert (over.json["code"], over.json["rule"]) == ("rate_limited", "p/pace")
    assert over.json["detail"] == "agent: 2 of 2 an hour"
    assert 1790 <= int(over.headers["retry-after"]) <= 1800
    assert tool.json["result"]["isError"] is True
    assert "Retry after: " in tool.json["result"]["content"][0]["text"]
    assert other.status == 200, "positive control"
    refused = [one for one in receipts(tmp_path) if one["kind"] == "refusal"]
    assert [one["outcome"] for one in refused] == ["rate_limited", "rate_limited"]
    assert {one["decision"] for one in refused} == {"deny"}
    assert {one["rule_id"] for one in refused} == {"p/pace"}
    assert all(len(one["rule_hash"]) == 32 for one in refused)


async def test_d8_what_only_observes_says_so_and_refuses_nothing(tmp_path: Path) -> None:
    async with whole(
        tmp_path, answering(OK), {**CATALOGUES, "p.yaml": POLICY}, "default: observe\n"
    ) as one:
        answers = [await one.ask("GET", "/api/get") for _ in range(4)]
        answers.append(await one.ask("PUT", "/api/put", {}))
    assert [answer.status for answer in answers] == [200] * 5
    intents = [one for one in receipts(tmp_path) if one["kind"] == "intent"]
    assert [(one["decision"], one["mode"], one["facts"]["code"]) for one in intents] == [
        ("allow", "enforce", "policy_allow"),
        ("allow", "enforce", "policy_allow"),
        ("deny", "observe", "rate_limited"),
        ("deny", "observe", "rate_limited"),
        ("require_approval", "observe", "approval_required"),
    ]
