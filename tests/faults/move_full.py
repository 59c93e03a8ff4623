"""A store of a million calls moves to PostgreSQL and back: whole, verified, and in minutes.

    bash tests/full.sh move [CALLS]        (default 1,000,000 calls: two million receipts)

A SQLite file is filled through the store's own verb with real seals, over several tenants; the
real command moves it into an empty PostgreSQL (fsync on) and from there into an empty file. Each
store is verified by the ledger's own reader, and what the first and the last export of what was
moved, with the facts beside it, must be the same bytes. `--planted garble` changes one letter of
one receipt in between; then the run must find it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tests"))

import asyncpg
import postgres_server
from full_report import checked_out, tell
from move_store import fill

import storage
from sidecar.ledger.export import export_lines
from sidecar.ledger.stored_chain import verify_store
from storage.retention import CareReader
from storage.sql_store import SqlReader

TENANTS = 5
CALLS = 1_000_000
RECEIPTS_A_CALL = 2
SEQS_A_READ = 2000
PLANTED = ("garble",)
GARBLED = "UPDATE receipts SET upstream = 'shoq' WHERE tenant_id = 'tenant-1' AND seq = 1"


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    cpus = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in cpus if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


@contextlib.contextmanager
def server() -> Iterator[str]:
    """A PostgreSQL that means it: fsync is on. TEST_POSTGRES_DSN names one instead."""
    if given := os.environ.get("TEST_POSTGRES_DSN"):
        yield given
        return
    with postgres_server.new_cluster() as cluster:
        cluster.initialise()
        cluster.start()
        yield cluster.dsn()


def move(source: str, target: str, folder: Path) -> dict[str, Any]:
    """The real command as a process: what it says, its seconds and its largest size in memory."""
    command = [sys.executable, "-m", "sidecar.cli.main", "store", "move", "--json"]
    started = time.perf_counter()
    with (folder / "move.log").open("w+") as log, (folder / "move.json").open("w+") as said:
        process = subprocess.Popen(
            [*command, "--from", source, "--to", target], cwd=ROOT, stdout=said, stderr=log
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        took_s = time.perf_counter() - started
        log.seek(0)
        said.seek(0)
        if process.returncode:
            raise RuntimeError(f"the move failed: {log.read()[-2000:]}")
        answer: dict[str, Any] = json.load(said)
    answer["rss_peak_mib"] = round(usage.ru_maxrss / 1024, 1)
    answer["took_s"] = took_s
    answer["cpu_s"] = round(usage.ru_utime + usage.ru_stime, 1)
    return answer


def rates(answer: dict[str, Any], calls: int) -> dict[str, Any]:
    """The figures of one way."""
    took_s = answer["took_s"]
    return {
        "seconds": round(took_s, 2),
        "calls_per_s": round(calls / took_s),
        "receipts_per_s": round(answer["receipts"] / took_s),
        "seconds_by_phase": answer["seconds"],
        "receipts_per_s_by_phase": {
            phase: round(answer["receipts"] / seconds)
            for phase, seconds in answer["seconds"].items()
            if phase in ("receipts", "facts", "verified") and seconds
        },
        "cpu_s": answer["cpu_s"],
        "rss_peak_mib": answer["rss_peak_mib"],
    }


async def digest(reader: SqlReader, ends: dict[str, int]) -> str:
    """Every byte of every export up to where the first store's ended, and of the facts beside it;
    what comes after that each move is on record."""
    sha = hashlib.sha256()
    care = CareReader(reader)
    for tenant in sorted(ends):
        lines = 0
        async for line in export_lines(reader, tenant):
            lines += 1
            if lines > ends[tenant]:
                break
            sha.update(line)
        for seq in range(0, ends[tenant], SEQS_A_READ):
            for facts in await care.facts(tenant, seq, min(seq + SEQS_A_READ, ends[tenant])):
                sha.update(repr(tuple(facts)).encode())
    return sha.hexdigest()


async def looked_at(
    url: str, violations: list[str], name: str, ends: dict[str, int]
) -> tuple[str, dict[str, Any]]:
    """The digest of a store and how fast its chains verify; what does not hold is a violation.
    Where its chains end is kept in `ends`, if nothing is there yet."""
    reader = await storage.open_reader(url)
    try:
        started = time.perf_counter()
        reports = await verify_store(reader)
        verify_s = time.perf_counter() - started
        violations += [f"{name}: {one.tenant_id}: {one.fault}" for one in reports if one.fault]
        receipts = sum(report.last_seq for report in reports)
        said = {"receipts": receipts, "verified_per_s": round(receipts / verify_s)}
        ends.update({} if ends else {one.tenant_id: one.last_seq for one in reports})
        return await digest(reader, ends), said
    finally:
        await reader.close()


async def run(calls: int, planted: str | None, folder: Path) -> dict[str, Any]:
    """There and back; the figures, with `violations` empty in a good run."""
    first, last = f"sqlite:///{folder}/first.db", f"sqlite:///{folder}/last.db"
    figures: dict[str, Any] = {}
    violations: list[str] = []
    ends: dict[str, int] = {}
    started = time.perf_counter()
    await fill(first, calls, TENANTS)
    figures["fill_s"] = round(time.perf_counter() - started, 1)
    before, figures["first"] = await looked_at(first, violations, "first", ends)
    if figures["first"]["receipts"] != calls * RECEIPTS_A_CALL:
        violations.append("the store to be moved is not whole")
    with server() as dsn:
        between = await postgres_server.new_database(dsn)
        try:
            figures["to_postgresql"] = rates(move(first, between, folder), calls)
            if planted == "garble":
                await _garble(between)
            _, figures["postgresql"] = await looked_at(between, violations, "postgresql", ends)
            figures["to_sqlite"] = rates(move(between, last, folder), calls)
            after, figures["last"] = await looked_at(last, violations, "last", ends)
            if after != before:
                violations.append("what the last store exports is not what the first exported")
        except RuntimeError as error:
            violations.append(str(error))
    return figures | {"violations": len(violations), "first_violations": violations[:5]}


async def _garble(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SELECT set_config('aegis.tenants', '*', false)")
        await connection.execute(GARBLED)
        await connection.execute("DELETE FROM store_state WHERE name LIKE 'move%'")
    finally:
        await connection.close()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=CALLS, help="calls")
    parser.add_argument("--planted", choices=PLANTED)
    parser.add_argument("--folder", type=Path, help="where the files are made (default: /tmp)")
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aegis-move-", dir=options.folder) as name:
        found = asyncio.run(run(options.size, options.planted, Path(name)))
    figures: dict[str, Any] = {
        "commit": checked_out(),
        "size": options.size,
        "planted": options.planted,
        "machine": machine(),
        "tenants": TENANTS,
        **found,
    }
    return tell(figures, options.results)


if __name__ == "__main__":
    sys.exit(main())
