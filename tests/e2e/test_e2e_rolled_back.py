"""F8: a store that was rolled back does not start, until an operator has owned up to it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import json
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from running import ROOT, Process

from sidecar.cli.main import main
from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from sidecar.ledger.receipt import blank_receipt
from storage import open_store
from storage.records import Entry

HEADS = "heads.json"


@pytest.fixture
def sidecar(tmp_path: Path) -> Process:
    """A sidecar that refuses every call, and so records one receipt for each; not started."""
    process = Process(tmp_path)
    deny = 'policy: shop\nrules:\n  - {id: nothing, effect: deny, tools: shop/*, reason: "no"}\n'
    catalogue = "catalogue: shop\ntools:\n  get: {route: GET /get, mutates: false}\n"
    process.write(
        "  shop: {url: 'http://127.0.0.1:9'}\n", {"policy.yaml": deny, "shop.yaml": catalogue}
    )
    return process


def calls(process: Process, count: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", process.data_port, timeout=20)
    for _ in range(count):
        connection.request("GET", "/shop/get")
        reply = connection.getresponse()
        assert reply.status == 403, reply.read()
        reply.read()
    connection.close()


def lived(process: Process, count: int) -> None:
    """Starts, records, stops in order; that it does is on record of a chain that exists."""
    process.start()
    calls(process, count)
    assert process.stop() == 0


def refused(process: Process) -> str:
    """What a start says that is refused."""
    done = subprocess.run(
        process.command("serve", "--config", str(process.config)),
        cwd=ROOT, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stderr


def cli(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """One command, in this process."""
    out, err = io.TextIOWrapper(io.BytesIO()), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    out.seek(0)
    return subprocess.CompletedProcess(arguments, code, out.read(), err.getvalue())


def exported(process: Process, *arguments: str) -> list[dict[str, object]]:
    """The receipts of an export, which is left in receipts.jsonl."""
    path = process.folder / "receipts.jsonl"
    done = cli("receipts", "export", "--config", process.config, "--output", path, *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in path.read_text().splitlines()]


def heads(process: Process) -> dict[str, list[object]]:
    found: dict[str, list[object]] = json.loads((process.folder / HEADS).read_text())["heads"]
    return found


def head(process: Process) -> list[object]:
    raw = sqlite3.connect(process.folder / "aegis.db")
    [row] = raw.execute("SELECT seq, receipt_hash FROM chain_head").fetchall()
    raw.close()
    return list(row)


def put_yesterday_back(process: Process) -> None:
    (process.folder / "aegis.db").unlink()
    shutil.copy(process.folder / "yesterday.db", process.folder / "aegis.db")


def cut_the_tail(process: Process) -> None:
    raw = sqlite3.connect(process.folder / "aegis.db")
    raw.execute("DELETE FROM receipts WHERE seq > 3")
    raw.execute(
        "UPDATE chain_head SET (seq, receipt_hash, ts_us) = "
        "(SELECT seq, receipt_hash, ts_us FROM receipts WHERE seq = 3)"
    )
    raw.commit()
    raw.close()


def rewrite_the_last(process: Process) -> None:
    """As long as before, and with another end: a fork."""
    put_yesterday_back(process)

    async def record() -> None:
        clock = Clock()
        store = await open_store(f"sqlite:///{process.folder}/aegis.db", now_us=clock.now_us)
        for number in range(4):
            draft = blank_receipt(
                "default", "control", event_id=str(number), call_id=None, ts_us=clock.now_us()
            )
            await store.record([Entry(draft)], seal)
        await store.close()

    asyncio.run(record())


def lose_the_file(process: Process) -> None:
    (process.folder / "aegis.db").unlink()


FAULTS: list[tuple[Callable[[Process], None], str]] = [
    (put_yesterday_back, "and the store ends at 4 ("),
    (cut_the_tail, "and the store ends at 3 ("),
    (rewrite_the_last, "another one in its place; it ends at 8"),
    (lose_the_file, "and the store ends at 0 (-)"),
]


@pytest.mark.parametrize(("fault", "words"), FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
def test_f8_a_store_that_was_rolled_back_starts_only_after_it_is_on_record(
    sidecar: Process, fault: Callable[[Process], None], words: str
) -> None:
    lived(sidecar, 3)
    shutil.copy(sidecar.folder / "aegis.db", sidecar.folder / "yesterday.db")
    lived(sidecar, 2)
    assert heads(sidecar) == {"default": head(sidecar)}
    seen = head(sidecar)
    assert seen[0] == 8, "five of calls, a start and two stops"
    fault(sidecar)
    said = refused(sidecar)
    assert "[store_rolled_back]" in said and words in said
    assert f"tenant 'default': receipt 8 ({seen[1]}) was recorded" in said
    assert "store accept-rollback --tenant TENANT" in said
    if fault is lose_the_file:
        assert not (sidecar.folder / "aegis.db").exists(), "a new one was put in its place"
        left = 0
    else:
        left = int(str(head(sidecar)[0]))
    if fault is cut_the_tail:
        # What is left does not hold by itself: nothing is put onto it.
        done = accept(sidecar)
        assert done.returncode == 1 and "DOES NOT HOLD: the frontier" in done.stderr
        return
    done = accept(sidecar)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Receipt {left + 1} says so" in done.stdout
    lived(sidecar, 1)
    assert heads(sidecar) == {"default": head(sidecar)}
    receipt = exported(sidecar)[left]
    assert (receipt["kind"], receipt["action"]) == ("control", "store.rollback")
    assert f"receipt 8 ({seen[1]}) is lost" in str(receipt["resource"])
    verified = cli("receipts", "verify", sidecar.folder / "receipts.jsonl").stdout
    assert verified.startswith("verified: ")
    assert f"a rollback is recorded at {left + 1}: receipt 8 ({seen[1]}) is lost" in verified
    # The reason may name somebody: it can be erased, the receipt only commits to it.
    assert "moved by Ann" not in (sidecar.folder / "receipts.jsonl").read_text()
    assert exported(sidecar, "--facts")[left]["arguments"] == '{"reason":"moved by Ann"}'


def accept(process: Process, *arguments: str) -> subprocess.CompletedProcess[str]:
    return cli(
        "store", "accept-rollback", "--config", str(process.config), "--reason", "moved by Ann",
        *arguments,
    )  # fmt: skip


def test_f8_a_killed_sidecar_starts_with_more_than_was_witnessed(sidecar: Process) -> None:
    lived(sidecar, 2)
    sidecar.start()
    calls(sidecar, 5)
    sidecar.kill()
    assert heads(sidecar)["default"][0] == 3, "positive control: the witness is behind"
    assert head(sidecar)[0] == 9
    lived(sidecar, 1)
    assert heads(sidecar) == {"default": head(sidecar)} and head(sidecar)[0] == 12
    done = accept(sidecar)
    assert done.returncode == 0 and "nothing is lost" in done.stdout
    assert head(sidecar)[0] == 12


def test_f8_a_store_that_nobody_has_seen_starts_and_says_so(sidecar: Process) -> None:
    lived(sidecar, 2)
    assert "rolled back" not in sidecar.log()
    (sidecar.folder / HEADS).unlink()
    info = cli("store", "info", "--config", str(sidecar.config)).stdout
    assert "there is none, so that a rollback would not be seen" in info
    lived(sidecar, 1)
    assert "nothing tells whether the store was rolled back" in sidecar.log()
    assert heads(sidecar) == {"default": head(sidecar)}
    info = cli("store", "info", "--config", str(sidecar.config)).stdout
    assert "all of them stand" in info


def test_f8_a_damaged_witness_is_no_missing_one(sidecar: Process) -> None:
    lived(sidecar, 2)
    path = sidecar.folder / HEADS
    whole = path.read_text()
    path.write_text(whole.replace("[3,", "[1,"))
    assert path.read_text() != whole
    said = refused(sidecar)
    assert "[witness_unreadable]" in said and "move the file away" in said
    assert accept(sidecar).returncode == 1
    path.write_text(whole)
    lived(sidecar, 1)


def test_f8_a_restore_is_a_rollback_on_record_and_starts(sidecar: Process) -> None:
    lived(sidecar, 2)
    backup = str(sidecar.folder / "backup.db")
    config = ("--config", str(sidecar.config))
    assert cli("store", "backup", *config, backup).returncode == 0
    lived(sidecar, 3)
    seen = head(sidecar)
    done = cli("store", "restore", *config, "--replace", backup)
    assert done.returncode == 0, done.stderr
    assert "receipts 4 to 8 were recorded after the backup" in done.stderr
    lived(sidecar, 1)
    receipts = exported(sidecar)
    assert (receipts[3]["action"], len(receipts)) == ("store.rollback", 7)
    assert f"receipt 8 ({seen[1]}) is lost" in str(receipts[3]["resource"])
