"""On what a benchmark ran, for its figures: the machine, and the commit that is checked out."""

from __future__ import annotations

import os
import platform
import subprocess
import sysconfig
import time
from pathlib import Path
from typing import Any

_LOOP_STEPS = 1_000_000


def loop_ns() -> float:
    """What a step of a loop takes, at best of five: machines, and the hours of a shared one, differ
    by a factor of three, and figures of two runs are compared by it."""
    times = []
    for _ in range(5):
        total, started = 0, time.perf_counter_ns()
        for step in range(_LOOP_STEPS):
            total += step
        times.append(time.perf_counter_ns() - started)
    return round(min(times) / _LOOP_STEPS, 1)


def machine() -> dict[str, Any]:
    model = "unknown"
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    except OSError:
        model = platform.processor() or model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        # Built with profiles (PGO): 8-14 % of a call's CPU, measured.
        "python_is_optimised": "--enable-optimizations"
        in (sysconfig.get_config_var("CONFIG_ARGS") or ""),
        "loop_ns": loop_ns(),
    }


def commit() -> str:
    shown = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return shown.stdout.strip() or "uncommitted"
