"""A store's life as it was recorded, and the moments of it at which the power can go.

Knows: how boots become one trace that misses nothing, how a fault is put into a trace, and what
is under way at each moment: disk, promises, kind. A trace is not repeatable to the byte (SQLite
draws salts, threads take turns), so it can be kept.
Must not know: which moments are cut, what becomes of the files.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))

from power_cut_check import Content, Promised
from power_cut_files import Disk, rebuild
from power_cut_record import BOOTS
from power_cut_trace import BadTrace, Event, LostCall, Promise, Sync, Write, parse, record

#: Kinds of moments, by what is under way; the rarer ones get as many cuts as the common.
KINDS = (
    "creation", "migration", "recovery", "closing", "down", "restart", "checkpoint", "answered",
    "commit", "settled",
)  # fmt: skip
#: Faults put into the trace: a sync that comes after the promises it should come before.
TRACE_FAULTS = ("late-sync", "dropped-sync")
DATABASE = "aegis.db"
WAL = f"{DATABASE}-wal"
#: Lines of one boot's trace, at most: they number calls across boots.
LINES_MAX = 10_000_000
#: How often a life is recorded until a kill has not hidden a call: one in twenty does.
ATTEMPTS = 6


@dataclass
class Start:
    """Where a life begins: at nothing, or at what a cut of another life left behind."""

    boots: tuple[str, ...] = tuple(BOOTS)
    files: dict[str, bytes] = field(default_factory=dict)
    promised: Promised = field(default_factory=Promised)


@dataclass
class Trace:
    """A recorded life: where it began, its events, what was true in the end."""

    seed: int
    start: Start
    events: list[Event]
    truth: Content


def record_life(
    seed: int, *, planted: str | None = None, every: int = 5, start: Start | None = None
) -> Trace:
    """Runs a store's life under strace, and makes sure that nothing of it was missed."""
    start = start or Start()
    options = ["--seed", str(seed), "--every", str(every)]
    if planted is not None and planted not in TRACE_FAULTS:
        options += ["--planted", planted]
    events, truth = _record_boots(start, options, ATTEMPTS)
    if planted in TRACE_FAULTS:
        events = _with_fault(events, planted)
    trace = Trace(seed, start, events, truth)
    _check_promises(trace)
    return trace


def _record_boots(
    start: Start, options: Sequence[str], attempts: int
) -> tuple[list[Event], Content]:
    """All boots of a life, one after the other on the same files; and what was there in the end."""
    try:
        with tempfile.TemporaryDirectory(prefix="aegis-power-") as name:
            scratch = Path(name).resolve()
            folder = scratch / "store"
            lay_out(start.files, folder)
            events: list[Event] = []
            disk = Disk.holding(start.files)
            for number, boot in enumerate(start.boots):
                for event in _record_boot(boot, scratch, options, first=number * LINES_MAX):
                    disk.apply(event)
                    events.append(event)
                _check_files(disk, folder, LostCall if BOOTS[boot][0] == "kill" else BadTrace)
            return events, Content.read(folder / DATABASE)
    except LostCall:
        if attempts == 1:
            raise
        return _record_boots(start, options, attempts - 1)


def _record_boot(boot: str, scratch: Path, options: Sequence[str], *, first: int) -> list[Event]:
    folder, promises, output = scratch / "store", scratch / "promises", scratch / "strace"
    command = [sys.executable, str(HERE / "power_cut_record.py"), boot]
    record([*command, str(folder), str(promises), *options], ROOT, promises, output)
    with output.open() as lines:
        return parse(lines, folder, promises, first=first)


def _check_files(disk: Disk, folder: Path, error: type[BadTrace]) -> None:
    """With every write kept, the events give the very files that the run left behind."""
    rebuilt = rebuild(disk, Random(0), "kept")
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    found.pop(f"{DATABASE}-shm", None)
    if rebuilt != found:
        names = sorted(name for name in {*rebuilt, *found} if rebuilt.get(name) != found.get(name))
        raise error(f"what was recorded does not add up to the files: {names}")


def begun_by_cut(trace: Trace, seed: int) -> Start:
    """A second life for what a power cut left of the first: recovery will be cut, too."""
    chance = Random(f"{seed} start")
    killed = [now.number for now in moments(trace) if (now.boot, now.kind) == ("killed", "commit")]
    number = chance.choice(killed)
    cut = next(now for now in moments(trace) if now.number == number)
    files = rebuild(cut.disk, chance, "gaps")
    return Start(("recovering", "upgraded"), files, deepcopy(cut.promised))


def _check_promises(trace: Trace) -> None:
    """Every receipt told of is in the end where it was said to be: else the record is wrong."""
    for tenant, seq in trace.start.promised.heads.items():
        assert len(trace.truth.receipts[tenant]) >= seq, (tenant, seq)
    for event in trace.events:
        if isinstance(event, Promise) and "seq" in event.said:
            said = event.said
            row = trace.truth.receipts[said["tenant"]][said["seq"] - 1]
            assert row[:2] == (said["seq"], said["hash"]), (row, said)


def _with_fault(events: Sequence[Event], fault: str) -> list[Event]:
    """The same life, had the store answered before its log was synced, or never synced it."""
    kept: list[Event] = []
    late: list[Event] = []
    for event in events:
        if isinstance(event, Sync) and event.name == WAL:
            late.append(event)
            continue
        if late and isinstance(event, Write):
            kept += late if fault == "late-sync" else []
            late.clear()
        kept.append(event)
    return kept


class Moment(NamedTuple):
    """After so many events: the disk, what was promised, the kind of moment, the boot.

    Disk and promises are the same objects throughout a life, and change from one to the next.
    """

    number: int
    disk: Disk
    promised: Promised
    kind: str
    boot: str


def moments(trace: Trace) -> Iterator[Moment]:
    """Every moment of a life in order."""
    disk, promised = Disk.holding(trace.start.files), deepcopy(trace.start.promised)
    boot, at = trace.start.boots[0], "opening"
    syncs_to_restart = 0
    yield Moment(0, disk, promised, _kind(disk, boot, at, False, False), boot)
    for number, event in enumerate(trace.events, 1):
        if isinstance(event, Promise):
            boot, at = event.said.get("boot", boot), event.said.get("at", at)
            promised.take(event.said)
        else:
            disk.apply(event)
        if isinstance(event, Write) and event.name == WAL and event.offset == 0:
            # The log starts over: its new header is synced, then its first transaction.
            syncs_to_restart = 2
        elif isinstance(event, Sync) and event.name == WAL and syncs_to_restart:
            syncs_to_restart -= 1
        is_answer = isinstance(event, Promise) and "at" not in event.said
        kind = _kind(disk, boot, at, syncs_to_restart > 0, is_answer)
        yield Moment(number, disk, promised, kind, boot)


def _kind(disk: Disk, boot: str, at: str, is_restart: bool, is_answer: bool) -> str:
    if at == "opening" and boot == "first":
        return "creation"
    if at == "opening" and BOOTS[boot][1]:
        return "migration"
    if at in ("opening", "recovering"):
        return "recovery"
    if at in ("closing", "down"):
        return at
    if is_restart:
        return "restart"
    if disk.pending_of(DATABASE):
        return "checkpoint"
    if is_answer:
        return "answered"
    return "commit" if disk.pending_of(WAL) else "settled"


def lay_out(files: Mapping[str, bytes], folder: Path) -> None:
    """Writes the files into a new folder."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
