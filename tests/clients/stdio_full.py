"""Unmodified clients of local servers: through `wrap` everything is as it is direct.

    bash tests/full.sh stdio

The official TypeScript SDK, which most desktop agents use, and the inspector's command line start
the fixture server, and then `wrap` around it, and must see the same. That a difference would be
found is shown on rules that refuse one tool. Clients are installed as tests/clients/full.py does.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "e2e")]

from clients_others import NPM, SESSION_S, ClientFailed, _inspect, _run, node_folder
from clients_stage import cache
from full_report import checked_out, tell

SERVER = [sys.executable, "-W", "ignore", str(HERE / "fixture_stdio.py")]
#: For what it is called with: a tool that is always refused would not even be listed.
REFUSING = """\
policy: start
rules:
  - {id: everything, effect: allow, tools: ["fixture/*", fixture/unknown, "fixture/mcp:*"]}
  - {id: one, effect: deny, tools: fixture/test_error_handling, when: "!has(args.never)"}
"""
CATALOGUE = "catalogue: fixture\ntools:\n  test_error_handling: {}\n"
INSPECTED = {
    "tools": ("tools/list",),
    "called": ("tools/call", "--tool-name", "test_multiple_content_types"),
    "resource": ("resources/read", "--uri", "test://static-text"),
    "prompts": ("prompts/list",),
    "refused": ("tools/call", "--tool-name", "test_error_handling"),
}


def script(folder: Path, name: str, command: list[str]) -> str:
    """An executable that becomes the command, for clients that take no arguments of a server."""
    path = folder / name
    words = " ".join(f"'{word}'" for word in command)
    path.write_text(f"#!/bin/sh\ncd '{ROOT}' && exec {words}\n")
    path.chmod(0o755)
    return str(path)


def wrapped(folder: Path, name: str, rules: dict[str, str]) -> str:
    """`wrap` around the server, with rules of its own or the first ones."""
    home = folder / f"{name}-data"
    for file, text in rules.items():
        (home / "policies").mkdir(parents=True, exist_ok=True)
        (home / "policies" / file).write_text(text)
    program = [sys.executable, "-m", "sidecar.cli.main", "wrap", "--name", "fixture"]
    return script(folder, name, [*program, "--data-dir", str(home), "--", *SERVER])


def typescript(server: str) -> Any:
    modules = node_folder(cache() / "clients")
    driver = str(HERE / "driver_stdio.mjs")
    command = [str(modules / ".bin" / "node"), driver, str(modules.parent), server]
    return json.loads(_run(command, SESSION_S))


def inspected(server: str) -> Any:
    modules = node_folder(cache() / "clients")
    command = [str(modules / ".bin" / "node"), str(modules / ".bin" / "mcp-inspector")]
    return {
        name: _inspect([*command, "--cli", server, "--method", *asked])
        for name, asked in INSPECTED.items()
    }


CLIENTS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "typescript-sdk": (NPM["@modelcontextprotocol/sdk"], typescript),
    "inspector-cli": (NPM["@modelcontextprotocol/inspector"], inspected),
}


def different(direct: Any, through: Any) -> list[str]:
    """What the two saw differently."""
    return [
        f"{what}: {json.dumps(direct.get(what))[:300]} direct, "
        f"{json.dumps(through.get(what))[:300]} through wrap"
        for what in sorted(direct.keys() | through.keys())
        if direct.get(what) != through.get(what)
    ]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="all", help="names, with commas")
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    names = list(CLIENTS) if options.size == "all" else options.size.split(",")
    if not set(names) <= set(CLIENTS):
        parser.error(f"there are: {', '.join(CLIENTS)}")
    began, found, told = time.perf_counter(), [], {}
    with tempfile.TemporaryDirectory(prefix="aegis-stdio-") as place:
        folder = Path(place)
        direct = script(folder, "direct", SERVER)
        through = wrapped(folder, "through", {})
        refusing = wrapped(folder, "refusing", {"p.yaml": REFUSING, "tools.yaml": CATALOGUE})
        for name in names:
            version, session = CLIENTS[name]
            told[name] = {"version": version}
            try:
                seen = session(direct)
                found += [f"{name}: {what}" for what in different(seen, session(through))]
                refused = different(seen, session(refusing))
            except (ClientFailed, ValueError) as failed:
                found.append(f"{name}: {failed}")
                continue
            told[name] |= {"seen": sorted(seen), "different_where_refused": len(refused)}
            if len(refused) != 1 or not refused[0].startswith(("error:", "refused:")):
                found.append(f"{name}: a refused tool is not what differs: {refused}")
    report = {
        "commit": checked_out(),
        "size": options.size,
        "seconds": round(time.perf_counter() - began, 1),
        **told,
        "violations": len(found),
        "first_violations": found[:20],
    }
    return tell(report, options.results)


if __name__ == "__main__":
    sys.exit(main())
