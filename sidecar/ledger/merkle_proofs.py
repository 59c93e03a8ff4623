"""Proofs in the Merkle tree of RFC 6962: which hashes they are made of, and whether they hold.

Knows: inclusion and consistency proofs (RFC 6962 sections 2.1.1 and 2.1.2; verified as in RFC 9162
sections 2.1.3.2 and 2.1.4.2), each as stretches of leaves, and each stretch as perfect subtrees.
Pure: whoever has the hashes of subtrees makes a proof of them.
Must not know: where hashes are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sidecar.ledger.merkle import node_hash


class Span(NamedTuple):
    """Leaves `start` to `end`, the end excluded."""

    start: int
    end: int


class Perfect(NamedTuple):
    """A perfect subtree: leaves `place` << `height` to (`place` + 1) << `height`."""

    height: int
    place: int


def _split(width: int) -> int:
    """The largest power of two below a width of 2 or more."""
    return 1 << (width - 1).bit_length() - 1


def inclusion_spans(index: int, size: int) -> list[Span]:
    """What the proof of leaf `index` in a tree of `size` is made of, from the leaf's sibling up.

    Raises ValueError for a leaf that is not in it.
    """
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} in a tree of {size}")
    start, end, found = 0, size, []
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            found.append(Span(middle, end))
            end = middle
        else:
            found.append(Span(start, middle))
            start = middle
    return found[::-1]


def consistency_spans(old: int, size: int) -> list[Span]:
    """What the proof that a tree of `size` goes on from one of `old` is made of.

    Empty for an empty or the same tree. Raises ValueError where the old one is larger.
    """
    if not 0 <= old <= size:
        raise ValueError(f"a tree of {size} does not go on from one of {old}")
    if old in (0, size):
        return []
    start, end, found, is_known = 0, size, [], True
    while old != end - start:
        split = _split(end - start)
        if old <= split:
            found.append(Span(start + split, end))
            end = start + split
        else:
            found.append(Span(start, start + split))
            start, old, is_known = start + split, old - split, False
    if not is_known:
        found.append(Span(start, end))
    return found[::-1]


def subtrees(span: Span) -> list[Perfect]:
    """The perfect subtrees that a stretch splits into, the largest first, as in a frontier."""
    found, at = [], span.start
    while at < span.end:
        height = (span.end - at).bit_length() - 1
        found.append(Perfect(height, at >> height))
        at += 1 << height
    return found


def included_root(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes | None:
    """The root that a proof of inclusion leads to; None for one that cannot be of this place."""
    if not 0 <= index < size:
        return None
    place, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return None
        if place & 1 or place == last:
            found = node_hash(sibling, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        place, last = place >> 1, last >> 1
    return found if last == 0 else None


def is_consistent(
    old: int, old_root: bytes, size: int, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether the tree of `size` with this root goes on from the one of `old` with that root."""
    if not 0 <= old <= size:
        return False
    if old in (0, size):
        return not proof and (old == 0 or old_root == new_root)
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    place, last = old - 1, size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    old_found = new_found = path[0]
    for one in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            old_found, new_found = node_hash(one, old_found), node_hash(one, new_found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            new_found = node_hash(new_found, one)
        place, last = place >> 1, last >> 1
    return last == 0 and old_found == old_root and new_found == new_root
