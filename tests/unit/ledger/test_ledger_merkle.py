"""The frontier stands for the same tree as RFC 6962's own recursion."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_setup import reference_root
from ledger_vectors import frontier_of

from sidecar.ledger.merkle import append, frontier_from_hex, frontier_to_hex, leaf_hash, root

# Google's test tree for RFC 6962 (certificate-transparency, merkle_tree_test).
LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657",
          "606162636465666768696a6b6c6d6e6f"]  # fmt: skip
ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


def grown(leaves: list[bytes]) -> list[bytes]:
    frontier: list[bytes] = []
    for size, leaf in enumerate(leaves):
        append(frontier, size, leaf_hash(leaf))
    return frontier


@pytest.mark.parametrize("size", sorted(ROOTS))
def test_known_roots(size: int) -> None:
    leaves = [bytes.fromhex(text) for text in LEAVES[:size]]
    assert root(grown(leaves)).hex() == ROOTS[size]


def test_every_size_up_to_200_has_the_reference_root_and_frontier() -> None:
    leaves = [sha256(bytes([number])).digest() for number in range(200)]
    frontier: list[bytes] = []
    for size, leaf in enumerate(leaves):
        assert root(frontier) == reference_root(leaves[:size])
        append(frontier, size, leaf_hash(leaf))
        assert frontier_to_hex(frontier) == frontier_of(leaves[: size + 1])


@given(st.lists(st.binary(max_size=40), max_size=200))
def test_any_leaves_have_the_reference_root(leaves: list[bytes]) -> None:
    assert root(grown(leaves)) == reference_root(leaves)


@given(st.lists(st.binary(max_size=8), max_size=70))
def test_the_stored_form_comes_back(leaves: list[bytes]) -> None:
    frontier = grown(leaves)
    assert frontier_from_hex(frontier_to_hex(frontier), len(leaves)) == frontier


@pytest.mark.parametrize(
    ("text", "size"), [("", 1), ("ab" * 32, 0), ("ab" * 32, 3), ("ab" * 31, 1), ("zz" * 32, 1)]
)
def test_a_frontier_that_does_not_fit_its_size_is_refused(text: str, size: int) -> None:
    assert frontier_from_hex("ab" * 32, 1) == [b"\xab" * 32]
    with pytest.raises(ValueError, match=r"frontier|hexadecimal"):
        frontier_from_hex(text, size)


def test_a_leaf_is_never_a_node() -> None:
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert leaf_hash(left + right) != reference_root([b"a", b"b"])
