"""Migrations: whole steps or nothing, never edited, never downgraded."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from time import perf_counter_ns

import pytest
from storage_sqlite_setup import check_chain, intent, opened, python, seal, url_of

from storage import open_reader
from storage.driver import Script
from storage.errors import MigrationChanged, StoreError, StoreTooNew
from storage.migrate import migrate, read_migrations, split_statements
from storage.sqlite import SqliteDriver
from storage.statements import load_statements

SQL = load_statements("sqlite")
STEPS = {
    "0001_create_first.sql": "CREATE TABLE first (x TEXT);\nINSERT INTO first VALUES ('kept');\n",
    "0002_create_second.sql": "CREATE TABLE second (x TEXT);\n",
    "0003_create_third.sql": "CREATE TABLE third (x TEXT);\nINSERT INTO third VALUES ('y');\n",
}


def no_check() -> Script[None]:
    """A script of no statements."""
    yield from ()


async def run(path: Path, folder: Path, at_us: int = 7) -> int:
    """Opens a file, applies the folder's migrations, closes it."""
    driver = SqliteDriver(path, verify_tail=no_check, monotonic_ns=perf_counter_ns)
    await driver.open()
    try:
        return await migrate(driver, SQL, read_migrations("sqlite", folder), lambda: at_us)
    finally:
        await driver.close()


def write(folder: Path, steps: dict[str, str]) -> Path:
    """Writes migration files."""
    folder.mkdir(exist_ok=True)
    for name, text in steps.items():
        (folder / name).write_text(text)
    return folder


def look(path: Path) -> tuple[list[str], list[tuple[object, ...]]]:
    """The tables of a file, and which migrations it says were applied when."""
    raw = sqlite3.connect(path)
    tables = raw.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid")
    applied = raw.execute("SELECT version, name, applied_at_us FROM schema_migration ORDER BY 1")
    found = [row[0] for row in tables], applied.fetchall()
    raw.close()
    return found


async def test_steps_are_applied_once_and_later_ones_added(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "aegis.store")
    path, folder = tmp_path / "x.db", tmp_path / "steps"
    first_two = dict(list(STEPS.items())[:2])
    assert await run(path, write(folder, first_two), 7) == 2
    assert await run(path, folder, 8) == 2
    assert not caplog.records, "nothing is brought up to date of a new store, or one that is"
    assert await run(path, write(folder, STEPS), 9) == 3
    [told] = caplog.records
    assert "from schema 2 to 3" in vars(told)["detail"]
    assert look(path) == (
        ["schema_migration", "first", "second", "third"],
        [(1, "create_first", 7), (2, "create_second", 7), (3, "create_third", 9)],
    )


async def test_a12_a_step_that_fails_leaves_nothing_and_the_next_start_goes_on(
    tmp_path: Path,
) -> None:
    path, folder = tmp_path / "x.db", tmp_path / "steps"
    broken = STEPS["0003_create_third.sql"] + "INSERT INTO nowhere VALUES (1);\n"
    write(folder, {**STEPS, "0003_create_third.sql": broken})
    for _ in range(2):
        with pytest.raises(StoreError):
            await run(path, folder)
        tables, applied = look(path)
        assert tables == ["schema_migration", "first", "second"]
        assert len(applied) == 2
    assert await run(path, write(folder, STEPS)) == 3
    assert look(path)[0][-1] == "third"


KILLED = """
import asyncio
from pathlib import Path
from test_storage_migrate import run
print("go", flush=True)
asyncio.run(run(Path(sys.argv[1]), Path(sys.argv[2])))
"""
ENDLESS = (
    "CREATE TABLE third (x BIGINT);\n"
    "INSERT INTO third WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
    "SELECT i FROM n;\n"
)


async def test_a12_a_kill_within_a_step_leaves_the_steps_before_it(tmp_path: Path) -> None:
    path, folder = tmp_path / "x.db", tmp_path / "steps"
    write(folder, {**STEPS, "0003_create_third.sql": ENDLESS})
    process = await python(KILLED, str(path), str(folder))
    wal = Path(f"{path}-wal")
    for _ in range(400):
        await asyncio.sleep(0.02)
        if wal.exists() and wal.stat().st_size > 300_000:  # spilled: the third step is running
            break
    process.kill()
    await process.communicate()
    assert wal.stat().st_size > 300_000
    assert await run(path, write(folder, STEPS)) == 3
    raw = sqlite3.connect(path)
    assert raw.execute("SELECT x FROM third").fetchall() == [("y",)]
    assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    raw.close()


async def test_a12_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with opened(path) as store:
        await store.record([intent("c1")], seal)
    raw = sqlite3.connect(path)
    for later in ((998, "add_marvels"), (999, "add_wonders")):
        raw.execute("INSERT INTO schema_migration VALUES (?, ?, 'x', 1)", later)
    raw.commit()
    raw.close()
    newest = max(step.version for step in read_migrations("sqlite"))
    said = rf"schema 999 \(add_wonders\); this program knows up to {newest}$"
    with pytest.raises(StoreTooNew, match=said):
        async with opened(path):
            pass
    with pytest.raises(StoreTooNew):
        await open_reader(url_of(path))
    raw = sqlite3.connect(path)
    raw.execute("DELETE FROM schema_migration WHERE version >= 998")
    raw.commit()
    raw.close()
    async with opened(path) as store:
        assert await check_chain(store) == 1


async def test_a_migration_that_was_edited_is_refused(tmp_path: Path) -> None:
    path, folder = tmp_path / "x.db", write(tmp_path / "steps", STEPS)
    await run(path, folder)
    write(folder, {"0002_create_second.sql": "CREATE TABLE second (x TEXT, y TEXT);\n"})
    with pytest.raises(MigrationChanged, match="0002_create_second"):
        await run(path, folder)
    write(folder, STEPS)
    assert await run(path, folder) == 3


async def test_an_engine_may_have_a_text_of_its_own(tmp_path: Path) -> None:
    folder = write(tmp_path / "steps", STEPS)
    write(folder, {"0002_create_second.sqlite.sql": "CREATE TABLE other (x TEXT);\n"})
    await run(tmp_path / "x.db", folder)
    assert look(tmp_path / "x.db")[0] == ["schema_migration", "first", "other", "third"]
    assert read_migrations("postgres", folder)[1].statements == ("CREATE TABLE second (x TEXT);",)


def test_statements_are_split_where_they_end_and_nowhere_else() -> None:
    trigger = (
        "CREATE TRIGGER t AFTER INSERT ON a BEGIN\n"
        "  INSERT INTO b VALUES (';');\n"
        "  INSERT INTO c VALUES (1);\n"
        "END;"
    )
    table = "-- a; comment\nCREATE TABLE a (\n  x TEXT -- why;\n);"
    text = f"{table}\n\n{trigger}\nSELECT ';\n';\n-- end\n"
    assert list(split_statements(text)) == [
        table,
        trigger,
        "SELECT ';\n';",
    ]
    with pytest.raises(ValueError, match="unfinished"):
        list(split_statements("SELECT 1;\nSELECT 2"))


@pytest.mark.parametrize(
    "names",
    [
        ["0002_create_first.sql"],
        ["0001_create_first.sql", "0003_create_third.sql"],
        ["1_create_first.sql"],
        ["0001_Create-First.sql"],
    ],
)
def test_misnamed_files_and_gaps_are_refused(tmp_path: Path, names: list[str]) -> None:
    write(tmp_path, dict.fromkeys(names, "SELECT 1;\n"))
    with pytest.raises(ValueError, match=r"count|named"):
        read_migrations("sqlite", tmp_path)


def test_the_shipped_migrations_are_read_alike_for_both_engines() -> None:
    """The tables are made by one text; each engine has steps of its own, and no number twice."""
    shipped, served = read_migrations("sqlite"), read_migrations("postgres")
    assert shipped[0].name == "create_ledger"
    assert shipped[0] == served[0]
    numbers = [migration.version for migration in served]
    assert numbers == sorted(set(numbers))
    common = {m.version for m in shipped} & {m.version for m in served}
    assert [m for m in shipped if m.version in common] == [m for m in served if m.version in common]
    assert {m.name for m in shipped if m.version not in common} == {"cluster_rows"}
    assert all("CREATE" in statement for statement in shipped[0].statements)
