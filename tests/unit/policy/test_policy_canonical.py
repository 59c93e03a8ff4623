"""The hash of much data, taken in steps, is the hash of all of it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.canonical import canonical_hash, canonical_hash_of_much

_TEXTS = st.text(st.characters(codec=None), max_size=4)
_SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), _TEXTS)
_DATA = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(_TEXTS, inner, max_size=3)
    ),
    max_leaves=40,
)


@given(_DATA)
def test_steps_and_one_go_give_the_hash_of_the_same_text(content: Any) -> None:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    expected = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    assert canonical_hash(content) == expected
    assert canonical_hash_of_much(content) == expected


def test_deeper_than_its_steps_nothing_is_left_out() -> None:
    one: Any = 1
    other: Any = 2
    for _ in range(12):
        one, other = {"a": [one]}, {"a": [other]}
    assert canonical_hash_of_much(one) == canonical_hash(one)
    assert canonical_hash_of_much(one) != canonical_hash_of_much(other)
