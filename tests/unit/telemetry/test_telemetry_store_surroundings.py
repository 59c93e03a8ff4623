"""The room on the store's disk and its last backup, for who scrapes; one that hangs tells none."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

import pytest
from telemetry_setup import make_sources
from test_telemetry_metrics import scrape

from sidecar import backup_file
from sidecar.backup_file import Backup
from sidecar.telemetry import store_surroundings
from sidecar.telemetry.store_surroundings import StoreSurroundings, Surroundings

BEGUN_US = 1_700_000_000_000_000


def looked(surroundings: StoreSurroundings) -> Surroundings:
    return asyncio.run(surroundings.look())


def test_the_last_backup_is_told_and_none_where_none_is_known(tmp_path: Path) -> None:
    store = tmp_path / "aegis.db"
    surroundings = StoreSurroundings(tmp_path, store)
    assert looked(surroundings).backup_at_us == 0
    for at_us in (BEGUN_US, BEGUN_US + 1):
        backup_file.keep(store, Backup(at_us=at_us, file_bytes=1, target="/mnt/copy.db"))
        assert looked(surroundings).backup_at_us == at_us
    (tmp_path / "aegis.db.backup.json").unlink()
    assert looked(surroundings).backup_at_us == 0


def test_what_is_kept_of_it_and_cannot_be_read_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not at each scrape."""
    surroundings = StoreSurroundings(tmp_path, tmp_path / "aegis.db")
    (tmp_path / "aegis.db.backup.json").write_text("{")
    with caplog.at_level(logging.WARNING):
        assert [looked(surroundings).backup_at_us for _ in range(3)] == [0, 0, 0]
    assert len(caplog.records) == 1


def test_of_a_store_that_a_server_keeps_no_backup_is_told(tmp_path: Path) -> None:
    found = looked(StoreSurroundings(tmp_path, None))
    assert found.backup_at_us is None
    assert found.free_bytes is not None and found.free_bytes > 0


def test_a_folder_that_is_gone_has_no_room_to_tell_of(tmp_path: Path) -> None:
    assert looked(StoreSurroundings(tmp_path / "gone", None)).free_bytes is None


def test_a_disk_that_hangs_keeps_no_scrape_and_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answers = [], threading.Event()

    def hang(folder: Path) -> int:
        asked.append(folder)
        answers.wait(20)
        return 5

    monkeypatch.setattr(store_surroundings, "_free_bytes", hang)
    monkeypatch.setattr(store_surroundings, "WAIT_S", 0.05)

    async def look_and_look() -> list[Surroundings]:
        surroundings = StoreSurroundings(tmp_path, None)
        found = [await surroundings.look() for _ in range(3)]
        answers.set()
        await asyncio.sleep(0.2)
        return [*found, await surroundings.look()]

    found = asyncio.run(look_and_look())
    assert found[:3] == [Surroundings()] * 3
    assert found[3].free_bytes == 5
    assert len(asked) == 2


def test_what_is_not_known_has_no_sample() -> None:
    async def nothing() -> Surroundings:
        return Surroundings()

    names = ("aegis_data_disk_free_bytes ", "aegis_store_last_backup_timestamp_seconds ")
    known, unknown = scrape(make_sources()), scrape(make_sources(surroundings=nothing))
    for name in names:
        assert f"\n{name}" in known and f"\n{name}" not in unknown
