"""The process that tests/warm.py forks Python processes from: imports once, then forks on request.

    python warm_template.py CONTROL_FD MODULE...

A request is one datagram, what to run as JSON with the files for its stdin, stdout and stderr and
the pipe on which it is told when the process stands, with which pid, and later how it ended. The
template ends when whoever started it does: the other end of CONTROL_FD is closed then.
Must not start a thread or a loop: a fork would take half of it along.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

MESSAGE_BYTES_MAX = 1 << 20
FILES = 4


def serve(control: socket.socket) -> dict[str, Any] | None:
    """Forks until nobody asks any more (then None); gives, in each child, what it is to run."""
    running: dict[int, tuple[int, int]] = {}  # pidfd: its pid, and the pipe where its end is told
    with selectors.DefaultSelector() as waiting:
        waiting.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select():
                if key.fileobj is not control:
                    _told(waiting, key.fd, *running.pop(key.fd))
                    continue
                message, files, _, _ = socket.recv_fds(control, MESSAGE_BYTES_MAX, FILES)
                if not message:
                    return None
                pid = os.fork()
                if pid == 0:
                    for pidfd, (_, other_end) in running.items():
                        os.close(pidfd)
                        os.close(other_end)
                    control.close()
                    return {**json.loads(message), "files": files}
                end = files.pop()
                for descriptor in files:
                    os.close(descriptor)
                pidfd = os.pidfd_open(pid)
                waiting.register(pidfd, selectors.EVENT_READ)
                running[pidfd] = pid, end


def _told(waiting: selectors.BaseSelector, pidfd: int, pid: int, end: int) -> None:
    """A process has ended: it is reaped, and its exit code is told."""
    _, status = os.waitpid(pid, 0)
    waiting.unregister(pidfd)
    os.close(pidfd)
    try:
        os.write(end, f"ended {os.waitstatus_to_exitcode(status)}\n".encode())
    except BrokenPipeError:
        pass  # whoever started it did not wait for it
    finally:
        os.close(end)


def become(wanted: dict[str, Any]) -> list[str]:
    """Makes this fork what a process started with this request would be; gives its arguments."""
    *standard, end = wanted["files"]
    for descriptor, file in enumerate(standard):
        os.dup2(file, descriptor)
    for file in standard:
        os.close(file)
    if wanted["new_session"]:
        os.setsid()
    os.chdir(wanted["cwd"])
    os.environ.clear()
    os.environ.update(wanted["environment"])
    time.tzset()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.enable()
    os.write(end, f"started {os.getpid()}\n".encode())
    os.close(end)
    arguments: list[str] = wanted["arguments"]
    return arguments


def run(arguments: list[str]) -> None:
    """As the interpreter runs `-m MODULE …` or `SCRIPT …`."""
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        sys.path[0] = os.getcwd()
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path[0] = str(Path(arguments[0]).resolve().parent)
        runpy.run_path(arguments[0], run_name="__main__")


def main() -> None:
    # Ctrl-C is for the tests; they close the control socket when they end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    descriptor, *modules = sys.argv[1:]
    sys.path.insert(1, str(Path(__file__).resolve().parents[1]))
    for module in modules:
        importlib.import_module(module)
    # What is imported is never collected: the forks need not look through it, nor copy its pages.
    gc.collect()
    gc.disable()
    gc.freeze()
    wanted = serve(socket.socket(fileno=int(descriptor)))
    if wanted is not None:
        os._exit(ended(become(wanted)))


def ended(arguments: list[str]) -> int:
    """Runs it to its end, as the interpreter would; gives the exit code.

    But the modules are not taken down one by one: that would first copy each of their pages.
    """
    code = 0
    try:
        run(arguments)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as at every end
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return code & 0xFF


if __name__ == "__main__":
    main()
