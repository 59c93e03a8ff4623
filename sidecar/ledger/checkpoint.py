"""Checkpoints (C2SP tlog-checkpoint): the head of a tenant's tree, as a text that can be signed.

Knows: origin, size and root, and how they are written. The origin names one chain:
`aegis-sidecar/TENANT/` and the beginning of the hash of the chain's oldest receipt, so that chains
of two stores that call a tenant alike are two logs to whoever keeps their heads.
Must not know: who signs, where checkpoints go.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from sidecar.ledger.merkle import HASH_BYTES
from sidecar.signed_note import BadNote, Note, SigningKey, read_note

PROGRAM = "aegis-sidecar"
_MARK_HEX = 16
_SIZE = re.compile(r"0|[1-9][0-9]{0,15}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The tree of `size` receipts has this root."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """What is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def origin_of(tenant_id: str, oldest_hash: str) -> str:
    """The name of a tenant's log; `oldest_hash` is that of its oldest receipt at hand when its
    first checkpoint was made."""
    return f"{PROGRAM}/{quote(tenant_id, safe='')}/{oldest_hash[:_MARK_HEX]}"


def tenant_of(origin: str) -> str | None:
    """Whose log an origin names; None if it is not one of ours."""
    parts = origin.split("/")
    return unquote(parts[1]) if len(parts) == 3 and parts[0] == PROGRAM else None


def signed(checkpoint: Checkpoint, key: SigningKey) -> str:
    """The note of a checkpoint, signed under its origin's name."""
    text = checkpoint.text
    return Note(text, (key.sign(checkpoint.origin, text),)).whole


def read_checkpoint(text: str) -> Checkpoint:
    """What a note's text says; further lines are passed over. Raises BadNote."""
    lines = text.split("\n")
    if len(lines) < 4 or not lines[0] or _SIZE.fullmatch(lines[1]) is None:
        raise BadNote("it is no checkpoint")
    try:
        root = base64.b64decode(lines[2], validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadNote("its root is not in base64") from error
    if len(root) != HASH_BYTES or base64.b64encode(root).decode() != lines[2]:
        raise BadNote("its root is no SHA-256 hash")
    return Checkpoint(lines[0], int(lines[1]), root)


def read_signed(text: str) -> tuple[Checkpoint, Note]:
    """A checkpoint with its note; nothing says that its signatures hold. Raises BadNote."""
    note = read_note(text)
    return read_checkpoint(note.text), note
