"""Two or more trees of this project side by side: what a change costs, in CPU time and requests.

The bare pass-through runs beside them.

    python tests/bench/side_by_side.py before=/path/to/a/checkout after=. [--rounds 10] [--json]

All run at once on one core and are loaded in turn, in an order drawn anew each round, so that what
disturbs the machine disturbs them all. CPU time of a call is the steadiest figure; it is told apart
by thread, for the event loop and the store's writer are mended in different places. Ratios are the
medians of the rounds' own. Must not know: what differs between the trees.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import proxies
import targets

Row = dict[str, float]


def _threads_ns(target: targets.Target) -> dict[str, int]:
    """CPU time of each thread so far; that of the process's own id is the event loop."""
    spent = {}
    for folder in Path(f"/proc/{target.process.pid}/task").iterdir():
        try:
            spent[folder.name] = int((folder / "schedstat").read_text().split()[0])
        except FileNotFoundError:  # it ended meanwhile
            continue
    return spent


def _loaded(target: targets.Target, core: str, at_once: int, seconds: float) -> Row:
    before = _threads_ns(target)
    row = proxies.load(target, core, at_once, seconds)
    after = _threads_ns(target)
    calls = max(1, row["requests"])
    spent = {thread: (after[thread] - before.get(thread, 0)) / 1000 / calls for thread in after}
    loop_us = spent[str(target.process.pid)]
    return {**row, "cpu_us": sum(spent.values()), "loop_us": loop_us,
            "other_us": sum(spent.values()) - loop_us}  # fmt: skip


def _summary(seen: dict[str, list[Row]], first_tree: str) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name, rows in seen.items():
        figures[name] = {
            key: round(median(row[key] for row in rows), 3)
            for key in ("cpu_us", "loop_us", "other_us", "requests_per_s", "p50_ms", "p99_ms")
        }
        figures[name]["cpu_us_least"] = round(min(row["cpu_us"] for row in rows), 1)
        figures[name]["errors"] = sum(row["errors"] for row in rows)
        for key, beside in (("cpu_us", first_tree), ("requests_per_s", "bare")):
            ratios = [a[key] / b[key] for a, b in zip(rows, seen[beside], strict=True)]
            figures[name][f"{key}_to_{beside}"] = round(median(ratios), 3)
    return figures


def run(
    trees: dict[str, Path], rounds: int, seconds: float, levels: tuple[int, ...]
) -> dict[str, Any]:
    """Figures by level and name."""
    load_core, proxy_core = targets.cores()
    seen: dict[int, dict[str, list[Row]]] = {level: defaultdict(list) for level in levels}
    with tempfile.TemporaryDirectory(prefix="aegis-trees-") as name:
        folder = Path(name)
        upstream = targets.start_upstream(folder, load_core)
        running = [upstream]
        try:
            compared = {"bare": targets.start_bare(folder, proxy_core, upstream.url)}
            running.append(compared["bare"])
            for tree, root in trees.items():
                home = folder / tree
                home.mkdir()
                compared[tree] = targets.start_sidecar(home, proxy_core, upstream.url, root=root)
                running.append(compared[tree])
            for target in compared.values():
                proxies.load(target, load_core, 32, 1)
            for _ in range(rounds):
                for level in levels:
                    for one in random.sample(sorted(compared), len(compared)):
                        row = _loaded(compared[one], load_core, level, seconds)
                        seen[level][one].append(row)
        finally:
            for target in reversed(running):
                target.stop()
    first_tree = next(iter(trees))
    return {f"c{level}": _summary(seen[level], first_tree) for level in levels}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("trees", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    trees = {}
    for tree in options.trees:
        name, _, folder = tree.partition("=")
        trees[name] = Path(folder).resolve()
    figures = run(trees, options.rounds, options.seconds, tuple(options.at_once))
    if options.json:
        print(json.dumps(figures))
        return
    for level, rows in figures.items():
        print(level)
        for name, row in rows.items():
            print(f"  {name}: " + ", ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
