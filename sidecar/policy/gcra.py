"""The rate of calls: a bucket of `max` refilled over a window, as one number (GCRA).

Knows: that the state of a bucket is the moment at which it will be full again, in nanoseconds.
Whole numbers only, the interval rounded up, so that rounding never lets a call through; the state
fits 64 bits and means the same in memory and in a store.
Must not know: clocks (the moment is an argument), where states are kept, whose they are.
"""

from __future__ import annotations

from typing import NamedTuple


class Pace(NamedTuple):
    """A limit as GCRA counts it: the time one call takes to come back, and that of all."""

    interval_ns: int
    burst_ns: int


class Answer(NamedTuple):
    """What comes of asking for a call. `full_at_ns` is the bucket's next state: unchanged if the
    call is not `allowed`. `used` is what the bucket holds before the call, `wait_ns` how long
    until one would be allowed."""

    allowed: bool
    full_at_ns: int
    used: int
    wait_ns: int


def pace(calls_max: int, window_us: int) -> Pace:
    """`calls_max` at once, coming back one by one over the window. Raises ValueError."""
    if calls_max < 1 or window_us < 1:
        raise ValueError("a rate allows at least one call in at least a microsecond")
    interval_ns = -(-window_us * 1000 // calls_max)
    return Pace(interval_ns, interval_ns * calls_max)


def ask(full_at_ns: int | None, now_ns: int, rate: Pace) -> Answer:
    """One call at a moment; None is a bucket nobody has used."""
    start_ns = now_ns if full_at_ns is None or full_at_ns < now_ns else full_at_ns
    used = -(-(start_ns - now_ns) // rate.interval_ns)
    after_ns = start_ns + rate.interval_ns
    wait_ns = after_ns - now_ns - rate.burst_ns
    if wait_ns > 0:
        return Answer(False, start_ns, used, wait_ns)
    return Answer(True, after_ns, used, 0)
