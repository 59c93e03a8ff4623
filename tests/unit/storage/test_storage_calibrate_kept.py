"""`store calibrate`: the figures, the file they are kept in, and nothing left beside the store."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

import postgres_server
from storage_sqlite_setup import mounted

import storage
from sidecar.calibration import (
    CannotCalibrate,
    kept_figures,
    measure_figures,
    measure_store,
    place_of,
    scratch_folder,
    sync_p50_s,
)
from sidecar.calibration_file import FILE_NAME, Figures, Load, Place, keep, kept, kept_for
from sidecar.cli import store_calibrate
from sidecar.clock import Clock
from storage.commit_times import SIZES, CommitTime
from storage.errors import StoreHeld, StoreReadOnly, UnsupportedStore
from storage.open_loop import Served
from storage.pressure import Point, Pressure
from storage.scratch import scratch_schema

ROOT = Path(__file__).parents[3]
PLACE = Place(
    host="box",
    engine="sqlite",
    engine_version="3.40.1",
    file_system="ext4",
    settings={"synchronous": "full", "page_size": "4096"},
    batch_calls_max=256,
)
RUN = (
    "import argparse, sys\n"
    "from sidecar.cli import store_calibrate\n"
    "parser = argparse.ArgumentParser()\n"
    "store_calibrate.add_arguments(parser)\n"
    "sys.exit(store_calibrate.run(parser.parse_args()))\n"
)


def figures(**changes: Any) -> Figures:
    parts: dict[str, Any] = {
        "measured_at_us": 1_800_000_000_000_000,
        "date": "2027-01-15T08:00:00Z",
        "seconds": 10.0,
        "place": PLACE,
        "points": (Point(1, 0.00055), Point(256, 0.0133)),
        "handover_s": 0.000_001,
        "fixed_s": 0.0005,
        "per_call_s": 0.000_051,
        "ceiling_calls_per_s": 18_880.0,
        "largest_useful_batch_calls": 128,
        "sync_p50_s": 0.0002,
        "commits": (CommitTime(1, 300, 0.0006, 0.002), CommitTime(256, 30, 0.0133, 0.02)),
        "under_load": (Load(share=0.5, served=Served(9440.0, 9400.0, 0, 0.001, 0.004)),),
    }
    return Figures(**(parts | changes))


def write_config(folder: Path, store: str = "sqlite:///aegis.db") -> Path:
    config = folder / "sidecar.yaml"
    config.write_text(
        f"store: {store}\npolicies: ./none.yaml\nupstreams: {{demo: {{url: 'http://127.0.0.1:9'}}}}\n"
    )
    return config


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", RUN, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


# -- the whole ---------------------------------------------------------------------------------


def test_the_command_measures_keeps_and_explains(tmp_path: Path) -> None:
    done = command("--config", write_config(tmp_path), "--seconds", "1.5")
    assert (done.returncode, done.stderr) == (0, "")
    for words in (
        "A commit takes",
        "its ceiling.",
        "The disk takes",
        "calls in a batch",
        "75%",
        f"Kept in {tmp_path / FILE_NAME}",
    ):
        assert words in done.stdout
    # Neither the real store nor a scratch file came to be.
    assert sorted(path.name for path in tmp_path.iterdir()) == [FILE_NAME, "sidecar.yaml"]
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600
    found = kept(tmp_path)
    assert found is not None
    assert [one.calls for one in found.commits] == list(SIZES)
    assert [one.share for one in found.under_load] == [0.25, 0.5, 0.75]
    assert found.ceiling_calls_per_s > 100
    assert found.place.engine == "sqlite"
    assert found.place.settings["synchronous"] == "full"
    assert 0 < found.sync_p50_s < 1
    for one in found.under_load:
        assert 0 < one.served.p50_s <= one.served.p99_s


async def test_the_next_start_begins_with_the_kept_figures(tmp_path: Path) -> None:
    clock = Clock()
    url = f"sqlite:///{tmp_path}/aegis.db"
    store = await storage.open_store(url, now_us=clock.now_us)
    try:
        assert await kept_figures(store, url, tmp_path) is None
        here = await place_of(store, url)
        keep(tmp_path, figures(place=here))
        found = await kept_figures(store, url, tmp_path)
    finally:
        await store.close()
    assert found is not None
    calibration = found.calibration()
    pressure = Pressure(
        batch_entries_max=512,
        monotonic_ns=clock.monotonic_ns,
        loop_cpu_ns=lambda: 0,
        seeds=calibration.points,
        handover_s=calibration.handover_s,
    )
    before = pressure.snapshot()
    assert before.ceiling_calls_per_s == pytest.approx(found.ceiling_calls_per_s, rel=0.01)
    # The running fit corrects it: the disk has become ten times as slow.
    for _ in range(200):
        pressure.observe(2, 0.0055)
    assert pressure.snapshot().fixed_s == pytest.approx(0.0055, rel=0.1)
    assert pressure.snapshot().ceiling_calls_per_s < before.ceiling_calls_per_s


async def test_the_real_store_is_not_touched(tmp_path: Path) -> None:
    """It may even be held by a running sidecar: the scratch store lies beside it."""
    clock = Clock()
    url = f"sqlite:///{tmp_path}/aegis.db"
    store = await storage.open_store(url, now_us=clock.now_us)
    try:
        before = (tmp_path / "aegis.db").read_bytes()
        found = await measure_figures(url, clock, 1.0)
        assert (tmp_path / "aegis.db").read_bytes() == before
    finally:
        await store.close()
    assert found.place.file_system
    assert not list(tmp_path.glob(".calibration*"))


def test_what_a_killed_measurement_left_goes_with_the_next(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    started = subprocess.Popen(
        [sys.executable, "-c", RUN, "--config", str(config), "--seconds", "30"], cwd=ROOT
    )
    try:
        until = time.monotonic() + 20
        while not list(tmp_path.glob(".calibration-*.db-wal")) and time.monotonic() < until:
            time.sleep(0.05)
    finally:
        started.send_signal(signal.SIGKILL)
        started.wait(10)
    assert list(tmp_path.glob(".calibration-*.db"))
    assert command("--config", config, "--seconds", "1").returncode == 0
    assert not list(tmp_path.glob(".calibration*"))


async def test_a_measurement_under_way_is_not_swept(tmp_path: Path) -> None:
    other = tmp_path / ".calibration-1.db"
    held = await storage.open_store(f"sqlite:///{other}", now_us=lambda: 1)
    try:
        assert (await measure_store(tmp_path, Clock())).points
        assert other.exists()
    finally:
        await held.close()
    assert (await measure_store(tmp_path, Clock())).points
    assert not other.exists()


@pytest.mark.parametrize(("size", "is_measured"), [("16m", False), ("96m", True)])
async def test_a3_a_start_does_not_measure_on_a_disk_that_is_nearly_full(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, size: str, is_measured: bool
) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", f"size={size}", "tmpfs") as disk:
        with caplog.at_level(logging.WARNING, "aegis.store"):
            assert bool((await measure_store(disk, Clock())).points) is is_measured
        assert not list(disk.glob(".calibration*"))
    told = [one for one in caplog.records if "little is free on its disk" in one.message]
    assert bool(told) is not is_measured


# -- on a server -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres_dsn() -> Iterator[str]:
    with postgres_server.server() as dsn:
        yield dsn


async def schemas(url: str) -> list[str]:
    """Those that are ours, and how many receipts the real store has."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'aegis%' ORDER BY 1"
        )
        return [row[0] for row in rows]
    finally:
        await connection.close()


async def test_on_postgres_a_schema_of_its_own_comes_and_goes(
    postgres_dsn: str, tmp_path: Path
) -> None:
    clock = Clock()
    url = await postgres_server.new_database(postgres_dsn)
    store = await storage.open_store(url, now_us=clock.now_us, node_id="n1")
    try:
        found = await measure_figures(url, clock, 1.0)
        assert await schemas(url) == []
        assert await store.tenants() == []
        keep(tmp_path, found)
        assert await kept_figures(store, url, tmp_path) == found
    finally:
        await store.close()
    assert (found.place.engine, found.place.file_system, found.sync_p50_s) == ("postgresql", "", 0)
    assert found.place.settings["synchronous_commit"] == "on"
    assert found.place.settings["server"].startswith("127.0.0.1:")
    assert found.ceiling_calls_per_s > 100
    assert found.fixed_s + found.per_call_s > 0


async def test_on_postgres_one_at_a_time_and_what_was_left_goes(postgres_dsn: str) -> None:
    url = await postgres_server.new_database(postgres_dsn)
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE SCHEMA aegis_calibration")
    await connection.execute("CREATE TABLE aegis_calibration.left_over (x int)")
    await connection.close()
    async with scratch_schema(url) as scratch_url:
        assert scratch_url.endswith("?search_path=aegis_calibration")
        held = await storage.open_store(scratch_url, now_us=lambda: 1, node_id="n1")
        await held.close()
        with pytest.raises(StoreHeld, match="another calibration"):
            async with scratch_schema(url):
                pass
        assert await schemas(url) == ["aegis_calibration"]
    assert await schemas(url) == []


async def test_on_postgres_a_role_that_may_not_is_told(postgres_dsn: str) -> None:
    url = await postgres_server.new_database(postgres_dsn)
    name = url.rpartition("/")[2]
    admin = await asyncpg.connect(postgres_dsn)
    await admin.execute(f"ALTER DATABASE {name} OWNER TO CURRENT_USER")
    await admin.close()
    with pytest.raises(StoreReadOnly, match="may not create the schema"):
        async with scratch_schema(url):
            pass


# -- what is wrong is said ---------------------------------------------------------------------


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    store_calibrate.add_arguments(parser)
    return store_calibrate.run(parser.parse_args([str(argument) for argument in arguments]))


def test_an_unusable_configuration_is_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--config", tmp_path / "none.yaml") == 2
    assert "none.yaml" in capsys.readouterr().err
    for seconds in ("0.5", "601", "x", "nan"):
        with pytest.raises(SystemExit) as refused:
            run("--seconds", seconds)
        assert refused.value.code == 2


def test_a3_a_full_disk_is_refused_before_it_is_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100_000_000))
    assert run("--config", write_config(tmp_path), "--seconds", "10") == 1
    said = capsys.readouterr().err
    assert "100 MB are free" in said and "--seconds" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sidecar.yaml"]


async def test_a_place_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotCalibrate, match="gone"):
        await measure_figures(f"sqlite:///{tmp_path}/gone/aegis.db", Clock(), 1.0)
    with pytest.raises(CannotCalibrate, match="gone cannot be written"):
        sync_p50_s(tmp_path / "gone")
    assert scratch_folder("postgresql://db/aegis") is None
    with pytest.raises(UnsupportedStore):
        scratch_folder("mysql://db/aegis")
    assert scratch_folder(f"sqlite:///{tmp_path}/aegis.db") == tmp_path


# -- the file ----------------------------------------------------------------------------------


def test_what_is_kept_is_read_back(tmp_path: Path) -> None:
    assert kept(tmp_path) is None
    path = keep(tmp_path, figures())
    assert kept(tmp_path) == figures()
    assert path.read_text().startswith("{\n")
    keep(tmp_path, figures(seconds=20.0))
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
    assert kept_for(tmp_path, PLACE) == figures(seconds=20.0)


@pytest.mark.parametrize(("name", "value"), [
    ("host", "other"),
    ("engine", "postgresql"),
    ("engine_version", "3.51.3"),
    ("file_system", "xfs"),
    ("settings", {"synchronous": "normal", "page_size": "4096"}),
    ("batch_calls_max", 512),
])  # fmt: skip
def test_figures_of_another_place_are_not_used(
    tmp_path: Path, name: str, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    keep(tmp_path, figures())
    caplog.set_level(logging.INFO, "aegis.store")
    assert kept_for(tmp_path, PLACE.model_copy(update={name: value})) is None
    assert caplog.records[-1].detail.endswith(f"other {name}")  # type: ignore[attr-defined]


@pytest.mark.parametrize("change", [
    lambda text: "",
    lambda text: text[: len(text) // 2],
    lambda text: "[]",
    lambda text: json.dumps({**json.loads(text), "format": 2}),
    lambda text: json.dumps({**json.loads(text), "fixed_s": -1}),
    lambda text: text.replace("0.0005,", "NaN,"),
    lambda text: text + " " * 300_000,
], ids=["empty", "cut", "list", "format", "negative", "nan", "huge"])  # fmt: skip
def test_a_file_that_cannot_be_used_is_passed_over(
    tmp_path: Path, change: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = keep(tmp_path, figures())
    assert kept(tmp_path) is not None
    path.write_text(change(path.read_text()))
    assert kept(tmp_path) is None
    assert "cannot be read" in caplog.text


def test_a_file_that_cannot_be_written_is_an_error_and_leaves_the_old(tmp_path: Path) -> None:
    keep(tmp_path, figures())
    (tmp_path / f".{FILE_NAME}.{os.getpid()}.new").mkdir()
    with pytest.raises(OSError):
        keep(tmp_path, figures(seconds=99.0))
    assert kept(tmp_path) == figures()


# -- words -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("changes", "words"), [
    ({}, "A commit takes 0.50 ms, and 51 µs more for each call in it."),
    ({}, "carries about 18,880 calls/s: its ceiling."),
    ({}, "Batches of more than 128 calls carry hardly more"),
    ({}, "the fixed part is 4% of the cost at the ceiling: a faster core raises it, a faster disk"),
    ({"fixed_s": 0.02, "ceiling_calls_per_s": 7_760.0},
     "the fixed part is 61% of the cost at the ceiling: a faster disk raises it."),
    ({"sync_p50_s": 0.0}, "The fixed part is 4% of the cost at the ceiling: a faster core raises"),
    ({"largest_useful_batch_calls": 512,
      "commits": (CommitTime(256, 300, 0.02, 0.03), CommitTime(512, 30, 0.03, 0.04))},
     "Batches of 512 calls would carry 33% more than those of 256"),
    ({}, "13.30 ms  20.00 ms (max)"),
    ({}, "0.60 ms         2.00 ms"),
    ({}, " 50%      9,440       9,400        0  1.00 ms  4.00 ms"),
])  # fmt: skip
def test_the_words(changes: dict[str, Any], words: str) -> None:
    assert words in "\n".join(store_calibrate.explained(figures(**changes), Path("/d/x.json")))


def test_the_sentence_for_the_status() -> None:
    assert figures().sentence() == "Calibrated on 2027-01-15 on box: 18,880 calls/s."


def test_the_settings_are_those_of_the_file(tmp_path: Path) -> None:
    """The control: the statement reads what is there, it does not repeat what should be."""
    from storage.statements import load_statements

    with sqlite3.connect(tmp_path / "other.db") as raw:
        raw.execute("PRAGMA page_size = 8192")
        raw.execute("PRAGMA synchronous = OFF")
        raw.execute("CREATE TABLE t (x)")
        found = dict(raw.execute(load_statements("sqlite")["engine_settings"]).fetchall())
    raw.close()
    assert (found["page_size"], found["synchronous"]) == ("8192", "off")
    assert found["journal_mode"] == "delete"
