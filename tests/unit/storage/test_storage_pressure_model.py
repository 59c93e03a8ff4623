"""The model of a commit, a + b·n: what it learns from which batches, and what it keeps."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.commit_model import CommitModel, Point

LARGEST = 256


def seeds(a: float, b: float) -> list[Point]:
    return [Point(n, a + b * n) for n in (1.0, 8.0, 64.0, 256.0)]


def ceiling(model: CommitModel) -> float:
    a, b = model.fit()
    return 1 / (a / LARGEST + b)


def true_ceiling(a: float, b: float) -> float:
    return 1 / (a / LARGEST + b)


class Traffic:
    """Batches of a store that costs a + b·n with a spread of ten per cent."""

    def __init__(self, model: CommitModel) -> None:
        self.model = model
        self.at_s = 100.0
        self.random = random.Random(7)

    def run(self, sizes: list[float], a: float, b: float, seconds: float = 30.0) -> None:
        end = self.at_s + seconds
        while self.at_s < end:
            n = self.random.choice(sizes)
            took = (a + b * n) * self.random.uniform(0.9, 1.1)
            self.at_s += took + 0.005
            self.model.observe(n, took, self.at_s)


SECONDS = st.floats(1e-5, 0.05)
PER_CALL = st.floats(1e-6, 1e-3)


@given(SECONDS, PER_CALL)
def test_exact_points_are_fitted_exactly(a: float, b: float) -> None:
    fitted = CommitModel(seeds(a, b)).fit()
    assert fitted == (pytest.approx(a, rel=1e-3, abs=1e-7), pytest.approx(b, rel=1e-3))


@given(
    st.lists(st.tuples(st.floats(0.5, 256), st.floats(1e-5, 10)), max_size=40),
    st.floats(0.0, 1e4),
)
def test_whatever_is_seen_neither_part_is_negative(
    batches: list[tuple[float, float]], gap_s: float
) -> None:
    model = CommitModel(seeds(0.0005, 0.00005)[: len(batches) % 5])
    for position, (calls, seconds) in enumerate(batches):
        model.observe(calls, seconds, position * gap_s)
        a, b = model.fit()
        assert a >= 0 and b >= 0
        assert a + b > 0


def test_nothing_known_is_zero_and_nonsense_is_not_taken() -> None:
    model = CommitModel([Point(0, 1), Point(1, 0)])
    model.observe(0, 1.0, 1.0)
    model.observe(1, 0.0, 2.0)
    assert model.fit() == (0.0, 0.0)


def test_light_traffic_does_not_wear_out_the_slope() -> None:
    model = CommitModel(seeds(0.0005, 0.00005))
    Traffic(model).run([0.5, 1, 1.5], 0.0005, 0.00005, seconds=900)
    assert ceiling(model) == pytest.approx(true_ceiling(0.0005, 0.00005), rel=0.05)


def test_a_slower_disk_is_followed_by_light_traffic_alone() -> None:
    model = CommitModel(seeds(0.0005, 0.00005))
    traffic = Traffic(model)
    traffic.run([0.5, 1], 0.0005, 0.00005)
    traffic.run([1, 2, 4], 0.030, 0.00005)
    assert ceiling(model) == pytest.approx(true_ceiling(0.030, 0.00005), rel=0.1)
    traffic.run([0.5, 1, 2], 0.0005, 0.00005)
    assert ceiling(model) == pytest.approx(true_ceiling(0.0005, 0.00005), rel=0.1)


def test_what_large_batches_cost_is_learnt_from_them_and_remembered() -> None:
    model = CommitModel(seeds(0.0005, 0.00005))
    traffic = Traffic(model)
    traffic.run([1, 30, 120, 250], 0.0005, 0.0001)
    assert ceiling(model) == pytest.approx(true_ceiling(0.0005, 0.0001), rel=0.12)
    traffic.run([0.5, 1], 0.0005, 0.0001, seconds=120)
    assert ceiling(model) == pytest.approx(true_ceiling(0.0005, 0.0001), rel=0.15)


def test_a_bad_hour_is_forgotten_in_favour_of_the_calibration() -> None:
    model = CommitModel(seeds(0.0005, 0.00005))
    traffic = Traffic(model)
    traffic.run([250], 0.0005, 0.0004)
    assert ceiling(model) < true_ceiling(0.0005, 0.00005) / 3
    traffic.run([0.5, 1], 0.0005, 0.00005, seconds=3 * 3600)
    assert ceiling(model) == pytest.approx(true_ceiling(0.0005, 0.00005), rel=0.1)


def test_one_stalled_sync_is_no_slower_disk() -> None:
    model = CommitModel(seeds(0.0005, 0.00005))
    traffic = Traffic(model)
    traffic.run([0.5, 1, 2], 0.0005, 0.00005)
    before = ceiling(model)
    model.observe(1, 2.0, traffic.at_s + 0.1)
    assert ceiling(model) == pytest.approx(before, rel=0.1)


def test_without_a_calibration_the_traffic_alone_will_do() -> None:
    model = CommitModel()
    Traffic(model).run([1, 10, 100], 0.002, 0.0001)
    assert ceiling(model) == pytest.approx(true_ceiling(0.002, 0.0001), rel=0.1)
