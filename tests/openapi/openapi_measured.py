"""Time and memory of `tools import`, as a user runs it.

Knows: the command, and how its peak is read. Must not know: which documents there are.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
