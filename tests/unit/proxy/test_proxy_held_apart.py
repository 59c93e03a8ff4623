"""A held call goes ahead as what a person said yes to, and is taken back by who made it alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

from proxy_approvals_setup import ANA, POLICY, TENANT, asking, pending, sent
from test_proxy_approvals import given_to_agent

MASKING = POLICY + (
    "  - id: masks\n    tools: api/refund\n    obligations: {redact: {request: [args.card]}}\n"
)


async def test_e1_a_yes_for_a_masked_request_is_not_spent_by_an_unmasked_one(
    tmp_path: Path,
) -> None:
    async with asking(tmp_path, policy=MASKING) as one:
        body = {"cents": 5, "card": "4111-SECRET"}
        call = asyncio.create_task(one.ask("POST", "/api/refund/7", body))
        row = await pending(one)
        (one.folder / "policies" / "p.yaml").write_text(POLICY)  # nothing is masked any more
        one.sidecar.reload_soon()
        await asyncio.sleep(0.5)
        await one.sidecar.approvals.deciding.approve(TENANT, row.approval_id, ANA)
        await asyncio.sleep(1.0)
        state = (await one.sidecar.approvals.deciding.show(TENANT, row.approval_id)).state
        assert b"4111-SECRET" not in one.arrived, "sent in clear by a yes for the masked request"
        assert state == "approved", "the yes is not burnt"
        fresh = await pending(one)
        assert fresh.action_sha256 != row.action_sha256, "the action as it is now asks anew"
        await one.sidecar.approvals.deciding.reject(TENANT, fresh.approval_id, ANA)
        assert (await call).status == 403 and sent(one) == 0


async def test_a_call_is_taken_back_in_its_own_session_alone(tmp_path: Path) -> None:
    accepts = {"Accept": "application/json, text/event-stream", "Aegis-Run": "r1"}
    message = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "send", "arguments": {}},
    }
    async with asking(tmp_path) as one:
        in_session = {**accepts, "Mcp-Session-Id": given_to_agent(tmp_path, "s1")}
        call = asyncio.create_task(one.ask("POST", "/mcp", message, in_session))
        row = await pending(one)
        await asyncio.sleep(0.1)
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
        other = given_to_agent(tmp_path, "s2")
        await one.ask("POST", "/mcp", cancel, {**accepts, "Mcp-Session-Id": other})
        await one.sidecar.approvals.deciding.approve(TENANT, row.approval_id, ANA)
        await call
        assert sent(one) == 2, "the other session's call was taken back"
