"""What is open when its agent is frozen ends, and is on record as kept back; over real sockets."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from aiohttp import WSMsgType
from proxy_whole_setup import Whole, receipts, whole
from proxy_wire_setup import read_request, until
from websocket_setup import ALLOW, echo, served

from sidecar.errors import Refused
from sidecar.identity.agent_states import Move
from sidecar.identity.profiles import AgentProfile
from sidecar.proxy.open_streams import OpenStreams
from sidecar.telemetry.counters import Counters

TENANT, AGENT = "default", "agent"
#: From the freeze to the end of what is open.
ENDS_S_MAX = 1.0
SSE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\n:a\n\r\n"
)
POLICIES = {"tools.yaml": "catalogue: api\ntools: {events: GET /events}\n", "rules.yaml": ALLOW}
#: What the caller, who sends no credential, is told afterwards.
CODES = {Move.FREEZE: "agent_frozen", Move.QUARANTINE: "agent_quarantined", Move.REVOKE: ""}


async def move(proxy: Whole, verb: Move, agent: str = AGENT) -> None:
    await proxy.sidecar.callers.changes.move(TENANT, agent, verb, actor="socket:tests")


def last_outcome(folder: Path) -> str | None:
    ended = [one["outcome"] for one in receipts(folder) if one["kind"] == "outcome"]
    return ended[-1] if ended else None


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Events without an end."""
    while True:
        await read_request(reader)
        writer.write(SSE)
        while not writer.is_closing():
            writer.write(b"3\r\n:a\n\r\n")
            await asyncio.sleep(0.02)


async def listening(
    proxy: Whole, token: str = ""
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that has heard the first event."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    more = f"Aegis-Token: {token}\r\n" if token else ""
    head = f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{proxy.port}\r\n{more}\r\n"
    writer.write(head.encode())
    await reader.readuntil(b":a\n\r\n")
    return reader, writer


@pytest.mark.parametrize("verb", CODES)
async def test_a_stream_ends_when_its_agent_may_not_call_any_more(
    tmp_path: Path, verb: Move
) -> None:
    async with whole(tmp_path, endless, POLICIES) as proxy:
        reader, writer = await listening(proxy)
        changes = proxy.sidecar.callers.changes
        await changes.register_agent(TENANT, "other", AgentProfile(), actor="socket:tests")
        await move(proxy, verb, "other")
        await asyncio.sleep(0.1)
        await reader.readuntil(b":a\n\r\n")
        assert last_outcome(tmp_path) is None, "positive control: another agent's end is none of it"
        began_s = time.perf_counter()
        await move(proxy, verb)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            async with asyncio.timeout(5):
                while True:
                    await reader.readuntil(b":a\n\r\n")
        assert time.perf_counter() - began_s < ENDS_S_MAX
        writer.close()
        await until(lambda: last_outcome(tmp_path) == "withheld")
        refused = await proxy.ask("GET", "/api/events")
        assert refused.json["code"] == (CODES[verb] or "unauthenticated")


async def test_a_websocket_is_closed_when_its_agent_is_frozen(tmp_path: Path) -> None:
    async with served(tmp_path, echo) as (proxy, server, client):
        url = f"{proxy.sidecar.data_url}/api/live"
        async with client.ws_connect(url, autoclose=False) as socket:
            await socket.send_str("hello")
            assert await socket.receive_str() == "hello", "positive control"
            began_s = time.perf_counter()
            await move(proxy, Move.FREEZE)
            said = await socket.receive(5)
            assert (said.type, said.data) == (WSMsgType.CLOSE, 1008)
            assert time.perf_counter() - began_s < ENDS_S_MAX
            await socket.close()
        await until(lambda: bool(server.closed))
        assert server.closed == [1008], "the upstream is told too"
        await until(lambda: last_outcome(tmp_path) == "withheld")
        ended = await proxy.metric("aegis_websockets_ended_total")
        assert ended == {'{cause="agent_barred"}': 1}
        await move(proxy, Move.UNFREEZE)
        async with client.ws_connect(url) as socket:
            await socket.send_str("again")
            assert await socket.receive_str() == "again"


async def test_what_a_token_opened_ends_with_it(tmp_path: Path) -> None:
    """Whoever has an agent's token goes on for no longer than the token counts."""
    async with whole(tmp_path, endless, POLICIES) as proxy:
        changes = proxy.sidecar.callers.changes
        tokens = {}
        for agent in ("rotated", "other"):
            made = await changes.register_agent(TENANT, agent, AgentProfile(), actor="socket:tests")
            tokens[agent] = made.token
        reader, writer = await listening(proxy, tokens["rotated"])
        goes_on, other = await listening(proxy, tokens["other"])
        without, third = await listening(proxy)
        fresh = await changes.rotate_token(TENANT, "rotated", actor="socket:tests")
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            async with asyncio.timeout(5):
                while True:
                    await reader.readuntil(b":a\n\r\n")
        await until(lambda: last_outcome(tmp_path) == "withheld")
        again, fourth = await listening(proxy, fresh.token)
        for stays in (goes_on, without, again):
            for _ in range(20):
                await stays.readuntil(b":a\n\r\n")
        for one in (writer, other, third, fourth):
            one.close()


async def test_a_websocket_is_closed_when_its_token_counts_for_nothing(tmp_path: Path) -> None:
    async with served(tmp_path, echo) as (proxy, server, client):
        url = f"{proxy.sidecar.data_url}/api/live"
        changes = proxy.sidecar.callers.changes
        made = await changes.register_agent(TENANT, "bob", AgentProfile(), actor="socket:tests")
        headers = {"Aegis-Token": made.token}
        async with client.ws_connect(url, headers=headers, autoclose=False) as socket:
            await socket.send_str("hello")
            assert await socket.receive_str() == "hello", "positive control"
            await changes.rotate_token(TENANT, "bob", actor="socket:tests")
            said = await socket.receive(5)
            assert (said.type, said.data) == (WSMsgType.CLOSE, 1008)
            await socket.close()
        await until(lambda: bool(server.closed))
        assert server.closed == [1008], "the upstream is told too"


async def test_what_is_ending_is_not_asked_to_end_again(tmp_path: Path) -> None:
    """It may take a while: the tenant may be read again meanwhile."""
    async with whole(tmp_path, endless, POLICIES) as proxy:
        registry = proxy.sidecar.callers.registry
        streams, standing = OpenStreams(registry, Counters()), registry.agent(TENANT, AGENT)
        assert standing is not None
        has_begun = asyncio.Event()

        async def is_open() -> None:
            async with streams.cut_for(standing):
                has_begun.set()
                try:
                    await asyncio.sleep(60)
                finally:
                    await asyncio.sleep(0.2)

        stream = asyncio.create_task(is_open())
        await has_begun.wait()
        await move(proxy, Move.FREEZE)
        await asyncio.sleep(0.05)
        await registry.renew(TENANT)
        with pytest.raises(Refused) as refused:
            await stream
        assert refused.value.code == "agent_frozen"
