"""When the nearer limit will be reached, at the growth of the last weeks. Pure.

The daily peaks of store and process are followed, by the slope that half of all pairs of days
exceed (Theil and Sen): a few odd days do not move it. Nothing is said rather than a wrong thing:
no forecast without ten days, none if the days could as well stand in any order (Kendall's test),
none if one step explains them as well as a line does, none if the last days did not grow as the
whole did, none further ahead than twice the days known.
The store's peaks are calls per second over the ceiling of now, so that a faster disk, a new host
or another calibration does not look like a trend of the traffic.
Must not know: clocks, files, who measures, how it is shown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, NamedTuple

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US

#: Older samples are forgotten.
HISTORY_DAYS = 60
DAYS_MIN = 10
#: A day of which fewer hours are known says nothing about its peak.
HOURS_OF_A_DAY_MIN = 4
#: Without a sample for so long, what was known is no longer the present.
STALE_US = 2 * DAY_US
#: What a clock that was wrong wrote into the future is left out.
AHEAD_US = 2 * HOUR_US
#: Kendall's test: about 1 in 200 series without a trend pass it, and they must pass the rest too.
CONFIDENCE_Z = 2.6
#: The last days' gain on the same days a week before, as a share of what the whole would give.
RECENT_DAYS = 5
STILL_GROWING = 0.7
#: No further ahead than so many times the days known.
REACH = 2.0
#: What is forecast: the first of these that is not reached yet.
LIMITS = (0.8, 1.0)
WEEK = 7

Resource = Literal["store", "process"]
#: A day (counted from any day), and the value of its peak.
Peak = tuple[int, float]


class Sample(NamedTuple):
    """One hour: its beginning, and its peaks (calls per second, shares of store and process)."""

    at_us: int
    calls_per_s: float
    store: float
    process: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """`resource` reaches `limit` (a share) in about `days`, at its growth a day."""

    resource: Resource
    limit: float
    days: float
    growth_per_day: float


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the history says: a forecast or None, the days it knows, the peaks of the last day."""

    forecast: Forecast | None
    days_known: int
    peak_store: float
    peak_process: float


def outlook(samples: Sequence[Sample], *, ceiling_calls_per_s: float, now_us: int) -> Outlook:
    """The forecast of the resource that is full first, and how much is known.

    `samples` in any order; those of the future and the too old are left out.
    """
    known = [
        one for one in samples if now_us - HISTORY_DAYS * DAY_US <= one.at_us <= now_us + AHEAD_US
    ]
    last_day = [one for one in known if one.at_us > now_us - DAY_US]
    series: dict[Resource, list[Peak]] = {"process": daily_peaks(known, lambda one: one.process)}
    if ceiling_calls_per_s > 0:
        series["store"] = daily_peaks(known, lambda one: one.calls_per_s / ceiling_calls_per_s)
    is_fresh = bool(known) and max(one.at_us for one in known) >= now_us - STALE_US
    found = [
        one
        for resource, peaks in series.items()
        if is_fresh and (one := forecast(resource, peaks)) is not None
    ]
    return Outlook(
        min(found, key=lambda one: one.days, default=None),
        len(series["process"]),
        max((one.store for one in last_day), default=0.0),
        max((one.process for one in last_day), default=0.0),
    )


def daily_peaks(samples: Sequence[Sample], value: Callable[[Sample], float]) -> list[Peak]:
    """The peak of each full day, oldest first; day 0 is the 24 hours that end with the last sample.

    Counted back from the last sample, every day is a whole one: no calendar, no half day today.
    """
    if not samples:
        return []
    last_us = max(one.at_us for one in samples)
    days: dict[int, list[float]] = {}
    for one in samples:
        days.setdefault((last_us - one.at_us) // DAY_US, []).append(value(one))
    return [
        (-back, max(values))
        for back, values in sorted(days.items(), reverse=True)
        if len(values) >= HOURS_OF_A_DAY_MIN
    ]


def forecast(resource: Resource, peaks: Sequence[Peak]) -> Forecast | None:
    """When the daily peaks reach the next limit; None when flat, falling, unclear or far off."""
    if len(peaks) < DAYS_MIN or not is_ordered(peaks):
        return None
    slope = slope_of(peaks)
    if slope <= 0:
        return None
    offset = median(value - slope * day for day, value in peaks)
    if not _is_rather_a_line(peaks, slope, offset) or not _grows_still(peaks, slope):
        return None
    first, last = peaks[0][0], peaks[-1][0]
    level = offset + slope * last
    limit = next((limit for limit in LIMITS if level < limit), None)
    if limit is None:
        return None
    days = (limit - level) / slope
    if days > REACH * (last - first + 1):
        return None
    return Forecast(resource, limit, days, slope)


def slope_of(peaks: Sequence[Peak]) -> float:
    """The median slope of all pairs of days (Theil and Sen)."""
    return median(
        (later - earlier) / (day - day_before)
        for number, (day_before, earlier) in enumerate(peaks)
        for day, later in peaks[number + 1 :]
    )


def is_ordered(peaks: Sequence[Peak]) -> bool:
    """Whether later days are larger more often than chance would have it (Kendall)."""
    score = sum(
        (later > earlier) - (later < earlier)
        for number, (_, earlier) in enumerate(peaks)
        for _, later in peaks[number + 1 :]
    )
    count = len(peaks)
    return score - 1 >= CONFIDENCE_Z * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)


def _is_rather_a_line(peaks: Sequence[Peak], slope: float, offset: float) -> bool:
    """A new team on Monday is a step, not a growth: it says nothing about next Monday."""
    values = [value for _, value in peaks]
    off_line = sum(abs(value - offset - slope * day) for day, value in peaks)
    off_step = min(
        _spread(values[:cut]) + _spread(values[cut:]) for cut in range(2, len(values) - 1)
    )
    return off_line < off_step


def _spread(values: Iterable[float]) -> float:
    known = list(values)
    middle = median(known)
    return sum(abs(value - middle) for value in known)


def _grows_still(peaks: Sequence[Peak], slope: float) -> bool:
    """The last days are compared with the same days a week before, as weeks have a shape."""
    by_day = dict(peaks)
    gains = [by_day[day] - by_day[day - WEEK] for day in sorted(by_day) if day - WEEK in by_day]
    return bool(gains) and median(gains[-RECENT_DAYS:]) >= STILL_GROWING * WEEK * slope


# -- words -----------------------------------------------------------------------------------


def trend_sentence(seen: Outlook) -> str:
    """The outlook in plain words."""
    one = seen.forecast
    if one is not None:
        what = "The store" if one.resource == "store" else "The process"
        return f"{what} reaches {one.limit:.0%} {_span(one.days)} at this growth.".replace(
            "%", " %"
        )
    if seen.days_known < DAYS_MIN:
        return (
            f"The trend is not known yet: that takes {DAYS_MIN} days of traffic, "
            f"and {_days(seen.days_known)} known."
        )
    return f"No growth that comes near a limit shows in the last {seen.days_known} days."


def _span(days: float) -> str:
    if days < 1:
        return "within a day"
    if days < 1.5:
        return "in about a day"
    if days < 20.5:
        return f"in about {round(days)} days"
    return f"in about {round(days / WEEK)} weeks"


def _days(count: int) -> str:
    return {0: "none is", 1: "1 is"}.get(count, f"{count} are")
