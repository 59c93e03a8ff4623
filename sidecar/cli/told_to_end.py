"""What becomes of a command that is told to end: by `timeout`, by systemd, by whoever kills it.

Knows: that SIGTERM ends a process without a word unless it is heard, so that half a copy stays, or
the fence of a move. Must not know: what the command does.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ended_in_order() -> Iterator[None]:
    """Within, SIGTERM raises SystemExit, as Ctrl-C raises KeyboardInterrupt: once, so that what was
    begun is put in order. Elsewhere than on the main thread nothing can be heard."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
