"""The frames of one direction of a WebSocket, followed by their heads alone.

Knows: RFC 6455 section 5: where a frame begins and ends, which may follow which, and who masks.
What is good goes on as it came; of a head that is not whole, its few bytes wait for the rest, so
that what has gone on always ends within a payload or between two frames. A frame takes its time
however short it is, and RFC 6455 knows no shortest one: who sends nothing but empty frames would
have the event loop for himself, so that only so many are taken at a time.
Must not know: sockets, what a payload says.
"""

from __future__ import annotations

from typing import Final, NamedTuple

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_OPCODES: Final = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})
_FIN, _RESERVED, _OPCODE = 0x80, 0x70, 0x0F
_MASKED, _LENGTH = 0x80, 0x7F
_CONTROL_BYTES_MAX = 125
#: Heads whose frames are messages by themselves, and short enough to say so in one byte.
_WHOLE: Final = frozenset({_FIN | TEXT, _FIN | BINARY})

#: At most half a millisecond of the event loop's.
FRAMES_AT_ONCE: Final = 512

#: Codes a Close frame may carry (RFC 6455 section 7.4.1).
GOING_AWAY, PROTOCOL_ERROR, POLICY_VIOLATION, TOO_BIG = 1001, 1002, 1008, 1009


class Fault(NamedTuple):
    """What is wrong with a direction: the code to close it with, and whether it is too much
    rather than malformed."""

    code: int
    text: str


class FrameWalk:
    """Follows one direction. `is_masked`: it is the client's."""

    __slots__ = (
        "_head",
        "_is_masked",
        "_left",
        "_max",
        "_message_bytes",
        "fault",
        "has_closed",
        "has_more",
        "messages",
    )

    def __init__(self, *, is_masked: bool, message_bytes_max: int) -> None:
        self._is_masked = is_masked
        self._max = message_bytes_max
        self._head = b""
        #: What is still to come of the payload of the frame that has begun.
        self._left = 0
        #: Of the message that has begun; None between two.
        self._message_bytes: int | None = None
        #: Set once, after which nothing goes on.
        self.fault: Fault | None = None
        #: Whether its last frame, a Close, has gone on.
        self.has_closed = False
        #: Whether frames wait that came beside FRAMES_AT_ONCE others: to be taken before any other.
        self.has_more = False
        self.messages = 0

    @property
    def is_between_frames(self) -> bool:
        """Whether a frame of another's may follow what has gone on so far."""
        return not self._left

    def take(self, data: bytes) -> bytes:
        """What of what waited, and of `data` behind it, may go on: so many frames at most."""
        if self.fault is not None:
            return b""
        size = len(data)
        if self._left >= size and not self._head:
            self._left -= size
            return data
        if self._head:
            data = self._head + data
            self._head = b""
            size = len(data)
        at = min(self._left, size)
        self._left -= at
        heads_left, head_bytes = FRAMES_AT_ONCE, 6 if self._is_masked else 2
        masked = _MASKED if self._is_masked else 0
        self.has_more = False
        while at < size:
            if not heads_left:
                self.has_more = True
                break
            heads_left -= 1
            # What most frames are is told from two bytes; what is wrong with others, by all.
            if data[at] in _WHOLE and at + head_bytes <= size:
                short = data[at + 1] ^ masked
                end = at + head_bytes + short
                if (
                    short <= _CONTROL_BYTES_MAX
                    and end <= size
                    and short <= self._max
                    and self._message_bytes is None
                    and not self.has_closed
                ):
                    self.messages += 1
                    at = end
                    continue
            length = _head_bytes(data, at)
            if not length or at + length > size:
                break
            self.fault = self._judged(data, at, length)
            if self.fault is not None:
                return data[:at]
            end = at + length + self._left
            at = min(end, size)
            self._left = end - at
        if at == size:
            return data
        self._head = data[at:]  # a head of at most 13 bytes, or what comes in the next turn
        return data[:at]

    def _judged(self, data: bytes, at: int, length: int) -> Fault | None:
        """What is wrong with a frame, of which the head is here; else what it changes."""
        first, second = data[at], data[at + 1]
        opcode = first & _OPCODE
        size = _payload_bytes(data, at)
        if self.has_closed:
            return Fault(PROTOCOL_ERROR, "a frame after Close")
        if first & _RESERVED or opcode not in _OPCODES:
            return Fault(PROTOCOL_ERROR, "a frame of an extension nobody agreed to")
        if bool(second & _MASKED) is not self._is_masked:
            return Fault(PROTOCOL_ERROR, "a frame masked by the wrong side")
        if size is None:
            return Fault(PROTOCOL_ERROR, "a length that is not written in its shortest form")
        if opcode >= CLOSE:
            if not first & _FIN or size > _CONTROL_BYTES_MAX:
                return Fault(PROTOCOL_ERROR, "a control frame in parts, or too long")
            self.has_closed = opcode == CLOSE
        elif (opcode == CONTINUATION) is (self._message_bytes is None):
            return Fault(PROTOCOL_ERROR, "a part that continues nothing, or a message in another")
        else:
            message = (self._message_bytes or 0) + size
            if message > self._max:
                return Fault(TOO_BIG, f"a message larger than {self._max} bytes")
            self._message_bytes = None if first & _FIN else message
            self.messages += bool(first & _FIN)
        self._left = size
        return None


def close_frame(code: int, mask: bytes = b"") -> bytes:
    """A Close frame; with a `mask` of four bytes, a client's."""
    payload = code.to_bytes(2, "big")
    if not mask:
        return bytes((_FIN | CLOSE, len(payload))) + payload
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes((_FIN | CLOSE, _MASKED | len(payload))) + mask + masked


def _head_bytes(data: bytes, at: int) -> int:
    """The length of the head that begins there; 0 while that cannot be said."""
    if at + 2 > len(data):
        return 0
    second = data[at + 1]
    short = second & _LENGTH
    return 2 + (2 if short == 126 else 8 if short == 127 else 0) + (4 if second & _MASKED else 0)


def _payload_bytes(data: bytes, at: int) -> int | None:
    """The length of a payload; None unless it is written in its shortest form."""
    short = data[at + 1] & _LENGTH
    if short < 126:
        return short
    if short == 126:
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        return size if size > 125 else None
    size = int.from_bytes(data[at + 2 : at + 10], "big")
    return size if 0xFFFF < size < 1 << 63 else None
