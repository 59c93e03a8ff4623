"""What a client of SEED_CONTRACT.md section 2.3 asks of its one base URL, the control listener."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from authorize_setup import POLICY, Stage, stage
from decorator_client import DecoratorClient

KEY = "tenant_default.root.of-the-tests-and-long-enough"
VIEWER = "tenant_default.eve.of-the-tests-and-long-enough"
PEOPLE = (
    "tenants: {default: {agents: {agent: {}}, people: {"
    "root: {roles: [admin], key: {env: KEY}}, eve: {roles: [viewer], key: {env: VIEWER}}}}}\n"
)


class SdkClient(DecoratorClient):
    """It registers its agent with the tenant's key, which it manages with, and asks with the token
    that it is given; polling and consuming are management to it."""

    token = ""

    async def register(self) -> None:
        status, said = await self.post(
            "/v1/agents/register",
            {"agent_key": self.agent_id, "name": "Coder", "owner_team": "platform",
             "environment": "production", "risk_tier": "high"},
        )  # fmt: skip
        assert status in (200, 201), said
        self.token = said["agent_token"]

    async def post(self, path: str, body: Any = None) -> tuple[int, Any]:
        if path != "/v1/authorize":
            return await super().post(path, body)
        key, self.api_key = self.api_key, self.token
        try:
            return await super().post(path, body)
        finally:
            self.api_key = key


def sdk_verifies(receipts: list[dict[str, Any]]) -> bool:
    """The client's own verifier: all members but the hash are hashed, oldest first, from ""."""
    previous = ""
    for receipt in receipts:
        body = {name: value for name, value in receipt.items() if name != "receipt_hash"}
        text = json.dumps(
            body, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        if sha256(text.encode()).hexdigest() != receipt["receipt_hash"]:
            return False
        if receipt["prev_receipt_hash"] != previous:
            return False
        previous = receipt["receipt_hash"]
    return True


async def with_people(folder: Path, run: Any) -> None:
    environ = {"KEY": KEY, "VIEWER": VIEWER}
    async with stage(folder, policy=POLICY, more=PEOPLE, environ=environ) as one:
        await run(one)


async def test_a_client_of_the_contract_lives_on_one_base_url(tmp_path: Path) -> None:
    async def run(one: Stage) -> None:
        client = SdkClient(one.session, one.sidecar.control_url, KEY, "coding-agent-prod")
        await client.register()
        client.trust = "trusted_internal_signed"
        ran: list[Any] = []

        async def approve(approval_id: str) -> None:
            status, waiting = await client.get("/v1/approvals?limit=50&offset=0")
            assert status == 200
            mine = [one for one in waiting if one["status"] == "created"]
            assert [one["approval_id"] for one in mine] == [approval_id.replace("-", "")]
            status, said = await client.post(
                f"/v1/approvals/{approval_id}/approve", {"approver_user_id": "x", "reason": "ok"}
            )
            assert status == 200, said

        client.on_waiting = approve
        merge = client.protect("github", "merge_pull_request")(lambda **kw: ran.append(kw))
        await merge(pull_number=482)
        note = client.protect("github", "note")(lambda **kw: ran.append(kw))
        await note(text="x")
        mail = client.protect("github", "mail")(lambda **kw: ran.append(kw))
        await mail(to="ana", api_key="k")
        assert ran == [{"pull_number": 482}, {"text": "x"}, {"to": "ana", "api_key": "[REDACTED]"}]

        for verb, decision in (("freeze", "deny"), ("unfreeze", "allow")):
            status, said = await client.post(f"/v1/agents/coding-agent-prod/{verb}")
            assert status in (200, 201), said
            if decision == "deny":
                with pytest.raises(PermissionError):
                    await note(text="y")
            else:
                await note(text="y")
        for path in (
            "/v1/agents?limit=50&offset=0", "/v1/decisions?limit=50&offset=0",
            "/v1/approvals?limit=50&offset=0", "/v1/policies", "/v1/receipts?limit=200&offset=0",
        ):  # fmt: skip
            status, said = await client.get(path)
            assert status == 200 and isinstance(said, list), (path, said)
        receipts = said
        assert len(receipts) >= 8 and sdk_verifies(receipts), "W15"
        status, said = await client.post("/v1/receipts/verify-chain", {"receipts": receipts})
        assert status == 200 and said["verified"] is True, said
        forged = [*receipts[:-1], {**receipts[-1], "agent_id": "somebody"}]
        assert not sdk_verifies(forged)
        status, said = await client.post("/v1/receipts/verify-chain", {"receipts": forged})
        assert status == 200 and said["verified"] is False
        for path in ("/health", "/v1/stats", "/v1/audit/events?limit=10", "/v1/soc/summary"):
            assert (await client.get(path))[0] == 200, path
        assert (await client.post("/v1/mcp/servers/a/quarantine", {}))[0] == 501
        status, said = await client.post("/v1/policies", {"policy_key": "a", "name": "a"})
        assert (status, said["details"]["reason"]) == (403, "kept_in_files")

    await with_people(tmp_path, run)


async def test_w10_w14_only_an_operator_spends_for_an_agent(tmp_path: Path) -> None:
    async def run(one: Stage) -> None:
        client = SdkClient(one.session, one.sidecar.control_url, KEY, "coder")
        await client.register()
        status, said = await client.post("/v1/authorize", _merge("coder"))
        assert (status, said["decision"]) == (200, "require_approval")
        path = f"/v1/approvals/{said['approval']['approval_id']}"
        await client.post(f"{path}/approve", {"reason": "ok"})
        eve = DecoratorClient(one.session, one.sidecar.control_url, VIEWER, "coder")
        status, refused = await eve.post(f"{path}/consume")
        assert (status, refused["details"]["reason"]) == (403, "operator_required")
        assert (await eve.get(path))[1]["status"] == "APPROVED"
        nobody = DecoratorClient(one.session, one.sidecar.control_url, "tenant_default", "coder")
        assert (await nobody.post(f"{path}/consume"))[0] == 401
        await client.post("/v1/agents/coder/freeze")
        status, refused = await client.post(f"{path}/consume")
        assert (status, refused["details"]["reason"]) == (403, "agent_frozen"), (
            "nor for a frozen one"
        )
        await client.post("/v1/agents/coder/unfreeze")
        status, said = await client.post(f"{path}/consume")
        assert (status, said["status"]) == (200, "consumed"), "positive control"

    await with_people(tmp_path, run)


def _merge(agent: str) -> dict[str, Any]:
    return {
        "agent": {"id": agent, "environment": "production"},
        "tool_call": {
            "tool": "github", "action": "merge_pull_request", "resource": None,
            "mutates_state": True, "parameters": {"pull_number": 1},
        },
        "context": {"source_trust": "trusted_internal_signed", "contains_sensitive_data": False},
    }  # fmt: skip


async def test_g10_who_spends_for_an_agent_is_on_record_with_the_spending(tmp_path: Path) -> None:
    async def run(one: Stage) -> None:
        client = SdkClient(one.session, one.sidecar.control_url, KEY, "coder")
        await client.register()
        spenders: list[tuple[str, str | None]] = []
        for token in (None, client.token):
            status, said = await client.post("/v1/authorize", _merge("coder"))
            assert (status, said["decision"]) == (200, "require_approval")
            path = f"/v1/approvals/{said['approval']['approval_id']}"
            await client.post(f"{path}/approve", {"reason": "ok"})
            if token is None:  # with the key of a person who may operate
                status, said = await client.post(f"{path}/consume")
            else:
                answer = await one.ask("POST", f"{path}/consume", token=token, control=True)
                status, said = answer.status, answer.json
            assert (status, said["status"]) == (200, "consumed"), said
            call_id = said["decision_id"].replace("-", "")
            ((seq, agent, approver),) = one.rows(
                f"SELECT seq, agent_id, approver FROM receipts WHERE call_id = '{call_id}'"
            )
            assert (agent, approver) == ("coder", "person:root")
            ((facts,),) = one.rows(f"SELECT facts FROM call_facts WHERE seq = {seq}")
            ((action, actor, after),) = one.rows(
                f"SELECT action, actor, after_state FROM audit_event WHERE seq = {seq}"
            )
            assert action == "approval.spend" and json.loads(after)["spent_by"] == call_id
            spenders.append((actor, json.loads(facts)["authorize"].get("spent_for_by")))
        assert spenders == [("person:root", "person:root"), ("agent:coder", None)]

    await with_people(tmp_path, run)


async def test_g10_a_person_who_may_not_spend_so_is_named_and_not_only_the_agent(
    tmp_path: Path,
) -> None:
    async def run(one: Stage) -> None:
        client = SdkClient(one.session, one.sidecar.control_url, KEY, "coder")
        await client.register()
        _, said = await client.post("/v1/authorize", _merge("coder"))
        path = f"/v1/approvals/{said['approval']['approval_id']}"
        await client.post(f"{path}/approve", {"reason": "ok"})
        wrong, audited = {"claimed_action_hash": "0" * 64}, []
        for token in (None, client.token):
            if token is None:
                status, _ = await client.post(f"{path}/consume", wrong)
            else:
                answer = await one.ask("POST", f"{path}/consume", wrong, token=token, control=True)
                status = answer.status
            assert status == 409
            ((seq, action),) = one.rows("SELECT max(seq), action FROM receipts")
            assert action == "tamper_attempt"
            audited.append(
                one.rows(f"SELECT actor, action, reason FROM audit_event WHERE seq = {seq}")
            )
        refused = ("person:root", "approval.spend_refused", "approval_hash_mismatch")
        assert audited == [[refused], []], "the agent that did it itself stands in the receipt"

    await with_people(tmp_path, run)
