"""Two sidecars on one PostgreSQL: one request is one decision, a yes is spent once, anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import orjson
import postgres_server
import pytest
import pytest_asyncio
from authorize_setup import AGENT_TOKEN, ANA, Stage, agent_row, call, clients_hash, put, stage

from sidecar.ledger.receipt import body_of, receipt_hash
from storage.records import ReceiptRow

Nodes = tuple[Stage, Stage, str]


@pytest.fixture(scope="module")
def dsn() -> Iterator[str]:
    with postgres_server.server() as found:
        yield found


@pytest_asyncio.fixture
async def nodes(dsn: str, tmp_path: Path) -> AsyncIterator[Nodes]:
    url = await postgres_server.new_database(dsn)
    await put(url, agent_row())
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(stage(tmp_path / "one", store=url))
        two = await stack.enter_async_context(stage(tmp_path / "two", store=url))
        yield one, two, url


async def chain(url: str) -> list[ReceiptRow]:
    """All receipts, each of which links to the one before."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SELECT set_config('aegis.tenants', '*', false)")
        columns = ", ".join(ReceiptRow._fields)
        found = await connection.fetch(f"SELECT {columns} FROM receipts ORDER BY seq")
    finally:
        await connection.close()
    rows, previous = [ReceiptRow._make(row) for row in found], ""
    for number, row in enumerate(rows, 1):
        assert row.seq == number
        assert receipt_hash(body_of(row, previous)) == row.receipt_hash
        previous = row.receipt_hash
    return rows


async def test_story_10_3_one_request_at_two_nodes_is_one_decision(nodes: Nodes) -> None:
    one, two, url = nodes
    for number in range(6):
        request = call("read_issue", parameters={"n": number}, request_id=f"r{number}")
        answers = await asyncio.gather(
            *(node.authorize(request, token=AGENT_TOKEN) for node in (one, two) * 4)
        )
        assert {answer.status for answer in answers} == {200}, answers
        assert len({orjson.dumps(answer.json) for answer in answers}) == 1
    rows = [row for row in await chain(url) if row.kind == "intent"]
    assert len(rows) == 6 and {row.outcome for row in rows} == {"delegated"}
    other = call("read_issue", parameters={"n": 99}, request_id="r0")
    assert (await two.authorize(other, token=AGENT_TOKEN)).status == 409


async def test_e2_a_yes_asked_at_one_node_is_spent_once_at_either(nodes: Nodes) -> None:
    one, two, url = nodes
    merge = call("merge_pull_request", mutates=True, parameters={"pull_number": 4})
    asked = await one.authorize(merge, token=AGENT_TOKEN)
    again = await two.authorize(merge, token=AGENT_TOKEN)
    approval_id = asked.json["approval"]["approval_id"]
    assert again.json["approval"]["approval_id"] == approval_id, "the question is one"
    await two.approve(approval_id, ANA)
    path = f"/v1/approvals/{approval_id}"
    assert (await one.ask("GET", path, token=AGENT_TOKEN)).json["status"] == "APPROVED"
    claim = {"claimed_action_hash": clients_hash(merge)}
    said = await asyncio.gather(
        *(node.ask("POST", f"{path}/consume", claim, token=AGENT_TOKEN) for node in (one, two) * 6)
    )
    assert sorted(answer.status for answer in said) == [200, *[409] * 11]
    intents = [row for row in await chain(url) if row.kind == "intent"]
    assert [row.approval_id for row in intents] == [approval_id.replace("-", "")]


async def test_w2_a_freeze_at_one_node_holds_at_the_other(nodes: Nodes) -> None:
    one, two, url = nodes
    read = call("read_issue", request_id="r1")
    for node in (one, two):
        assert (await node.authorize(read, token=AGENT_TOKEN)).json["decision"] == "allow"
    await put(url, agent_row(state="frozen")._replace(version=2))
    # A new call is refused by its guard at once; a repeated one within what may be known late.
    fresh = await two.authorize(call("read_issue"), token=AGENT_TOKEN)
    assert fresh.json["matched_policies"] == ["agent_frozen"]
    await asyncio.sleep(1.1)
    repeated = await one.authorize(read, token=AGENT_TOKEN)
    assert repeated.json["matched_policies"] == ["agent_frozen"]
    assert {row.outcome for row in (await chain(url))[-2:]} == {"agent_frozen"}
