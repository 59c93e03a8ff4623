"""F7: an erasure that is killed half-way is ended by the next start of the real sidecar."""

from __future__ import annotations

import http.client
import json
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from running import ROOT, Process

SECRET = "ann-4711-secret-address"
DETECTION = """\
detection: quotes
severity: high
where: {effect: deny}
by: agent
reason: "{agent.name} wanted {args.text}"
"""
#: `store erase` in a process that dies at the step named on its command line.
DYING = """\
import os, signal, sys
from sidecar.cli.main import main
from storage.erasing import Erasing
async def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(Erasing, sys.argv[1], die)
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture
def sidecar(tmp_path: Path) -> Process:
    """It refuses a call with the secret, and has noticed it; stopped again."""
    process = Process(tmp_path)
    deny = 'policy: shop\nrules:\n  - {id: nothing, effect: deny, tools: shop/*, reason: "no"}\n'
    catalogue = "catalogue: shop\ntools:\n  say: {route: POST /say}\n"
    process.write(
        "  shop: {url: 'http://127.0.0.1:9'}\n",
        {"policy.yaml": deny, "shop.yaml": catalogue, "quotes.yaml": DETECTION},
        "soc: {level: notify}\nsinks: {ops: {kind: stdout}}\n",
    )
    process.start()
    connection = http.client.HTTPConnection("127.0.0.1", process.data_port, timeout=20)
    body = json.dumps({"text": SECRET})
    connection.request("POST", "/shop/say", body, {"Content-Type": "application/json"})
    assert connection.getresponse().status == 403
    connection.close()
    until = time.monotonic() + 20
    while time.monotonic() < until and not copied(process) >= {"alert", "incident", "delivery"}:
        time.sleep(0.1)
    assert process.stop() == 0
    return process


def copied(process: Process) -> set[str]:
    """The tables in which the secret stands."""
    raw = sqlite3.connect(f"file:{process.folder}/aegis.db?mode=ro", uri=True)
    found = set()
    for (table,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        rows = raw.execute(f"SELECT * FROM {table}").fetchall()
        if any(SECRET in str(row) for row in rows):
            found.add(table)
    raw.close()
    return found


def is_in_files(process: Process) -> bool:
    return any(SECRET.encode() in one.read_bytes() for one in process.folder.glob("aegis.db*"))


def erase(process: Process, dies_at: str) -> int:
    arguments = ["store", "erase", "--config", str(process.config), "--agent", "agent"]
    command = [sys.executable, "-c", DYING, dies_at, *arguments]
    return subprocess.run(command, cwd=ROOT, timeout=60, check=False).returncode


@pytest.mark.parametrize("dies_at", ["erase", "erase_deliveries", "erase_texts"])
def test_f7_an_erasure_that_is_killed_is_ended_by_the_next_start(
    sidecar: Process, dies_at: str
) -> None:
    everywhere = {"call_facts", "audit_event", "alert", "incident", "delivery"}
    assert copied(sidecar) == everywhere and is_in_files(sidecar), "positive control"
    assert erase(sidecar, dies_at) == -signal.SIGKILL
    assert copied(sidecar) and is_in_files(sidecar)
    actions = [one["action"] for one in sidecar.receipts()]
    assert "store.erase_facts" in actions, "on record as erased, and still there"
    sidecar.start()
    assert sidecar.stop() == 0
    assert copied(sidecar) == set() and not is_in_files(sidecar)
    assert "an erasure that was interrupted is finished" in sidecar.log()
    sidecar.receipts()
