"""`receipts export` and `receipts verify` as an operator runs them: output, exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

import storage
from sidecar.cli.main import main
from sidecar.ledger.chain import seal
from sidecar.ledger.receipt import blank_receipt
from storage.records import Entry

CASES = Path(__file__).parents[2] / "cases" / "receipts"
WHOLE = CASES / "must_accept" / "whole.jsonl"


def store_of(folder: Path, *tenants: str) -> str:
    """A store with three receipts for each tenant; gives its URL."""
    url = f"sqlite:///{folder}/aegis.db"

    async def fill() -> None:
        store = await storage.open_store(url, now_us=lambda: 1, node_id="node")
        entries = [
            Entry(blank_receipt(tenant, "control", event_id=str(n), call_id=None, ts_us=n))
            for tenant in tenants
            for n in range(3)
        ]
        await store.record(entries, seal)
        await store.close()

    asyncio.run(fill())
    return url


def receipts(*arguments: str | Path) -> int:
    return main(["receipts", *map(str, arguments)])


def test_verify_says_how_far_and_that_it_is_unanchored(capsys: pytest.CaptureFixture[str]) -> None:
    assert receipts("verify", WHOLE) == 0
    printed = capsys.readouterr().out
    vectors = json.loads((CASES / "v1.json").read_text())
    last = vectors["receipts"][-1]
    assert "verified: 8 receipts of tenant 'acme', 1 to 8" in printed
    assert last["receipt_hash"] in printed and last["root"] in printed
    assert "unanchored: no signed checkpoint" in printed


def test_f1_verify_names_line_and_receipt_of_the_first_bad_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert receipts("verify", CASES / "must_reject" / "deleted_middle.jsonl") == 1
    printed = capsys.readouterr().out
    assert "TAMPERED: line 3, receipt 4: receipt 3 is expected here" in printed
    assert "2 receipts before it hold" in printed
    assert "verified" not in printed


@pytest.mark.parametrize("name", ["empty", "not_json", "truncated_line", "byte_order_mark"])
def test_what_is_no_file_of_receipts_is_unreadable(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert receipts("verify", CASES / "must_reject" / f"{name}.jsonl") == 2
    assert "UNREADABLE" in capsys.readouterr().out


def test_a_store_of_an_older_version_is_exported_before_it_is_brought_up_to_date(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, output = store_of(tmp_path, "acme"), tmp_path / "out.jsonl"
    with contextlib.closing(sqlite3.connect(tmp_path / "aegis.db")) as older:
        older.execute("DROP TABLE checkpoint")
        older.execute("DELETE FROM schema_migration WHERE version > 10")
        older.commit()
    assert receipts("export", "--store", url, "--output", output) == 0
    assert len(output.read_bytes().splitlines()) == 3
    assert receipts("checkpoint", "--store", url) == 1
    said = capsys.readouterr().err
    assert (
        "no such table" in said and "Start a sidecar of this version on a store of an older" in said
    )


def test_an_export_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    url, output = store_of(tmp_path, "acme", "beta"), tmp_path / "out.jsonl"
    output.write_bytes(b"an export of before")
    for wrong in (("--store", url), ("--store", url, "--tenant", "gamma"), ("--store", url + "x")):
        assert receipts("export", *wrong, "--output", output) != 0
        assert output.read_bytes() == b"an export of before"
    with contextlib.closing(sqlite3.connect(tmp_path / "aegis.db")) as torn:
        torn.execute("DELETE FROM receipts WHERE tenant_id = 'acme' AND seq = 3")
        torn.commit()
    assert receipts("export", "--store", url, "--tenant", "acme", "--output", output) == 1
    assert output.read_bytes() == b"an export of before", "two receipts would verify as a chain"
    output.chmod(0o600)
    assert receipts("export", "--store", url, "--tenant", "beta", "--output", output) == 0
    assert len(output.read_bytes().splitlines()) == 3, "control"
    assert output.stat().st_mode & 0o777 == 0o600, "who may read it stays"
    assert not list(tmp_path.glob(".*.part"))


def test_an_export_goes_through_a_pipe_that_was_named(tmp_path: Path) -> None:
    url, pipe = store_of(tmp_path, "acme"), tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as reading:
        read = reading.submit(pipe.read_bytes)
        assert receipts("export", "--store", url, "--output", pipe) == 0
        assert len(read.result(10).splitlines()) == 3
    assert pipe.is_fifo()


def test_a_file_that_is_not_there_is_unreadable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert receipts("verify", tmp_path / "none.jsonl") == 2
    assert receipts("verify", tmp_path) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_verify_reads_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(WHOLE.read_bytes())))
    assert receipts("verify", "-") == 0
    assert "8 receipts" in capsys.readouterr().out


def test_verify_of_a_later_part(capsys: pytest.CaptureFixture[str]) -> None:
    part = CASES / "must_accept" / "later_part.jsonl"
    assert receipts("verify", part) == 1
    assert receipts("verify", part, "--first-seq", "5") == 0
    assert "a part: it links to a receipt with the hash" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        receipts("verify", part, "--first-seq", "0")
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("path", "code"), [(WHOLE, 0), (CASES / "must_reject" / "extra_key.jsonl", 1)]
)
def test_the_verdict_as_json(path: Path, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert receipts("verify", path, "--json") == code
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["holds"] == (code == 0)
    assert verdict["is_anchored"] is False
    if code:
        assert (verdict["count"], verdict["fault"]["line"], verdict["fault"]["seq"]) == (3, 4, 4)


def test_an_export_to_a_file_verifies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url, path = store_of(tmp_path, "acme"), tmp_path / "out.jsonl"
    assert receipts("export", "--store", url, "--output", path) == 0
    assert receipts("verify", path) == 0
    assert "3 receipts of tenant 'acme'" in capsys.readouterr().out


def test_an_export_that_cannot_begin_leaves_the_last_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url, path = store_of(tmp_path, "acme"), tmp_path / "out.jsonl"
    assert receipts("export", "--store", url, "--output", path) == 0
    kept = path.read_bytes()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AEGIS_CONFIG", raising=False)
    assert receipts("export", "--store", url, "--tenant", "corp", "--output", path) == 2
    gone = f"sqlite:///{tmp_path}/gone.db"
    assert receipts("export", "--store", gone, "--output", path) == 1
    assert receipts("export", "--output", path) == 2, "there is no configuration to be read"
    assert path.read_bytes() == kept
    assert "name the store with --store" in capsys.readouterr().err


def test_an_export_to_standard_output_while_the_store_is_held(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    url = store_of(tmp_path, "acme")

    async def hold() -> int:
        store = await storage.open_store(url, now_us=lambda: 1, node_id="node")
        try:
            return await asyncio.to_thread(receipts, "export", "--store", url, "--facts")
        finally:
            await store.close()

    assert asyncio.run(hold()) == 0
    sys.stdout.flush()
    lines = capfdbinary.readouterr().out.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [1, 2, 3]
    assert json.loads(lines[0])["facts"] is None


def test_the_store_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store_of(tmp_path, "acme")
    config = tmp_path / "sidecar.yaml"
    (tmp_path / "policies").mkdir()
    config.write_text(
        "store: sqlite:///aegis.db\npolicies: [./policies]\n"
        "upstreams: {up: {url: 'http://127.0.0.1:9'}}\n"
    )
    out = tmp_path / "out.jsonl"
    assert receipts("export", "--config", config, "--output", out) == 0, capsys.readouterr()
    monkeypatch.setenv("AEGIS_CONFIG", str(config))
    assert receipts("export", "--output", out) == 0
    config.write_text("no_such_key: 1\n")
    assert receipts("export", "--output", out) == 2
    assert "no_such_key" in capsys.readouterr().err


def test_which_tenant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url, out = store_of(tmp_path, "acme", "beta"), tmp_path / "out.jsonl"
    assert receipts("export", "--store", url, "--output", out) == 2
    assert "name a tenant; there are receipts of: acme, beta" in capsys.readouterr().err
    assert receipts("export", "--store", url, "--output", out, "--tenant", "gamma") == 2
    assert "acme, beta" in capsys.readouterr().err
    assert receipts("export", "--store", url, "--output", out, "--tenant", "beta") == 0
    assert receipts("verify", out) == 0
    assert "tenant 'beta'" in capsys.readouterr().out


def test_a_store_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert receipts("export", "--store", f"sqlite:///{tmp_path}/none.db") == 1
    assert "[store_unavailable]" in capsys.readouterr().err
    assert not (tmp_path / "none.db").exists()


def test_an_output_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = store_of(tmp_path, "acme")
    assert receipts("export", "--store", url, "--output", tmp_path / "no" / "out") == 1
    assert "cannot be written" in capsys.readouterr().err
