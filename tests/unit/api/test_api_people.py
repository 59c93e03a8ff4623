"""Keys, agents and votes through the API with the real doorman: who asks is who a key is of."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from api_setup import Served, key_of, served_api

from sidecar.ledger.fence import Standing


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with served_api(tmp_path, has_real_doorman=True) as one:
        yield one


async def test_a_key_opens_what_its_roles_open_until_it_is_revoked(served: Served) -> None:
    body = {"name": "bob", "roles": ["auditor"], "days": 30, "reason": "audit of november"}
    status, made, _ = await served.ask("/v1/keys", method="POST", body=body)
    assert (status, made["roles"], made["state"]) == (201, ["auditor"], "active")
    assert (await served.ask("/v1/receipts/export", made["key"]))[0] == 200
    assert (await served.ask("/v1/keys", made["key"]))[1]["code"] == "role_required"
    _, keys, _ = await served.ask("/v1/keys")
    assert made["key_id"] in [one["key_id"] for one in keys]
    assert made["key"] not in str(keys), "it was shown once"
    _, event, _ = await served.ask(f"/v1/audit/events/{made['seq']}")
    assert (event["actor"], event["reason"]) == ("person:admin", "audit of november")
    assert made["key"] not in str(event)
    revoked = await served.ask(f"/v1/keys/{made['key_id']}/revoke", method="POST")
    assert (revoked[0], revoked[1]["state"]) == (200, "revoked")
    assert (await served.ask("/v1/receipts", made["key"]))[1]["code"] == "unauthenticated"
    again = await served.ask(f"/v1/keys/{made['key_id']}/revoke", method="POST")
    assert again[0] == 409


async def test_w13_an_agent_goes_through_its_standings_and_is_not_revived(served: Served) -> None:
    operator = key_of("acme", "operator")
    sdk = {"agent_key": "runner", "name": "Runner", "owner_team": "ops", "environment": "prod",
           "risk_tier": "high"}  # fmt: skip
    path = "/v1/agents/register"
    status, made, _ = await served.ask(path, operator, method="POST", body=sdk)
    assert status == 200 and made["agent_token"]
    _, agent, _ = await served.ask("/v1/agents/runner")
    assert (agent["state"], agent["team"], agent["risk"]) == ("active", "ops", "high")
    assert made["agent_token"] not in str(agent)
    other = {**sdk, "owner_team": "other"}
    status, again, _ = await served.ask(path, operator, method="POST", body=other)
    assert status == 200 and again["agent_token"] != made["agent_token"]
    assert (await served.ask("/v1/agents/runner"))[1]["team"] == "ops", "and nothing else"

    async def move(verb: str) -> tuple[int, str]:
        said = await served.ask(f"/v1/agents/runner/{verb}", operator, method="POST", body={})
        return said[0], said[1].get("status") if said[0] == 200 else said[1]["code"]

    assert await move("freeze") == (200, "frozen")
    assert await move("restore") == (409, "wrong_state"), "a freeze is lifted by unfreezing"
    assert await move("unfreeze") == (200, "active")
    assert await move("revoke") == (200, "revoked")
    for verb in ("unfreeze", "restore", "freeze"):
        assert (await move(verb))[0] == 409, verb
    token = again["agent_token"]
    revived = await served.ask(path, operator, method="POST", body=sdk)
    assert (revived[0], revived[1]["code"]) == (409, "wrong_state")
    said = await served.ask("/v1/decisions", token)
    assert said[0] in (401, 403), "an agent's own token has no role"
    _, events, _ = await served.ask("/v1/audit/events?subject=agent:runner")
    assert [one["action"] for one in events][-1] == "agent.register"
    assert {one["actor"] for one in events} == {"person:operator"}


async def test_a_store_that_stands_still_takes_no_changes(served: Served) -> None:
    fence = served.api._rooms.changes._fence
    fence.stand(Standing("f", "x", "", 0))
    said = await served.ask("/v1/agents/coder-acme/freeze", method="POST", body={})
    assert (said[0], said[1]["code"]) == (503, "store_fenced")
    fence.lift()
    body = {"name": "ci", "roles": ["viewer"], "groups": ["No Name"]}
    said = await served.ask("/v1/keys", method="POST", body=body)
    assert (said[0], said[1]["parameter"]) == (400, "groups.0")
    await served.queue.close()
    said = await served.ask("/v1/agents/coder-acme/freeze", method="POST", body={})
    assert (said[0], said[1]["code"]) == (503, "store_unavailable")


async def test_votes_are_the_persons_own_and_stand(served: Served) -> None:
    approver, path = key_of("acme", "approver"), "/v1/approvals/approval-of-acme"
    status, body, _ = await served.ask(f"{path}/approve", approver, method="POST", body={})
    assert (status, body["state"], body["terms"][0]["given"]) == (200, "pending", 1)
    assert body["votes"][0]["actor"] == "person:approver"
    again = await served.ask(f"{path}/approve", approver, method="POST", body={})
    assert (again[0], again[1]["code"]) == (409, "already_voted")
    second = "/v1/approvals/second-approval-of-acme/reject"
    status, body, _ = await served.ask(second, approver, method="POST", body={"reason": "no"})
    assert (status, body["state"], body["votes"][0]["reason"]) == (200, "rejected", "no")
    late = await served.ask(second, method="POST", body={})
    assert (late[0], late[1]["code"]) == (409, "approval_already_decided")
    assert len((await served.ask("/v1/approvals"))[1]) == 1
    assert len((await served.ask("/v1/approvals?state=any"))[1]) == 2


async def test_g4_whoever_guesses_is_locked_out_and_learns_nothing_of_it(served: Served) -> None:
    said = set()
    for number in range(40):
        status, body, headers = await served.ask("/v1/decisions", f"guess-{number}")
        said.add((status, str(body), headers["WWW-Authenticate"]))
    assert len(said) == 1 and status == 401
    assert (await served.ask("/v1/decisions"))[0] == 401, "locked out, and told the same"


async def test_proofs_lead_from_a_receipt_to_what_was_signed(served: Served) -> None:
    _, latest, _ = await served.ask("/v1/checkpoints/latest")
    assert latest["size"] == 12 and latest["kind"] == "signed"
    _, listed, _ = await served.ask("/v1/checkpoints")
    assert listed == [latest]
    _, shown, _ = await served.ask("/v1/receipts/5/inclusion")
    assert (shown["size"], shown["root"]) == (12, latest["root"])
    _, grown, _ = await served.ask("/v1/checkpoints/consistency?first=5&second=12")
    assert grown["hashes"]
    status, proof, headers = await served.ask("/v1/receipts/5/proof")
    assert (status, headers["Content-Type"]) == (200, "text/plain")
    assert latest["note"].encode() in proof
    for path in ("/v1/receipts/5/inclusion?size=4", "/v1/receipts/13/inclusion",
                 "/v1/checkpoints/consistency?first=9&second=8", "/v1/receipts/13/proof",
                 "/v1/checkpoints/consistency?first=1&second=13"):  # fmt: skip
        assert (await served.ask(path))[0] == 404, path
