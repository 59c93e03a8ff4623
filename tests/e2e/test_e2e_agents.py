"""Agents and keys from the command line: registered, frozen, revoked, on record; two sidecars."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import postgres_server
import pytest
from running import Process
from tool_server import QuietTools, serving

CATALOGUE = "catalogue: shop\ntools:\n  get: {route: GET /get, mutates: false}\n"
POLICY = "policy: shop\nrules:\n  - {id: reads, effect: allow, tools: shop/*, mutates: false}\n"
AGENTS = "tenants: {acme: {agents: {coder: {token: {env: CODER_TOKEN}}}}}\n"
TOKEN = "coder-canary-Qm9Yb2N4a1Zt-1"


class _Shop(QuietTools):
    def do_GET(self) -> None:
        self.say_ok()


@pytest.fixture(scope="module")
def shop() -> Iterator[str]:
    with serving(_Shop) as url:
        yield url


def sidecar_in(folder: Path, shop: str, store: str = "", more: str = AGENTS) -> Process:
    folder.mkdir(exist_ok=True)
    environment = {"CODER_TOKEN": TOKEN, "AEGIS_DB": store}
    process = Process(folder, environment=environment)
    if store:
        process.store = "{env: AEGIS_DB}"
    policies = {"shop.yaml": CATALOGUE, "policy.yaml": POLICY}
    process.write(f"  shop: {{url: '{shop}'}}\n", policies, more)
    return process


def ask(process: Process, token: str = "") -> tuple[int, str]:
    """The status, and the code of a refusal."""
    connection = http.client.HTTPConnection("127.0.0.1", process.data_port, timeout=20)
    try:
        connection.request("GET", "/shop/get", headers={"Aegis-Token": token} if token else {})
        reply = connection.getresponse()
        body = reply.read()
        return reply.status, "" if reply.status == 200 else json.loads(body)["code"]
    finally:
        connection.close()


def told(process: Process, *arguments: str) -> str:
    done = process.cli(*arguments, "--data-dir", str(process.folder))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_life_of_an_agent_from_the_command_line(tmp_path: Path, shop: str) -> None:
    process = sidecar_in(tmp_path / "one", shop)
    process.start()
    try:
        assert ask(process) == (401, "unauthenticated")
        assert ask(process, TOKEN) == (200, "")
        made = told(process, "agents", "register", "helper", "--team", "web", "--reason", "a test")
        (token,) = [line.split()[1] for line in made.splitlines() if line.startswith("token")]
        assert token.startswith("agent_acme.helper.") and "shown once" in made
        assert ask(process, token) == (200, "")
        told(process, "agents", "freeze", "helper", "--reason", "it mails customers")
        assert ask(process, token) == (403, "agent_frozen")
        shown = told(process, "agents", "show", "helper")
        assert "helper: frozen" in shown and "it mails customers" in shown
        assert f"agent.freeze by socket:{getpass.getuser()}" in shown
        told(process, "agents", "unfreeze", "helper")
        rotated = json.loads(told(process, "agents", "rotate-token", "helper", "--json"))["token"]
        assert ask(process, token) == (401, "unauthenticated")
        assert ask(process, rotated) == (200, "")
        told(process, "agents", "revoke", "helper")
        assert ask(process, rotated) == (401, "unauthenticated")
        refused = process.cli("agents", "unfreeze", "helper", "--data-dir", str(process.folder))
        assert refused.returncode == 1 and "That is final" in refused.stderr
        listed = told(process, "agents", "list").splitlines()
        assert [line.split() for line in listed] == [
            ["acme/coder", "active", "token", "sidecar.yaml"],
            ["acme/helper", "revoked", "token", "registered"],
        ]
        key = json.loads(told(process, "keys", "create", "ana", "--role", "admin", "--json"))
        assert key["key"].startswith("tenant_acme.")
        assert key["key_id"] in told(process, "keys", "list")
        told(process, "keys", "revoke", key["key_id"], "--reason", "done")
        assert "revoked" in told(process, "keys", "list")
        metrics = process.metrics()
        assert metrics['aegis_agents{state="revoked"}'] == 1
        log = process.log()
    finally:
        assert process.stop() == 0
    exported = process.cli("receipts", "export", "--config", str(process.config)).stdout
    rows = [json.loads(line) for line in exported.splitlines()]
    assert [row["action"] for row in rows if row["kind"] == "control"] == [
        "agent.register", "agent.freeze", "agent.unfreeze", "agent.rotate_token", "agent.revoke",
        "key.create", "key.revoke", "sidecar.stop",
    ]  # fmt: skip
    kept = b"".join(path.read_bytes() for path in process.folder.glob("aegis.db*"))
    for secret in (TOKEN, token, rotated, key["key"]):
        secret = secret.rpartition(".")[2]
        assert secret not in log and secret not in exported and secret.encode() not in kept


def test_an_agent_frozen_at_one_sidecar_is_refused_at_the_other_within_a_second(
    tmp_path: Path, shop: str
) -> None:
    with postgres_server.new_cluster() as cluster:
        cluster.initialise()
        cluster.start("fsync=off")
        url = asyncio.run(postgres_server.new_database(cluster.dsn()))
        one, other = (sidecar_in(tmp_path / name, shop, url) for name in ("one", "other"))
        one.start()
        other.start()
        try:
            assert ask(other, TOKEN) == ask(one, TOKEN) == (200, "")
            answers: list[tuple[float, int]] = []
            is_over = threading.Event()

            def keeps_asking() -> None:
                while not is_over.is_set():
                    began, status = time.time(), 0
                    # What is still open when the agent is frozen is cut off.
                    with contextlib.suppress(http.client.HTTPException, OSError):
                        status = ask(other, TOKEN)[0]
                    answers.append((began, status))
                    time.sleep(0.005)

            asking = threading.Thread(target=keeps_asking)
            asking.start()
            while len(answers) < 3:
                time.sleep(0.01)
            told(one, "agents", "freeze", "coder", "--reason", "now")
            frozen = time.time()
            time.sleep(1.2)
            is_over.set()
            asking.join()
            late = [status for began, status in answers if began > frozen + 1]
            assert 200 in {status for _, status in answers}, "positive control"
            assert late and set(late) == {403}
            assert ask(one, TOKEN) == ask(other, TOKEN) == (403, "agent_frozen")
        finally:
            assert one.stop() == 0
            assert other.stop() == 0
        lines = one.cli("receipts", "export", "--tenant", "acme", "--store", url).stdout
    rows = [json.loads(line) for line in lines.splitlines()]
    (at,) = [row["seq"] for row in rows if row["action"] == "agent.freeze"]
    assert not [row for row in rows if row["kind"] == "intent" and row["seq"] > at]
    assert [row for row in rows if row["kind"] == "refusal" and row["seq"] > at]


def test_who_lacks_the_environments_secrets_still_asks_the_sidecar(
    tmp_path: Path, shop: str
) -> None:
    process = sidecar_in(tmp_path / "one", shop)
    process.start()
    process.environment = {"AEGIS_DB": ""}
    try:
        listed = process.cli("agents", "list", "--config", str(process.config))
        assert (listed.returncode, listed.stderr) == (0, "")
        assert "acme/coder" in listed.stdout
    finally:
        assert process.stop() == 0
    gone = process.cli("agents", "list", "--data-dir", str(process.folder))
    assert gone.returncode == 1 and "no sidecar runs here" in gone.stderr
