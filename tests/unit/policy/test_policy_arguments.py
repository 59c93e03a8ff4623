"""Declared arguments: what fits, what is read from text, what is refused and how."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.errors import Refused
from sidecar.policy.arguments import ArgumentTypes, declared


def types(**kinds: str) -> ArgumentTypes:
    return ArgumentTypes({name: declared(kind) for name, kind in kinds.items()})


TEXTUAL: list[tuple[str, Any, Any]] = [
    ("string", "7", "7"),
    ("any", "7", "7"),
    ("int", "7", 7),
    ("int", "-0", 0),
    ("int", "9007199254740991", 2**53 - 1),
    ("number", "1.5e3", 1500.0),
    ("number", "7", 7),
    ("number", "0.30000000000000004", 0.1 + 0.2),
    ("number", "0.10000000000000001", 0.1),
    ("number", "100.00000000000000000", 100.0),
    ("bool", "true", True),
    ("bool", "false", False),
    ("[string]", "a", ["a"]),
    ("[int]", ["1", "2"], [1, 2]),
    ("[any]", ["1"], ["1"]),
]
TEXTUAL_REFUSED = [
    ("int", "07"), ("int", "+7"), ("int", " 7"), ("int", "7\n"), ("int", "٣"), ("int", "1_0"),
    ("int", "1.0"), ("int", "9007199254740992"), ("int", ""), ("number", "NaN"),
    ("number", "Infinity"), ("number", "1e999"), ("number", ".5"), ("number", "0x1"),
    ("bool", "True"), ("bool", "1"), ("bool", "yes"), ("object", "{}"), ("[int]", ["1", "x"]),
]  # fmt: skip
JSON: list[tuple[str, Any, bool]] = [
    ("string", "a", True), ("string", 1, False), ("int", 1, True), ("int", True, False),
    ("int", 1.0, False), ("int", "1", False), ("number", 1, True), ("number", 1.5, True),
    ("number", True, False), ("bool", True, True), ("bool", 1, False), ("object", {}, True),
    ("object", [], False), ("any", None, True), ("any", [1], True), ("[string]", ["a"], True),
    ("[string]", ["a", 1], False), ("[string]", "a", False), ("[any]", [1, None], True),
    ("string", None, False), ("string?", None, True), ("[int]?", None, True),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "given", "bound"), TEXTUAL)
def test_text_is_read_as_its_type(kind: str, given: Any, bound: Any) -> None:
    found = types(x=kind).bind({"x": given}, {"x"})["x"]
    assert found == bound and type(found) is type(bound)


@pytest.mark.parametrize(("kind", "given"), TEXTUAL_REFUSED)
def test_d7_text_that_does_not_fit_is_refused(kind: str, given: Any) -> None:
    with pytest.raises(Refused) as refused:
        types(x=kind).bind({"x": given}, {"x"})
    assert refused.value.code == "invalid_argument"


@pytest.mark.parametrize(
    "given",
    ["9007199254740993", "9007199254740993.0", "100.00000000000000001", "12345678901234567.5"],
)
@pytest.mark.parametrize("kind", ["number", "[number]"])
def test_c2_a_number_is_never_rounded_between_rule_and_upstream(kind: str, given: str) -> None:
    with pytest.raises(Refused) as refused:
        types(x=kind).bind({"x": given}, {"x"})
    assert refused.value.code == "invalid_argument"


@pytest.mark.parametrize(("kind", "given", "fits"), JSON)
def test_json_values_must_be_of_their_type(kind: str, given: Any, fits: bool) -> None:
    if fits:
        assert types(x=kind).bind({"x": given}, ()) == {"x": given}
    else:
        with pytest.raises(Refused, match="invalid_argument"):
            types(x=kind).bind({"x": given}, ())


def test_a_declaration_is_complete() -> None:
    declared_types = types(x="string", y="int?")
    assert declared_types.bind({"x": "a"}, ()) == {"x": "a"}
    for values in ({"x": "a", "z": 1}, {"y": 1}, {}, {"X": "a"}):
        with pytest.raises(Refused, match="invalid_argument"):
            declared_types.bind(values, ())


def test_a_repeated_text_is_ambiguous_unless_a_list_is_declared() -> None:
    with pytest.raises(Refused) as refused:
        types(x="string").bind({"x": ["a", "b"]}, {"x"})
    assert refused.value.code == "ambiguous_argument"
    assert types(x="[string]").bind({"x": ["a", "b"]}, {"x"}) == {"x": ["a", "b"]}
    assert types(x="[string]").is_list("x") and not types(x="string").is_list("x")
    assert not types(x="string").is_list("y")


def test_a_refusal_shows_no_control_characters_and_no_long_names() -> None:
    with pytest.raises(Refused) as refused:
        types().bind({"a\n\u202e" + "x" * 500: 1}, ())
    assert refused.value.reason.isprintable() and len(refused.value.reason) < 200


@pytest.mark.parametrize(
    "text", ["", "str", "[string", "string]", "?", "string??", "[string?]", "int ", 5]
)
def test_what_is_no_type_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="argument type"):
        declared(text)
