"""What four times the capacity does: refused quickly, no collapse, and full speed afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import proxies
import targets

FACTOR = 4


def run(seconds: float) -> dict[str, Any]:
    """Capacity closed-loop at 32, then open-loop at 4 x that, then closed-loop again."""
    load_core, proxy_core = targets.cores()
    with tempfile.TemporaryDirectory(prefix="aegis-overload-") as name:
        folder = Path(name)
        upstream = targets.start_upstream(folder, load_core)
        sidecar = None
        try:
            sidecar = targets.start_sidecar(folder, proxy_core, upstream.url, with_caps=True)
            proxies.load(sidecar, load_core, 32, 1)
            before = proxies.load(sidecar, load_core, 32, seconds)["requests_per_s"]
            where = urlsplit(sidecar.url)
            command = [
                "taskset", "-c", load_core, sys.executable, str(targets.HERE / "open_loop.py"),
                str(where.hostname), str(where.port), "/tools", str(before * FACTOR), str(seconds),
            ]  # fmt: skip
            printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            figures: dict[str, Any] = json.loads(printed)
            after = proxies.load(sidecar, load_core, 32, seconds)["requests_per_s"]
            receipts = proxies.verify_receipts(sidecar, sys.executable)
        finally:
            if sidecar is not None:
                sidecar.stop()
            upstream.stop()
    return {
        "capacity_per_s": round(before),
        **figures,
        "kept_ratio": round(figures["answered_per_s"] / before, 3),
        "after_ratio": round(after / before, 3),
        "receipts": receipts,
    }
