"""Large public OpenAPI documents through `tools import`: each becomes a catalogue that loads.

    bash tests/full.sh openapi [SIZE]

SIZE is how many documents of the directory are taken (default: all); GitHub's, Stripe's and
Kubernetes's are always. Time and memory of the named ones are measured in a process of their own,
as a user runs the command, and held to TIME_MAX_S and MEMORY_MAX_MIB.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "cli"))

from openapi_documents import imported, loaded
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
#: The high-water mark is asked of the process itself: a parent's counts as its child's in rusage.
MEASURED = """
import sys
from sidecar.cli.main import main
code = main("tools import openapi.json --upstream shop --output policies/shop.yaml".split())
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmHWM:")))
sys.exit(code)
"""
CONFIG = 'policies: [./policies]\nupstreams: {shop: {url: "https://shop.example"}}\n'


def by_command(document: bytes) -> dict[str, float]:
    """Seconds and peak MiB of `aegis-sidecar tools import` in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sidecar.yaml").write_text(CONFIG)
        (folder / "policies").mkdir()
        (folder / "openapi.json").write_bytes(document)
        root = Path(__file__).resolve().parents[2]
        begun = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", MEASURED],
            cwd=folder, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True,
        )  # fmt: skip
        seconds = time.monotonic() - begun
        if done.returncode != 0:
            raise ValueError(f"tools import ended with {done.returncode}: {done.stderr[-300:]}")
        peak_kib = int(done.stdout.split()[-1])
        size = (folder / "policies" / "shop.yaml").stat().st_size
    return {
        "seconds": round(seconds, 2),
        "peak_mib": round(peak_kib / 1024, 1),
        "catalogue_kib": round(size / 1024, 1),
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
