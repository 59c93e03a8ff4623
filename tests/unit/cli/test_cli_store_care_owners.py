"""Whose files are: commands of care are often run as root, in the folder of the sidecar's user."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from store_care_setup import CLOCK, call, filled, reports, store_command, url_of

from sidecar.data_file import replace_file
from sidecar.ledger.witness import FILE_NAME, Witness, WitnessUnreadable
from storage.errors import StoreReadOnly, StoreUnavailable
from storage.sqlite_file import FileLock
from storage.sqlite_log import check_log

SIDECAR = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def as_of_the_sidecar(folder: Path) -> Path:
    """A store, and the folder that it is in, of another user."""
    folder.mkdir()
    path = filled(folder / "aegis.db", call(10, age_days=9), call(11))
    for each in (folder, *folder.iterdir()):
        os.chown(each, SIDECAR, SIDECAR)
    return path


def owners(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_uid for path in folder.iterdir()}


@needs_root
def test_what_root_does_in_the_sidecars_folder_keeps_no_sidecar_from_starting(
    tmp_path: Path,
) -> None:
    folder, copy = tmp_path / "data", tmp_path / "copy.db"
    path = as_of_the_sidecar(folder)
    Witness(folder, url_of(path), CLOCK.now_us).write({})
    (folder / "aegis.db.lock").unlink()
    assert store_command("backup", path, copy) == 0
    assert store_command("prune", path, "call_facts", "--older-than", "5d") == 0
    assert store_command("restore", path, copy, "--replace") == 0
    found = owners(folder)
    assert {"aegis.db", "aegis.db.lock", "aegis.db.backup.json", FILE_NAME} <= found.keys()
    assert set(found.values()) == {SIDECAR}, found
    assert copy.stat().st_uid == 0, "a copy in a folder of root's is root's"
    assert reports(path)[0].fault is None


@needs_root
def test_what_a_name_leads_to_is_not_given_away(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "data", tmp_path / "roots"
    path = as_of_the_sidecar(folder)
    elsewhere.write_bytes(b"root's")
    (folder / "aegis.db.lock").unlink()
    (folder / "aegis.db.lock").symlink_to(elsewhere)
    with pytest.raises(StoreUnavailable):
        FileLock(path)
    assert (elsewhere.stat().st_uid, elsewhere.read_bytes()) == (0, b"root's")
    (folder / f".heads.json.{os.getpid()}.new").symlink_to(elsewhere)
    replace_file(folder / "heads.json", b"{}")
    assert (elsewhere.stat().st_uid, elsewhere.read_bytes()) == (0, b"root's")
    assert owners(folder)["heads.json"] == SIDECAR


@needs_root
def test_root_that_may_give_nothing_away_works_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container without capabilities."""
    path = as_of_the_sidecar(tmp_path / "data")
    asked: list[int] = []

    def refused(_: int, user: int, __: int) -> None:
        asked.append(user)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refused)
    (path.parent / "aegis.db.lock").unlink()
    assert store_command("prune", path, "call_facts", "--older-than", "5d") == 0
    assert SIDECAR in asked and owners(path.parent)["aegis.db.lock"] == 0


def test_a_file_that_is_somebody_elses_is_not_said_to_be_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = filled(tmp_path / "aegis.db", call(10))
    (tmp_path / FILE_NAME).write_bytes(b"{}")
    witness = Witness(tmp_path, url_of(path), CLOCK.now_us)
    with pytest.raises(WitnessUnreadable) as broken:
        witness.read()
    assert "Put it back from a copy" in broken.value.next_step, "control"

    def refused(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("sidecar.ledger.witness.read_small", refused)
    with pytest.raises(WitnessUnreadable, match="Permission denied") as foreign:
        witness.read()
    assert "chown" in foreign.value.next_step and "Put it back" not in foreign.value.next_step
    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(StoreReadOnly, match=r"aegis\.db-wal: Permission denied"):
        check_log(path)
