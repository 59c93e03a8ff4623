"""Official suite and unmodified clients: through the sidecar everything is as it is direct.

    bash tests/full.sh clients [NAME,NAME]     (conformance, or the name of a client; default: all)

A fixture server of our own stands behind a real sidecar whose policies deny what they do not name.
The MCP conformance suite (npm, server scenarios) runs against both, for both revisions: the server
must pass in full, and every check must have the same result through the sidecar. Then each other
client holds the same session with both and must see the same. That a difference would be found is
shown on a tool the policies deny. Clients are installed below AEGIS_TEST_CACHE (default: the user's
cache folder), the Python ones in environments of their own.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "e2e")]

from clients_others import NPM, ClientFailed, OtherClient, node_folder, others
from clients_stage import Stage, cache, staged
from clients_suite import REVISIONS, differences, failures, figures, run_suite
from full_report import checked_out, tell

SUITE = "conformance"
#: What the suite counted against a server that passes in full, when this was written.
CHECKS_MIN = {"2025-11-25": 84, "2026-07-28": 152}


def installed() -> tuple[Path, Path]:
    """Node and the suite."""
    modules = node_folder(cache() / "clients")
    suite = modules / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    return modules / ".bin" / "node", suite


def conformance(stage: Stage, found: list[str]) -> dict[str, Any]:
    """The figures of both revisions; whatever is not as it should be is added to `found`."""
    node, suite = installed()
    told: dict[str, Any] = {"version": NPM["@modelcontextprotocol/conformance"]}
    for revision in REVISIONS:
        direct, said = run_suite(node, suite, stage.direct, revision)
        through, _ = run_suite(node, suite, stage.through, revision)
        differing = differences(direct, through)
        found += [f"{revision}: {what}" for what in differing]
        found += [f"{revision}, direct: {what}" for what in failures(direct)]
        if direct.total() < CHECKS_MIN[revision]:
            found.append(f"{revision}: only {direct.total()} checks: {said}")
        told[revision] = {
            "direct": figures(direct),
            "through": figures(through),
            "different": len(differing),
        }
    return told


def denied_is_seen(stage: Stage, found: list[str]) -> int:
    """How many checks differ where the policies deny one tool: the comparison must see them."""
    node, suite = installed()
    direct, _ = run_suite(node, suite, stage.direct, REVISIONS[0])
    through, _ = run_suite(node, suite, stage.denying, REVISIONS[0])
    differing = differences(direct, through)
    if not differing or not all("tools-call-image" in what for what in differing):
        found.append(f"a denied tool is not what differs: {differing}")
    return len(differing)


def session(client: OtherClient, stage: Stage, found: list[str]) -> dict[str, Any]:
    """The same session twice; what is not the same is added to `found`."""
    told: dict[str, Any] = {"version": client.version}
    try:
        direct, through = client.session(stage.direct), client.session(stage.through)
    except (ClientFailed, ValueError) as failed:
        found.append(f"{client.name}: {failed}")
        return told
    for what in direct.keys() | through.keys():
        if direct.get(what) != through.get(what):
            found.append(
                f"{client.name}: {what}: {json.dumps(direct.get(what))[:400]} direct, "
                f"{json.dumps(through.get(what))[:400]} through the sidecar"
            )
    return told | {"seen": sorted(direct), "bytes": len(json.dumps(through))}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="all", help="names, with commas")
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    clients = others(cache() / "clients")
    names = [SUITE, *(client.name for client in clients)]
    wanted = names if options.size == "all" else options.size.split(",")
    if not set(wanted) <= set(names):
        parser.error(f"there are: {', '.join(names)}")
    started = time.perf_counter()
    found: list[str] = []
    told: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory(prefix="aegis-clients-") as name,
        staged(Path(name)) as stage,
    ):
        if SUITE in wanted:
            told[SUITE] = conformance(stage, found)
            told["different_where_a_tool_is_denied"] = denied_is_seen(stage, found)
        for client in clients:
            if client.name in wanted:
                told[client.name] = session(client, stage, found)
        receipts = stage.sidecar.receipts()
    intents = sum(receipt["kind"] == "intent" for receipt in receipts)
    if not intents:
        found.append("nothing is on record")
    report = {
        "commit": checked_out(),
        "size": options.size,
        "seconds": round(time.perf_counter() - started, 1),
        **told,
        "intents": intents,
        "violations": len(found),
        "first_violations": found[:20],
    }
    return tell(report, options.results)


if __name__ == "__main__":
    sys.exit(main())
