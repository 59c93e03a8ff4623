"""What rules in shadow would change: as it was recorded, in the API and on the console's pages."""

from __future__ import annotations

import re
from typing import Any

import pytest
from api_examples import TRIAL, in_shadow
from api_setup import Served, key_of
from test_api_console import browser

from sidecar.ledger.receipt import blank_receipt
from sidecar.model import Decision, Effect
from storage import listings
from storage.records import CallFactsRow, Entry, Recorded

VIEWER = key_of("acme", "viewer")
DIFFERENCES = "/v1/policies/shadow/differences"


async def told(served: Served, key: str = VIEWER) -> dict[str, Any]:
    return {one["call_id"]: one for one in await served.pages(DIFFERENCES + "?limit=2", key)}


async def test_what_differs_is_listed_with_the_rules_and_nothing_else(
    served_by_each: Served,
) -> None:
    served = served_by_each
    assert await told(served) == {}, "nothing was in shadow"
    await in_shadow(served)
    call = served.recorder.call
    await call("acme", "would-refuse", args={"id": "7"})
    await call("acme", "same", args={"id": "8"})
    await call("acme", "would-allow", "shop/refund", {"amount": 70})
    await call("acme", "same-refusal", "shop/refund", {"amount": 55})
    await call("acme", "would-ask", "shop/login", {"password": "x"})
    await call("rival", "rivals", args={"id": "7"})
    found = await told(served)
    assert list(found) == ["would-ask", "would-allow", "would-refuse"], "newest first"
    assert {
        name: (one["decision"], one["would_be"], [rule["rule"] for rule in one["rules"]])
        for name, one in found.items()
    } == {
        "would-ask": ("allow", "require_approval", ["live/asks"]),
        "would-allow": ("deny", "allow", ["trial/large"]),
        "would-refuse": ("allow", "deny", ["trial/no-reads"]),
    }
    one = found["would-refuse"]
    assert (one["agent_id"], one["tool"], one["mode"]) == ("coder-acme", "shop/get", "enforce")
    assert one["policy_revision"] == served.policies.current.revision
    assert list(await told(served, key_of("rival", "viewer"))) == ["rivals"]


async def test_a_rule_that_could_not_be_judged_says_so(served: Served) -> None:
    await in_shadow(served)
    (served.policies._base / "policies" / "trial.yaml").write_text(
        TRIAL.replace('args.none == "x"', 'args.id.size() > 5 && args.id.substring(9) == "x"')
    )
    if not (await served.policies.reload()).succeeded:
        pytest.fail(str(served.policies.problems))
    await served.recorder.call("acme", "short", args={"id": "123456"})
    (rule,) = (await told(served))["short"]["rules"]
    assert rule["rule"] == "trial/fails" and rule["error"], rule


async def test_what_a_caller_writes_is_not_taken_for_what_was_recorded(served: Served) -> None:
    """Only the end of the facts says it, and no text or member of a caller's stands there."""
    hostile = (
        '{"path":"\\"would_be\\":\\"deny\\"}"}',
        '{"rest":{"would_be":"deny"}}',
        '{"rest":{"would_be":"deny"},"path":"/x"}',
        '{"code":"x","would_be":"allow"}',
    )
    for number, facts in enumerate((*hostile, '{"code":"x","would_be":"deny"}')):
        row = blank_receipt(
            "acme", "intent", event_id=f"e{number}", call_id=f"hostile-{number}", ts_us=1
        )._replace(decision="allow")
        beside = CallFactsRow("acme", 0, "00" * 16, None, facts)
        answer = await served.queue.submit(Entry(row, beside))
        assert isinstance(answer, Recorded), answer
    assert list(await told(served)) == ["hostile-4"], "the last is the positive control"


async def test_a_page_looks_at_so_many_receipts_and_the_next_goes_on(
    served_by_each: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = served_by_each
    await in_shadow(served)
    await served.recorder.call("acme", "first", args={"id": "7"})
    for number in range(4):
        await served.recorder.call("acme", f"same-{number}", args={"id": "8"})
    monkeypatch.setattr(listings, "DIFFERENCES_LOOKED_AT", 5)
    status, body, headers = await served.ask(DIFFERENCES, VIEWER)
    assert (status, body) == (200, []) and headers["X-Next-Cursor"]
    assert list(await told(served)) == ["first"], "and it is found by going on"
    status, body, _ = await served.ask(f"{DIFFERENCES}?cursor=abc", VIEWER)
    assert (status, body["code"]) == (400, "invalid_cursor")


async def test_the_counts_are_those_since_the_start(served: Served) -> None:
    counters = served.api._rooms.state._sources.counters
    _, body, _ = await served.ask("/v1/policies/shadow", VIEWER)
    assert (body["same"], body["different"], body["differences"]) == (0, 0, [])

    def decided(effect: Effect, would_be: Effect | None) -> None:
        counters.decided(Decision(effect, "x", "", "0" * 32, would_be=would_be), 1, "acme")

    decided(Effect.ALLOW, None)
    decided(Effect.ALLOW, Effect.ALLOW)
    decided(Effect.DENY, Effect.REQUIRE_APPROVAL)
    for _ in range(2):
        decided(Effect.ALLOW, Effect.DENY)
    _, body, _ = await served.ask("/v1/policies/shadow", VIEWER)
    assert (body["same"], body["different"]) == (1, 3)
    assert body["differences"] == [
        {"decision": "allow", "would_be": "deny", "calls": 2},
        {"decision": "deny", "would_be": "require_approval", "calls": 1},
    ]
    assert 0 <= served.clock.now_us() - body["counted_from_us"] < 600_000_000
    _, body, _ = await served.ask("/v1/policies/shadow", key_of("rival", "viewer"))
    assert (body["same"], body["different"]) == (0, 0), "what another tenant's calls met"


async def test_a_rule_in_shadow_says_what_is_to_be_promoted(served: Served) -> None:
    await in_shadow(served)
    _, rules, _ = await served.ask("/v1/policies/rules", VIEWER)
    assert {one["rule"]: one["promote"] for one in rules if one["mode"] == "shadow"} == {
        "trial/no-reads": "trial", "trial/large": "trial", "live/asks": "live/asks",
    }  # fmt: skip
    live = [one["promote"] for one in rules if one["mode"] == "enforce"]
    assert live and set(live) == {None}


async def test_the_pages_tell_what_is_in_shadow_and_link_to_the_calls(served: Served) -> None:
    at = await browser(served).sign_in("acme", "viewer")
    assert "In shadow" not in (await at.open("/policies"))[1], "nothing is"
    await in_shadow(served)
    _, text = await at.open("/policies")
    assert "policy promote trial<" in text and "policy promote live/asks<" in text
    assert "No call on record would have been decided otherwise." in text
    assert re.search(r'policies/file\?file=policies/trial.yaml#L4"><code>policies/trial', text)
    for number in range(12):
        await served.recorder.call("acme", f"would-refuse-{number}", args={"id": "7"})
    counters = served.api._rooms.state._sources.counters
    counters.decided(Decision(Effect.ALLOW, "x", "", "0" * 32, would_be=Effect.DENY), 1, "acme")
    _, text = await at.open("/policies")
    assert '<a href="/console/calls/would-refuse-11">' in text
    assert "would-refuse-0" not in text and 'href="/console/policies/shadow"' in text
    assert re.search(r"of 1 decision .*are about, <b>1</b> would be another", text)
    _, text = await at.open("/policies/shadow?limit=5")
    assert text.count("/console/calls/would-refuse-") == 5
    following = re.search(r'href="/console(/policies/shadow[^"]+cursor[^"]+)"', text)
    assert following is not None
    _, text = await at.open(following[1].replace("&amp;", "&"))
    assert "/console/calls/would-refuse-2" in text and "would-refuse-8" not in text
    _, text = await at.open("/calls/would-refuse-0")
    assert re.search(r"With the rules in shadow</dt><dd><span class=.tag deny.>", text)
    _, text = await at.open("/policies/file?file=policies/live.yaml")
    assert re.search(r'live/asks <span class="tag shadow">', text)
    assert "shadow</span>" not in text.partition("live/no-one")[2]
    await at.client.close()
