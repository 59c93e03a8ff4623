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

UPSTREAMS = ("fixture", "denying", "unasked")
POLICY = """\
policy: clients
rules:
  - {id: fixture, effect: allow, tools: ["fixture/*", "fixture/unknown", "fixture/mcp:*"]}
  - {id: denying, effect: allow, tools: ["denying/*", "denying/unknown", "denying/mcp:*"]}
  - id: unasked
    effect: allow
    tools: ["unasked/*", "unasked/unknown", "unasked/mcp:resources/*", "unasked/mcp:prompts/*"]
  - {id: no-image, effect: deny, tools: denying/test_image_content, when: size(args) >= 0}
"""
LIMITS = "limits: {connections: 512, per_address: 512}"


@dataclass
class Stage:
    """Where the fixture is reached: `direct`, `through` the sidecar, and through it too: `denying`,
    with one tool denied, and `unasked`, where the server may ask the client for nothing."""

    direct: str
    through: str
    denying: str
    unasked: str
    sidecar: Process


def cache() -> Path:
    """Where clients are installed: AEGIS_TEST_CACHE, else below the user's cache folder."""
    chosen = os.environ.get("AEGIS_TEST_CACHE")
    if chosen:
        return Path(chosen)
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return home / "aegis-sidecar-tests"


def catalogue(upstream: str) -> str:
    """Every tool of the fixture, declared."""
    names = "".join(f"  {name}: {{}}\n" for name in sorted({*TOOLS, *ROUNDS}))
    return f"catalogue: {upstream}\ntools:\n{names}"


@contextmanager
def staged(folder: Path) -> Iterator[Stage]:
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
        url = f"http://127.0.0.1:{port}/mcp"
        policies = {f"{name}.yaml": catalogue(name) for name in UPSTREAMS}
        sidecar.write(
            "\n".join(f"  {name}: {{url: '{url}', kind: mcp}}" for name in UPSTREAMS),
            {**policies, "policy.yaml": POLICY},
            LIMITS,
        )
        sidecar.start()
        through, denying, unasked = (
            f"http://localhost:{sidecar.data_port}/{name}/mcp" for name in UPSTREAMS
        )
        yield Stage(direct, through, denying, unasked, sidecar)
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
        except urllib.error.HTTPError as error:
            error.close()
            return  # it does not like a plain GET, and is there
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("the fixture server does not start")
