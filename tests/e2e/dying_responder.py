"""A sidecar that is gone at the worst moment: an alert is durable, and nothing was done about it.

Never part of the product.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sidecar.cli.main import main
from sidecar.soc.responding import Responding

EXIT = 9


async def _die(_self: Responding, raised: object) -> None:
    if raised:
        os._exit(EXIT)


if __name__ == "__main__":
    Responding.__call__ = _die  # type: ignore[method-assign]
    sys.exit(main(sys.argv[1:]))
