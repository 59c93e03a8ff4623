"""A sidecar with every detection that ships, an agent for each that does what it looks for, and one
that does nearly that; a day of history before it, so that there is something usual.

An agent is called after the detection and what it does: `deny-storm-yes`, `deny-storm-no`.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from running import ROOT, Process
from tool_server import QuietTools

import storage
from sidecar.ledger.chain import seal
from sidecar.ledger.receipt import blank_receipt
from sidecar.soc.watch_lease import WATCHER, first_mark
from storage.records import Entry

SHIPPED = sorted(
    path.stem for path in (ROOT / "policies" / "soc").glob("*.yaml") if "_test" not in path.stem
)
#: Of these nobody in particular is the cause.
OF_THE_TENANT = ("store-refusing", "chain-break")
HISTORY_HOURS = 26
CATALOGUES = {
    "shop.yaml": (
        "catalogue: shop\ntools:\n"
        "  get: {route: GET /get, mutates: false}\n"
        "  few: {route: GET /few, mutates: false}\n"
        "  page: {route: GET /page, mutates: false, returns: untrusted_external}\n"
        "  private: {route: GET /private, mutates: false, labels: reads-private}\n"
        "  never: {route: POST /never, mutates: false}\n"
        "  ask: {route: POST /ask}\n"
        "  change: {route: POST /change}\n"
        "  send: {route: POST /send, labels: sends-external}\n"
        "  twice: {route: POST /twice}\n"
        '  "*": {returns: trusted_internal_signed}\n'
    ),
    "mcp.yaml": "catalogue: tools\ntools: {add: {mutates: false}, count: {mutates: false}}\n",
}
POLICY = """\
policy: noticed
rules:
  - {id: goes, effect: allow, tools: [shop/get, shop/page, shop/private, shop/send, tools/*]}
  - {id: few, effect: allow, tools: shop/few, limits: {per: agent, max: 1, window: 1h}}
  - {id: never, effect: deny, tools: [shop/never, shop/change]}
  - {id: asks, effect: require_approval, tools: shop/ask}
  - {id: twice, effect: allow, tools: shop/twice, when: args.ok == true}
"""
CREDENTIAL = "AKIA" + "Q7" * 8
MCP = {"Accept": "application/json, text/event-stream"}


class Tools(QuietTools):
    """Answers REST, and JSON-RPC with tools of which one may change."""

    said_of_add = "Adds."

    def do_GET(self) -> None:
        self.say_ok()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self.path.startswith("/mcp"):
            self.say_ok()
            return
        asked = json.loads(body)
        result: dict[str, Any] = {"content": [{"type": "text", "text": "3"}]}
        if asked["method"] == "tools/list":
            described = {"add": type(self).said_of_add, "count": "Counts."}
            result = {
                "tools": [
                    {"name": name, "description": said, "inputSchema": {"type": "object"}}
                    for name, said in described.items()
                ]
            }
        said = json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)


class Alert(NamedTuple):
    """An alert as the store has it."""

    detection: str
    severity: str
    subject: tuple[str, ...]
    agent: str
    hits: int
    evidence: list[dict[str, Any]]
    first_us: int


class Stage:
    """The sidecar, and what is done through it."""

    def __init__(self, folder: Path, tools: str) -> None:
        agents = [f"{name}-{word}" for name in SHIPPED for word in ("yes", "no")]
        self.tokens = {name: f"token-of-{name}-Zc3N4b2Zt" for name in agents}
        written = ", ".join(
            f"{name}: {{token: {{env: {self._variable(name)}}}}}" for name in agents
        )
        secrets = {self._variable(name): token for name, token in self.tokens.items()}
        self.process = Process(folder, environment=secrets)
        self.process.write(
            f"  shop: {{url: '{tools}'}}\n  tools: {{url: '{tools}/mcp', kind: mcp}}\n",
            {**CATALOGUES, "policy.yaml": POLICY},
            f"tenants: {{acme: {{agents: {{{written}}}}}}}\n"
            "approvals: {hold: 0s}\nlimits: {queue_wait: 1s}\nsoc: {level: log}\n",
        )
        config = self.process.config
        config.write_text(
            config.read_text().replace("policies: ./policies", "policies: [./policies, pack:soc]")
        )

    @staticmethod
    def _variable(name: str) -> str:
        return f"TOKEN_{name.upper().replace('-', '_')}"

    @property
    def path(self) -> Path:
        return self.process.folder / "aegis.db"

    def live_through(self, agents: tuple[str, ...]) -> None:
        """A day of a few calls an hour, which detections have yet to look at."""
        asyncio.run(self._live_through(agents))

    async def _live_through(self, agents: tuple[str, ...]) -> None:
        now_us = time.time_ns() // 1_000
        store = await storage.open_store(f"sqlite:///{self.path}", now_us=lambda: now_us)
        hour_us = 3_600_000_000
        this_hour_us = now_us // hour_us * hour_us
        try:
            entries = []
            for hour in range(HISTORY_HOURS, 0, -1):
                for call in range(2 + hour % 2):
                    for agent in agents:
                        at_us = this_hour_us - hour * hour_us + call * 60_000_000
                        name = f"{agent}-{hour}-{call}"
                        row = blank_receipt(
                            "acme", "refusal", event_id=name, call_id=name, ts_us=at_us,
                            agent_id=agent, outcome="policy_deny", http_status=403,
                        )  # fmt: skip
                        row = row._replace(
                            decision="deny", mode="enforce", upstream="shop", tool="shop/get"
                        )
                        entries.append(Entry(row))
            await store.record(entries, seal)
            mark = first_mark("acme", WATCHER, store.node_id, 0, now_us)
            assert await store.put_rows("acme", [mark])
        finally:
            await store.close()

    # -- calling -------------------------------------------------------------------------------

    def get(self, agent: str, path: str) -> str:
        """ "" of a call that went ahead, else the code it met."""
        return self._send("GET", f"/shop/{path}", agent, {}, None)

    def post(self, agent: str, path: str, body: Any) -> str:
        return self._send("POST", f"/shop/{path}", agent, {}, body)

    def rpc(self, agent: str, method: str, headers: dict[str, str], **params: Any) -> str:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return self._send("POST", "/tools/mcp", agent, MCP | headers, body)

    def _send(self, method: str, path: str, agent: str, more: dict[str, str], body: Any) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.process.data_port, timeout=30)
        headers = {"Aegis-Token": self.tokens[agent], **more}
        data = None
        if body is not None:
            headers["Content-Type"], data = "application/json", json.dumps(body)
        try:
            connection.request(method, path, data, headers)
            reply = connection.getresponse()
            said = reply.read()
            return "" if reply.status == 200 else str(json.loads(said).get("code", reply.status))
        finally:
            connection.close()

    # -- the store, from outside ---------------------------------------------------------------

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Somebody else writes to the file meanwhile, so that the sidecar cannot."""
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            try:
                yield
            finally:
                other.execute("ROLLBACK")

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            return other.execute(sql, parameters).fetchall()

    def alerts(self, detection: str) -> list[Alert]:
        found = self.rows(
            "SELECT detection, severity, subject, agent_id, hits, evidence, first_us FROM alert "
            "WHERE detection = ?", detection,
        )  # fmt: skip
        return [
            Alert(name, severity, tuple(json.loads(subject)), agent, hits,
                  json.loads(evidence)["raised"], first_us)
            for name, severity, subject, agent, hits, evidence, first_us in found
        ]  # fmt: skip

    def catch_up(self, wait_s: float = 30.0) -> None:
        """Returns once all that was recorded is looked at."""
        until = time.monotonic() + wait_s
        while True:
            ((left,),) = self.rows(
                "SELECT count(*) FROM receipts r, watch_mark m WHERE m.watcher = ? "
                "AND r.tenant_id = m.tenant_id AND r.seq > m.seq AND r.kind <> 'control'", WATCHER,
            )  # fmt: skip
            if not left:
                return
            assert time.monotonic() < until, f"{left} receipts are not looked at"
            time.sleep(0.1)
