"""The only source of time, ids and randomness.

Everything that needs one of them gets a `Clock` injected, so a simulator can replace it.
Ids are UUIDv7 (RFC 9562) as 32 hex digits: ordered by time, so that index pages stay warm.
"""

from __future__ import annotations

import os
import time

#: Counts on while the machine sleeps (macOS has it under the plain name).
_ELAPSED = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def _elapsed_us() -> int:
    return time.clock_gettime_ns(_ELAPSED) // 1_000


#: The first digit of an id's second half: two bits say which kind of UUID it is, two are random.
_VARIANT = {f"{digit:x}": "89ab"[digit & 3] for digit in range(16)}
#: Random digits of an id.
_ID_DIGITS = 19


class Clock:
    """Wall time, monotonic time, ids and random bytes of this process."""

    def __init__(self) -> None:
        self._pool = b""
        self._at = 0
        self._digits = ""
        self._digits_at = 0
        self._id_ms = -1
        self._id_begins = ""
        self._steady_from_us = time.time_ns() // 1_000 - _elapsed_us()

    def now_us(self) -> int:
        """Wall clock, microseconds since the epoch, UTC."""
        return time.time_ns() // 1_000

    def steady_us(self) -> int:
        """Wall clock as it was when this process began, and the time since, sleep of the machine
        included: it never jumps, whatever is done to the wall clock meanwhile."""
        return self._steady_from_us + _elapsed_us()

    #: Monotonic clock in nanoseconds, for durations and deadlines; asked a dozen times a call.
    monotonic_ns = staticmethod(time.perf_counter_ns)

    def random_bytes(self, count: int) -> bytes:
        """`count` bytes from the operating system's generator, drawn in blocks of 4 KiB."""
        at = self._at
        if at + count > len(self._pool):
            self._pool, at = os.urandom(max(4096, count)), 0
        self._at = at + count
        return self._pool[at : at + count]

    def new_id(self) -> str:
        """A UUIDv7 as 32 lower-case hex digits (RFC 9562 section 5.7)."""
        at, digits = self._digits_at, self._digits
        if at + _ID_DIGITS > len(digits):
            digits = self._digits = os.urandom(4096).hex()
            at = 0
        self._digits_at = at + _ID_DIGITS
        now_ms = time.time_ns() // 1_000_000
        if now_ms != self._id_ms:
            self._id_ms = now_ms
            self._id_begins = f"{now_ms & 0xFFFF_FFFF_FFFF:012x}7"
        variant = _VARIANT[digits[at + 3]]
        return f"{self._id_begins}{digits[at : at + 3]}{variant}{digits[at + 4 : at + _ID_DIGITS]}"
