"""The strict reader: what it passes over of what was sent, and what it takes from an upstream."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parent)]

from fuzz_reader import Unclear, read_all, read_one

FIRST = b"POST /up/form HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab"
SECOND = b"GET /up/items HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("between", [b"", b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r"])
def test_b3_what_stands_between_two_requests_is_passed_over(between: bytes) -> None:
    """As the parser in front does; a run of 500,000 found a lone CR."""
    messages, end = read_all(FIRST + between + SECOND)
    assert [message.target for message in messages] == ["/up/form", "/up/items"]
    assert messages[0].body == b"ab"
    assert end == ""


@pytest.mark.parametrize("between", [b" ", b"\t", b"x", b"\0"])
def test_b3_nothing_else_is_passed_over(between: bytes) -> None:
    messages, end = read_all(FIRST + between + SECOND)
    assert [message.target for message in messages] == ["/up/form"]
    assert end == "unclear"


def test_b21_an_upstream_may_not_get_a_lone_cr() -> None:
    """What the sidecar forwards is read to the letter."""
    with pytest.raises(Unclear):
        read_one(b"\r" + SECOND)
