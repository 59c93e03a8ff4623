"""The fixture server over standard input and output, as desktop agents start a server."""

from __future__ import annotations

import asyncio
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
warnings.simplefilter("ignore")

from fixture_server import build
from mcp.server.stdio import stdio_server


async def main() -> None:
    server = build()
    options = server.create_initialization_options()
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, options)


if __name__ == "__main__":
    asyncio.run(main())
