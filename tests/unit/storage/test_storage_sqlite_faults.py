"""The disk errs, the file is damaged or gone: nothing is acknowledged that is not there."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from storage_sqlite_setup import (
    bulky,
    check_chain,
    draft,
    intent,
    opened,
    outcome,
    python,
    seal,
)

from storage import open_reader, open_store
from storage.errors import (
    CommitUnknown,
    StoreCorrupt,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
)
from storage.records import Entry, HeadRow, ReceiptRow, Recorded, Sealed, Unrecordable
from storage.sqlite_errors import translated

ERRING_DISK = """
import asyncio, resource
from pathlib import Path
from storage_sqlite_setup import *
from storage.errors import StoreError
from storage.records import Recorded

HARD = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
PATH = Path(sys.argv[1])

async def main():
    async with opened(PATH) as store:
        for number in range(20):
            await store.record([intent(f"before{number}")], seal)
        # From here on every write beyond the first byte fails with EFBIG: an I/O error.
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, HARD))
        failures = []
        for attempt in (lambda: store.record([intent("during")], seal), store.probe) * 2:
            try:
                await attempt()
            except StoreError as error:
                failures.append(type(error).__name__)
        resource.setrlimit(resource.RLIMIT_FSIZE, (HARD, HARD))
        found = len(await store.receipts_of_call("acme", "during"))
        [after] = await store.record([intent("after")], seal)
        length = await check_chain(store)
        print(*failures, store.facts().reopened_total, found, type(after).__name__, length)

asyncio.run(main())
"""


async def test_a4_an_io_error_fails_the_batch_and_the_connection_is_replaced(
    tmp_path: Path,
) -> None:
    """A real error of write(2): a limit on file size stands in for a failing disk."""
    process = await python(ERRING_DISK, str(tmp_path / "store.db"))
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    *failures, reopened, found, after, length = out.decode().split()
    assert failures[0] == "CommitUnknown"
    assert len(failures) == 4
    assert set(failures[1:]) <= {"CommitUnknown", "StoreUnavailable"}
    assert int(reopened) >= 1
    assert (found, after, length) == ("0", "Recorded", "21")


class FailingCommit(sqlite3.Connection):
    """A connection whose COMMIT fails as told: before it happened, or after."""

    code = 0
    happens = False

    def execute(self, sql: str, *arguments: object) -> sqlite3.Cursor:  # type: ignore[override]
        if sql != "COMMIT" or not FailingCommit.code:
            return super().execute(sql, *arguments)  # type: ignore[arg-type]
        if FailingCommit.happens:
            super().execute(sql)
        error = sqlite3.OperationalError("planted")
        error.sqlite_errorcode, FailingCommit.code = FailingCommit.code, 0
        raise error


@pytest.fixture
def failing_commit(monkeypatch: pytest.MonkeyPatch) -> type[FailingCommit]:
    """Stores opened in the test have connections whose COMMIT can be made to fail."""
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *args, **kw: connect(*args, **kw, factory=FailingCommit)
    )
    monkeypatch.setattr(FailingCommit, "code", 0)
    return FailingCommit


@pytest.mark.parametrize("happens", [False, True], ids=["not committed", "committed"])
async def test_a_commit_that_errs_is_unknown_and_the_truth_is_found_by_call_id(
    tmp_path: Path, failing_commit: type[FailingCommit], happens: bool
) -> None:
    async with opened(tmp_path / "store.db") as store:
        await store.record([intent("c1")], seal)
        failing_commit.code, failing_commit.happens = sqlite3.SQLITE_IOERR_FSYNC, happens
        with pytest.raises(CommitUnknown):
            await store.record([intent("c2")], seal)
        assert len(await store.receipts_of_call("acme", "c2")) == happens
        await store.record([intent("c3")], seal)
        assert store.facts().reopened_total == 1
        assert await check_chain(store) == 2 + happens


@pytest.mark.parametrize(
    ("code", "error"),
    [(sqlite3.SQLITE_FULL, StoreFull), (sqlite3.SQLITE_READONLY, StoreReadOnly)],
)
async def test_a_commit_that_certainly_did_not_happen_says_so(
    tmp_path: Path, failing_commit: type[FailingCommit], code: int, error: type[Exception]
) -> None:
    async with opened(tmp_path / "store.db") as store:
        failing_commit.code, failing_commit.happens = code, False
        with pytest.raises(error):
            await store.record([intent("c1")], seal)
        await store.record([intent("c1")], seal)
        assert store.facts().reopened_total == 0
        assert await check_chain(store) == 1


async def test_a_file_replaced_while_open_is_noticed_before_anything_is_acknowledged(
    tmp_path: Path,
) -> None:
    path = tmp_path / "store.db"
    async with opened(path) as store:
        await store.record([intent("c1")], seal)
        kept = path.rename(tmp_path / "moved.db")
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await store.record([intent("c2")], seal)
        kept.rename(path)
        await store.record([intent("c2")], seal)
        assert await check_chain(store) == 2


@pytest.mark.parametrize("content", [b"not a database at all " * 400, b"\xff" * 8192])
async def test_a11_a_file_that_is_no_database_is_refused_and_left_alone(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(content)
    with pytest.raises(StoreCorrupt):
        async with opened(path):
            pass
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM receipts WHERE seq = 2",
        "UPDATE receipts SET receipt_hash = 'x' WHERE seq = 2",
        "UPDATE chain_head SET seq = 1",
        "UPDATE chain_head SET seq = 3",
    ],
)
async def test_a11_a_head_that_is_not_the_last_receipt_stops_the_start(
    tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "store.db"
    async with opened(path) as store:
        await store.record([intent("c1"), intent("c2"), Entry(draft("rival", "control"))], seal)
    async with opened(path) as store:
        assert await check_chain(store) == 2
    raw = sqlite3.connect(path)
    raw.execute(f"{damage}{' AND' if 'WHERE' in damage else ' WHERE'} tenant_id = 'acme'")
    raw.commit()
    raw.close()
    with pytest.raises(StoreCorrupt, match="acme"):
        async with opened(path):
            pass


async def test_f6_a_sequence_that_is_used_again_is_refused_by_the_store_itself(
    tmp_path: Path,
) -> None:
    """The planted fault: a seal that goes on from where a head was before. It is the primary key
    that forbids a fork, whatever the program believes its head to be."""
    path = tmp_path / "store.db"
    async with opened(path) as store:
        await store.record([intent("c1")], seal)
        behind = await store.head("acme")
        await store.record([intent("c2")], seal)

        def forking(heads: Mapping[str, HeadRow], drafts: Sequence[ReceiptRow]) -> Sealed:
            return seal({tenant: behind for tenant in heads}, drafts)

        before = await store.receipts("acme", 0, 10)
        [answer] = await store.record([intent("c3")], forking)
        assert isinstance(answer, Unrecordable)
        assert await store.receipts("acme", 0, 10) == before
        assert store.known.all()["acme"] == (2, before[-1].receipt_hash)
    async with opened(path) as store:  # a restart goes on after the last, too
        [again] = await store.record([intent("c4")], seal)
        assert isinstance(again, Recorded) and again.seq == 3
        assert await check_chain(store) == 3


async def test_a_torn_page_is_corrupt_not_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with opened(path) as store:
        for number in range(40):
            await store.record([bulky(f"c{number}"), intent(f"d{number}")], seal)
    data = bytearray(path.read_bytes())
    for page in range(2, len(data) // 4096):
        data[page * 4096 : page * 4096 + 2_000] = b"\xa5" * 2_000
    path.write_bytes(data)
    with pytest.raises(StoreCorrupt):
        async with opened(path) as store:
            await store.record([outcome("c1")], seal)
            await store.receipts("acme", 0, 1_000)


async def test_a_failed_start_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"garbage" * 2_000)
    for _ in range(2):
        with pytest.raises(StoreCorrupt):
            await open_store(f"sqlite:///{path}", now_us=lambda: 0)
    path.unlink()
    async with opened(path) as store:
        await store.probe()


async def test_a_reader_of_what_is_no_store_says_so(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with pytest.raises(StoreUnavailable):
        await open_reader(f"sqlite:///{path}")
    assert not path.exists()
    raw = sqlite3.connect(path)
    raw.execute("CREATE TABLE t (x)")
    raw.close()
    with pytest.raises(StoreCorrupt):
        await open_reader(f"sqlite:///{path}")


def test_a_file_that_cannot_be_opened_is_told_with_who_may_open_it(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError) as raised:
        sqlite3.connect(tmp_path / "nowhere" / "aegis.db")
    refused = translated(raised.value)
    assert isinstance(refused, StoreUnavailable) and refused.code == "store_unavailable"
    assert "sidecar's user" in refused.next_step
