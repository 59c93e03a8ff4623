"""Too many at once: who is only in a crowd is told to wait and never by a 5xx, after which clients
try again by themselves; what was told to wait was not decided, and asked again it is decided once.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest
from authorize_setup import AGENT_TOKEN, Answer, Stage, call, stage

AGENTS = 24


def went_ahead(one: Stage) -> int:
    """How many calls may go ahead; those that were turned away stand there as that, if at all."""
    rows = one.receipts()
    turned_away = {row["outcome"] for row in rows if row["kind"] != "intent"}
    assert turned_away <= {"queue_full"}
    return len(rows) - sum(row["kind"] != "intent" for row in rows)


async def test_a_crowd_is_told_to_wait_and_nothing_is_doubled(tmp_path: Path) -> None:
    async with stage(tmp_path, more="limits: {queue: 1}\n") as one:

        async def ask(number: int) -> Answer:
            request = call(request_id=f"r-{number}", parameters={"number": number})
            return await one.authorize(request, token=AGENT_TOKEN)

        answers = await asyncio.gather(*map(ask, range(AGENTS)))
        statuses = Counter(one.status for one in answers)
        assert statuses.keys() == {200, 429}, statuses
        waits = [one for one in answers if one.status == 429]
        assert {one.json["details"]["reason"] for one in waits} == {"queue_full"}
        assert all(int(one.headers["Retry-After"]) >= 1 for one in waits)
        assert went_ahead(one) == statuses[200], "what is told to wait is not decided"
        heard = {one.json["decision_id"] for one in answers if one.status == 200}

        async def until_decided(number: int) -> str:
            while (answer := await ask(number)).status == 429:
                await asyncio.sleep(0.01)
            assert answer.status == 200, answer.json
            return str(answer.json["decision_id"])

        decided = await asyncio.gather(*map(until_decided, range(AGENTS)))
        assert len(set(decided)) == AGENTS and heard <= set(decided)
        assert went_ahead(one) == AGENTS, "each once, however often it was asked"


@pytest.mark.parametrize("control", [False, True])
async def test_b15_bodies_of_agents_that_ask_count_too(tmp_path: Path, control: bool) -> None:
    """Half of what may be held is theirs, by whichever listener they come."""
    body = json.dumps(call(parameters={"text": "x" * 100_000})).encode()
    head = (
        "POST /v1/authorize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {AGENT_TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    async with stage(tmp_path, more="limits: {bodies: 2MiB}\n") as one:
        url = one.sidecar.control_url if control else one.sidecar.data_url

        async def held() -> float:
            return sum((await one.metric("aegis_request_bytes_held")).values())

        async def until_held(size: int) -> None:
            async with asyncio.timeout(5):
                while await held() != size:
                    await asyncio.sleep(0.01)

        crowd = []
        for number in range(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
            writer.write(head + body[:-1])
            crowd.append((reader, writer))
            await until_held((number + 1) * (len(body) - 1))
        answer = await one.ask("POST", "/v1/authorize", body, token=AGENT_TOKEN, control=control)
        assert answer.status == 429, answer.json
        assert answer.json["details"]["reason"] == "bodies_full"
        assert int(answer.headers["Retry-After"]) >= 1
        small = await one.authorize(call(), token=AGENT_TOKEN, control=control)
        assert small.json["decision"] == "allow", "what is small goes ahead"
        for _, writer in crowd[:5]:
            writer.transport.abort()
        await until_held(5 * (len(body) - 1))
        for reader, writer in crowd[5:]:
            writer.write(body[-1:])
            assert (await reader.readuntil(b"\r\n")) == b"HTTP/1.1 200 OK\r\n"
        await until_held(0)
        for _, writer in crowd:
            writer.close()
