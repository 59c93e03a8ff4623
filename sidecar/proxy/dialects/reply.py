"""A refusal in words and as a whole reply: status, headers, body.

Knows: problem details (RFC 9457) and the lines an agent reads: what, which rule, why, what next;
where vendors' own clients look for what they show of an error.
Must not know: sockets, JSON-RPC, how a call is judged. `Refused.detail` never comes out here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from sidecar.errors import Refused
from sidecar.model import ToolCall
from sidecar.proxy.head import RequestHead
from sidecar.proxy.websocket_handshake import VERSION

CALL_ID_HEADER = "Aegis-Call-Id"

_ALLOW_WHEN_405 = "POST, GET, DELETE"


class WholeReply(NamedTuple):
    """A reply that is sent in one piece."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


def problem_reply(
    refused: Refused,
    call_id: str,
    call: ToolCall | None = None,
    head: RequestHead | None = None,
) -> WholeReply:
    """The refusal as application/problem+json with a stable `code`.

    Clients of vendors show `message` of it (Docker, Twilio, AWS, GitHub), or that of `error`
    (OpenAI, Google, Stripe, Microsoft) and nothing else: all that there is to say stands there too.
    """
    facts = refusal_facts(refused, call_id, call)
    words = refusal_text(refused, call_id, call)
    document = {
        "type": "about:blank",
        "title": refused.kind.title,
        "status": refused.status,
        "detail": refused.reason,
        **facts,
        "message": words,
        "error": {"code": refused.code, "message": words},
    }
    return json_reply(refused.status, document, refused, call_id, _problem_type(head))


def _problem_type(head: RequestHead | None) -> str:
    """Plain JSON for whoever takes nothing but a vendor's own: clients of Elasticsearch and GitHub
    throw away what is of a type that they have not heard of, and the reason with it."""
    accepted = "" if head is None else head.first.get("accept", "")
    ranges = [one.partition(";")[0].strip().lower() for one in accepted.split(",")]
    if all(one.startswith("application/vnd.") and one.endswith("+json") for one in ranges):
        return "application/json"
    return "application/problem+json"


def json_reply(
    status: int,
    document: Any,
    refused: Refused,
    call_id: str,
    content_type: str = "application/json",
) -> WholeReply:
    """`document` as a reply about `refused`, with the headers every refusal carries."""
    headers = [
        ("Content-Type", content_type),
        (CALL_ID_HEADER, call_id),
        ("Cache-Control", "no-store"),
    ]
    if refused.retry_after_s is not None:
        headers.append(("Retry-After", str(refused.retry_after_s)))
    if status == 405:
        headers.append(("Allow", _ALLOW_WHEN_405))
    if refused.code == "bad_handshake":  # RFC 6455 section 4.4
        headers.append(("Sec-WebSocket-Version", VERSION))
    return WholeReply(status, headers, orjson.dumps(document))


def refusal_facts(refused: Refused, call_id: str, call: ToolCall | None) -> dict[str, Any]:
    """What a program wants to know of a refusal; `tool` where the call was read, `rule` where a
    rule decided."""
    facts: dict[str, Any] = {"code": refused.code, "call_id": call_id}
    if call is not None:
        facts["tool"] = call.tool.name
    if refused.decision is not None and refused.decision.rule_id is not None:
        facts["rule"] = refused.decision.rule_id
    facts.update(refused.more)
    facts["next_step"] = refused.kind.next_step
    return facts


def refusal_text(
    refused: Refused, call_id: str, call: ToolCall | None, called: str | None = None
) -> str:
    """The refusal as lines for a reader, a model or a person; `called` is a tool's own name."""
    facts = refusal_facts(refused, call_id, call)
    lines = [f"{refused.kind.title} ({refused.code})."]
    if call is not None and not call.tool.declared and called is not None:
        lines.append(f"Tool: {call.tool.upstream}/{called}, which the catalogue does not declare")
    elif call is not None:
        lines.append(f"Tool: {call.tool.name}")
    if "rule" in facts:
        lines.append(f"Rule: {facts['rule']}")
    if refused.reason != refused.kind.title:
        lines.append(f"Reason: {refused.reason}")
    for name, said in refused.more.items():
        lines.append(f"{name.replace('_', ' ').capitalize()}: {said}")
    lines.append(f"Next step: {facts['next_step']}")
    if refused.retry_after_s is not None:
        lines.append(f"Retry after: {refused.retry_after_s} s")
    lines.append(f"Call id: {call_id}")
    return "\n".join(lines)
