"""One receipt with its proof: a file that shows it to somebody who has nothing but a key.

Knows: the form (C2SP tlog-proof v1): the receipt's line as extra data, its place, the hashes, the
checkpoint. The receipt is believed only because its leaf leads to the signed root.
Must not know: stores, files.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import orjson

from sidecar.ledger.canonical import canonical_body
from sidecar.ledger.checkpoint import read_signed, tenant_of
from sidecar.ledger.checkpoint_file import Kept
from sidecar.ledger.merkle import HASH_BYTES, leaf_hash
from sidecar.ledger.merkle_proofs import included_root
from sidecar.ledger.receipt import Body
from sidecar.ledger.verify import read_receipt
from sidecar.signed_note import BadNote

HEADER = "c2sp.org/tlog-proof@v1"
PROOF_BYTES_MAX = 1024 * 1024
_HASHES_MAX = 63
#: Of the size of a tree, and so of a place in it.
_DIGITS_MAX = 16


class BadProof(ValueError):
    """It is no proof, or it does not hold; `is_unreadable` tells which."""

    def __init__(self, what: str, *, is_unreadable: bool = False) -> None:
        super().__init__(what)
        self.is_unreadable = is_unreadable


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof that holds as far as the root of `head`; who signed that is another question."""

    receipt: dict[str, Any]
    head: Kept


def proof_text(line: bytes, seq: int, hashes: tuple[bytes, ...], note: str) -> str:
    """The file. `line` is the receipt as an export has it."""
    path = "".join(f"{_b64(one)}\n" for one in hashes)
    return f"{HEADER}\nextra {_b64(line)}\nindex {seq - 1}\n{path}\n{note}"


def read_proof(text: str) -> Proof:
    """Checks a proof up to the root of its checkpoint. Raises BadProof."""
    head, gap, note = text.partition("\n\n")
    lines = head.split("\n")
    if not gap or len(lines) < 3 or lines[0] != HEADER:
        raise BadProof("it is no tlog-proof", is_unreadable=True)
    if not lines[1].startswith("extra ") or not lines[2].startswith("index "):
        raise BadProof("it has no receipt, or no place", is_unreadable=True)
    if len(lines) - 3 > _HASHES_MAX:
        raise BadProof("it has more hashes than any tree is high", is_unreadable=True)
    place = lines[2].removeprefix("index ")
    if len(place) > _DIGITS_MAX or not (
        place.isascii() and place.isdigit() and str(int(place)) == place
    ):
        raise BadProof("its index is no number", is_unreadable=True)
    hashes = [_raw(one) for one in lines[3:]]
    if any(len(one) != HASH_BYTES for one in hashes):
        raise BadProof("a hash of it is none", is_unreadable=True)
    try:
        kept = Kept(*read_signed(note))
    except BadNote as error:
        raise BadProof(f"its checkpoint: {error}", is_unreadable=True) from error
    receipt = _receipt(_raw(lines[1].removeprefix("extra ")))
    _check(receipt, int(place), hashes, kept)
    return Proof(receipt, kept)


def _receipt(line: bytes) -> dict[str, Any]:
    try:
        return read_receipt(line)
    except ValueError as error:
        raise BadProof(f"its receipt: {error}") from error


def _check(receipt: dict[str, Any], index: int, hashes: list[bytes], kept: Kept) -> None:
    size = kept.checkpoint.size
    body = {key: value for key, value in receipt.items() if key != "receipt_hash"}
    if receipt["seq"] != index + 1:
        raise BadProof(f"its receipt is {receipt['seq']}, its place is that of {index + 1}")
    if tenant_of(kept.checkpoint.origin) != receipt["tenant_id"]:
        raise BadProof("its checkpoint is of another tenant's chain")
    root = included_root(leaf_hash(canonical_body(body)), index, size, hashes)
    if root != kept.checkpoint.root:
        raise BadProof(f"its receipt is not in the signed tree of {size} at this place")


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _raw(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadProof("it is not in base64", is_unreadable=True) from error


def receipt_line(body: Body, receipt_hash: str) -> bytes:
    """A receipt as an export has it, without what may stand beside it."""
    return orjson.dumps({**body, "receipt_hash": receipt_hash}, option=orjson.OPT_SORT_KEYS)
