"""Tampers with signed receipts, a hundred thousand times: all of it must be found.

python tests/faults/tamper_full.py [--size TIMES] [--results FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/unit/ledger")]

from ledger_checkpoint_setup import key_of, opened, record, signed_now
from ledger_tampering import tampered_with

from sidecar.ledger.checkpoint_file import Kept, kept_in
from sidecar.ledger.export import export_lines

TIMES = 100_000
ROUND = 5_000


async def made(folder: Path) -> tuple[list[bytes], list[Kept]]:
    """20 receipts, with heads of 8, 13 and 18 of them."""
    async with opened(folder) as store:
        for count in (8, 5, 5):
            await record(store, count)
            await signed_now(store, f"file:{folder}/heads")
        await record(store, 2)
        lines = [line async for line in export_lines(store, "default")]
    return lines, list(kept_in(folder / "heads"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=TIMES, metavar="TIMES")
    parser.add_argument("--results", type=Path)
    args = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="aegis-tamper-") as name:
        lines, heads = asyncio.run(made(Path(name)))
        for seed in range(0, args.size, ROUND):
            tampered_with(lines, heads, key_of(1).public, min(ROUND, args.size - seed), seed)
            print(f"{min(seed + ROUND, args.size)} tamperings, all found", flush=True)
    found = {
        "commit": commit, "tamperings": args.size, "missed": 0,
        "seconds": round(time.perf_counter() - started, 1),
    }  # fmt: skip
    if args.results is not None:
        args.results.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
