"""Pins of tools in the store: put together with a receipt, each one version after what stands."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from conformance_setup import OpenStore, assert_chain, draft, intent, seal

from storage import SqlStore
from storage.record_batch import CHANGED
from storage.records import Entry, Recorded, Unrecordable
from storage.standing import PinGone, PinMark, PinRow


def pin(tool: str = "add", version: int = 1, tenant_id: str = "acme", **fields: object) -> PinRow:
    """A pin of a tool of `calc`."""
    row = PinRow(tenant_id, "calc", tool, version, '{"name":"…"}', f"sha-{version}", 7)
    return row._replace(**fields)  # type: ignore[arg-type]


def putting(*pins: PinRow) -> Entry:
    """An entry that stands or falls with its pins."""
    return Entry(draft(pins[0].tenant_id, "control", action="tools.pin"), puts=pins)


async def test_c12_a_pin_is_there_after_the_commit_and_after_opening_again(
    open_it: OpenStore, store_url: str
) -> None:
    store = await open_it()
    first, other = pin(), pin("mul", seen="{}", seen_sha256="b", seen_at_us=9)
    (answer,) = await store.record([putting(first, other)], seal)
    assert isinstance(answer, Recorded)
    await store.close()
    store = await open_it()
    assert await store.tool_pins("acme", "calc") == [first, other]
    assert await store.tool_marks("acme", "calc") == [
        PinMark("add", 1, "sha-1", ""),
        PinMark("mul", 1, "sha-1", "b"),
    ]


async def test_c12_pins_belong_to_one_tenant_and_one_upstream(store: SqlStore) -> None:
    mine, theirs = pin(), pin(tenant_id="rival", sha256="other")
    elsewhere = pin(upstream="files", sha256="third")
    await store.record([putting(mine), putting(theirs), putting(elsewhere)], seal)
    assert await store.tool_pins("acme", "calc") == [mine]
    assert await store.tool_pins("rival", "calc") == [theirs]
    assert await store.tool_pins("acme", "files") == [elsewhere]
    assert await store.tool_pins("nobody", "calc") == []
    assert await store.tool_pin("acme", "calc", "add") == mine
    assert await store.tool_pin("rival", "calc", "add") == theirs
    assert await store.tool_pin("acme", "files", "add") == elsewhere
    assert await store.tool_pin("acme", "calc", "mul") is None
    assert await store.tool_pin("nobody", "calc", "add") is None
    assert await store.pinned_upstreams() == [
        ("acme", "calc"), ("acme", "files"), ("rival", "calc"),
    ]  # fmt: skip


@pytest.mark.parametrize("version", [1, 3, 4])
async def test_c12_a_pin_that_changed_meanwhile_is_not_overwritten(
    store: SqlStore, version: int
) -> None:
    """Whoever compared with what no longer stands is told so, and his neighbours are recorded."""
    await store.record([putting(pin())], seal)
    await store.record([putting(pin(version=2))], seal)
    late = putting(pin(version=version), pin("mul"))
    before, refused, after = await store.record([intent("c1"), late, intent("c2")], seal)
    if version == 3:  # positive control: one after what stands
        assert isinstance(refused, Recorded)
    else:
        assert refused == Unrecordable(CHANGED)
    assert isinstance(before, Recorded) and isinstance(after, Recorded)
    marks = {mark.tool: mark.version for mark in await store.tool_marks("acme", "calc")}
    assert marks == ({"add": 3, "mul": 1} if version == 3 else {"add": 2})
    rows = await store.receipts("acme", 0, 100)
    assert_chain(rows, await store.head("acme"))
    assert len(rows) == (5 if version == 3 else 4)


@pytest.mark.parametrize("version", [1, 2, 3])
async def test_c12_a_pin_goes_as_it_was_looked_at_or_not_at_all(
    store: SqlStore, version: int
) -> None:
    theirs, beside = pin(tenant_id="rival"), pin("mul")
    await store.record([putting(pin()), putting(theirs), putting(beside)], seal)
    await store.record([putting(pin(version=2))], seal)
    gone = Entry(
        draft("acme", "control", action="tools.forgotten"),
        puts=(PinGone("acme", "calc", "add", version), PinGone("acme", "calc", "mul", 1)),
    )
    (answer,) = await store.record([gone], seal)
    if version == 2:
        assert isinstance(answer, Recorded)
        assert await store.tool_marks("acme", "calc") == []
        (again,) = await store.record([putting(pin(sha256="other"))], seal)
        assert isinstance(again, Recorded), "as if it had never been seen"
    else:
        assert answer == Unrecordable(CHANGED)
        assert len(await store.tool_marks("acme", "calc")) == 2, "its neighbour stays too"
    assert await store.tool_pins("rival", "calc") == [theirs]
    assert_chain(await store.receipts("acme", 0, 100), await store.head("acme"))


async def test_c12_as_many_pins_go_at_once_as_are_kept(store: SqlStore) -> None:
    pins = [pin(f"tool-{number}") for number in range(2048)]
    await store.record([putting(*pins)], seal)
    gone = tuple(PinGone("acme", "calc", one.tool, 1) for one in pins)
    (answer,) = await store.record([Entry(draft("acme", "control"), puts=gone)], seal)
    assert isinstance(answer, Recorded)
    assert await store.tool_marks("acme", "calc") == []


async def test_c12_of_two_that_see_a_tool_first_one_pins_it(open_it: OpenStore) -> None:
    """Several entries of one batch, and two nodes of one server: nobody overwrites."""
    store = await open_it()
    answers = await store.record([putting(pin()), putting(pin(sha256="other"))], seal)
    assert [type(answer) for answer in answers] == [Recorded, Unrecordable]
    if store.has_leases:
        second = await open_it()
        both = await asyncio.gather(
            store.record([putting(pin("mul", sha256="a"))], seal),
            second.record([putting(pin("mul", sha256="b"))], seal),
        )
        assert sorted(type(one).__name__ for (one,) in both) == ["Recorded", "Unrecordable"]
    assert (await store.tool_marks("acme", "calc"))[0].sha256 == "sha-1"


@pytest.mark.parametrize("store_url", ["postgres"], indirect=True)
async def test_c12_rows_of_another_tenant_are_behind_the_second_wall(
    open_it: OpenStore, store_url: str
) -> None:
    store = await open_it()
    await store.record([putting(pin())], seal)
    connection = await asyncpg.connect(store_url)
    try:
        await connection.execute("SELECT set_config('aegis.tenants', 'rival', false)")
        assert await connection.fetch("SELECT * FROM tool_pin") == []
        await connection.execute("SELECT set_config('aegis.tenants', 'acme', false)")
        assert len(await connection.fetch("SELECT * FROM tool_pin")) == 1, "positive control"
    finally:
        await connection.close()
