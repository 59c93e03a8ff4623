"""A whole sidecar in this process, between a client and a scripted upstream, with its store."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import sqlite3
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import ClientSession
from free_ports import free_port
from kept_figures import keep_figures
from proxy_wire_setup import Conversation, raw_upstream

from sidecar.app import Sidecar, running
from sidecar.config.load import load_config


@dataclass
class Answer:
    """A reply as it came: `is_whole` says that its framing ended as it announced."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_whole: bool

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Whole:
    """A running sidecar; `received` is what reached the upstream, connection by connection."""

    sidecar: Sidecar
    received: list[bytearray]
    folder: Path
    log: io.StringIO
    port: int = field(init=False)

    def __post_init__(self) -> None:
        self.port = int(self.sidecar.data_url.rpartition(":")[2])

    @property
    def arrived(self) -> bytes:
        """Everything that reached the upstream."""
        return b"".join(bytes(one) for one in self.received)

    async def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request on a connection of its own; what is no bytes is sent as JSON."""
        sent = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        if body is not None:
            sent["Content-Length"] = str(len(body))
        lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in sent.items()]
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b""))
        raw = bytearray()
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65536):
                raw += piece
        writer.close()
        return read_answer(bytes(raw))

    async def metric(self, name: str) -> dict[str, float]:
        """The samples of a metric that are not 0, by their labels as they are written."""
        url = f"{self.sidecar.control_url}/metrics"
        async with ClientSession() as session, session.get(url) as reply:
            lines = (await reply.text()).splitlines()
        own = (line for line in lines if line.startswith((f"{name}{{", f"{name} ")))
        samples = (line.removeprefix(name).rsplit(" ", 1) for line in own)
        return {labels: float(value) for labels, value in samples if float(value)}

    async def tool(self, name: str, arguments: Mapping[str, Any] | None = None) -> Answer:
        """A `tools/call` to the MCP upstream."""
        params = {"name": name, "arguments": dict(arguments or {})}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        accepts = {"Accept": "application/json, text/event-stream"}
        return await self.ask("POST", "/mcp", message, accepts)


def read_answer(raw: bytes) -> Answer:
    """Reads a reply strictly, so that a body that broke off is seen."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    status = int(first.split()[1]) if first else 0
    if headers.get("transfer-encoding") == "chunked":
        body, is_whole = _chunks(rest)
    else:
        body, is_whole = rest, len(rest) == int(headers.get("content-length", len(rest)))
    return Answer(status, headers, body, is_whole and bool(first))


def _chunks(rest: bytes) -> tuple[bytes, bool]:
    body = b""
    while rest:
        size, found, rest = rest.partition(b"\r\n")
        if not found:
            break
        length = int(size, 16)
        if length == 0:
            return body, rest == b"\r\n"
        body += rest[:length]
        rest = rest[length + 2 :]
    return body, False


@contextlib.asynccontextmanager
async def whole(
    folder: Path,
    talk: Conversation,
    policies: Mapping[str, str],
    more: str = "",
    api: str = "",
    mcp: str = "",
    tls: str = "",
    endpoint: str = "/rpc",
    base: str = "",
) -> AsyncIterator[Whole]:
    """A sidecar with the upstreams `api` (rest) and `mcp` (mcp), both answered by `talk`. `api` is
    what else the configuration says of the first, e.g. `, run: trusted`, `mcp` of the second,
    whose path is `endpoint`; `tls` what the data listener speaks TLS with, `base` the path of the
    first."""
    (folder / "policies").mkdir(exist_ok=True)
    for name, text in policies.items():
        (folder / "policies" / name).write_text(text)
    async with raw_upstream(talk) as upstream:
        url = f"http://127.0.0.1:{upstream.port}"
        (folder / "sidecar.yaml").write_text(
            f"listen: {{data: {_data(tls)}, control: '127.0.0.1:{free_port()}'}}\n"
            f"store: sqlite:///{folder}/aegis.db\n"
            f"policies: {folder}/policies\n"
            f"upstreams:\n  api: {{url: '{url}{base}'{api}}}\n"
            f"  mcp: {{url: '{url}{endpoint}', kind: mcp{mcp}}}\n{more}"
        )
        loaded = load_config(folder / "sidecar.yaml", {}, [])
        assert loaded.config is not None, loaded.problems
        log = io.StringIO()
        keep_figures(folder)
        async with running(loaded.config, log=log) as sidecar:
            yield Whole(sidecar, upstream.received, folder, log)


def _data(tls: str) -> str:
    address = f"'127.0.0.1:{free_port()}'"
    return f"{{address: {address}, tls: {tls}}}" if tls else address


def receipts(folder: Path) -> list[dict[str, Any]]:
    """The receipts of a stopped sidecar, each with its facts; without those that say that it began
    and ended, which have tests of their own."""
    with contextlib.closing(sqlite3.connect(folder / "aegis.db")) as store:
        store.row_factory = sqlite3.Row
        found = store.execute(
            "SELECT r.*, f.facts, f.arguments FROM receipts r LEFT JOIN call_facts f "
            "ON f.tenant_id = r.tenant_id AND f.seq = r.seq "
            "WHERE r.action IS NULL OR r.action NOT LIKE 'sidecar.%' ORDER BY r.seq"
        ).fetchall()
    return [{**dict(row), "facts": json.loads(row["facts"] or "{}")} for row in found]
