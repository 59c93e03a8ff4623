"""Incidents from the command line and the API of a real sidecar, proven and carried away."""

from __future__ import annotations

import asyncio
import getpass
import json
import sqlite3
import subprocess
import urllib.request
from pathlib import Path

import pytest
from incident_scene import Scene
from running import Process

from sidecar.cli.main import main
from sidecar.clock import Clock
from storage import open_store

DAY_US = 86_400_000_000
KEY = "viewer-canary-Qm9Yb2N4a1Zt-0123456789abcdef"
TENANTS = (
    "tenants: {acme: {agents: {coder: {}}, people: {eve: {roles: [viewer], key: {env: EVE}}}},"
    " rival: {agents: {other: {}}, people: {rob: {roles: [viewer], key: {env: ROB}}}}}\n"
    "identity: {default_agent: acme/coder}\n"
    "receipts: {key: {file: key.pem}, checkpoint: {every: 1h}}\n"
)


class LongAgo(Clock):
    """Nine days behind."""

    def now_us(self) -> int:
        return super().now_us() - 9 * DAY_US


def noticed(folder: Path) -> tuple[str, str]:
    """Fills a store with an incident of nine days ago, and one of now."""

    async def fill() -> tuple[str, str]:
        store = await open_store(f"sqlite:///{folder}/aegis.db", now_us=Clock().now_us)
        try:
            scene = Scene.on(store)
            scene.clock = LongAgo()
            old = await scene.trouble(calls_of="old")
            scene.clock = Clock()
            return old, await scene.trouble()
        finally:
            await store.close()

    return asyncio.run(fill())


def test_incidents_are_worked_on_and_proven_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = Process(tmp_path, environment={"EVE": KEY, "ROB": f"{KEY}-rob"})
    made = subprocess.run(
        ["openssl", "genpkey", "-algorithm", "ed25519"], capture_output=True, check=True
    )
    (tmp_path / "key.pem").write_bytes(made.stdout)
    (tmp_path / "key.pem").chmod(0o600)
    public = tmp_path / "public.pem"
    subprocess.run(
        ["openssl", "pkey", "-in", tmp_path / "key.pem", "-pubout", "-out", public], check=True
    )
    process.write("  mail: {url: 'http://127.0.0.1:9'}\n", {"p.yaml": POLICY}, TENANTS)
    old, new = noticed(tmp_path)
    store = f"sqlite:///{tmp_path}/aegis.db"

    def told(*arguments: str, code: int = 0) -> str:
        found, said = main(arguments), capsys.readouterr()
        assert found == code, (arguments, said)
        return said.out + said.err

    def asked(*arguments: str, code: int = 0) -> str:
        return told(*arguments, "--data-dir", str(tmp_path), code=code)

    def proven(*arguments: str, code: int = 0) -> str:
        return told("soc", *arguments, "--tenant", "acme", "--store", store,
                    code=code)  # fmt: skip

    process.start()
    try:
        assert [line.split()[0] for line in asked("incidents", "list").splitlines()] == [new, old]
        assert asked("incidents", "list", "--state", "closed") == "there are no incidents\n"
        shown = asked("incidents", "show", new)
        assert "coder: 3 refusals" in shown and "raised     receipt" in shown
        said = asked("incidents", "acknowledge", new, "--reason", "looking")
        assert f"acknowledge socket:{getpass.getuser()}" in said and "tells of it" in said
        asked("contain", "block-tool", "mail/send", "--for", "1h", "--incident", new,
              "--tenant", "acme")  # fmt: skip
        shown = asked("incidents", "show", new)
        assert (
            shown.startswith(f"{new}  contained") and "block-tool mail/send: containment" in shown
        )
        asked("incidents", "note", new, "the token was \x1b[31mleaked")
        assert "\\x1b[31mleaked" in asked("incidents", "show", new), "and nothing of a terminal"
        alerts = json.loads(asked("alerts", "list", "--json", "--severity", "low"))["alerts"]
        assert {one["detection"] for one in alerts} == {"runaway"} and len(alerts) == 2
        assert "closed" in asked("alerts", "close", alerts[0]["alert_id"], "--reason", "as asked")
        assert "closed" in asked("alerts", "show", alerts[0]["alert_id"])
        assert "wrong_state" not in asked("incidents", "close", new, "--reason", "rotated")
        assert "nothing was changed" in asked("incidents", "close", new)
        assert "takes no acknowledge" not in asked("alerts", "list")
        assert "new alert" in asked("incidents", "acknowledge", new, code=1)
        assert "no incident" in asked("incidents", "show", "nobody", code=1)
        assert "no incident" in asked("incidents", "show", new, "--tenant", "rival", code=1)
        assert "verified" in proven("verify", new), "while it runs"
        verdict = heard(process, f"/v1/incidents/{new}/verify", KEY)
        assert verdict["verified"] and verdict["receipts"] == verdict["wanted"]
        assert heard(process, "/v1/incidents", f"{KEY}-rob") == []
    finally:
        assert process.stop() == 0
    pack = tmp_path / "pack.json"
    said = proven("pack", new, "--to", str(pack), "--without-facts")
    assert "2 alerts" in said and f"`soc verify {pack} --key PUBLIC`" in said
    said = told("soc", "verify", str(pack), "--key", str(public))
    assert "anchored at" in said and "shown: " in said
    assert "TAMPERED" in told("soc", "verify", str(pack), "--key", str(other_key(tmp_path)), code=1)
    assert proven("verify", new, "--key", str(public), "--json").startswith('{"holds": true')
    note = str(tmp_path / "kept.note")
    told("receipts", "checkpoint", "--output", note, "--tenant", "acme", "--store", store)
    kept = ("--checkpoint", note, "--key", str(public))
    assert "anchored at" in proven("verify", new, *kept)
    assert "anchored at" in told("soc", "verify", str(pack), *kept)
    archive = str(tmp_path / "archive.jsonl")
    told("store", "prune", "receipts", "--older-than", "1d", "--archive", archive, "--tenant",
         "acme", "--store", store)  # fmt: skip
    said = proven("verify", old)
    assert "0 of 7 receipts" in said and "archived. `receipts verify`" in said
    assert "verified" in proven("verify", new), "which is after the cut"
    with sqlite3.connect(tmp_path / "aegis.db") as database:
        database.execute("UPDATE receipts SET tool = 'x' WHERE call_id = 'acme-1'")
    database.close()
    said = proven("verify", new, code=1)
    assert "TAMPERED" in said and "does not match its receipt_hash" in said
    assert "does not match its receipt_hash" in proven("verify", new, *kept, code=1)
    assert "there is no incident" in proven("verify", "nobody", code=1)
    assert "holds no checkpoint" in proven("verify", new, "--checkpoint", str(public), code=2)


POLICY = "policy: p\nrules:\n  - {id: all, effect: allow, tools: '*'}\n"


def heard(process: Process, path: str, key: str) -> object:
    request = urllib.request.Request(
        f"{process.control_url}{path}", headers={"Authorization": f"Bearer {key}"}
    )
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.loads(reply.read())


def other_key(folder: Path) -> Path:
    path = folder / "other.pem"
    made = subprocess.run(
        ["openssl", "genpkey", "-algorithm", "ed25519"], capture_output=True, check=True
    )
    subprocess.run(["openssl", "pkey", "-pubout", "-out", path], input=made.stdout, check=True)
    return path
