"""The trend on disk: one sample an hour, over restarts, and never a reason to fail."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from pathlib import Path

import pytest

from sidecar import pressure_history
from sidecar.data_file import read_small, replace_file
from sidecar.pressure_history import FILE_BYTES_MAX, FILE_NAME, HOURS_MAX, LOOK_S, PressureHistory
from storage.forecast import DAY_US, HOUR_US
from storage.pressure import Snapshot

START_US = 1_800_000_000 * 1_000_000 // HOUR_US * HOUR_US


def snapshot(calls_per_s: float, store: float = 0.0, process: float = 0.0) -> Snapshot:
    return Snapshot(
        0.001, 0.0001, 256.0, 10_000.0, calls_per_s, store, 0.5, process, 10.0, "store", ""
    )


class Machine:
    """A wall clock by hand, and the history of one run after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.at_us = folder, START_US
        self.history = PressureHistory(folder, lambda: self.at_us)
        self.writes = 0

    async def serve(self, seconds: float, *rates: float) -> None:
        """A look every few seconds; the rates take turns."""
        for turn in range(int(seconds / LOOK_S)):
            rate = rates[turn % len(rates)]
            if self.history.observe(snapshot(rate, rate / 10_000, rate / 20_000)):
                await self.history.save()
                self.writes += 1
            self.at_us += int(LOOK_S * 1e6)

    async def restart(self) -> None:
        await self.history.close()
        self.history = PressureHistory(self.folder, lambda: self.at_us)
        self.history.load()

    def samples(self) -> list[dict[str, float]]:
        text = (self.folder / FILE_NAME).read_text()
        return [json.loads(line) for line in text.splitlines()]


async def test_an_hour_is_one_line_with_its_busiest_minute(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    await machine.serve(1800, 100.0)
    await machine.serve(60, 900.0, 700.0)
    await machine.serve(1740, 100.0)
    assert not (tmp_path / FILE_NAME).exists()
    await machine.serve(10, 5.0)
    assert machine.samples() == [
        {"at_us": START_US, "calls_per_s": 800.0, "store": 0.08, "process": 0.04}
    ]
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


async def test_it_writes_at_most_once_an_hour(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    await machine.serve(5 * 3600, 100.0)
    assert machine.writes == 4
    assert len(machine.samples()) == 4


async def test_a_restart_within_the_hour_loses_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    await machine.serve(600, 900.0)
    await machine.restart()
    await machine.serve(600, 100.0)
    await machine.restart()
    assert [line["calls_per_s"] for line in machine.samples()] == [900.0]


async def test_a_burst_of_one_look_is_no_peak(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    await machine.serve(55, 100.0)
    await machine.serve(5, 1300.0)
    await machine.restart()
    assert machine.samples()[0]["calls_per_s"] == 200.0


async def test_of_a_minute_hardly_seen_nothing_is_said(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    await machine.serve(25, 9000.0)
    await machine.restart()
    assert not (tmp_path / FILE_NAME).exists()
    await machine.serve(90, 100.0)
    await machine.restart()
    assert machine.samples()[0]["calls_per_s"] == 100.0


async def test_growth_over_restarts_is_foretold(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    for day in range(14):
        for hour in range(24):
            machine.at_us = START_US + day * DAY_US + hour * HOUR_US
            await machine.serve(60, 1000.0 if hour != 12 else 3600.0 + 200.0 * day)
        if day == 8:
            assert machine.history.outlook(10_000.0).forecast is None
        await machine.restart()
    seen = machine.history.outlook(10_000.0)
    assert seen.forecast is not None
    assert seen.forecast.days == pytest.approx(9.0, abs=0.1)
    assert seen.days_known == 14
    assert seen.peak_store == pytest.approx(0.62)
    assert len(machine.samples()) == 14 * 24


async def test_it_keeps_sixty_days_and_the_file_stays_small(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    for hour in range(HOURS_MAX + 50):
        machine.at_us = START_US + hour * HOUR_US
        for _ in range(6):
            machine.history.observe(snapshot(12_345.678, 0.5123, 0.2123))
    await machine.restart()
    lines = machine.samples()
    assert len(lines) == HOURS_MAX
    assert lines[0]["at_us"] == START_US + 50 * HOUR_US
    assert (tmp_path / FILE_NAME).stat().st_size < FILE_BYTES_MAX / 4


async def test_a_clock_that_is_wrong_for_a_while_costs_no_history(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    await machine.serve(3 * 3600, 100.0)
    now_us = machine.at_us
    for wrong_us in (0, START_US + 400 * DAY_US):
        machine.at_us = wrong_us
        await machine.restart()
        await machine.serve(120, 5000.0)
    machine.at_us = now_us
    await machine.restart()
    assert {START_US + hour * HOUR_US for hour in range(3)} <= {
        line["at_us"] for line in machine.samples()
    }
    assert machine.history.outlook(10_000.0).peak_store == pytest.approx(0.01)


@pytest.mark.parametrize("line", [
    "", "{", "[]", "7", "null", '{"at_us":1}',
    '{"at_us":"x","calls_per_s":1,"store":1,"process":1}',
    '{"at_us":-1,"calls_per_s":1,"store":1,"process":1}',
    '{"at_us":1,"calls_per_s":NaN,"store":1,"process":1}',
    '{"at_us":1,"calls_per_s":1,"store":-1,"process":1}',
    '{"at_us":1e999,"calls_per_s":1,"store":1,"process":1}',
    "[" * 100_000, "\x00\xff",
])  # fmt: skip
async def test_a_line_that_is_no_sample_is_passed_over(
    tmp_path: Path, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    machine = Machine(tmp_path)
    await machine.serve(2 * 3600, 100.0)
    await machine.restart()
    good = machine.samples()
    with (tmp_path / FILE_NAME).open("a", encoding="latin-1") as handle:
        handle.write(line + "\n")
    await machine.restart()
    assert "cannot be read" in caplog.text
    machine.at_us += HOUR_US
    await machine.serve(60, 1.0)
    await machine.restart()
    assert machine.samples()[: len(good)] == good
    assert len(machine.samples()) == len(good) + 1


async def test_what_cannot_be_read_or_written_is_logged_and_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    (tmp_path / FILE_NAME).mkdir()
    machine = Machine(tmp_path)
    machine.history.load()
    assert "cannot be read" in caplog.text
    await machine.serve(3700, 100.0)
    assert "cannot be written" in caplog.text
    assert machine.history.outlook(10_000.0).peak_store > 0
    # As soon as it can be written, nothing is missing.
    (tmp_path / FILE_NAME).rmdir()
    await machine.serve(3600, 50.0)
    assert [line["calls_per_s"] for line in machine.samples()] == [100.0, 100.0]


async def test_it_runs_beside_the_sidecar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pressure_history, "START_S", 0.05)
    monkeypatch.setattr(pressure_history, "LOOK_S", 0.001)
    at_start: list[float] = []
    started = time.perf_counter()

    def look() -> Snapshot:
        at_start.append(time.perf_counter() - started)
        return snapshot(500.0)

    history = PressureHistory(tmp_path, lambda: START_US)
    task = asyncio.create_task(history.run(look))
    while len(at_start) < 10:
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await history.close()
    # What the start itself costs is not seen.
    assert at_start[0] >= 0.05
    assert json.loads((tmp_path / FILE_NAME).read_text())["calls_per_s"] == 500.0


# -- the files of the data folder ------------------------------------------------------------


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert read_small(path, 10) is None
    replace_file(path, b"old")
    assert read_small(path, 3) == b"old"
    with pytest.raises(OSError, match="larger"):
        read_small(path, 2)
    # The control: an obstacle in the way of the new content leaves the old.
    obstacle = tmp_path / f".a.json.{os.getpid()}.new"
    obstacle.mkdir()
    with pytest.raises(OSError):
        replace_file(path, b"new")
    assert read_small(path, 10) == b"old"
    obstacle.rmdir()
    replace_file(path, b"new")
    assert read_small(path, 10) == b"new"
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"]


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    (tmp_path / f".a.json.{os.getpid()}.new").symlink_to(target)
    replace_file(tmp_path / "a.json", b"new")
    assert (target.read_bytes(), (tmp_path / "a.json").is_symlink()) == (b"precious", False)
    (tmp_path / "a.json").unlink()
    (tmp_path / "a.json").symlink_to(target)
    replace_file(tmp_path / "a.json", b"new")
    assert (target.read_bytes(), (tmp_path / "a.json").read_bytes()) == (b"precious", b"new")
