"""`aegis-sidecar serve`: runs the sidecar until SIGTERM or SIGINT, then drains.

Knows: process-level settings (event loop, signals, exit codes).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import Task

    from sidecar.config.model import Config

NAME = "serve"
HELP = "run the sidecar"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The configuration, and settings that go over it."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="path of sidecar.yaml (default: AEGIS_CONFIG, ./sidecar.yaml)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting, e.g. limits.queue=100",
    )


def run(args: argparse.Namespace) -> int:
    """0 after an orderly stop, 1 if it cannot start."""
    import asyncio
    import os
    import signal

    # Whoever asks for a reload while we start gets what there is; by default it would end us.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    from pathlib import Path

    import uvloop

    from sidecar.config.load import load_config
    from sidecar.errors import SidecarError
    from sidecar.policy_reading import check_entries
    from storage.errors import StoreError

    path = Path(args.config or os.environ.get("AEGIS_CONFIG") or "sidecar.yaml")
    loaded = load_config(path, os.environ, args.set)
    for problem in loaded.problems:
        print(problem, file=sys.stderr)
    # Whoever mends the configuration sees at once what is to be mended in the policies too; and
    # only here it is known where an entry that leads nowhere is written.
    base = Path.cwd()
    unusable = check_entries(loaded.entries, base)
    if loaded.config is None or unusable:
        # What checks files is not kept in memory by who serves.
        from sidecar.cli.policy import problems_of

        for problem in sorted({*unusable, *problems_of(loaded.entries, base, loaded.kinds)}):
            print(problem, file=sys.stderr)
        return 1
    try:
        uvloop.run(_serve(loaded.config))
    except asyncio.CancelledError:
        print("aegis-sidecar was told to stop before it had started", file=sys.stderr)
    except SidecarError as error:
        print(f"aegis-sidecar will not start: {error}", file=sys.stderr)
        return 1
    except StoreError as error:
        print(
            f"aegis-sidecar will not start: {error} [{error.code}]\n    {error.next_step}",
            file=sys.stderr,
        )
        return 1
    return 0


async def _serve(config: Config) -> None:
    """From the start until the process is told to stop; CancelledError if that was before the start
    had ended."""
    import asyncio
    import signal
    from functools import partial

    from sidecar.app import running

    def when_told_to_stop(called: Callable[[], object]) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, called)

    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    # Nobody is served yet: whatever the start waits for, it waits no more. What was begun is put in
    # order all the same, and not left because somebody says so twice.
    when_told_to_stop(partial(_cancel_once, asyncio.current_task()))
    async with running(config) as sidecar:
        when_told_to_stop(stop.set)
        loop.add_signal_handler(signal.SIGHUP, sidecar.reload_soon)
        print(
            f"aegis-sidecar listens: agents at {sidecar.data_url}, control at "
            f"{sidecar.control_url}",
            flush=True,
        )
        await stop.wait()


def _cancel_once(task: Task[None] | None) -> None:
    if task is not None and not task.cancelling():
        task.cancel()
