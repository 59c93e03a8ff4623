"""The canonical action against its vectors, and against what clients in Python compute."""

from __future__ import annotations

import json
import math
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.ledger.action import action_bytes, action_hash
from sidecar.ledger.canonical import NotCanonical

CASES = json.loads((Path(__file__).parents[2] / "cases" / "authorize" / "actions.json").read_text())
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.floats(-1e-3, 1e-3)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def clients_form(call: dict[str, Any]) -> bytes:
    """What a client computes on its side."""
    said = json.dumps(
        call, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return said.encode()


@pytest.mark.parametrize("case", CASES["vectors"], ids=lambda case: case["name"])
def test_vectors(case: dict[str, Any]) -> None:
    assert action_bytes(**case["tool_call"]) == case["canonical"].encode()
    assert action_hash(**case["tool_call"]) == case["sha256"]
    assert clients_form(case["tool_call"]).decode() == case["canonical"]


@given(TEXT, TEXT, st.none() | TEXT, st.booleans(), VALUES)
def test_it_is_what_a_client_computes(
    tool: str, action: str, resource: str | None, mutates: bool, parameters: Any
) -> None:
    call = {
        "tool": tool, "action": action, "resource": resource, "mutates_state": mutates,
        "parameters": parameters,
    }  # fmt: skip
    assert action_bytes(tool, action, resource, mutates, parameters) == clients_form(call)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_is_written_as_python_writes_it(number: float) -> None:
    assert b'"parameters":%b,' % repr(number).encode() in action_bytes("t", "a", None, True, number)


@pytest.mark.parametrize(
    "parameters",
    [math.nan, [math.inf], {"a": -math.inf}, {1: 2}, "\ud800", {"\udc00": 1}, 2**53, -(2**64)],
    ids=ascii,
)
def test_what_has_no_form_is_refused(parameters: Any) -> None:
    with pytest.raises(NotCanonical):
        action_hash("t", "a", None, True, parameters)
    assert action_hash("t", "a", None, True, None), "positive control"


@pytest.mark.parametrize(
    "changed",
    [
        {"tool": "github2"}, {"action": "merge"}, {"resource": "x"}, {"mutates_state": False},
        {"parameters": {"pull_number": 666}}, {"parameters": {"pull_number": 482.0}},
        {"parameters": {"pull_number": "482"}},
    ],
    ids=ascii,
)  # fmt: skip
def test_any_swap_changes_the_hash(changed: dict[str, Any]) -> None:
    call = {
        "tool": "github", "action": "merge_pull_request", "resource": None, "mutates_state": True,
        "parameters": {"pull_number": 482},
    }  # fmt: skip
    same = sha256(clients_form(call)).hexdigest()
    assert action_hash(**call) == same, "positive control: unswapped it is the client's"
    assert action_hash(**{**call, **changed}) != same
