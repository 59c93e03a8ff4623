"""Changes of state edited behind the program's back: whoever verifies the store is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from store_care_setup import CLOCK, NOW_US, call, filled, reports, store_command, tampered, url_of

import storage
from sidecar.approvals.entries import ASK as ASKED_FOR
from sidecar.approvals.entries import approval_entry, spend_audit
from sidecar.approvals.states import Terms, terms_text
from sidecar.ledger.audited import Deed, audited_entry
from sidecar.ledger.boot_entries import STOPPED, Before, Boot, started, stopped
from sidecar.ledger.chain import seal
from sidecar.ledger.pin_entries import PINNED, PinChange, pin_entry
from sidecar.ledger.rollback import rolled_back
from storage.known_heads import LostHead, Seen
from storage.records import Entry
from storage.standing import ApprovalRow, PinRow

_BOOT = Boot("n1", "boot-1", 0)
_FROZEN = Deed(
    "agent.freeze", "socket:ana", "agent:a", {"state": "active"}, {"state": "frozen"}, "odd"
)
#: The rows as `changed` records them, by what they are.
FREEZE, START, STOP, LOST, SPEND, PIN, ASK = 3, 4, 5, 6, 7, 8, 9


def _spent() -> Entry:
    (intent,) = call(2, ends=False)
    intent.receipt = intent.receipt._replace(
        approval_id="ap-1", approver="socket:ana", ts_us=NOW_US + 60_000_000
    )
    votes = '[{"actor":"socket:ana","at_us":1,"is_yes":true}]'
    row = ApprovalRow(
        "acme", "ap-1", 2, "approved", "5e" * 32, "agent-1", "acme-000002", "shop/refund", "{}",
        "{}", votes, 1, 2, 1, "",
    )  # fmt: skip
    at_us = intent.receipt.ts_us - 9
    intent.audit = spend_audit(row, actor="agent:agent-1", call_id="acme-000002", at_us=at_us)
    return intent


_PIN = PinRow("acme", "mail", "send", 1, "{}", "ab" * 32, 5, "", "", 6)
_ASKED = ApprovalRow(
    "acme", "ap-1", 1, "pending", "5e" * 32, "agent-1", "acme-000002", "shop/refund",
    terms_text(Terms((), "", "5e" * 32)), "{}", "[]", 1, 2, 1, "",
)  # fmt: skip


def no_step(row: ApprovalRow | None, at_us: int) -> ApprovalRow | str:
    return _ASKED


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """A call, and changes of each form that a receipt tells them in."""
    lost = LostHead("acme", Seen(9, "5e" * 32), Seen(5, "ab" * 32))
    entries = [
        audited_entry(CLOCK, "acme", _FROZEN),
        started(CLOCK, "acme", _BOOT, Before("boot-0", STOPPED)),
        stopped(CLOCK, "acme", _BOOT, 0),
        rolled_back(CLOCK, "cli:root", lost, "the disk died"),
        _spent(),
        pin_entry(CLOCK, "acme", "mail", None, [PinChange(PINNED, _PIN)], {}, "socket:ana"),
        approval_entry(CLOCK, _ASKED, ASKED_FOR, no_step, actor="agent:agent-1", after=_ASKED),
    ]
    return filled(tmp_path / "aegis.db", call(1), *([one] for one in entries))


@pytest.mark.parametrize(
    ("seq", "edit", "what"),
    [
        (FREEZE, "actor = 'socket:eve'", "its actor"),
        (FREEZE, "action = 'agent.unfreeze'", "its action"),
        (FREEZE, "subject = 'agent:b'", "its subject"),
        (FREEZE, "reason = 'asked to'", "its reason"),
        (FREEZE, "before_state = '{\"state\":\"frozen\"}'", "what was before"),
        (FREEZE, "before_state = ''", "what was before"),
        (FREEZE, "after_state = '{}'", "what was after"),
        (FREEZE, "after_state = ''", "what was after"),
        (FREEZE, "at_us = at_us - 1", "its time"),
        (FREEZE, "at_us = at_us + 1", "its time"),
        (START, "before_state = '{\"boot\":\"boot-0\",\"ended\":\"no_stop\"}'", "what was before"),
        (STOP, "after_state = replace(after_state, 'boot-1', 'boot-2')", "what was after"),
        (LOST, "before_state = replace(before_state, '5e', 'aa')", "what was before"),
        (LOST, "actor = 'sidecar'", "its actor"),
        (SPEND, "subject = 'ap-2'", "its subject"),
        (SPEND, "after_state = replace(after_state, '-000002', '-000001')", "what was after"),
        (SPEND, "seq = 2", "its subject"),
        (SPEND, "seq = 10", "the audit event 10 has no receipt"),
        (SPEND, "actor = 'socket:eve'", "its actor"),
        (SPEND, "action = 'approval.reject'", "its action"),
        (SPEND, "after_state = 'x'", "what was after"),
        (SPEND, "after_state = replace(after_state, 'socket:ana', 'socket:eve')", "what was after"),
        (SPEND, "before_state = replace(before_state, ':ana', ':eve')", "what was before"),
        (SPEND, "before_state = ''", "what was before"),
        (PIN, "after_state = replace(after_state, 'ab', 'ba')", "what was after"),
        (PIN, "before_state = after_state", "what was before"),
        (PIN, "subject = 'upstream:shop'", "its subject"),
        (ASK, "subject = 'ap-2'", "its subject"),
    ],
)  # fmt: skip
def test_f1_an_edited_audit_event_does_not_hold(
    changed: Path, capsys: pytest.CaptureFixture[str], seq: int, edit: str, what: str
) -> None:
    (report,) = reports(changed)
    assert (report.fault, report.last_seq, report.untold) == (None, 9, 0)
    tampered(changed, f"UPDATE audit_event SET {edit} WHERE seq = ?", seq)
    (report,) = reports(changed)
    assert report.fault is not None and report.fault.endswith(what)
    assert store_command("backup", changed, changed.with_name("copy.db")) == 1
    assert "DOES NOT HOLD: the audit event" in capsys.readouterr().err


def test_f1_a_change_that_no_audit_event_tells_of_is_said(
    changed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tampered(changed, "DELETE FROM audit_event WHERE seq = ?", FREEZE)
    (report,) = reports(changed)
    assert (report.fault, report.untold) == (None, 1)
    assert store_command("backup", changed, changed.with_name("copy.db")) == 0
    assert "of 1 change that receipts tell of there is no audit event" in capsys.readouterr().out


def test_what_was_erased_leaves_what_the_receipt_says_itself(changed: Path) -> None:
    tampered(changed, "DELETE FROM call_facts WHERE seq = ?", FREEZE)
    tampered(changed, "UPDATE audit_event SET reason = '(erased)' WHERE seq = ?", FREEZE)
    assert reports(changed)[0].fault is None
    tampered(changed, "UPDATE audit_event SET actor = 'socket:eve' WHERE seq = ?", FREEZE)
    assert reports(changed)[0].fault is not None


def test_a_change_recorded_after_the_clock_went_back_holds(tmp_path: Path) -> None:
    path = filled(tmp_path / "aegis.db", call(1, age_days=-1))

    async def record() -> None:
        store = await storage.open_store(url_of(path), now_us=CLOCK.now_us, node_id="node")
        await store.record([audited_entry(CLOCK, "acme", _FROZEN)], seal)
        await store.close()

    asyncio.run(record())
    assert reports(path)[0].fault is None
