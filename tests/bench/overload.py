"""What four times the capacity does: refused quickly, no collapse, and full speed afterwards.

The calls are large (24 kB of arguments, all of them judged, hashed and kept), so that one core can
really send four times what the other can serve.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import proxies
import targets

FACTOR = 4
NOTE_BYTES = 24_000
_NOTE = "one two three four five six seven eight nine ten"


def write_script(folder: Path) -> Path:
    """The load script of the other benchmarks with a longer note."""
    path = folder / "post.lua"
    text = (targets.HERE / "post.lua").read_text()
    path.write_text(text.replace(_NOTE, "n" * NOTE_BYTES))
    return path


def probe(host: str, port: int, load: subprocess.Popen[str]) -> dict[str, Any]:
    """Twenty fresh connections a second beside the load: how soon a newcomer gets an answer.

    The load's own clock is late when it is saturated itself; this process is idle otherwise.
    """
    took_ms: dict[bool, list[float]] = {True: [], False: []}
    request = f"GET /tools HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
    while load.poll() is None:
        started = time.perf_counter()
        try:
            with socket.create_connection((host, port), timeout=10) as client:
                client.sendall(request)
                refused = b" 503 " in client.recv(4096)[:20]
        except OSError:
            refused = True
        took_ms[refused].append((time.perf_counter() - started) * 1000)
        time.sleep(0.05)
    refusals = sorted(took_ms[True])
    if not refusals:
        return {"newcomers_refused": 0, "newcomers_answered": len(took_ms[False])}
    return {
        "newcomers_refused": len(refusals),
        "newcomers_answered": len(took_ms[False]),
        "newcomer_refused_p50_ms": round(refusals[len(refusals) // 2], 1),
        "newcomer_refused_max_ms": round(refusals[-1], 1),
    }


def run(seconds: float) -> dict[str, Any]:
    """Capacity closed-loop at 32, then open-loop at 4 x that, then closed-loop again."""
    load_core, proxy_core = targets.cores()
    with tempfile.TemporaryDirectory(prefix="aegis-overload-") as name:
        folder = Path(name)
        upstream = targets.start_upstream(folder, load_core)
        sidecar = None
        try:
            sidecar = targets.start_sidecar(folder, proxy_core, upstream.url, with_caps=True)
            script = write_script(folder)
            proxies.load(sidecar, load_core, 32, 1, script)
            before = proxies.load(sidecar, load_core, 32, seconds, script)["requests_per_s"]
            where = urlsplit(sidecar.url)
            command = [
                "taskset", "-c", load_core, sys.executable, str(targets.HERE / "open_loop.py"),
                str(where.hostname), str(where.port), "/tools",
                str(before * FACTOR), str(seconds), str(NOTE_BYTES),
            ]  # fmt: skip
            load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            probes = probe(where.hostname or "", where.port or 0, load)
            printed, _ = load.communicate()
            figures: dict[str, Any] = json.loads(printed)
            figures.update(probes)
            after = proxies.load(sidecar, load_core, 32, seconds, script)["requests_per_s"]
            receipts = proxies.verify_receipts(sidecar, sys.executable)
        finally:
            if sidecar is not None:
                sidecar.stop()
            upstream.stop()
    return {
        "capacity_per_s": round(before),
        **figures,
        "offered_to_capacity": round(figures["offered_per_s"] / before, 2),
        "kept_ratio": round(figures["answered_per_s"] / before, 3),
        "after_ratio": round(after / before, 3),
        "receipts": receipts,
    }
