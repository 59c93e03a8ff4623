"""Headers of a reply: what is cut out of its bytes is what the parser before it saw (B21)."""

from __future__ import annotations

import contextlib

import pytest
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.errors import Refused
from sidecar.proxy.reply_head import read_headers

START = b"HTTP/1.1 200 OK"
#: What heads are made of, good and bad.
PARTS = st.sampled_from(
    [b"\r\n", b"\r\n", b"\r\n", b": ", b":", b" ", b"\t", b"\n", b"\r", b"\0", b"\x0b", b"\x85"]
    + [b"a", b"X-A", b"Content-Length", b"content-length", b"Transfer-Encoding", b"chunked", b"2"]
    + [b"\xc3\xa4", b"\xff", b"\xe2\x80\xa8", b"Connection", b"close", b"HTTP/1.1 200 OK", b"="]
)


class Seen:
    """What the parser says of a head, header by header."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.is_whole = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.is_whole = True


def seen(head: bytes) -> list[tuple[str, str]] | None:
    """The headers by the parser alone; None if it refuses the head."""
    by_parser = Seen()
    with contextlib.suppress(HttpParserError, HttpParserUpgrade):
        HttpResponseParser(by_parser).feed_data(head + b"\r\n\r\n")
    if not by_parser.is_whole:
        return None
    return [
        (name.decode(), value.decode("utf-8", "surrogateescape").strip(" \t"))
        for name, value in by_parser.headers
    ]


def cut(head: bytes) -> list[tuple[str, str]] | None:
    """The same as the sidecar cuts it; None if it refuses."""
    try:
        return list(read_headers(200, head))
    except Refused:
        return None


@given(st.lists(PARTS, max_size=30))
@example([b"\r\n", b"X-A", b":", b"a", b": ", b"a", b"\r\n", b"X-A", b":", b"2", b" "])
def test_b21_what_is_cut_is_what_the_parser_saw(parts: list[bytes]) -> None:
    head = START + b"".join(parts)
    end = head.find(b"\r\n\r\n")
    head = head if end < 0 else head[:end]
    by_parser = seen(head)
    if by_parser is not None:
        by_us = cut(head)
        assert by_us is None or by_us == by_parser


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["X-A", "x_b", "Content-Type", "!#$%&'*+.^_`|~09"]),
            st.sampled_from(["", " ", "\t ", "  "]),
            st.sampled_from(["", "a", "a: b", "a\tb", "ä\u2028", "\x85", "\xa0a", "a:b"]),
            st.sampled_from(["", " ", " \t"]),
        ),
        max_size=20,
    )
)
def test_good_heads_are_cut_into_what_they_say(fields: list[tuple[str, str, str, str]]) -> None:
    lines = [f"{name}:{before}{value}{after}" for name, before, value, after in fields]
    head = "\r\n".join([START.decode(), *lines]).encode()
    assert cut(head) == seen(head) == [(name, value.strip(" \t")) for name, _, value, _ in fields]


@pytest.mark.parametrize("status", [0, 99, 600, 999])
def test_b21_a_status_out_of_range_is_refused(status: int) -> None:
    with pytest.raises(Refused):
        read_headers(status, START)
    assert read_headers(599, START) == ()
