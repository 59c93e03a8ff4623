"""A call whose decision cannot be recorded, because what it rested on keeps changing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from proxy_whole_setup import Whole, receipts, whole
from proxy_wire_setup import answering

from sidecar.errors import Refused
from sidecar.identity.registry import Registry
from sidecar.ledger.recorded_call import recorded_call
from sidecar.ledger.recorder import Recorder
from sidecar.policy.load import Source, load_policies
from sidecar.policy.replay import Replay
from sidecar.proxy.judging import DECISIONS_MAX
from storage.records import CallFactsRow, ReceiptRow, Stale

OK = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
CARD = "4111 1111 1111 1111"
POLICIES = {
    "api.yaml": "catalogue: api\ntools: {get: GET /get, post: POST /post}\n",
    "p.yaml": "policy: p\nrules:\n"
    "  - {id: all, effect: allow, tools: [api/*]}\n"
    "  - {id: mask, tools: api/post, obligations: {redact: {request: [card_number]}}}\n",
}


def change_for(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """As often the store says that what a decision rested on is another by now."""
    real, tries = Recorder.intent, [0]

    async def intent(self: Recorder, principal: Any, *of_it: Any) -> Any:
        tries[0] += 1
        if tries[0] <= times:
            return Stale(principal.epoch, None)
        return await real(self, principal, *of_it)

    monkeypatch.setattr(Recorder, "intent", intent)
    return tries


async def ask(one: Whole) -> tuple[int, str]:
    answer = await one.ask("POST", "/api/post", {"text": CARD})
    return answer.status, answer.json["code"] if answer.status != 200 else ""


async def test_the_last_decision_is_recorded_with_the_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = change_for(monkeypatch, DECISIONS_MAX)
    async with whole(tmp_path, OK, POLICIES) as one:
        assert await ask(one) == (503, "stale_decision")
        assert (tries, one.arrived) == ([DECISIONS_MAX], b"")
        assert (await ask(one))[0] == 200, "positive control"
    refusal, intent = (one for one in receipts(tmp_path) if one["kind"] in ("refusal", "intent"))
    assert (refusal["outcome"], refusal["http_status"]) == ("stale_decision", 503)
    for name in ("rule_id", "rule_hash", "policy_revision"):
        assert refusal[name] and refusal[name] == intent[name]
    assert (refusal["decision"], refusal["mode"]) == ("deny", "enforce")
    assert refusal["facts"]["code"] == "stale_decision"
    assert [match[0] for match in refusal["facts"]["matches"]] == ["p/all", "p/mask"]
    assert json.loads(refusal["arguments"]) == {"text": "***"}, "masked as what is forwarded"
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("aegis.db*"))
    assert CARD.encode() not in stored

    row = ReceiptRow(**{name: refusal[name] for name in ReceiptRow._fields})
    facts, arguments = json.dumps(refusal["facts"]), refusal["arguments"]
    told = recorded_call(row, CallFactsRow("default", row.seq, "", arguments, facts))
    assert (told.code, told.rule_id) == ("stale_decision", "p/all")
    others = [Source(name, text.encode()) for name, text in POLICIES.items() if name != "p.yaml"]
    loaded = load_policies(
        others, upstreams={"api": "rest"}, default="deny", read_file=lambda source, path: b""
    )
    assert loaded.policy_set is not None, loaded.problems
    replay = Replay(loaded.policy_set)
    replay.add(
        told.principal, told.call, told.at_us, told.hidden, effect_then=told.effect,
        code_then=told.code, rule_then=told.rule_id, revision_then=told.revision,
    )  # fmt: skip
    assert (replay.skipped, replay.same, replay.changed) == ({"stale": 1}, 0, 0)


async def test_what_is_masked_stays_so_where_the_caller_is_stopped_between_two_tries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_for(monkeypatch, 1)

    async def frozen(self: Registry, principal: Any) -> Any:
        raise Refused("agent_frozen")

    monkeypatch.setattr(Registry, "again", frozen)
    async with whole(tmp_path, OK, POLICIES) as one:
        assert await ask(one) == (403, "agent_frozen")
        assert (await ask(one))[0] == 200, "positive control"
    (refusal,) = (one for one in receipts(tmp_path) if one["kind"] == "refusal")
    assert (refusal["outcome"], json.loads(refusal["arguments"])) == (
        "agent_frozen", {"text": "***"},
    )  # fmt: skip
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("aegis.db*"))
    assert CARD.encode() not in stored


async def test_a_decision_that_holds_at_last_goes_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = change_for(monkeypatch, DECISIONS_MAX - 1)
    async with whole(tmp_path, OK, POLICIES) as one:
        assert await ask(one) == (200, "")
    assert tries == [DECISIONS_MAX]
    assert [one["kind"] for one in receipts(tmp_path)][-2:] == ["intent", "outcome"]
