"""The threads this process needs, had before anybody is served.

Knows: that systems give out so many (`pids.max` of a container, TasksMax, `ulimit -u`), often to
an agent's processes and to us together; that the event loop begins threads of its own with the
first connection to an upstream, and ends the process where it gets none: it is made to begin them
while nobody waits for an answer, and then has them whatever is used up later.
Must not know: what threads are for, configuration.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Final

from sidecar.errors import StartRefused

#: The log's, the store's writer, two readers and an opener, one that looks at files; the loop's 4.
THREADS_MIN: Final = 10

_NUMERIC: Final = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV


def require_threads() -> None:
    """Raises StartRefused unless so many can be begun now; they end again."""
    end = threading.Event()
    begun: list[threading.Thread] = []
    try:
        for _ in range(THREADS_MIN):
            one = threading.Thread(target=end.wait, name="to see that there are threads")
            one.start()
            begun.append(one)
    except RuntimeError as error:
        raise StartRefused(
            f"the system gives this process {len(begun)} threads, and it needs {THREADS_MIN}: "
            "raise `pids.max` of its container, TasksMax of its unit, or `ulimit -u` of its user"
        ) from error
    finally:
        end.set()
        for one in begun:
            one.join()


async def begin_loop_threads() -> None:
    """The loop's own threads, from now on; no name server is asked."""
    await asyncio.get_running_loop().getnameinfo(("127.0.0.1", 0), _NUMERIC)
