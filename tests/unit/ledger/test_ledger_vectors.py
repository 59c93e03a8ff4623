"""The published vectors hold for the product, and are what their writer writes."""

from __future__ import annotations

import json
from typing import Any

import pytest
import rfc8785
from ledger_corpus import files
from ledger_setup import CASES, empty_head

from sidecar.ledger.canonical import canonical_body
from sidecar.ledger.chain import seal
from sidecar.ledger.merkle import leaf_hash
from sidecar.ledger.receipt import BODY_KEYS, receipt_hash
from sidecar.ledger.verify import verify_lines
from storage.records import ReceiptRow

VECTORS = json.loads((CASES / "v1.json").read_text())
REJECTED = json.loads((CASES / "must_reject" / "expected.json").read_text())
ACCEPTED = json.loads((CASES / "must_accept" / "expected.json").read_text())


def by_name(case: dict[str, Any]) -> str:
    return str(case["name"])


@pytest.mark.parametrize("case", VECTORS["receipts"], ids=by_name)
def test_f5_published_bodies(case: dict[str, Any]) -> None:
    body, canonical = case["body"], case["canonical"].encode()
    assert sorted(body) == list(BODY_KEYS)
    assert canonical_body(body) == canonical == rfc8785.dumps(body)
    assert receipt_hash(body) == case["receipt_hash"]
    assert leaf_hash(canonical).hex() == case["leaf_hash"]


def test_sealing_gives_the_published_chain() -> None:
    heads = {"acme": empty_head("acme")}
    for case in VECTORS["receipts"]:
        values = {**case["body"], "seq": 0, "receipt_hash": ""}
        draft = ReceiptRow(**{name: values[name] for name in ReceiptRow._fields})
        sealed = seal(heads, [draft])
        row, head = sealed.rows[0], sealed.heads["acme"]
        assert isinstance(row, ReceiptRow)
        assert row.seq == head.seq == case["body"]["seq"]
        assert row.receipt_hash == head.receipt_hash == case["receipt_hash"]
        assert head.frontier == case["frontier"]
        heads = dict(sealed.heads)
    whole = (CASES / "must_accept" / "whole.jsonl").read_bytes()
    assert verify_lines(whole.splitlines(keepends=True)).root == VECTORS["receipts"][-1]["root"]


@pytest.mark.parametrize("name", sorted(ACCEPTED))
def test_must_accept(name: str) -> None:
    content = (CASES / "must_accept" / f"{name}.jsonl").read_bytes()
    lines = content.splitlines(keepends=True)
    verdict = verify_lines(lines, first_seq=ACCEPTED[name]["first_seq"])
    assert verdict.holds, verdict
    assert verdict.count == len(lines)


@pytest.mark.parametrize("name", sorted(REJECTED))
def test_f1_must_reject(name: str) -> None:
    content = (CASES / "must_reject" / f"{name}.jsonl").read_bytes()
    expected = REJECTED[name]
    fault = verify_lines(content.splitlines(keepends=True)).fault
    assert fault is not None
    assert (fault.line, fault.seq) == (expected["line"], expected["seq"])
    assert fault.is_unreadable == expected["is_unreadable"]
    assert expected["what"] in fault.what


def test_the_published_files_are_what_their_writer_writes() -> None:
    written = files()
    found = {str(path.relative_to(CASES)) for path in CASES.rglob("*") if path.is_file()}
    assert found == set(written)
    for name, content in written.items():
        assert (CASES / name).read_bytes() == content, name
