"""Redaction: names that are never stored, and that nothing else changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.secret_names import SecretNames
from sidecar.proxy.redaction import MASK, Redactor

NAMES = ("password", "token", "secret", "api_key", "authorization")


@pytest.fixture
def redactor() -> Redactor:
    return Redactor(NAMES)


@pytest.mark.parametrize(
    ("values", "masked"),
    [
        ({"password": "hunter2"}, {"password": MASK}),
        ({"PassWord": "hunter2"}, {"PassWord": MASK}),
        (
            {"apiKey": "k", "api-key": "k", "API_KEY": "k"},
            {"apiKey": MASK, "api-key": MASK, "API_KEY": MASK},
        ),
        ({"a": {"b": [{"token": "t", "c": 1}]}}, {"a": {"b": [{"token": MASK, "c": 1}]}}),
        ({"token": {"value": "t"}}, {"token": MASK}),
        ({"user[password]": "hunter2"}, {"user[password]": MASK}),
        ({"secret": ["s"]}, {"secret": MASK}),
        ({"secret": None}, {"secret": MASK}),
        ({"body": [[{"Authorization": "Bearer x"}]]}, {"body": [[{"Authorization": MASK}]]}),
    ],
)
def test_g5_secret_names_are_masked_at_any_depth_and_in_any_case(
    redactor: Redactor, values: dict[str, Any], masked: dict[str, Any]
) -> None:
    before = json.dumps(values)
    assert redactor.arguments(values) == masked
    assert json.dumps(values) == before


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"user": "ana", "passwords_count": 3},
        {"a": {"b": [{"c": "password"}]}},
        {"tokens": 17, "max_tokens": 20},
        {"list": [1, 2, {"x": [3]}]},
    ],
)
def test_what_is_no_secret_is_the_same_object(redactor: Redactor, values: dict[str, Any]) -> None:
    assert redactor.arguments(values) is values


def test_untouched_branches_are_shared(redactor: Redactor) -> None:
    values = {"keep": {"x": [1]}, "change": {"token": "t"}}
    masked = redactor.arguments(values)
    assert masked["keep"] is values["keep"]
    assert list(masked) == ["keep", "change"]


def test_no_names_mask_nothing() -> None:
    values = {"password": "x"}
    assert Redactor(()).arguments(values) is values


JSON = st.recursive(
    st.sampled_from(["canary-1", "canary-2", 3, None]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["a", "Token", "b", "apikey", "SECRET"]), inner, max_size=4
        ),
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["a", "token", "x"]), JSON, max_size=3))
def test_g5_no_value_under_a_secret_name_survives(values: dict[str, Any]) -> None:
    redactor, names = Redactor(NAMES), SecretNames(NAMES)

    def check(masked: Any, original: Any) -> None:
        if isinstance(original, dict):
            assert list(masked) == list(original)
            for name, value in original.items():
                if name in names:
                    assert masked[name] == MASK
                else:
                    check(masked[name], value)
        elif isinstance(original, list):
            assert len(masked) == len(original)
            for new, old in zip(masked, original, strict=True):
                check(new, old)
        else:
            assert masked == original

    check(redactor.arguments(values), values)
