"""What is counted in a window of time: so many events, so many different values, a sequence.

Knows: for each subject only what lies within the window, so that whoever begins to read one
horizon earlier comes to the same. What is kept is bounded; when there is no room the subject that
was silent longest is forgotten, and counted as dropped.
Must not know: detections, receipts, JSON.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from sidecar.soc.model import Evidence

Subject = tuple[str, ...]

#: Subjects a detection keeps apart at once.
SUBJECTS_MAX: Final = 10_000
#: Events of one subject that are kept to be counted; a larger crowd is counted as this many.
EVENTS_OF_SUBJECT_MAX: Final = 1_000
#: Events all subjects of a detection keep together.
EVENTS_MAX: Final = 50_000
#: So long after people closed what was found nothing is found again; or a window, if that is less.
ANEW_US: Final = 60_000_000


class Found(NamedTuple):
    """What completes a hit: how many were counted, and what it rests on, oldest first."""

    counted: int
    evidence: tuple[Evidence, ...]
    usual: float = 0.0


class Window(Protocol):
    """What one subject has in the window."""

    last_us: int

    def __len__(self) -> int: ...


W = TypeVar("W", bound=Window)


class Subjects(Generic[W]):
    """Windows by subject, the one that was silent longest first."""

    def __init__(self, within_us: int) -> None:
        self._within_us = within_us
        self._windows: OrderedDict[Subject, W] = OrderedDict()
        self.kept = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._windows)

    def of(self, subject: Subject, at_us: int) -> W | None:
        """The subject's window, which has something to say now; those that ended are let go."""
        windows = self._windows
        while windows:
            oldest = next(iter(windows.values()))
            if oldest.last_us > at_us - self._within_us:
                break
            windows.popitem(last=False)
            self.kept -= len(oldest)
        found = windows.get(subject)
        if found is not None:
            windows.move_to_end(subject)
        return found

    def add(self, subject: Subject, window: W) -> None:
        """A window of a subject that had none."""
        if len(self._windows) >= SUBJECTS_MAX:
            self._drop()
        self._windows[subject] = window

    def forget(self, subject: Subject) -> None:
        """A subject as if nothing had been seen of it."""
        window = self._windows.pop(subject, None)
        if window is not None:
            self.kept -= len(window)

    def all(self) -> Iterable[W]:
        """All there are."""
        return self._windows.values()

    def make_room(self) -> None:
        """Forgets whole subjects while more is kept than may be, the last one excepted."""
        while self.kept > EVENTS_MAX and len(self._windows) > 1:
            self._drop()

    def _drop(self) -> None:
        _, window = self._windows.popitem(last=False)
        self.kept -= len(window)
        self.dropped += max(1, len(window))


class _Counted:
    """The events of one subject within the window; with values, the last one of each."""

    __slots__ = ("events", "hit_slot", "last_us", "not_before_us", "values")

    def __init__(self) -> None:
        self.events: deque[Evidence] = deque()
        self.values: OrderedDict[str, Evidence] = OrderedDict()
        self.last_us = 0
        self.hit_slot = -1
        self.not_before_us = 0

    def __len__(self) -> int:
        return len(self.events) + len(self.values)


class Counting:
    """At least so many events, or different values, in the last `within_us`.

    As long as that lasts it is found once in every `within_us` (by the clock of the events, from
    the epoch), however many events there are, unless people end it.
    """

    def __init__(self, at_least: int, within_us: int) -> None:
        self._at_least = at_least
        self._within_us = within_us
        self._subjects: Subjects[_Counted] = Subjects(within_us)
        #: How much must be read again to know what was counted, and what was found already.
        self.horizon_us = self.memory_us = 2 * within_us

    @property
    def dropped(self) -> int:
        """Events that were forgotten before their time."""
        return self._subjects.dropped

    @property
    def kept(self) -> int:
        """Events that are kept."""
        return self._subjects.kept

    def begin_anew(self, subject: Subject, found_us: int, at_us: int) -> None:
        """People have looked at what was found last at `found_us`, and closed it: what is in the
        window with it counts no more, and nothing is found for a moment, for who closes may be a
        program that does so at once."""
        if found_us > at_us - self._within_us:
            self._subjects.forget(subject)
            window = _Counted()
            window.last_us = at_us
            window.not_before_us = at_us + min(self._within_us, ANEW_US)
            self._subjects.add(subject, window)

    def find_again(self) -> None:
        """What lasts is found at its next event, whether or not it was already."""
        for window in self._subjects.all():
            window.hit_slot = -1

    def see(self, subject: Subject, evidence: Evidence, value: str | None) -> Found | None:
        """One more event; with `value`, what is to be different."""
        subjects, at_us = self._subjects, evidence.at_us
        window = subjects.of(subject, at_us)
        if window is None:
            window = _Counted()
            subjects.add(subject, window)
        before = len(window)
        count = self._count(window, evidence, value)
        window.last_us = at_us
        subjects.kept += len(window) - before
        if subjects.kept > EVENTS_MAX:
            subjects.make_room()
        slot = at_us // self._within_us
        if count < self._at_least or slot == window.hit_slot or at_us < window.not_before_us:
            return None
        window.hit_slot = slot
        kept = window.events if value is None else window.values.values()
        return Found(count, tuple(kept))

    def _count(self, window: _Counted, evidence: Evidence, value: str | None) -> int:
        since_us = evidence.at_us - self._within_us
        if value is None:
            events = window.events
            while events and events[0].at_us <= since_us:
                events.popleft()
            if len(events) >= EVENTS_OF_SUBJECT_MAX:
                events.popleft()
            events.append(evidence)
            return len(events)
        values = window.values
        values.pop(value, None)
        while values and next(iter(values.values())).at_us <= since_us:
            values.popitem(last=False)
        if len(values) >= EVENTS_OF_SUBJECT_MAX:
            values.popitem(last=False)
        values[value] = evidence
        return len(values)


class _Chains:
    """Of one subject, for each step but the last, the events that lead to it: of several ways the
    one that began last."""

    __slots__ = ("last_us", "steps")

    def __init__(self, count: int) -> None:
        self.steps: list[tuple[Evidence, ...]] = [()] * count
        self.last_us = 0

    def __len__(self) -> int:
        return sum(map(len, self.steps))


class Sequence:
    """Steps in their order within `within_us` of the first. An event is one step, and a first step
    completes one sequence: with it, those that began before it are used up too."""

    def __init__(self, steps: int, within_us: int) -> None:
        self._last = steps - 1
        self._within_us = within_us
        self._subjects: Subjects[_Chains] = Subjects(within_us)
        self.horizon_us = self.memory_us = within_us

    @property
    def dropped(self) -> int:
        """Events that were forgotten before their time."""
        return self._subjects.dropped

    @property
    def kept(self) -> int:
        """Events that are kept."""
        return self._subjects.kept

    def see(self, subject: Subject, evidence: Evidence, steps: tuple[int, ...]) -> Found | None:
        """One more event, which is what these steps (in order) look for."""
        subjects, at_us = self._subjects, evidence.at_us
        chains = subjects.of(subject, at_us)
        if chains is None:
            if 0 not in steps:
                return None
            chains = _Chains(self._last)
            subjects.add(subject, chains)
        before = len(chains)
        found = self._advance(chains, evidence, steps, at_us - self._within_us)
        chains.last_us = at_us
        subjects.kept += len(chains) - before
        if subjects.kept > EVENTS_MAX:
            subjects.make_room()
        return found

    def _advance(
        self, chains: _Chains, evidence: Evidence, steps: tuple[int, ...], since_us: int
    ) -> Found | None:
        """From the last step to the first, so that no event follows itself."""
        found, ways = None, chains.steps
        for step in reversed(steps):
            if step == 0:
                ways[0] = (evidence,)
                continue
            way = ways[step - 1]
            if not way or way[0].at_us <= since_us:
                continue
            if step < self._last:
                here = ways[step]
                if not here or here[0].seq < way[0].seq:
                    ways[step] = (*way, evidence)
                continue
            found = Found(len(way) + 1, (*way, evidence))
            used = way[0].seq
            chains.steps = ways = [() if one and one[0].seq <= used else one for one in ways]
        return found
