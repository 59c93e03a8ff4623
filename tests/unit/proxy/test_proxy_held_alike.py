"""Identical calls that are held together: whose the yes is, and that all hear at once what came."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from proxy_approvals_setup import ANA, TENANT, asking, pending, refund, sent, soon
from proxy_whole_setup import Answer, Whole
from test_proxy_approvals import approved

#: Far longer than anything here takes: whoever misses what is decided is held for so long.
HOLDING_LONG = "approvals: {hold: 30s}\n"


async def _waiting(one: Whole, count: int) -> None:
    """Until so many calls are held."""

    async def is_so() -> bool:
        return one.sidecar.approvals.changes.waiting.count == count

    await soon(is_so)


async def _held_alike(one: Whole, count: int) -> list[asyncio.Task[Answer]]:
    """Identical calls that are held, in the order in which they came."""
    calls = []
    for number in range(1, count + 1):
        calls.append(asyncio.create_task(refund(one)))
        await _waiting(one, number)
    return calls


@pytest.mark.parametrize("count", [2, 5])
async def test_e2_of_identical_calls_the_one_that_came_last_goes_through(
    tmp_path: Path, count: int
) -> None:
    """A client that waits no longer often leaves its request open, and its model asks again."""
    async with asking(tmp_path, HOLDING_LONG) as one:
        calls = await _held_alike(one, count)
        await approved(one)
        async with asyncio.timeout(10):
            *others, last = await asyncio.gather(*calls)
        assert last.status == 200 and sent(one) == 1
        assert {answer.json["code"] for answer in others} == {"approval_spent"}


async def test_e2_where_the_last_one_left_the_yes_is_the_one_before(tmp_path: Path) -> None:
    body = b'{"cents": 5}'
    head = b"POST /api/refund/7 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    async with asking(tmp_path, HOLDING_LONG) as one:
        first, second = await _held_alike(one, 2)
        _, writer = await asyncio.open_connection("127.0.0.1", one.port)
        writer.write(head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        await _waiting(one, 3)
        writer.close()
        await _waiting(one, 2)
        await approved(one)
        async with asyncio.timeout(10):
            assert (await second).status == 200 and (await first).status == 403
        assert sent(one) == 1


@pytest.mark.parametrize(
    ("verb", "code"), [("reject", "approval_rejected"), ("withdraw", "approval_withdrawn")]
)
async def test_e5_a_no_is_told_to_every_call_that_waits_at_once(
    tmp_path: Path, verb: str, code: str
) -> None:
    async with asking(tmp_path, HOLDING_LONG) as one:
        calls = await _held_alike(one, 3)
        row = await pending(one)
        await getattr(one.sidecar.approvals.deciding, verb)(TENANT, row.approval_id, ANA)
        async with asyncio.timeout(10):
            answers = await asyncio.gather(*calls)
        assert [answer.json["code"] for answer in answers] == [code] * 3


async def test_e8_who_stops_lets_go_of_every_call_that_waits_at_once(tmp_path: Path) -> None:
    async with asking(tmp_path, HOLDING_LONG) as one:
        calls = await _held_alike(one, 3)
        one.sidecar.approvals.close()
        async with asyncio.timeout(10):
            answers = await asyncio.gather(*calls)
        assert [answer.json["code"] for answer in answers] == ["shutting_down"] * 3
