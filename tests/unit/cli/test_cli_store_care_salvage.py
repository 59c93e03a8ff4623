"""A11: `store salvage` makes a new store of what is sound, and never writes to the damaged one."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from random import Random
from typing import Any

import pytest
from store_care_setup import call, filled, held, reports, rows, store_command, tampered

from storage.backup import TargetExists
from storage.records import RecordedEvent
from storage.salvage import Salvage
from storage.watch_reads import WatchReads


def damaged(folder: Path) -> Path:
    return filled(
        folder / "aegis.db",
        *(call(number) for number in range(40)),
        call(40, ends=False),
        *(call(number, "beta") for number in range(3)),
    )


def state_of(path: Path) -> dict[str, tuple[str, int]]:
    """Every file of the store, by content and time."""
    return {
        one.name: (hashlib.sha256(one.read_bytes()).hexdigest(), one.stat().st_mtime_ns)
        for one in path.parent.glob("aegis.db*")
        if not one.name.endswith(".lock")
    }


def test_a11_receipts_up_to_the_first_bad_one_are_salvaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, target = damaged(tmp_path), tmp_path / "salvaged.db"
    wanted = reports(path)
    tampered(path, "UPDATE receipts SET agent_id = 'eve' WHERE tenant_id = 'acme' AND seq = 31")
    tampered(path, "UPDATE call_facts SET arguments = '{}' WHERE tenant_id = 'acme' AND seq = 5")
    before = state_of(path)
    assert store_command("salvage", path, target) == 0
    assert state_of(path) == before
    printed = capsys.readouterr().out
    assert "tenant 'acme': receipts 1 to 30 salvaged, 14 with facts" in printed
    assert "LOST: all after receipt 30 (the last one was said to be 81); 1 fact: " in printed
    assert "receipt 31: its content does not match its receipt_hash" in printed
    assert "tenant 'beta': receipts 1 to 6 salvaged, 3 with facts" in printed
    acme, beta = reports(target)
    assert (acme.last_seq, acme.facts, acme.fault) == (30, 14, None)
    assert beta == wanted[1]
    assert target.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir() if "salv" in one.name] == ["salvaged.db"]
    # What was in flight at the end is closed as unknown by the next start.
    assert rows(target, "SELECT count(*) FROM open_intent") == [(0,)]
    filled(target, call(900))
    # In the old one's place, the chain says what was lost.
    assert store_command("restore", path, target, "--replace") == 0
    assert "tenant 'acme': receipts 33 to 81 were recorded after the backup" in (
        capsys.readouterr().err
    )
    assert [report.fault for report in reports(path)] == [None, None]


def test_large_arguments_are_carried_a_few_at_a_time_and_lost_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A thousand calls with a mebibyte each must not be held at once."""
    path, carried = damaged(tmp_path), list[int]()
    recorded_after, put = WatchReads.recorded_after, Salvage.put

    async def few(reads: WatchReads, tenant: str, after: int, limit: int) -> list[RecordedEvent]:
        return await recorded_after(reads, tenant, after, limit, 200)

    async def counted(filling: Salvage, tenant: str, receipts: Any, facts: Any) -> None:
        carried.append(len(facts))
        await put(filling, tenant, receipts, facts)

    monkeypatch.setattr(WatchReads, "recorded_after", few)
    monkeypatch.setattr(Salvage, "put", counted)
    assert store_command("salvage", path, tmp_path / "whole.db") == 0
    assert reports(tmp_path / "whole.db") == reports(path) and "LOST" not in capsys.readouterr().out
    assert sum(carried) == 44 and max(carried) <= 8, carried
    monkeypatch.undo()
    page_bytes, data = 4096, bytearray(path.read_bytes())
    at = data.index(b"secret-20-") // page_bytes * page_bytes
    beside = bytes(data[at : at + page_bytes]).count(b"secret-")
    data[at : at + page_bytes] = b"\xff" * page_bytes
    path.write_bytes(data)
    assert store_command("salvage", path, tmp_path / "part.db") == 0
    kept = 41 - beside
    assert f"receipts 1 to 81 salvaged, {kept} with facts" in capsys.readouterr().out
    assert 0 < beside < 41 and reports(tmp_path / "part.db")[0].facts == kept


def test_a_sound_store_is_salvaged_as_a_whole_with_what_is_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, target = damaged(tmp_path), tmp_path / "salvaged.db"
    assert store_command("salvage", path, target) == 0
    assert "LOST" not in capsys.readouterr().out
    assert reports(target) == reports(path)
    tables = ("receipts", "call_facts", "chain_head")
    for table in tables:
        assert sorted(rows(target, f"SELECT * FROM {table}")) == sorted(
            rows(path, f"SELECT * FROM {table}")
        )
    assert rows(target, "SELECT call_id FROM open_intent") == [("acme-000040",)]


def test_a11_what_decisions_of_today_rest_on_is_carried_over_or_named_as_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that read what it should not, and a budget that is used up, stay so."""
    path, target = damaged(tmp_path), tmp_path / "salvaged.db"
    tampered(path, "INSERT INTO run_head VALUES ('acme', 'coder', 3, 'gathered')")
    tampered(path, "INSERT INTO limit_bucket VALUES ('acme', 'p/r', '[]', '7:100', 9)")
    tampered(path, "INSERT INTO tool_pin VALUES ('acme', 'u', 't', 4, '{}', 'h', 1, '', '', 0)")
    assert store_command("salvage", path, target) == 0
    assert "LOST" not in capsys.readouterr().out
    for table in ("run_head", "limit_bucket", "tool_pin"):
        assert rows(target, f"SELECT * FROM {table}") == rows(path, f"SELECT * FROM {table}") != []
    pages = dict(rows(path, "SELECT name, rootpage FROM sqlite_master WHERE type = 'table'"))
    page_bytes = rows(path, "PRAGMA page_size")[0][0]
    tampered(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    whole = path.read_bytes()
    for table, word in (
        ("run_head", "gathered"), ("limit_bucket", "budgets"), ("tool_pin", "pinned"),
    ):  # fmt: skip
        at = (pages[table] - 1) * page_bytes
        path.write_bytes(whole[:at] + b"\xff" * page_bytes + whole[at + page_bytes :])
        assert store_command("salvage", path, tmp_path / f"{table}.db") == 0
        lost = [line for line in capsys.readouterr().out.splitlines() if line.startswith("LOST")]
        assert len(lost) == 1 and word in lost[0]


def test_a_store_whose_layout_is_lost_is_not_sent_to_salvage_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = damaged(tmp_path)
    pages = dict(rows(path, "SELECT name, rootpage FROM sqlite_master WHERE type = 'table'"))
    at, whole = (pages["schema_migration"] - 1) * 4096, path.read_bytes()
    path.write_bytes(whole[:at] + b"\xff" * 4096 + whole[at + 4096 :])
    assert store_command("salvage", path, tmp_path / "new.db") == 1
    said = capsys.readouterr().err
    assert "`store restore` a backup" in said and "`store salvage`" not in said
    assert not (tmp_path / "new.db").exists()


def test_a_chain_that_was_pruned_is_salvaged_with_its_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = filled(
        tmp_path / "aegis.db", *(call(n, age_days=9) for n in range(4)), *(call(n) for n in (7, 8))
    )
    archive = tmp_path / "archive.jsonl"
    pruned = store_command("prune", path, "receipts", "--older-than", "5d", "--archive", archive)
    assert pruned == 0
    before = reports(path)
    assert before[0].cut is not None
    target = tmp_path / "salvaged.db"
    assert store_command("salvage", path, target) == 0
    assert reports(target) == before
    # Without the receipt that tells of the cut, nothing of it can be believed.
    tampered(path, "UPDATE receipts SET agent_id = 'eve' WHERE seq = 9")
    capsys.readouterr()
    assert store_command("salvage", path, tmp_path / "other.db") == 1
    assert "nothing of" in capsys.readouterr().err
    assert not (tmp_path / "other.db").exists()


def test_a11_whatever_flips_the_source_is_only_read_and_the_new_store_verifies(
    tmp_path: Path,
) -> None:
    path = damaged(tmp_path)
    whole, wanted = path.read_bytes(), {report.tenant_id: report for report in reports(path)}
    chance, made = Random(4), 0
    for number in range(12):
        flipped = bytearray(whole)
        for _ in range(3):
            page = chance.randrange(1, len(whole) // 4096) * 4096
            at = page + chance.randrange(4096 - 64)
            flipped[at : at + 64] = os.urandom(64)
        path.write_bytes(flipped)
        before, target = state_of(path), tmp_path / f"salvaged-{number}.db"
        code = store_command("salvage", path, target)
        assert state_of(path) == before
        assert target.exists() == (code == 0)
        if code == 0:
            made += 1
            for report in reports(target):
                assert report.fault is None
                assert report.last_seq <= wanted[report.tenant_id].last_seq
    assert made > 5, made


def test_a_store_in_use_and_a_file_in_the_way_are_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, target = damaged(tmp_path), tmp_path / "salvaged.db"
    assert held(path, lambda: store_command("salvage", path, target)) == 1
    assert "stop it first" in capsys.readouterr().err
    target.write_text("precious")
    assert store_command("salvage", path, target) == 1
    assert TargetExists.code in capsys.readouterr().err
    assert target.read_text() == "precious"
    assert store_command("salvage", tmp_path / "none.db", tmp_path / "new.db") == 1
    assert "there is no store" in capsys.readouterr().err
