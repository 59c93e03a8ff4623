"""Turns: one at a time for each run, in order, and nothing is left of who went away."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.ledger.run_turns import Turn, Turns

RUN, OTHER = ("acme", "coder"), ("acme", "reviewer")


async def begun(turns: Turns, key: tuple[str, str]) -> asyncio.Task[Turn]:
    task = asyncio.ensure_future(turns.take(key))
    await asyncio.sleep(0)
    return task


async def test_turns_come_one_by_one_and_in_order() -> None:
    turns = Turns()
    first = await turns.take(RUN)
    others = [await begun(turns, RUN) for _ in range(3)]
    assert not any(one.done() for one in others)
    await turns.take(OTHER)  # another run has a line of its own
    for other in others:
        first.end()
        first.end()  # ending it twice is one end
        first = await other
    assert turns.line_count == 2
    first.end()
    assert turns.line_count == 1


async def test_nobody_waits_for_ever() -> None:
    turns = Turns(wait_s=0.05)
    first = await turns.take(RUN)
    late = await turns.take(RUN)
    late.end()
    waits = await begun(turns, RUN)
    assert not waits.done(), "who was late has ended nobody else's"
    first.end()
    (await waits).end()
    assert turns.line_count == 0


async def test_who_leaves_the_line_is_not_waited_for() -> None:
    turns = Turns()
    first = await turns.take(RUN)
    leaves, stays = await begun(turns, RUN), await begun(turns, RUN)
    leaves.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaves
    first.end()
    last = await asyncio.wait_for(stays, 1)
    last.end()
    assert turns.line_count == 0
