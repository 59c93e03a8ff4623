"""What is counted in a hurry is what is counted with care."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.sizes import USUAL_BYTES, USUAL_VALUES, quick_size, size_of

_TEXTS = st.text(st.characters(codec=None), max_size=20)
_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), _TEXTS
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.dictionaries(_TEXTS, inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(_TEXTS, _VALUES, max_size=8))
def test_the_hurry_counts_what_care_counts(args: dict[str, Any]) -> None:
    quick = quick_size(args)
    if quick is None:
        return
    sizes = [size_of(value) for value in args.values()]  # none is unreadable
    assert sum(size.values for size in sizes) == quick.values <= USUAL_VALUES
    assert sum(size.bytes for size in sizes) == quick.bytes <= USUAL_BYTES


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"owner": "acme", "number": 7, "open": True, "rest": None, "share": 0.5},
        {"labels": ["a", "b"], "options": {"draft": False, "path": "/srv/a"}},
        {"deep": [[{"a": [1]}]]},
    ],
)
def test_what_calls_hold_is_counted_in_a_hurry(args: dict[str, Any]) -> None:
    assert quick_size(args) is not None


@pytest.mark.parametrize(
    "args",
    [
        {"text": "a\0b"},
        {"text": "é"},
        {"text": "a" * (USUAL_BYTES + 1)},
        {"number": 2**63},
        {"list": [2**63]},
        {"object": {"a\0": 1}},
        {"object": {"a": 2**63}},
        {"object": {"deep": {"a": "é"}}},
        {"list": [[2**63]]},
        {"list": [1] * (USUAL_VALUES + 1)},
        {"object": dict.fromkeys(map(str, range(USUAL_VALUES + 1)))},
        {str(number): number for number in range(USUAL_VALUES + 1)},
        {"tuple": (1, 2)},
        ["no object"],
    ],
)
def test_what_is_odd_or_much_takes_a_closer_look(args: Any) -> None:
    assert quick_size(args) is None
