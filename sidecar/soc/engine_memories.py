"""What is remembered longer than is read again: values ever seen, and what is usual in an hour.

Knows: for each subject a state that is small, bounded and kept as JSON beside the watcher's mark;
which events it covers already, so that reading them again changes nothing. What has been said
nothing of for long is forgotten.
Must not know: detections, receipts, stores.
"""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from sidecar.soc.engine_windows import SUBJECTS_MAX, Found, Subject
from sidecar.soc.model import Evidence

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
#: A value nobody has shown for so long is new when it comes again.
FIRST_KEPT_US: Final = 90 * DAY_US
#: Values of one subject that are remembered; the one unseen longest is forgotten for another.
VALUES_OF_SUBJECT_MAX: Final = 512


class Remembered(NamedTuple):
    """A subject's state as it is to be kept, until when it says anything."""

    subject: Subject
    state: str
    until_us: int


class Memory(Protocol):
    """What a subject has."""

    @property
    def until_us(self) -> int:
        """From when on it says nothing any more."""
        ...

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        ...


M = TypeVar("M", bound=Memory)


class Memories(Generic[M]):
    """Memories by subject, the one that changed longest ago first; `form` marks their states, for
    what another form of detection has left says nothing here."""

    def __init__(self, form: str) -> None:
        self._form = form
        self._by_subject: OrderedDict[Subject, M] = OrderedDict()
        self._changed: dict[Subject, None] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._by_subject)

    def of(self, subject: Subject) -> M | None:
        """The subject's memory, None without."""
        return self._by_subject.get(subject)

    def put(self, subject: Subject, memory: M) -> None:
        """A memory that is new, or has changed."""
        if subject not in self._by_subject and len(self._by_subject) >= SUBJECTS_MAX:
            gone, _ = self._by_subject.popitem(last=False)
            self._changed[gone] = None
            self.dropped += 1
        self._by_subject[subject] = memory
        self._by_subject.move_to_end(subject)
        self._changed[subject] = None

    def changed(self) -> Iterator[Remembered]:
        """What has changed since it was last asked; of what was forgotten an empty state."""
        changed, self._changed = self._changed, {}
        for subject in changed:
            memory = self._by_subject.get(subject)
            if memory is None:
                yield Remembered(subject, "{}", 0)
            else:
                state = json.dumps({"form": self._form, **memory.plain()}, separators=(",", ":"))
                yield Remembered(subject, state, memory.until_us)

    def fitting(self, state: str) -> dict[str, Any]:
        """A kept state if it is of this form; empty if not."""
        try:
            said = json.loads(state)
        except ValueError:
            return {}
        fits = isinstance(said, dict) and said.get("form") == self._form
        return said if fits else {}

    def restore(self, subject: Subject, memory: M) -> None:
        """A memory as it was kept; those that changed longest ago come first."""
        self._by_subject[subject] = memory


class _Values:
    """Values a subject has shown, each with the day on which it last did."""

    __slots__ = ("days", "seq")

    def __init__(self, days: dict[str, int], seq: int) -> None:
        self.days = days
        self.seq = seq

    @property
    def until_us(self) -> int:
        return (max(self.days.values(), default=0) + 1) * DAY_US + FIRST_KEPT_US

    def plain(self) -> dict[str, Any]:
        return {"seq": self.seq, "days": self.days}


class First:
    """A value a subject has never shown, or not for `FIRST_KEPT_US`."""

    horizon_us: Final = 0
    memory_us: Final = FIRST_KEPT_US + DAY_US

    def __init__(self, name: str) -> None:
        self.memories: Memories[_Values] = Memories(f"first:{name}")

    @property
    def dropped(self) -> int:
        """Subjects that were forgotten before their time."""
        return self.memories.dropped

    @property
    def kept(self) -> int:
        """Subjects that are remembered."""
        return len(self.memories)

    def see(self, subject: Subject, evidence: Evidence, value: str | None) -> Found | None:
        """One more event, which shows the value. What was looked at already changes nothing."""
        memory = self.memories.of(subject)
        if value is None or (memory is not None and evidence.seq <= memory.seq):
            return None
        day = evidence.at_us // DAY_US
        if memory is None:
            memory = _Values({}, 0)
        before = memory.days.get(value)
        if before == day:
            return None
        memory.days.pop(value, None)
        if before is None and len(memory.days) >= VALUES_OF_SUBJECT_MAX:
            del memory.days[next(iter(memory.days))]
        memory.days[value] = day
        memory.seq = evidence.seq
        self.memories.put(subject, memory)
        is_known = before is not None and (day - before) * DAY_US <= FIRST_KEPT_US
        return None if is_known else Found(1, (evidence,))

    def restore(self, subject: Subject, state: str) -> int:
        """What was kept of a subject; gives up to which receipt it tells."""
        said = self.memories.fitting(state)
        days = said.get("days")
        if not isinstance(days, dict):
            return 0
        ordered = sorted(days.items(), key=lambda one: int(one[1]))
        memory = _Values({str(value): int(day) for value, day in ordered}, int(said.get("seq", 0)))
        self.memories.restore(subject, memory)
        return memory.seq


class _Hours:
    """How many events a subject had in each hour in which it had any, the present one last."""

    __slots__ = ("history_us", "hours", "known", "said_in", "seq")

    def __init__(self, hours: dict[int, int], seq: int, said_in: int, history_us: int) -> None:
        self.hours = hours
        self.seq = seq
        self.said_in = said_in
        self.history_us = history_us
        #: What is usual, and the hour for which that was worked out.
        self.known: tuple[int, tuple[float, float] | None] = (-1, None)

    @property
    def until_us(self) -> int:
        return (max(self.hours, default=0) + 1) * HOUR_US + self.history_us

    def plain(self) -> dict[str, Any]:
        return {"seq": self.seq, "said_in": self.said_in, "hours": self.hours}


class Usual:
    """More in an hour than is usual; found once in an hour."""

    horizon_us: Final = 0

    def __init__(self, sigma: float, history_us: int, buckets: int) -> None:
        self._sigma = sigma
        self._history_us = history_us
        self.memory_us = history_us + HOUR_US
        self._buckets = buckets
        self.memories: Memories[_Hours] = Memories("unusual")

    @property
    def dropped(self) -> int:
        """Subjects that were forgotten before their time."""
        return self.memories.dropped

    @property
    def kept(self) -> int:
        """Subjects that are remembered."""
        return len(self.memories)

    def see(self, subject: Subject, evidence: Evidence, _value: str | None) -> Found | None:
        """One more event. What was counted already is not counted again."""
        memory = self.memories.of(subject)
        if memory is not None and evidence.seq <= memory.seq:
            return None
        if memory is None:
            memory = _Hours({}, 0, -1, self._history_us)
        hour = evidence.at_us // HOUR_US
        count = memory.hours.get(hour, 0) + 1
        memory.hours[hour] = count
        memory.seq = evidence.seq
        if count == 1:
            oldest = hour - self._history_us // HOUR_US
            for gone in [one for one in memory.hours if one < oldest]:
                del memory.hours[gone]
        self.memories.put(subject, memory)
        if memory.said_in == hour:
            return None
        if memory.known[0] != hour:
            memory.known = (hour, self._usual(memory.hours, hour))
        usual = memory.known[1]
        if usual is None or count <= usual[0] + self._sigma * usual[1]:
            return None
        memory.said_in = hour
        return Found(count, (evidence,), usual[0])

    def _usual(self, hours: dict[int, int], now: int) -> tuple[float, float] | None:
        """Mean and standard deviation of the hours before; None if they say nothing yet."""
        before = [count for hour, count in hours.items() if hour != now]
        if len(before) < self._buckets:
            return None
        mean = sum(before) / len(before)
        spread = math.sqrt(sum((count - mean) ** 2 for count in before) / len(before))
        return (mean, spread) if spread > 0 else None

    def restore(self, subject: Subject, state: str) -> int:
        """What was kept of a subject; gives up to which receipt it tells."""
        said = self.memories.fitting(state)
        hours = said.get("hours")
        if not isinstance(hours, dict):
            return 0
        kept = {int(hour): int(count) for hour, count in hours.items()}
        seq, said_in = int(said.get("seq", 0)), int(said.get("said_in", -1))
        self.memories.restore(subject, _Hours(kept, seq, said_in, self._history_us))
        return seq
