"""An authorize call whose decision cannot be recorded, because what it rested on keeps changing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from authorize_setup import AGENT_TOKEN, call, stage

from sidecar.ledger.delegations import Delegations
from sidecar.proxy.judging import DECISIONS_MAX
from storage.records import Stale

CARD = "4111 1111 1111 1111"


@pytest.mark.parametrize(
    ("times", "decision"), [(DECISIONS_MAX, None), (DECISIONS_MAX - 1, "redact")]
)
async def test_the_last_decision_is_recorded_with_the_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, decision: str | None
) -> None:
    real, tries = Delegations.allowed, 0

    async def allowed(self: Delegations, principal: Any, *of_it: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries <= times:
            return Stale(principal.epoch, None)
        return await real(self, principal, *of_it)

    monkeypatch.setattr(Delegations, "allowed", allowed)
    async with stage(tmp_path) as one:
        mail = call("mail", mutates=True, parameters={"to": "x", "text": CARD}, request_id="r1")
        answer = await one.authorize(mail, token=AGENT_TOKEN)
        assert (tries, answer.json.get("decision")) == (DECISIONS_MAX, decision)
        (receipt,) = one.receipts()
        ((facts,),) = one.rows("SELECT facts FROM call_facts")
        ((arguments,),) = one.rows("SELECT arguments FROM call_facts")
        assert (receipt["rule_id"], bool(receipt["policy_revision"])) == ("story/mails", True)
        assert CARD not in arguments and "***" in arguments
        if decision is not None:
            assert receipt["kind"] == "intent", "positive control"
            return
        assert (answer.status, answer.json["details"]["reason"]) == (503, "stale_decision")
        assert (receipt["decision"], receipt["outcome"]) == ("deny", "stale_decision")
        assert json.loads(facts)["code"] == "stale_decision"
        again = await one.authorize(mail, token=AGENT_TOKEN)
        assert again.json["decision"] == "redact", "the same request may be sent again"
