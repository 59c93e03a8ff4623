"""Two sidecars on one PostgreSQL, or one on a file, with tools of every kind; calls to them.

A call is a word (`get`, `mcp` …; `authorize#ID` is one under a request id); its answer is "" where
it went ahead, else the code it met.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from running import Process
from tool_server import QuietTools

TOKENS = {
    "coder": "coder-canary-Qm9Yb2N4a1Zt-1",
    "helper": "helper-canary-Xb2N4a1ZtQm-2",
    "leaver": "leaver-canary-Yc3N4b2ZtRn-3",
    "runner": "runner-canary-Zd4N4c3ZtSo-4",
}
ANA_KEY = "ana-canary-b2N4a1ZtQm9YXs-5"
OLE_KEY = "ole-canary-c3N4b2ZtRn9ZYt-6"
POLICIES = {
    "shop.yaml": (
        "catalogue: shop\ntools:\n"
        "  get: {route: GET /get, mutates: false, returns: trusted_internal_signed}\n"
        "  look: {route: GET /look, mutates: false, returns: trusted_internal_signed}\n"
        "  fetch: {route: POST /fetch, mutates: false, returns: trusted_internal_signed}\n"
        "  buy: {route: POST /buy, returns: trusted_internal_signed}\n"
        "  live: {route: GET /live, websocket: true, returns: trusted_internal_signed}\n"
    ),
    "web.yaml": "catalogue: web\ntools: {get: {route: GET /get, mutates: false}}\n",
    "mcp.yaml": "catalogue: tools\ntools: {add: {mutates: false}}\n",
    "act.yaml": "catalogue: act\ntools: {run: {mutates: false}, pay: {}}\n",
    "policy.yaml": (
        "policy: all\nrules:\n"
        "  - {id: shop, effect: allow, tools: [shop/get, shop/look, shop/fetch, shop/live]}\n"
        "  - {id: others, effect: allow, tools: [web/get, tools/*, act/run]}\n"
        "  - {id: asks, effect: require_approval, tools: [shop/buy, act/pay]}\n"
    ),
}
AGENTS = ", ".join(f"{name}: {{token: {{env: {name.upper()}_TOKEN}}}}" for name in TOKENS)
REST = f"""
tenants:
  acme:
    agents: {{{AGENTS}}}
    people:
      ana: {{roles: [admin], key: {{env: ANA_KEY}}}}
      ole: {{roles: [operator], key: {{env: OLE_KEY}}}}
approvals: {{hold: 100ms}}
"""


class Tools(QuietTools):
    """Answers REST, JSON-RPC and a WebSocket's handshake."""

    def do_GET(self) -> None:
        if self.headers.get("Upgrade", "").lower() == "websocket":
            self._upgrade()
            return
        self.say_ok()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self.path.startswith("/mcp"):
            self.say_ok()
            return
        asked = json.loads(body)
        result: dict[str, Any] = {"content": [{"type": "text", "text": "3"}]}
        if asked["method"] == "tools/list":
            result = {"tools": [{"name": "add", "inputSchema": {"type": "object"}}]}
        said = json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def _upgrade(self) -> None:
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode(), usedforsecurity=False).digest())
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", accept.decode())
        self.end_headers()
        self.close_connection = True


def sidecar_in(
    folder: Path, tools: str, store: str = "", default: str = "deny", more: str = ""
) -> Process:
    """One, not started yet; `more` stands in sidecar.yaml too."""
    folder.mkdir(exist_ok=True)
    keys = {"ANA_KEY": ANA_KEY, "OLE_KEY": OLE_KEY, "AEGIS_DB": store}
    secrets = {f"{name.upper()}_TOKEN": token for name, token in TOKENS.items()}
    process = Process(folder, environment=secrets | keys)
    if store:
        process.store = "{env: AEGIS_DB}"
    upstreams = (
        f"  shop: {{url: '{tools}'}}\n"
        f"  web: {{url: '{tools.replace('127.0.0.1', 'localhost')}', run: trusted}}\n"
        f"  tools: {{url: '{tools}/mcp', kind: mcp}}\n"
        "  act: {kind: authorize}\n"
    )
    process.write(upstreams, POLICIES, f"{REST}default: {default}\n{more}")
    return process


def _sent(
    port: int, method: str, path: str, headers: dict[str, str], body: Any = None
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        data = None if body is None else json.dumps(body)
        if body is not None:
            headers = {"Content-Type": "application/json", **headers}
        connection.request(method, path, data, headers)
        reply = connection.getresponse()
        return reply.status, b"" if reply.status == 101 else reply.read()
    finally:
        connection.close()


_LISTEN = {"Accept": "application/json, text/event-stream"}
_UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def _asks(action: str) -> dict[str, Any]:
    return {
        "agent": {"id": "coder", "environment": "production"},
        "tool_call": {
            "tool": "act", "action": action, "resource": None, "mutates_state": False,
            "parameters": {"url": "https://files.example/x"},
        },
        "context": {"source_trust": "trusted_internal_signed", "contains_sensitive_data": False},
    }  # fmt: skip


#: method, path, further headers, body
REQUESTS: dict[str, tuple[str, str, dict[str, str], Any]] = {
    "get": ("GET", "/shop/get", {}, None),
    "look": ("GET", "/shop/look", {}, None),
    "fetch": ("POST", "/shop/fetch", {}, {"page": {"url": "https://files.example/a"}}),
    "fetch-below": ("POST", "/shop/fetch", {}, {"urls": ["https://cdn.files.example:8443/a"]}),
    "fetch-odd": ("POST", "/shop/fetch", {}, {"url": "HTTPS://me@FILES.example/a"}),
    "fetch-other": ("POST", "/shop/fetch", {}, {"url": "https://myfiles.example/a"}),
    "denied": ("POST", "/shop/nothing", {}, {}),
    "buy": ("POST", "/shop/buy", {}, {}),
    "live": ("GET", "/shop/live", _UPGRADE, None),
    "web": ("GET", "/web/get", {}, None),
    "web-r1": ("GET", "/web/get", {"Aegis-Run": "r1"}, None),
    "web-r2": ("GET", "/web/get", {"Aegis-Run": "r2"}, None),
    "mcp": (
        "POST", "/tools/mcp", _LISTEN,
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call",
         "params": {"name": "add", "arguments": {"url": "https://files.example/b"}}},
    ),
    "mcp-list": (
        "POST", "/tools/mcp", _LISTEN, {"jsonrpc": "2.0", "id": 1, "method": "tools/list"},
    ),
    "authorize": ("POST", "/v1/authorize", {}, _asks("run")),
    "authorize-pay": ("POST", "/v1/authorize", {}, _asks("pay")),
}  # fmt: skip


def ask(process: Process, word: str, agent: str = "coder") -> str:
    """ "" where the call went ahead, else the code it met."""
    method, path, headers, body = REQUESTS[word.partition("#")[0]]
    token = {"Aegis-Token": TOKENS[agent]}
    if word.startswith("authorize"):
        body = {**body, "agent": {**body["agent"], "id": agent}}
        if "#" in word:
            body["request_id"] = word.partition("#")[2]
    status, said = _sent(process.data_port, method, path, {**token, **headers}, body)
    return "" if status == 101 else _code(status, said)


def _code(status: int, body: bytes) -> str:
    if status == 200 and body == b"ok":
        return ""
    said = json.loads(body)
    if "jsonrpc" in said:
        if "error" not in said and not said["result"].get("isError"):
            return ""
        return next(code for code in CODES if code in body.decode())
    if "decision" in said:
        if said["decision"] == "allow":
            return ""
        text = json.dumps(said)
        if said["decision"] == "require_approval":
            return "approval_pending"
        if "is blocked (containment" in text:
            return "contained"
        return next((code for code in CODES if code in text), text)
    return str(said.get("code", said))


#: Codes that these tests meet.
CODES = ("agent_frozen", "agent_quarantined", "approval_pending", "contained")


def manage(
    process: Process, method: str, path: str, body: Any = None, key: str = ANA_KEY
) -> tuple[int, Any]:
    """One request to the control API."""
    headers = {"Authorization": f"Bearer {key}"}
    status, said = _sent(process.control_port, method, path, headers, body)
    return status, json.loads(said)


def contain(process: Process, action: str, subject: str, **more: Any) -> dict[str, Any]:
    """Contains it by the control API."""
    body = {"action": action, "subject": subject, "reason": "operators only", **more}
    status, said = manage(process, "POST", "/v1/containments", body)
    assert status == 200, said
    found: dict[str, Any] = said
    return found


def undo(process: Process, contained: dict[str, Any]) -> dict[str, Any]:
    """Undoes it by the control API."""
    path = f"/v1/containments/{contained['containment_id']}/undo"
    status, said = manage(process, "POST", path, {})
    assert status == 200, said
    found: dict[str, Any] = said
    return found


@dataclass
class Stage:
    """`one` and `two` are the same where a store has one process."""

    one: Process
    two: Process

    @property
    def each(self) -> list[Process]:
        return [self.one] if self.one is self.two else [self.one, self.two]

    def said(self, word: str, agent: str = "coder") -> set[str]:
        """What each sidecar answers."""
        return {ask(process, word, agent) for process in self.each}

    def receipts(self, contained: dict[str, Any], undone: dict[str, Any]) -> list[dict[str, Any]]:
        """Receipts between the begin and the end of a containment."""
        status, found = manage(self.one, "GET", "/v1/decisions?limit=200")
        assert status == 200, found
        begun, ended = contained["seq"], undone["seq"]
        return [one for one in found if begun < one["seq"] < ended]

    @contextmanager
    def asking(self, word: str, agent: str) -> Any:
        """Both are asked all the time meanwhile; gives what each answered, in order."""
        answers: dict[int, list[str]] = {at: [] for at in range(len(self.each))}
        is_over = threading.Event()

        def keeps_asking(at: int, process: Process) -> None:
            cut_off = 0
            while not is_over.is_set():
                try:
                    answers[at].append(ask(process, word, agent))
                except (http.client.HTTPException, ConnectionError):
                    # The answer that was on its way when its agent was contained, and no other.
                    cut_off += 1
                    if cut_off > 1:
                        raise
                time.sleep(0.03)

        threads = [
            threading.Thread(target=keeps_asking, args=(at, process))
            for at, process in enumerate(self.each)
        ]
        for thread in threads:
            thread.start()
        try:
            yield answers
        finally:
            is_over.set()
            for thread in threads:
                thread.join()


def until(is_so: Callable[[], bool], wait_s: float = 1.0) -> float:
    """Seconds until something is so; fails after `wait_s`."""
    began = time.monotonic()
    while not is_so():
        took = time.monotonic() - began
        assert took < wait_s, f"not within {wait_s} s"
        time.sleep(0.02)
    return time.monotonic() - began
