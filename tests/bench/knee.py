"""Where the latency curve bends, and what the sidecar calls its utilisation there.

    .venv/bin/python tests/bench/knee.py [--engine sqlite|postgres] [--store URL ...]
                                         [--seconds S] [--output knee.png]

Offers calls to the store API on a schedule, at 10 to 120 % of what it carries with everyone
waiting, and draws the 99th percentile of a call's time and the utilisation that a sidecar would
tell. What it carries is measured anew before each level, and of two passes the calmer is drawn:
a machine that others use changes meanwhile. One panel for each store; without --store a SQLite
file in a fresh folder, or with `--engine postgres` a fresh database whose commits are durable. A
store that is given must be a scratch one: what is written stays in it. Prints the figures as JSON.
`bash tests/full.sh knee` draws both engines, each into a picture of its own.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench_cluster import durable_cluster, postgres_server
from knee_png import BLACK, GREY, LIGHT, Canvas, text_width
from store_calls import as_the_sidecar, drive, frozen

import storage
from sidecar.calibration import ordinary_call
from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from storage.calibrate import calibrate_for
from storage.open_loop import offer
from storage.pressure import Pressure
from storage.write_queue import BATCH_MAX, WriteQueue

LEVELS = tuple(share / 10 for share in range(1, 13))
SATURATING_CALLS = 6_000
PASSES = 3
WARM_UP_CALLERS, WARM_UP_S = 256, 3.0
CALIBRATE_S = 1.5
AT_ONCE = 1e12
#: The curve has bent where a call takes so many times what it takes below half of the load.
BENT = 4.0
BLUE, ORANGE = (31, 98, 178), (214, 104, 16)
WIDTH, HEIGHT = 900, 560
LEFT, RIGHT, TOP, BOTTOM = 90, 800, 70, 470


@dataclass
class Level:
    """Shares of the ceiling that was measured with everyone waiting; times in milliseconds."""

    offered: float
    committed: float
    utilisation: float
    loop_busy: float
    p50_ms: float
    p99_ms: float


async def measure(url: str, seconds: float) -> dict[str, Any]:
    """All levels in one store."""
    clock = Clock()
    now_ns = clock.monotonic_ns
    store = await storage.open_store(url, now_us=clock.now_us, node_id="knee")
    # A fresh cluster makes the files of its log as it goes, and is slow until it has them.
    await drive(store, clock, WARM_UP_CALLERS, WARM_UP_S)
    found = await calibrate_for(store, seal, lambda: ordinary_call(clock), now_ns, CALIBRATE_S)
    pressure = Pressure(
        batch_entries_max=BATCH_MAX,
        monotonic_ns=now_ns,
        loop_cpu_ns=time.thread_time_ns,
        seeds=found.points,
        handover_s=found.handover_s,
        window_s=0.7 * seconds,
    )
    queue = WriteQueue(
        store, seal, capacity=8192, wait_s=30.0, monotonic_ns=now_ns, on_batch=pressure.observe
    )

    async def carried() -> float:
        """Calls per second with everyone waiting."""
        calls = [ordinary_call(clock) for _ in range(SATURATING_CALLS)]
        with frozen():
            started = time.perf_counter()
            await offer(queue, calls, AT_ONCE, now_ns)
            return SATURATING_CALLS / (time.perf_counter() - started)

    async def level(share: float) -> Level:
        ceiling = await carried()
        ceilings.append(ceiling)
        rate = share * ceiling
        calls = [ordinary_call(clock) for _ in range(int(rate * seconds))]
        seen = []
        with frozen():
            pressure.tick()

            def look() -> None:
                pressure.tick()
                seen.append(pressure.snapshot())

            served = await offer(queue, calls, rate, now_ns, look)
        return Level(
            share,
            served.committed_calls_per_s / ceiling,
            seen[0].utilisation,
            seen[0].loop_busy,
            served.p50_s * 1e3,
            served.p99_s * 1e3,
        )

    ceilings: list[float] = []
    try:
        await carried()
        passes = [[await level(share) for share in LEVELS] for _ in range(PASSES)]
        levels = [min(tries, key=lambda one: one.p99_ms) for tries in zip(*passes, strict=True)]
        facts = store.facts()
    finally:
        await queue.close()
        await store.close()
    return {
        "engine": f"{facts.engine} {facts.version.partition(' ')[0]}",
        "ceiling_calls_per_s": round(median(ceilings)),
        "levels": [asdict(level) for level in levels],
        **knee(levels),
    }


def knee(levels: list[Level]) -> dict[str, float | None]:
    """The first level of the bent curve, and the utilisation there."""
    usual = median(level.p99_ms for level in levels if level.offered <= 0.5)
    for number, level in enumerate(levels):
        if all(later.p99_ms > BENT * usual for later in levels[number:]):
            return {"knee_offered": level.offered, "knee_utilisation": level.utilisation}
    return {"knee_offered": None, "knee_utilisation": None}


# -- the picture ---------------------------------------------------------------------------


def draw(panels: list[dict[str, Any]], path: Path) -> None:
    canvas = Canvas(WIDTH * len(panels), HEIGHT)
    for number, figures in enumerate(panels):
        _panel(canvas, WIDTH * number, figures)
    canvas.save(path)


def _panel(canvas: Canvas, left: int, figures: dict[str, Any]) -> None:
    levels = figures["levels"]
    low = 10 ** math.floor(math.log10(min(one["p99_ms"] for one in levels)))
    high = 10 ** math.ceil(math.log10(max(one["p99_ms"] for one in levels)))

    def x(offered: float) -> float:
        return left + LEFT + (RIGHT - LEFT) * offered / 1.25

    def y_of_share(share: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * share / 1.15

    def y_of_ms(ms: float) -> float:
        share = math.log10(ms / low) / math.log10(high / low)
        return BOTTOM - (BOTTOM - TOP) * max(0.0, share)

    canvas.text(left + LEFT, 14, f"{figures['engine']}: {figures['ceiling_calls_per_s']:,} calls/s "
                "with everyone waiting")  # fmt: skip
    canvas.text(left + 14, 44, "p99 of a call, ms (log)", BLUE)
    utilisation = "utilisation"
    canvas.text(left + WIDTH - 20 - text_width(utilisation), 44, utilisation, ORANGE)
    for percent in range(0, 121, 10):
        at = x(percent / 100)
        canvas.line((at, TOP), (at, BOTTOM), LIGHT)
        words = f"{percent}%"
        canvas.text(at - text_width(words) / 2, BOTTOM + 12, words, GREY)
    canvas.text(left + LEFT, BOTTOM + 44, "offered, as a share of that", GREY)
    ms = low
    while ms <= high:
        canvas.line((x(0), y_of_ms(ms)), (left + RIGHT, y_of_ms(ms)), LIGHT)
        words = f"{ms:g}"
        canvas.text(left + LEFT - 12 - text_width(words), y_of_ms(ms) - 7, words, BLUE)
        ms *= 10
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        canvas.text(left + RIGHT + 12, y_of_share(share) - 7, f"{share:.2f}", ORANGE)
    for at in range(left + LEFT, left + RIGHT, 12):
        canvas.line((at, y_of_share(1.0)), (at + 5, y_of_share(1.0)), ORANGE)
    if figures["knee_offered"] is not None:
        at = x(figures["knee_offered"])
        for top in range(TOP, BOTTOM, 12):
            canvas.line((at, top), (at, top + 5), BLACK, 2)
        words = f"knee: utilisation {figures['knee_utilisation']:.2f}"
        canvas.text(at - text_width(words) - 10, BOTTOM - 30, words)
    canvas.line((x(0), TOP), (x(0), BOTTOM), GREY, 2)
    canvas.line((x(0), BOTTOM), (left + RIGHT, BOTTOM), GREY, 2)
    canvas.curve([(x(one["offered"]), y_of_ms(one["p99_ms"])) for one in levels], BLUE)
    canvas.curve([(x(one["offered"]), y_of_share(one["utilisation"])) for one in levels], ORANGE)


@contextmanager
def fresh_store(engine: str) -> Iterator[str]:
    """The URL of a store of that engine that does not exist yet, on this machine."""
    if engine == "postgres":
        with durable_cluster() as dsn:
            yield uvloop.run(postgres_server.new_database(dsn))
    else:
        with tempfile.TemporaryDirectory(prefix="aegis-knee-") as folder:
            yield f"sqlite:///{folder}/aegis.db"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--engine", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--store", action="append", default=[], metavar="URL")
    parser.add_argument("--seconds", type=float, default=0.8, help="of each level")
    parser.add_argument("--output", type=Path, default=Path("knee.png"))
    args = parser.parse_args()
    as_the_sidecar()
    if args.store:
        panels = [uvloop.run(measure(url, args.seconds)) for url in args.store]
    else:
        with fresh_store(args.engine) as url:
            panels = [uvloop.run(measure(url, args.seconds))]
    draw(panels, args.output)
    print(json.dumps(panels))
    return 0


if __name__ == "__main__":
    sys.exit(main())
