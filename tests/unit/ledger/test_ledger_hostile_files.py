"""Files of a hostile hand beside what is verified offline: judged, and no crash."""

from __future__ import annotations

import base64

import pytest

from sidecar.ledger.anchors import anchored, watch_for
from sidecar.ledger.chain import seal
from sidecar.ledger.checkpoint import read_signed
from sidecar.ledger.checkpoint_file import Kept
from sidecar.ledger.merkle import EMPTY_ROOT
from sidecar.ledger.receipt import blank_receipt
from sidecar.ledger.receipt_proof import HEADER, BadProof, read_proof
from sidecar.ledger.stored_chain import lines_of
from sidecar.ledger.verify import verify_lines
from storage.record_batch import empty_head


def test_a_head_of_no_receipts_is_judged_and_is_no_crash() -> None:
    """Anybody can put a note beside an export, or name one with --checkpoint."""
    draft = blank_receipt("acme", "control", event_id="e", call_id=None, ts_us=1)
    sealed = seal({"acme": empty_head("acme")}, [draft])
    lines = lines_of(list(sealed.rows), "", None)
    origin, signature = "aegis-sidecar/acme/0123456789abcdef", base64.b64encode(bytes(68)).decode()
    text = f"{origin}\n0\n{base64.b64encode(EMPTY_ROOT).decode()}\n"
    note = f"{text}\n\u2014 {origin} {signature}\n"
    heads = [Kept(*read_signed(note))]
    watch = watch_for(heads)
    verdict = verify_lines(lines, watch=watch)
    assert verdict.holds
    found = anchored(verdict, watch, heads, [])
    assert found.fault is None


def test_an_index_of_five_thousand_digits_is_no_proof() -> None:
    text = f"{HEADER}\nextra e30=\nindex {'1' * 5000}\n\nnote\n"
    with pytest.raises(BadProof):
        read_proof(text)
