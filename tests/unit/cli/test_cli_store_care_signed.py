"""F2: commands that verify a store hold it against the heads it has signed, and say how far."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "ledger"))

from ledger_checkpoint_setup import key_of, opened, pem_of, record, signed_now
from ledger_setup import draft
from store_care_setup import reports, rows, store_command, tampered
from test_ledger_witness_target import Witness as C2spWitness
from test_ledger_witness_target import listening

from sidecar.cli.main import main
from sidecar.ledger.chain import seal
from sidecar.ledger.exported import StoreBehindCheckpoint, check_exported
from sidecar.ledger.merkle import append, frontier_to_hex
from sidecar.ledger.tiles import leaves
from sidecar.ledger.witness import Witness
from storage.records import CallFactsRow, Entry

CONFIG = """store: sqlite:///aegis.db
upstreams: {shop: {url: 'http://127.0.0.1:9'}}
policies: [pack:read-only]
receipts: {key: {file: signing.pem}}
"""


async def _signed(folder: Path) -> None:
    """Seven receipts, five of them signed for."""
    async with opened(folder) as store:
        await record(store, 5)
        await signed_now(store)
        await record(store, 2)
    (folder / "sidecar.yaml").write_text(CONFIG)
    pem = folder / "signing.pem"
    pem.write_text(pem_of(1))
    pem.chmod(0o600)


def _cut(path: Path) -> None:
    """Receipts 3 to 7 and the head over them."""
    raw = sqlite3.connect(path)
    (row,) = raw.execute("SELECT receipt_hash, ts_us FROM receipts WHERE seq = 2").fetchall()
    raw.execute("DELETE FROM receipts WHERE seq > 2")
    raw.execute("UPDATE chain_head SET seq = 2, receipt_hash = ?, ts_us = ?", row)
    raw.commit()
    raw.close()


def _store(folder: Path, *arguments: str | Path) -> int:
    config = ("--config", str(folder / "sidecar.yaml"))
    return main(["store", str(arguments[0]), *config, *map(str, arguments[1:])])


async def _frontier_at(folder: Path, size: int) -> str:
    async with opened(folder) as store:
        frontier: list[bytes] = []
        for at, leaf in enumerate(await leaves(store, "default", 0, size)):
            append(frontier, at, leaf)
    return frontier_to_hex(frontier)


@pytest.mark.parametrize("command", [
    ("backup", "copy.db"), ("erase", "--agent", "agent-1"),
    ("accept-rollback", "--reason", "it is lost", "--all"), ("restore", "cut.db", "--replace"),
])  # fmt: skip
async def test_f2_no_command_takes_a_store_that_was_cut_below_what_it_signed(
    tmp_path: Path, command: tuple[str, ...], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    await _signed(tmp_path)
    frontier = await _frontier_at(tmp_path, 2)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "aegis.db"
    if command[0] == "accept-rollback":
        async with opened(tmp_path) as store:
            Witness(tmp_path, f"sqlite:///{path}", lambda: 1).write(store.known.all())
    _cut(path)
    tampered(path, "UPDATE chain_head SET frontier = ?", frontier)
    shutil.copy(path, tmp_path / "cut.db")
    if command[0] == "erase":
        await _with_facts(tmp_path)
    assert await asyncio.to_thread(_store, tmp_path, *command) == 1
    said = capsys.readouterr()
    assert "DOES NOT HOLD: 5 receipts were signed, and there are " in said.err, said


async def _with_facts(folder: Path) -> None:
    async with opened(folder) as store:
        row = draft(3, "default", kind="control", agent_id="agent-1")
        await store.record([Entry(row, CallFactsRow("default", 0, "ab" * 16, None, "{}"))], seal)


async def test_f8_what_only_a_witness_has_seen_can_be_owned_up_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    witness = C2spWitness()
    monkeypatch.chdir(tmp_path)
    command = ("accept-rollback", "--reason", "the disk is gone")
    async with listening(witness) as url:
        target = f"{url}#{witness.vkey}"
        await _signed(tmp_path)
        (tmp_path / "sidecar.yaml").write_text(
            CONFIG.replace("signing.pem}", f"signing.pem}}, checkpoint: {{to: '{target}'}}")
        )
        older = (tmp_path / "aegis.db").read_bytes()
        async with opened(tmp_path) as store:
            await record(store, 3)
            await signed_now(store, target)
        assert await asyncio.to_thread(_store, tmp_path, *command) == 0
        assert "nothing is lost" in capsys.readouterr().out, "positive control"
        (tmp_path / "aegis.db").write_bytes(older)
        async with opened(tmp_path) as store:
            await record(store, 2, who="other")
            await signed_now(store)
            with pytest.raises(StoreBehindCheckpoint):
                await check_exported(store, [target], key_of(1), is_only_store=True)
        assert await asyncio.to_thread(_store, tmp_path, *command) == 0
        assert "Receipt 10 says so; the sidecar starts again" in capsys.readouterr().out
        async with opened(tmp_path) as store:
            await check_exported(store, [target], key_of(1), is_only_store=True)


async def test_rule_17_a_backup_says_how_far_it_is_anchored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await _signed(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert await asyncio.to_thread(_store, tmp_path, "backup", "copy.db") == 0
    said = capsys.readouterr().out
    assert (
        "receipts 1 to 7 hold" in said and "; anchored at 5 by key aegis-sidecar/default/" in said
    )
    assert ", unanchored since 6; head hash" in said and "unanchored: no signed" not in said
    path = tmp_path / "aegis.db"
    assert await asyncio.to_thread(store_command, "backup", path, tmp_path / "named.db") == 0
    said = capsys.readouterr().out
    assert "unanchored since 1: 1 signed head agrees, and nothing here says who signed" in said
    tampered(path, "DELETE FROM checkpoint")
    assert await asyncio.to_thread(_store, tmp_path, "backup", "unsigned.db") == 0
    said = capsys.readouterr().out
    assert "; unanchored since 1; " in said and "unanchored: no signed checkpoint" in said


async def test_a11_a_chain_that_was_signed_for_beyond_what_is_sound_is_salvaged_up_to_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is of lost receipts stays behind, and is said: a head of them, a change they tell of,
    how far they were watched. A copy that had it would not hold, so that there would be none."""
    await _signed(tmp_path)
    path, target = tmp_path / "aegis.db", tmp_path / "salvaged.db"
    tampered(path, "INSERT INTO audit_event VALUES ('default', 6, 1, 'ana', 'a', 's', '', '', '')")
    tampered(path, "INSERT INTO watch_mark VALUES ('default', 'detections', 1, 'node', 7, 0, 0)")
    tampered(path, "INSERT INTO checkpoint VALUES ('default', 9, 'ab', 'accepted', '', 0)")
    tampered(path, "INSERT INTO watch_memory VALUES ('default', 'first-use', 'x', 1, '{}', 9)")
    tampered(path, "UPDATE receipts SET agent_id = 'eve' WHERE seq = 3")
    assert await asyncio.to_thread(_store, tmp_path, "salvage", target) == 0
    said = capsys.readouterr().out
    assert "receipts 1 to 2 salvaged" in said
    assert "LOST: all after receipt 2 (the last one was said to be 7)" in said
    assert "LOST: 1 signed head of receipts that are lost; " in said
    assert "LOST: 1 audit event of a receipt that is lost" in said
    assert "LOST: 1 thing that detections remembered" in said
    assert rows(target, "SELECT seq FROM watch_mark") == [(2,)]
    assert rows(target, "SELECT kind FROM checkpoint") == [("accepted",)], "it was given up"
    (report,) = await asyncio.to_thread(reports, target)
    assert (report.last_seq, report.fault) == (2, None)


async def test_a_salvaged_store_says_how_far_it_is_anchored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await _signed(tmp_path)
    assert await asyncio.to_thread(_store, tmp_path, "salvage", tmp_path / "salvaged.db") == 0
    said = capsys.readouterr().out
    assert "; anchored at 5 by key aegis-sidecar/default/" in said and "LOST" not in said


async def test_f2_info_tells_of_the_newest_signed_head_and_of_a_cut_below_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await _signed(tmp_path)
    path = tmp_path / "aegis.db"
    assert await asyncio.to_thread(store_command, "info", path) == 0
    assert "the newest signed head is of 5 receipts" in capsys.readouterr().out
    _cut(path)
    assert await asyncio.to_thread(store_command, "info", path) == 0
    assert "up to receipt 2" in (said := capsys.readouterr().out)
    assert "CUT: 5 receipts were signed" in said


async def test_a_store_of_a_time_before_heads_were_kept_verifies(tmp_path: Path) -> None:
    await _signed(tmp_path)
    path = tmp_path / "aegis.db"
    raw = sqlite3.connect(path)
    raw.execute("DROP TABLE checkpoint")
    raw.execute("DELETE FROM schema_migration WHERE version > 10")
    raw.commit()
    raw.close()
    (report,) = await asyncio.to_thread(reports, path)
    assert (report.fault, report.last_seq, report.anchors.size) == (None, 7, 0)
