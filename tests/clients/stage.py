"""The fixture server and a sidecar in front of it, as processes; where clients are installed.

Knows: ports, the policy under which everything the fixture offers is allowed, the cache folder.
Must not know: any client.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fixture_rounds import ROUNDS
from fixture_server import TOOLS
from running import Process, free_port

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
READY_S = 20.0

POLICY = """\
policy: clients
rules:
  - {id: all, effect: allow, tools: ["fixture/*", "fixture/unknown", "fixture/mcp:*"]}
"""
DENYING_POLICY = f"""\
{POLICY}  - {{id: no-image, effect: deny, tools: fixture/test_image_content}}
"""
LIMITS = "limits: {connections: 512, per_address: 512}"


@dataclass
class Stage:
    """Where the fixture is reached: `direct`, and `through` the sidecar."""

    direct: str
    through: str
    sidecar: Process


def cache() -> Path:
    """Where clients are installed: AEGIS_TEST_CACHE, else below the user's cache folder."""
    chosen = os.environ.get("AEGIS_TEST_CACHE")
    if chosen:
        return Path(chosen)
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return home / "aegis-sidecar-tests"


def catalogue() -> str:
    """Every tool of the fixture, declared."""
    names = "".join(f"  {name}: {{}}\n" for name in sorted({*TOOLS, *ROUNDS}))
    return f"catalogue: fixture\ntools:\n{names}"


@contextmanager
def staged(folder: Path, policy: str = POLICY) -> Iterator[Stage]:
    """Runs the fixture and the sidecar; both are gone afterwards."""
    port = free_port()
    log = (folder / "fixture.log").open("ab")
    fixture = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(HERE / "fixture_server.py"), str(port)],
        stdout=log,
        stderr=log,
    )
    sidecar = Process(folder)
    direct = f"http://localhost:{port}/mcp"
    try:
        _await_answers(direct, fixture)
        sidecar.write(
            f"  fixture: {{url: 'http://127.0.0.1:{port}/mcp', kind: mcp}}",
            {"fixture.yaml": catalogue(), "policy.yaml": policy},
            LIMITS,
        )
        sidecar.start()
        yield Stage(direct, f"http://localhost:{sidecar.data_port}/fixture/mcp", sidecar)
        assert sidecar.stop() == 0, sidecar.log()[-3000:]
    finally:
        sidecar.kill()
        fixture.kill()
        fixture.wait()
        log.close()


def _await_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + READY_S
    while time.monotonic() < until and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except urllib.error.HTTPError:
            return  # it does not like a plain GET, and is there
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("the fixture server does not start")
