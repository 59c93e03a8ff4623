"""F5: one value, one text; `rfc8785` is the oracle, the exceptions are those the form names."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from ledger_setup import CASES, reference_canonical

from sidecar.ledger.canonical import NotCanonical, canonical_arguments, canonical_body
from sidecar.ledger.receipt import BODY_KEYS

VECTORS = json.loads((CASES / "v1.json").read_text())
SAFE = st.integers(-(2**53) + 1, 2**53 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
BMP = st.text(st.characters(exclude_categories=["Cs"], max_codepoint=0xFFFF))


def json_values(keys: st.SearchStrategy[str], *leaves: st.SearchStrategy[Any]) -> Any:
    return st.dictionaries(
        keys,
        st.recursive(
            st.one_of(st.none(), st.booleans(), SAFE, TEXT, *leaves),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
            max_leaves=12,
        ),
        max_size=6,
    )


@given(st.fixed_dictionaries({key: st.one_of(st.none(), TEXT, SAFE) for key in BODY_KEYS}))
def test_f5_a_body_is_rfc8785(body: dict[str, Any]) -> None:
    assert canonical_body(body) == rfc8785.dumps(body)


@given(json_values(BMP))
def test_f5_arguments_without_floats_and_astral_keys_are_rfc8785(values: dict[str, Any]) -> None:
    assert canonical_arguments(values) == rfc8785.dumps(values)


@given(json_values(TEXT, st.floats(allow_nan=False, allow_infinity=False)))
def test_f5_arguments_come_back_as_they_were(values: dict[str, Any]) -> None:
    text = canonical_arguments(values)
    back = json.loads(text)
    assert repr(_sorted(back)) == repr(_sorted(values))  # repr tells 1 from 1.0 and 0.0 from -0.0
    assert canonical_arguments(back) == text


@given(json_values(TEXT))
def test_f5_arguments_are_sorted_compact_json_in_code_point_order(values: dict[str, Any]) -> None:
    assert canonical_arguments(values) == reference_canonical(values)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_f5_floats_differ_from_rfc8785_only_where_the_form_says(value: float) -> None:
    ours, theirs = canonical_arguments({"a": value})[5:-1], rfc8785.dumps(value)
    assert float(ours) == float(theirs)
    is_named = (value.is_integer() and abs(value) < 1e21) or abs(value) < 1e-5
    if ours != theirs:
        assert is_named, (ours, theirs)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ('{"a":1.0}', '{"a":1}'),
        ('{"a":-0.0}', '{"a":0}'),
        ('{"a":1e-6}', '{"a":0.000001}'),
        ('{"a":1e+16}', '{"a":10000000000000000}'),
        ('{"\uffff":2,"\U0001f680":1}', '{"\U0001f680":1,"\uffff":2}'),
    ],
)
def test_f5_the_differences_that_are_documented(ours: str, theirs: str) -> None:
    value = json.loads(ours)
    assert canonical_arguments(value).decode() == ours
    assert rfc8785.dumps(value).decode() == theirs


@pytest.mark.parametrize("text", ['{"a":1e-7}', '{"a":1e+21}', '{"a":0.00001}', '{"a":1.5}'])
def test_f5_floats_on_which_all_agree(text: str) -> None:
    value = json.loads(text)
    assert canonical_arguments(value).decode() == text == rfc8785.dumps(value).decode()


@pytest.mark.parametrize("case", VECTORS["arguments"], ids=lambda case: case["name"])
def test_f5_published_arguments(case: dict[str, str]) -> None:
    assert canonical_arguments(json.loads(case["json"])).decode() == case["canonical"]


def test_f5_nfc_and_nfd_stay_apart() -> None:
    assert canonical_arguments({"a": "é"}) != canonical_arguments({"a": "e\u0301"})


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        [1, {"b": math.inf}],
        [None, -math.inf],
        2**53,
        -(2**53),
        2**64,
        "\ud800",
        "a\udfff",
        {1: 2},
        {"\ud800": 1},
        b"bytes",
        {"set"},
    ],
)
def test_f5_what_has_no_canonical_form_is_refused(value: Any) -> None:
    assert canonical_arguments({"a": None, "b": 2**53 - 1})
    with pytest.raises(NotCanonical):
        canonical_arguments({"a": value})


def test_f5_nesting_beyond_the_encoder_is_refused() -> None:
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    with pytest.raises(NotCanonical):
        canonical_arguments({"a": value})


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value
