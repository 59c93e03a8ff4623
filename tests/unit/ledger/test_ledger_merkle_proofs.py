"""Proofs: what they are made of is RFC 6962's recursion, and nothing but the truth verifies."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_tree_reference import mth, path, root_of_path, roots_of_subproof, subproof

from sidecar.ledger.merkle import root
from sidecar.ledger.merkle_proofs import (
    Span,
    consistency_spans,
    included_root,
    inclusion_spans,
    is_consistent,
    subtrees,
)

LEAVES = [sha256(bytes([0, number % 256, number // 256])).digest() for number in range(600)]


def made_of(spans: Sequence[Span]) -> list[bytes]:
    """Each stretch as the product puts it together: out of perfect subtrees."""
    return [root([mth(LEAVES[i << h : (i + 1) << h]) for h, i in subtrees(span)]) for span in spans]


@pytest.mark.parametrize("size", [*range(1, 40), 255, 256, 257, 511, 600])
def test_every_leaf_has_its_path_and_it_holds(size: int) -> None:
    top = mth(LEAVES[:size])
    for index in range(size) if size < 40 else (0, 1, size // 2, size - 2, size - 1):
        proof = made_of(inclusion_spans(index, size))
        assert proof == path(index, LEAVES[:size])
        assert included_root(LEAVES[index], index, size, proof) == top
        assert root_of_path(LEAVES[index], index, size, proof) == top


@pytest.mark.parametrize("size", [*range(1, 34), 255, 256, 257, 600])
def test_every_older_tree_has_its_proof_and_it_holds(size: int) -> None:
    top = mth(LEAVES[:size])
    for old in range(1, size + 1) if size < 40 else (1, 128, 200, size - 1, size):
        proof = made_of(consistency_spans(old, size))
        assert proof == subproof(old, LEAVES[:size])
        before = mth(LEAVES[:old])
        assert is_consistent(old, before, size, top, proof)
        assert roots_of_subproof(old, size, proof, before) == (before, top)


@settings(max_examples=300)
@given(st.data())
def test_a_proof_that_was_touched_does_not_hold(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 600))
    index = data.draw(st.integers(0, size - 1))
    proof = made_of(inclusion_spans(index, size))
    top = mth(LEAVES[:size])
    at = data.draw(st.integers(0, len(proof) - 1))
    bad = list(proof)
    what = data.draw(st.sampled_from(["bit", "drop", "twice", "index", "leaf"]))
    leaf = LEAVES[index]
    if what == "bit":
        bad[at] = bytes([bad[at][0] ^ 1]) + bad[at][1:]
    elif what == "drop":
        del bad[at]
    elif what == "twice":
        bad.insert(at, bad[at])
    elif what == "leaf":
        leaf = LEAVES[(index + 1) % size]
    else:
        index = (index + 1) % size
    assert included_root(leaf, index, size, bad) != top


@settings(max_examples=300)
@given(st.data())
def test_f3_a_consistency_proof_between_two_histories_does_not_hold(data: st.DataObject) -> None:
    size = data.draw(st.integers(3, 300))
    old = data.draw(st.integers(1, size - 1))
    changed = data.draw(st.integers(0, old - 1))
    proof = made_of(consistency_spans(old, size))
    before, top = mth(LEAVES[:old]), mth(LEAVES[:size])
    assert is_consistent(old, before, size, top, proof), "positive control"
    other = [*LEAVES[:changed], sha256(b"other").digest(), *LEAVES[changed + 1 : size]]
    assert not is_consistent(old, mth(other[:old]), size, top, proof)
    assert not is_consistent(old, before, size, mth(other), subproof(old, other))
    bad = list(proof)
    at = data.draw(st.integers(0, len(proof) - 1))
    bad[at] = sha256(bad[at]).digest()
    assert not is_consistent(old, before, size, top, bad)
    assert not is_consistent(old, before, size, top, proof[:-1])
    assert not is_consistent(old, before, size, top, [*proof, top])


def test_what_is_beyond_a_tree_is_refused() -> None:
    for index, size in ((5, 5), (-1, 5), (0, 0)):
        with pytest.raises(ValueError, match="no leaf"):
            inclusion_spans(index, size)
        assert included_root(LEAVES[0], index, size, []) is None
    with pytest.raises(ValueError, match="does not go on"):
        consistency_spans(6, 5)
    assert not is_consistent(6, LEAVES[0], 5, LEAVES[0], [])
    assert consistency_spans(0, 5) == consistency_spans(5, 5) == []
    assert is_consistent(0, b"", 5, LEAVES[0], [])
    assert not is_consistent(0, b"", 5, LEAVES[0], [LEAVES[1]])
    assert not is_consistent(5, LEAVES[0], 5, LEAVES[1], [])
