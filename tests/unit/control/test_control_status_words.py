"""What `store status` says: where the limit is, the headroom, the trend, and what to do."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from control_setup import control_plane

from sidecar.cli.store_status import lines_of
from sidecar.control.status import Identity, advice, status_of
from storage.errors import StoreFull
from storage.forecast import Forecast, Outlook
from storage.pressure import Snapshot

A, B, LARGEST = 0.0005, 0.000_05, 256.0


def snapshot(store: float, process: float, fixed_s: float = A) -> Snapshot:
    return Snapshot(
        fixed_s=fixed_s,
        per_call_s=B,
        largest_batch_calls=LARGEST,
        ceiling_calls_per_s=20_000.0,
        committed_calls_per_s=20_000.0 * store,
        utilisation=store,
        writer_busy=0.9,
        loop_busy=process,
        room_calls_per_s=100.0,
        nearest_limit="store" if store >= process else "process",
        sentence="The store is at …",
    )


def foretold(days: float, resource: Any = "store") -> Forecast:
    return Forecast(resource, 0.8, days, 0.02)


NEAR, FAR = foretold(9.0), foretold(45.0)
SLOW_DISK_S = 0.02


@pytest.mark.parametrize(("engine", "pressure", "forecast", "words"), [
    # Nothing is near, nothing grows: nothing is said.
    ("sqlite", snapshot(0.1, 0.2), None, []),
    ("postgresql", snapshot(0.69, 0.2), FAR, []),
    # The store, on a file.
    ("sqlite", snapshot(0.9, 0.2), None, ["Now: a faster core raises", "`store move`"]),
    ("sqlite", snapshot(0.75, 0.2), None, ["Plan ahead: a faster core"]),
    ("sqlite", snapshot(0.9, 0.2, SLOW_DISK_S), None, ["Now: a faster disk raises", "second"]),
    ("sqlite", snapshot(0.2, 0.1), NEAR, ["Plan ahead: a faster core"]),
    # The store, on a server: never advised to move to where it is.
    ("postgresql", snapshot(0.9, 0.2), None, ["Now: give the database", "larger batches"]),
    ("postgresql", snapshot(0.9, 0.2, SLOW_DISK_S), None, ["Now: bring the database nearer"]),
    # The process.
    ("sqlite", snapshot(0.2, 0.9), None, ["Now: give the sidecar a faster core", "divide"]),
    ("sqlite", snapshot(0.2, 0.1), foretold(5, "process"), ["Plan ahead: give the sidecar"]),
    ("postgresql", snapshot(0.2, 0.75), None, ["Plan ahead: start a second sidecar on the same"]),
    # What is near now goes before what is foretold.
    ("postgresql", snapshot(0.2, 0.75), NEAR, ["Plan ahead: start a second sidecar on the same"]),
])  # fmt: skip
def test_what_to_do(
    engine: str, pressure: Snapshot, forecast: Forecast | None, words: list[str]
) -> None:
    said = advice(engine, pressure, forecast)
    assert bool(said) == bool(words)
    for part in words:
        assert part in said
    assert ("`store move`" in said) <= (engine == "sqlite")


def store_status(**changes: Any) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "sentence": "The store is at 45%.",
        "trend": "The store reaches 80 % in about 9 days at this growth.",
        "advice": "Plan ahead: a faster core.",
        "calibrated": "Calibrated on 2027-01-15 on box: 18,880 calls/s.",
        "peak_utilisation_of_last_day": 0.5,
        "peak_loop_busy_of_last_day": 0.2,
        "engine": "sqlite",
        "engine_version": "3.40.1",
        "ceiling_calls_per_s": 20_000.0,
        "commit_fixed_s": A,
        "commit_per_call_s": B,
        "largest_batch_calls": LARGEST,
        "file_bytes": 5 * 1024**2,
        "wal_bytes": 2048,
        "warnings": ["old engine"],
    }
    return parts | changes


def test_the_lines() -> None:
    assert lines_of(store_status()) == [
        "The store is at 45%.",
        "The store reaches 80 % in about 9 days at this growth.",
        "Plan ahead: a faster core.",
        "A commit takes about 0.50 ms and 50 µs for each call in it (at most 256).",
        "Busiest minute of the last day: 50% of the store, 20% of the process.",
        "Calibrated on 2027-01-15 on box: 18,880 calls/s.",
        "sqlite 3.40.1, 5.0 MiB, write-ahead log 2.0 KiB.",
        "warning: old engine",
    ]


@pytest.mark.parametrize(("changes", "there", "gone"), [
    ({"trend": "", "advice": ""}, ["A commit takes"], ["Plan ahead", "9 days"]),
    ({"ceiling_calls_per_s": 0.0}, ["Plan ahead"], ["A commit takes"]),
    ({"peak_utilisation_of_last_day": 0.0, "peak_loop_busy_of_last_day": 0.0},
     ["Calibrated on"], ["Busiest"]),
    ({"calibrated": ""}, ["`store calibrate` measures longer"], ["Calibrated on"]),
    ({"calibrated": "", "engine": "postgresql"}, ["Not calibrated"], ["briefly"]),
    ({"wal_bytes": 17, "file_bytes": 3 * 1024**3}, ["3.0 GiB", "log 17 B"], []),
])  # fmt: skip
def test_lines_that_come_and_go(changes: dict[str, Any], there: list[str], gone: list[str]) -> None:
    text = "\n".join(lines_of(store_status(**changes)))
    for words in there:
        assert words in text
    for words in gone:
        assert words not in text


def test_a_sidecar_that_knows_no_trend_is_understood() -> None:
    older = store_status()
    for name in ("trend", "advice", "calibrated"):
        del older[name]
    del older["peak_utilisation_of_last_day"], older["peak_loop_busy_of_last_day"]
    assert lines_of(older)[0] == "The store is at 45%."


async def test_the_status_carries_the_trend_and_the_advice(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as setup:
        await setup.record()
        sources = dataclasses.replace(setup.state._sources, pressure=lambda: snapshot(0.45, 0.2))
        identity = dataclasses.replace(setup.state._identity, calibrated="Calibrated then.")
        asked: list[float] = []

        def outlook_at(ceiling: float) -> Outlook:
            asked.append(ceiling)
            return Outlook(NEAR, 14, 0.5, 0.2)

        def store(identity: Identity, outlook: Any) -> Any:
            return status_of(
                identity, sources, setup.clock,
                not_ready=[], outlook_at=outlook, backed_up="Backed up then.",
            )["store"]  # fmt: skip

        told = store(identity, outlook_at)
        plain = store(setup.state._identity, None)
        setup.queue._pump.health.failed(StoreFull("no space on the disk"))
        sick = store(identity, outlook_at)
        setup.queue._pump.health.is_well = True
    assert asked == [20_000.0, 20_000.0]
    assert told["trend"] == "The store reaches 80 % in about 9 days at this growth."
    assert told["advice"].startswith("Plan ahead")
    assert told["calibrated"] == "Calibrated then."
    assert told["backed_up"] == plain["backed_up"] == "Backed up then."
    assert told["forecast"] == {
        "resource": "store", "limit": 0.8, "days": 9.0, "growth_per_day": 0.02,
    }  # fmt: skip
    assert (told["days_known"], told["peak_utilisation_of_last_day"]) == (14, 0.5)
    assert (plain["trend"], plain["forecast"], plain["advice"], plain["calibrated"]) == (
        "", None, "", "",
    )  # fmt: skip
    assert sick["sentence"].startswith("The store does not commit (store_full)")
    assert lines_of(store_status(**sick))[1:3] == [
        "cause: no space on the disk", f"    {StoreFull.next_step}",
    ]  # fmt: skip
    assert plain["cause"] == plain["next_step"] == ""
    assert not any("cause" in line for line in lines_of(store_status(**plain)))
    assert SimpleNamespace(**plain).utilisation == 0.45
