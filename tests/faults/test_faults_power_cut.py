"""A2: power cuts by replaying a write trace; and the harness's own tests, faults planted."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from power_cut import choose
from power_cut_check import Content, Promised, check
from power_cut_files import PATTERNS, Disk, rebuild
from power_cut_life import KINDS, Trace, lay_out, moments, record_life
from power_cut_trace import BadTrace, Link, Rename, Sync, Truncate, Unlink, Write, parse, record

HARNESS = HERE / "power_cut_full.py"


def harness(*arguments: str) -> tuple[int, dict[str, object]]:
    done = subprocess.run(
        [sys.executable, str(HARNESS), "--processes", "1", *arguments],
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout)


# -- the slice of every test run -----------------------------------------------------------


def test_a2_three_hundred_power_cuts_lose_nothing() -> None:
    code, report = harness("--size", "300", "--seed", "2")
    assert (code, report["violations"]) == (0, 0), report
    assert report["cuts"] == 300
    # positive controls: every kind of moment was cut, there was much to lose, calls were left
    # open, and now and then more survived than anybody had been told of
    kinds = report["kinds"]
    assert isinstance(kinds, dict) and set(kinds) == set(KINDS), kinds
    assert min(kinds.values()) >= 8, kinds
    assert set(report["patterns"]) == set(PATTERNS)  # type: ignore[call-overload]
    assert int(str(report["receipts_checked"])) > 10_000
    assert int(str(report["recovered"])) > 300
    assert int(str(report["durable_beyond_promises"])) > 50


@pytest.mark.parametrize(
    ("fault", "cuts"),
    # A sync that is merely late shows in one cut of twenty, no sync in most of them.
    [("late-sync", 300), ("dropped-sync", 60), ("synchronous-off", 60), ("synchronous-normal", 60)],
)
def test_a2_the_harness_finds_a_planted_fault(fault: str, cuts: int) -> None:
    code, report = harness("--size", str(cuts), "--seed", "2", "--planted", fault)
    assert code == 1
    assert "lost" in report["violations_by_what"], report  # type: ignore[operator]


# -- what a disk holds ---------------------------------------------------------------------

OLD, NEW = b"o" * 8192, b"n" * 8192


def disk_with(*events: object) -> Disk:
    """A file `a` that durably holds OLD, and then what happened."""
    disk = Disk()
    for event in (Link("a"), Write("a", 0, OLD, 1), Sync("a", 2), Sync("", 2), *events):
        disk.apply(event)  # type: ignore[arg-type]
    return disk


def outcomes(disk: Disk) -> set[tuple[tuple[str, bytes], ...]]:
    return {
        tuple(sorted(rebuild(disk, Random(seed), pattern).items()))
        for seed in range(200)
        for pattern in PATTERNS
    }


def test_a2_what_a_sync_covers_is_there_whatever_happens() -> None:
    disk = disk_with(Write("a", 0, NEW, 3), Sync("a", 4))
    assert outcomes(disk) == {(("a", NEW),)}


def test_a2_a_sync_does_not_cover_a_write_that_came_back_after_it_began() -> None:
    disk = disk_with(Write("a", 0, NEW, 5), Sync("a", 4))
    assert {(("a", OLD),), (("a", NEW),)} < outcomes(disk)


def test_a2_an_unsynced_write_is_there_lost_or_torn_at_sector_borders() -> None:
    found = outcomes(disk_with(Write("a", 300, NEW[:5000], 3)))
    contents = {files[0][1] for files in found}
    assert OLD in contents
    assert OLD[:300] + NEW[:5000] + OLD[5300:] in contents
    assert len(contents) > 10
    for content in contents:
        assert len(content) == len(OLD)
        assert content[:300] == OLD[:300] and content[5300:] == OLD[5300:]
        borders = [at for at in range(1, 8192) if content[at] != content[at - 1]]
        assert all(at % 512 == 0 or at in (300, 5300) for at in borders), borders


def test_a2_unsynced_writes_arrive_in_any_order_and_leave_holes() -> None:
    disk = disk_with(Write("a", 0, b"1" * 8192, 3), Write("a", 8192, b"2" * 8192, 4))
    contents = {files[0][1] for files in outcomes(disk)}
    hole = {content for content in contents if content[:8192] == OLD and len(content) > 8192}
    assert any(content[8192:] == b"2" * 8192 for content in hole)
    assert any(content.count(b"2") < 8192 for content in hole)


def test_a2_an_unsynced_truncation_may_not_have_happened() -> None:
    sizes = {len(files[0][1]) for files in outcomes(disk_with(Truncate("a", 100, 3)))}
    assert sizes == {100, 8192}


def test_a2_names_are_certain_only_after_a_sync_of_the_folder() -> None:
    changes = (Link("b"), Write("b", 0, NEW, 3), Sync("b", 4), Unlink("a"), Rename("b", "c"))
    names = {tuple(name for name, _ in files) for files in outcomes(disk_with(*changes))}
    assert {("a",), ("c",), ("a", "b"), ()} <= names
    assert outcomes(disk_with(*changes, Sync("", 9))) == {(("c", NEW),)}


# -- what is recorded ----------------------------------------------------------------------

PROGRAM = """
import os, sys
folder, promises = sys.argv[1:]
told = os.open(promises, os.O_WRONLY | os.O_APPEND)
file = os.open(folder + "/a", os.O_RDWR | os.O_CREAT)
os.pwrite(file, b"\\x00one", 4)
os.fdatasync(file)
os.write(told, b'{"seq": 1}')
%s
"""


def recorded(tmp_path: Path, more: str) -> list[object]:
    folder, promises, output = tmp_path / "store", tmp_path / "promises", tmp_path / "strace"
    folder.mkdir()
    command = [sys.executable, "-c", PROGRAM % more, str(folder), str(promises)]
    record(command, tmp_path, promises, output)
    with output.open() as lines:
        return list(parse(lines, folder, promises))


def test_a2_a_trace_holds_what_was_done_in_order(tmp_path: Path) -> None:
    events = recorded(tmp_path, "os.ftruncate(file, 2); os.unlink(folder + '/a')")
    link, write, sync, promise, truncate, unlink = events
    assert (link, unlink) == (Link("a"), Unlink("a"))
    assert isinstance(write, Write) and write[:3] == ("a", 4, b"\0one")
    assert isinstance(sync, Sync) and write.ended < sync.begun
    assert promise == ({"seq": 1},)
    assert isinstance(truncate, Truncate) and truncate[:2] == ("a", 2)


@pytest.mark.parametrize(
    "call",
    [
        "os.writev(file, [b'x'])",
        "os.write(file, b'x')",
        "os.open(folder + '/a', os.O_RDWR | os.O_TRUNC)",
        "import mmap; mmap.mmap(file, 8)",
    ],
)
def test_a2_a_call_the_trace_has_no_event_for_is_an_error(tmp_path: Path, call: str) -> None:
    with pytest.raises(BadTrace, match="has no event"):
        recorded(tmp_path, call)


# -- what is checked -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def life() -> Trace:
    return record_life(7)


def test_a2_one_trace_one_moment_one_seed_give_the_same_files(life: Trace) -> None:
    cuts = choose(life, 60, 3)
    assert cuts == choose(life, 60, 3) != choose(life, 60, 4)
    files = []
    for _ in range(2):
        wanted = {cut.moment: cut for cut in cuts}
        files.append(
            [
                rebuild(now.disk, Random(cut.seed), cut.pattern)
                for now in moments(life)
                if (cut := wanted.get(now.number)) is not None
            ]
        )
    assert files[0] == files[1]


def test_a2_more_cuts_than_moments_take_every_moment(life: Trace) -> None:
    numbers = [now.number for now in moments(life)]
    taken = [cut.moment for cut in choose(life, len(numbers) + 50, 3)]
    assert set(taken) == set(numbers) and taken == sorted(taken)


def damaged(*statements: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with closing(sqlite3.connect(path)) as raw, raw:
            for statement in statements:
                raw.execute(statement)

    return damage


LAST = "seq = (SELECT max(seq) FROM receipts WHERE tenant_id = 'acme') AND tenant_id = 'acme'"
TWIN = (
    "INSERT INTO open_intent SELECT tenant_id, call_id, 'node-1', 'x' FROM receipts"
    " WHERE kind = 'outcome' LIMIT 1"
)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (damaged(), ""),
        (damaged(f"DELETE FROM receipts WHERE {LAST}"), "needs help"),
        (
            damaged(
                f"DELETE FROM receipts WHERE {LAST}",
                "UPDATE chain_head SET seq = seq - 1, receipt_hash = (SELECT receipt_hash FROM"
                " receipts WHERE tenant_id = 'acme' ORDER BY seq DESC LIMIT 1)"
                " WHERE tenant_id = 'acme'",
            ),
            "lost: acme was told",
        ),
        (damaged("UPDATE receipts SET tool = 'x' WHERE seq = 2"), "does not match"),
        (damaged("UPDATE chain_head SET frontier = upper(frontier)"), ""),
        (damaged("UPDATE chain_head SET frontier = replace(frontier, 'a', 'b')"), "frontier"),
        (damaged("DELETE FROM call_facts WHERE seq = 1"), "the facts are not"),
        (damaged("UPDATE chain_head SET epoch = 0"), "was told of epoch"),
        (damaged("DELETE FROM run_head"), "was told of run version"),
        (damaged(TWIN), "open intents"),
        (lambda path: path.write_bytes(b"no store" * 1000) and None, "needs help"),
    ],
)
async def test_a2_the_check_finds_damage(
    tmp_path: Path, life: Trace, damage: Callable[[Path], None], found: str
) -> None:
    # Just before the last boot, whose program brings other migrations.
    now = next(now for now in moments(life) if now.boot == "upgraded")
    lay_out(rebuild(now.disk, Random(0), "kept"), tmp_path / "store")
    path = tmp_path / "store" / "aegis.db"
    assert Content.read(path).soundness == "ok"
    damage(path)
    result = await check(tmp_path / "store", life.truth, now.promised)
    text = "; ".join(result.problems)
    assert found in text and bool(found) == bool(text), text


async def test_a2_a_folder_without_a_store_holds_nothing_that_was_promised(
    tmp_path: Path, life: Trace
) -> None:
    (tmp_path / "store").mkdir()
    promised = Promised(heads={"acme": 1})
    assert (await check(tmp_path / "store", life.truth, Promised())).problems == []
    (tmp_path / "other").mkdir()
    problems = (await check(tmp_path / "other", life.truth, promised)).problems
    assert problems[0] == "lost: acme was told of 1 receipts, 0 are there"
    assert [problem.split(":")[0] for problem in problems[1:]] == ["rolled back"]
