"""Strict JSON: a corpus of documents, and equality with a slow reader that shares no code."""

from __future__ import annotations

import json
import math
import unicodedata
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.errors import Refused
from sidecar.policy.exact_numbers import INTEGER_MAX
from sidecar.proxy.strict_json import parse

DEPTH_MAX = 16
CASES = json.loads((Path(__file__).parents[2] / "cases/json/documents.json").read_bytes())


def document(case: dict[str, Any]) -> bytes:
    if "hex" in case:
        return bytes.fromhex(case["hex"])
    text = case.get("text") or "".join(piece * times for piece, times in case.get("pieces", []))
    return text.encode("utf-8", "surrogatepass")


def slow_parse(body: bytes, depth_max: int) -> Any:
    """The same rules over the standard library's scanner; ValueError for a refusal."""

    def refuse_constant(text: str) -> Any:
        raise ValueError(text)

    def integer(text: str) -> int:
        if len(text) > 20 or abs(int(text)) > INTEGER_MAX:
            raise ValueError("integer")
        return int(text)

    def real(text: str) -> float:
        value = float(text)
        if math.isinf(value):
            raise ValueError("overflow")
        digits = sum(c.isdigit() for c in text.lower().partition("e")[0])
        if digits >= 16 and Fraction(text) not in (Fraction(str(value)), Fraction(f"{value:.17g}")):
            raise ValueError("rounded")
        return value

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({unicodedata.normalize("NFC", name) for name, _ in pairs}) != len(pairs):
            raise ValueError("duplicate")
        return dict(pairs)

    text = body.decode("utf-8")
    try:
        value = json.loads(
            text,
            parse_constant=refuse_constant,
            parse_int=integer,
            parse_float=real,
            object_pairs_hook=members,
        )
    except RecursionError:
        raise ValueError("depth") from None
    walk(value, 0, depth_max)
    return value


def walk(value: Any, depth: int, depth_max: int) -> None:
    if isinstance(value, str):
        value.encode("utf-8")
        if "\0" in value:
            raise ValueError("NUL")
    elif isinstance(value, dict | list):
        if depth == depth_max:
            raise ValueError("depth")
        children = [*value, *value.values()] if isinstance(value, dict) else value
        for child in children:
            walk(child, depth + 1, depth_max)


def verdict(reader: Any, body: bytes) -> tuple[bool, str]:
    try:
        return True, repr(reader(body, DEPTH_MAX)).replace("-0", "0")
    except (Refused, ValueError):
        return False, ""


@pytest.mark.parametrize(
    "case", CASES["documents"], ids=lambda c: f"{c['case'].lower()}-{c['name']}"
)
def test_c1_to_c5_documents_are_accepted_or_refused(case: dict[str, Any]) -> None:
    body = document(case)
    if case["accept"]:
        value = parse(body, DEPTH_MAX)
        assert value == json.loads(body)
    else:
        with pytest.raises(Refused) as caught:
            parse(body, DEPTH_MAX)
        assert caught.value.code == "invalid_json"
        assert caught.value.status == 400


@pytest.mark.parametrize(
    "case", CASES["documents"], ids=lambda c: f"{c['case'].lower()}-{c['name']}"
)
def test_c1_to_c5_the_slow_reader_agrees_on_the_corpus(case: dict[str, Any]) -> None:
    body = document(case)
    assert verdict(parse, body) == verdict(slow_parse, body)


def test_c1_to_c5_the_corpus_has_both_kinds_for_every_case() -> None:
    kinds = {(case["case"], case["accept"]) for case in CASES["documents"]}
    assert kinds == {(f"C{n}", accept) for n in range(1, 6) for accept in (True, False)}


TEXT = st.text(
    st.one_of(
        st.sampled_from('a:{}[],"\\/ \n0é\u0301\u2028😀'),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=8,
)
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.integers(-(2**53) - 2, 2**53 + 2),
        st.floats(allow_nan=False),
        TEXT,
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(st.sampled_from(["a", "b", "é", "e\u0301"]), TEXT), inner, max_size=4
        ),
    ),
    max_leaves=12,
)
STYLES = st.sampled_from(
    [
        {"separators": (",", ":"), "ensure_ascii": False},
        {"separators": (",", ":"), "ensure_ascii": True},
        {"ensure_ascii": True},
        {"ensure_ascii": False, "indent": 1},
    ]
)


@given(VALUES, STYLES)
def test_c1_to_c4_generated_values_get_the_same_verdict_as_from_the_slow_reader(
    value: Any, style: dict[str, Any]
) -> None:
    body = json.dumps(value, **style).encode("utf-8")
    assert verdict(parse, body) == verdict(slow_parse, body)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "\\u0061", "é", "\\u00e9", 'q\\"', "s\\\\", ":"]), VALUES
        ),
        min_size=1,
        max_size=5,
    ),
    STYLES,
)
@example([("a", 1), ("\\u0061", 2)], {})
@example([("s\\\\", ":"), ("a", '\\":')], {"separators": (",", ":")})
def test_c1_members_written_one_by_one_get_the_same_verdict(
    pairs: list[tuple[str, Any]], style: dict[str, Any]
) -> None:
    members = (f'"{name}":{json.dumps(value, **style)}' for name, value in pairs)
    body = ("{" + ",".join(members) + "}").encode("utf-8")
    assert verdict(parse, body) == verdict(slow_parse, body)


PIECES = st.sampled_from(
    [
        "{",
        "}",
        "[",
        "]",
        '"',
        '"',
        ":",
        ",",
        "\\",
        "\\u0000",
        "\\ud800",
        "a",
        "é",
        " ",
        "\n",
        "-",
        "0",
    ]
    + ["9007199254740992", ".5", "e9", "e999", "true", "null", '"a":', '{"a":1}', "[]", "NaN", "\0"]
)


@given(st.lists(PIECES, max_size=14).map("".join))
def test_c1_to_c5_random_texts_get_the_same_verdict(text: str) -> None:
    body = text.encode("utf-8")
    assert verdict(parse, body) == verdict(slow_parse, body)


DIGITS = st.text("0123456789", min_size=1, max_size=20)
NUMBERS = st.builds(
    lambda whole, part, power: f"{int(whole)}{part}{power}",
    DIGITS,
    DIGITS.map(lambda digits: f".{digits}") | st.just(""),
    st.integers(-30, 30).map(lambda power: f"e{power:+03d}") | st.just(""),
)
DOUBLES = st.floats(allow_nan=False, allow_infinity=False).flatmap(
    lambda value: st.sampled_from([repr(value), f"{value:.17g}", f"{value:.16g}", f"{value:.20e}"])
)


@given(st.lists(NUMBERS | DOUBLES, min_size=1, max_size=4), st.sampled_from([",", " , ", ",\n"]))
@example(["9007199254740993.0"], ",")
def test_c2_numbers_get_the_same_verdict(numbers: list[str], comma: str) -> None:
    body = f'{{"é":[{comma.join(numbers)}]}}'.encode()
    assert verdict(parse, body) == verdict(slow_parse, body)


@given(st.binary(max_size=12))
def test_c3_random_bytes_get_the_same_verdict(body: bytes) -> None:
    assert verdict(parse, b'["' + body + b'"]') == verdict(slow_parse, b'["' + body + b'"]')


def test_the_parsers_words_are_for_operators_only() -> None:
    with pytest.raises(Refused) as caught:
        parse(b'{"password": hunter2}', DEPTH_MAX)
    assert caught.value.detail
    assert "hunter2" not in caught.value.reason
    assert caught.value.detail not in str(caught.value)


@pytest.mark.parametrize(("number", "fits"), [
    (str(INTEGER_MAX + 1), True), (str(-(2**63)), True), (str(2**63 - 1), True),
    (str(2**64 - 1), True), (str(2**64), False), (str(-(2**63) - 1), False), ("9" * 300, False),
    ("9" * 5000, False), (f"{2**63 - 1}.0", False), (f"{2**63 - 1}e0", False),
])  # fmt: skip
@pytest.mark.parametrize("around", [
    "[%s]", '{"a": [1, %s, "\u00e9"] }', '[ %s,"12345678901234567890"]',
])  # fmt: skip
def test_c2_integers_of_64_bits_keep_their_digits_where_nobody_calculates_with_them(
    number: str, fits: bool, around: str
) -> None:
    body = (around % number).encode()
    if fits:
        assert parse(body, DEPTH_MAX, has_long_integers=True) == json.loads(body)
    else:
        with pytest.raises(Refused):
            parse(body, DEPTH_MAX, has_long_integers=True)
    with pytest.raises(Refused):
        parse(body, DEPTH_MAX)
