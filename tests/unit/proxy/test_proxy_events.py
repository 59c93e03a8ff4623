"""Events cut out of a stream: whatever the pieces, the same events, and no byte lost."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.proxy.events import Event, EventCutter, EventTooLong

ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
LINES = st.sampled_from(
    [b"data: a", b"data:b", b"data", b"data:  c ", b":", b": note", b"id: 1", b"event: x", b"",
     b"", b"datax: d", b"retry: 3", b"\xff"]
)  # fmt: skip
STREAMS = st.lists(st.tuples(LINES, ENDS).map(b"".join), max_size=12).map(b"".join)


def cut(pieces: list[bytes]) -> tuple[bytes, list[bytes]]:
    """All bytes again, and the data of each event."""
    cutter = EventCutter(10_000)
    found = [one for piece in pieces for one in cutter.feed(piece)] + cutter.end()
    raw = b"".join(one.raw if isinstance(one, Event) else one for one in found)
    return raw, [one.data for one in found if isinstance(one, Event)]


def expected(stream: bytes) -> list[bytes]:
    """What the specification says, said another way."""
    lines = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events: list[bytes] = []
    data: list[bytes] = []
    for line in [*lines.split(b"\n"), b""]:
        if not line and data:
            events.append(b"\n".join(data))
            data = []
        name, _, value = line.partition(b":")
        if name == b"data":
            data.append(value.removeprefix(b" "))
    return events


@given(STREAMS, st.booleans(), st.lists(st.integers(0, 80), max_size=8))
def test_c12_any_cut_gives_the_same_events_and_every_byte(
    stream: bytes, has_mark: bool, cuts: list[int]
) -> None:
    stream = b"\xef\xbb\xbf" + stream if has_mark else stream
    at = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[begin:end] for begin, end in itertools.pairwise(at)]
    assert cut(pieces) == (stream, expected(stream))


def test_lines_that_are_no_data_pass_at_once_and_events_are_held_to_their_end() -> None:
    cutter = EventCutter(100)
    assert cutter.feed(b": keep-alive\n") == [b": keep-alive\n"]
    assert cutter.feed(b"id: 1\ndata: a\nevent: m\n") == [b"id: 1\n"]
    assert cutter.feed(b":\n") == [], "within an event it waits with it"
    (one,) = cutter.feed(b"\n")
    assert isinstance(one, Event)
    assert one.with_data(b"{}") == b"event: m\n:\ndata: {}\n\n"


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 100, b"data: x\n" * 20, b"x" * 101])
def test_what_has_no_end_is_held_up_to_a_bound(piece: bytes) -> None:
    with pytest.raises(EventTooLong):
        EventCutter(100).feed(piece)
    EventCutter(200).feed(piece)
