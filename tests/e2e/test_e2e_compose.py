"""What compose.yaml starts, without containers: its secrets, configuration, demo, and role of
PostgreSQL; and a real sidecar's /metrics has every name that dashboards and rules ask for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import postgres_server
import pytest
import yaml
from running import ROOT, Process, free_port

sys.path.insert(0, str(ROOT / "tests" / "unit" / "telemetry"))

from promql_names import (
    DASHBOARDS,
    asked_by,
    dashboard,
    expressions,
    queries,
    rules_of,
    texts,
)

COMPOSE = ROOT / "deploy" / "compose"
PATIENCE_S = 40.0
#: What the postgres profile puts over the file's store.
STORE = "{env: AEGIS_DB}"
#: Of Prometheus itself.
NOT_EXPORTED = {"up"}


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """As secrets.sh makes them, once."""
    path = tmp_path_factory.mktemp("secrets") / "env"
    script = ["bash", str(COMPOSE / "secrets.sh"), str(path)]
    made = subprocess.run(script, check=True, capture_output=True, text=True, timeout=30)
    assert made.stdout == f"secrets: made {path}\n"
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    subprocess.run(script, check=True, timeout=30, stdout=subprocess.DEVNULL)
    assert path.read_text() == text, "what is there stays"
    found = dict(line.split("=", 1) for line in text.splitlines())
    assert len(set(found.values())) == len(found) and all(len(v) == 48 for v in found.values())
    return found


def test_compose_asks_for_no_secret_that_is_not_made(secrets: dict[str, str]) -> None:
    text = (ROOT / "deploy" / "compose.yaml").read_text("utf-8")
    asked = {part.partition(":?")[0] for part in text.split("${")[1:]}
    assert asked == set(secrets)


@contextmanager
def started(folder: Path, secrets: dict[str, str], **environment: str) -> Iterator[Process]:
    """A sidecar by the configuration of compose.yaml, with its demo beside it; both end well."""
    port = free_port()
    text = (COMPOSE / "sidecar.yaml").read_text("utf-8")
    for inside, here in (
        ("/etc/aegis/policies", str(COMPOSE / "policies")),
        ("http://tools:8090", f"http://127.0.0.1:{port}"),
    ):
        assert inside in text
        text = text.replace(inside, here)
    (folder / "sidecar.yaml").write_text(text)
    sidecar = Process(folder)
    sidecar.environment = {
        **{name: secrets[name] for name in ("DEMO_AGENT_TOKEN", "OPERATOR_KEY")},
        "AEGIS_LISTEN__DATA": f"127.0.0.1:{sidecar.data_port}",
        "AEGIS_LISTEN__CONTROL": f"127.0.0.1:{sidecar.control_port}",
        **environment,
    }
    demo = None
    try:
        sidecar.start()
        with (folder / "demo.log").open("wb") as log:
            demo = subprocess.Popen(
                [sys.executable, str(COMPOSE / "demo.py")], stdout=log, stderr=log, cwd=ROOT,
                env={
                    **os.environ, "DEMO_AGENT_TOKEN": secrets["DEMO_AGENT_TOKEN"],
                    "DEMO_SIDECARS": sidecar.url, "DEMO_TOOLS_HOST": "127.0.0.1",
                    "DEMO_TOOLS_PORT": str(port), "DEMO_PAUSE_S": "0.02",
                },
            )  # fmt: skip
        yield sidecar
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(PATIENCE_S) == 0, (folder / "demo.log").read_text()
        assert sidecar.stop() == 0
    finally:
        if demo is not None and demo.poll() is None:
            demo.kill()
            demo.wait()
        sidecar.kill()


def until_it_has_something_to_show(sidecar: Process) -> dict[str, float]:
    """The metrics, once the demo's agent has been allowed and refused."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        metrics = sidecar.metrics()
        refused = [metrics.get(f'aegis_refusals_total{{code="{code}"}}', 0)
                   for code in ("policy_deny", "default_deny")]  # fmt: skip
        if all(refused) and metrics['aegis_outcomes_total{outcome="completed"}'] >= 3:
            return metrics
        time.sleep(0.05)
    raise AssertionError((sidecar.folder / "demo.log").read_text())


def test_the_sidecars_on_postgres_get_their_store_as_it_is_tested_here() -> None:
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text("utf-8"))["services"]
    for name in ("sidecar-1", "sidecar-2"):
        given = services[name]["environment"]
        assert given["AEGIS_STORE"] == STORE
        assert given["AEGIS_DB"].startswith("postgresql://aegis:")


def test_the_demo_runs_and_every_name_that_is_asked_for_is_exported(
    tmp_path: Path, secrets: dict[str, str]
) -> None:
    with started(tmp_path, secrets) as sidecar:
        metrics = until_it_has_something_to_show(sidecar)
        names = exported_names(sidecar)
        agent, operator = secrets["DEMO_AGENT_TOKEN"], secrets["OPERATOR_KEY"]
        order = asked_of(f"{sidecar.url}/shop/orders/1001", "Aegis-Token", agent)
        assert json.loads(order)["customer"] == "Ada"
        seen = asked_of(
            f"{sidecar.control_url}/v1/decisions", "Authorization", f"Bearer {operator}"
        )
        assert "shop/get_order" in seen, "the guide's two calls"
        status = sidecar.cli("health", "--config", str(sidecar.config))
        assert (status.returncode, status.stdout) == (0, "ready\n"), "the image's health check"
    assert {'aegis_store_info{engine="sqlite"' in name for name in metrics} == {True, False}
    assert len(sidecar.receipts()) > 5
    rules = [rule for text in texts().values() for rule in rules_of(text)]
    recorded = {rule["record"] for rule in rules if "record" in rule}
    asked = {n for rule in rules for e in expressions(rule) for n in asked_by(e).names}
    asked |= {n for path in DASHBOARDS for e in queries(dashboard(path)) for n in asked_by(e).names}
    assert len(asked) > 60
    assert asked - recorded - NOT_EXPORTED - names == set()
    assert "aegis_refused_total" not in names, "a name that nothing has would be found"


def asked_of(url: str, header: str, value: str) -> str:
    request = urllib.request.Request(url, headers={header: value})
    with urllib.request.urlopen(request, timeout=10) as reply:
        return reply.read().decode()


def exported_names(sidecar: Process) -> set[str]:
    """Every series that /metrics declares, with or without samples."""
    with urllib.request.urlopen(f"{sidecar.control_url}/metrics", timeout=5) as reply:
        text = reply.read().decode()
    names = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            suffixes = ("_bucket", "_count", "_sum") if kind == "histogram" else ("",)
            names |= {name + suffix for suffix in suffixes}
    return names


def test_the_role_of_postgres_is_enough_for_a_sidecar_and_no_more(
    tmp_path: Path, secrets: dict[str, str]
) -> None:
    with postgres_server.new_cluster() as cluster:
        cluster.initialise()
        cluster.admit(
            "host all postgres 127.0.0.1/32 trust", "host all all 127.0.0.1/32 scram-sha-256"
        )
        cluster.start()
        subprocess.run(
            ["bash", str(COMPOSE / "postgres-role.sh")], check=True, timeout=60,
            stdout=subprocess.DEVNULL,
            env={
                "PATH": f"{cluster.binaries}:{os.environ['PATH']}", "PGHOST": "127.0.0.1",
                "PGPORT": str(cluster.port),
                "POSTGRES_AEGIS_PASSWORD": secrets["POSTGRES_AEGIS_PASSWORD"],
            },
        )  # fmt: skip
        rights = cluster.run(
            "psql", "-h", "127.0.0.1", "-p", str(cluster.port), "-U", "postgres", "-tAc",
            "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles "
            "WHERE rolname = 'aegis'",
        )  # fmt: skip
        assert rights.strip() == "f|f|f|f"
        password = secrets["POSTGRES_AEGIS_PASSWORD"]
        url = f"postgresql://aegis:{password}@127.0.0.1:{cluster.port}/aegis?sslmode=disable"
        with started(tmp_path, secrets, AEGIS_STORE=STORE, AEGIS_DB=url) as sidecar:
            metrics = until_it_has_something_to_show(sidecar)
        assert any('aegis_store_info{engine="postgres' in name for name in metrics)
