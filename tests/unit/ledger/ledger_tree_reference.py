"""A second opinion on trees, notes and checkpoints, written from the RFCs and from C2SP alone.

Proofs are RFC 6962's own recursions, word for word; verifying them is done by RFC 6962's definition
too (rebuilding both sides), not by the algorithm of RFC 9162 that the product uses. Nothing of the
product is imported.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def split(count: int) -> int:
    k = 1
    while k * 2 < count:
        k *= 2
    return k


def mth(leaves: Sequence[bytes]) -> bytes:
    """Over leaf hashes."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return node(mth(leaves[:k]), mth(leaves[k:]))


def path(m: int, leaves: Sequence[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m: int, leaves: Sequence[bytes], is_known: bool = True) -> list[bytes]:
    if m == len(leaves):
        return [] if is_known else [mth(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], is_known), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


def root_of_path(leaf: bytes, m: int, count: int, proof: list[bytes]) -> bytes:
    """PATH undone; raises IndexError for a proof of another length."""
    if count == 1:
        if proof:
            raise IndexError("too long")
        return leaf
    k, sibling = split(count), proof[-1]
    if m < k:
        return node(root_of_path(leaf, m, k, proof[:-1]), sibling)
    return node(sibling, root_of_path(leaf, m - k, count - k, proof[:-1]))


def roots_of_subproof(
    m: int, count: int, proof: list[bytes], known: bytes | None
) -> tuple[bytes, bytes]:
    """SUBPROOF undone: (root of the first m, root of all); `known` is the first m's root."""
    if m == count:
        if known is None:
            (known,) = proof
        elif proof:
            raise IndexError("too long")
        return known, known
    k, last = split(count), proof[-1]
    if m <= k:
        old, new = roots_of_subproof(m, k, proof[:-1], known)
        return old, node(new, last)
    old, new = roots_of_subproof(m - k, count - k, proof[:-1], None)
    return node(last, old), node(last, new)


# -- notes -------------------------------------------------------------------------------------


def key_id(name: str, kind: int, public: bytes) -> bytes:
    return sha256(name.encode() + b"\x0a" + bytes([kind]) + public).digest()[:4]


def parts_of(note: str) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    """The text, and (name, id, signature) of each line."""
    at = note.rindex("\n\n")
    lines = note[at + 2 :].splitlines()
    found = []
    for line in lines:
        dash, name, material = line.split(" ")
        assert dash == "—"
        raw = base64.b64decode(material, validate=True)
        found.append((name, raw[:4], raw[4:]))
    return note[: at + 1], found


def signed_head(note: str, public: bytes) -> tuple[str, int, bytes] | None:
    """(origin, size, root) if the origin's own signature by this key holds."""
    text, lines = parts_of(note)
    origin, size, root = text.split("\n")[:3]
    for name, claimed, signature in lines:
        if name == origin and claimed == key_id(name, 1, public):
            try:
                Ed25519PublicKey.from_public_bytes(public).verify(signature, text.encode())
            except InvalidSignature:
                return None
            return origin, int(size), base64.b64decode(root)
    return None


def anchored_at(bodies: list[bytes], notes: list[str], public: bytes) -> int:
    """How many of these canonical bodies signed heads vouch for; raises ValueError at one that is
    not of this history."""
    leaves = [sha256(b"\x00" + body).digest() for body in bodies]
    best = 0
    for note in notes:
        head = signed_head(note, public)
        if head is None:
            continue
        _, size, root = head
        if size > len(leaves):
            raise ValueError(f"cut: {size} were signed")
        if mth(leaves[:size]) != root:
            raise ValueError(f"rewritten at or before {size}")
        best = max(best, size)
    return best


def proof_parts(text: str) -> tuple[int, list[bytes], bytes, str]:
    """(index, hashes, extra, checkpoint) of a C2SP tlog-proof."""
    head, _, checkpoint = text.partition("\n\n")
    lines = head.split("\n")
    assert lines[0] == "c2sp.org/tlog-proof@v1"
    extra = b""
    if lines[1].startswith("extra "):
        extra = base64.b64decode(lines.pop(1)[6:])
    index: Any = lines[1].removeprefix("index ")
    return int(index), [base64.b64decode(line) for line in lines[2:]], extra, checkpoint
