"""The forecast of the daily peaks: right where there is growth, silent where there is none."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.forecast import (
    DAY_US,
    DAYS_MIN,
    HOUR_US,
    Forecast,
    Outlook,
    Peak,
    Sample,
    daily_peaks,
    forecast,
    is_ordered,
    outlook,
    slope_of,
    trend_sentence,
)

NOW_US = 1_800_000_000 * 1_000_000
CEILING = 20_000.0

Make = Callable[[random.Random, int], list[Peak]]


def line(days: int, level: float, growth: float) -> list[Peak]:
    """Ends at `level`, having grown by `growth` a day."""
    return [(back, level + growth * back) for back in range(1 - days, 1)]


def hours(
    days: int, level: float, growth: float, process: float = 0.1, *, hours_a_day: int = 24
) -> list[Sample]:
    """Samples with the busy hours of each day at the line, the others far below."""
    samples = []
    for back in range(days):
        for hour in range(hours_a_day):
            at_us = NOW_US - back * DAY_US - hour * HOUR_US
            share = (level - growth * back) * (1.0 if hour == 3 else 0.2)
            samples.append(Sample(at_us, share * CEILING, share, process))
    return samples


# -- growth is found -------------------------------------------------------------------------


@pytest.mark.parametrize(("days", "level", "growth", "limit", "left"), [
    (10, 0.60, 0.02, 0.8, 10.0),
    (14, 0.62, 0.02, 0.8, 9.0),
    (30, 0.50, 0.01, 0.8, 30.0),
    (20, 0.85, 0.01, 1.0, 15.0),
])  # fmt: skip
def test_a_steady_growth_is_foretold(
    days: int, level: float, growth: float, limit: float, left: float
) -> None:
    found = forecast("store", line(days, level, growth))
    assert found is not None
    assert (found.limit, found.days) == (limit, pytest.approx(left))
    assert found.growth_per_day == pytest.approx(growth)


def test_a_few_odd_days_do_not_move_it() -> None:
    peaks = line(21, 0.62, 0.02)
    peaks[4], peaks[11] = (peaks[4][0], 0.95), (peaks[11][0], 0.0)
    found = forecast("store", peaks)
    assert found is not None
    assert found.days == pytest.approx(9.0, abs=1.0)


def test_the_store_is_judged_by_the_ceiling_of_now() -> None:
    samples = hours(14, 0.62, 0.02)
    seen = outlook(samples, ceiling_calls_per_s=CEILING, now_us=NOW_US)
    assert seen.forecast is not None
    assert (seen.forecast.resource, round(seen.forecast.days)) == ("store", 9)
    assert (seen.days_known, seen.peak_store) == (14, pytest.approx(0.62))
    # On a disk twice as fast the same traffic is far from the limit.
    faster = outlook(samples, ceiling_calls_per_s=2 * CEILING, now_us=NOW_US)
    assert faster.forecast is None
    assert outlook(samples, ceiling_calls_per_s=0.0, now_us=NOW_US).forecast is None


def test_the_one_that_is_full_first_is_named() -> None:
    samples = [
        one._replace(process=0.7 - 0.02 * ((NOW_US - one.at_us) // DAY_US))
        for one in hours(14, 0.62, 0.02)
    ]
    seen = outlook(samples, ceiling_calls_per_s=CEILING, now_us=NOW_US)
    assert seen.forecast is not None
    assert (seen.forecast.resource, round(seen.forecast.days)) == ("process", 5)


# -- nothing is said rather than a wrong thing -----------------------------------------------


def shaped(shape: tuple[float, ...], noise: float) -> Make:
    def make(chance: random.Random, days: int) -> list[Peak]:
        first = chance.randrange(7)
        return [(day, shape[(first + day) % 7] + chance.gauss(0, noise)) for day in range(days)]

    return make


def stepped(chance: random.Random, days: int) -> list[Peak]:
    at = chance.randrange(2, days - 2)
    return [(day, (0.3 if day < at else 0.5) + chance.gauss(0, 0.03)) for day in range(days)]


def ended(chance: random.Random, days: int) -> list[Peak]:
    """Growth that stopped eight days ago."""
    return [(day, 0.2 + 0.015 * min(day, days - 8) + chance.gauss(0, 0.005)) for day in range(days)]


def shrinking(chance: random.Random, days: int) -> list[Peak]:
    return [(day, 0.7 - 0.005 * day + chance.gauss(0, 0.03)) for day in range(days)]


NO_GROWTH: dict[str, Make] = {
    "flat": shaped((0.5,) * 7, 0.05),
    "flat, just below the limit": shaped((0.76,) * 7, 0.03),
    "weekends": shaped((0.15, 0.2, 0.6, 0.62, 0.65, 0.63, 0.6), 0.03),
    "every week climbs": shaped((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7), 0.03),
    "step": stepped,
    "ended": ended,
    "shrinking": shrinking,
}


def share_that_speaks(make: Make, days: int) -> float:
    chance = random.Random(days)
    return sum(forecast("store", make(chance, days)) is not None for _ in range(300)) / 300


@pytest.mark.parametrize("days", [10, 13, 21, 30])
@pytest.mark.parametrize("kind", NO_GROWTH)
def test_it_is_silent_where_nothing_grows(kind: str, days: int) -> None:
    assert share_that_speaks(NO_GROWTH[kind], days) <= 0.01


@pytest.mark.parametrize(("days", "share"), [(10, 0.5), (14, 0.9), (30, 0.95)])
def test_it_speaks_where_something_grows_under_the_same_noise(days: int, share: float) -> None:
    def grown(chance: random.Random, days: int) -> list[Peak]:
        return [(day, value + chance.gauss(0, 0.03)) for day, value in line(days, 0.7, 0.02)]

    assert share_that_speaks(grown, days) >= share


def test_growth_under_the_shape_of_a_week_is_found() -> None:
    def grown(chance: random.Random, days: int) -> list[Peak]:
        return [
            (day, (0.3 + 0.013 * day) * (0.3 if day % 7 > 4 else 1.0) + chance.gauss(0, 0.01))
            for day in range(days)
        ]

    assert share_that_speaks(grown, 30) >= 0.9


@pytest.mark.parametrize("peaks", [
    [],
    line(DAYS_MIN - 1, 0.7, 0.02),
    line(14, 0.7, 0.0),
    line(14, 0.3, -0.01),
    line(14, 1.2, 0.02),
    line(14, 0.10, 0.005),
], ids=["none", "few", "flat", "falling", "full already", "too far off"])  # fmt: skip
def test_no_forecast(peaks: list[Peak]) -> None:
    assert forecast("store", peaks) is None


def test_what_is_old_or_from_the_future_is_no_present() -> None:
    samples = hours(14, 0.62, 0.02)
    later = outlook(samples, ceiling_calls_per_s=CEILING, now_us=NOW_US + 3 * DAY_US)
    assert (later.forecast, later.days_known, later.peak_store) == (None, 14, 0.0)
    ahead = Sample(NOW_US + 90 * DAY_US, 50 * CEILING, 1.0, 1.0)
    with_ahead = outlook([*samples, ahead], ceiling_calls_per_s=CEILING, now_us=NOW_US)
    assert with_ahead == outlook(samples, ceiling_calls_per_s=CEILING, now_us=NOW_US)
    long_ago = outlook(samples, ceiling_calls_per_s=CEILING, now_us=NOW_US + 90 * DAY_US)
    assert long_ago.days_known == 0


def test_a_day_of_three_hours_is_no_day() -> None:
    def days_of(hours_a_day: int) -> int:
        return len(daily_peaks(hours(12, 0.5, 0.01, hours_a_day=hours_a_day), lambda s: s.store))

    assert (days_of(3), days_of(4)) == (0, 12)


# -- what holds for every series -------------------------------------------------------------

levels = st.floats(0.2, 0.75)
growths = st.floats(0.006, 0.05)
lengths = st.integers(DAYS_MIN, 60)
values = st.lists(st.floats(0, 1), min_size=2, max_size=30)


@given(lengths, levels, growths, st.floats(1.05, 3))
def test_a_faster_growth_is_never_said_to_take_longer(
    days: int, level: float, growth: float, factor: float
) -> None:
    slow = forecast("store", line(days, level, growth))
    fast = forecast("store", line(days, level, factor * growth))
    if slow is not None:
        assert fast is not None
        assert fast.days <= slow.days


@given(lengths, levels, growths, st.floats(0.001, 0.04))
def test_a_higher_level_is_never_said_to_take_longer(
    days: int, level: float, growth: float, more: float
) -> None:
    low = forecast("store", line(days, level, growth))
    high = forecast("store", line(days, level + more, growth))
    if low is not None:
        assert high is not None
        assert high.days <= low.days or high.limit > low.limit


@given(st.integers(10, 40), levels, growths, st.floats(0.01, 1000))
@settings(max_examples=50)
def test_the_unit_of_the_traffic_means_nothing(
    days: int, level: float, growth: float, factor: float
) -> None:
    samples = hours(days, level, growth, hours_a_day=4)
    scaled = [one._replace(calls_per_s=factor * one.calls_per_s) for one in samples]
    one = outlook(samples, ceiling_calls_per_s=CEILING, now_us=NOW_US).forecast
    other = outlook(scaled, ceiling_calls_per_s=factor * CEILING, now_us=NOW_US).forecast
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        assert other.days == pytest.approx(one.days, rel=1e-6)


@given(values, st.floats(-1, 1))
def test_a_slope_more_is_that_slope_more(heights: list[float], slope: float) -> None:
    flat = list(enumerate(heights))
    steep = [(day, value + slope * day) for day, value in flat]
    assert slope_of(steep) == pytest.approx(slope_of(flat) + slope, abs=1e-9)


@given(values)
def test_what_never_rises_is_never_ordered_nor_foretold(heights: list[float]) -> None:
    falling = list(enumerate(sorted(heights, reverse=True)))
    assert not is_ordered(falling)
    assert forecast("store", falling) is None


@given(st.lists(st.floats(0, 1), min_size=10, max_size=40))
def test_a_forecast_is_ahead_and_within_reach(heights: list[float]) -> None:
    found = forecast("process", list(enumerate(heights)))
    if found is not None:
        assert 0 < found.days <= 2 * len(heights)
        assert found.growth_per_day > 0


# -- words -----------------------------------------------------------------------------------


def seen(days: float | None, known: int = 14, limit: float = 0.8, of: str = "store") -> Outlook:
    one = None if days is None else Forecast(of, limit, days, 0.02)  # type: ignore[arg-type]
    return Outlook(one, known, 0.5, 0.1)


@pytest.mark.parametrize(("what", "words"), [
    (seen(9.2), "The store reaches 80 % in about 9 days at this growth."),
    (seen(0.4), "The store reaches 80 % within a day at this growth."),
    (seen(1.2), "The store reaches 80 % in about a day at this growth."),
    (seen(1.6), "The store reaches 80 % in about 2 days at this growth."),
    (seen(20.0), "The store reaches 80 % in about 20 days at this growth."),
    (seen(31.0), "The store reaches 80 % in about 4 weeks at this growth."),
    (seen(6, limit=1.0), "The store reaches 100 % in about 6 days at this growth."),
    (seen(9, of="process"), "The process reaches 80 % in about 9 days at this growth."),
    (seen(None, 23), "No growth that comes near a limit shows in the last 23 days."),
    (seen(None, 0),
     "The trend is not known yet: that takes 10 days of traffic, and none is known."),
    (seen(None, 1), "The trend is not known yet: that takes 10 days of traffic, and 1 is known."),
    (seen(None, 9), "The trend is not known yet: that takes 10 days of traffic, and 9 are known."),
])  # fmt: skip
def test_the_words(what: Outlook, words: str) -> None:
    assert trend_sentence(what) == words
