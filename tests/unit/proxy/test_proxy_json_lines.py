"""Lines of JSON: all together have the bounds of one document, and each reads in one way."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import Refused
from sidecar.proxy.json_lines import parse_lines

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


def code_of(body: bytes, depth: int = 64, values: int = 1000) -> str:
    with pytest.raises(Refused) as caught:
        parse_lines(body, depth, values)
    return caught.value.code


@pytest.mark.parametrize("line", [b"1", b"[]", b"[1,2]", b'{"a":[{},[]]}'])
def test_the_bounds_are_those_of_all_lines_together(line: bytes) -> None:
    assert len(parse_lines((line + b"\n") * 20, 64, 1000)) == 20
    assert code_of((line + b"\n") * 2000) == "too_many_values"


def test_a_line_is_nested_no_deeper_than_a_document() -> None:
    assert parse_lines(b"1\n[[[]]]\n", 3, 10) == [1, [[[]]]]
    assert code_of(b"1\n[[[[]]]]\n", 3) == "invalid_json"


@given(st.lists(VALUES, min_size=1, max_size=4), st.booleans())
def test_what_passes_is_read_alike_by_readers_that_split_at_any_end_of_a_line(
    values: list[Any], ends_in_pairs: bool
) -> None:
    end = "\r\n" if ends_in_pairs else "\n"
    text = "".join(json.dumps(one, ensure_ascii=False) + end for one in values)
    try:
        read = parse_lines(text.encode(), 64, 1000)
    except (Refused, UnicodeEncodeError):
        return
    assert read == [json.loads(line) for line in text.splitlines()] == values
