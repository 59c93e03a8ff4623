"""What an agent did earlier decides what it may do now, without its help and against its tricks:
the shipped packs over real sockets, in front of a server nobody here wrote.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import postgres_server
import pytest
from running import Process, free_port

CATALOGUE = """\
catalogue: bin
tools:
  page: {route: GET /get, mutates: false, returns: untrusted_external}
  customer:
    route: GET /anything/{rest...}
    mutates: false
    labels: reads-private
    returns: trusted_internal_unsigned
  send: {route: POST /post, labels: sends-external, returns: trusted_internal_unsigned}
  note: {route: PUT /put, returns: trusted_internal_unsigned}
"""
POLICY = "policy: mine\nrules: [{id: all, effect: allow, tools: bin/*}]\n"
PAGE, CUSTOMER, SEND, NOTE = (
    ("GET", "/get"), ("GET", "/anything/7"), ("POST", "/post"), ("PUT", "/put")
)  # fmt: skip


@pytest.fixture(scope="module")
def httpbin() -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{port}", "--threads", "8",
         "--log-level", "critical", "httpbin:app"],
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    for _ in range(200):
        try:
            urllib.request.urlopen(f"{url}/get", timeout=1).close()
            break
        except OSError:
            time.sleep(0.05)
    yield url
    process.terminate()
    process.wait(10)


def written(folder: Path, httpbin: str, packs: str, store: str = "sqlite:///aegis.db") -> Process:
    folder.mkdir(exist_ok=True)
    running = Process(folder, store=store)
    running.write(f"  bin: {{url: '{httpbin}'}}\n", {"bin.yaml": CATALOGUE, "mine.yaml": POLICY})
    text = running.config.read_text()
    running.config.write_text(text.replace("policies: ./policies", f"policies: {packs}"))
    return running


def called(running: Process, call: tuple[str, str], token: str = "") -> tuple[int, str]:
    """Status and code; with a fresh run id, trace and session each time, as an agent might try."""
    method, path = call
    request = urllib.request.Request(
        f"{running.url}/bin{path}",
        method=method,
        data=b"{}" if method != "GET" else None,
        headers={
            "Content-Type": "application/json",
            "Aegis-Run": uuid.uuid4().hex,
            "Mcp-Session-Id": uuid.uuid4().hex,
            "traceparent": f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-01",
            **({"Aegis-Token": token} if token else {}),
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, ""
    except urllib.error.HTTPError as error:
        with error:
            said = json.loads(error.read())
        return error.code, f"{said['code']}: {said.get('detail') or said.get('title')}"


@pytest.mark.parametrize("order", [(PAGE, CUSTOMER), (CUSTOMER, PAGE)])
def test_private_data_untrusted_content_and_a_way_out_do_not_meet(
    httpbin: str, tmp_path: Path, order: tuple[tuple[str, str], ...]
) -> None:
    running = written(tmp_path, httpbin, "[pack:lethal-trifecta, ./policies]").start()
    try:
        assert called(running, SEND)[0] == 200, "positive control: nothing has met yet"
        for call in order:
            assert called(running, call)[0] == 200
        status, why = called(running, SEND)
        assert status == 403 and "private data and untrusted_external content met" in why
        running.kill()
        running.start()
        assert called(running, SEND)[0] == 403, "a restart changes nothing"
        assert called(running, NOTE)[0] == 200, "positive control: what sends nothing goes on"
        facts = [row["rule_id"] for row in running.receipts() if row["kind"] == "refusal"]
        assert facts == ["lethal-trifecta/no-exfiltration"] * 2
    finally:
        running.stop()


def test_an_operator_ends_a_run_on_record(httpbin: str, tmp_path: Path) -> None:
    running = written(tmp_path, httpbin, "[pack:lethal-trifecta, ./policies]").start()
    try:
        for call in (PAGE, CUSTOMER):
            assert called(running, call)[0] == 200
        assert called(running, SEND)[0] == 403
        shown = running.cli("runs", "show", "agent", "--config", str(running.config))
        assert shown.returncode == 0, shown.stderr
        assert "untrusted_external" in shown.stdout and "reads-private" in shown.stdout
        reset = running.cli(
            "runs", "reset", "agent", "--reason", "looked at it", "--config", str(running.config)
        )
        assert reset.returncode == 0, reset.stdout + reset.stderr
        assert called(running, SEND)[0] == 200
        said = [row for row in running.receipts() if row["kind"] == "control"]
        assert [row["action"] for row in said] == ["run.reset"]
        assert said[0]["agent_id"] == "agent"
        unknown = running.cli(
            "runs", "reset", "nobody", "--reason", "x", "--config", str(running.config)
        )
        assert unknown.returncode == 1 and "nobody" in unknown.stderr
        assert "control.sock refuses: there is no agent 'nobody'" in unknown.stderr
        assert "`agents list` shows them." in unknown.stderr
    finally:
        running.stop()


def test_the_run_of_an_agent_that_was_registered_is_shown_and_ended(
    httpbin: str, tmp_path: Path
) -> None:
    """The configuration does not name it: the store alone knows it."""
    running = written(tmp_path, httpbin, "[pack:lethal-trifecta, ./policies]").start()
    try:
        asked = ("--config", str(running.config))
        made = json.loads(running.cli("agents", "register", "bob", "--json", *asked).stdout)
        for call in (PAGE, CUSTOMER):
            assert called(running, call, made["token"])[0] == 200
        assert called(running, SEND, made["token"])[0] == 403
        shown = running.cli("runs", "show", "bob", *asked)
        assert shown.returncode == 0, shown.stderr
        assert "run   default/bob: trust untrusted_external; labels reads-private" in shown.stdout
        reset = running.cli("runs", "reset", "bob", "--tenant", "default", "--reason", "x", *asked)
        assert reset.returncode == 0, reset.stderr
        assert called(running, SEND, made["token"])[0] == 200
        other = running.cli("runs", "show", "bob", "--tenant", "acme", *asked)
        assert other.returncode == 1 and "there is no agent 'bob' of 'acme'" in other.stderr
    finally:
        running.stop()


def test_calls_at_once_cannot_slip_past_each_other(httpbin: str, tmp_path: Path) -> None:
    """Page, customer and many sends in flight together: no send is on record after both."""
    running = written(tmp_path, httpbin, "[pack:lethal-trifecta, ./policies]")
    # A send between the customer and the page asks somebody: it is not to wait for an answer here.
    running.config.write_text(running.config.read_text() + "approvals: {hold: 0s}\n")
    running.start()
    try:
        assert called(running, NOTE)[0] == 200
        statuses: list[int] = []
        calls = [SEND] * 6 + [PAGE, CUSTOMER] + [SEND] * 6
        threads = [
            threading.Thread(target=lambda c=c: statuses.append(called(running, c)[0]))
            for c in calls
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(statuses) <= {200, 403}, statuses
        gathered: set[str] = set()
        sent_after = []
        for row in running.receipts():
            if row["kind"] != "intent":
                continue
            tool = str(row["tool"])
            if tool == "bin/send" and {"bin/page", "bin/customer"} <= gathered:
                sent_after.append(row)
            gathered.add(tool)
        assert {"bin/page", "bin/customer"} <= gathered
        assert sent_after == []
        assert called(running, SEND)[0] == 403
    finally:
        running.stop()


def test_a_call_on_another_node_meets_what_was_gathered_here(httpbin: str, tmp_path: Path) -> None:
    with postgres_server.server() as dsn:
        url = asyncio.run(postgres_server.new_database(dsn))
        nodes = [
            written(tmp_path / name, httpbin, "[pack:lethal-trifecta, ./policies]", "{env: DB}")
            for name in ("one", "other")
        ]
        try:
            for node in nodes:
                node.environment["DB"] = url
                node.start()
            assert [called(node, SEND)[0] for node in nodes] == [200, 200]
            assert called(nodes[0], PAGE)[0] == 200
            assert called(nodes[1], CUSTOMER)[0] == 200
            assert [called(node, SEND)[0] for node in nodes] == [403, 403]
            assert [called(node, NOTE)[0] for node in nodes] == [200, 200]
        finally:
            for node in nodes:
                node.stop()


def test_untrusted_content_cannot_cause_a_change(httpbin: str, tmp_path: Path) -> None:
    """The confused deputy: nobody declared anything."""
    running = written(tmp_path, httpbin, "[pack:trust, ./policies]").start()
    try:
        assert called(running, NOTE)[0] == 200, "positive control"
        assert called(running, PAGE)[0] == 200
        status, why = called(running, NOTE)
        assert status == 403, why
        assert called(running, PAGE)[0] == 200, "reading goes on"
    finally:
        running.stop()
