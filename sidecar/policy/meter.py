"""What an evaluation may still take: spent turn by turn, so that it ends when it is too long.

Knows: that the CEL library cannot be interrupted, but that an error of a function it calls ends an
evaluation; so what takes long goes on here before it is done. Amounts are worked out, never
measured by a clock: the same call always gives the same answer.
Must not know: the CEL library, what anything costs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

#: Filling a list: each turn copies what is there, for each member.
FILL_NS: Final = 100


#: What a call on a text costs, for the text and for the most bytes that anything else may have.
TextCost = Callable[[str, float], float]


class OverBudget(Exception):
    """The evaluation would take longer than it may."""

    def __init__(self) -> None:
        super().__init__("takes too long on what this call holds")


class Meter:
    """One evaluation; what it reads has at most `most` bytes of text."""

    __slots__ = ("_left", "_most", "_texts", "_turns")

    def __init__(self, left_ns: float, most: float) -> None:
        self._left = left_ns
        self._most = most
        self._turns: Sequence[float] = ()
        self._texts: Sequence[TextCost] = ()

    @property
    def left_ns(self) -> float:
        """What is left."""
        return self._left

    def begin(self, ns: float, turns: Sequence[float], texts: Sequence[TextCost]) -> None:
        """The next of several expressions: what it costs whatever happens, a turn of each loop
        with nothing in hand, and a text in each call that is made on one."""
        self._turns, self._texts = turns, texts
        self.spend(ns)

    def spend(self, ns: float) -> None:
        """Raises OverBudget when nothing is left."""
        self._left -= ns
        if self._left < 0:
            raise OverBudget

    def tick(self, loop: int, filled: int) -> bool:
        """Before each turn of a loop; what it gives is always true."""
        self._left -= self._turns[loop] + FILL_NS * filled
        if self._left < 0:
            raise OverBudget
        return True

    def text(self, text: str, call: int) -> str:
        """Before each call on a text; gives the text."""
        self.spend(self._texts[call](text, self._most))
        if "\0" in text:
            raise ValueError("a text holds NUL, which conditions cannot read")
        return text


class _Current(threading.local):
    meter: Meter | None = None


_CURRENT: Final = _Current()


def spend(ns: float) -> None:
    """On the meter of the evaluation that is going on in this thread, if it has one."""
    meter = _CURRENT.meter
    if meter is not None:
        meter.spend(ns)


@contextmanager
def running(meter: Meter) -> Iterator[None]:
    """While this meter is that of the thread."""
    before, _CURRENT.meter = _CURRENT.meter, meter
    try:
        yield
    finally:
        _CURRENT.meter = before
