"""The real `store move`, stopped dead at a step: move_stopped.py PHASE COUNT ARGUMENTS…

When progress tells of PHASE for the COUNTth time the process stops itself (SIGSTOP, every thread
of it) and says so, for whoever started it to kill it there. Pages are small, so that there are
many steps.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import sidecar.cli.store_move as store_move
import sidecar.ledger.stored_chain as stored_chain
import storage.move as move
from sidecar.cli.main import main

PHASE, COUNT, *ARGUMENTS = sys.argv[1:]
PAGE_ROWS = 200


class Stopping(store_move.Teller):
    """Tells, and stops where it was told to."""

    left = int(COUNT)

    def __call__(self, phase: str, done: int, total: int) -> None:
        super().__call__(phase, done, total)
        if phase == PHASE:
            Stopping.left -= 1
            if not Stopping.left:
                print("stopped", flush=True)
                os.kill(os.getpid(), signal.SIGSTOP)


if __name__ == "__main__":
    move.PAGE_ROWS = stored_chain.PAGE_ROWS = PAGE_ROWS
    store_move.Teller = Stopping  # type: ignore[misc]
    sys.exit(main(["store", "move", *ARGUMENTS]))
