"""Where a comment may be put into a stream: wherever it is, the events stay what they are (C17)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.proxy.event_boundary import COMMENT, EventBoundary

ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
LINES = st.sampled_from(
    [b"data: a", b"data", b":", b": note", b"id: 1", b"event: x", b"", b"", b"retry: 3",
     "data: größer 😀".encode(), b"\xff"]
)  # fmt: skip
STREAMS = st.lists(st.tuples(LINES, ENDS).map(b"".join), max_size=12).map(b"".join)
MARK = b"\xef\xbb\xbf"


def told(stream: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """What a client makes of it, as the specification says: type, data and last id of each."""
    text = stream.removeprefix(MARK).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events, data, kind, last = [], [], b"", b""
    for line in text.split(b"\n")[:-1]:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not line:
            if data:
                events.append((kind, b"\n".join(data), last))
            data, kind = [], b""
        elif name == b"data":
            data.append(value)
        elif name == b"event":
            kind = value
        elif name == b"id":
            last = value
        elif name not in (b"", b"retry"):
            events.append((b"no field", line, b""))
    return events


def beaten(pieces: list[bytes], often: int = 1) -> tuple[bytes, list[int]]:
    """The stream with comments wherever there may be one, and where in the stream they are."""
    boundary, sent, at, places = EventBoundary(), b"", 0, []
    for piece in [b"", *pieces]:
        sent += boundary.passes(piece)
        at += len(piece)
        if boundary.is_open:
            places.append(at)
            for _ in range(often):
                sent += boundary.put_in()
    return sent, places


@given(STREAMS, st.booleans(), st.lists(st.integers(0, 80), max_size=8))
def test_c17_comments_change_no_event_however_the_stream_is_cut(
    stream: bytes, has_mark: bool, cuts: list[int]
) -> None:
    whole = MARK + stream if has_mark else stream
    at = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    pieces = [whole[begin:end] for begin, end in itertools.pairwise(at)]
    sent, places = beaten(pieces, 2)
    assert told(sent) == told(whole)
    for place in [one for one in places if not has_mark or one >= len(MARK)]:
        before, behind = whole[:place], whole[place:]
        assert not (before.endswith(b"\r") and behind.startswith(b"\n")), "within a line end"
        assert told(before + b"data: x\n\n")[-1:] == [(b"", b"x", last_id(before))]


def last_id(stream: bytes) -> bytes:
    lines = stream.removeprefix(MARK).replace(b"\r", b"\n").split(b"\n")
    return b"1" if b"id: 1" in lines else b""


@given(STREAMS, st.booleans())
def test_c17_byte_for_byte_without_the_comments(stream: bytes, has_mark: bool) -> None:
    """Streams of single bytes, so that every place there is has its comment."""
    whole = MARK + stream if has_mark else stream
    boundary, sent, added = EventBoundary(), b"", 0
    for at in range(len(whole)):
        sent += boundary.passes(whole[at : at + 1])
        added += boundary.is_open
    assert sent == whole, "nothing is left out where no comment was put in"
    ends = sum(whole.endswith(b"\n\n", 0, at + 1) for at in range(len(whole)))
    assert added >= ends, "behind every empty line there is room"


OPEN = [
    b"data: a\n\n", b"data: a\r\n\r\n", b": hello\n", b"data: a\n\n: one\n: two\r\n",
    b"retry: 3\n\n", b"\n", b"data: a\r\n\n", b"data: a\r\r\n",
]  # fmt: skip
SHUT = [
    b"data: a", b"data: a\n", b"id: 1\n", b": hel", b"data: a\n\n: hel", b"data: a\r\n\r",
    b"data: a\r\r", b"data: a\n:\n", b"data: \xe2\x82", b"retry: 3\n",
]  # fmt: skip


@pytest.mark.parametrize("is_cut", [False, True])
@pytest.mark.parametrize(
    ("stream", "is_open"), [(one, True) for one in OPEN] + [(one, False) for one in SHUT]
)
def test_c17_where_a_comment_may_stand(stream: bytes, is_open: bool, is_cut: bool) -> None:
    boundary = EventBoundary()
    for piece in [bytes([one]) for one in stream] if is_cut else [stream]:
        boundary.passes(piece)
    assert boundary.is_open is is_open


def test_c17_before_the_first_byte_a_comment_may_stand_and_then_no_mark_does() -> None:
    stream = MARK + b"data: a\n\n"
    for size in range(1, len(stream)):
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        sent, _ = beaten(pieces)
        assert sent.replace(COMMENT, b"") == b"data: a\n\n"
        assert told(sent) == [(b"", b"a", b"")]
    almost = b"\xef\xbb\xbe\n\n"
    sent, _ = beaten([almost[:1], almost[1:2], almost[2:]])
    assert sent.replace(COMMENT, b"") == almost, "what is no mark stays"
