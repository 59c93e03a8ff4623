"""How near the store is to its single-writer ceiling: plain numbers, no Prometheus here.

A commit of n calls takes about a + b·n: a fixed part (the sync) and a part per call. The ceiling
is 1 / (a/N + b) at the largest batch N; utilisation is committed calls per second over that.
How busy the writer is tells nothing: a group-commit writer is busy nearly always from a few per
cent of its ceiling, because small batches cost almost as much as large ones.
The unit is the call. Each call commits two entries, its intent and its outcome; so an entry
counts as half a call, a recorded refusal too.
Must not know: what is committed, or how the numbers are shown. It is called on one thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

ENTRIES_PER_CALL = 2
#: Weight of a new batch in its size class's average.
_SMOOTHING = 0.05
_WINDOW_S = 5.0
_STEP_S = 0.25


@dataclass(frozen=True, slots=True)
class Point:
    """A measured commit: `calls` in one transaction, and the seconds it took."""

    calls: float
    seconds: float


class CommitModel:
    """a and b, fitted over one averaged point per size class (powers of two).

    Classes keep their last average while no batch of that size is seen, so that light traffic,
    which only shows small batches, corrects a and leaves the slope as it was measured.
    """

    def __init__(self, seeds: Iterable[Point] = ()) -> None:
        self._classes: dict[int, list[float]] = {}
        for seed in seeds:
            self._classes[_size_class(seed.calls)] = [seed.calls, seed.seconds]

    def observe(self, calls: float, seconds: float) -> None:
        """One committed batch."""
        average = self._classes.get(_size_class(calls))
        if average is None:
            self._classes[_size_class(calls)] = [calls, seconds]
            return
        average[0] += _SMOOTHING * (calls - average[0])
        # One stalled sync must not look like a slower disk: it counts as four times the usual.
        average[1] += _SMOOTHING * (min(seconds, 4 * average[1]) - average[1])

    def fit(self) -> tuple[float, float]:
        """(a, b) in seconds by least squares of relative errors; (0, 0) without any point."""
        points = [(n, t) for n, t in self._classes.values() if t > 0]
        if not points:
            return 0.0, 0.0
        if len(points) == 1:
            n, t = points[0]
            return 0.0, t / n
        sw = sn = snn = st = snt = 0.0
        for n, t in points:
            w = 1 / (t * t)
            sw, sn, snn = sw + w, sn + w * n, snn + w * n * n
            st, snt = st + w * t, snt + w * n * t
        spread = sw * snn - sn * sn
        b = max(0.0, (sw * snt - sn * st) / spread) if spread > 0 else 0.0
        a = (st - b * sn) / sw
        if a < 0:
            return 0.0, snt / snn
        return a, b


def _size_class(calls: float) -> int:
    return max(0, int(calls * ENTRIES_PER_CALL)).bit_length()


class Rate:
    """Events per second over the last five seconds, in steps of a quarter second."""

    def __init__(self, monotonic_ns: Callable[[], int]) -> None:
        self._now_ns = monotonic_ns
        self._steps: deque[list[float]] = deque()
        self._started_ns = monotonic_ns()
        self._total = 0.0

    def add(self, amount: float) -> None:
        """Something happened now."""
        at_s = self._now_ns() / 1e9
        if not self._steps or at_s - self._steps[-1][0] >= _STEP_S:
            self._steps.append([at_s, 0.0])
        self._steps[-1][1] += amount
        self._total += amount
        self._forget(at_s)

    def per_s(self) -> float:
        """The rate; over the time since the start while that is shorter."""
        at_s = self._now_ns() / 1e9
        self._forget(at_s)
        span_s = min(_WINDOW_S, max(_STEP_S, at_s - self._started_ns / 1e9))
        return self._total / span_s

    def _forget(self, at_s: float) -> None:
        while self._steps and at_s - self._steps[0][0] > _WINDOW_S:
            self._total -= self._steps.popleft()[1]
        if not self._steps:
            self._total = 0.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The pressure at one moment."""

    fixed_s: float
    per_call_s: float
    largest_batch_calls: float
    ceiling_calls_per_s: float
    committed_calls_per_s: float
    utilisation: float
    writer_busy: float
    loop_busy: float
    nearest_limit: str
    sentence: str


class Pressure:
    """Fed by the write queue (`observe`), and by a ticker on the loop's thread (`tick`).

    `handover_s` is what a call costs on the event loop's side of the queue, as calibrated: the
    part of the ceiling that the writer's own time does not show. `loop_cpu_ns` gives the CPU
    time of the calling thread.
    """

    def __init__(
        self,
        *,
        batch_entries_max: int,
        monotonic_ns: Callable[[], int],
        loop_cpu_ns: Callable[[], int],
        seeds: Iterable[Point] = (),
        handover_s: float = 0.0,
    ) -> None:
        self._model = CommitModel(seeds)
        self._handover_s = handover_s
        self._largest = batch_entries_max / ENTRIES_PER_CALL
        self._calls = Rate(monotonic_ns)
        self._busy = Rate(monotonic_ns)
        self._now_ns = monotonic_ns
        self._loop_cpu_ns = loop_cpu_ns
        self._loop_samples: deque[tuple[int, int]] = deque([(monotonic_ns(), loop_cpu_ns())])

    def observe(self, entries: int, seconds: float) -> None:
        """One committed batch of `entries`."""
        calls = entries / ENTRIES_PER_CALL
        self._model.observe(calls, seconds)
        self._calls.add(calls)
        self._busy.add(seconds)

    def tick(self) -> None:
        """Samples the loop thread's CPU time; call it on that thread, about once a second."""
        now_ns = self._now_ns()
        self._loop_samples.append((now_ns, self._loop_cpu_ns()))
        while len(self._loop_samples) > 2 and now_ns - self._loop_samples[0][0] > _WINDOW_S * 1e9:
            self._loop_samples.popleft()

    def loop_busy(self) -> float:
        """The share of the last seconds in which the event loop's thread was computing."""
        (first_ns, first_cpu), (last_ns, last_cpu) = self._loop_samples[0], self._loop_samples[-1]
        if last_ns <= first_ns:
            return 0.0
        return min(1.0, (last_cpu - first_cpu) / (last_ns - first_ns))

    def snapshot(self) -> Snapshot:
        """Everything, and the sentence an operator reads."""
        fixed_s, commit_s = self._model.fit()
        per_call_s = commit_s + self._handover_s
        at_ceiling_s = fixed_s / self._largest + per_call_s
        ceiling = 1 / at_ceiling_s if at_ceiling_s > 0 else 0.0
        rate = self._calls.per_s()
        utilisation = rate / ceiling if ceiling > 0 else 0.0
        loop_busy = self.loop_busy()
        nearest = "store" if utilisation >= loop_busy else "process"
        return Snapshot(
            fixed_s=fixed_s,
            per_call_s=per_call_s,
            largest_batch_calls=self._largest,
            ceiling_calls_per_s=ceiling,
            committed_calls_per_s=rate,
            utilisation=utilisation,
            writer_busy=min(1.0, self._busy.per_s()),
            loop_busy=loop_busy,
            nearest_limit=nearest,
            sentence=_sentence(ceiling, rate, utilisation, loop_busy),
        )


def _sentence(ceiling: float, rate: float, utilisation: float, loop_busy: float) -> str:
    if ceiling <= 0:
        return "Nothing was committed yet, so the store's ceiling is not known."
    said = (
        f"The store commits {rate:,.0f} calls/s, {utilisation:.0%} of its measured ceiling of "
        f"{ceiling:,.0f} calls/s on this disk. "
    )
    if utilisation >= loop_busy:
        said += f"It is the nearer limit (the process is {loop_busy:.0%} busy). "
        if utilisation >= 0.8:
            said += "Move to PostgreSQL, or send less, before it is reached."
        else:
            said += f"There is room for about {ceiling - rate:,.0f} calls/s more."
    else:
        said += f"The nearer limit is this process: its event loop is {loop_busy:.0%} busy. "
        if loop_busy >= 0.8:
            said += "Give it a faster core, or divide the agents over more sidecars."
        else:
            said += f"There is room for about {rate / loop_busy - rate:,.0f} calls/s more."
    return said
