"""What is counted in a hurry is what is counted with care."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model import HttpFacts, Principal, Tool, ToolCall
from sidecar.policy.facts import Facts
from sidecar.policy.sizes import USUAL_BYTES, USUAL_VALUES, Size, quick_size, size_of, size_within

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


# -- at most so large, by the text they stand in ----------------------------------------------

_WRITABLE = st.characters(codec="utf-8", exclude_characters="\0")  # which strict JSON refuses
_NAMES = st.text(_WRITABLE, max_size=8)
_JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**53) + 1, 2**53 - 1),
        st.floats(allow_nan=False, allow_infinity=False), st.text(_WRITABLE, max_size=20),
        st.text("[]{},:\"\\", max_size=8),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(_NAMES, inner, max_size=4)
    ),
    max_leaves=10,
)  # fmt: skip


def _message(args: Any) -> bytes:
    return orjson.dumps({"method": "tools/call", "params": {"name": "a", "arguments": args}})


@given(st.dictionaries(_NAMES, _JSON, max_size=6))
def test_no_more_than_that_can_stand_in_the_text(args: dict[str, Any]) -> None:
    for text in (orjson.dumps(args), _message(args)):
        most = size_within(text, len(args))
        if most is None:
            continue
        sizes = [size_of(value) for value in args.values()]
        assert sum(size.values for size in sizes) <= most.values <= USUAL_VALUES
        assert sum(size.bytes for size in sizes) <= most.bytes <= USUAL_BYTES


@pytest.mark.parametrize(
    ("args", "is_told"),
    [
        ({}, True),
        ({"owner": "acme", "number": 7, "labels": ["a", "b"], "options": {"draft": False}}, True),
        ({"text": "é" * 100}, True),
        ({"text": "a" * USUAL_BYTES}, False),
        ({"list": [1] * USUAL_VALUES}, False),
        ({"object": dict.fromkeys(map(str, range(USUAL_VALUES)))}, False),
        ({"deep": {"a": {"b": dict.fromkeys(map(str, range(12)))}}}, False),
    ],
)
def test_a_text_that_holds_much_takes_a_closer_look(args: Any, is_told: bool) -> None:
    assert (size_within(_message(args), len(args)) is not None) is is_told


def test_only_arguments_that_stand_in_the_body_are_measured_by_it() -> None:
    body = b'{"a":1}'
    args = {"a": "0123456789" * 5}
    call = ToolCall(
        "id", Tool("up", "tool"), "POST", args, HttpFacts("", "", "", "", {}), "", (), body, "mcp"
    )
    caller = Principal("default", "agent")
    assert Facts(caller, call, 0).quick_size == Size(1, 50)
    assert Facts(caller, call._replace(is_json=True), 0).quick_size == Size(2, 7)
