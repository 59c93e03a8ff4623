"""A yes that was written into a store by hand: the chain holds, and the call is named."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

import storage
from sidecar.cli.main import main
from sidecar.clock import Clock
from sidecar.ledger import said_yes
from sidecar.ledger.chain import seal
from sidecar.ledger.export import export_lines
from sidecar.ledger.receipt import blank_receipt
from sidecar.ledger.verify import verify_lines
from storage.records import Entry

CLOCK = Clock()
ASK, ANA, BOB = ("approval.ask", None), ("approval.approve", "ana"), ("approval.approve", "bob")
LINK, REJECT = ("approval.link", "ana"), ("approval.reject", "bob")

Told = tuple[str, str | None]


def told(number: int, step: Told, approval_id: str = "ap-1") -> Entry:
    """A step of an approval, or the call that spends it (by a yes of those named)."""
    action, approver = step
    kind = "approval" if action.startswith("approval.") else "intent"
    receipt = blank_receipt(
        "acme", kind, event_id=f"e{number}", call_id=f"c{number}", ts_us=CLOCK.now_us()
    )
    return Entry(receipt._replace(action=action, approver=approver, approval_id=approval_id))


def recorded(folder: Path, *entries: Entry) -> list[bytes]:
    async def fill() -> list[bytes]:
        url = f"sqlite:///{folder}/aegis.db"
        store = await storage.open_store(url, now_us=CLOCK.now_us, node_id="n1")
        for entry in entries:
            await store.record([entry], seal)
        lines = [line async for line in export_lines(store, "acme")]
        await store.close()
        return lines

    return asyncio.run(fill())


@pytest.mark.parametrize(
    ("steps", "names"),
    [
        ([ASK, ANA, ("POST", "ana")], None),
        ([ASK, ANA, LINK, BOB, ("POST", "ana,bob")], None),
        ([ASK, ("POST", None)], None),
        ([ASK, ("POST", "boss")], ["boss"]),
        ([ASK, ANA, ("POST", "ana,boss")], ["boss"]),
        ([ASK, ANA, REJECT, ("POST", "ana")], ["ana"]),
        ([ASK, ANA, ("POST", "ana"), ("POST", "ana")], ["ana"]),
        ([("POST", "boss")], ["boss"]),
    ],
)
def test_e5_a_yes_that_no_receipt_tells_of_is_named(
    tmp_path: Path,
    steps: list[Told],
    names: list[str] | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = recorded(tmp_path, *(told(number, step) for number, step in enumerate(steps)))
    found = verify_lines(lines)
    assert found.holds
    expected = [] if names is None else [(len(steps), "ap-1", tuple(names), False)]
    assert [tuple(one) for one in found.unsaid] == expected
    assert found.unsaid_count == len(expected)
    file = tmp_path / "receipts.jsonl"
    file.write_bytes(b"".join(lines))
    assert main(["receipts", "verify", str(file)]) == 0
    printed = [capsys.readouterr().out]
    url, copy = f"sqlite:///{tmp_path}/aegis.db", tmp_path / "copy.db"
    assert main(["store", "backup", str(copy), "--store", url]) == 0
    printed.append(capsys.readouterr().out)
    for said in printed:
        assert ("no receipt says that it was given" in said) == (names is not None)
    assert main(["receipts", "verify", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unsaid_count"] == len(expected)


def test_of_a_part_only_what_was_asked_in_it_is_judged(tmp_path: Path) -> None:
    steps = [(ASK, "ap-1"), (ASK, "ap-2"), (("POST", "boss"), "ap-1"), (("POST", "boss"), "ap-2")]
    lines = recorded(tmp_path, *(told(at, step, of) for at, (step, of) in enumerate(steps)))
    assert [one.seq for one in verify_lines(lines).unsaid] == [3, 4]
    assert [one.seq for one in verify_lines(lines[1:], first_seq=2).unsaid] == [4]


@pytest.mark.parametrize(
    ("digests", "is_of_other"),
    [
        (["a1", "a1", "a1"], False),
        (["a1", "a1", None], False),
        ([None, None, "a1"], False),
        (["a1", "a1", "a2"], True),
        (["a1", "a2", "a2"], True),
        (["a1", "a2", None], True),
        (["a1/t2", "a1", "a1"], True),
    ],
)
def test_e5_a_yes_is_for_one_action_and_one_text(
    digests: list[str | None], is_of_other: bool
) -> None:
    """What stands beside the question, the yes and the call: nothing where it is erased."""
    one = said_yes.SaidYes(is_whole=True)
    steps = ("approval", *ASK), ("approval", *ANA), ("intent", "POST", "ana")
    for seq, ((kind, action, approver), digest) in enumerate(zip(steps, digests, strict=True), 1):
        hashed, _, text = (digest or "").partition("/")
        asked = {"action_sha256": hashed, "asked_sha256": text or "t1"}
        arguments = json.dumps(asked) if digest and kind == "approval" else None
        facts = json.dumps({"approved_sha256": hashed}) if digest and kind == "intent" else None
        one.take(seq, kind, action, "ap-1", approver, arguments, facts)
    assert one.unsaid == [(3, "ap-1", ("ana",), True)] * is_of_other
    assert one.count == is_of_other


def test_of_more_than_are_followed_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(said_yes, "FOLLOWED_MAX", 1)
    monkeypatch.setattr(said_yes, "UNSAID_SHOWN_MAX", 0)
    one = said_yes.SaidYes(is_whole=True)
    rows: list[tuple[Any, ...]] = [
        (1, "approval", "approval.ask", "a", None), (2, "approval", "approval.ask", "b", None),
        (3, "intent", "POST", "b", "boss"), (4, "intent", "POST", "a", "boss"),
    ]  # fmt: skip
    for row in rows:
        one.take(*row)
    assert (one.count, one.unsaid) == (1, [])
