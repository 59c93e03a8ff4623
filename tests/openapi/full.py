"""Large public OpenAPI documents through `tools import`: each becomes a catalogue that loads.

    bash tests/full.sh openapi [SIZE]

SIZE is how many documents of the directory are taken (default: all); GitHub's, Stripe's and
Kubernetes's are always. Time and memory of the named ones are measured in a process of their own,
as a user runs the command, and held to TIME_MAX_S and MEMORY_MAX_MIB.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "cli"))

from openapi_documents import imported, loaded
from openapi_measured import by_command
from openapi_packages import DIRECTORY, GITHUB, documents

from sidecar.policy.openapi_text import BadDocument
from tests.full_report import checked_out, tell

#: Of one import as JSON of up to 16 MiB, on one core, with the start of Python.
TIME_MAX_S = 10.0
MEMORY_MAX_MIB = 256
NAMED = {
    (GITHUB, "generated/api.github.com.json"): "GitHub",
    (GITHUB, "generated/ghec.json"): "GitHub Enterprise Cloud",
    (DIRECTORY, "api/stripe.com.json"): "Stripe",
    (DIRECTORY, "api/kubernetes.io.json"): "Kubernetes",
}


def run(size: int) -> dict[str, Any]:
    """Imports everything; what is wrong stands in `violations`."""
    said: Counter[str] = Counter()
    figures: dict[str, Any] = {"commit": checked_out(), "named": {}, "violations": []}
    seen = 0
    for package in (GITHUB, DIRECTORY):
        for name, data in documents(package):
            title = NAMED.get((package, name))
            if title is None and (package is GITHUB or seen >= size):
                continue
            seen += title is None
            try:
                draft = imported(data)
                catalogue = loaded(draft)
            except BadDocument as reason:
                said[str(reason).split(":")[0][:60]] += 1
                if title is not None:
                    figures["violations"].append(f"{title}: {reason}")
                continue
            except Exception as error:
                figures["violations"].append(f"{name}: {type(error).__name__}: {str(error)[:200]}")
                continue
            said["imported"] += 1
            said["operations"] += draft.tool_count
            said["with checked args"] += sum(one.args is not None for one in catalogue.entries)
            if title is not None:
                used = by_command(data)
                figures["named"][title] = {
                    "document_kib": len(data) // 1024, "operations": draft.tool_count, **used
                }  # fmt: skip
                if used["seconds"] > TIME_MAX_S or used["peak_mib"] > MEMORY_MAX_MIB:
                    figures["violations"].append(f"{title}: {used}")
    figures["said"] = dict(said)
    if set(figures["named"]) != set(NAMED.values()):
        figures["violations"].append("a named document is missing")
    return figures


def main() -> int:
    """Runs it and tells."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--results", type=Path)
    given = parser.parse_args()
    figures = run(given.size)
    return tell(json.loads(json.dumps(figures)), given.results)


if __name__ == "__main__":
    raise SystemExit(main())
