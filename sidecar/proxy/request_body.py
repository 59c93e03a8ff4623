"""Takes the body of a call that is not small and here already: one that still arrives, is large, or
came compressed.

Knows: that what arrives is counted as it does, so that many slow ones are too; that a body that
was announced and would not fit is refused before it is read; that of a compressed body only the
plain one is kept.
Must not know: what a body means, how it is framed, what else is held.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.proxy.content_coding import decoded
from sidecar.proxy.head import RequestHead
from sidecar.proxy.held_bodies import HeldBodies, HeldBody

if TYPE_CHECKING:
    from sidecar.proxy.agent_side import AgentSide
    from sidecar.proxy.visit import Visit


async def taken(
    visit: Visit, exchange: AgentSide, arrived: bytes | None, bodies: HeldBodies, wait_s: float
) -> tuple[RequestHead, bytes]:
    """Head and body as they are judged; `arrived` is the body if it is whole already. What is held
    of it stands in `visit`, also where this raises: whoever has the visit lets it go.

    Raises Refused: bodies_full, as `AgentSide.read_body` and `decoded` do; ClientGone.
    """
    upstream, principal = visit.upstream, visit.principal
    if upstream is None or principal is None:
        raise ValueError("nobody's body is not read")
    head, body = exchange.head, arrived
    held = visit.body = HeldBody(bodies, upstream.name, principal.tenant)
    limit_bytes = upstream.limits.request_bytes
    if body is None:
        held.require_room(int(head.first.get("content-length", 0)))
        body = await exchange.read_body(limit_bytes, wait_s, held.becomes)
    held.becomes(len(body))
    if "content-encoding" in head.first:
        head, body = decoded(head, body, limit_bytes)
        held.becomes(len(body))
    return head, body
