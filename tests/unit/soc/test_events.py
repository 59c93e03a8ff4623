"""What recorded receipts are to detections, and what of them is read only when it is asked for."""

from __future__ import annotations

import pytest

from sidecar.approvals import entries as approvals
from sidecar.clock import Clock
from sidecar.errors import Refused
from sidecar.ledger.drafts import call_draft, unread_draft
from sidecar.ledger.pin_entries import (
    ACCEPTED,
    DRIFTED,
    FORGOTTEN,
    PINNED,
    RETURNED,
    PinChange,
    pin_entry,
)
from sidecar.ledger.receipt import blank_receipt
from sidecar.model import (
    Decision,
    Effect,
    HttpFacts,
    Mode,
    Principal,
    Tool,
    ToolCall,
    TrustLevel,
)
from sidecar.policy.runs import RunState
from sidecar.soc.events import APPROVAL_CODES, DEFINITION_CODES, event_of
from sidecar.soc.model import Event, EventKind
from storage.records import Entry, RecordedEvent
from storage.standing import PinRow

CODER = Principal("acme", "coder", team="platform")
CALL = ToolCall(
    call_id="c" * 32,
    tool=Tool("mail", "send", labels=("sends-external",)),
    action="tools/call",
    args={"to": "ana", "password": "***"},
    http=HttpFacts("POST", "/mcp", "", "127.0.0.1", {}),
    target="",
    headers=(),
    body=b"{}",
    dialect="mcp",
    run_id="r7",
)


def read(entry: Entry) -> Event | None:
    receipt = entry.receipt._replace(seq=9, receipt_hash="ab" * 32)
    return event_of(RecordedEvent(receipt, entry.facts))


def decided(effect: Effect, code: str, mode: Mode = Mode.ENFORCE) -> Entry:
    decision = Decision(effect, code, "why", "rev", "p/r", "hash", mode)
    refused = None if decision.forward else Refused(code, decision=decision)
    receipt, facts = call_draft(
        "intent" if refused is None else "refusal",
        CODER,
        CALL,
        decision,
        refused,
        ts_us=77,
        nonce=bytes(16),
        arguments=CALL.args,
        keeps_arguments=True,
        run=RunState(TrustLevel.UNTRUSTED_EXTERNAL, frozenset({"x"}), 3, 70),
    )
    return Entry(receipt, facts)


def test_an_intent_and_a_refusal_are_decisions() -> None:
    event = read(decided(Effect.ALLOW, "policy_allow"))
    assert event is not None and event.kind is EventKind.DECISION
    assert (event.tenant, event.agent, event.run) == ("acme", "coder", "r7")
    assert (event.upstream, event.tool, event.rule) == ("mail", "mail/send", "p/r")
    assert (event.effect, event.code, event.mode) == ("allow", "policy_allow", "enforce")
    assert event.evidence == (9, "ab" * 32, CALL.call_id, 77) and event.at_us == 77
    refused = read(decided(Effect.DENY, "policy_deny"))
    assert refused is not None and (refused.effect, refused.code) == ("deny", "policy_deny")
    assert refused.http_status == 403
    observed = read(decided(Effect.DENY, "default_deny", Mode.OBSERVE))
    assert observed is not None
    assert (observed.effect, observed.code, observed.mode) == ("deny", "default_deny", "observe")


def test_the_call_is_worked_out_once_and_only_when_asked_for() -> None:
    event = read(decided(Effect.ALLOW, "policy_allow"))
    assert event is not None
    recorded = event.call()
    assert recorded is not None and recorded is event.call()
    assert recorded.call.tool.labels == ("sends-external",)
    assert recorded.run is not None and recorded.run.trust is TrustLevel.UNTRUSTED_EXTERNAL
    assert recorded.hidden.arguments == {("password",)}


def test_what_carries_the_protocol_itself_is_no_event() -> None:
    assert read(decided(Effect.ALLOW, "protocol")) is None


def test_a_refusal_before_any_rule_is_a_deny_without_a_call() -> None:
    receipt = unread_draft(
        CODER, call_id="d" * 32, upstream="mail", tool=None, action="POST",
        refused=Refused("malformed_request"), ts_us=5,
    )  # fmt: skip
    event = read(Entry(receipt))
    assert event is not None and event.kind is EventKind.DECISION
    assert (event.effect, event.code, event.tool) == ("deny", "malformed_request", "")
    assert event.call() is None


@pytest.mark.parametrize("text", [None, "no JSON", "[1]", "{}"])
def test_facts_that_were_erased_or_are_damaged_leave_the_receipt(text: str | None) -> None:
    entry = decided(Effect.ALLOW, "policy_allow")
    assert entry.facts is not None
    entry.facts = None if text is None else entry.facts._replace(facts=text)
    event = read(entry)
    assert event is not None and event.effect == "allow" and event.code == ""
    assert event.call() is None


@pytest.mark.parametrize("kind", ["outcome", "recovery"])
def test_how_a_call_ended_is_an_outcome(kind: str) -> None:
    receipt = blank_receipt(
        "acme", kind, event_id="e", call_id="c", ts_us=5, agent_id="coder", outcome="withheld",
        http_status=200,
    )  # fmt: skip
    event = read(Entry(receipt))
    assert event is not None and event.kind is EventKind.OUTCOME
    assert (event.agent, event.code, event.http_status) == ("coder", "withheld", 200)


def test_every_change_of_an_approval_has_its_code() -> None:
    verbs = (
        approvals.ASK, approvals.APPROVE, approvals.REJECT, approvals.EXPIRE, approvals.SUPERSEDE,
        approvals.WITHDRAW, approvals.LINK,
    )  # fmt: skip
    assert verbs == APPROVAL_CODES
    receipt = blank_receipt(
        "acme", "approval", event_id="e", call_id="c", ts_us=5, agent_id="coder"
    )
    event = read(Entry(receipt._replace(action="approval.ask", tool="mail/send", upstream="mail")))
    assert event is not None and event.kind is EventKind.APPROVAL
    assert (event.code, event.tool, event.evidence.call_id) == ("ask", "mail/send", "c")


def pins(*changes: tuple[str, str]) -> Entry:
    rows = [
        PinChange(what, PinRow("acme", "mail", tool, 2, "{}", "aa", 1, "{}", "bb", 2))
        for what, tool in changes
    ]
    return pin_entry(Clock(), "acme", "mail", "coder", rows, {})


def test_what_happens_to_definitions_is_told_with_the_tool() -> None:
    assert {DRIFTED, RETURNED, ACCEPTED, PINNED, FORGOTTEN} == set(DEFINITION_CODES)
    one = read(pins((DRIFTED, "send")))
    assert one is not None and one.kind is EventKind.DEFINITION
    assert (one.code, one.tool, one.agent) == ("drifted", "mail/send", "coder")
    beside = read(pins((PINNED, "read"), (DRIFTED, "send")))
    assert beside is not None and (beside.code, beside.tool) == ("drifted", "mail/send")
    several = read(pins((DRIFTED, "read"), (DRIFTED, "send")))
    assert several is not None and several.tool == "mail/*"
    gone = read(pins((FORGOTTEN, "send")))
    assert gone is not None and (gone.code, gone.tool) == ("forgotten", "mail/send")


@pytest.mark.parametrize("action", ["agent.freeze", "tools.unheard", "prune_receipts", None])
def test_other_changes_of_state_are_no_events(action: str | None) -> None:
    receipt = blank_receipt("acme", "control", event_id="e", call_id=None, ts_us=5)
    assert read(Entry(receipt._replace(action=action))) is None
