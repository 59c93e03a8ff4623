"""The README is enough: a verifier written from it alone, on the standard library, agrees."""

from __future__ import annotations

import hmac
import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from ledger_setup import CASES
from ledger_tree_reference import anchored_at, proof_parts, root_of_path, signed_head

import sidecar.ledger
from sidecar.ledger.receipt import BODY_KEYS, INTEGER_KEYS, KINDS, REQUIRED_KEYS

README = (Path(sidecar.ledger.__file__).parent / "README.md").read_text()
BESIDE = ("salt", "arguments", "facts")


def documented_keys() -> set[str]:
    table = README.split("| --- | --- |")[1].split("\n\n")[0]
    cells = [line.split("|")[1] for line in table.strip().splitlines()]
    return {key for cell in cells for key in re.findall(r"`(\w+)`", cell)}


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def kind_fits(key: str, value: Any) -> bool:
    if value is None:
        return key not in REQUIRED_KEYS
    if key in INTEGER_KEYS:
        return type(value) is int and abs(value) < 2**53
    return type(value) is str


def check(line: bytes, seq: int, is_start: bool, before: dict[str, Any]) -> dict[str, Any]:
    """The steps of "To verify"; raises ValueError or AssertionError."""
    body = json.loads(line.decode(), object_pairs_hook=unique)
    assert isinstance(body, dict)
    claimed = body.pop("receipt_hash", None)
    beside = {key: body.pop(key, None) for key in BESIDE}
    assert body.keys() == documented_keys()
    assert all(kind_fits(key, value) for key, value in body.items())
    assert body["v"] == 1 and body["kind"] in KINDS
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert sha256(text.encode()).hexdigest() == claimed
    assert body["seq"] == seq
    if is_start:
        assert seq > 1 or body["prev_receipt_hash"] == ""
    else:
        assert body["prev_receipt_hash"] == before["receipt_hash"]
        assert body["tenant_id"] == before["tenant_id"] and body["ts_us"] >= before["ts_us"]
    if beside["arguments"] is not None:
        key = bytes.fromhex(beside["salt"])
        assert (
            hmac.digest(key, beside["arguments"].encode(), "sha256").hex()
            == body["args_commitment"]
        )
    if beside["salt"] is not None:
        assert re.fullmatch("[0-9a-f]{32}|[0-9a-f]{64}", beside["salt"])
        key = bytes.fromhex(beside["salt"])
        shown = body["resource"] or ""
        if body["kind"] in ("intent", "refusal", "outcome") and beside["arguments"] is None:
            is_shown = shown == f"salt:{hmac.digest(key, b'', 'sha256').hex()}"
            assert is_shown or not shown.startswith("salt:")
        if len(key) == 32 and beside["facts"] is not None:
            assert key[16:] == sha256(key[:16] + beside["facts"].encode()).digest()[:16]
    else:
        assert beside["facts"] in (None, "{}")
    return {**body, "receipt_hash": claimed}


def first_bad(content: bytes, first_seq: int = 1) -> int | None:
    before: dict[str, Any] = {}
    lines = content.splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        try:
            before = check(line, first_seq + number - 1, number == 1, before)
        except (ValueError, AssertionError):
            return number
    return None if lines else 1


def test_the_readme_lists_the_keys_of_a_body() -> None:
    assert documented_keys() == set(BODY_KEYS)
    assert all(f"`{kind}`" in README for kind in KINDS)


@pytest.mark.parametrize("corpus", ["must_accept", "must_reject"])
def test_a_verifier_written_from_the_readme_agrees_on_every_case(corpus: str) -> None:
    expected = json.loads((CASES / corpus / "expected.json").read_text())
    assert expected
    for name, case in expected.items():
        content = (CASES / corpus / f"{name}.jsonl").read_bytes()
        found = first_bad(content, case.get("first_seq", 1))
        assert found == case.get("line"), name


def test_it_agrees_on_signed_heads_too() -> None:
    """By the section "Checkpoints", with the second opinion on trees and notes."""
    vectors = json.loads((CASES / "checkpoints.json").read_text())
    public = bytes.fromhex(vectors["keys"]["log"]["public"])
    lines = (CASES / "must_accept" / "whole.jsonl").read_bytes().splitlines()
    found = [json.loads(line) for line in lines]
    bodies = [
        json.dumps(
            {key: value for key, value in one.items() if key != "receipt_hash"},
            sort_keys=True, separators=(",", ":"), ensure_ascii=False,
        ).encode()
        for one in found
    ]  # fmt: skip
    mark = found[0]["receipt_hash"][:16]
    assert vectors["origin"] == f"aegis-sidecar/acme/{mark}"
    for case in vectors["checkpoints"]:
        assert anchored_at(bodies, [case["note"]], public) == case["size"]
    for case in vectors["must_reject"]:
        if case["kind"] in ("cut", "rewritten"):
            with pytest.raises(ValueError, match=case["kind"]):
                anchored_at(bodies, [case["note"]], public)
        else:
            assert anchored_at(bodies, [case["note"]], public) == 0
    for case in vectors["inclusion"]:
        index, hashes, extra, note = proof_parts(case["proof"])
        _, size, root = signed_head(note, public) or ("", 0, b"")
        receipt = json.loads(extra)
        assert index == receipt["seq"] - 1 == case["seq"] - 1
        leaf = sha256(b"\x00" + bodies[index]).digest()
        assert root_of_path(leaf, index, size, hashes) == root
