"""Time windows: `mon-fri 09:00-17:00 Europe/Berlin`, by the wall clock of the zone.

Knows: days, times, crossing midnight, the zone data of the machine. The end is excluded; a window
that crosses midnight belongs to the day it begins on.
Must not know: what time it is.
"""

from __future__ import annotations

import difflib
import functools
import re
import zoneinfo
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTES_A_DAY = 24 * 60

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SPAN = re.compile(r"([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})")
_FORM = "a window is DAYS HH:MM-HH:MM ZONE, e.g. mon-fri 09:00-17:00 Europe/Berlin"


class BadWindow(ValueError):
    """A window that cannot be used; the message says why, `hint` what may be meant."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Window:
    """Minutes of some days in one zone."""

    days: frozenset[int]
    begins: int
    ends: int
    zone: zoneinfo.ZoneInfo
    text: str

    def contains(self, now_us: int) -> bool:
        """Whether the moment lies inside."""
        local = moment(now_us).astimezone(self.zone)
        minute = local.hour * 60 + local.minute
        day = local.weekday()
        if self.begins < self.ends:
            return day in self.days and self.begins <= minute < self.ends
        if minute >= self.begins:
            return day in self.days
        return minute < self.ends and (day - 1) % 7 in self.days


def moment(now_us: int) -> datetime:
    """Microseconds since the epoch as a UTC time, exactly."""
    return _EPOCH + timedelta(microseconds=now_us)


def is_inside(windows: Iterable[Window], now_us: int) -> bool:
    """Whether the moment lies in one of them."""
    return any(window.contains(now_us) for window in windows)


def leaves_nothing(during: Iterable[Window], outside: Iterable[Window]) -> bool:
    """Whether no moment is inside one of `during` and in none of `outside`, as far as windows of
    one zone tell."""
    for window in during:
        left = _minutes_of_week(window)
        for other in outside:
            if other.zone is window.zone:
                left &= ~_minutes_of_week(other)
        if left:
            return False
    return True


def _minutes_of_week(window: Window) -> int:
    """One bit for each minute of a week that the window holds."""
    found, length = 0, window.ends - window.begins
    if length < 0:
        length += MINUTES_A_DAY
    for day in window.days:
        found |= ((1 << length) - 1) << (day * MINUTES_A_DAY + window.begins)
    week = 7 * MINUTES_A_DAY
    return (found & ((1 << week) - 1)) | (found >> week)


def parse_window(text: str) -> Window:
    """Reads a window; raises BadWindow."""
    parts = text.split()
    if len(parts) != 3:
        raise BadWindow(_FORM)
    days, span, zone = parts
    found = _SPAN.fullmatch(span)
    if found is None:
        raise BadWindow(_FORM)
    begins, ends = _minute(found[1], found[2]), _minute(found[3], found[4])
    if begins in (MINUTES_A_DAY, ends):
        raise BadWindow(f"{span} is empty; a whole day is 00:00-24:00")
    return Window(_days(days), begins, ends, _zone(zone), text)


def _minute(hour: str, minute: str) -> int:
    value = int(hour) * 60 + int(minute)
    if int(minute) > 59 or value > MINUTES_A_DAY:
        raise BadWindow(f"{hour}:{minute} is no time of day")
    return value


def _days(text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise BadWindow(f'"{part}" names no days: use {", ".join(DAYS)} or a range of them')
        start = DAYS.index(first)
        length = (DAYS.index(last) - start) % 7 if dash else 0
        days.update((start + step) % 7 for step in range(length + 1))
    return frozenset(days)


@functools.lru_cache(maxsize=256)
def _zone(name: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        near = difflib.get_close_matches(name, zoneinfo.available_timezones(), n=1)
        raise BadWindow(
            f'"{name}" is no time zone this machine knows (an IANA name; Debian: package tzdata)',
            f'did you mean "{near[0]}"?' if near else "",
        ) from None
