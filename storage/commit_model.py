"""What a commit costs: a + b·n seconds for n calls in one transaction. Pure.

a is the fixed part (the sync, the hop to the writer), b the part per call. Both are fitted by
weighted least squares over one averaged point per size class (powers of two); errors count
relative to the point, and a class has the say of its share in the traffic.

Two hard things. Light traffic shows only small batches, which say much about a and nothing about
b. So a class that was not seen for a while no longer votes on a: what remains of it is its cost
above a as fitted when it was last seen. A disk that becomes slower moves a at once, even if no
large batch shows it, and the slope stays as it was measured. Old classes fade; the seeds of the
calibration do not: they give way to traffic of their size and above, and return as it fades.
And while there is room, large batches are the children of stalls: those that are seen were slow.
So a class begins at what the model expects of it, and it takes many batches to say otherwise.
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
#: What a seed or an old class says about the slope, beside the traffic of now (1 in all).
REMEMBERED_WEIGHT = 0.1
#: A new class counts as so many batches of the expected cost.
EXPECTED_BATCHES = 10
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
    batches: int = 0
    #: Calls committed in batches of this class; what is past fades.
    volume: float = 0.0
    #: The fitted fixed part when the class was last seen; None while it is fresh.
    fixed_s: float | None = None

    def observe(self, calls: float, seconds: float, at_s: float) -> None:
        elapsed_s = max(0.0, at_s - self.seen_s)
        self.volume = self.volume * math.exp(-elapsed_s / FRESH_S) + calls
        self.batches += 1
        share = min(1 / MEMORY_BATCHES, -math.expm1(-elapsed_s / MEMORY_S))
        share = max(share, 1 / (self.batches + EXPECTED_BATCHES))
        self.calls += share * (calls - self.calls)
        self.seconds += share * (min(seconds, self.seconds * STALL_FACTOR) - self.seconds)
        self.seen_s = at_s

    def volume_at(self, now_s: float) -> float:
        return self.volume * math.exp((self.seen_s - now_s) / FRESH_S)

    def trust(self, now_s: float) -> float:
        """From 0 to 1: how many batches stand behind the average, and how old it is."""
        trust = min(1.0, self.batches / MEMORY_BATCHES)
        if self.fixed_s is not None:
            trust *= 0.5 ** ((now_s - self.seen_s) / HALF_LIFE_S)
        return trust


class CommitModel:
    """a and b, seeded by a calibration and corrected by the batches that are seen."""

    def __init__(self, seeds: Iterable[Point] = ()) -> None:
        self._seeds = [seed for seed in seeds if seed.calls > 0 and seed.seconds > 0]
        rows = ((1.0, s.calls, s.seconds, s.seconds**-2) for s in self._seeds)
        self._seed_fixed_s = _solve(rows)[0]
        self._classes: dict[int, _SizeClass] = {}
        self._batches = 0
        #: The time of the last batch; nothing ages without traffic.
        self._now_s = 0.0
        self._retired_s = 0.0

    def observe(self, calls: float, seconds: float, at_s: float) -> None:
        """One committed batch, at a time that never runs backwards."""
        if calls <= 0 or seconds <= 0:
            return
        if at_s - self._retired_s > 1.0:
            self._retire(at_s)
        size_class = _size_class(calls)
        known = self._classes.get(size_class)
        if known is None or known.fixed_s is not None:
            known = self._classes[size_class] = self._expected(calls, seconds, at_s)
        known.observe(calls, seconds, at_s)
        self._now_s = at_s
        self._batches += 1

    def fit(self) -> tuple[float, float]:
        """(a, b) in seconds, neither negative; (0, 0) if nothing is known."""
        return _solve(self._rows())

    def _expected(self, calls: float, seconds: float, at_s: float) -> _SizeClass:
        """A class as the model would have it; as it is first seen if the model knows nothing."""
        a, b = self.fit()
        return _SizeClass(calls, a + b * calls or seconds, at_s)

    def _retire(self, at_s: float) -> None:
        """Classes not seen for long are old now; the last one seen never is."""
        self._retired_s = at_s
        fixed_s = self.fit()[0]
        for known in self._classes.values():
            is_old = known.seen_s < min(at_s - FRESH_S, self._now_s)
            if known.fixed_s is None and is_old:
                known.fixed_s = fixed_s

    def _rows(self) -> Iterator[_Row]:
        shares = self._shares()
        is_settled = self._batches >= MEMORY_BATCHES
        for seed in self._seeds:
            weight = seed.seconds**-2
            if not is_settled:
                yield 1.0, seed.calls, seed.seconds, weight
                continue
            size_class = _size_class(seed.calls)
            heard = sum(share for size, share in shares.items() if size >= size_class)
            weight *= REMEMBERED_WEIGHT * max(0.0, 1 - heard)
            yield 0.0, seed.calls, max(0.0, seed.seconds - self._seed_fixed_s), weight
        for size_class, known in self._classes.items():
            weight = shares[size_class] / known.seconds**2
            if known.fixed_s is None:
                yield 1.0, known.calls, known.seconds, weight
            else:
                weight *= REMEMBERED_WEIGHT
                yield 0.0, known.calls, max(0.0, known.seconds - known.fixed_s), weight

    def _shares(self) -> dict[int, float]:
        """What each class has to say: fresh ones their share in the traffic, old ones less."""
        now_s = self._now_s
        volumes = {
            size: known.volume_at(now_s)
            for size, known in self._classes.items()
            if known.fixed_s is None
        }
        total = sum(volumes.values())
        return {
            size: known.trust(now_s) * (volumes[size] / total if size in volumes else 1.0)
            for size, known in self._classes.items()
        }


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
