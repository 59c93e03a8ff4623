"""A whole sidecar whose rules ask, people who decide, and an upstream that answers everything."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from proxy_whole_setup import Answer, Whole, whole
from proxy_wire_setup import Conversation

from sidecar.model import Person, Role
from storage.standing import ApprovalRow

TENANT = "default"
CATALOGUES = {
    "api.yaml": "catalogue: api\ntools:\n"
    "  refund: {route: 'POST /refund/{order}', bind_headers: [idempotency-key]}\n"
    "  pay: POST /pay\n  look: GET /look\n",
    "mcp.yaml": "catalogue: mcp\ntools: {send: {}, drop: {}, look: {mutates: false}}\n",
}
POLICY = """policy: p
rules:
  - {id: all, effect: allow, tools: [api/*, mcp/*]}
  - id: asks
    effect: require_approval
    tools: [api/refund, api/pay, mcp/send, mcp/drop]
    reason: "{tool.name} needs somebody"
"""
POLICIES = {**CATALOGUES, "p.yaml": POLICY}


def person(name: str, *groups: str, tenant: str = TENANT, agent: str | None = None) -> Person:
    """An approver."""
    return Person(
        tenant, name, f"person:{name}", frozenset({Role.APPROVER}), frozenset(groups), agent
    )


ANA, BO = person("ana"), person("bo")


def saying(body: bytes, kind: bytes = b"application/json") -> Conversation:
    """Answers every request with this, whatever it is."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = 0
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            await reader.readexactly(length)
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b"
                % (kind, len(body), body)
            )
            await writer.drain()

    return talk


DONE = saying(b'{"jsonrpc": "2.0", "id": 1, "result": {"content": []}}')


@contextlib.asynccontextmanager
async def asking(
    folder: Path,
    more: str = "approvals: {hold: 5s}\n",
    policy: str = POLICY,
    talk: Conversation = DONE,
) -> AsyncIterator[Whole]:
    """A sidecar under these rules."""
    async with whole(folder, talk, {**POLICIES, "p.yaml": policy}, more) as one:
        yield one


async def open_ones(one: Whole) -> list[ApprovalRow]:
    return (await one.sidecar.approvals.deciding.waiting_ones(TENANT, "", 1000))[0]


async def soon(found: Callable[[], Awaitable[Any]], within_s: float = 5.0) -> Any:
    """What is found as soon as it is."""
    async with asyncio.timeout(within_s):
        while not (seen := await found()):
            await asyncio.sleep(0.01)
    return seen


async def pending(one: Whole) -> ApprovalRow:
    """The one that waits, as soon as it does."""

    async def look() -> list[ApprovalRow]:
        return [row for row in await open_ones(one) if row.state == "pending"]

    row: ApprovalRow = (await soon(look))[0]
    return row


async def refund(
    one: Whole, cents: int = 5, order: str = "7", headers: dict[str, str] | None = None
) -> Answer:
    return await one.ask("POST", f"/api/refund/{order}", {"cents": cents}, headers)


def sent(one: Whole) -> int:
    """How many requests reached the upstream."""
    return one.arrived.count(b" HTTP/1.1\r\n")
