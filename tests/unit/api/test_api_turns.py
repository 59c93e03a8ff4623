"""Who asks for much waits for himself: the one thread that computes, the two readers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
from api_setup import Served, key_of

from sidecar.control.api import backroom
from sidecar.control.api.backroom import Backroom
from sidecar.control.api.problems import ApiProblem
from sidecar.control.api.turns import Turns, Whose
from sidecar.model import Person, Role
from storage.sqlite import SqliteReaders

VIEWER = frozenset({Role.VIEWER})
ANA, BO = (Person("acme", name, f"person:{name}", VIEWER) for name in ("ana", "bo"))
ZOE = Person("rival", "zoe", "person:zoe", VIEWER)


def whose(person: Person) -> Whose:
    return Whose(person.tenant, person.actor)


#: Who asks, in order, and in which order they have their turns, one at a time; ana has the first.
ORDERS = {
    "one who asks for much": ("aaaab", "abaaa"),
    "two who do": ("aaabbb", "ababab"),
    "one of another tenant": ("aabbz", "azbab"),
    "who came first, of equals": ("abz", "azb"),
    "one alone": ("aaa", "aaa"),
}


@pytest.mark.parametrize(("asked", "had"), ORDERS.values(), ids=ORDERS)
async def test_they_have_their_turns_tenant_by_tenant_and_one_by_one(asked: str, had: str) -> None:
    turns, order = Turns(1), list[str]()
    people = {"a": ANA, "b": BO, "z": ZOE}

    async def one(name: str) -> None:
        await turns.take(whose(people[name]))
        order.append(name)
        await asyncio.sleep(0)
        turns.give_back()

    async with asyncio.TaskGroup() as group:
        for name in asked:
            group.create_task(one(name))
    assert "".join(order) == had


async def test_whoever_leaves_keeps_nobody_waiting() -> None:
    turns = Turns(1)
    await turns.take(whose(ANA))
    waits = [asyncio.create_task(turns.take(whose(one))) for one in (BO, ZOE, ANA)]
    await asyncio.sleep(0)
    waits[0].cancel()  # before its turn
    await asyncio.sleep(0)
    turns.give_back()
    waits[1].cancel()  # with its turn, of which it has not heard
    await asyncio.wait_for(waits[2], 5)
    turns.give_back()
    await asyncio.wait_for(turns.take(whose(BO)), 5)


class Work:
    """What lasts until it is let go."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.may_end = threading.Event()

    def of(self, name: str) -> Callable[[], str]:
        def work() -> str:
            self.begun.append(name)
            self.may_end.wait(10)
            return name

        return work


async def test_one_who_computes_leaves_room_and_the_next_turn_to_the_others() -> None:
    room, work = Backroom(has_tenants=False), Work()
    try:
        his = [asyncio.create_task(room.do(ANA, work.of("ana"))) for _ in range(3)]
        await asyncio.sleep(0.05)
        with pytest.raises(ApiProblem):
            await his[2]
        other = asyncio.create_task(room.do(BO, work.of("bo")))
        left = asyncio.create_task(room.do(BO, work.of("left")))
        await asyncio.sleep(0.05)
        left.cancel()
        work.may_end.set()
        assert await asyncio.gather(*his[:2], other) == ["ana", "ana", "bo"]
        assert work.begun == ["ana", "bo", "ana"]
        assert await room.do(ANA, work.of("again")) == "again", "all of it was given back"
        assert room._waiting == 0
    finally:
        room.close()


async def test_what_is_begun_keeps_its_place_until_it_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backroom, "WAITING_MAX", 1)
    room, work = Backroom(has_tenants=False), Work()
    try:
        gone = asyncio.create_task(room.do(ANA, work.of("gone")))
        await asyncio.sleep(0.05)
        gone.cancel()
        await asyncio.wait([gone])
        with pytest.raises(ApiProblem):
            await room.do(BO, work.of("bo"))
        work.may_end.set()
        async with asyncio.timeout(5):
            while room._waiting:
                await asyncio.sleep(0.01)
        assert await room.do(BO, work.of("bo")) == "bo"
    finally:
        room.close()


async def test_who_was_let_in_is_not_refused_between_two_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backroom, "WAITING_MAX", 1)
    room, work = Backroom(has_tenants=False), Work()
    work.may_end.set()
    try:
        with room.seat(ANA) as seat:
            assert await seat.do(work.of("first")) == "first"
            with pytest.raises(ApiProblem):
                await room.do(BO, work.of("bo"))
            assert await seat.do(work.of("second")) == "second"
        assert await room.do(BO, work.of("bo")) == "bo"
        assert room._waiting == 0
    finally:
        room.close()


async def test_one_who_reads_much_does_not_hold_up_the_reads_of_others(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that may only look asks for sixteen slow lists; an approver looks at what waits."""
    read, turn, begun = SqliteReaders.fetch, asyncio.Semaphore(2), list[str]()

    async def slow(self: SqliteReaders, sql: str, *parameters: object, **more: object) -> object:
        async with turn:
            begun.append(sql)
            await asyncio.sleep(0.05)
            return await read(self, sql, *parameters, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(SqliteReaders, "fetch", slow)
    storm = [
        asyncio.create_task(served.ask("/v1/decisions", key_of("acme", "viewer")))
        for _ in range(14)
    ]
    while len(begun) < 3:
        await asyncio.sleep(0.01)
    before = len(begun)
    status, listed, _ = await served.ask("/v1/approvals", key_of("acme", "approver"))
    assert status == 200 and listed
    assert len(begun) - before <= 4, "reads that had their turn until his was answered"
    assert [one[0] for one in await asyncio.gather(*storm)] == [200] * 14
