"""Frames are followed the same however their bytes arrive, and a bad one never goes on."""

from __future__ import annotations

import random

import pytest

from sidecar.proxy.websocket_frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PROTOCOL_ERROR,
    TEXT,
    TOO_BIG,
    FrameWalk,
    close_frame,
)

LIMIT = 100_000


def frame(
    opcode: int, size: int, *, fin: bool = True, masked: bool = True, first: int = 0, long: int = 0
) -> bytes:
    """A frame of `size` bytes; `long` writes its length in so many bytes whether needed or not."""
    width = long or (0 if size < 126 else 2 if size < 1 << 16 else 8)
    short = {0: size, 2: 126, 8: 127}[width]
    head = bytes([first | opcode | (0x80 if fin else 0), short | (0x80 if masked else 0)])
    length = size.to_bytes(width, "big") if width else b""
    return head + length + (b"mask" if masked else b"") + b"p" * size


def walk(masked: bool = True) -> FrameWalk:
    return FrameWalk(is_masked=masked, message_bytes_max=LIMIT)


GOOD = [
    frame(TEXT, 0),
    frame(BINARY, 125),
    frame(BINARY, 126),
    frame(TEXT, 300, fin=False),
    frame(PING, 5),
    frame(CONTINUATION, 300, fin=False),
    frame(CONTINUATION, 0),
    frame(BINARY, 65_535),
    frame(BINARY, 65_536),
    frame(CLOSE, 2),
]


@pytest.mark.parametrize("masked", [True, False])
def test_good_frames_pass_byte_for_byte_in_whatever_pieces(masked: bool) -> None:
    sent = b"".join(GOOD)
    if not masked:
        sent = b"".join(
            bytes([one[0], one[1] & 0x7F]) + one[2:].replace(b"mask", b"", 1) for one in GOOD
        )
    for seed in range(60):
        chance = random.Random(seed)
        walked, out, at = walk(masked), b"", 0
        while at < len(sent):
            size = chance.choice([1, 1, 2, 3, 7, 14, 200, 5000, 70_000])
            out += walked.take(sent[at : at + size])
            at += size
        assert out == sent, seed
        assert (walked.fault, walked.has_closed, walked.messages) == (None, True, 6)
        assert walked.is_between_frames


BAD = {
    "unmasked": (frame(TEXT, 1, masked=False), PROTOCOL_ERROR),
    "rsv1": (frame(TEXT, 1, first=0x40), PROTOCOL_ERROR),
    "rsv3": (frame(TEXT, 1, first=0x10), PROTOCOL_ERROR),
    "opcode 3": (frame(3, 1), PROTOCOL_ERROR),
    "opcode 11": (frame(11, 1), PROTOCOL_ERROR),
    "a part of nothing": (frame(CONTINUATION, 1), PROTOCOL_ERROR),
    "a ping in parts": (frame(PING, 1, fin=False), PROTOCOL_ERROR),
    "a long ping": (frame(PING, 126), PROTOCOL_ERROR),
    "125 in two bytes": (frame(TEXT, 125, long=2), PROTOCOL_ERROR),
    "65535 in eight bytes": (frame(TEXT, 65_535, long=8), PROTOCOL_ERROR),
    "a negative length": (b"\x82\xff" + b"\xff" * 8 + b"mask", PROTOCOL_ERROR),
    "a message in another": (frame(TEXT, 1, fin=False) + frame(TEXT, 1), PROTOCOL_ERROR),
    "one too large": (frame(BINARY, LIMIT + 1), TOO_BIG),
    "too large in parts": (
        frame(BINARY, LIMIT, fin=False) + frame(CONTINUATION, 1, fin=False),
        TOO_BIG,
    ),
    "a claim of exabytes": (b"\x82\xff\x7f" + b"\xff" * 7 + b"mask", TOO_BIG),
    "after Close": (frame(CLOSE, 2) + frame(TEXT, 1), PROTOCOL_ERROR),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("step", [1, 3, 1 << 20])
def test_a_bad_frame_never_goes_on_and_what_went_ends_between_frames(case: str, step: int) -> None:
    bad, code = BAD[case]
    walked, out, sent = walk(), b"", frame(BINARY, 10) + bad
    for at in range(0, len(sent), step):
        out += walked.take(sent[at : at + step])
    assert walked.fault is not None and walked.fault.code == code
    assert sent.startswith(out) and walked.is_between_frames
    assert len(out) < len(sent)
    assert walked.take(frame(TEXT, 1)) == b""
    fresh = walk()  # what went on is good by itself
    assert fresh.take(out) == out and fresh.fault is None


def test_at_most_a_head_waits() -> None:
    walked = walk()
    head = frame(BINARY, 65_536)[:14]
    assert walked.take(head[:13]) == b""
    assert walked.is_between_frames
    assert walked.take(head[13:]) == head
    assert not walked.is_between_frames


def test_close_frames_are_what_the_other_side_reads_as_such() -> None:
    ours, clients = close_frame(1001), close_frame(1009, b"\x00\xff\x0f\xf0")
    for data, is_masked in ((ours, False), (clients, True)):
        walked = walk(is_masked)
        assert walked.take(data) == data
        assert walked.has_closed and walked.fault is None
    assert ours[2:] == (1001).to_bytes(2, "big")
    unmasked = bytes(byte ^ mask for byte, mask in zip(clients[6:], b"\x00\xff", strict=True))
    assert unmasked == (1009).to_bytes(2, "big")
