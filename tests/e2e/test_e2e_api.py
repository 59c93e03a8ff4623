"""The control API of a sidecar that was started as operators start it: with a key of the
configuration, and with one made by it; on the control listener and nowhere else.
"""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from running import Process

CATALOGUE = "catalogue: shop\ntools:\n  get: {route: GET /get, mutates: false}\n"
POLICY = "policy: shop\nrules:\n  - {id: reads, effect: allow, tools: shop/*, mutates: false}\n"
KEY = "ana-canary-Qm9Yb2N4a1Zt-0042"
TENANTS = (
    "tenants: {acme: {agents: {coder: {}}, people: {ana: {roles: [admin], key: {env: ANA_KEY}}}}}\n"
)


class _Shop(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is said."""


@pytest.fixture
def shop() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Shop)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def ask(url: str, key: str = KEY, body: Any = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, data=data, headers=headers), timeout=20
        ) as reply:
            said = reply.read()
            return reply.status, json.loads(said) if said[:1] in b"[{" else said
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_g9_the_control_api_of_a_running_sidecar(tmp_path: Path, shop: str) -> None:
    process = Process(tmp_path, environment={"ANA_KEY": KEY})
    policies = {"shop.yaml": CATALOGUE, "policy.yaml": POLICY}
    process.write(f"  shop: {{url: '{shop}'}}\n", policies, TENANTS)
    process.start()
    try:
        assert urllib.request.urlopen(f"{process.url}/shop/get", timeout=20).read() == b"ok"
        control = process.control_url
        status, decisions = ask(f"{control}/v1/decisions")
        assert (status, [one["tool"] for one in decisions]) == (200, ["shop/get"])
        _, explained = ask(f"{control}/v1/decisions/{decisions[0]['call_id']}/explanation")
        assert explained["decision"]["rule"] == "shop/reads"
        _, made = ask(f"{control}/v1/keys", body={"name": "ci", "roles": ["auditor"]})
        status, verdict = ask(f"{control}/v1/receipts/verify-range", made["key"], {})
        assert (status, verdict["verified"], verdict["count"] >= 3) == (200, True, True)
        _, events = ask(f"{control}/v1/audit/events")
        assert events[0]["actor"] == "person:ana"
        assert ask(f"{control}/v1/agents/coder/freeze", body={"reason": "stop"})[0] == 200
        assert ask(f"{process.url}/shop/get")[1]["code"] == "agent_frozen"
        assert ask(f"{control}/v1/decisions?limit=1")[1][0]["code"] == "agent_frozen"
        assert ask(f"{control}/v1/openapi.json")[1]["openapi"] == "3.1.0"
        assert ask(f"{control}/v1/decisions", "nobody")[0] == 401
        for path in ("/v1/decisions", "/v1/keys", "/v1/openapi.json"):
            assert ask(f"{process.url}{path}")[0] in (401, 404, 405), path
    finally:
        process.stop()
    assert KEY not in process.log() and made["key"] not in process.log()
