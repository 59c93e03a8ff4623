"""Starts the command line with logs at their most talkative, and with a fault that tells too much.

`python canary_serve.py serve …`: everything is logged, asyncio's debug mode is the environment's.
A request whose path ends in /fault fails inside the sidecar with an exception that holds its whole
body, and leaves a task behind that fails with it too: what is made of that is the log's to decide.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from sidecar.cli.main import main
from sidecar.proxy.dialects import rest
from sidecar.telemetry.logs import Logs


class TooMuch(RuntimeError):
    """An error that repeats what it was given."""


def _fail_on_fault() -> None:
    gather = rest.gather

    def failing(head: Any, body: bytes, *more: Any) -> dict[str, Any]:
        if head.path.endswith("/fault"):

            async def fail() -> None:
                raise TooMuch(body.decode())

            asyncio.get_running_loop().create_task(fail(), name=body.decode())
            logging.getLogger("library").warning("a library says %s", body.decode())
            logging.getLogger("library").debug("at length", extra={"body": body.decode()})
            raise TooMuch(body.decode())
        return gather(head, body, *more)

    rest.gather = failing


if __name__ == "__main__":
    Logs.__init__.__kwdefaults__["level"] = logging.DEBUG
    _fail_on_fault()
    sys.exit(main())
