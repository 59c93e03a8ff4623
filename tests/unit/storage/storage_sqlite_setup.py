"""What the tests of the SQLite store share: places with faults, other processes, rows.

Rows, the trivial seal and the chain check are those of the conformance suite.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
sys.path.append(str(ROOT / "tests" / "conformance"))

from conformance_setup import assert_chain, draft, grown, intent, outcome, seal

from storage import SqlStore, open_store
from storage.records import Entry

__all__ = [
    "ROOT",
    "assert_chain",
    "bulky",
    "check_chain",
    "draft",
    "grown",
    "intent",
    "mounted",
    "opened",
    "outcome",
    "python",
    "seal",
    "url_of",
]


def url_of(path: Path) -> str:
    """The URL of an absolute path."""
    return f"sqlite:///{path}"


def bulky(call_id: str) -> Entry:
    """An intent of about 4 kB."""
    entry = intent(call_id)
    assert entry.facts is not None
    entry.facts = entry.facts._replace(arguments="x" * 4_000)
    return entry


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqlStore]:
    """An open store at `path`."""
    store = await open_store(url_of(path), now_us=lambda: 1_790_000_000_000_000, node_id="node")
    try:
        yield store
    finally:
        await store.close()


async def check_chain(store: SqlStore, tenant_id: str = "acme") -> int:
    """Checks the tenant's chain and gives its length."""
    rows = await store.receipts(tenant_id, 0, 100_000)
    assert_chain(rows, await store.head(tenant_id))
    return len(rows)


@contextmanager
def mounted(folder: Path, *arguments: str) -> Iterator[Path]:
    """`folder` with something mounted on it; skips the test where that is not allowed."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *arguments, str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


async def python(text: str, *arguments: str) -> asyncio.subprocess.Process:
    """Another Python running `text`, which finds our packages and the rows of these tests."""
    start = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]\n"
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        start + text,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
