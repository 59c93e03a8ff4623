"""Starts the command line with a keeper of policies that can be told to do its work wrongly.

`python reload_serve.py serve …`: the environment's RELOAD_FAULT names a file; what stands in it
when policies are loaded is the fault: `apart` (the rules of the new set are in force before its
catalogue is), `torn` (files are read once, and slowly), `late` (what is said to be in force is so
only later). An empty file, or none, is no fault.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from sidecar import policy_files, policy_reading
from sidecar.cli.main import main
from sidecar.policy.index import PolicySet

#: For so long two sets are in force, or none that was said to be.
DELAY_S = 0.03
#: So long is the way from one file to the next.
READ_S = 0.01


def fault() -> str:
    try:
        return Path(os.environ["RELOAD_FAULT"]).read_text()
    except OSError:
        return ""


def _swap_wrongly() -> None:
    conclude = policy_files.PolicyKeeper._conclude

    def wrongly(self: Any, reading: Any, loaded: Any) -> None:
        before = getattr(self, "current", None)
        conclude(self, reading, loaded)
        after = self.current
        if fault() == "apart":
            self.current = PolicySet(
                revision=after.revision,
                catalogue=before.catalogue,
                rules=after.rules,
                default=after.default,
                secrets=after.secrets,
            )
        elif fault() == "late":
            self.current = before
        if self.current is not after:
            asyncio.get_running_loop().call_later(DELAY_S, setattr, self, "current", after)

    policy_files.PolicyKeeper._conclude = wrongly  # type: ignore[method-assign]


def _read_wrongly() -> None:
    read, standing = policy_reading._read, policy_files.PolicyKeeper._read_standing

    def slowly(path: Path, bytes_max: int) -> bytes:
        if fault() == "torn" and bytes_max:
            time.sleep(READ_S)
        return read(path, bytes_max)

    def once(self: Any) -> Any:
        if fault() == "torn":
            return policy_reading.take_reading(self._entries, self._base, self._beside)
        return standing(self)

    policy_reading._read = slowly
    policy_files.PolicyKeeper._read_standing = once  # type: ignore[method-assign]


if __name__ == "__main__":
    _swap_wrongly()
    _read_wrongly()
    sys.exit(main())
