"""Signed heads of a running sidecar: made, exported, verified, missed after a rollback."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
import urllib.request
from pathlib import Path

import pytest
from running import Process
from test_e2e_rolled_back import calls, cli, exported, head, lived, put_yesterday_back, refused

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "ledger"))

from ledger_checkpoint_setup import key_of, pem_of, until

from sidecar.ledger.checkpoint_file import kept_in
from sidecar.signed_note import public_pem


@pytest.fixture
def signing(tmp_path: Path) -> Process:
    """A sidecar that refuses every call, and signs every second; not started."""
    process = Process(tmp_path)
    deny = 'policy: shop\nrules:\n  - {id: nothing, effect: deny, tools: shop/*, reason: "no"}\n'
    catalogue = "catalogue: shop\ntools:\n  get: {route: GET /get, mutates: false}\n"
    process.write(
        "  shop: {url: 'http://127.0.0.1:9'}\n", {"policy.yaml": deny, "shop.yaml": catalogue}
    )
    (tmp_path / "worm").mkdir()
    key = tmp_path / "key.pem"
    key.write_text(pem_of(1))
    key.chmod(0o600)
    (tmp_path / "public.pem").write_text(public_pem(key_of(1).public))
    with process.config.open("a") as handle:
        handle.write(
            "receipts:\n  key: {file: key.pem}\n"
            "  checkpoint: {every: 500ms, receipts: 100, to: file:./worm}\n"
        )
    return process


def worm(process: Process) -> list[int]:
    """The sizes of the heads in the folder they are exported to."""
    files = sorted((process.folder / "worm").iterdir())
    return [kept.checkpoint.size for file in files for kept in kept_in(file)]


def metrics(process: Process) -> str:
    url = f"http://127.0.0.1:{process.control_port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as reply:
        return str(reply.read().decode())


def verified(process: Process) -> str:
    done = cli(
        "receipts", "verify", process.folder / "receipts.jsonl",
        "--checkpoint", process.folder / "worm", "--key", process.folder / "public.pem",
    )  # fmt: skip
    return f"{done.returncode} {done.stdout}"


def test_heads_are_signed_exported_and_counted(signing: Process) -> None:
    signing.start()
    calls(signing, 3)
    asyncio.run(until(lambda: worm(signing)[-1:] == [3], "a head of three receipts", 10))
    signed, place = len(worm(signing)), f"file:{signing.folder}/worm"
    taken = f'aegis_checkpoint_exports_total{{target="{place}"}} {signed}.0'
    asyncio.run(until(lambda: taken in metrics(signing), "counted"))
    assert f"aegis_checkpoints_signed_total {signed}.0" in metrics(signing)
    calls(signing, 2)
    assert signing.stop() == 0
    assert worm(signing)[-1] == 6, "what is left is signed at the end, that it stopped too"
    assert [one["action"] for one in exported(signing)][5:] == ["sidecar.stop"]
    assert "anchored at 6 by key aegis-sidecar/default/" in verified(signing)
    assert pem_of(1).splitlines()[1] not in signing.log()


def test_f8_a_store_behind_its_exported_heads_starts_only_after_it_is_on_record(
    signing: Process,
) -> None:
    """Also where the whole folder was put back, the file of heads with it."""
    lived(signing, 3)
    shutil.copy(signing.folder / "aegis.db", signing.folder / "yesterday.db")
    lived(signing, 2)
    assert worm(signing)[-1] == 8
    put_yesterday_back(signing)
    os.unlink(signing.folder / "heads.json")
    said = refused(signing)
    assert "[store_behind_checkpoint]" in said and "a head of 8 receipts stands in file:" in said
    done = cli(
        "store", "accept-rollback", "--config", signing.config, "--reason", "the disk is gone"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lived(signing, 1)
    assert worm(signing)[-1] == 8, "its receipt, a start, a call and a stop"
    receipt = exported(signing)[4]
    assert receipt["action"] == "store.rollback"
    assert head(signing)[0] == 8
    # Whoever holds the receipts against all the heads sees two histories, and one that was lost.
    # A head that was signed between the old receipts, as on a slow disk, is what is seen first.
    seen = r"(FORKED: receipt [5-8]: there are 2 checkpoints of 8|TAMPERED: receipt [5-7]: receipt)"
    assert re.match(f"1 {seen}", verified(signing))
    lived(signing, 1)
    assert worm(signing)[-1] == 11


def test_g12_a_key_that_everybody_reads_stops_the_start(signing: Process) -> None:
    (signing.folder / "key.pem").chmod(0o644)
    assert "open to every user" in refused(signing)


def test_a_target_that_is_not_there_stops_no_call(signing: Process) -> None:
    (signing.folder / "worm").rmdir()
    text = signing.config.read_text().replace("file:./worm", "file:./gone/heads")
    signing.config.write_text(text)
    lived(signing, 2)
    assert "a checkpoint was not taken" in signing.log()
    assert len(exported(signing)) == 3, "two calls and the stop"
    found = json.loads(
        cli("receipts", "verify", signing.folder / "receipts.jsonl", "--json").stdout
    )
    assert found["anchors"]["agreeing"] == 1, "the store has it, and an export with it"
