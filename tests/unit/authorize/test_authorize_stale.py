"""An authorize call whose decision cannot be recorded, because what it rested on keeps changing."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from authorize_setup import AGENT_TOKEN, call, stage

from sidecar.authorize.judging import AuthorizeJudging
from sidecar.errors import Refused
from sidecar.ledger.delegations import Delegations
from sidecar.proxy.detectors import DETECT, Span
from sidecar.proxy.judging import DECISIONS_MAX
from sidecar.proxy.masked_calls import INLINE_BYTES_MAX
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


async def test_d5_large_parameters_are_masked_apart_from_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find, searched = DETECT["card_number"], {True: set[int](), False: set[int]()}

    def watched(text: str) -> Iterator[Span]:
        if "555-" in text:
            searched[len(text) > INLINE_BYTES_MAX].add(threading.get_ident())
        return find(text)

    monkeypatch.setitem(DETECT, "card_number", watched)  # type: ignore[misc]
    async with stage(tmp_path) as one:
        for repeated in (50, 50_000):
            text = "555-" * repeated + "x" + CARD
            mail = call("mail", mutates=True, parameters={"to": "x", "text": text})
            answer = await one.authorize(mail, token=AGENT_TOKEN)
            assert (answer.json["decision"], answer.json["redacted_fields"]) == ("redact", ["text"])
        kept = [json.loads(row) for (row,) in one.rows("SELECT arguments FROM call_facts")]
    assert [row["text"][-5:] for row in kept] == ["-x***"] * 2
    assert searched[False] == {threading.get_ident()}, "control: little is masked at once"
    assert searched[True] and threading.get_ident() not in searched[True]


async def test_d5_what_is_refused_once_its_masks_are_made_is_masked_on_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was decided before is known then: that this is not to be kept."""
    real, tries = AuthorizeJudging._run_before, 0

    async def before(self: AuthorizeJudging, *of_it: Any, **more: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries == 2:
            raise Refused("store_unavailable", retry_after_s=1)
        return await real(self, *of_it, **more)

    monkeypatch.setattr(AuthorizeJudging, "_run_before", before)
    async with stage(tmp_path) as one:
        text = "555-" * 5_000 + "x" + CARD
        mail = call("mail", mutates=True, parameters={"to": "x", "text": text})
        answer = await one.authorize(mail, token=AGENT_TOKEN)
        assert (answer.status, tries) == (503, 2)
        ((kept,),) = one.rows("SELECT arguments FROM call_facts")
        assert json.loads(kept)["text"][-5:] == "-x***"
        again = await one.authorize(mail, token=AGENT_TOKEN)
        assert again.json["decision"] == "redact", "control"


async def test_many_at_once_whose_run_each_of_them_changes_are_all_answered(tmp_path: Path) -> None:
    policy = (
        "policy: story\nrules:\n"
        "  - {id: counted, effect: allow, tools: github/note, when: run.calls < 1000}\n"
    )
    async with stage(tmp_path, policy=policy) as one:
        asked = [
            one.authorize(call("note", mutates=True, request_id=f"r{number}"), token=AGENT_TOKEN)
            for number in range(40)
        ]
        answers = await asyncio.gather(*asked)
        assert [answer.json.get("decision") for answer in answers] == ["allow"] * 40
