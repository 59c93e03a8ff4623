"""The Merkle tree of RFC 6962 over a tenant's receipts, kept as its frontier.

Knows: leaf and node hashes, how a leaf joins the frontier, the root a frontier stands for.
The frontier is the roots of the perfect subtrees that the tree splits into, largest first: one
per set bit of the size. A leaf's data are the canonical bytes of a receipt's body.
Must not know: what a receipt is.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """RFC 6962 section 2.1: SHA-256(0x00 || data)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962 section 2.1: SHA-256(0x01 || left || right)."""
    return sha256(b"\x01" + left + right).digest()


def append(frontier: list[bytes], size: int, leaf: bytes) -> None:
    """Adds a leaf hash to the frontier of a tree of `size` leaves, in place."""
    while size & 1:
        leaf = sha256(b"\x01" + frontier.pop() + leaf).digest()
        size >>= 1
    frontier.append(leaf)


def root(frontier: Sequence[bytes]) -> bytes:
    """The root of the tree the frontier stands for; of the empty tree, SHA-256 of nothing."""
    if not frontier:
        return EMPTY_ROOT
    result = frontier[-1]
    for subtree in reversed(frontier[:-1]):
        result = node_hash(subtree, result)
    return result


def frontier_from_hex(text: str, size: int) -> list[bytes]:
    """Reads the stored form; raises ValueError if it does not fit a tree of `size` leaves."""
    raw = bytes.fromhex(text)
    if len(raw) != HASH_BYTES * size.bit_count():
        raise ValueError(f"a frontier of {len(raw)} bytes cannot be that of {size} leaves")
    return [raw[at : at + HASH_BYTES] for at in range(0, len(raw), HASH_BYTES)]


def frontier_to_hex(frontier: Sequence[bytes]) -> str:
    """The stored form: the hashes, largest subtree first, in lower-case hex."""
    return b"".join(frontier).hex()
