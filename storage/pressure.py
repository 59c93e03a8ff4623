"""How near the store is to its single-writer ceiling: plain numbers, no Prometheus here.

The ceiling is 1 / (a/N + b) calls per second at the largest batch N (see commit_model);
utilisation is committed calls per second over that. How busy the writer is tells nothing: a
group-commit writer is busy nearly always from a few per cent of its ceiling, because small
batches cost almost as much as large ones.
The unit is the call. Each call commits two entries, its intent and its outcome; so an entry
counts as half a call, a recorded refusal too.
The process is the second resource: the share of time in which the event loop's thread computes.
Waiting for the interpreter's lock is not seen by it, and the writer's thread takes its part of
that lock; so room for more is what both leave over together.
Must not know: what is committed, or how the numbers are shown. It is called on one thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from storage.commit_model import CommitModel, Point

__all__ = ["ENTRIES_PER_CALL", "Point", "Pressure", "Snapshot", "ceiling_of"]

ENTRIES_PER_CALL = 2
WINDOW_S = 5.0
_STEPS = 20
#: From this share of a limit on, the room that is left is none to rely on.
NEAR = 0.8
#: Below this share of both limits a call's cost to the process cannot be told from what the event
#: loop does when it is idle.
TELLING = 0.05


def ceiling_of(fixed_s: float, per_call_s: float, largest_batch_calls: float) -> float:
    """Calls per second with batches always full; 0 if nothing is known."""
    at_ceiling_s = fixed_s / largest_batch_calls + per_call_s
    return 1 / at_ceiling_s if at_ceiling_s > 0 else 0.0


class Rate:
    """Events per second over a sliding window, in steps of a twentieth of it."""

    def __init__(self, monotonic_ns: Callable[[], int], window_s: float = WINDOW_S) -> None:
        self._now_ns = monotonic_ns
        self._window_s = window_s
        self._step_s = window_s / _STEPS
        self._steps: deque[list[float]] = deque()
        self._started_ns = monotonic_ns()
        self._total = 0.0

    def add(self, amount: float, at_s: float) -> None:
        """Something happened."""
        if not self._steps or at_s - self._steps[-1][0] >= self._step_s:
            self._steps.append([at_s, 0.0])
            self._forget(at_s)
        self._steps[-1][1] += amount
        self._total += amount

    def per_s(self) -> float:
        """The rate; over the time since the start while that is shorter."""
        at_s = self._now_ns() / 1e9
        self._forget(at_s)
        span_s = min(self._window_s, max(self._step_s, at_s - self._started_ns / 1e9))
        return self._total / span_s

    def _forget(self, at_s: float) -> None:
        while self._steps and at_s - self._steps[0][0] > self._window_s:
            self._total -= self._steps.popleft()[1]
        if not self._steps:
            self._total = 0.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The pressure at one moment.

    `nearest_limit` is 'store' or 'process'; `room_calls_per_s` is how much more fits before one
    of them is full; `sentence` says it all in plain words.
    """

    fixed_s: float
    per_call_s: float
    largest_batch_calls: float
    ceiling_calls_per_s: float
    committed_calls_per_s: float
    utilisation: float
    writer_busy: float
    loop_busy: float
    room_calls_per_s: float
    nearest_limit: str
    sentence: str


class Pressure:
    """Fed by the write queue (`observe`), and by a ticker on the loop's thread (`tick`).

    `handover_s` is what a call costs between two batches at the ceiling, as calibrated: the part
    that the time of the batches does not show. `loop_cpu_ns` gives the CPU time of the calling
    thread. `window_s` is the time over which shares and rates are taken.
    """

    def __init__(
        self,
        *,
        batch_entries_max: int,
        monotonic_ns: Callable[[], int],
        loop_cpu_ns: Callable[[], int],
        seeds: Iterable[Point] = (),
        handover_s: float = 0.0,
        window_s: float = WINDOW_S,
    ) -> None:
        self._model = CommitModel(seeds)
        self._handover_s = handover_s
        self._largest = batch_entries_max / ENTRIES_PER_CALL
        self._calls = Rate(monotonic_ns, window_s)
        self._busy = Rate(monotonic_ns, window_s)
        self._window_ns = int(window_s * 1e9)
        self._now_ns = monotonic_ns
        self._loop_cpu_ns = loop_cpu_ns
        self._loop_samples: deque[tuple[int, int]] = deque([(monotonic_ns(), loop_cpu_ns())])

    def observe(self, entries: int, seconds: float) -> None:
        """One committed batch, from its taking to when the next could be taken."""
        calls = entries / ENTRIES_PER_CALL
        at_s = self._now_ns() / 1e9
        self._model.observe(calls, seconds, at_s)
        self._calls.add(calls, at_s)
        self._busy.add(seconds, at_s)

    def tick(self) -> None:
        """Samples the loop thread's CPU time; call it on that thread, about once a second."""
        now_ns = self._now_ns()
        self._loop_samples.append((now_ns, self._loop_cpu_ns()))
        while len(self._loop_samples) > 2 and now_ns - self._loop_samples[0][0] > self._window_ns:
            self._loop_samples.popleft()

    def loop_busy(self) -> float:
        """The share of the last seconds in which the event loop's thread was computing."""
        (first_ns, first_cpu), (last_ns, last_cpu) = self._loop_samples[0], self._loop_samples[-1]
        if last_ns <= first_ns:
            return 0.0
        return min(1.0, max(0.0, (last_cpu - first_cpu) / (last_ns - first_ns)))

    def snapshot(self) -> Snapshot:
        """Everything, and the sentence an operator reads."""
        fixed_s, commit_s = self._model.fit()
        per_call_s = commit_s + self._handover_s
        ceiling = ceiling_of(fixed_s, per_call_s, self._largest)
        rate = self._calls.per_s()
        if ceiling > 0:
            ceiling = max(ceiling, rate)  # what is done can be done
        utilisation = rate / ceiling if ceiling > 0 else 0.0
        loop_busy = self.loop_busy()
        room = _room(ceiling, rate, utilisation, loop_busy)
        return Snapshot(
            fixed_s=fixed_s,
            per_call_s=per_call_s,
            largest_batch_calls=self._largest,
            ceiling_calls_per_s=ceiling,
            committed_calls_per_s=rate,
            utilisation=utilisation,
            writer_busy=min(1.0, self._busy.per_s()),
            loop_busy=loop_busy,
            room_calls_per_s=room,
            nearest_limit="store" if utilisation >= loop_busy else "process",
            sentence=_sentence(ceiling, rate, utilisation, loop_busy, room),
        )


def _room(ceiling: float, rate: float, utilisation: float, loop_busy: float) -> float:
    """How many more calls per second fit, if they are like those of now; where too little goes on
    to tell what a call costs the process, how many more the store alone could take."""
    if max(utilisation, loop_busy) < TELLING:
        return max(0.0, ceiling - rate)
    return max(0.0, min(ceiling - rate, rate / (utilisation + loop_busy) - rate))


def _sentence(
    ceiling: float, rate: float, utilisation: float, loop_busy: float, room: float
) -> str:
    """Where the limit is, and the headroom. What to do about it depends on more than is known."""
    if ceiling <= 0:
        return "Nothing was committed yet, so the store's ceiling is not known."
    said = (
        f"The store is at {utilisation:.0%} of its measured ceiling of {ceiling:,.0f} calls/s "
        f"({rate:,.0f} calls/s now); "
    )
    if max(utilisation, loop_busy) < TELLING:
        return said + "nothing is near a limit, and too little goes on to tell the process's."
    if utilisation >= loop_busy:
        said += f"it is the nearer limit (event loop {loop_busy:.0%} busy). "
    else:
        said += f"the nearer limit is the process (event loop {loop_busy:.0%} busy). "
    if max(utilisation, loop_busy) >= NEAR:
        return said + "That is near: calls begin to wait."
    return said + f"There is room for about {room:,.0f} calls/s more."
