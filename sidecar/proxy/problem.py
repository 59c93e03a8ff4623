"""A refusal as problem details (RFC 9457), for whoever is refused before a dialect is known.

Knows: the members of the document and the headers around it.
Must not know: sockets, dialects. `Refused.detail` never comes out here.
"""

from __future__ import annotations

from typing import Any

import orjson

from sidecar.errors import Refused
from sidecar.proxy.headers import CALL_ID_HEADER


def problem_reply(refused: Refused, call_id: str) -> tuple[int, list[tuple[str, str]], bytes]:
    """Status, headers and body; `code` is stable, `detail` is for people."""
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": refused.kind.title,
        "status": refused.status,
        "detail": refused.reason,
        "code": refused.code,
        "call_id": call_id,
        "next_step": refused.kind.next_step,
    }
    if refused.decision is not None and refused.decision.rule_id is not None:
        document["rule"] = refused.decision.rule_id
    headers = [
        ("Content-Type", "application/problem+json"),
        (CALL_ID_HEADER, call_id),
        ("Cache-Control", "no-store"),
    ]
    if refused.retry_after_s is not None:
        headers.append(("Retry-After", str(refused.retry_after_s)))
    if refused.status == 405:
        headers.append(("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"))
    return refused.status, headers, orjson.dumps(document)
