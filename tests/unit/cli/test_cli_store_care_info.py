"""`store info`: what is in the store, for a person and for a program."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from store_care_setup import NOW_US, call, filled, held, reports, store_command

from sidecar.cli.chosen_store import finished


def test_the_numbers_beside_a_running_sidecar(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = filled(
        tmp_path / "aegis.db",
        call(1, age_days=3), call(2), call(3, ends=False), call(1, "beta", age_days=1),
    )  # fmt: skip
    assert held(path, lambda: store_command("info", path, "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["engine"] == "sqlite" and found["engine_version"].count(".") == 2
    assert found["schema_version"] >= 1 and found["size_bytes"] > 0
    assert found["rows"] | {"store_state": 0} == {
        "chain_head": 2, "receipts": 7, "call_facts": 4, "open_intent": 1, "run_head": 0,
        "limit_bucket": 0, "tool_pin": 0, "agent": 0, "api_key": 0,
        "approval": 0, "said_once": 0, "audit_event": 0, "checkpoint": 0, "tree_tile": 0,
        "watch_mark": 0, "watch_memory": 0, "alert": 0, "incident": 0, "containment": 0,
        "delivery": 0,
        "store_state": 0,
    }  # fmt: skip
    assert (found["oldest_us"], found["newest_us"]) == (NOW_US - 3 * 86_400_000_000, NOW_US)
    acme, beta = found["tenants"]
    assert (acme["tenant_id"], acme["seq"], acme["receipts"]) == ("acme", 5, 5)
    assert (beta["tenant_id"], beta["seq"], beta["cut_at"]) == ("beta", 2, 0)
    assert [acme["head_hash"], beta["head_hash"]] == [r.head_hash for r in reports(path)]
    assert "store backup TARGET" in found["advice"]


def test_the_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = filled(tmp_path / "aegis.db", call(1))
    assert store_command("info", path) == 0
    printed = capsys.readouterr().out
    assert "rows: chain_head 1, receipts 2, call_facts 1, open_intent 0" in printed
    assert "tenant 'acme': up to receipt 2, 2 here, 1 with facts; from 2" in printed
    assert "Keep the head hashes elsewhere" in printed


def test_receipts_that_somebody_deleted_are_said_to_be_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The head still counts them, and the last one is in its place."""
    path = filled(tmp_path / "aegis.db", call(1, age_days=9), call(2), call(3))
    archive = ("--older-than", "5d", "--archive", str(tmp_path / "archive.jsonl"))
    assert store_command("prune", path, "receipts", *archive) == 0
    assert store_command("info", path) == 0
    assert "MISSING" not in capsys.readouterr().out
    with closing(sqlite3.connect(path)) as raw, raw:
        assert raw.execute("DELETE FROM receipts WHERE seq IN (4, 5)").rowcount == 2
    assert store_command("info", path) == 0
    printed = capsys.readouterr().out
    assert "MISSING: 2 receipts after 2 are neither here nor in an archive" in printed
    assert store_command("info", path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["tenants"][0]["missing"] == 2


def test_an_empty_store_and_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert store_command("info", filled(tmp_path / "aegis.db")) == 0
    assert "no receipts yet" in capsys.readouterr().out
    assert store_command("info", tmp_path / "none.db") == 1
    assert "[store_unavailable]" in capsys.readouterr().err
    assert not (tmp_path / "none.db").exists()


def test_a_configuration_that_is_not_there_is_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import argparse

    from sidecar.cli import store_info

    parser = argparse.ArgumentParser()
    store_info.add_arguments(parser)
    assert store_info.run(parser.parse_args(["--config", str(tmp_path / "none.yaml")])) == 2
    assert "none.yaml" in capsys.readouterr().err
    (tmp_path / "p.yaml").write_text("policy: p\nrules: [{id: r, effect: deny, tools: '*'}]\n")
    config = tmp_path / "sidecar.yaml"
    config.write_text(
        "policies: ./p.yaml\nstore: sqlite:///aegis.db\n"
        "upstreams: {demo: {url: 'http://127.0.0.1:9'}}\n"
    )
    filled(tmp_path / "aegis.db", call(1))
    assert store_info.run(parser.parse_args(["--config", str(config)])) == 0
    assert "'acme'" in capsys.readouterr().out


def test_a_reader_that_has_had_enough_is_no_trouble_of_the_store() -> None:
    """`store info | head -1`"""

    async def work(error: OSError) -> int:
        raise error

    with pytest.raises(BrokenPipeError):
        finished(work(BrokenPipeError(32, "Broken pipe")))
    assert finished(work(PermissionError(13, "Permission denied"))) == 1, "control"
