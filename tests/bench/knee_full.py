"""The knee of the latency curve on both engines, each with its picture.

    bash tests/full.sh knee [SIZE]      SIZE is small or default: how long each level lasts

Beside the figures (tests/results/knee.json) lie knee_sqlite.png and knee_postgres.png.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import knee
import uvloop
from bench_machine import commit, machine
from store_calls import as_the_sidecar

SECONDS = {"small": 0.2, "default": 1.2}
ENGINES = ("sqlite", "postgres")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", choices=sorted(SECONDS), default="default")
    parser.add_argument("--results", type=Path, default=Path("knee.json"))
    options = parser.parse_args()
    as_the_sidecar()
    figures: dict[str, Any] = {"commit": commit(), "machine": machine()}
    for engine in ENGINES:
        with knee.fresh_store(engine) as url:
            figures[engine] = uvloop.run(knee.measure(url, SECONDS[options.size]))
        picture = options.results.with_name(f"{options.results.stem}_{engine}.png")
        knee.draw([figures[engine]], picture)
        options.results.write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
