"""The acceptance stories of SEED_CONTRACT.md 10.1 and 10.2, led by a client of that contract.

Each has its positive control: what is refused in the story goes through where nothing is wrong.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from authorize_setup import AGENT_TOKEN, ANA, Stage, call, clients_hash, stage, verified
from decorator_client import DecoratorClient

STORY = """\
policy: story
rules:
  - {id: reads, effect: allow, tools: "github/*", mutates: false}
  - {id: untrusted-cannot-mutate, effect: deny, tools: "*", mutates: true,
     run: {trust: untrusted_external},
     reason: "mutating under {run.trust}"}
  - {id: merges-ask, effect: require_approval, tools: github/merge_pull_request,
     approval: {approvers: platform-leads}}
"""
#: What is read does not lower the run here: the story labels each call itself.
TOOLS = """\
catalogue: github
tools:
  read_issue: {mutates: false, risk: low, returns: trusted_internal_signed}
  merge_pull_request: {mutates: true, risk: high, returns: trusted_internal_signed}
"""
#: The same without labels of the client: what came back from the issue is what counts.
TOOLS_THAT_TELL = TOOLS.replace(
    "low, returns: trusted_internal_signed", "low, returns: untrusted_external"
)


def client_of(one: Stage, control: bool) -> DecoratorClient:
    base = one.sidecar.control_url if control else one.sidecar.data_url
    return DecoratorClient(one.session, base, AGENT_TOKEN, "agent")


@pytest.mark.parametrize("control", [False, True], ids=["data", "control"])
async def test_story_10_1_an_issue_says_to_merge(tmp_path: Path, control: bool) -> None:
    async with stage(tmp_path, policy=STORY, catalogue=TOOLS) as one:
        client, merged = client_of(one, control), []

        @client.protect("github", "merge_pull_request")
        def merge(**kwargs: object) -> None:
            merged.append(kwargs)

        client.trust = "untrusted_external"
        with pytest.raises(PermissionError, match="mutating under untrusted_external"):
            await merge(pull_number=482, base_branch="main")
        assert merged == [], "the tool's body never runs"
        (receipt,) = one.receipts()
        assert (receipt["kind"], receipt["decision"]) == ("refusal", "deny")
        assert receipt["source_trust"] == "untrusted_external"
        assert receipt["rule_id"] == "story/untrusted-cannot-mutate"
        assert (await one.metric("aegis_refusals_total"))['{code="policy_deny"}'] == 1

        # Positive controls: trusted it is asked for, not denied; a read under the label is allowed.
        trusted = call("merge_pull_request", mutates=True, parameters={"pull_number": 482})
        answer = await one.authorize(trusted, token=AGENT_TOKEN)
        assert answer.json["decision"] == "require_approval"
        read = call("read_issue", trust="untrusted_external", parameters={"number": 7})
        answer = await one.authorize(read, token=AGENT_TOKEN)
        assert answer.json["decision"] == "allow"
        assert verified(one)


async def test_story_10_1_without_labels_what_was_read_counts(tmp_path: Path) -> None:
    """The agent claims the highest trust; the run knows what the issue returned."""
    async with stage(tmp_path, policy=STORY, catalogue=TOOLS_THAT_TELL) as one:
        merge = call("merge_pull_request", mutates=True, parameters={"pull_number": 482})
        before = await one.authorize(merge, token=AGENT_TOKEN)
        assert before.json["decision"] == "require_approval", "positive control"
        assert (await one.authorize(call("read_issue"), token=AGENT_TOKEN)).json[
            "decision"
        ] == "allow"
        after = await one.authorize(merge, token=AGENT_TOKEN)
        assert after.json["decision"] == "deny"
        assert after.json["root_trust_level"] == "untrusted_external"


@pytest.mark.parametrize("control", [False, True], ids=["data", "control"])
async def test_story_10_2_approve_then_swap(tmp_path: Path, control: bool) -> None:
    async with stage(tmp_path, policy=STORY, catalogue=TOOLS) as one:
        client, merged = client_of(one, control), []
        client.trust = "trusted_internal_signed"

        async def approve(approval_id: str) -> None:
            await one.approve(approval_id, ANA)

        client.on_waiting = approve

        @client.protect("github", "merge_pull_request")
        def merge(**kwargs: object) -> str:
            merged.append(kwargs)
            return "merged"

        # 1. asked, approved, consumed, run: once.
        assert await merge(pull_number=482) == "merged"
        assert merged == [{"pull_number": 482}]

        # 2. a second approval for 482; the swapped action spends nothing.
        right = call("merge_pull_request", mutates=True, parameters={"pull_number": 482})
        swapped = call("merge_pull_request", mutates=True, parameters={"pull_number": 666})
        answer = await one.authorize(right, token=AGENT_TOKEN, control=control)
        approval = answer.json["approval"]
        assert approval["action_hash"] == clients_hash(right), "control: unswapped, it is the same"
        assert approval["action_hash"] != clients_hash(swapped)
        await one.approve(approval["approval_id"], ANA)
        path = f"/v1/approvals/{approval['approval_id']}/consume"
        claim = {"claimed_action_hash": clients_hash(swapped)}
        refused = await one.ask("POST", path, claim, token=AGENT_TOKEN, control=control)
        assert refused.status == 409
        assert refused.json["details"]["reason"] == "approval_hash_mismatch"
        assert await one.metric("aegis_approval_hash_mismatches_total") == {"": 1}
        tampered = [row for row in one.receipts() if row["action"] == "tamper_attempt"]
        assert len(tampered) == 1
        assert tampered[0]["source_trust"] == "malicious_suspected"
        assert tampered[0]["action_hash"] == clients_hash(swapped)

        # 3. it is not burnt; consumed once, and never again.
        claim = {"claimed_action_hash": clients_hash(right)}
        spent = await one.ask("POST", path, claim, token=AGENT_TOKEN, control=control)
        assert (spent.status, spent.json["status"]) == (200, "consumed")
        assert spent.json["action_hash"] == clients_hash(right)
        again = await one.ask("POST", path, claim, token=AGENT_TOKEN, control=control)
        assert again.status == 409 and again.json["details"]["reason"] == "approval_spent"
        intents = [row for row in one.receipts() if row["kind"] == "intent"]
        assert [row["outcome"] for row in intents] == ["delegated", "delegated"]
        assert all(row["approver"] == "person:ana" for row in intents)
        assert verified(one)


async def test_story_10_2_what_nobody_approves_does_not_run(tmp_path: Path) -> None:
    async with stage(tmp_path, policy=STORY, catalogue=TOOLS) as one:
        client, ran = client_of(one, False), []
        client.trust = "trusted_internal_signed"

        async def reject(approval_id: str) -> None:
            await one.reject(approval_id, ANA)

        client.on_waiting = reject

        @client.protect("github", "merge_pull_request")
        def merge(**kwargs: object) -> None:
            ran.append(kwargs)

        with pytest.raises(PermissionError, match="REJECTED"):
            await merge(pull_number=482)
        with pytest.raises(PermissionError, match="said no"):  # the no stands
            await merge(pull_number=482)
        assert ran == []
