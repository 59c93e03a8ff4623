"""The other clients: which versions, where they are installed, what each is started with.

Knows: PyPI and npm by their own clients, an environment of its own for each Python client, since
they pin different versions of `mcp`.
Must not know: what the clients should see.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SESSION_S = 90.0
INSTALL_S = 600.0

#: Newer Node than a distribution's: the suite and the inspector need it.
NPM = {
    "node": "24.21.0",
    "@modelcontextprotocol/conformance": "0.2.0-alpha.12",
    "@modelcontextprotocol/sdk": "1.32.2",
    "@modelcontextprotocol/inspector": "2.12.0",
}
PYPI = {
    "fastmcp": "4.1.6",
    "langchain-mcp-adapters": "0.3.2",
    "openai-agents": "0.24.0",
}
DRIVERS = {
    "fastmcp": "driver_fastmcp.py",
    "langchain-mcp-adapters": "driver_langchain.py",
    "openai-agents": "driver_agents.py",
}
#: The inspector is asked one thing per start.
INSPECTED = {
    "tools": ("tools/list",),
    "called": ("tools/call", "--tool-name", "test_multiple_content_types"),
    "refused": ("tools/call", "--tool-name", "test_error_handling"),
    "argued": ("tools/call", "--tool-name", "test_header_parameter", "--tool-arg", "region=eu"),
    "prompts": ("prompts/list",),
    "resource": ("resources/read", "--uri", "test://static-text"),
}


class ClientFailed(Exception):
    """A client that could not be installed, or did not come to the end of its session."""


@dataclass(frozen=True)
class OtherClient:
    """A client by name; `session` takes a URL and gives what the client saw there."""

    name: str
    version: str
    session: Callable[[str], Any]


def node_folder(cache: Path) -> Path:
    """Where npm has installed all of NPM, newly or before."""
    wanted = json.dumps({"private": True, "dependencies": NPM}, indent=2)
    folder = cache / "node"
    manifest, done = folder / "package.json", folder / "installed.json"
    if not (done.exists() and done.read_text() == wanted):
        folder.mkdir(parents=True, exist_ok=True)
        manifest.write_text(wanted)
        _run(["npm", "install", "--no-audit", "--no-fund"], INSTALL_S, folder)
        done.write_text(wanted)
    return folder / "node_modules"


def python_of(cache: Path, package: str) -> Path:
    """The Python of an environment that holds one package of PYPI, made newly or before."""
    wanted = f"{package}=={PYPI[package]}"
    folder = cache / package
    done = folder / "installed"
    if not (done.exists() and done.read_text() == wanted):
        _run([sys.executable, "-m", "venv", "--clear", str(folder)], INSTALL_S)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q"]
        _run([*pip, "--disable-pip-version-check", wanted], INSTALL_S)
        done.write_text(wanted)
    return folder / "bin" / "python"


def others(cache: Path) -> list[OtherClient]:
    """All of them, installed when their session begins."""
    found = [_python_client(cache, package) for package in PYPI]
    sdk, inspector = "@modelcontextprotocol/sdk", "@modelcontextprotocol/inspector"

    def typescript(url: str) -> Any:
        modules = node_folder(cache)
        driver = str(HERE / "driver_typescript.mjs")
        node = str(modules / ".bin" / "node")
        return json.loads(_run([node, driver, str(modules.parent), url], SESSION_S))

    def inspected(url: str) -> Any:
        modules = node_folder(cache)
        command = [str(modules / ".bin" / "node"), str(modules / ".bin" / "mcp-inspector")]
        command += ["--cli", url, "--transport", "http", "--method"]
        return {name: _inspect([*command, *asked]) for name, asked in INSPECTED.items()}

    return [
        OtherClient("typescript-sdk", NPM[sdk], typescript),
        *found,
        OtherClient("inspector-cli", NPM[inspector], inspected),
    ]


def _python_client(cache: Path, package: str) -> OtherClient:
    def session(url: str) -> Any:
        driver = str(HERE / DRIVERS[package])
        said = _run([str(python_of(cache, package)), "-W", "ignore", driver, url], SESSION_S)
        return json.loads(said.strip().splitlines()[-1])

    return OtherClient(package, PYPI[package], session)


def _inspect(command: list[str]) -> Any:
    """What it printed, and its exit code: it tells a tool's error by that too."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=SESSION_S)
    if not done.stdout.lstrip().startswith("{"):
        raise ClientFailed(f"{command[-2:]}: {(done.stdout + done.stderr)[-500:]}")
    return [done.returncode, json.loads(done.stdout)]


def _run(command: list[str], wait_s: float, folder: Path | None = None) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=wait_s, cwd=folder or HERE
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClientFailed(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        raise ClientFailed(f"{' '.join(command[:4])}: {(done.stdout + done.stderr)[-1500:]}")
    return done.stdout
