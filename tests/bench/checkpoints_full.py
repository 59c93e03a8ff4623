"""What signing heads costs beside a stream of receipts, and how fast receipts are verified.

    python tests/bench/checkpoints_full.py [--size SECONDS] [--results FILE]

The same receipts at the same pace, recorded through the store's own verb, without and with the task
that grows tiles, signs every second and exports to a file; the difference in CPU time of the whole
process is what it costs. Verifying is the command itself against the exported heads.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/unit/ledger")]

from ledger_checkpoint_setup import checkpointer, key_of, opened, record

from sidecar.clock import Clock
from sidecar.signed_note import public_pem

PACE_PER_S = 5000
BATCH = 250
SECONDS = 20


async def stream(folder: Path, seconds: int, *, is_signing: bool) -> dict[str, float]:
    """Records at the pace; CPU and wall seconds, and how many heads were signed."""
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(opened(folder))
        one = checkpointer(store, f"file:{folder}/heads", clock=Clock(), every_s=1.0)
        signing = asyncio.create_task(one.run()) if is_signing else None
        started, cpu = time.perf_counter(), time.process_time()
        for number in range(seconds * PACE_PER_S // BATCH):
            due = started + number * BATCH / PACE_PER_S
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await record(store, BATCH)
            await store.after_commit()
        took = time.perf_counter() - started
        used = time.process_time() - cpu
        if signing is not None:
            signing.cancel()
            await asyncio.gather(signing, return_exceptions=True)
            await one.close()
        return {"cpu_s": used, "wall_s": took, "heads": one.signed_total}


def verified_per_s(folder: Path, receipts: int) -> float:
    """The command against the heads, its start included."""
    (folder / "key.pem").write_text(public_pem(key_of(1).public))
    command = [sys.executable, "-m", "sidecar.cli.main", "receipts"]
    url = f"sqlite:///{folder}/aegis.db"
    out = str(folder / "receipts.jsonl")
    subprocess.run([*command, "export", "--store", url, "--output", out], check=True, cwd=ROOT)
    started = time.perf_counter()
    subprocess.run(
        [*command, "verify", out, "--checkpoint", str(folder / "heads")]
        + ["--key", str(folder / "key.pem")],
        check=True, cwd=ROOT, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return receipts / (time.perf_counter() - started)


def run(seconds: int) -> dict[str, Any]:
    """All figures."""
    found: dict[str, Any] = {}
    for is_signing in (False, True):
        with tempfile.TemporaryDirectory(prefix="aegis-checkpoints-") as name:
            folder = Path(name)
            figures = asyncio.run(stream(folder, seconds, is_signing=is_signing))
            found["signing" if is_signing else "plain"] = figures
            if is_signing:
                found["verified_per_s"] = round(verified_per_s(folder, seconds * PACE_PER_S))
    plain, signing = found["plain"], found["signing"]
    found["receipts_per_s"] = round(seconds * PACE_PER_S / signing["wall_s"])
    share = signing["cpu_s"] / signing["wall_s"] - plain["cpu_s"] / plain["wall_s"]
    found["cpu_share_of_a_core"] = round(share, 4)
    found["cpu_us_a_receipt"] = round(share * 1e6 / found["receipts_per_s"], 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=SECONDS, metavar="SECONDS")
    parser.add_argument("--results", type=Path)
    args = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    found = {"commit": commit, "python": sys.version.split()[0], "cores": os.cpu_count()}
    found |= run(args.size)
    text = json.dumps(found, indent=1) + "\n"
    print(text)
    if args.results is not None:
        args.results.write_text(text)


if __name__ == "__main__":
    main()
