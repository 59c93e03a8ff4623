"""The first command of a newcomer: a fresh clone, an empty home, one line."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tracked files, as a clone would have them."""
    target = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def environment(home: Path) -> dict[str, str]:
    kept = ("PATH", "LANG", "PYENV_ROOT", "SSL_CERT_FILE", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
    registries = [name for name in os.environ if name.startswith(("PIP_", "UV_"))]
    found = {name: os.environ[name] for name in (*kept, *registries) if name in os.environ}
    return {**found, "HOME": str(home)}


@pytest.mark.timeout(300)
def test_quickstart_once_tells_the_whole_story(clone: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "deploy/quickstart.sh", "--once"],
        cwd=clone,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for said in (
        "environment: ",
        "allowed by rule demo/reads",
        "refused (403 policy_deny): a refund of 99900 cents is above the limit of 20000",
        "approved by socket:",
        "next step for the agent",
        "Ada wants 1200 cents back. The agent refunds: POST /shop/orders/1001/refund\n   allowed",
        'read_web_page: "Ten teas',
        "refused (403 policy_deny): this run has read untrusted_external content; shop/refund",
        "rule confused-deputy/strangers-change-nothing",
        "The same refund, now for a customer: allowed by rule demo/small-refunds",
        "agent asked 5 times in 5s for what nobody has declared",
        "freeze-agent agent, by detection:keeps-trying",
        "From here on nothing of it goes ahead: This agent is frozen",
        "verified: incident",
        "The agent may read again",
        f"{'run.reset':<18} agent",
        "verified offline",
        "TAMPERED: receipt",
        "/metrics",
    ):
        assert said in done.stdout, (said, done.stdout, done.stderr)
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.timeout(120)
def test_quickstart_keeps_running_until_it_is_told_to_stop(clone: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        ["bash", "deploy/quickstart.sh"],
        cwd=clone,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    seen = ""
    until = time.monotonic() + 90
    while "Ctrl-C" not in seen and time.monotonic() < until:
        line = process.stdout.readline()
        if not line:
            break
        seen += line
    assert "Ctrl-C" in seen, seen
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=45)
    assert process.returncode == 0, seen + rest
