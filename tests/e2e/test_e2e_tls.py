"""A sidecar whose listeners speak TLS: called, scraped, asked for its health, and renewed."""

from __future__ import annotations

import json
import ssl
import time
import urllib.request
from pathlib import Path

from certificates import Authority
from reload_load import upstream
from running import Process

POLICIES = {
    "tools.yaml": "catalogue: up\ntools: {read: GET /read}\n",
    "p.yaml": "policy: p\nrules:\n  - {id: read, effect: allow, tools: up/*}\n",
}


class TlsProcess(Process):
    """One that is ready when `health` says so: its certificate is of an authority of its own."""

    def readiness(self) -> int:
        return 200 if self.cli("health", "--config", str(self.config)).returncode == 0 else 0


def test_both_listeners_speak_tls_and_take_over_a_new_certificate(tmp_path: Path) -> None:
    authority = Authority()
    authority.sign().write(tmp_path)
    process = TlsProcess(tmp_path)
    with upstream() as url:
        process.write(f"  up: {{url: '{url}'}}", POLICIES)
        tls = "tls: {cert: {file: server.pem}, key: {file: server.key}}"
        text = process.config.read_text()
        for port in (process.data_port, process.control_port):
            text = text.replace(f"'127.0.0.1:{port}'", f"{{address: '127.0.0.1:{port}', {tls}}}")
        process.config.write_text(text)
        process.start()
        try:
            trusting = authority.trusted()
            data, control = (
                f"https://localhost:{port}" for port in (process.data_port, process.control_port)
            )
            with urllib.request.urlopen(f"{data}/up/read", context=trusting, timeout=10) as reply:
                assert (reply.status, reply.headers["Aegis-Call-Id"] != "") == (200, True)
            assert '"ready"' in read(f"{control}/readyz", trusting)
            before = expiry(read(f"{control}/metrics", trusting))
            assert set(before) == {"data", "control"}
            authority.sign(days=20).write(tmp_path)
            until_s = time.monotonic() + 20
            while expiry(read(f"{control}/metrics", trusting))["data"] == before["data"]:
                assert time.monotonic() < until_s, process.log()
                time.sleep(0.1)
            with urllib.request.urlopen(f"{data}/up/read", context=trusting, timeout=10) as reply:
                assert reply.status == 200
            status = process.cli("status", "--config", str(process.config), "--json")
            assert data.replace("localhost", "127.0.0.1") in status.stdout, status
        finally:
            process.stop()
    lines = [json.loads(line) for line in process.log().splitlines() if line.startswith("{")]
    renewed = [line["listener"] for line in lines if line["event"] == "a certificate is in force"]
    assert sorted(renewed) == ["control", "data"]


def read(url: str, context: ssl.SSLContext) -> str:
    with urllib.request.urlopen(url, context=context, timeout=10) as reply:
        return str(reply.read().decode())


def expiry(metrics: str) -> dict[str, float]:
    """Until when each listener's certificate is valid."""
    name = "aegis_tls_certificate_expiry_timestamp_seconds{listener="
    found = (line.removeprefix(name) for line in metrics.splitlines() if line.startswith(name))
    pairs = (line.partition("} ") for line in found)
    return {label.strip('"'): float(value) for label, _, value in pairs}
