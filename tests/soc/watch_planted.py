"""A sidecar with a fault in its watching, to prove that the harness finds it. Never part of the
product.

mark-before-alert    how far it has come is committed before what was found
alert-before-mark    what was found is committed before how far it has come
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from collections.abc import Sequence

from sidecar.cli.main import main
from sidecar.soc.model import Hit
from sidecar.soc.raising import Raiser
from sidecar.soc.watch_rooms import Put

FAULTS = ("mark-before-alert", "alert-before-mark")
#: Between the two, so that a kill falls into it.
GAP_S = 0.3


def plant(fault: str) -> None:
    real = Raiser.__call__

    async def apart(self: Raiser, tenant: str, hits: Sequence[Hit], puts: Sequence[Put]) -> bool:
        if fault == "alert-before-mark":
            await real(self, tenant, hits, ())
            await asyncio.sleep(GAP_S)
            return await self._store.put_rows(tenant, puts)
        if not await self._store.put_rows(tenant, puts):
            return False
        await asyncio.sleep(GAP_S)
        return await real(self, tenant, hits, ())

    Raiser.__call__ = apart  # type: ignore[method-assign]


if __name__ == "__main__":
    plant(sys.argv.pop(1))
    sys.exit(main(sys.argv[1:]))
