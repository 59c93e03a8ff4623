"""`aegis-sidecar serve`: runs the sidecar until SIGTERM or SIGINT, then drains.

Knows: process-level settings (event loop, signals, open files, threads, exit codes), and that the
process ends once all is in order, whoever still waits for a disk or a name server that does not
answer.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asyncio import Task
    from threading import Timer

    from sidecar.config.model import Config

NAME = "serve"
HELP = "run the sidecar"

_UNBEGUN: Final = "aegis-sidecar was told to stop before it had started"
_NO_FOLDER: Final = "the folder it was started in, by which `policies` are found, is gone"
#: How long threads may go on that still wait for something when all else has ended.
LEFT_S: Final = 5.0


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
    import os
    import signal

    # Whoever asks for a reload while we start gets what there is; by default it would end us.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # The first process of a container is told nothing that it does not listen for.
    signal.signal(signal.SIGTERM, _end_unbegun)

    from pathlib import Path

    import uvloop

    from sidecar.cli.own_output import hold_numbers
    from sidecar.config.load import load_config
    from sidecar.open_files import raise_for
    from sidecar.policy_reading import check_entries

    hold_numbers()
    path = Path(args.config or os.environ.get("AEGIS_CONFIG") or "sidecar.yaml")
    loaded = load_config(path, os.environ, args.set)
    for problem in loaded.problems:
        print(problem, file=sys.stderr)
    # Whoever mends the configuration sees at once what is to be mended in the policies too; and
    # only here it is known where an entry that leads nowhere is written.
    try:
        base = Path.cwd()
    except OSError as error:
        print(f"aegis-sidecar will not start: {_NO_FOLDER}: {error.strerror}", file=sys.stderr)
        return 1
    unusable = check_entries(loaded.entries, base)
    if loaded.config is None or unusable:
        # What checks files is not kept in memory by who serves.
        from sidecar.cli.policy import problems_of

        for problem in sorted({*unusable, *problems_of(loaded.entries, base, loaded.kinds)}):
            print(problem, file=sys.stderr)
        return 1
    raise_for(loaded.config.limits.connections)
    net = _Net()
    try:
        return uvloop.run(_to_the_end(loaded.config, net))
    except RuntimeError as error:
        if net.code is None or "new thread" not in str(error):
            raise
        return net.code  # the loop wants one to end those it has, and none is to be had
    finally:
        net.fold()


def _end_unbegun(*_: object) -> None:
    print(_UNBEGUN, file=sys.stderr)
    raise SystemExit(0)


async def _to_the_end(config: Config, net: _Net) -> int:
    """Serves, says why if it could not start, and gives the exit code."""
    import asyncio

    from sidecar.errors import SidecarError
    from storage.errors import StoreError

    code = 1
    try:
        await _serve(config)
        code = 0
    except asyncio.CancelledError:
        print(_UNBEGUN, file=sys.stderr)
        code = 0
    except SidecarError as error:
        print(f"aegis-sidecar will not start: {error}", file=sys.stderr)
    except StoreError as error:
        print(
            f"aegis-sidecar will not start: {error} [{error.code}]\n    {error.next_step}",
            file=sys.stderr,
        )
    finally:
        net.spread(code)
    return code


class _Net:
    """Once everything is in order and closed, a thread that waits for a share or a name server
    which does not answer would keep the process until somebody kills it."""

    def __init__(self) -> None:
        self._timer: Timer | None = None
        #: With which the process ends, once all is in order.
        self.code: int | None = None

    def spread(self, code: int) -> None:
        """From now on the process ends with `code`, unless it has come to its end by itself."""
        import contextlib
        import threading

        self.code = code
        self._timer = threading.Timer(LEFT_S, _leave_behind, (code,))
        self._timer.daemon = True
        with contextlib.suppress(RuntimeError):  # no thread is to be had: then nobody watches
            self._timer.start()

    def fold(self) -> None:
        """It has."""
        if self._timer is not None:
            self._timer.cancel()


def _leave_behind(code: int) -> None:
    import os

    print(
        "aegis-sidecar has ended in order; a share, a disk or a name server that did not "
        "answer is not waited for",
        file=sys.stderr,
        flush=True,
    )
    os._exit(code)


async def _serve(config: Config) -> None:
    """From the start until the process is told to stop; CancelledError if that was before the start
    had ended."""
    import asyncio
    import signal
    from functools import partial

    from sidecar.app import running
    from sidecar.own_threads import begin_loop_threads, require_threads

    def when_told_to_stop(called: Callable[[], object]) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, called)

    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    # Nobody is served yet: whatever the start waits for, it waits no more. What was begun is put in
    # order all the same, and not left because somebody says so twice.
    when_told_to_stop(partial(_cancel_once, asyncio.current_task()))
    require_threads()
    await begin_loop_threads()
    async with running(config) as sidecar:
        when_told_to_stop(stop.set)
        loop.add_signal_handler(signal.SIGHUP, sidecar.reload_soon)
        _announce(sidecar.data_url, sidecar.control_url)
        await stop.wait()


def _announce(data_url: str, control_url: str) -> None:
    """Says on standard output that it serves. A full disk, or nobody who reads, ends no service:
    past the stream's buffer, which would try again when the process ends."""
    import logging

    from sidecar.telemetry.lines import line_writer

    said = f"aegis-sidecar listens: agents at {data_url}, control at {control_url}"
    try:
        line_writer(sys.stdout)(said.encode("ascii", "backslashreplace").decode())
    except OSError as error:
        logging.getLogger("aegis.app").warning(
            "standard output cannot be written; the sidecar serves all the same",
            extra={"cause": error.strerror, "next_step": "See where it leads: is its disk full?"},
        )


def _cancel_once(task: Task[None] | None) -> None:
    if task is not None and not task.cancelling():
        task.cancel()
