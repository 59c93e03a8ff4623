"""The strict YAML reader: what it takes, what it refuses and where it says so."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sidecar.problems import Position
from sidecar.yaml_reader import BYTES_MAX, DEPTH_MAX, read_documents, read_yaml, salvage_yaml


def value_of(text: str) -> Any:
    node, problems = read_yaml("f", text.encode())
    assert problems == []
    assert node is not None
    return node.plain()


def said_of(data: bytes | str) -> list[str]:
    node, problems = read_yaml("f", data.encode() if isinstance(data, str) else data)
    assert node is None
    assert problems
    return [f"{problem.position} {problem.message}" for problem in problems]


@pytest.mark.parametrize(("text", "value"), [
    ("true", True), ("false", False), ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"),
    ("True", "True"), ("TRUE", "TRUE"), ("y", "y"), ("09:00", "09:00"), ("1_000", "1_000"),
    ("12", 12), ("-12", -12), ("+12", 12), ("0", 0), ("-0", 0), ("1.5", 1.5), ("-1e3", -1000.0),
    (".5", 0.5), ("1.", 1.0), ("'0x10'", "0x10"), ("0b1", "0b1"), ("2026-01-05", "2026-01-05"),
    ("1:30", "1:30"), ('"12"', "12"), ("'true'", "true"), ('""', ""), ("''", ""), ("=", "="),
    (".infinity", ".infinity"), ("NaN", "NaN"), ("a b", "a b"), ("30s", "30s"),
])  # fmt: skip
def test_scalars_are_those_of_the_yaml_1_2_core_schema(text: str, value: object) -> None:
    found = value_of(f"a: {text}")["a"]
    assert (found, type(found)) == (value, type(value))


def test_nodes_remember_where_they_stand() -> None:
    node, _ = read_yaml("file.yaml", b"a: 1\nb:\n  - x\n  - {c: 'y'}\n")
    assert node is not None
    b = node.value["b"]
    assert (node.is_mapping, b.is_list) == (True, True)
    assert str(node.position) == "file.yaml:1:1"
    assert str(b.key_position) == "file.yaml:2:1"
    assert str(b.position) == "file.yaml:3:3"
    c = b.value[1].value["c"]
    assert (str(c.position), str(c.key_position)) == ("file.yaml:4:9", "file.yaml:4:6")
    assert (c.is_plain, b.value[0].is_plain) == (False, True)
    assert [value.kind for value in (node, b, c, node.value["a"])] == [
        "a mapping", "a list", "text", "a number",
    ]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), [
    ("", "f:1:1 the file is empty"),
    ("# only a comment\n", "f:1:1 the file is empty"),
    ("a: 1\na: 2\n", 'f:2:1 key "a" is here twice'),
    ("a: 1\n'a': 2\n", 'f:2:1 key "a" is here twice'),
    ("1: x\n'1': y\n", 'f:2:1 key "1" is here twice'),
    ("a:\n", "f:1:3 a value is missing"),
    ("a: ~\n", "f:1:4 a value is missing"),
    ("a: null\n", "f:1:4 a value is missing"),
    ("a: [1, ]\nb: [~]", "f:2:5 a value is missing"),
    ("a: 010\n", "f:1:4 010 is ambiguous: a number with a leading zero"),
    ("a: -07\n", "f:1:4 -07 is ambiguous: a number with a leading zero"),
    ("a: 0x10\n", "f:1:4 0x10 is a number to YAML, but of a kind that is not used here"),
    ("a: 0o17\n", "f:1:4 0o17 is a number to YAML, but of a kind that is not used here"),
    ("a: -.inf\n", "f:1:4 -.inf is a number to YAML, but of a kind that is not used here"),
    ("a: .NaN\n", "f:1:4 .NaN is a number to YAML, but of a kind that is not used here"),
    ("a: &x 1\n", "f:1:4 YAML anchors are not allowed"),
    ("a: &x {b: 1}\n", "f:1:4 YAML anchors are not allowed"),
    ("a: !!str 1\n", "f:1:4 YAML tag !!str is not allowed"),
    ("a: !x 1\n", "f:1:4 YAML tag !x is not allowed"),
    ("a: !!python/object/apply:os.system [x]\n",
     "f:1:4 YAML tag !!python/object/apply:os.system is not allowed"),
    ("<<: {a: 1}\n", "f:1:1 YAML merge keys are not allowed"),
    ("[a]: 1\n", "f:1:1 a key must be text"),
    ("{a: 1}: 1\n", "f:1:1 a key must be text"),
    ("a: 1\n---\nb: 2\n", "f:3:1 a second document in one file"),
])  # fmt: skip
def test_what_is_refused_and_where(text: str, said: str) -> None:
    assert said_of(text) == [said]


def test_an_alias_is_refused_with_a_hint() -> None:
    _, problems = read_yaml("f", b"tools: *\n")
    assert '"*"' in problems[0].hint
    assert said_of("a: *x\n")[0].startswith("f:1:4")


def test_a_quoted_merge_key_is_a_key() -> None:
    assert value_of("'<<': 1") == {"<<": 1}


def test_every_problem_at_once() -> None:
    text = "a: 1\na: 2\nb:\nc: 010\nd: {e: 1, e: 2}\n"
    assert [line.split()[0] for line in said_of(text)] == ["f:2:1", "f:3:3", "f:4:4", "f:5:11"]


def test_what_is_refused_does_not_end_the_reading() -> None:
    text = (
        "a: &x {b: 1, b: 2, c: [010]}\n<<: {d: 1}\n<<: *x\n[k]: {e: 1, e: 2}\n*x : &y 1\n"
        "f: !t g\na: 3\nh: ~\ni: *x\nj: !!str 7\nk: last\n---\n&z l: 1\n"
    )
    node, problems = salvage_yaml("f", text.encode())
    assert node is not None
    assert node.plain() == {
        "a": {"b": 1, "c": ["010"]}, "f": "g", "h": "", "i": "", "j": "7", "k": "last",
    }  # fmt: skip
    assert [(one.position.line, one.position.column) for one in problems] == [
        (1, 4), (1, 14), (1, 24), (2, 1), (3, 1), (3, 5), (4, 1), (4, 13), (5, 1), (5, 6),
        (6, 4), (7, 1), (8, 4), (9, 4), (10, 4), (13, 1), (13, 1),
    ]  # fmt: skip
    # In the order of reading; where a value says nothing by itself, nothing more is to be said.
    assert {place.line for place in node.refused_places()} == {1, 6, 8, 9}
    assert Position("f", 1, 24) in node.refused_places()
    assert read_yaml("f", text.encode())[0] is None


def test_aliases_are_never_followed() -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(24)
    )
    node, problems = salvage_yaml("f", bomb.encode())
    assert node is not None
    assert len(str(node.plain())) < 1000
    assert len(problems) == 25 + 48
    node, problems = salvage_yaml("f", b"&a [*a, *none]\n")
    assert node is not None
    assert node.plain() == ["", ""]
    assert len(problems) == 3


@pytest.mark.parametrize("text", ["", "a: [1\n", "a: 'x\n", "[" * 40, "a: \x1b\n", "b: *"])
def test_of_what_is_no_yaml_nothing_is_salvaged(text: str) -> None:
    node, problems = salvage_yaml("f", f"a: 1\na: 2\n{text}".encode() if text else b"")
    assert node is None
    assert problems[-1].position.line in (1, 3, 4)


def test_broken_yaml_is_one_problem_with_a_place() -> None:
    assert said_of("a: [1\nb: 2\n")[0].startswith("f:2:")
    assert said_of("a: 'x\n")[0].startswith("f:")
    assert said_of("a: b: c\n")[0].startswith("f:1:")


def test_bytes_that_are_no_text() -> None:
    assert said_of(b"a: 1\nb: \xff\n") == ["f:2:4 not UTF-8"]
    assert said_of(b"a: 1\nb: \x00\n") == ["f:2:4 NUL is not allowed"]
    assert said_of(b"a: \x1b[31m\n")[0].startswith("f:1:")
    assert said_of("a: 1".encode("utf-16"))[0].startswith("f:1:")


def test_a_nul_may_not_be_smuggled_in_by_an_escape() -> None:
    assert said_of('a: "x\\0y"\n') == ["f:1:4 NUL is not allowed"]
    assert said_of('"a\\0": 1\n') == ["f:1:1 NUL is not allowed"]


def test_a_number_that_would_become_infinite_is_refused() -> None:
    assert said_of("a: 1e999\n") == ["f:1:4 a number beyond what can be held"]
    assert value_of("a: 1e300") == {"a": 1e300}


@pytest.mark.parametrize(
    "text", ["99999999999999.99", "0.1234567890123456789", "9007199254740993.0", "1e-400"]
)
def test_a_number_that_another_would_stand_for_is_refused(text: str) -> None:
    assert said_of(f"a: {text}\n") == ["f:1:4 a number with more digits than can be held"]
    assert value_of(f"a: '{text}'") == {"a": text}


@pytest.mark.parametrize("text", ["0.1", "0.30000000000000004", "1e22", "-0.0", "999999999999.99"])
def test_a_number_that_stands_for_itself_is_taken(text: str) -> None:
    assert value_of(f"a: {text}") == {"a": float(text)}


def test_size_and_depth_are_bounded() -> None:
    fits = "a: " + "x" * (BYTES_MAX - 4)
    assert len(value_of(fits)["a"]) == BYTES_MAX - 4
    assert said_of(fits + "xx") == [f"f:1:1 larger than {BYTES_MAX} bytes"]
    assert value_of("[" * DEPTH_MAX + "1" + "]" * DEPTH_MAX)
    deep = "[" * (DEPTH_MAX + 1) + "1" + "]" * (DEPTH_MAX + 1)
    assert said_of(deep) == [f"f:1:{DEPTH_MAX + 1} nested deeper than {DEPTH_MAX}"]
    assert "nested deeper" in said_of("[" * 100_000)[0]


def test_a_number_too_long_to_convert_is_a_problem_and_no_exception() -> None:
    _, problems = read_yaml("f", b"a: " + b"9" * 5000)
    assert problems


def test_several_documents_where_they_are_wanted() -> None:
    documents, problems = read_documents("f", b"a: 1\n---\nb: 2\n")
    assert problems == []
    assert [document.plain() for document in documents] == [{"a": 1}, {"b": 2}]


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    node, problems = read_yaml("f", data)
    assert (node is None) == bool(problems)


_TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
_VALUES = st.recursive(
    _TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(_VALUES)
def test_what_was_dumped_in_quotes_is_read_back(value: Any) -> None:
    text = yaml.safe_dump({"a": value}, default_style='"', allow_unicode=False)
    assert value_of(text) == {"a": value}
