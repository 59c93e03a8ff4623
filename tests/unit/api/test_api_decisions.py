"""Decisions, audit, counts: what is found by which filter, and that no page looks at everything."""

from __future__ import annotations

from typing import Any

import pytest
from api_setup import CANARY, Served, key_of

from sidecar.control.api.times import time_text
from storage import listings


def ids(body: list[dict[str, Any]]) -> list[str]:
    return [one["decision_id"] for one in body]


@pytest.fixture
async def filled(served_by_each: Served) -> Served:
    """Calls that differ in all that can be asked for."""
    record = served_by_each.recorder.call
    await record("acme", "a1", agent="second", run_id="run-1", trace_id="trace-1")
    await record("acme", "a2", "shop/refund", {"amount": 45}, approval_id="ap-1")
    await record("acme", "a3", "shop/refund", {"amount": 99}, agent="second")
    await record("acme", "a4", ends=False)
    return served_by_each


FILTERS = (
    ("", "a4 a3 a2 a1 refused-acme refund-acme login-acme call-of-acme"),
    ("agent_id=second", "a3 a1"), ("run_id=run-1", "a1"), ("trace_id=trace-1", "a1"),
    ("approval_id=ap-1", "a2"), ("decision=deny", "a3 refused-acme"),
    ("decision=require_approval", ""), ("code=default_deny", "a3 refused-acme"),
    ("code=policy_allow", ""), ("tool=shop/login", "login-acme"), ("rule=shop/small",
    "a2 refund-acme"), ("upstream=shop&limit=2", "a4 a3"), ("upstream=mail", ""),
    ("agent_id=second&decision=allow", "a1"), ("limit=2&offset=2", "a2 a1"),
    ("agent_id=second&offset=1", "a1"), ("offset=1000", ""),
)  # fmt: skip


async def test_w16_filters_and_offsets_hold(filled: Served) -> None:
    for query, wanted in FILTERS:
        status, body, _ = await filled.ask(f"/v1/decisions?{query}")
        assert (status, ids(body)) == (200, wanted.split()), query


async def test_w17_times_bound_what_is_listed_exactly(filled: Served) -> None:
    whole = (await filled.ask("/v1/decisions"))[1]
    times = [one["ts_us"] for one in whole]
    assert times == sorted(times, reverse=True)
    for at, one in enumerate(whole):
        until = (await filled.ask(f"/v1/decisions?to={one['at']}"))[1]
        assert ids(until) == ids([x for x in whole if x["ts_us"] < one["ts_us"]])
        since = (await filled.ask(f"/v1/decisions?from={one['at']}"))[1]
        assert ids(since) == ids([x for x in whole if x["ts_us"] >= one["ts_us"]])
        assert one["at"] == time_text(times[at])
    nothing = await filled.ask(f"/v1/decisions?from={whole[0]['at']}&to={whole[-1]['at']}")
    assert nothing[1] == []
    future = await filled.ask("/v1/decisions?from=2999-01-01T00:00:00Z")
    assert (future[1], "X-Next-Cursor" in future[2]) == ([], False)


async def test_a_decision_tells_how_the_call_ended(filled: Served) -> None:
    found = {one["decision_id"]: one for one in (await filled.ask("/v1/decisions"))[1]}
    assert found["a1"]["ending"]["outcome"] == "completed"
    assert found["a1"]["ending"]["http_status"] == 200
    assert (found["a4"]["ending"], found["a4"]["went_ahead"]) == (None, True)
    assert (found["a3"]["ending"], found["a3"]["went_ahead"]) == (None, False)
    assert (found["a3"]["code"], found["a3"]["http_status"]) == ("default_deny", 403)


async def test_one_decision_has_what_the_rules_saw_masked_and_its_receipts(filled: Served) -> None:
    _, body, _ = await filled.ask("/v1/decisions/login-acme")
    assert body["arguments"] == {"password": "***"} and CANARY not in str(body)
    assert body["facts"]["code"] == "policy_allow"
    assert [one["kind"] for one in body["receipts"]] == ["intent", "outcome"]
    assert body["receipts"][0]["seq"] == body["seq"]
    verdict = await filled.ask(
        "/v1/receipts/verify-chain", method="POST", body={"receipts": body["receipts"]}
    )
    assert verdict[1]["verified"], verdict[1]


async def test_a_rare_filter_costs_so_many_rows_a_page_and_goes_on(
    filled: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "RECEIPTS_LOOKED_AT", 3)
    status, body, headers = await filled.ask("/v1/decisions?tool=shop/login")
    assert (status, body, "X-Next-Cursor" in headers) == (200, [], True)
    assert ids(await filled.pages("/v1/decisions?tool=shop/login")) == ["login-acme"]
    assert len(await filled.pages("/v1/decisions?limit=2")) == 8
    monkeypatch.setattr(listings, "CHANGES_LOOKED_AT", 2)
    assert await filled.pages("/v1/audit/events?actor=person:nobody") == []
    assert len(await filled.pages("/v1/audit/events?limit=1")) == 5


SEARCHES = (
    ("", 5), ("actor=person:acme", 5), ("actor=person:rival", 0), ("action=made", 5),
    ("action=mad", 0), ("subject=thing:acme&action=made", 5), ("subject=thing", 0),
    ("from=2999-01-01T00:00:00Z", 0), ("to=2999-01-01T00:00:00Z", 5),
    ("to=2001-01-01T00:00:00Z", 0), ("limit=2&offset=4", 1),
)  # fmt: skip


async def test_the_audit_is_searched(served_by_each: Served) -> None:
    for query, count in SEARCHES:
        status, body, _ = await served_by_each.ask(f"/v1/audit/events?{query}")
        assert (status, len(body)) == (200, count), query
        seqs = [one["seq"] for one in body]
        assert seqs == sorted(seqs, reverse=True)


async def test_stats_count_the_window_and_say_how_far(
    filled: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, body, _ = await filled.ask("/v1/stats")
    assert (body["total_decisions"], body["decisions_allow"], body["decisions_deny"]) == (8, 6, 2)
    assert body["is_complete"] and body["total_agents"] == 2
    assert body["by_agent"][0] == {
        "name": "coder-acme", "total": 6, "allow": 5, "deny": 1, "require_approval": 0,
    }  # fmt: skip
    assert sum(one["total"] for one in body["by_tool"]) == 8
    _, later, _ = await filled.ask("/v1/stats?from=2999-01-01T00:00:00Z")
    assert later["total_decisions"] == 0
    monkeypatch.setattr("sidecar.control.api.overview.RECEIPTS_COUNTED", 3)
    _, short, _ = await filled.ask("/v1/stats")
    assert (short["is_complete"], short["total_decisions"]) == (False, 2)
    assert short["counted_from_us"] > body["counted_from_us"]


async def test_g10_what_is_done_here_is_on_record_with_who_did_it(served: Served) -> None:
    operator = key_of("acme", "operator")
    _, reset, _ = await served.ask(
        "/v1/agents/coder-acme/run/reset", operator, method="POST", body={"reason": "it is over"}
    )
    _, accepted, _ = await served.ask(
        "/v1/tools/accept", operator, method="POST",
        body={"upstream": "mail", "tools": ["send"], "seen": "cdcd", "reason": "looked at it"},
    )  # fmt: skip
    for seq, action, subject, reason in (
        (reset["seq"], "run.reset", "run:coder-acme", "it is over"),
        (accepted["seq"], "tools.accepted", "upstream:mail", "looked at it"),
    ):
        _, event, _ = await served.ask(f"/v1/audit/events/{seq}")
        assert (event["actor"], event["action"]) == ("person:operator", action)
        assert (event["subject"], event["reason"]) == (subject, reason)
        _, facts, _ = await served.ask(f"/v1/receipts/{seq}/facts")
        assert facts["arguments"]["actor"] == "person:operator", "the receipt commits to it"
    assert event["before"] == {"send": "ab" * 32} and event["after"] == {"send": "cd" * 32}
    again = await served.ask(
        "/v1/tools/accept", operator, method="POST", body={"upstream": "mail", "tools": ["send"]}
    )
    assert again[0] == 404 and "not drifted" in again[1]["detail"]


async def test_a_run_of_an_agent_that_only_the_store_knows(served: Served) -> None:
    assert (await served.ask("/v1/agents/stored-acme/run"))[0] == 200
    assert (await served.ask("/v1/agents/nobody/run"))[0] == 404
    _, body, _ = await served.ask("/v1/agents?status=frozen")
    assert [one["id"] for one in body] == ["stored-acme"]
