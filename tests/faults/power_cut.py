"""Power cuts: takes the power away at chosen moments of a recorded life, looks what is left.

    library of power_cut_full.py and test_faults_power_cut.py

Knows: which moments are worth a cut, and that one trace, one moment and one seed always give the
same files. Must not know: how a life is recorded, what must hold of a store.
"""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))

from power_cut_check import Found, check
from power_cut_files import PATTERNS, rebuild
from power_cut_life import DATABASE, Trace, lay_out, moments
from power_cut_record import program_of

#: One in so many stores is closed and opened once more.
AGAIN_EVERY = 4


class Cut(NamedTuple):
    """The power goes after `moment` events; `pattern` and `seed` say what is left."""

    moment: int
    pattern: str
    seed: int


@dataclass
class Report:
    """Sums over cuts; `problems` is empty in a good run."""

    cuts: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    patterns: Counter[str] = field(default_factory=Counter)
    receipts: int = 0
    recovered: int = 0
    beyond: int = 0
    problems: list[str] = field(default_factory=list)
    #: Problems by kind of moment, and by their first words.
    bad_kinds: Counter[str] = field(default_factory=Counter)
    bad_words: Counter[str] = field(default_factory=Counter)

    def add(self, other: Report) -> None:
        self.cuts += other.cuts
        self.kinds += other.kinds
        self.patterns += other.patterns
        self.receipts += other.receipts
        self.recovered += other.recovered
        self.beyond += other.beyond
        self.problems += other.problems
        self.bad_kinds += other.bad_kinds
        self.bad_words += other.bad_words


def choose(trace: Trace, count: int, seed: int) -> list[Cut]:
    """Cuts in order of their moments: half spread over the kinds, half over all moments.

    With more cuts than moments every moment is taken as often as goes, the rest as above.
    """
    chance = Random(f"{seed} cuts")
    by_kind: dict[str, list[int]] = {}
    total = 0
    for moment in moments(trace):
        by_kind.setdefault(moment.kind, []).append(moment.number)
        total += 1
    chosen = list(range(total)) * (count // total)
    rest = count - len(chosen)
    chosen += [chance.randrange(total) for _ in range(rest // 2)]
    kinds = sorted(by_kind)
    decks: dict[str, list[int]] = {kind: [] for kind in kinds}
    for number in range(count - len(chosen)):
        kind = kinds[number % len(kinds)]
        if not decks[kind]:
            decks[kind] = chance.sample(by_kind[kind], len(by_kind[kind]))
        chosen.append(decks[kind].pop())
    return sorted(Cut(moment, chance.choice(PATTERNS), chance.getrandbits(32)) for moment in chosen)


# -- running -------------------------------------------------------------------------------


def run(
    trace: Trace, cuts: Sequence[Cut], *, processes: int = 1, keep: Path | None = None
) -> Report:
    """Makes and checks every cut; `keep` takes the files and the trace of those that fail."""
    report = Report()
    if processes == 1:
        report.add(_run_part(trace, cuts, keep))
    else:
        # Every other cut: the parts are alike, and each walks through the whole life once.
        parts = [cuts[number::processes] for number in range(processes)]
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            for done in [pool.submit(_run_part, trace, part, keep) for part in parts]:
                report.add(done.result())
    if report.problems and keep is not None:
        (keep / f"trace-{trace.seed}.pickle").write_bytes(pickle.dumps(trace))
    return report


def _run_part(trace: Trace, cuts: Sequence[Cut], keep: Path | None) -> Report:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="aegis-power-", dir=memory if memory.is_dir() else None
    ) as name:
        return asyncio.run(_cut_all(trace, cuts, Path(name).resolve(), keep))


async def _cut_all(trace: Trace, cuts: Sequence[Cut], scratch: Path, keep: Path | None) -> Report:
    report = Report()
    # Every cut leaves calls to recover, and recovery says so each time.
    logging.disable(logging.WARNING)
    life = moments(trace)
    now, program = next(life), ""
    for cut in cuts:
        while now.number < cut.moment:
            now = next(life)
        if now.boot != program:
            program_of(now.boot, scratch)
            program = now.boot
        folder, files = scratch / "store", rebuild(now.disk, Random(cut.seed), cut.pattern)
        lay_out(files, folder)
        _lay_shared_memory(folder, Random(cut.seed))
        again = not cut.seed % AGAIN_EVERY
        found = await check(folder, trace.truth, now.promised, opens_again=again)
        shutil.rmtree(folder)
        _count(report, cut, now.kind, found)
        if found.problems and keep is not None:
            lay_out(files, keep / f"cut-{trace.seed}-{cut.moment}-{cut.pattern}-{cut.seed}")
    return report


def _count(report: Report, cut: Cut, kind: str, found: Found) -> None:
    report.cuts += 1
    report.kinds[kind] += 1
    report.patterns[cut.pattern] += 1
    report.receipts += found.receipts
    report.recovered += found.recovered
    report.beyond += max(0, found.beyond)
    if found.problems:
        report.bad_kinds[kind] += 1
        report.bad_words.update({problem.partition(":")[0] for problem in found.problems})
        report.problems.append(f"{json.dumps(cut)} {kind}: {'; '.join(found.problems)[:500]}")


def _lay_shared_memory(folder: Path, chance: Random) -> None:
    """The shared-memory file as anything, or not at all: no sync ever covers it."""
    shared = chance.choice((None, b"", b"\0" * 32_768, chance.randbytes(32_768)))
    if shared is not None:
        (folder / f"{DATABASE}-shm").write_bytes(shared)
