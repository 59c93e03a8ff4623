"""A4, A10, A11: system calls that fail, and bits that flipped, on real files.

strace makes single system calls of a real process fail: the error is the kernel's, as the program
sees it.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from pathlib import Path
from random import Random

import pytest
from storage_sqlite_setup import ROOT, check_chain, intent, opened, url_of

from sidecar.ledger import chain as ledger_chain
from sidecar.ledger.export import export_lines
from sidecar.ledger.stored_chain import verify_store
from storage import open_reader
from storage.errors import StoreCorrupt, StoreError
from storage.known_heads import StoreRolledBack

WORK = """
import asyncio, sys
from pathlib import Path
sys.path[:0] = [{root!r}, {here!r}]
from storage_sqlite_setup import *
from storage.errors import StoreCorrupt, StoreError
from storage.records import Recorded

async def main():
    acknowledged, failures = [], []
    async with opened(Path(sys.argv[1])) as store:
        print("open", file=sys.stderr)
        for number in range(120):
            try:
                answers = await store.record([intent(f"c{{number}}"), intent(f"d{{number}}")], seal)
                assert all(isinstance(answer, Recorded) for answer in answers)
                acknowledged.append(number)
                await store.after_commit()
            except StoreError as error:
                failures.append(error.code)
        reopened = store.facts().reopened_total
    print(*acknowledged)
    print(*failures)
    print(reopened)

asyncio.run(main())
"""


async def traced(path: Path, *options: str) -> tuple[int, str, str, str]:
    """Runs WORK on a store under strace; gives exit code, both outputs, and the trace."""
    log = path.with_name("trace")
    text = WORK.format(root=str(ROOT), here=str(Path(__file__).parent))
    process = await asyncio.create_subprocess_exec(
        "strace", "-f", "-qq", "-y", "-o", str(log), *options,
        sys.executable, "-c", text, str(path),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, out.decode(), err.decode(), log.read_text()


@pytest.mark.parametrize(("call", "when"), [("fdatasync", 9), ("pwrite64", 60)])
async def test_a4_eio_from_the_kernel_fails_whole_batches_and_nothing_rests_on_a_failed_sync(
    tmp_path: Path, call: str, when: int
) -> None:
    """Each connection's thread meets the error once. SQLite syncs a log once more as it closes it,
    for what earlier commits had made durable; after the error nothing more is written to it."""
    path = tmp_path / "store.db"
    async with opened(path):
        pass  # made beforehand: what fails here are commits
    log = path.with_name("store.db-wal")
    code, out, err, trace = await traced(
        path, "-P", str(log), "-e", "trace=openat,fdatasync,pwrite64",
        "-e", f"inject={call}:error=EIO:when={when}",
    )  # fmt: skip
    assert code == 0, err
    acknowledged, failures, reopened = (line.split() for line in out.split("\n")[:3])
    assert len(failures) >= 4 and len(acknowledged) >= 60, "positive control: some fail, most go on"
    assert set(failures) <= {"commit_unknown", "store_unavailable"}
    assert int(reopened[0]) >= len(failures)
    calls = re.findall(r" (openat|fdatasync|pwrite64)\(.*?(INJECTED)?\)?$", trace, re.MULTILINE)
    has_failed = False
    for name, injected in calls:
        assert not (has_failed and name == "pwrite64"), "it went on after an error"
        has_failed = bool(injected) or (has_failed and name != "openat")
    assert sum(bool(injected) for _, injected in calls) >= 4, "positive control"
    async with opened(path) as store:
        length = await check_chain(store)
        kept = {row.call_id for row in await store.receipts("acme", 0, 1_000)}
        assert {f"{half}{number}" for number in acknowledged for half in "cd"} <= kept
        # A batch is there as a whole or not at all, also one that nobody was told of.
        assert all((f"c{number}" in kept) == (f"d{number}" in kept) for number in range(120))
        assert length == len(kept) >= 2 * len(acknowledged)


async def test_a10_a_place_without_shared_memory_is_refused_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    shared = path.with_name("store.db-shm")
    refusal = ["-P", str(shared), "-e", "trace=mmap", "-e", "inject=mmap:error=ENODEV"]
    code, _, err, trace = await traced(path, *refusal)
    assert "INJECTED" in trace
    assert code != 0 and "open\n" not in err and "SHMMAP" in err
    code, _, err, _ = await traced(path)
    assert code == 0 and "open\n" in err, "positive control"


# -- bits that flipped -----------------------------------------------------------------------

CALLS = 200


async def sound(path: Path) -> list[bytes]:
    """A closed store of some pages, with chains that hold; gives the lines of its export."""
    async with opened(path) as store:
        for number in range(CALLS):
            entry = intent(f"call-{number:04}")
            assert entry.facts is not None
            entry.facts = entry.facts._replace(arguments=None)
            await store.record([entry], ledger_chain.seal)
        lines = [line async for line in export_lines(store, "acme")]
    return lines


async def judged(path: Path) -> tuple[str, list[bytes]]:
    """What becomes of a damaged store: refused at the start, or found by verification ("found:
    what"), or "holds", with the lines it then gives."""
    try:
        async with opened(path):
            pass
    except StoreError as error:
        return f"refused: {error.code}", []
    reader = await open_reader(url_of(path))
    try:
        reports = await verify_store(reader)
        faults = [report.fault for report in reports if report.fault]
        if faults:
            return f"found: {faults[0]}", []
        return "holds", [line async for line in export_lines(reader, "acme")]
    except StoreError as error:
        return f"found: {error.code}", []
    finally:
        await reader.close()


async def test_a11_a_bit_flip_anywhere_in_the_file_is_found_or_changes_nothing(
    tmp_path: Path,
) -> None:
    whole, path = tmp_path / "whole.db", tmp_path / "store.db"
    lines = await sound(whole)
    data = whole.read_bytes()
    chance = Random(11)
    fates: dict[str, int] = {}
    for _ in range(150):
        at = chance.randrange(len(data))
        flipped = bytearray(data)
        flipped[at] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        fate, found = await judged(path)
        if fate == "holds":
            assert found == lines, f"byte {at}: another history, and it verifies"
        fates[fate.partition(":")[0]] = fates.get(fate.partition(":")[0], 0) + 1
        for end in ("-wal", "-shm"):
            path.with_name(path.name + end).unlink(missing_ok=True)
    assert fates["found"] > 10 and fates["holds"] > 3, fates
    shutil.copy(whole, path)
    assert await judged(path) == ("holds", lines), "positive control"


@pytest.mark.parametrize("number", [1, 77, CALLS])
async def test_a11_a_flipped_bit_in_a_receipt_is_named(tmp_path: Path, number: int) -> None:
    path = tmp_path / "store.db"
    await sound(path)
    data = path.read_bytes()
    call_id = f"call-{number - 1:04}".encode()
    rows = [found.start() for found in re.finditer(call_id, data)]
    named = set()
    for at in rows:
        flipped = bytearray(data)
        flipped[at] ^= 1
        path.write_bytes(flipped)
        fate, _ = await judged(path)
        named.add(fate.partition(": its")[0])
    # In the table it is named; in an index or beside it, it is at least no other history.
    assert f"found: receipt {number}" in named, named


@pytest.mark.parametrize("end", ["start", "middle", "last"])
async def test_a11_a_flipped_bit_in_the_log_is_refused_or_found_by_what_was_seen(
    tmp_path: Path, end: str
) -> None:
    """SQLite ends a log at the first frame whose checksum is wrong, and says nothing. In the last
    transaction that is as after a power cut: only what was seen of the store tells."""
    path, crashed = tmp_path / "store.db", tmp_path / "crashed.db"
    log = crashed.with_name("crashed.db-wal")
    async with opened(path):
        pass
    async with opened(path) as store:
        for number in range(20):
            await store.record([intent(f"c{number}")], ledger_chain.seal)
        seen = store.known.all()
        file, commits = path.read_bytes(), path.with_name("store.db-wal").read_bytes()
    flipped = bytearray(commits)
    flipped[{"start": 100, "middle": len(commits) // 2, "last": len(commits) - 100}[end]] ^= 1
    for content, is_lost in ((flipped, True), (commits, False)):
        crashed.write_bytes(file)
        log.write_bytes(content)
        if is_lost and end != "last":
            with pytest.raises(StoreCorrupt, match="commits stand after it") as refused:
                async with opened(crashed):
                    pass
            assert refused.value.code == "store_corrupt" and "salvage" in refused.value.next_step
            assert log.read_bytes() == content, "what is left is left as it is"
            continue
        async with opened(crashed) as store:
            if is_lost:
                assert (await store.head("acme")).seq == 19
                with pytest.raises(StoreRolledBack):
                    await store.compare(seen)
            else:
                await store.compare(seen)  # positive control: a crash alone loses nothing
