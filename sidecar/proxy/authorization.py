"""Leads an agent that must log in at an MCP server to that server's metadata, through the sidecar.

Knows: that a challenge names a place the agent should look at, that the place lies at the root of
the upstream's origin, outside its base URL, and that clients try several. Nothing is kept of an
answer: a login is rare. Where an upstream's last challenge led is kept, one path for each, and when
it was: clients look without the agent's credential for the sidecar, and for a while after a caller
was challenged anybody may, since the request is ours and tells nothing of whoever asks.
Must not know: what metadata looks like (protected_resource), policies, the ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from sidecar.config.model import Upstream
from sidecar.errors import Refused
from sidecar.proxy.agent_side import AgentSide, ClientGone
from sidecar.proxy.dialects.mcp_authorization import (
    LOOKUP_HEADERS,
    asks_for_metadata,
    resource_of,
)
from sidecar.proxy.endings import NOT_FORWARDED
from sidecar.proxy.head import RequestHead
from sidecar.proxy.headers import reply_headers
from sidecar.proxy.protected_resource import (
    WELL_KNOWN_PATH,
    is_at,
    mapped_challenge,
    mapped_metadata,
    origin_of,
    path_at,
    places_of,
)
from sidecar.proxy.upstream import Reply, UpstreamLeg

if TYPE_CHECKING:
    from sidecar.telemetry.counters import Counters

_log = logging.getLogger("aegis.authorization")

METADATA_BYTES_MAX = 64 * 1024
#: Statuses of answers that may carry a challenge with metadata.
CHALLENGES = frozenset({401, 403})
#: How long after a challenge somebody without a credential may look, and how many at once.
OPEN_S = 600.0
OPEN_LOOKUPS_MAX = 8
_NOT_HERE = Reply(404, ())


class Authorization:
    """Owns the path of each upstream's last challenge, and what it has warned of."""

    def __init__(self, leg: UpstreamLeg, counters: Counters) -> None:
        self._leg = leg
        self._counters = counters
        self._challenged: dict[str, str] = {}
        self._open_until_s: dict[str, float] = {}
        self._open_lookups = 0
        self._warned: set[str] = set()
        self._warned_of_none: set[str] = set()
        self._origins: dict[str, Upstream] = {}

    def challenges(
        self, headers: list[tuple[str, str]], upstream: Upstream, head: RequestHead
    ) -> list[tuple[str, str]]:
        """The headers of a refusal of the upstream's, its metadata where the agent can find it.

        Where the sidecar holds the credential there is nothing to log in to: they stay.
        """
        if upstream.kind != "mcp" or upstream.auth is not None:
            return headers
        self._open_until_s[upstream.name] = asyncio.get_running_loop().time() + OPEN_S
        return [
            (name, self._mapped(value, upstream, head))
            if name.lower() == "www-authenticate"
            else (name, value)
            for name, value in headers
        ]

    def _mapped(self, value: str, upstream: Upstream, head: RequestHead) -> str:
        url = f"{head.origin}{WELL_KNOWN_PATH}{head.mount}{head.target}"
        changed, before = mapped_challenge(value, url)
        path = path_at(before, upstream.url) if before is not None else None
        if path is not None:
            self._challenged[upstream.name] = path
        return changed

    async def answers(self, exchange: AgentSide, upstream: Upstream, call_id: str) -> bool:
        """Whether this was answered though nobody knows who asks: a look at what an agent must
        know to log in. It is no call of anybody's, so it is counted and stands in no receipt.
        Raises Refused as `metadata` does."""
        head = exchange.head
        if not self._is_open(upstream, head):
            return False
        self._counters.open_lookups += 1
        reply = await self._looked_up(upstream, head)
        headers = reply_headers(reply, upstream, head, call_id)
        with contextlib.suppress(ClientGone):
            await exchange.send(reply.status, headers, reply.first)
        return True

    def _is_open(self, upstream: Upstream, head: RequestHead) -> bool:
        """Whether this is a look at metadata that needs no caller."""
        if not asks_for_metadata(head) or "aegis-token" in head.first or upstream.kind != "mcp":
            return False
        until_s = self._open_until_s.get(upstream.name, 0.0)
        return asyncio.get_running_loop().time() < until_s

    async def _looked_up(self, upstream: Upstream, head: RequestHead) -> Reply:
        """What a look without a caller finds; raises Refused as `metadata` does."""
        resource = resource_of(head, upstream)
        if self._open_lookups >= OPEN_LOOKUPS_MAX:
            raise Refused("upstream_busy", retry_after_s=1)
        self._open_lookups += 1
        try:
            return await self.metadata(upstream, resource)
        finally:
            self._open_lookups -= 1

    async def metadata(self, upstream: Upstream, resource: str) -> Reply:
        """The upstream's metadata, for an agent that calls it by the URL `resource`.

        Raises Refused as a leg does, and metadata_unusable.
        """
        origin = self._origins.get(upstream.name)
        if origin is None:
            # A pool of its own: the upstream's has its base URL in front of every target.
            changes = {
                "name": f"{upstream.name}{WELL_KNOWN_PATH}",
                "url": origin_of(upstream.url),
                "query": (),
            }
            origin = self._origins[upstream.name] = upstream.model_copy(update=changes)
        places = [self._challenged.get(upstream.name, ""), *places_of(upstream.url)]
        was_asked = False
        for place in dict.fromkeys(filter(None, places)):
            try:
                reply = await self._leg.send(origin, "GET", place, LOOKUP_HEADERS, b"")
            except Refused as refused:
                if was_asked and refused.code in NOT_FORWARDED:
                    raise Refused("upstream_broken", detail=refused.code) from refused
                raise
            was_asked = True
            try:
                if reply.status != 200:
                    continue
                body = await _whole(reply)
            finally:
                reply.close()
            made, servers = mapped_metadata(body, upstream.url, resource)
            self._warn(upstream, servers)
            return Reply(200, (("Content-Type", "application/json"),), made)
        self._warn_of_none(upstream)
        return _NOT_HERE

    def _warn_of_none(self, upstream: Upstream) -> None:
        """What the agent cannot know: where its client looks next is the sidecar itself."""
        if upstream.name in self._open_until_s and upstream.name not in self._warned_of_none:
            self._warned_of_none.add(upstream.name)
            _log.warning(
                "an MCP server wants a login and has no metadata (RFC 9728) that says where: no "
                "agent can log in through the sidecar",
                extra={
                    "upstream": upstream.name,
                    "next_step": f"Give it a credential: upstreams.{upstream.name}.auth.",
                },
            )

    def _warn(self, upstream: Upstream, servers: list[str]) -> None:
        """What nobody else will say: the agent is sent where it may not get."""
        is_reached = not upstream.private or not is_at(servers, upstream.url)
        if not is_reached and upstream.name not in self._warned:
            self._warned.add(upstream.name)
            _log.warning(
                "the authorization server is the upstream itself, at a private address: agents "
                "log in there directly or not at all",
                extra={"upstream": upstream.name},
            )


async def _whole(reply: Reply) -> bytes:
    """The body; raises Refused("metadata_unusable") for one that is too large."""
    pieces: list[bytes] = []
    size = 0
    async for chunk in reply.chunks:
        size += len(chunk)
        if size > METADATA_BYTES_MAX:
            raise Refused("metadata_unusable", detail="it is too large")
        pieces.append(chunk)
    return b"".join(pieces)
