"""`aegis-sidecar store calibrate`: measures this disk and engine, keeps the figures, explains them.

Knows: the words for what was found. Must not know: how it is measured, what the file looks like.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from sidecar.cli.os_error_text import os_error_text

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.calibration_file import Figures
    from sidecar.config.model import Config
    from storage.commit_times import CommitTime

NAME = "calibrate"
HELP = "measure what this disk and engine carry, and keep the figures"

SECONDS = 10.0
#: From this share of the cost at the ceiling on, the fixed part is what to mend.
FIXED_PART_DECIDES = 0.25
SECONDS_MIN, SECONDS_MAX = 1.0, 600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The configuration, and for how long to measure."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="path of sidecar.yaml (default: AEGIS_CONFIG, ./sidecar.yaml)",
    )
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=SECONDS,
        metavar="S",
        help=f"for about how long (default: {SECONDS:.0f})",
    )
    parser.add_argument("--json", action="store_true", help="the figures as one JSON object")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not SECONDS_MIN <= seconds <= SECONDS_MAX:
        raise argparse.ArgumentTypeError(f"between {SECONDS_MIN:.0f} and {SECONDS_MAX:.0f}")
    return seconds


def run(args: argparse.Namespace) -> int:
    """0 measured and kept, 1 if it cannot be measured or kept, 2 for an unusable configuration."""
    import gc

    import uvloop

    from sidecar.app import GC_THRESHOLD, SWITCH_INTERVAL_S
    from sidecar.calibration import CannotCalibrate, measure_figures
    from sidecar.calibration_file import keep
    from sidecar.clock import Clock
    from storage.errors import StoreError

    config = _configuration(args.config)
    if config is None:
        return 2
    # As the running sidecar has it; otherwise another program would be measured.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(GC_THRESHOLD)
    if _is_running(config):
        print(
            "A sidecar runs on this store: the figures are what it leaves over. Stop it for those "
            "of the whole machine.",
            file=sys.stderr,
        )
    try:
        figures = uvloop.run(measure_figures(config.store, Clock(), args.seconds))
        path = keep(config.data_dir, figures)
    except CannotCalibrate as error:
        print(f"nothing was measured: {error}", file=sys.stderr)
        return 1
    except StoreError as error:
        print(f"nothing was kept: {error} [{error.code}]\n    {error.next_step}", file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"the figures cannot be kept in {config.data_dir}: {os_error_text(error)}",
            file=sys.stderr,
        )
        return 1
    print(figures.model_dump_json() if args.json else "\n".join(explained(figures, path)))
    return 0


def _configuration(given: str | None) -> Config | None:
    import os
    from pathlib import Path

    from sidecar.config.load import load_config

    path = Path(given or os.environ.get("AEGIS_CONFIG") or "sidecar.yaml")
    loaded = load_config(path, os.environ, [])
    for problem in loaded.problems:
        print(problem, file=sys.stderr)
    return loaded.config


def _is_running(config: Config) -> bool:
    import socket

    from sidecar.cli.control_client import SOCKET_NAME, WAIT_S

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(WAIT_S)
        try:
            probe.connect(str(config.data_dir / SOCKET_NAME))
        except OSError:
            return False
    return True


# -- in words ------------------------------------------------------------------------------


def explained(figures: Figures, path: Path) -> list[str]:
    """What was found, line by line."""
    place, ceiling = figures.place, figures.ceiling_calls_per_s
    settings = ", ".join(f"{name} {value}" for name, value in sorted(place.settings.items()))
    return [
        f"{place.engine} {place.engine_version} on {place.host}, {place.file_system or 'a server'} "
        f"({settings}), {figures.date}",
        "",
        f"A commit takes {_ms(figures.fixed_s)}, and {figures.per_call_s * 1e6:.0f} µs more for "
        "each call in it.",
        f"With full batches of {place.batch_calls_max} calls the store carries about "
        f"{ceiling:,.0f} calls/s: its ceiling.",
        _useful(figures),
        _disk(figures),
        "",
        *_table(
            ("calls in a batch", "commits", "median", "p99", "calls/s of the store alone"),
            [
                (
                    f"{one.calls}",
                    f"{one.commits:,}",
                    _ms(one.p50_s),
                    _p99(one),
                    f"{one.calls_per_s:,.0f}",
                )
                for one in figures.commits
            ],
        ),
        "",
        *_table(
            ("load", "offered/s", "recorded/s", "refused", "median", "p99"),
            [
                (
                    f"{one.share:.0%}",
                    f"{one.served.offered_calls_per_s:,.0f}",
                    f"{one.served.committed_calls_per_s:,.0f}",
                    f"{one.served.refused:,}",
                    _ms(one.served.p50_s),
                    _ms(one.served.p99_s),
                )
                for one in figures.under_load
            ],
        ),
        "",
        f"Kept in {path}. The next start begins with these figures, and what it sees corrects "
        "them.",
    ]


def _useful(figures: Figures) -> str:
    useful, largest = figures.largest_useful_batch_calls, figures.place.batch_calls_max
    if useful > largest:
        rates = {one.calls: one.calls_per_s for one in figures.commits}
        more = rates[useful] / rates[largest] - 1 if rates.get(largest) else 0.0
        return (
            f"Batches of {useful} calls would carry {more:.0%} more than those of {largest}, the "
            "largest that are put together."
        )
    return f"Batches of more than {useful} calls carry hardly more; they only take longer."


def _disk(figures: Figures) -> str:
    sync_s, fixed_s = figures.sync_p50_s, figures.fixed_s
    at_ceiling_s = 1 / figures.ceiling_calls_per_s if figures.ceiling_calls_per_s > 0 else 0.0
    share = fixed_s / figures.place.batch_calls_max / at_ceiling_s if at_ceiling_s > 0 else 0.0
    if sync_s > 0:
        said, it = f"The disk takes {_ms(sync_s)} to sync 4 KiB; the", "a faster disk"
    else:
        said, it = "The", "a nearer database or its faster disk"
    said += f" fixed part is {share:.0%} of the cost at the ceiling: "
    if share >= FIXED_PART_DECIDES:
        return f"{said}{it} raises it."
    return f"{said}a faster core raises it, {it} only shortens the wait when little is to do."


def _p99(one: CommitTime) -> str:
    from storage.commit_times import P99_COMMITS_MIN

    return f"{_ms(one.p99_s)}{'' if one.commits >= P99_COMMITS_MIN else ' (max)'}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """Columns flush right, as wide as their widest cell."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
