"""What a commit costs: a + b·n seconds for n calls in one transaction. Pure.

a is the fixed part (the sync, the hop to the writer), b the part per call. Both are fitted by
weighted least squares over one averaged point per size class (powers of two); errors count
relative to the point, so that small and large batches have the same say.

The hard thing: light traffic shows only small batches, which say much about a and nothing about
b. So a class that was not seen for a while no longer votes on a: what remains of it is its cost
above a as fitted when it was last seen. A disk that becomes slower moves a at once, even if no
large batch shows it, and the slope stays as it was measured. Old classes fade; the seeds of the
calibration do not: they give way to classes of their size and above, and return as those fade.
Must not know: clocks, queues, what a call is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

#: A class not seen for this long, while others were, says nothing about today's fixed part.
FRESH_S = 10.0
#: Its say about the slope halves in this time.
HALF_LIFE_S = 600.0
#: What the calibration says about the slope, beside classes seen in traffic (which weigh 1).
SEED_WEIGHT = 0.25
#: An average forgets over this time, yet keeps at least about this many batches.
MEMORY_S = 2.0
MEMORY_BATCHES = 20
#: One stalled sync must not look like a slower disk: it counts as so many times the usual.
STALL_FACTOR = 4.0

#: votes on a (1 or 0), calls, seconds, weight
_Row = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Point:
    """A measured commit: `calls` in one transaction, and the seconds it took."""

    calls: float
    seconds: float


@dataclass(slots=True)
class _SizeClass:
    """The average of the batches of one size class."""

    calls: float
    seconds: float
    seen_s: float
    batches: int = 1
    #: The fitted fixed part when the class was last seen; None while it is fresh.
    fixed_s: float | None = None

    def observe(self, calls: float, seconds: float, at_s: float) -> None:
        if self.fixed_s is not None:
            self.batches, self.fixed_s = 0, None
        elapsed = max(0.0, at_s - self.seen_s)
        share = min(1 / MEMORY_BATCHES, -math.expm1(-elapsed / MEMORY_S))
        self.batches += 1
        share = max(share, 1 / self.batches)
        usual = self.seconds * STALL_FACTOR if self.batches > 1 else seconds
        self.calls += share * (calls - self.calls)
        self.seconds += share * (min(seconds, usual) - self.seconds)
        self.seen_s = at_s

    def trust(self, now_s: float) -> float:
        """From 0 to 1: how many batches stand behind the average, and how old it is."""
        trust = min(1.0, self.batches / MEMORY_BATCHES)
        if self.fixed_s is not None:
            trust *= 0.5 ** ((now_s - self.seen_s) / HALF_LIFE_S)
        return trust

    def row(self, now_s: float) -> _Row:
        weight = self.trust(now_s) / self.seconds**2
        if self.fixed_s is None:
            return 1.0, self.calls, self.seconds, weight
        return 0.0, self.calls, max(0.0, self.seconds - self.fixed_s), weight


class CommitModel:
    """a and b, seeded by a calibration and corrected by the batches that are seen."""

    def __init__(self, seeds: Iterable[Point] = ()) -> None:
        self._seeds = [seed for seed in seeds if seed.calls > 0 and seed.seconds > 0]
        self._seed_fixed_s = _solve((1.0, s.calls, s.seconds, s.seconds**-2) for s in self._seeds)[
            0
        ]
        self._classes: dict[int, _SizeClass] = {}
        self._batches = 0
        self._now_s = 0.0
        self._retired_s = 0.0

    def observe(self, calls: float, seconds: float, at_s: float) -> None:
        """One committed batch, at a time that never runs backwards."""
        if calls <= 0 or seconds <= 0:
            return
        self._now_s = at_s
        self._batches += 1
        size_class = _size_class(calls)
        known = self._classes.get(size_class)
        if known is None:
            self._classes[size_class] = _SizeClass(calls, seconds, at_s)
        else:
            known.observe(calls, seconds, at_s)
        if at_s - self._retired_s > 1.0:
            self._retire(at_s)

    def fit(self) -> tuple[float, float]:
        """(a, b) in seconds, neither negative; (0, 0) if nothing is known."""
        return _solve(self._rows())

    def _retire(self, at_s: float) -> None:
        self._retired_s = at_s
        fixed_s = self.fit()[0]
        for known in self._classes.values():
            if known.fixed_s is None and at_s - known.seen_s > FRESH_S:
                known.fixed_s = fixed_s

    def _rows(self) -> Iterator[_Row]:
        is_settled = self._batches >= MEMORY_BATCHES
        for seed in self._seeds:
            weight = seed.seconds**-2
            if not is_settled:
                yield 1.0, seed.calls, seed.seconds, weight
                continue
            weight *= SEED_WEIGHT * (1 - self._trust_from(_size_class(seed.calls)))
            yield 0.0, seed.calls, max(0.0, seed.seconds - self._seed_fixed_s), weight
        for known in self._classes.values():
            yield known.row(self._now_s)

    def _trust_from(self, size_class: int) -> float:
        """The best trust in what traffic said of batches this large or larger."""
        return max(
            (k.trust(self._now_s) for size, k in self._classes.items() if size >= size_class),
            default=0.0,
        )


def _size_class(calls: float) -> int:
    """0 up to one call, 1 up to two, 2 up to four, and so on."""
    return max(0, math.ceil(math.log2(calls)))


def _solve(rows: Iterable[_Row]) -> tuple[float, float]:
    """Least squares of weight·(votes·a + calls·b − seconds)², with a and b not negative."""
    vv = vn = nn = vt = nt = 0.0
    for votes, calls, seconds, weight in rows:
        vv += weight * votes
        vn += weight * votes * calls
        nn += weight * calls * calls
        vt += weight * votes * seconds
        nt += weight * calls * seconds
    if nn == 0:
        return 0.0, 0.0
    determinant = vv * nn - vn * vn
    if determinant <= 1e-9 * vv * nn:
        # One size of batch only: the fixed part cannot be told from the rest.
        return 0.0, nt / nn
    a = (vt * nn - nt * vn) / determinant
    b = (vv * nt - vn * vt) / determinant
    if a < 0:
        return 0.0, nt / nn
    if b < 0:
        return vt / vv, 0.0
    return a, b
