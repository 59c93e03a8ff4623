"""The control listener over real sockets: what it serves, to whom, and that it only reads."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from control_setup import Setup, control_plane, make_config

from sidecar.control.server import ControlServer
from sidecar.errors import StartRefused
from storage.errors import StoreFull


class Served:
    """A started listener and a client for it."""

    def __init__(self, setup: Setup, url: str, client: ClientSession) -> None:
        self.setup = setup
        self.url = url
        self._client = client

    async def ask(
        self, path: str, *, method: str = "GET", **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._client.request(method, self.url + path, headers=named) as reply:
            body: Any = await reply.read()
            if reply.content_type.endswith("json"):
                body = await reply.json(content_type=None)
            return reply.status, body, dict(reply.headers)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with control_plane(tmp_path) as setup, ClientSession() as client:
        server = ControlServer(setup.config.listen.control, setup.state)
        await server.start()
        try:
            yield Served(setup, f"http://127.0.0.1:{server.port}", client)
        finally:
            await server.stop()
            await server.stop()


async def test_a_healthy_sidecar_is_alive_and_ready(served: Served) -> None:
    status, body, headers = await served.ask("/healthz")
    assert (status, body) == (200, {"status": "alive"})
    assert headers["Server"] == "aegis-sidecar", "what we run on is nobody's business"
    assert (await served.ask("/readyz"))[:2] == (200, {"status": "ready"})


async def test_metrics_come_in_the_format_asked_for(served: Served) -> None:
    status, body, headers = await served.ask("/metrics")
    assert (status, headers["Content-Type"].split(";")[0]) == (200, "text/plain")
    assert b"aegis_build_info" in body
    wanted = "application/openmetrics-text;version=1.0.0"
    status, body, headers = await served.ask("/metrics", Accept=wanted)
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


async def test_metrics_tell_of_what_the_store_did(served: Served) -> None:
    await served.setup.record()
    _, body, _ = await served.ask("/metrics")
    lines = body.decode().splitlines()
    assert "aegis_write_batch_size_count 1.0" in lines
    assert any(line.startswith("aegis_store_ceiling_calls_per_second ") for line in lines)
    assert 'aegis_write_queue_depth{lane="committed"} 0.0' in lines


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here")
async def test_promtool_reads_what_is_served(served: Served) -> None:
    await served.setup.record()
    _, body, _ = await served.ask("/metrics")
    checked = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


@pytest.mark.parametrize("path", ["/", "/v1/authorize", "/metrics/", "/github/repos", "/status"])
async def test_g9_nothing_else_is_served(served: Served, path: str) -> None:
    status, body, headers = await served.ask(path)
    assert (status, body["code"]) == (404, "not_found")
    assert body["title"] == "There is no such path here"
    assert "/readyz; pages at /console, the API below /v1." in body["next_step"]
    assert headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_it_only_reads(served: Served, method: str) -> None:
    status, body, headers = await served.ask("/readyz", method=method)
    assert (status, body["code"]) == (405, "method_not_allowed")
    assert "GET" in headers["Allow"]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost:1", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1", 200),
        ("[::1]:8081", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example:8081", 421),
        ("", 421),
    ],
)
async def test_g9_only_known_hosts_are_answered(served: Served, host: str, expected: int) -> None:
    for path in ("/metrics", "/healthz", "/readyz", "/nothing"):
        status, body, _ = await served.ask(path, Host=host)
        wanted = 404 if expected == 200 and path == "/nothing" else expected
        assert status == wanted, path
        if expected == 421:
            assert b"aegis_" not in str(body).encode()


@pytest.mark.parametrize(
    ("origin", "expected"),
    [("http://localhost:8081", 200), ("https://evil.example", 403), ("null", 403)],
)
async def test_g9_web_pages_elsewhere_are_refused(
    served: Served, origin: str, expected: int
) -> None:
    assert (await served.ask("/metrics", Origin=origin))[0] == expected


async def test_a_probe_may_name_the_very_address_it_reached(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    listen = config.listen.model_copy(
        update={"control": config.listen.control.model_copy(update={"hosts": ("aegis.tools",)})}
    )
    async with control_plane(tmp_path, listen=listen) as setup, ClientSession() as client:
        server = ControlServer(setup.config.listen.control, setup.state)
        await server.start()
        served = Served(setup, f"http://127.0.0.1:{server.port}", client)
        try:
            assert (await served.ask("/healthz"))[0] == 200
            assert (await served.ask("/healthz", Host="aegis.tools"))[0] == 200
            assert (await served.ask("/healthz", Host="127.0.0.2"))[0] == 421
        finally:
            await server.stop()


async def test_a_taken_address_stops_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        address = make_config(tmp_path).listen.control.model_copy(update={"port": port})
        async with control_plane(tmp_path) as setup:
            said = f"127.0.0.1:{port}: Address already in use; .*listen.control"
            with pytest.raises(StartRefused, match=said):
                await ControlServer(address, setup.state).start()


async def test_draining_is_not_ready(served: Served) -> None:
    served.setup.state.is_draining = True
    status, body, _ = await served.ask("/readyz")
    assert (status, body["reasons"]) == (503, ["shutting down"])
    assert (await served.ask("/healthz"))[0] == 200


async def test_missing_policies_are_not_ready(served: Served) -> None:
    del served.setup.policies.current
    status, body, _ = await served.ask("/readyz")
    assert (status, body["reasons"]) == (503, ["policies are not loaded"])


async def test_an_idle_store_that_cannot_commit_is_not_ready(served: Served) -> None:
    served.setup.probes.append(StoreFull())
    status, body, _ = await served.ask("/readyz")
    assert (status, body["reasons"]) == (503, ["the store does not commit: store_full"])
    served.setup.probes.clear()
    await served.setup.record()
    assert (await served.ask("/readyz"))[0] == 200, "a commit is the best probe"


async def test_probes_are_rare_however_often_readiness_is_asked(served: Served) -> None:
    before = served.setup.store.facts().commits_total
    for _ in range(50):
        assert (await served.ask("/readyz"))[0] == 200
    assert 1 <= served.setup.store.facts().commits_total - before < 5
