"""Rows that stand in the tree of their own key: what a commit writes, and files from before."""

from __future__ import annotations

import sqlite3
import struct
from pathlib import Path

import pytest
from storage_sqlite_setup import check_chain, intent, opened, outcome, seal

import storage
from storage.migrate import read_migrations

BEFORE = 16
#: The heads, the open intents, receipts, their two indexes by call, facts and their key.
PAGES_A_COMMIT = 7


def pages_of_commits(path: Path) -> list[list[int]]:
    """The pages that each commit in a write-ahead log wrote (sqlite.org/fileformat.html, 4)."""
    log = path.with_name(path.name + "-wal").read_bytes()
    page_bytes = struct.unpack(">I", log[8:12])[0]
    commits: list[list[int]] = []
    pages: list[int] = []
    for at in range(32, len(log) - page_bytes - 23, 24 + page_bytes):
        page, size_after_commit = struct.unpack(">II", log[at : at + 8])
        if log[at + 8 : at + 16] != log[16:24]:
            break
        pages.append(page)
        if size_after_commit:
            commits.append(pages)
            pages = []
    return commits


def only_until(last: int, patched: pytest.MonkeyPatch) -> None:
    """Stores are opened as a program did that knew no later steps."""
    shipped = [step for step in read_migrations("sqlite") if step.version <= last]
    patched.setattr(storage, "read_migrations", lambda _: shipped)


@pytest.mark.parametrize("last_step", [None, BEFORE])
async def test_a_commit_of_one_call_writes_few_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last_step: int | None
) -> None:
    """The second case shows that the first can fail."""
    if last_step is not None:
        only_until(last_step, monkeypatch)
    path = tmp_path / "store.db"
    async with opened(path) as store:
        await store.record([intent("c000")], seal)
        for number in range(1, 12):
            before = f"c{number - 1:03}"
            await store.record([outcome(before), intent(f"c{number:03}")], seal)
        *_, pages = pages_of_commits(path)
    assert len(pages) == PAGES_A_COMMIT + (0 if last_step is None else 2)


async def test_a12_a_file_from_before_is_rewritten_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.db"
    with monkeypatch.context() as patched:
        only_until(BEFORE, patched)
        async with opened(path) as store:
            await store.record([intent("c1"), intent("c2"), intent("c3")], seal)
            await store.record([outcome("c2")], seal)
            before = await store.receipts("acme", 0, 100)
            waiting = await store.open_intents("node", 10)
    async with opened(path) as store:
        assert await store.receipts("acme", 0, 100) == before
        assert await store.open_intents("node", 10) == waiting
        assert await check_chain(store) == len(before) == 4
        await store.record([outcome("c1")], seal)
        assert await check_chain(store) == 5
    raw = sqlite3.connect(path)
    assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    keyed = "SELECT name FROM pragma_table_list WHERE wr = 1 ORDER BY name"
    assert raw.execute(keyed).fetchall() == [("open_intent",), ("receipts",)]
    raw.close()
