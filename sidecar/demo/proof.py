"""The end of the demo's story: the receipts say what the story said, and a flipped byte is found.

Knows: exported receipts, as an auditor has them, and what was told of each call.
Must not know: the store, the running sidecar.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sidecar.counted import counted
from sidecar.demo.scenario import Story, Told
from sidecar.ledger.verify import verify_lines


def prove(story: Story, lines: Sequence[bytes], folder: Path) -> None:
    """Writes the receipts into `folder`, holds the story against them, and tries to cheat."""
    whole, flipped = folder / "receipts.jsonl", folder / "receipts-flipped.jsonl"
    whole.write_bytes(b"".join(lines))
    story.step(f"Every call has a receipt, which holds the hash of the one before ({whole.name}):")
    receipts = of_this_playing([json.loads(line) for line in lines], story.told)
    for receipt in receipts:
        if receipt["kind"] != "outcome":
            story.say(f"   {_line(receipt)}")
    for difference in differences(story.told, receipts):
        story.check(False, difference)
    with whole.open("rb") as file:
        verdict = verify_lines(file)
    story.check(verdict.holds, "the receipts verify")
    if verdict.holds:
        story.say(f"   verified offline: {counted(verdict.count, 'receipt')}, an unbroken chain.")
    flip_a_byte(whole, flipped)
    story.step(f"One byte is flipped in a copy ({flipped.name}), and the verifier says:")
    with flipped.open("rb") as file:
        tampered = verify_lines(file)
    story.check(tampered.fault is not None, "a flipped byte is found")
    if tampered.fault is not None:
        story.say(f"   TAMPERED: receipt {tampered.fault.seq}: {tampered.fault.what}\n")


def of_this_playing(receipts: list[dict[str, Any]], told: Sequence[Told]) -> list[dict[str, Any]]:
    """Those from the story's first call on: the folder may hold what was played earlier."""
    calls = {call.call_id for call in told}
    first = next((n for n, one in enumerate(receipts) if one["call_id"] in calls), len(receipts))
    return receipts[first:]


def differences(told: Sequence[Told], receipts: Sequence[dict[str, Any]]) -> list[str]:
    """Where the receipts say otherwise than the story: decision and rule of each call, and the
    end of the run."""
    decided = {
        receipt["call_id"]: (receipt["decision"], receipt["rule_id"])
        for receipt in receipts
        if receipt["kind"] in ("intent", "refusal")
    }
    found = []
    for call in told:
        recorded = decided.get(call.call_id)
        if recorded != (call.decision, call.rule):
            found.append(
                f"call {call.call_id}: told {call.decision} by {call.rule}, not {recorded}"
            )
    if not any(receipt["action"] == "run.reset" for receipt in receipts):
        found.append("the end of the run has no receipt")
    return found


def flip_a_byte(source: Path, target: Path) -> None:
    """A copy of a receipts file in which one recorded decision reads otherwise."""
    data = bytearray(source.read_bytes())
    at = data.index(b'"decision":"') + len(b'"decision":"')
    data[at] ^= 0x01
    target.write_bytes(data)


def _line(receipt: dict[str, Any]) -> str:
    if receipt["kind"] == "control":
        what = f"{receipt['action']:<18} {receipt['agent_id'] or ''}"
    elif receipt["kind"] == "approval":
        by = f" by {receipt['approver']}" if receipt["approver"] else ""
        what = f"{receipt['action']:<18} {receipt['tool']:<20}{by}"
    else:
        by = receipt["rule_id"] or ("no rule" if receipt["tool"] else receipt["outcome"])
        what = f"{receipt['decision'] or 'deny':<18} {receipt['tool'] or '-':<20} {by}"
    return f"#{receipt['seq']:<3} {what:<80} {receipt['receipt_hash'][:12]}…"
