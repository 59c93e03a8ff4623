"""The demo's story: what an agent does through the sidecar, told in a newcomer's words.

Knows: the base URLs, and what each answer proves. It speaks plain HTTP, as any agent would.
Must not know: the sidecar's insides; it only meets what an agent and an auditor meet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

Say = Callable[[str], None]


@dataclass(slots=True)
class Story:
    """Plays the calls; `failures` lists what did not go as told."""

    data_url: str
    say: Say
    seen: Sequence[str]
    failures: list[str] = field(default_factory=list)

    async def play(self) -> None:
        """All calls of the demo, in order."""
        async with aiohttp.ClientSession() as agent:
            await self._allowed(agent)
            await self._refused(agent)
            await self._tool_result(agent)

    def check(self, holds: bool, what: str) -> None:
        """Notes a failure if `holds` is false."""
        if not holds:
            self.failures.append(what)
            self.say(f"   !! not as expected: {what}")

    async def _allowed(self, agent: aiohttp.ClientSession) -> None:
        self.say("1. The agent reads an order: GET /shop/orders/1001")
        async with agent.get(f"{self.data_url}/shop/orders/1001") as reply:
            body = await reply.json()
            call_id = reply.headers.get("Aegis-Call-Id", "")
        self.check(reply.status == 200 and body.get("id") == "1001", "the read is allowed")
        self.say("   allowed by rule demo/reads, recorded, then sent to the shop. The shop says:")
        self.say(f"   {body['customer']}, {body['total_cents']} cents.   (call {call_id})")

    async def _refused(self, agent: aiohttp.ClientSession) -> None:
        before = len(self.seen)
        self.say("2. The agent tries to refund 99900 cents: POST /shop/orders/1002/refund")
        asked = {"amount_cents": 99900}
        async with agent.post(f"{self.data_url}/shop/orders/1002/refund", json=asked) as reply:
            problem = await reply.json(content_type=None)
        self.check(reply.status == 403, "the large refund is refused")
        self.check(len(self.seen) == before, "the shop never saw the refund")
        self.say(f"   refused ({reply.status} {problem.get('code')}): {problem.get('detail')}")
        self.say(f"   next step for the agent: {problem.get('next_step')}")
        self.say("   The shop never saw this request; the refusal is recorded too.")

    async def _tool_result(self, agent: aiohttp.ClientSession) -> None:
        self.say("3. Over MCP the agent reads a note, then tries to delete it")
        read = await self._call_tool(agent, "read_note")
        self.check(read.get("isError") is False, "the note can be read")
        self.say(f'   read_note: "{_text(read)}"')
        before = len(self.seen)
        deleted = await self._call_tool(agent, "delete_note")
        self.check(deleted.get("isError") is True, "the deletion is refused")
        self.check(len(self.seen) == before, "the notebook never saw the deletion")
        self.say(f"   delete_note: {_text(deleted)}")

    async def _call_tool(self, agent: aiohttp.ClientSession, name: str) -> dict[str, Any]:
        message = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": name, "arguments": {"title": "welcome"}},
        }
        headers = {"Accept": "application/json, text/event-stream"}
        async with agent.post(f"{self.data_url}/notes", json=message, headers=headers) as reply:
            answer = await reply.json(content_type=None)
        result: dict[str, Any] = answer.get("result") or {}
        return result


def _text(result: dict[str, Any]) -> str:
    return " ".join(part.get("text", "") for part in result.get("content", []))


def flip_a_byte(source: Path, target: Path) -> None:
    """A copy of a receipts file in which one recorded decision reads otherwise."""
    data = bytearray(source.read_bytes())
    at = data.index(b'"decision":"deny"') + len(b'"decision":"')
    data[at] ^= 0x01
    target.write_bytes(data)
