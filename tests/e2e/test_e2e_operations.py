"""What operators meet: metrics, reload, one process per file, drain, disk full, bad files."""

from __future__ import annotations

import concurrent.futures
import http.client
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import warm
from running import ROOT, Process

CATALOGUE = "catalogue: up\ntools: {get: GET /get, slow: GET /slow, slower: GET /slower}\n"
POLICY = "policy: ops\nrules: [{id: reads, effect: allow, tools: up/*, mutates: false}]\n"


class Upstream(BaseHTTPRequestHandler):
    """Answers at once, or after a second; counts."""

    protocol_version = "HTTP/1.1"
    count = 0

    def do_GET(self) -> None:
        type(self).count += 1
        if self.path.startswith("/slow"):
            time.sleep(6 if self.path == "/slower" else 1)
        self.send_response(500 if self.path == "/broken" else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}" if self.path == "/broken" else b"ok")

    def log_message(self, format: str, *arguments: object) -> None:
        return


@pytest.fixture
def upstream() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    Upstream.count = 0
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def prepare(folder: Path, upstream: str, rest: str = "") -> Process:
    sidecar = Process(folder)
    sidecar.write(
        f"  up: {{url: '{upstream}'}}", {"tools.yaml": CATALOGUE, "policy.yaml": POLICY}, rest
    )
    return sidecar


@pytest.fixture
def sidecar(tmp_path: Path, upstream: str) -> Iterator[Process]:
    running = prepare(tmp_path, upstream).start()
    yield running
    running.kill()


def get(sidecar: Process, path: str = "/up/get") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", sidecar.data_port, timeout=20)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        body = reply.read()
    finally:
        connection.close()
    code = json.loads(body).get("code", "") if reply.status >= 400 else ""
    return reply.status, code


def lines_of(sidecar: Process, about: str) -> list[dict[str, object]]:
    """What the log says of it."""
    lines = [json.loads(one) for one in sidecar.log().splitlines() if one.startswith("{")]
    return [one for one in lines if about in str(one["event"])]


def test_d8_observe_and_shadow_are_in_the_log_in_status_and_in_metrics(
    tmp_path: Path, upstream: str
) -> None:
    """What was left on after a trial is said at each start, and at each load."""
    sidecar = prepare(tmp_path, upstream, "default: observe")
    trial = "policy: trial\nmode: shadow\nrules:\n"
    path = tmp_path / "policies" / "trial.yaml"
    path.write_text(
        trial + "".join(f"  - {{id: r{n}, effect: allow, tools: up/get}}\n" for n in "ab")
    )
    try:
        sidecar.start()
        (observed,) = lines_of(sidecar, "default is observe")
        (told,) = lines_of(sidecar, "in shadow")
        assert observed["level"] == told["level"] == "warning"
        assert (told["count"], told["rules"]) == (2, 3)
        assert "policy promote" in str(told["next_step"])
        metrics = sidecar.metrics()
        assert metrics["aegis_default_observe"] == 1
        assert metrics['aegis_policy_rules{mode="enforce"}'] == 1
        assert metrics['aegis_policy_rules{mode="shadow"}'] == 2
        said = sidecar.cli("status", "--data-dir", str(tmp_path)).stdout
        assert "OBSERVE: nothing is refused" in said and "SHADOW: 2 of 3 rules" in said

        path.write_text(trial + "  - {id: a, effect: allow, tools: up/get}\n")
        assert sidecar.cli("reload", "--data-dir", str(tmp_path)).returncode == 0
        assert [one["count"] for one in lines_of(sidecar, "in shadow")] == [2, 1]
        path.unlink()
        assert sidecar.cli("reload", "--data-dir", str(tmp_path)).returncode == 0
        assert len(lines_of(sidecar, "in shadow")) == 2
        assert sidecar.metrics()['aegis_policy_rules{mode="shadow"}'] == 0
        assert "SHADOW" not in sidecar.cli("status", "--data-dir", str(tmp_path)).stdout
    finally:
        sidecar.kill()


def test_metrics_are_well_formed_and_move(sidecar: Process) -> None:
    before = sidecar.metrics()
    assert get(sidecar) == (200, "")
    assert get(sidecar, "/up/nothing") == (403, "default_deny")
    after = sidecar.metrics()
    grew = {name for name in after if after[name] > before.get(name, 0)}
    for start in ("aegis_decisions_total", "aegis_refusals_total", "aegis_write_commits_total"):
        assert [name for name in grew if name.startswith(start)], (start, sorted(grew))
    assert after["aegis_store_ceiling_calls_per_second"] > 100
    assert 0 <= after["aegis_store_utilisation_ratio"] < 1
    promtool = shutil.which("promtool")
    assert promtool, "tests/run.sh installs Debian's prometheus"
    import urllib.request

    with urllib.request.urlopen(f"{sidecar.control_url}/metrics") as reply:
        text = reply.read()
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_policy_edit_is_in_force_within_seconds_and_a_broken_one_never(
    sidecar: Process,
) -> None:
    policy = sidecar.folder / "policies" / "policy.yaml"
    assert get(sidecar)[0] == 200
    policy.write_text(POLICY.replace("effect: allow", "effect: deny"))
    assert eventually(lambda: get(sidecar) == (403, "policy_deny"))
    policy.write_text("policy: ops\nrules: [{id: reads, effect: alow}]\n")
    time.sleep(2.5)
    assert get(sidecar) == (403, "policy_deny"), "the last good set stays"
    assert eventually(lambda: sidecar.metrics()["aegis_policy_reload_success"] == 0)
    policy.write_text(POLICY)
    reloaded = sidecar.cli("reload", "--config", str(sidecar.config))
    assert reloaded.returncode == 0, reloaded.stdout + reloaded.stderr
    assert get(sidecar)[0] == 200


def eventually(holds: object, patience_s: float = 6) -> bool:
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        if holds():  # type: ignore[operator]
            return True
        time.sleep(0.05)
    return False


def test_status_and_store_status_speak_plainly(sidecar: Process) -> None:
    get(sidecar)
    said = sidecar.cli("store", "status", "--config", str(sidecar.config))
    assert said.returncode == 0, said.stderr
    assert "calls/s" in said.stdout
    assert "limit" in said.stdout
    status = sidecar.cli("status", "--json", "--config", str(sidecar.config))
    assert json.loads(status.stdout)["version"]
    health = sidecar.cli("health", "--config", str(sidecar.config))
    assert health.returncode == 0, health.stdout + health.stderr
    by_file, by_folder = ("--config", str(sidecar.config)), ("--data-dir", str(sidecar.folder))
    asked = [(verb, *where) for verb in ("status", "reload") for where in (by_file, by_folder)]
    assert not any(sidecar.cli(*one).stderr for one in asked)
    sidecar.config.write_text(sidecar.config.read_text() + "default: observe\n")
    for one in asked:  # it is not in force, and nobody is to think that it is
        said = sidecar.cli(*one)
        assert said.returncode == 0 and "saved since the start" in said.stderr, one


def test_the_status_tells_of_the_last_backup(sidecar: Process, tmp_path: Path) -> None:
    status = ("store", "status", "--config", str(sidecar.config))
    assert "No backup is known" in sidecar.cli(*status).stdout
    assert sidecar.metrics()["aegis_store_last_backup_timestamp_seconds"] == 0
    begun_s = time.time()
    target = str(tmp_path / "copy.db")
    made = sidecar.cli("store", "backup", target, "--config", str(sidecar.config))
    assert made.returncode == 0, made.stderr
    said = sidecar.cli(*status).stdout
    assert "Last backup " in said and "bytes, verified." in said and target not in said
    metrics = sidecar.metrics()
    assert begun_s <= metrics["aegis_store_last_backup_timestamp_seconds"] <= time.time()
    free_bytes = shutil.disk_usage(tmp_path).free
    assert metrics["aegis_data_disk_free_bytes"] == pytest.approx(free_bytes, rel=0.2)


def test_an_upstream_that_fails_is_named_by_a_metric_with_the_cause(
    tmp_path: Path, upstream: str
) -> None:
    """However few of all calls it has; and one that hangs, whose callers are turned away."""
    sidecar = Process(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    names = {"up": upstream, "errs": upstream, "gone": f"http://127.0.0.1:{port}", "hung": upstream}
    limits = {"hung": ", limits: {calls: 1}, timeouts: {response: 400ms}"}
    tools = "tools: {get: GET /get, slow: GET /slow, broken: GET /broken}\n"
    sidecar.write(
        "\n".join(f"  {one}: {{url: '{url}'{limits.get(one, '')}}}" for one, url in names.items()),
        {
            **{f"{one}.yaml": f"catalogue: {one}\n{tools}" for one in names},
            "policy.yaml": "policy: ops\nrules: [{id: all, effect: allow, tools: '*'}]\n",
        },
    )
    try:
        sidecar.start()
        assert get(sidecar)[0] == 200
        assert get(sidecar, "/errs/broken")[0] == 500
        assert get(sidecar, "/gone/get") == (502, "upstream_unreachable")
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            first = pool.submit(get, sidecar, "/hung/slow")
            until = time.monotonic() + 5
            while not sidecar.metrics()["aegis_calls_in_flight"] and time.monotonic() < until:
                time.sleep(0.01)
            assert get(sidecar, "/hung/slow") == (503, "upstream_busy")
            assert first.result() == (504, "upstream_timeout")
        start = "aegis_upstream_failures_total{"
        failures = {
            name.removeprefix(start): value
            for name, value in sidecar.metrics().items()
            if name.startswith(start) and value
        }
    finally:
        sidecar.kill()
    assert failures == {
        'cause="server_error",upstream="errs"}': 1,
        'cause="unreachable",upstream="gone"}': 1,
        'cause="busy",upstream="hung"}': 1,
        'cause="timeout",upstream="hung"}': 1,
    }


def test_a9_a_second_process_on_the_same_file_refuses_to_start(
    sidecar: Process, tmp_path: Path, upstream: str
) -> None:
    second = Process(tmp_path)
    config = tmp_path / "second.yaml"
    config.write_text(
        sidecar.config.read_text()
        .replace(str(sidecar.data_port), str(second.data_port))
        .replace(str(sidecar.control_port), str(second.control_port))
    )
    refused = second.cli("serve", "--config", str(config))
    assert refused.returncode == 1
    assert "store_held" in refused.stderr
    assert str(sidecar.process.pid if sidecar.process else "?") in refused.stderr
    assert get(sidecar)[0] == 200, "the first one goes on"


def test_a6_sigterm_drains_and_exits_0(sidecar: Process) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        slow = [pool.submit(get, sidecar, "/up/slow") for _ in range(8)]
        time.sleep(0.4)
        assert sidecar.stop() == 0
        assert [answer.result()[0] for answer in slow] == [200] * 8
    sidecar.start()
    kinds = [receipt["kind"] for receipt in sidecar.receipts()]
    assert kinds.count("intent") == kinds.count("outcome") == 8
    assert "recovery" not in kinds


def test_a6_a_start_that_waits_for_a_server_which_hangs_can_be_stopped(
    tmp_path: Path, upstream: str
) -> None:
    """It would wait for 10 seconds, and then say that it cannot start."""
    sidecar = Process(tmp_path, store="{env: AEGIS_DB}")
    sidecar.write(f"  up: {{url: '{upstream}'}}", {"tools.yaml": CATALOGUE, "policy.yaml": POLICY})
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        url = f"postgresql://aegis@127.0.0.1:{server.getsockname()[1]}/aegis?sslmode=disable"
        with (tmp_path / "log").open("wb") as log:
            sidecar.process = warm.popen(
                sidecar.command("serve", "--config", str(sidecar.config)),
                cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "AEGIS_DB": url},
            )  # fmt: skip
        try:
            with server.accept()[0] as asked:
                asked.recv(1)  # and it hears nothing
                assert sidecar.stop(patience_s=5) == 0
        finally:
            sidecar.kill()
    assert "told to stop before it had started" in sidecar.log()


def test_a6_a_call_that_outlasts_the_drain_ends_unknown_not_aborted_by_its_client(
    tmp_path: Path, upstream: str
) -> None:
    sidecar = prepare(tmp_path, upstream, "limits: {drain: 1s}").start()
    try:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            call = pool.submit(get, sidecar, "/up/slower")
            time.sleep(0.4)
            assert sidecar.stop() == 0
            with pytest.raises((OSError, http.client.HTTPException)):
                call.result()
        sidecar.start()
        ended = [one for one in sidecar.receipts() if one["kind"] != "intent"]
        assert [one["outcome"] or one["action"] for one in ended] == [
            "unknown", "sidecar.stop", "sidecar.start",
        ]  # fmt: skip
    finally:
        sidecar.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a3_disk_full_refuses_and_recovers_by_itself(tmp_path: Path, upstream: str) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode()}")
    sidecar = prepare(tmp_path, upstream)
    text = sidecar.config.read_text().replace("sqlite:///aegis.db", f"sqlite:///{small}/aegis.db")
    sidecar.config.write_text(text)
    try:
        sidecar.start()
        assert get(sidecar)[0] == 200
        filler = small / "filler"
        with filler.open("wb", buffering=0) as handle:
            try:
                while True:
                    handle.write(b"x" * 4096)
            except OSError:
                pass
        seen = []
        for _ in range(400):
            seen.append(get(sidecar))
            if seen[-1][0] != 200:
                break
        assert seen[-1] == (503, "store_unavailable"), seen[-1]
        reached = Upstream.count
        assert get(sidecar)[0] == 503
        assert Upstream.count == reached, "nothing was forwarded"
        assert eventually(lambda: sidecar.readiness() == 503)
        filler.unlink()
        assert eventually(lambda: get(sidecar)[0] == 200)
        assert eventually(lambda: sidecar.readiness() == 200)
    finally:
        sidecar.kill()
        subprocess.run(["umount", str(small)], check=True)


def test_bad_configuration_and_policies_come_all_at_once(tmp_path: Path) -> None:
    sidecar = Process(tmp_path)
    sidecar.config.write_text(
        "default: maybe\nlisten: {data: here}\npolicies: ./policies\nupstreams:\n"
        "  v1: {url: 'http://127.0.0.1:1'}\n  up: {url: 'ftp://x', kimd: rest}\n"
    )
    done = sidecar.cli("config", "check", "--config", str(sidecar.config))
    assert done.returncode == 1
    lines = [line for line in (done.stdout + done.stderr).splitlines() if ": error: " in line]
    assert len(lines) >= 5, lines
    assert all(line.startswith(f"{sidecar.config}:") for line in lines)
    assert 'did you mean "kind"' in done.stdout + done.stderr
    started = sidecar.cli("serve", "--config", str(sidecar.config))
    assert started.returncode == 1


def test_observe_forwards_everything_and_says_so(tmp_path: Path, upstream: str) -> None:
    sidecar = prepare(tmp_path, upstream, "default: observe").start()
    try:
        assert get(sidecar, "/up/nothing") == (200, "")
        assert sidecar.metrics()["aegis_default_observe"] == 1
        receipts = sidecar.receipts()
        assert [(r["kind"], r["decision"], r["mode"]) for r in receipts][:1] == [
            ("intent", "deny", "observe")
        ]
    finally:
        sidecar.stop()


def test_client_disconnect_is_recorded(sidecar: Process) -> None:
    with socket.create_connection(("127.0.0.1", sidecar.data_port)) as client:
        client.sendall(b"GET /up/slow HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        time.sleep(0.4)
    assert eventually(
        lambda: "aborted_by_client" in [receipt["outcome"] for receipt in sidecar.receipts()]
    )
