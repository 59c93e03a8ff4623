"""A held call goes ahead as what a person said yes to, and is taken back by who made it alone."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from proxy_approvals_setup import ANA, POLICY, TENANT, asking, pending, sent
from proxy_whole_setup import receipts
from proxy_wire_setup import Conversation
from test_proxy_approvals import approved, given_to_agent

MASKING = POLICY + (
    "  - id: masks\n    tools: api/refund\n    obligations: {redact: {request: [args.card]}}\n"
)


async def test_e1_a_yes_for_a_masked_request_is_not_spent_by_an_unmasked_one(
    tmp_path: Path,
) -> None:
    async with asking(tmp_path, policy=MASKING) as one:
        body = {"cents": 5, "card": "4111-SECRET"}
        call = asyncio.create_task(one.ask("POST", "/api/refund/7", body))
        row = await pending(one)
        (one.folder / "policies" / "p.yaml").write_text(POLICY)  # nothing is masked any more
        one.sidecar.reload_soon()
        await asyncio.sleep(0.5)
        await one.sidecar.approvals.deciding.approve(TENANT, row.approval_id, ANA)
        await asyncio.sleep(1.0)
        state = (await one.sidecar.approvals.deciding.show(TENANT, row.approval_id)).state
        assert b"4111-SECRET" not in one.arrived, "sent in clear by a yes for the masked request"
        assert state == "approved", "the yes is not burnt"
        fresh = await pending(one)
        assert fresh.action_sha256 != row.action_sha256, "the action as it is now asks anew"
        await one.sidecar.approvals.deciding.reject(TENANT, fresh.approval_id, ANA)
        assert (await call).status == 403 and sent(one) == 0


async def test_a_call_is_taken_back_in_its_own_session_alone(tmp_path: Path) -> None:
    accepts = {"Accept": "application/json, text/event-stream", "Aegis-Run": "r1"}
    message = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "send", "arguments": {}},
    }
    async with asking(tmp_path) as one:
        in_session = {**accepts, "Mcp-Session-Id": given_to_agent(tmp_path, "s1")}
        call = asyncio.create_task(one.ask("POST", "/mcp", message, in_session))
        row = await pending(one)
        await asyncio.sleep(0.1)
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
        other = given_to_agent(tmp_path, "s2")
        await one.ask("POST", "/mcp", cancel, {**accepts, "Mcp-Session-Id": other})
        await one.sidecar.approvals.deciding.approve(TENANT, row.approval_id, ANA)
        await call
        assert sent(one) == 2, "the other session's call was taken back"


@pytest.mark.parametrize("meta", [{}, {"_meta": {"progressToken": "t"}}], ids=["plain", "progress"])
async def test_the_request_of_a_call_that_is_taken_back_is_answered(
    tmp_path: Path, meta: dict[str, Any]
) -> None:
    """Whose client reads on: the SDK for Python gives up the session where a stream breaks off."""
    accepts = {"Accept": "application/json, text/event-stream"}
    message = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "send", "arguments": {}, **meta},
    }
    async with asking(tmp_path, "approvals: {hold: 30s}\n") as one:
        in_session = {**accepts, "Mcp-Session-Id": given_to_agent(tmp_path, "s1")}
        call = asyncio.create_task(one.ask("POST", "/mcp", message, in_session))
        await pending(one)
        await asyncio.sleep(0.1)
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
        await one.ask("POST", "/mcp", cancel, in_session)
        async with asyncio.timeout(10):
            answer = await call
    assert answer.is_whole and answer.status == 200 and b"approval_pending" in answer.body
    refused = [row["outcome"] for row in receipts(tmp_path) if row["kind"] == "refusal"]
    assert refused == ["approval_pending"]


ASKS = b'{"jsonrpc": "2.0", "id": 9, "method": "sampling/createMessage", "params": {}}'
EVENT = b"data: " + ASKS + b"\n\n"
CALL = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "send", "arguments": {}, "_meta": {"progressToken": "t"}},
}


def answering(head: bytes, body: bytes) -> Conversation:
    """Answers each request with this status and these headers."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while asked := await reader.readuntil(b"\r\n\r\n"):
            length = asked.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length or 0))
            writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (head, len(body), body))
            await writer.drain()

    return talk


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"202 Accepted\r\nContent-Type: text/event-stream; charset=latin-1", EVENT),
        (b"202 Accepted\r\nContent-Type: text/event-stream\r\nContent-Type: text/plain", EVENT),
        (b"202 Accepted\r\nContent-Type: text/event-stream\r\nContent-Encoding: x", EVENT),
        (b"202 Accepted\r\nContent-Type: application/json; charset=latin-1", ASKS),
    ],
)
async def test_c15_what_is_not_read_of_an_answer_does_not_stand_in_the_stream_of_a_held_call(
    tmp_path: Path, head: bytes, body: bytes
) -> None:
    accepts = {"Accept": "application/json, text/event-stream"}
    async with asking(tmp_path, talk=answering(head, body)) as one:
        call = asyncio.create_task(one.ask("POST", "/mcp", CALL, accepts))
        await approved(one)
        answer = await call
        assert sent(one) == 1
    assert b"sampling/createMessage" not in answer.body, "the server asks, and nobody judged it"
    assert b"HTTP status 202" in answer.body and b"notifications/progress" in answer.body


@pytest.mark.parametrize("kind", [b"text/event-stream", b"application/json", b"text/plain"])
async def test_b21_an_empty_answer_to_a_held_call_ends_its_stream_once(
    tmp_path: Path, kind: bytes
) -> None:
    accept = "application/json, text/event-stream"
    body = json.dumps(CALL).encode()
    head = f"POST /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    async with asking(tmp_path, talk=answering(b"200 OK\r\nContent-Type: " + kind, b"")) as one:
        reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
        writer.write(head.encode() + body)
        await approved(one)
        await reader.readuntil(b"\r\n0\r\n\r\n")
        writer.write(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        behind = await reader.read()
        writer.close()
    assert behind.startswith(b"HTTP/1.1 404 "), "something stands before the next answer"
