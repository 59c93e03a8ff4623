"""The recorder over a real queue and a real store: what stands where, and what failure opens."""

from __future__ import annotations

import asyncio
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from ledger_setup import REVISION, Ledger, call, decision, ledger, lines_of, principal

from sidecar.errors import Refused
from sidecar.ledger.commitment import NONCE_BYTES, salt_beside
from sidecar.ledger.drafts import query_names
from sidecar.ledger.export import export_lines
from sidecar.ledger.recorder import Intent
from sidecar.ledger.verify import verify_lines
from sidecar.model import (
    Effect,
    HttpFacts,
    Mode,
    Outcome,
    OutcomeKind,
    RuleMatch,
)
from storage.records import Recorded

ID, OTHER_ID = "1" * 32, "2" * 32


async def intent_of(at: Ledger, call_id: str = ID, **values: Any) -> Intent:
    answer = await at.recorder.intent(principal(), call(call_id, **values), decision())
    assert isinstance(answer, Intent)
    return answer


async def facts_of(at: Ledger, seq: int) -> dict[str, Any]:
    row = await at.store.call_facts("default", seq)
    assert row is not None
    found: dict[str, Any] = json.loads(row.facts)
    return found


async def test_an_intent_and_its_outcome(tmp_path: Path) -> None:
    async with ledger(tmp_path) as at:
        intent = await intent_of(at, run_id="run-1", trace_id="trace-1")
        assert at.queue.reserved == 1
        assert [row.call_id for row in await at.store.open_intents("node-1", 9)] == [ID]
        at.recorder.outcome(intent, Outcome(OutcomeKind.COMPLETED, 201))
        first, second = rows = await at.rows()
        assert at.queue.reserved == 0
        assert not await at.store.open_intents("node-1", 9)
        assert (intent.seq, intent.receipt_hash) == (first.seq, first.receipt_hash)
        assert verify_lines(lines_of(rows)).holds
        facts = await at.store.call_facts("default", 1)
        assert facts is not None
        salt = bytes.fromhex(facts.salt)
    named = {name: value for name, value in first._asdict().items() if value is not None}
    assert salt == salt_beside(salt[:NONCE_BYTES], facts.facts.encode())
    assert named.pop("ts_us") > 0 and named.pop("receipt_hash")
    assert named == {
        "tenant_id": "default",
        "seq": 1,
        "kind": "intent",
        "event_id": ID,
        "call_id": ID,
        "agent_id": "agent-1",
        "run_id": "run-1",
        "trace_id": "trace-1",
        "upstream": "github",
        "tool": "github/create_issue",
        "action": "POST",
        "source_trust": "trusted_internal_unsigned",
        "decision": "allow",
        "mode": "enforce",
        "rule_id": "github/issues",
        "rule_hash": "ab" * 16,
        "policy_revision": REVISION,
        "request_sha256": hmac.digest(salt, b'{"title":"broken"}', "sha256").hex(),
        "args_commitment": hmac.digest(salt, b'{"title":"broken"}', "sha256").hex(),
    }
    named = {name: value for name, value in second._asdict().items() if value is not None}
    assert named.pop("ts_us") > 0 and named.pop("receipt_hash")
    assert named.pop("event_id") != ID
    assert named == {
        "tenant_id": "default",
        "seq": 2,
        "kind": "outcome",
        "call_id": ID,
        "agent_id": "agent-1",
        "outcome": "completed",
        "http_status": 201,
    }


async def test_what_the_rules_saw_stands_beside_the_receipt(tmp_path: Path) -> None:
    http = HttpFacts("POST", "/repos/acme", "q=secret-value&q=2&per+page=3&x", "10.0.0.9", {})
    judged = decision(
        mode=Mode.OBSERVE,
        matches=(
            RuleMatch("a/b", "cd" * 16, Effect.DENY),
            RuleMatch("a/c", "cd" * 16, None, Mode.SHADOW, "no such key"),
        ),
        would_be=Effect.DENY,
    )
    async with ledger(tmp_path) as at:
        await at.recorder.intent(principal(), call(ID, http=http), judged)
        facts = await facts_of(at, 1)
    assert facts == {
        "method": "POST",
        "path": "/repos/acme",
        "query": ["q", "per page", "x"],
        "source_ip": "10.0.0.9",
        "declared": True,
        "mutates": True,
        "risk": "high",
        "labels": ["public"],
        "returns": "untrusted_external",
        "team": "web",
        "environment": "prod",
        "agent_risk": "high",
        "code": "policy_allow",
        "reason": "agents may open issues",
        "matches": [["a/b", "deny", "enforce", None], ["a/c", None, "shadow", "no such key"]],
        "would_be": "deny",
    }


@pytest.mark.parametrize(
    ("query", "names"),
    [("", []), ("a", ["a"]), ("a=1&&b=2&a=3", ["a", "b"]), ("%C3%A9=1&%ff", ["é", "\ufffd"])],
)
def test_only_names_of_query_parameters_are_kept(query: str, names: list[str]) -> None:
    assert query_names(query) == names


async def test_g5_secrets_are_masked_before_anything_is_stored(tmp_path: Path) -> None:
    args = {"user": "zoe", "nested": {"Password": "hunter2-canary"}}
    async with ledger(tmp_path) as at:
        await intent_of(at, args=args)
        kept = await at.store.call_facts("default", 1)
        row = (await at.rows())[0]
        assert kept is not None and kept.arguments is not None
        assert json.loads(kept.arguments) == {"user": "zoe", "nested": {"Password": "***"}}
        salt = bytes.fromhex(kept.salt)
        commitment = hmac.digest(salt, kept.arguments.encode(), "sha256").hex()
        assert row.args_commitment == commitment
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"zoe" in stored  # the search would find it
    assert b"hunter2" not in stored


async def test_digest_keeps_no_text_that_can_hold_an_argument(tmp_path: Path) -> None:
    async with ledger(tmp_path) as at:
        at.recorder = at.make_recorder(keeps_arguments=False)
        await intent_of(at)
        kept = await at.store.call_facts("default", 1)
        assert kept is not None and kept.arguments is None
        assert not {"path", "reason"} & json.loads(kept.facts).keys()
        assert (await at.rows())[0].args_commitment


async def test_f7_a_receipt_stands_for_its_facts_also_where_no_arguments_are_kept(
    tmp_path: Path,
) -> None:
    async with ledger(tmp_path) as at:
        await intent_of(at, OTHER_ID)
        at.recorder = at.make_recorder(keeps_arguments=False)
        intent = await intent_of(at)
        at.recorder.outcome(intent, Outcome(OutcomeKind.COMPLETED, 200, request_state="ab" * 32))
        assert await refuse(at, Refused("policy_deny"), call_id="3" * 32, call=call("3" * 32))
        while (await at.store.head("default")).seq < 4:
            await at.queue_turn()
        lines = [line async for line in export_lines(at.store, "default", with_facts=True)]
    found = verify_lines(lines)
    assert (found.fault, found.count, found.facts, found.unvouched) == (None, 4, 4, 0)
    said = [json.loads(line) for line in lines]
    assert [(one["resource"] or "")[:5] for one in said] == ["", "salt:", "salt:", "salt:"]
    assert "broken" not in lines[1].decode()
    for seq in (2, 3, 4):
        one = said[seq - 1]
        other = json.dumps(json.loads(one["facts"]) | {"mcp": {"request_state": "cd" * 32}})
        salt = salt_beside(bytes.fromhex(one["salt"])[:NONCE_BYTES], other.encode()).hex()
        for forged in ({"facts": other}, {"facts": other, "salt": salt}):
            many = [*said[: seq - 1], one | forged, *said[seq:]]
            bad = verify_lines([json.dumps(each).encode() + b"\n" for each in many])
            assert bad.fault is not None and bad.fault.seq == seq, forged


async def test_salts_make_equal_arguments_look_different(tmp_path: Path) -> None:
    async with ledger(tmp_path) as at:
        await intent_of(at, ID)
        await intent_of(at, OTHER_ID)
        first, second = await at.rows()
    assert first.args_commitment != second.args_commitment
    assert first.request_sha256 != second.request_sha256


# -- refusals ------------------------------------------------------------------------------


async def refuse(at: Ledger, refused: Refused, **values: Any) -> Recorded | None:
    given: dict[str, Any] = {
        "call_id": ID,
        "upstream": "github",
        "action": "POST",
        "call": call(ID),
        **values,
    }
    return await at.recorder.refusal(principal(), refused=refused, **given)


async def test_i6_a_refusal_by_policy(tmp_path: Path) -> None:
    denied = decision(Effect.DENY)
    async with ledger(tmp_path) as at:
        recorded = await refuse(at, Refused(denied.code, denied.reason, decision=denied))
        assert recorded is not None
        row = (await at.rows())[0]
        facts = await facts_of(at, 1)
        assert not await at.store.open_intents("node-1", 9)
        assert at.queue.reserved == 0
    assert (row.kind, row.decision, row.outcome, row.http_status) == (
        "refusal",
        "deny",
        "policy_deny",
        403,
    )
    assert (row.rule_id, row.call_id, row.event_id) == ("github/issues", ID, ID)
    assert facts["code"] == "policy_deny"


async def test_i6_a_refusal_of_a_call_nobody_judged(tmp_path: Path) -> None:
    refused = Refused("upstream_busy", detail="for operators")
    async with ledger(tmp_path) as at:
        await refuse(at, refused)
        row = (await at.rows())[0]
        facts = await facts_of(at, 1)
    assert (row.decision, row.mode, row.rule_id, row.policy_revision) == (
        "deny",
        "enforce",
        None,
        None,
    )
    assert facts["reason"] == refused.reason
    assert "for operators" not in json.dumps(facts)


async def test_i6_a_refusal_of_what_never_became_a_call(tmp_path: Path) -> None:
    async with ledger(tmp_path) as at:
        await refuse(at, Refused("invalid_json"), call=None)
        row = (await at.rows())[0]
        assert await at.store.call_facts("default", 1) is None
    assert (row.upstream, row.tool, row.action) == ("github", None, "POST")
    assert (row.outcome, row.http_status, row.args_commitment) == ("invalid_json", 400, None)


async def test_f5_a_call_without_canonical_form_is_a_recorded_400(tmp_path: Path) -> None:
    for number, value in enumerate(("\ud800", float("nan"), 2**60), 1):
        async with ledger(tmp_path) as at:
            bad = call(f"{number:032x}", {"a": value})
            with pytest.raises(Refused) as caught:
                await at.recorder.intent(principal(), bad, decision())
            assert (caught.value.code, caught.value.status) == ("invalid_argument", 400)
            assert at.queue.reserved == 0
            assert await refuse(at, caught.value, call=bad, call_id=bad.call_id) is not None
            row = (await at.rows())[-1]
            assert (row.seq, row.tool, row.outcome) == (
                number,
                "github/create_issue",
                "invalid_argument",
            )


async def test_i6_a_caller_who_leaves_does_not_take_the_refusal_along(tmp_path: Path) -> None:
    async with ledger(tmp_path) as at:
        task = asyncio.create_task(refuse(at, Refused("policy_deny")))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while not (rows := await at.rows()):
            await asyncio.sleep(0.001)
    assert [row.kind for row in rows] == ["refusal"]
    assert at.recorder.unrecorded_refusals == 0


async def test_i6_a_refusal_that_cannot_be_recorded_is_counted(tmp_path: Path) -> None:
    async with ledger(tmp_path) as at:
        assert await refuse(at, Refused("policy_deny")) is not None
        assert await refuse(at, Refused("policy_deny")) is None  # the call began already
        assert at.recorder.unrecorded_refusals == 1
        await at.queue.close()
        assert await refuse(at, Refused("policy_deny"), call_id=OTHER_ID) is None
        assert at.recorder.unrecorded_refusals == 2
