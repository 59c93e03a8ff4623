"""The published vectors of checkpoints and proofs hold for the product."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from ledger_setup import CASES

from sidecar.ledger.anchors import TrustedKey, anchored, signer_of, watch_for
from sidecar.ledger.checkpoint import Checkpoint, read_signed, signed
from sidecar.ledger.checkpoint_file import Kept
from sidecar.ledger.merkle_proofs import is_consistent
from sidecar.ledger.receipt_proof import BadProof, read_proof
from sidecar.ledger.verify import verify_lines
from sidecar.signed_note import BadNote, read_note, read_verifier_key

VECTORS = json.loads((CASES / "checkpoints.json").read_text())
LINES = (CASES / "must_accept" / "whole.jsonl").read_bytes().splitlines(keepends=True)
KEY = read_verifier_key(VECTORS["keys"]["log"]["vkey"])
TRUSTED = [TrustedKey(KEY.public, KEY.name)]
ROOTS = {c["size"]: read_signed(c["note"])[0].root for c in VECTORS["checkpoints"]}


def judged(*notes: str) -> Any:
    heads = [Kept(*read_signed(note)) for note in notes]
    watch = watch_for(heads)
    verdict = verify_lines(LINES, watch=watch)
    return anchored(verdict, watch, heads, TRUSTED)


def test_published_keys() -> None:
    for key in VECTORS["keys"].values():
        found = read_verifier_key(key["vkey"])
        assert (found.public.hex(), found.text) == (key["public"], key["vkey"])


def test_the_product_signs_the_published_notes() -> None:
    from ledger_checkpoint_setup import key_of

    for case in VECTORS["checkpoints"]:
        checkpoint = Checkpoint(VECTORS["origin"], case["size"], ROOTS[case["size"]])
        assert signed(checkpoint, key_of(1)) == case["note"]


def test_published_heads_anchor_the_published_receipts() -> None:
    found = judged(*(case["note"] for case in VECTORS["checkpoints"]))
    assert (found.size, found.agreeing, found.fault) == (8, 3, None)
    assert judged(VECTORS["checkpoints"][1]["note"]).size == 5


@pytest.mark.parametrize("case", VECTORS["key_changes"], ids=lambda case: case["name"])
def test_f4_published_changes_of_the_key(case: dict[str, Any]) -> None:
    key = read_verifier_key(VECTORS["keys"][case["trusted"]]["vkey"])
    heads = [Kept(*read_signed(note)) for note in case["notes"]]
    watch = watch_for(heads)
    lines = [json.dumps(receipt).encode() + b"\n" for receipt in case["receipts"]]
    verdict = verify_lines(lines, watch=watch)
    assert verdict.holds, verdict
    found = anchored(verdict, watch, heads, [TrustedKey(key.public, key.name)])
    assert (found.fault.kind if found.fault else None) == case.get("kind")
    assert found.fault or found.size == case["anchored"]


@pytest.mark.parametrize("case", VECTORS["must_reject"], ids=lambda case: case["name"])
def test_f4_must_reject(case: dict[str, str]) -> None:
    found = judged(VECTORS["checkpoints"][0]["note"], case["note"])
    assert found.fault is not None and found.fault.kind == case["kind"]
    assert found.size == 1, "what is sound before it stays anchored"


@pytest.mark.parametrize("case", VECTORS["inclusion"], ids=lambda c: f"{c['seq']}-{c['size']}")
def test_published_proofs(case: dict[str, Any]) -> None:
    found = read_proof(case["proof"])
    assert found.receipt["seq"] == case["seq"]
    assert found.head.checkpoint.size == case["size"]
    key = signer_of(found.head, TRUSTED)
    assert key is not None and key.text == VECTORS["keys"]["log"]["vkey"]
    for bad in (case["proof"].replace("index ", "index 1"), case["proof"].replace("extra", "x")):
        with pytest.raises(BadProof):
            read_proof(bad)


@pytest.mark.parametrize("case", VECTORS["consistency"], ids=lambda c: f"{c['old']}-{c['size']}")
def test_published_consistency(case: dict[str, Any]) -> None:
    from ledger_checkpoint_vectors import leaves
    from ledger_tree_reference import mth

    old, size = case["old"], case["size"]
    proof = [base64.b64decode(text) for text in case["hashes"]]
    before, after = mth(leaves()[:old]), mth(leaves()[:size])
    assert is_consistent(old, before, size, after, proof)
    assert not is_consistent(old, after if old < size else b"\0" * 32, size, after, proof)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\n",
        "a\n\n",
        "a\n\n— b\n",
        "a\n\n- b AAAAAAA=\n",
        "a\n\n— b AAAA\n",
        "a\n\n— b+c AAAAAAAA\n",
        "a\n\n— b AAAAAAA!\n",
        "a\n\n— b AAAAAAA\n",
        "a\x07\n\n— b AAAAAAAA\n",
        "a\n\n— b AAAAAAAA",
        "a" * 70_000 + "\n\n— b AAAAAAAA\n",
        "a\n\n" + "— b AAAAAAAA\n" * 65,
    ],
)
def test_what_is_no_note_is_refused(text: str) -> None:
    assert read_note("a\n\n— b AAAAAAAA\n").signatures, "positive control"
    with pytest.raises(BadNote):
        read_note(text)


@pytest.mark.parametrize(
    "body",
    [
        "o\n1\nAA==\n",
        "o\n01\n{r}\n",
        "o\n-1\n{r}\n",
        "\n1\n{r}\n",
        "o\n1\n",
        "o\n1\n{r}=\n",
        "o\n1e3\n{r}\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(body: str) -> None:
    from sidecar.ledger.checkpoint import read_checkpoint

    root = base64.b64encode(b"\x01" * 32).decode()
    assert read_checkpoint(f"o\n1\n{root}\nmore\n").size == 1, "positive control"
    with pytest.raises(BadNote):
        read_checkpoint(body.replace("{r}", root))
