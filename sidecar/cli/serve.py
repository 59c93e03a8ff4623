"""`aegis-sidecar serve`: runs the sidecar until SIGTERM or SIGINT, then drains.

Knows: process-level settings (event loop, signals, exit codes).
"""

from __future__ import annotations

import argparse
import sys

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

    from sidecar.app import running
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
    config = loaded.config

    async def serve() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        async with running(config) as sidecar:
            loop.add_signal_handler(signal.SIGHUP, sidecar.reload_soon)
            print(
                f"aegis-sidecar listens: agents at {sidecar.data_url}, control at "
                f"{sidecar.control_url}",
                flush=True,
            )
            await stop.wait()

    try:
        uvloop.run(serve())
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
