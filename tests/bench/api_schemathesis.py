"""The API tried from its own document by schemathesis, with the keys of two tenants in turn.

In an environment of its own (`requirements-schemathesis.lock`), made when first needed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "unit" / "api")]

from api_setup import agent_token

ROOT = HERE.parents[1]
TENANTS = {"acme": "rival", "rival": "acme"}
#: Paths that agents ask for, and those that nobody else does.
OF_AGENTS = r"^/v1/(authorize|approvals/\{approval_id\}(/consume)?)$"
OF_AGENTS_ALONE = r"^/v1/(authorize|approvals/\{approval_id\}/consume)$"
_CASES = re.compile(r"(\d+) generated")


def environment() -> Path:
    """The folder of its commands, made if it is not there."""
    chosen = os.environ.get("AEGIS_SCHEMATHESIS_VENV")
    venv = Path(chosen) if chosen else ROOT / ".venv-schemathesis"
    subprocess.run(
        ["bash", str(ROOT / "deploy/environment.sh"), str(venv),
         str(HERE / "requirements-schemathesis.lock")],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return venv / "bin"


@contextmanager
def served() -> Iterator[str]:
    """The URL of an API that is served by a process of its own."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "api_serve.py")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(20)


def run(examples: int, seconds: int) -> dict[str, Any]:
    """What it finds with each tenant's admin key and with an agent's token, and how many requests
    it made."""
    found: dict[str, Any] = {"cases": 0, "violations": []}
    for tenant, other in TENANTS.items():
        with served() as url, tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "openapi.json"
            file.write_bytes(_document(url, f"{tenant}-admin-key"))
            asking = (
                (f"{tenant}-admin-key", ["--exclude-path-regex", OF_AGENTS_ALONE]),
                (agent_token(tenant), ["--include-path-regex", OF_AGENTS]),
            )
            for key, which in asking:
                done = _tried(url, file, key, which, other, examples, seconds)
                count = _CASES.search(done.stdout)
                found["cases"] += int(count[1]) if count else 0
                if done.returncode:
                    found["violations"].append(done.stdout[-8000:] + done.stderr[-2000:])
    return found


def _document(url: str, key: str) -> bytes:
    """The document, which is served to people alone."""
    request = Request(f"{url}/v1/openapi.json", headers={"Authorization": f"Bearer {key}"})
    with urlopen(request, timeout=10) as reply:
        said: bytes = reply.read()
        return said


def _tried(
    url: str, file: Path, key: str, which: list[str], other: str, examples: int, seconds: int
) -> subprocess.CompletedProcess[str]:
    command = [
        str(environment() / "schemathesis"), "run", str(file), "--url", url, *which,
        "-H", f"Authorization: Bearer {key}", "-n", str(examples),
        "--max-time", str(seconds), "--continue-on-failure", "--no-color", "--warnings", "off",
    ]  # fmt: skip
    foreign = [f"coder-{other}", f"call-of-{other}", f"of-{other}", f"person:{other}"]
    environ = {
        **os.environ, "SCHEMATHESIS_HOOKS": "api_hooks", "PYTHONPATH": str(HERE),
        "AEGIS_FOREIGN": " ".join(foreign),
    }  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, env=environ, cwd="/tmp")
