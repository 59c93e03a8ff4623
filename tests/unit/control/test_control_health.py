"""`aegis-sidecar health` against a real control listener."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import warm
from control_setup import control_plane

from sidecar.control.server import ControlServer


async def health(*arguments: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "sidecar.cli.main", "health", *arguments]
    done = await asyncio.to_thread(warm.run, command)
    return done.returncode, done.stdout, done.stderr


async def test_health_is_what_readyz_says(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as setup:
        server = ControlServer(setup.config.listen.control, setup.state)
        await server.start()
        url = f"http://127.0.0.1:{server.port}"
        config = tmp_path / "sidecar.yaml"
        config.write_text(
            f"listen: {{control: '127.0.0.1:{server.port}'}}\npolicies: ./none.yaml\n"
            "upstreams: {demo: {url: 'http://127.0.0.1:9'}}\n"
        )
        try:
            assert await health("--url", url) == (0, "ready\n", "")
            assert await health("--config", str(config)) == (0, "ready\n", "")
            setup.state.is_draining = True
            assert await health("--url", url) == (1, "", "not ready: shutting down\n")
        finally:
            await server.stop()
        code, _, errors = await health("--url", url)
        assert (code, errors.startswith("no answer from 127.0.0.1")) == (1, True)


async def test_a_wrong_url_is_wrong_usage() -> None:
    for url in ("ftp://x", "nonsense", "http://[::1", "http://x:port"):
        assert (await health("--url", url))[0] == 2, url
