"""Receipts a second of `aegis-sidecar receipts verify`, as a user runs it, on one core.

Beside it, in the same rounds, what no verifier in this language can do without: reading each line,
parsing it, writing its canonical form and hashing that twice (the receipt and the leaf).
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

import orjson
import store_calls
import targets

from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from sidecar.ledger.export import _line
from storage.record_batch import empty_head

RECEIPTS = 400_000
BATCH_CALLS = 100


def write_file(path: Path, receipts: int) -> None:
    """An exported chain of that many receipts: intents and outcomes, 100 calls at a time."""
    clock = Clock()
    heads = {store_calls.TENANT: empty_head(store_calls.TENANT)}
    before, left = "", receipts
    with path.open("wb") as output:
        while left > 0:
            calls = [store_calls.call(clock) for _ in range(BATCH_CALLS)]
            drafts = [begins.receipt for begins, _ in calls] + [ends.receipt for _, ends in calls]
            sealed = seal(heads, drafts[:left])
            heads = dict(sealed.heads)
            left -= len(sealed.rows)
            for row in sealed.rows:
                if isinstance(row, str):
                    raise RuntimeError(row)
                output.write(_line(row, before, {}))
                before = row.receipt_hash


def floor_s(path: Path) -> float:
    """The bare work on every line, in this process."""
    started = time.perf_counter()
    with path.open("rb") as lines:
        for line in lines:
            body = orjson.loads(line)
            del body["receipt_hash"]
            canonical = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
            sha256(canonical).hexdigest()
            sha256(b"\x00" + canonical).digest()
    return time.perf_counter() - started


def verify_s(path: Path, receipts: int) -> float:
    """The command, its start included, on one core; raises if it does not verify them all."""
    core = targets.cores()[1]
    command = ["taskset", "-c", core, sys.executable, "-m", "sidecar.cli.main"]
    started = time.perf_counter()
    done = subprocess.run(
        [*command, "receipts", "verify", str(path)],
        cwd=targets.ROOT, capture_output=True, text=True,
    )  # fmt: skip
    took_s = time.perf_counter() - started
    found = re.match(r"verified: (\d+) receipts", done.stdout)
    if done.returncode or found is None or int(found[1]) != receipts:
        raise RuntimeError(done.stdout + done.stderr)
    return took_s


def run(rounds: int, receipts: int = RECEIPTS) -> dict[str, Any]:
    """Receipts/s of the command, and how much of its time the bare work takes."""
    took: list[float] = []
    floor: list[float] = []
    with tempfile.TemporaryDirectory(prefix="aegis-verify-") as folder:
        path = Path(folder) / "receipts.jsonl"
        write_file(path, receipts)
        size = path.stat().st_size
        for _ in range(rounds):
            took.append(verify_s(path, receipts))
            floor.append(floor_s(path))
    largest_kb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {
        "receipts": receipts,
        "file_mb": round(size / 1e6),
        "cores": 1,
        "receipts_per_s": round(receipts / median(took)),
        "bare_work_receipts_per_s": round(receipts / median(floor)),
        "ratio_to_bare_work": store_calls.ratio(floor, took),
        "largest_child_rss_mb": round(largest_kb * 1024 / 1e6, 1),
    }
