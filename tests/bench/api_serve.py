"""Serves the API over a store of its own until it is told to end, for schemathesis to try.

Prints the URL on the first line. Identity, changes and votes are those of the unit tests.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "api"))

from api_setup import served_api

_EXTRA = {"code": "", "detail": ""}


async def serve() -> None:
    """Until SIGTERM."""
    ended = asyncio.Event()
    told = logging.StreamHandler()
    told.setFormatter(logging.Formatter("%(message)s %(code)s %(detail)s", defaults=_EXTRA))
    logging.getLogger().addHandler(told)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    with tempfile.TemporaryDirectory() as folder:
        async with served_api(Path(folder), has_agents=True) as served:
            print(served.url, flush=True)
            await ended.wait()


if __name__ == "__main__":
    asyncio.run(serve())
