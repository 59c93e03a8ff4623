"""A yes is spent under today's rules, once, by its agent, for its action."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from authorize_setup import AGENT_TOKEN, ANA, POLICY, Stage, call, clients_hash, stage, verified

from sidecar.approvals.states import Terms, Vote, terms_text, votes_text
from sidecar.authorize.consuming import Yes
from sidecar.clock import Clock
from sidecar.model import Decision, Effect
from storage.standing import ApprovalRow

TERMS = terms_text(Terms((), "", "0" * 64))
VOTES = votes_text([Vote("person:ana", "ana", True, "", 2, ())])
ASKS = Decision(Effect.REQUIRE_APPROVAL, "approval_required", "", "rev")
MERGE = call("merge_pull_request", mutates=True, parameters={"pull_number": 4})
SECRET = call("merge_pull_request", mutates=True, parameters={"pull_number": 5, "token": "t-1"})


async def approved(one: Stage, request: dict[str, Any]) -> str:
    answer = await one.authorize(request, token=AGENT_TOKEN)
    assert answer.json["decision"] == "require_approval", answer
    await one.approve(answer.json["approval"]["approval_id"], ANA)
    return f"/v1/approvals/{answer.json['approval']['approval_id']}"


async def consume(one: Stage, path: str, claimed: str | None = None) -> tuple[int, str]:
    body = None if claimed is None else {"claimed_action_hash": claimed}
    answer = await one.ask("POST", f"{path}/consume", body, token=AGENT_TOKEN)
    return answer.status, answer.json.get("details", {}).get("reason", "")


async def put_policy(one: Stage, text: str) -> None:
    """Another policy, in force."""
    loads = one.log.getvalue().count("policies are in force")
    (one.folder / "policies" / "story.yaml").write_text(text)
    one.sidecar.reload_soon()
    for _ in range(100):
        await asyncio.sleep(0.05)
        if one.log.getvalue().count("policies are in force") > loads:
            return
    raise AssertionError(one.log.getvalue())


async def test_e2_of_many_spenders_one_wins(tmp_path: Path) -> None:
    async with stage(tmp_path) as one:
        sensitive = {"source_trust": "trusted_internal_signed", "contains_sensitive_data": True}
        path = await approved(one, {**MERGE, "context": sensitive})
        said = await asyncio.gather(*(consume(one, path) for _ in range(16)))
        assert sorted(said) == [(200, ""), *[(409, "approval_spent")] * 15]
        intents = [row for row in one.receipts() if row["kind"] == "intent"]
        assert [row["approver"] for row in intents] == ["person:ana"]
        refusals = [row for row in one.receipts() if row["kind"] == "refusal"]
        assert {row["approver"] for row in refusals} == {None}
        [(facts,)] = one.rows(f"SELECT facts FROM call_facts WHERE seq = {intents[0]['seq']}")
        assert json.loads(facts)["authorize"]["contains_sensitive_data"] is True, "as it was asked"
        assert one.rows("SELECT spent_by FROM approval") == [(intents[0]["call_id"],)]
        assert verified(one)


async def test_todays_rules_are_asked_again(tmp_path: Path) -> None:
    async with stage(tmp_path) as one:
        path, secret = await approved(one, MERGE), await approved(one, SECRET)
        closed = "  - {id: closed, effect: deny, tools: github/merge_pull_request, "
        closed += "when: args.pull_number < 9}"
        denying = POLICY.replace("rules:", f"rules:\n{closed}", 1)
        await put_policy(one, denying)
        assert await consume(one, path) == (409, "policy_deny")
        refused = one.receipts()[-1]
        assert (refused["outcome"], refused["approver"]) == ("policy_deny", None), "by no yes"
        assert await consume(one, secret) == (409, "approval_outdated"), "it cannot be judged again"
        other = POLICY.replace("approvers: platform-leads", "approvers: platform-leads, quorum: 2")
        await put_policy(one, other)
        assert await consume(one, path) == (409, "approval_outdated")
        assert one.rows("SELECT state FROM approval") == [("approved",)] * 2, "nothing is burnt"
        await put_policy(one, POLICY)
        assert await consume(one, path, clients_hash(MERGE)) == (200, "")
        assert await consume(one, secret, clients_hash(SECRET)) == (200, ""), "the same rules"
        assert "t-1" not in str(one.rows("SELECT * FROM call_facts")), "what was masked stays so"
        assert verified(one)


@pytest.mark.parametrize("trace", [{}, {"trace": {"run_id": "r9", "trace_id": "t9"}}])
async def test_a_run_that_fell_since_denies(tmp_path: Path, trace: dict[str, Any]) -> None:
    """Under whatever id of a run the agent asked: none of them divides its work."""
    async with stage(tmp_path) as one:
        path = await approved(one, {**MERGE, **trace})
        read = await one.authorize(call("read_mail"), token=AGENT_TOKEN)
        assert read.json["decision"] == "allow"
        assert await consume(one, path) == (409, "policy_deny")
        row = one.receipts()[-1]
        assert (row["outcome"], row["rule_id"]) == ("policy_deny", "story/untrusted-cannot-mutate")
        asked = await one.authorize({**MERGE, **trace}, token=AGENT_TOKEN)
        assert asked.json["decision"] == "deny", "nor does it where it is asked"


async def test_e3_a_yes_ends_with_its_time(tmp_path: Path) -> None:
    async with stage(tmp_path, more="approvals: {expires: 60s}\n") as one:
        path = await approved(one, MERGE)
        one.clock.ahead_us = 59_000_000
        polled = await one.ask("GET", path, token=AGENT_TOKEN)
        assert polled.json["status"] == "APPROVED"
        one.clock.ahead_us = 61_000_000
        polled = await one.ask("GET", path, token=AGENT_TOKEN)
        assert polled.json["status"] == "EXPIRED"
        assert await consume(one, path) == (409, "approval_expired")
        again = await one.authorize(MERGE, token=AGENT_TOKEN)
        assert again.json["decision"] == "require_approval", "it asks anew"
        assert not path.endswith(again.json["approval"]["approval_id"])


def test_g10_a_yes_that_came_since_it_was_looked_at_is_not_spent_unread() -> None:
    """Who gave it would stand neither in the receipt nor in the audit row of the call."""
    pending = ApprovalRow(
        "acme", "a1", 1, "pending", "ac" * 32, "agent", "c1", "github/merge", TERMS, "{}", "[]",
        1, 9, 1, "",
    )  # fmt: skip
    given = pending._replace(version=2, state="approved", votes=VOTES)

    def spent(looked_at: ApprovalRow, now: ApprovalRow) -> ApprovalRow | str:
        approvals = SimpleNamespace(changes=SimpleNamespace(noting=lambda step: step))
        permit = Yes(looked_at, (), approvals, Clock(), "agent:agent")  # type: ignore[arg-type]
        return permit.spend("c2", ASKS).step(now, 5)

    assert spent(pending, given) == "pending"
    assert spent(pending, pending) == "pending"
    after = spent(given, given)
    assert isinstance(after, ApprovalRow) and after.state == "spent", "positive control"
    approvals = SimpleNamespace(changes=SimpleNamespace(noting=lambda step: step))
    permit = Yes(given, (), approvals, Clock(), "agent:agent")  # type: ignore[arg-type]
    granted = permit.granted(ASKS)
    assert (granted.approval_id, granted.approver) == ("a1", "person:ana")
    without = permit.spend("c2", granted).without("spent")
    assert (without.effect, without.code, without.approver) == (
        Effect.DENY, "approval_spent", None,
    )  # fmt: skip


async def test_what_may_be_said_to_consume(tmp_path: Path) -> None:
    async with stage(tmp_path) as one:
        path = await approved(one, MERGE)
        for body in (
            [], {"claimed_action_hash": "sha256:" + clients_hash(MERGE)}, {"claimed": 1},
            {"claimed_action_hash": clients_hash(MERGE).upper()}, {"claimed_action_hash": 7}, b"{",
        ):  # fmt: skip
            answer = await one.ask("POST", f"{path}/consume", body, token=AGENT_TOKEN)
            assert answer.status == 400, body
        crowd = b"[" + b"[]," * 50_000 + b"[]]"
        answer = await one.ask("POST", f"{path}/consume", crowd, token=AGENT_TOKEN)
        assert answer.status == 413 and "limits.values" in str(answer.json)
        for odd in ("x", "0" * 31, "..", "0" * 33):
            answer = await one.ask("POST", f"/v1/approvals/{odd}/consume", token=AGENT_TOKEN)
            assert answer.status in (400, 404), odd
        bare = path.replace("-", "").replace("/v1/approvals/", "")
        answer = await one.ask("GET", f"/v1/approvals/{bare}", token=AGENT_TOKEN)
        assert answer.status == 200, "an id without dashes is the same"
        assert await consume(one, path, clients_hash(MERGE)) == (200, "")


async def test_e6_a_yes_whose_text_was_changed_spends_nothing(tmp_path: Path) -> None:
    """The hash that the agent knows stands in the text: who writes there could swap the action."""
    other = clients_hash(SECRET)
    async with stage(tmp_path) as one:
        path = await approved(one, MERGE)
        ((text,),) = one.rows("SELECT asked FROM approval")
        change(one, text.replace(clients_hash(MERGE), other))
        for claimed in (other, clients_hash(MERGE), None):
            assert await consume(one, path, claimed) == (409, "approval_outdated")
        polled = await one.ask("GET", path, token=AGENT_TOKEN)
        assert polled.status == 403 and other not in str(polled.json)
        assert one.rows("SELECT state FROM approval") == [("approved",)], "nothing is burnt"
        change(one, text)
        assert await consume(one, path, clients_hash(MERGE)) == (200, ""), "positive control"


def change(one: Stage, asked: str) -> None:
    with contextlib.closing(sqlite3.connect(one.folder / "aegis.db")) as store:
        assert store.execute("UPDATE approval SET asked = ?", (asked,)).rowcount == 1
        store.commit()


@pytest.mark.parametrize("asked_by", ["ana", "person:ana"])
async def test_e5_nobody_approves_what_he_is_named_for(tmp_path: Path, asked_by: str) -> None:
    async with stage(tmp_path) as one:
        mine = {**MERGE, "user": {"id": asked_by, "role": "developer"}}
        answer = await one.authorize(mine, token=AGENT_TOKEN)
        with pytest.raises(Exception, match="own_approval"):
            await one.approve(answer.json["approval"]["approval_id"], ANA)
        other = await one.authorize(MERGE, token=AGENT_TOKEN)
        assert other.json["approval"]["approval_id"] != answer.json["approval"]["approval_id"]
        await one.approve(other.json["approval"]["approval_id"], ANA)


async def test_what_is_not_kept_here_says_why(tmp_path: Path) -> None:
    async with stage(tmp_path) as one:
        for method, path, status in (
            ("POST", "/v1/policies", 403),
            ("POST", "/v1/mcp/servers", 403), ("POST", "/v1/mcp/servers/files/inspect", 501),
        ):  # fmt: skip
            answer = await one.ask(method, path, {} if method == "POST" else None, control=True)
            assert answer.status == status and answer.json["kind"] == "Status", path
            elsewhere = await one.ask(method, path, token=AGENT_TOKEN)
            assert elsewhere.status == 404, "on the data listener there is nothing of it"
        health = await one.ask("GET", "/health", control=True)
        assert (health.status, health.json["status"]) == (200, "healthy")
