"""A sidecar in front of the MCP server of `mcp_fixture`, both running."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import mcp_fixture
from running import Process, free_port


@contextlib.asynccontextmanager
async def behind(folder: Path, catalogue: str, policy: str) -> AsyncIterator[Process]:
    """The sidecar, by whose name for it the server is `tools`; stopped at the end."""
    async with mcp_fixture.serving(free_port()) as direct:
        sidecar = Process(folder)
        files = {"tools.yaml": catalogue, "policy.yaml": policy}
        sidecar.write(f"  tools: {{url: '{direct}', kind: mcp}}", files)
        await asyncio.to_thread(sidecar.start)
        try:
            yield sidecar
        finally:
            await asyncio.to_thread(sidecar.stop)
