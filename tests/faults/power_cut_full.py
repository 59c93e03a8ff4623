"""Takes the power away from the store, at 100,000 moments of many recorded lives.

    bash tests/full.sh powercut [CUTS]        (default 100,000; the default test run takes 300)
    python tests/faults/power_cut_full.py --play DIR/trace-7.pickle --cut MOMENT PATTERN SEED

Each life is recorded anew with its own seed and checkpoint rhythm, and cut at every moment it has,
some of them more than once; every second life begins with what a cut left of the one before.
`--planted NAME` builds a fault in; then the run must find it. `--keep DIR` keeps the files and the
trace of what fails, and `--play` repeats one cut of a trace.
"""

from __future__ import annotations

import argparse
import pickle
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from full_report import checked_out, tell
from power_cut import Cut, Report, choose, run
from power_cut_files import PATTERNS
from power_cut_life import TRACE_FAULTS, Trace, begun_by_cut, record_life
from power_cut_record import PLANTED

CUTS_PER_LIFE = 4_000
#: Batches from checkpoint to checkpoint: hectic, usual for the harness, as shipped.
RHYTHMS = (5, 3, 40)
PROBLEMS_SHOWN = 5
FAULTS = (*TRACE_FAULTS, *PLANTED)


def run_all(options: argparse.Namespace) -> tuple[Report, int]:
    """Life after life until all cuts are made; a planted fault ends it when it is found."""
    report, lives = Report(), 0
    trace: Trace | None = None
    per_life = min(CUTS_PER_LIFE, -(-options.size * 2 // 3))
    while report.cuts < options.size and not (options.planted and report.problems):
        seed = options.seed + lives
        every = RHYTHMS[lives % len(RHYTHMS)]
        start = begun_by_cut(trace, seed) if trace is not None and lives % 2 else None
        trace = record_life(seed, planted=options.planted, every=every, start=start)
        cuts = choose(trace, min(per_life, options.size - report.cuts), seed)
        report.add(run(trace, cuts, processes=options.processes, keep=options.keep))
        lives += 1
    return report, lives


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=100_000, help="cuts")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--planted", choices=FAULTS)
    parser.add_argument("--processes", type=int, default=2, choices=(1, 2))
    parser.add_argument("--results", type=Path)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--play", type=Path)
    parser.add_argument("--cut", nargs=3, metavar=("MOMENT", "PATTERN", "SEED"))
    options = parser.parse_args()
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    if options.play is not None:
        moment, pattern, seed = options.cut
        assert pattern in PATTERNS, PATTERNS
        trace = pickle.loads(options.play.read_bytes())
        cut = Cut(int(moment), pattern, int(seed))
        report, lives = run(trace, [cut], keep=options.keep), 1
    else:
        report, lives = run_all(options)
    took_s = time.perf_counter() - started
    figures: dict[str, Any] = {
        "commit": checked_out(),
        "size": options.size,
        "seed": options.seed,
        "planted": options.planted,
        "lives": lives,
        "cuts": report.cuts,
        "cuts_per_s": round(report.cuts / took_s, 1),
        "kinds": dict(sorted(report.kinds.items())),
        "patterns": dict(sorted(report.patterns.items())),
        "receipts_checked": report.receipts,
        "recovered": report.recovered,
        "durable_beyond_promises": report.beyond,
        "violations": len(report.problems),
        "violations_by_kind": dict(sorted(report.bad_kinds.items())),
        "violations_by_what": dict(sorted(report.bad_words.items())),
        "first_violations": report.problems[:PROBLEMS_SHOWN],
    }
    return tell(figures, options.results)


if __name__ == "__main__":
    sys.exit(main())
