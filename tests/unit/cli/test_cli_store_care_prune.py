"""`store prune`: facts go by age; receipts go only into an archive, and the rest still verifies."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import sqlite3
from pathlib import Path

import pytest
from store_care_setup import (
    call,
    filled,
    held,
    line_of,
    reports,
    rows,
    store_command,
    tampered,
    url_of,
)

import storage
from sidecar.cli.main import main
from sidecar.ledger.receipt import body_of
from sidecar.ledger.verify import verify_lines
from storage.records import ReceiptRow
from storage.retention import CareReader, Retention


def aged(folder: Path) -> Path:
    """Six calls of 100 days ago, four of today; another tenant with three and one."""
    return filled(
        folder / "aegis.db",
        *(call(n, age_days=100 - n) for n in range(6)),
        *(call(n, "beta", age_days=100 - n) for n in range(3)),
        *(call(n) for n in range(10, 14)),
        call(10, "beta"),
    )


def prune(path: Path, *arguments: str | Path) -> int:
    return store_command("prune", path, *arguments)


def test_an_age_of_before_all_time_is_that_of_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = aged(tmp_path)
    assert prune(path, "call_facts", "--older-than", "999999999d", "--dry-run") == 0
    assert capsys.readouterr().out.count("nothing is that old") == 2


def test_facts_go_by_age_and_every_receipt_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = aged(tmp_path)
    assert prune(path, "call_facts", "--older-than", "90d", "--dry-run") == 0
    assert "facts of 6 calls before" in capsys.readouterr().out
    assert [r.facts for r in reports(path)] == [10, 4]
    assert prune(path, "call_facts", "--older-than", "90d") == 0
    printed = capsys.readouterr().out
    assert "tenant 'acme': facts of 6 calls" in printed and "6 deleted" in printed
    assert [(r.facts, r.last_seq, r.fault) for r in reports(path)] == [(4, 21, None), (1, 9, None)]
    assert rows(path, "SELECT min(seq) FROM call_facts WHERE tenant_id = 'acme'") == [(13,)]
    assert b"secret-5-" not in path.read_bytes()
    # What each chain says of it stands in the chain.
    told = rows(path, "SELECT resource FROM receipts WHERE kind = 'control' ORDER BY tenant_id")
    assert told == [("call_facts up to receipt 12: 6",), ("call_facts up to receipt 6: 3",)]
    assert prune(path, "call_facts", "--older-than", "90d") == 0
    assert "tenant 'acme': nothing is that old" in capsys.readouterr().out
    assert reports(path)[0].last_seq == 21


def test_a_dry_run_changes_nothing_and_wants_no_store_to_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = aged(tmp_path)
    receipts = ("receipts", "--older-than", "90d", "--tenant", "acme", "--archive", "a.jsonl")
    for command in (("call_facts", "--older-than", "90d"), receipts):
        assert held(path, lambda asked=command: prune(path, *asked, "--dry-run")) == 0  # type: ignore[misc]
        assert "would go" in capsys.readouterr().out
        assert held(path, lambda asked=command: prune(path, *asked)) == 1, "control"  # type: ignore[misc]
        assert "[store_held]" in capsys.readouterr().err
    versions = "SELECT max(version), count(*) FROM schema_migration"
    with contextlib.closing(sqlite3.connect(path)) as older:
        older.execute("DELETE FROM schema_migration WHERE version > 14")
        older.commit()
    before = rows(path, versions)
    assert prune(path, *receipts, "--dry-run") == 0
    assert rows(path, versions) == before, "it brings no older store up to date"


def test_facts_of_one_tenant(tmp_path: Path) -> None:
    path = aged(tmp_path)
    assert prune(path, "call_facts", "--older-than", "90d", "--tenant", "beta") == 0
    assert [r.facts for r in reports(path)] == [10, 1]


def test_receipts_go_into_an_archive_and_the_rest_verifies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, archive = aged(tmp_path), tmp_path / "until-12.jsonl"
    whole = reports(path)
    command = ("receipts", "--older-than", "90d", "--tenant", "acme", "--archive", archive)
    assert prune(path, *command) == 0
    assert "12 receipts and 6 facts deleted" in capsys.readouterr().out
    assert archive.stat().st_mode & 0o777 == 0o600
    assert main(["receipts", "verify", str(archive)]) == 0
    assert "12 receipts of tenant 'acme', 1 to 12" in capsys.readouterr().out
    lines = [json.loads(line) for line in archive.read_bytes().splitlines()]
    assert "arguments" not in lines[0]
    acme, beta = reports(path)
    assert (acme.first_seq, acme.last_seq, acme.fault) == (13, 21, None)
    assert acme.cut is not None and acme.cut.receipt_hash == lines[-1]["receipt_hash"]
    assert acme.cut.archive_sha256 == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert beta == whole[1]
    assert rows(path, "SELECT min(seq) FROM receipts WHERE tenant_id = 'acme'") == [(13,)]
    assert store_command("info", path) == 0
    assert (
        f"receipts 1 to 12 are in archives, the last of them {archive}" in capsys.readouterr().out
    )


def test_the_tree_of_a_cut_chain_is_that_of_archive_and_rest(tmp_path: Path) -> None:
    """The frontier carried over the cut gives the root that an auditor with all lines computes."""
    path, archive = aged(tmp_path), tmp_path / "first.jsonl"
    command = ("receipts", "--older-than", "2340h", "--tenant", "acme", "--archive", archive)
    assert prune(path, *command) == 0
    lines = archive.read_bytes().splitlines(keepends=True)
    prev_hash = json.loads(lines[-1])["receipt_hash"]
    assert len(lines) == 6
    for row in rows(path, "SELECT * FROM receipts WHERE tenant_id = 'acme' ORDER BY seq"):
        receipt = ReceiptRow._make(row)
        lines.append(line_of(body_of(receipt, prev_hash), receipt.receipt_hash))
        prev_hash = receipt.receipt_hash
    verdict = verify_lines(lines)
    assert verdict.holds and verdict.count == 21
    acme = reports(path)[0]
    assert (acme.first_seq, acme.root, acme.head_hash) == (7, verdict.root, verdict.head_hash)


def test_a_second_cut_goes_on_from_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = aged(tmp_path)
    command = ("receipts", "--tenant", "acme", "--facts", "--older-than")
    assert prune(path, *command, "2340h", "--archive", tmp_path / "a.jsonl") == 0
    assert prune(path, *command, "90d", "--archive", tmp_path / "b.jsonl") == 0
    printed = capsys.readouterr().out
    assert "`receipts verify --first-seq 7`" in printed
    assert main(["receipts", "verify", str(tmp_path / "a.jsonl")]) == 0
    assert main(["receipts", "verify", "--first-seq", "7", str(tmp_path / "b.jsonl")]) == 0
    printed = capsys.readouterr().out
    both = (tmp_path / "a.jsonl").read_bytes() + (tmp_path / "b.jsonl").read_bytes()
    (tmp_path / "ab.jsonl").write_bytes(both)
    assert main(["receipts", "verify", str(tmp_path / "ab.jsonl")]) == 0
    assert "12 receipts" in capsys.readouterr().out
    assert b"secret-0-" in both and b"secret-5-" in both
    acme = reports(path)[0]
    assert (acme.first_seq, acme.last_seq, acme.fault) == (13, 22, None)
    assert prune(path, *command, "90d", "--archive", tmp_path / "c.jsonl") == 0
    assert "nothing is that old" in capsys.readouterr().out
    assert not (tmp_path / "c.jsonl").exists()


def test_a_pruned_store_is_backed_up_and_goes_on(tmp_path: Path) -> None:
    path, copy = aged(tmp_path), tmp_path / "copy.db"
    command = ("receipts", "--older-than", "90d", "--tenant", "acme", "--archive")
    assert prune(path, *command, tmp_path / "a.jsonl") == 0
    filled(path, call(90), call(91))
    assert store_command("backup", path, copy) == 0
    [acme, _] = reports(copy)
    assert (acme.first_seq, acme.last_seq, acme.fault) == (13, 25, None)
    assert store_command("erase", path, "--tenant", "acme", "--call", "acme-000090") == 0
    assert reports(path)[0].fault is None


@pytest.mark.parametrize(("sql", "said"), [
    ("UPDATE receipts SET action = 'x' WHERE kind = 'control'", "receipt 21"),
    ("UPDATE receipts SET tool = 'x' WHERE tenant_id = 'acme' AND seq = 13", "receipt 13"),
    ("DELETE FROM receipts WHERE tenant_id = 'acme' AND seq = 13", "receipt 13"),
    ("UPDATE store_state SET value = replace(value, '\"seq\": 12', '\"seq\": 14') "
     "WHERE name = 'cut:acme'", "frontier"),
    ("DELETE FROM store_state WHERE name = 'cut:acme'", "receipt 1"),
    ("UPDATE store_state SET value = replace(value, 'archive_sha256\": \"', "
     "'archive_sha256\": \"0') WHERE name = 'cut:acme'", "no receipt after it says so"),
])  # fmt: skip
def test_f2_a_cut_that_the_chain_does_not_tell_of_is_found(
    tmp_path: Path, sql: str, said: str
) -> None:
    path = aged(tmp_path)
    command = ("receipts", "--older-than", "90d", "--tenant", "acme", "--archive")
    assert prune(path, *command, tmp_path / "a.jsonl") == 0
    assert reports(path)[0].fault is None
    tampered(path, sql)
    fault = reports(path)[0].fault
    assert fault is not None and said in fault


def test_f2_a_beginning_cut_off_by_hand_is_found_even_with_a_perfect_anchor(
    tmp_path: Path,
) -> None:
    """Whoever can write the store can plant an anchor, but not a receipt that tells of it."""
    honest, forged = aged(tmp_path), tmp_path / "forged.db"
    assert store_command("backup", honest, forged) == 0
    command = ("receipts", "--older-than", "90d", "--tenant", "acme", "--archive")
    assert prune(honest, *command, tmp_path / "a.jsonl") == 0
    [(anchor,)] = rows(honest, "SELECT value FROM store_state WHERE name = 'cut:acme'")
    tampered(forged, "INSERT INTO store_state VALUES ('cut:acme', ?)", anchor)
    tampered(forged, "DELETE FROM receipts WHERE tenant_id = 'acme' AND seq <= 12")
    fault = reports(forged)[0].fault
    assert fault == "it was cut at 12, and no receipt after it says so"
    assert reports(honest)[0].fault is None


def test_a_chain_that_does_not_hold_is_not_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, archive = aged(tmp_path), tmp_path / "a.jsonl"
    tampered(path, "UPDATE receipts SET tool = 'x' WHERE tenant_id = 'acme' AND seq = 15")
    count = rows(path, "SELECT count(*) FROM receipts")
    command = ("receipts", "--older-than", "90d", "--tenant", "acme", "--archive", archive)
    assert prune(path, *command) == 1
    assert "a chain that does not hold is not cut" in capsys.readouterr().err
    assert rows(path, "SELECT count(*) FROM receipts") == count and not archive.exists()


def test_an_archive_that_exists_or_cannot_be_written_leaves_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, archive = aged(tmp_path), tmp_path / "a.jsonl"
    archive.write_text("precious")
    before = reports(path)
    command = ("receipts", "--older-than", "90d", "--tenant", "acme", "--archive")
    assert prune(path, *command, archive) == 1
    assert "[target_exists]" in capsys.readouterr().err
    assert archive.read_text() == "precious"
    assert prune(path, *command, tmp_path / "none" / "a.jsonl") == 1
    assert reports(path) == before
    assert prune(path, *command, tmp_path / "b.jsonl", "--dry-run") == 0
    assert "receipts 1 to 12 of tenant 'acme' would go" in capsys.readouterr().out
    assert reports(path) == before and not (tmp_path / "b.jsonl").exists()


def test_an_archive_that_reads_back_wrong_deletes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A disk that loses a write: the file is read back before anything is deleted."""
    import os

    from sidecar.ledger import archive as room

    path, target, fsync = aged(tmp_path), tmp_path / "a.jsonl", os.fsync
    before = reports(path)

    def losing(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(".part"):
            os.truncate(f"/proc/self/fd/{descriptor}", os.fstat(descriptor).st_size // 2)
        fsync(descriptor)

    monkeypatch.setattr(room.os, "fsync", losing)
    command = ("receipts", "--older-than", "90d", "--tenant", "acme", "--archive", target)
    assert prune(path, *command) == 1
    assert "[cut_refused]" in capsys.readouterr().err
    monkeypatch.undo()
    assert reports(path) == before and not target.exists()
    assert prune(path, *command) == 0


def test_a_call_in_flight_and_the_head_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = filled(
        tmp_path / "aegis.db",
        call(1, age_days=9), call(2, age_days=8, ends=False), call(3, age_days=7),
    )  # fmt: skip
    assert prune(path, "receipts", "--older-than", "1d", "--archive", tmp_path / "a.jsonl") == 0
    assert "receipts 1 to 2 of tenant 'acme' are in" in capsys.readouterr().out
    assert rows(path, "SELECT min(seq) FROM receipts") == [(3,)]
    old = filled(tmp_path / "old.db", call(1, age_days=9))
    assert prune(old, "receipts", "--older-than", "0s", "--archive", tmp_path / "b.jsonl") == 0
    assert [(r.first_seq, r.last_seq, r.fault) for r in reports(old)] == [(2, 3, None)]


def test_a_prune_that_was_killed_on_the_way_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = aged(tmp_path)
    command = ("receipts", "--older-than", "90d", "--tenant", "acme", "--archive")

    async def killed(self: Retention, tenant_id: str) -> tuple[int, int]:
        if (await self.cut(tenant_id)).seq:
            await self.delete_facts(tenant_id, 4)
            raise KeyboardInterrupt
        return 0, 0

    with monkeypatch.context() as patch:
        patch.setattr(Retention, "finish_cut", killed)
        with pytest.raises(KeyboardInterrupt):
            prune(path, *command, tmp_path / "a.jsonl")
    # The cut is recorded, the rows are still there: what is above it verifies already.
    assert rows(path, "SELECT min(seq) FROM receipts WHERE tenant_id = 'acme'") == [(1,)]
    acme = reports(path)[0]
    assert (acme.first_seq, acme.fault) == (13, None)
    assert prune(path, *command, tmp_path / "b.jsonl") == 0
    assert "12 receipts left by a prune that was interrupted" in capsys.readouterr().out
    assert rows(path, "SELECT min(seq) FROM receipts WHERE tenant_id = 'acme'") == [(13,)]
    assert reports(path)[0].fault is None


@pytest.mark.parametrize(("arguments", "said"), [
    (("receipts", "--older-than", "90d"), "never deleted without an archive"),
    (("approval", "--older-than", "90d"), "approvals are never pruned"),
    (("chain_head", "--older-than", "90d"), "chains go on from them"),
    (("cats", "--older-than", "90d"), "name call_facts or receipts"),
    (("call_facts", "--older-than", "90d", "--archive", "x"), "are for receipts"),
    (("receipts", "--older-than", "90d", "--archive", "x"), "name a tenant with --tenant"),
])  # fmt: skip
def test_what_is_never_pruned_is_refused_by_name(
    tmp_path: Path, arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = aged(tmp_path)
    before = reports(path)
    assert prune(path, *arguments) == 2
    assert said in capsys.readouterr().err
    assert reports(path) == before


def test_an_age_needs_a_unit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        prune(tmp_path / "none.db", "call_facts", "--older-than", "90")
    assert caught.value.code == 2
    assert "not a duration" in capsys.readouterr().err
    assert prune(tmp_path / "none.db", "call_facts", "--older-than", "90d") == 1
    assert not (tmp_path / "none.db").exists()


def test_no_pruning_under_a_running_sidecar(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = aged(tmp_path)
    before = reports(path)
    assert held(path, lambda: prune(path, "call_facts", "--older-than", "90d")) == 1
    assert "stop it first" in capsys.readouterr().err
    assert reports(path) == before


def test_deletes_go_in_small_transactions(tmp_path: Path) -> None:
    path = aged(tmp_path)

    async def measured() -> tuple[int, int]:
        store = await storage.open_store(url_of(path), now_us=lambda: 1, node_id="node")
        before = store.facts().commits_total
        deleted = await Retention(store, rows_a_transaction=2).delete_facts("acme", 12)
        commits = store.facts().commits_total - before
        assert await CareReader(store).count("call_facts", "acme", 0, 20) == 4
        await store.close()
        return deleted, commits

    assert asyncio.run(measured()) == (6, 4)  # three with rows, and one that finds no more
