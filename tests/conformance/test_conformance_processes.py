"""Several processes on one PostgreSQL: one linear chain per tenant, without gaps or forks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.ledger.export import export_lines
from sidecar.ledger.verify import verify_lines
from storage import open_reader

WORKER = Path(__file__).with_name("append_worker.py")


def run_processes(url: str, processes: int, entries: int, tenants: int) -> list[int]:
    """Entries a second of each, begun together; raises if one fails."""
    command = [sys.executable, str(WORKER), url]
    running = [
        subprocess.Popen(
            [*command, str(number), str(entries), str(tenants)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(processes)
    ]  # fmt: skip
    try:
        for one in running:
            assert one.stdout is not None
            assert one.stdout.readline() == "ready\n", one.communicate()[1]
        for one in running:
            assert one.stdin is not None
            one.stdin.write("go\n")
            one.stdin.flush()
        rates = []
        for one in running:
            said, errors = one.communicate(timeout=100)
            assert one.returncode == 0, errors
            rates.append(int(said))
        return rates
    finally:
        for one in running:
            if one.poll() is None:
                one.kill()
                one.wait()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("store_url", ["postgres"], indirect=True)
async def test_eight_processes_on_one_tenant_make_one_chain(store_url: str) -> None:
    run_processes(store_url, 8, 2000, 1)
    reader = await open_reader(store_url)
    try:
        head = await reader.head("tenant-0")
        assert head.seq == 16_000
        lines = [line async for line in export_lines(reader, "tenant-0")]
    finally:
        await reader.close()
    verdict = verify_lines(lines)
    assert verdict.holds, verdict
    assert len(lines) == 16_000
