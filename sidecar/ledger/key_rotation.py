"""The receipt that says that another key signs from now on, signed by both keys.

Knows: its words. The statement is a note, and the whole of it stands in the receipt's `resource`:
what stands beside a receipt can be erased, and an auditor who has only the receipts needs it.
Both keys sign the same text, so that whoever trusts one of them may trust the other: the old one
for what came before this receipt, the new one for what comes after.
Must not know: where keys are kept, who decides.
"""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.clock import Clock
from sidecar.ledger.audited import Deed, entry_in_clear
from sidecar.ledger.care import ROTATE_KEY
from sidecar.signed_note import (
    ED25519,
    BadNote,
    Note,
    SigningKey,
    VerifierKey,
    read_note,
    read_verifier_key,
)
from storage.records import Entry

SUBJECT = "receipts.key"
_TITLE = "aegis-sidecar/key-rotation/v1"


@dataclass(frozen=True, slots=True)
class Rotation:
    """From receipt `seq` on `new` signs in the place of `old`; both have signed that."""

    seq: int
    old: VerifierKey
    new: VerifierKey


def rotated(
    clock: Clock, tenant_id: str, actor: str, origin: str, old: SigningKey, new: SigningKey
) -> Entry:
    """The receipt of a rotation, and its audit event: of keys both only tell what verifies."""
    statement = _statement(origin, old.verifier(origin), new.verifier(origin))
    signatures = (old.sign(origin, statement), new.sign(origin, statement))
    before, after = {"key": old.verifier(origin).text}, {"key": new.verifier(origin).text}
    deed = Deed(ROTATE_KEY, actor, SUBJECT, before, after)
    return entry_in_clear(clock, tenant_id, deed, Note(statement, signatures).whole)


def read_rotation(seq: int, resource: str | None) -> Rotation:
    """What such a receipt says. Raises BadNote unless both keys have signed it."""
    note = read_note(resource or "")
    lines = note.text.split("\n")
    if len(lines) != 5 or lines[0] != _TITLE:
        raise BadNote("it is no rotation of keys")
    origin, old, new = lines[1], read_verifier_key(lines[2]), read_verifier_key(lines[3])
    for key in (old, new):
        if key.kind != ED25519 or key.name != origin:
            raise BadNote("a key of it is not one that signs this chain")
        if note.signature_by(key) is None:
            raise BadNote("one of the keys has not signed it")
    return Rotation(seq, old, new)


def _statement(origin: str, old: VerifierKey, new: VerifierKey) -> str:
    return f"{_TITLE}\n{origin}\n{old.text}\n{new.text}\n"
