"""Lines that come piece by piece are the same ones, and what waits for its end costs nothing."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.terms import Redaction
from sidecar.proxy.masking import NotMaskable
from sidecar.proxy.masking_stream import (
    HELD_BYTES_MAX,
    EventMasker,
    LineMasker,
    StreamMasker,
    _Held,
)

EMAIL = Redaction((), ("email",))


@given(st.lists(st.text("a\r\n", max_size=6).map(str.encode), max_size=20))
def test_lines_are_those_of_the_whole(pieces: list[bytes]) -> None:
    held, found, came = _Held(), [], 0
    for piece in pieces:
        found += held.lines(piece)
        came += len(piece)
        assert held.size == came - sum(len(line) + len(end) for line, end in found)
    whole = b"".join(pieces).decode()
    assert "".join(line + end for line, end in found) + held.last() == whole
    wanted = re.findall(r"([^\r\n]*)(\r\n|\n|\r(?!\Z))", whole)
    assert found == wanted and held.size == 0


@pytest.mark.parametrize(
    "made",
    [lambda: LineMasker(EMAIL, is_json=False), lambda: LineMasker(EMAIL, is_json=True),
     lambda: EventMasker(EMAIL, is_mcp=False)],
)  # fmt: skip
def test_c15_a_line_that_drips_is_not_looked_at_from_its_begin_each_time(made: object) -> None:
    """2,000 pieces of it took 5 s behind 900 kB."""
    assert callable(made)
    masker: StreamMasker = made()
    assert masker.feed(b"data: " + b"a" * 900_000) == b""
    begun = time.thread_time()
    for _ in range(2_000):
        assert masker.feed(b"a") == b""
    assert time.thread_time() - begun < 0.5
    assert masker.held_bytes == 900_006 + 2_000
    with pytest.raises(NotMaskable, match="too long"):
        masker.feed(b"a" * (HELD_BYTES_MAX - masker.held_bytes + 1))
