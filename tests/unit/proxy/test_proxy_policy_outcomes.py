"""What callers and the record see of approvals and limits, through a whole sidecar."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
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


async def test_c_what_needs_an_approval_waits_and_that_is_said_and_recorded(tmp_path: Path) -> None:
    more = "approvals: {hold: 0s}\n"
    async with whole(tmp_path, answering(OK), {**CATALOGUES, "p.yaml": POLICY}, more) as one:
        rest = await one.ask("PUT", "/api/put", {})
        tool = await one.tool("send")
        allowed = await one.ask("POST", "/api/post", {})
    assert (rest.status, rest.json["code"], rest.json["rule"]) == (
        403, "approval_pending", "p/asks",
    )  # fmt: skip
    assert rest.json["detail"] == "api/put needs somebody"
    assert rest.json["next_step"]
    assert tool.status == 200
    assert tool.json["result"]["isError"] is True
    assert rest.json["approval"] in rest.json["approval_url"]
    assert 1 <= int(rest.headers["retry-after"]) <= 5
    assert "approval_pending" in tool.json["result"]["content"][0]["text"]
    assert allowed.status == 200, "positive control"
    assert one.arrived.count(b" HTTP/1.1\r\n") == 1
    recorded = receipts(tmp_path)
    asked = [receipt for receipt in recorded if receipt["kind"] == "approval"]
    assert [(receipt["action"], receipt["tool"]) for receipt in asked] == [
        ("approval.ask", "api/put"), ("approval.ask", "mcp/send"),
    ]  # fmt: skip
    first, second, *rest_of_it = [receipt for receipt in recorded if receipt not in asked]
    assert first["approval_id"] == rest.json["approval"] == asked[0]["approval_id"]
    assert first["approver"] is None
    for receipt in (first, second):
        assert (receipt["kind"], receipt["decision"], receipt["mode"]) == (
            "refusal", "require_approval", "enforce",
        )  # fmt: skip
        assert (receipt["rule_id"], receipt["outcome"]) == ("p/asks", "approval_pending")
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


SHADOW = """policy: trial
mode: shadow
rules:
  - id: adds
    tools: api/post
    obligations:
      redact: {request: [args.pin, email], response: body.jsonrpc}
      max_response: 1B
      headers: {set: {x-trial: "1"}, remove: x-kept}
      idempotency_key: required
      add_labels: seen
    limits: [{max: 1, window: 1h}, {sum: args.n, max: 1, window: 1h}]
  - {id: asks, effect: require_approval, tools: api/post, when: args.n == 2}
  - {id: fails, effect: allow, tools: api/post, when: args.missing == 3}
  - {id: marked, effect: deny, tools: api/put, run: {labels: seen}}
"""


async def test_d8_what_is_in_shadow_is_recorded_and_changes_nothing(tmp_path: Path) -> None:
    """Not the request, not the answer, not the run, no count; its errors refuse nothing."""
    live = "policy: p\nrules: [{id: all, effect: allow, tools: api/*}]\n"
    files = {**CATALOGUES, "p.yaml": live, "trial.yaml": SHADOW}
    async with whole(tmp_path, answering(OK), files) as one:
        for n in (1, 2):
            body = {"pin": 7, "mail": "a@b.example", "n": n}
            answer = await one.ask("POST", "/api/post", body, {"X-Kept": "yes"})
            assert (answer.status, answer.json["jsonrpc"]) == (200, "2.0")
        put = await one.ask("PUT", "/api/put", {})
        counted = await one.metric("aegis_shadow_decisions_total")
    assert put.status == 200
    assert one.arrived.count(b'"pin": 7') == 2 and one.arrived.count(b"a@b.example") == 2
    assert one.arrived.lower().count(b"x-kept: yes") == 2 and b"x-trial" not in one.arrived
    first, second, third = [row for row in receipts(tmp_path) if row["kind"] == "intent"]
    assert json.loads(first["arguments"]) == {"pin": 7, "mail": "a@b.example", "n": 1}
    for row in (first, second, third):
        assert (row["decision"], row["mode"], row["rule_id"]) == ("allow", "enforce", "p/all")
    matched = [[rule, effect, mode] for rule, effect, mode, error in second["facts"]["matches"]
               if error is None]  # fmt: skip
    assert matched == [
        ["p/all", "allow", "enforce"],
        ["trial/adds", None, "shadow"],
        ["trial/asks", "require_approval", "shadow"],
    ]
    (failed,) = [one for one in second["facts"]["matches"] if one[3] is not None]
    assert failed[:3] == ["trial/fails", "allow", "shadow"]
    assert [row["facts"].get("would_be") for row in (first, second, third)] == [
        "deny", "deny", "allow",
    ]  # fmt: skip
    assert counted == {
        '{effect="allow",would_be="deny"}': 2,
        '{effect="allow",would_be="allow"}': 1,
    }


@pytest.mark.parametrize(("api", "divides"), [("", False), (", run: trusted", True)])
async def test_c_a_run_id_divides_the_work_only_where_the_upstream_says_so(
    tmp_path: Path, api: str, divides: bool
) -> None:
    files = {
        "api.yaml": "catalogue: api\ntools:\n"
        "  get: {route: GET /get, returns: untrusted_external}\n"
        "  put: {route: PUT /put, returns: trusted_internal_unsigned}\n",
        "p.yaml": "policy: p\nrules:\n  - {id: all, effect: allow, tools: api/*}\n"
        "  - {id: no, effect: deny, tools: api/put, run: {trust: untrusted_external}}\n",
    }
    async with whole(tmp_path, answering(OK), files, api=api) as one:
        statuses = [
            (await one.ask(method, path, body, {"Aegis-Run": run})).status
            for method, path, body, run in (
                ("PUT", "/api/put", {}, "a"),
                ("GET", "/api/get", None, "a"),
                ("PUT", "/api/put", {}, "a"),
                ("PUT", "/api/put", {}, "b"),
            )
        ]
    assert statuses == [200, 200, 403, 200 if divides else 403]


async def test_b11_a_header_that_connection_names_is_none_for_the_rules(tmp_path: Path) -> None:
    rules = {
        "api.yaml": "catalogue: api\ntools: {post: POST /post}\n",
        "p.yaml": "policy: p\nrules:\n  - {id: dry, effect: allow, tools: api/post,"
        " when: \"'x-dry-run' in http.headers && http.headers['x-dry-run'] == 'true'\"}\n",
    }
    async with whole(tmp_path, answering(OK), rules) as one:
        control = await one.ask("POST", "/api/post", {}, {"X-Dry-Run": "true"})
        assert control.status == 200, "positive control"
        assert b"x-dry-run: true" in one.arrived.lower()
        before = len(one.arrived)
        sent = {"X-Dry-Run": "true", "connection": "X-Dry-Run"}
        answer = await one.ask("POST", "/api/post", {}, sent)
        arrived = one.arrived[before:].lower()
    assert answer.status != 200 or b"x-dry-run: true" in arrived
