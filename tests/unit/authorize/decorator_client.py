"""A client that guards functions the way the clients do that this API is compatible with.

Written from SEED_CONTRACT.md section 2.3: it hashes the bound call itself, as mutating; asks; runs
on allow; refuses on deny; masks named keyword arguments on redact; on require_approval compares the
hash, polls, consumes and compares once more. It sends no request id, nonce or time.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from aiohttp import ClientSession

POLL_BEGINS_S = 0.02
POLL_CAP_S = 0.2
DEADLINE_S = 10.0

Body = Callable[..., Any]


class DecoratorClient:
    """One agent's; `endpoint` is the one base URL there is."""

    def __init__(self, session: ClientSession, endpoint: str, api_key: str, agent_id: str) -> None:
        self.session = session
        self.endpoint = endpoint
        self.api_key = api_key
        self.agent_id = agent_id
        self.trust = "unknown"
        #: Called between the answer `require_approval` and the first poll.
        self.on_waiting: Callable[[str], Awaitable[None]] | None = None
        self.seen: list[dict[str, Any]] = []

    async def post(self, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.api_key}"}
        if path == "/v1/authorize":
            headers["X-Aegis-Tenant-ID"] = "tenant_123"
        sent = self.session.post(self.endpoint + path, json=body, headers=headers)
        async with sent as reply:
            return reply.status, await reply.json()

    async def get(self, path: str) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.api_key}"}
        async with self.session.get(self.endpoint + path, headers=headers) as reply:
            return reply.status, await reply.json()

    def protect(self, tool: str, action: str, resource: str | None = None) -> Callable[[Body], Any]:
        """The decorator."""

        def decorated(body: Body) -> Callable[..., Awaitable[Any]]:
            async def guarded(**kwargs: Any) -> Any:
                return await self._guarded(tool, action, resource, body, kwargs)

            return guarded

        return decorated

    async def _guarded(
        self, tool: str, action: str, resource: str | None, body: Body, kwargs: dict[str, Any]
    ) -> Any:
        call = {
            "tool": tool, "action": action, "resource": resource, "mutates_state": True,
            "parameters": dict(kwargs),
        }  # fmt: skip
        status, said = await self.post(
            "/v1/authorize",
            {
                "agent": {"id": self.agent_id, "environment": "production"},
                "tool_call": call,
                "context": {"source_trust": self.trust, "contains_sensitive_data": False},
                "trace": {"run_id": "run_default", "trace_id": "trace_default"},
            },
        )
        if status != 200:
            raise PermissionError(f"not answered: {status} {said}")
        self.seen.append(said)
        decision = said["decision"]
        if decision == "allow":
            return body(**kwargs)
        if decision == "redact":
            masked = {name: "[REDACTED]" for name in said["redacted_fields"] if name in kwargs}
            return body(**{**kwargs, **masked})
        if decision == "require_approval":
            return await self._approved(said["approval"], hash_of(call), body, kwargs)
        raise PermissionError(said["reason"])

    async def _approved(
        self, approval: dict[str, Any], local_hash: str, body: Body, kwargs: dict[str, Any]
    ) -> Any:
        if approval["action_hash"] != local_hash:
            raise PermissionError("the approval is for another action")
        expires = datetime.fromisoformat(approval["expires_at"])
        if expires <= datetime.now(UTC):
            raise PermissionError("the approval has expired")
        approval_id = approval["approval_id"]
        if self.on_waiting is not None:
            await self.on_waiting(approval_id)
        await self._poll(approval_id, local_hash)
        status, said = await self.post(f"/v1/approvals/{approval_id}/consume")
        if status != 200 or said["action_hash"] != local_hash:
            raise PermissionError(f"not consumed: {status} {said}")
        return body(**kwargs)

    async def _poll(self, approval_id: str, local_hash: str) -> None:
        pause_s = POLL_BEGINS_S
        async with asyncio.timeout(DEADLINE_S):
            while True:
                status, said = await self.get(f"/v1/approvals/{approval_id}")
                standing = said.get("status") if status == 200 else None
                if standing == "APPROVED":
                    if said["action_hash"] != local_hash:
                        raise PermissionError("the approval is for another action")
                    return
                if standing in ("REJECTED", "EXPIRED"):
                    raise PermissionError(f"the approval is {standing}")
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 1.5, POLL_CAP_S)


def hash_of(call: dict[str, Any]) -> str:
    """The hash as such clients compute it."""
    text = json.dumps(
        call, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return sha256(text.encode()).hexdigest()
