"""What a process knows of agents: never older than its epoch, read again when it is behind."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from identity_setup import TOKEN, MovedClock, Place, configured, place

from sidecar.errors import Refused
from sidecar.identity.agent_states import Move
from sidecar.identity.registry import Registry
from sidecar.identity.tokens import sha256_of
from sidecar.model import AgentState, Principal
from storage.errors import StoreUnavailable
from storage.records import HeadRow
from storage.standing import AgentRow, KeyRow
from storage.watch_rows import ContainmentRow

ROW = AgentRow("acme", "coder", 1, "frozen", "{}", "", 7)
BLOCK = ContainmentRow(
    "acme", "k1", 1, "active", "block-tool", "shop/get", "why", "ana", "", "", 1, 0, 1
)


class Scripted:
    """A store whose rows change while they are read."""

    def __init__(self) -> None:
        self.epoch = 0
        self.rows: list[AgentRow] = []
        self.fails = False
        self.changes_after_head = False
        self.contained: list[ContainmentRow] = []
        self.changes_after_containments = False

    async def head(self, tenant_id: str) -> HeadRow:
        if self.fails:
            raise StoreUnavailable("down")
        epoch = self.epoch
        if self.changes_after_head and tenant_id == "acme":
            self.changes_after_head, self.epoch, self.rows = False, self.epoch + 1, [ROW]
        return HeadRow(tenant_id, 0, "", 0, "", epoch if tenant_id == "acme" else 0)

    async def epochs(self) -> dict[str, int]:
        if self.fails:
            raise StoreUnavailable("down")
        return {"acme": self.epoch, "stranger": 9}

    async def agents(self, tenant_id: str) -> list[AgentRow]:
        return self.rows if tenant_id == "acme" else []

    async def api_keys(self, _: str) -> list[KeyRow]:
        return []

    async def active_containments(self, tenant_id: str) -> list[ContainmentRow]:
        found = self.contained if tenant_id == "acme" else []
        if self.changes_after_containments and tenant_id == "acme":
            self.changes_after_containments, self.contained = False, [BLOCK]
            self.epoch += 1
        return found

    async def clock_us(self) -> int:
        return 0


async def scripted(folder: Path) -> tuple[Scripted, Registry]:
    store = Scripted()
    registry = Registry(configured(folder), store, MovedClock(), is_alone=False)
    await registry.load()
    return store, registry


def coder(registry: Registry) -> Principal:
    found = registry.agent("acme", "coder")
    assert found is not None
    return found


async def test_what_is_read_is_never_older_than_its_epoch(tmp_path: Path) -> None:
    """A freeze between the two reads: the rows are newer than the epoch, and never the other way,
    so that an intent finds its epoch raised."""
    store, registry = await scripted(tmp_path)
    store.changes_after_head = True
    await registry.renew("acme")
    assert (coder(registry).state, coder(registry).epoch) == (AgentState.FROZEN, 0)


async def test_what_is_contained_is_never_older_than_the_epoch_it_bears(tmp_path: Path) -> None:
    """A containment commits right after containments were read: the view must not bear its epoch.
    A view that took the epoch last would, and let a call through that rests on it."""
    store, registry = await scripted(tmp_path)
    store.changes_after_containments = True
    await registry.renew("acme")
    assert (coder(registry).contained, coder(registry).epoch) == (None, 0)
    await registry.reload("acme", 1)
    held = coder(registry).contained
    assert held is not None and coder(registry).epoch == 1, "positive control"
    assert [block.what for block in held.blocks] == ["shop/get"]


async def test_a_containment_that_cannot_be_read_bars_everybody(tmp_path: Path) -> None:
    store, registry = await scripted(tmp_path)
    store.contained = [BLOCK._replace(action="melt-down")]
    await registry.renew("acme")
    held = coder(registry).contained
    assert held is not None and held.blocks[0].action is None and held.blocks[0].agent == ""


async def test_after_a_stale_record_the_caller_is_looked_up_again(tmp_path: Path) -> None:
    store, registry = await scripted(tmp_path)
    called = replace(coder(registry), claims={"sub": "x"}, run="r1")
    store.epoch = 1
    registry.is_behind("acme", 1)
    again = await registry.again(called)
    assert again == replace(called, epoch=1)
    reads = registry.reads_total
    assert await registry.again(called) == again and registry.reads_total == reads
    store.epoch, store.rows = 2, [ROW]
    registry.is_behind("acme", 2)
    with pytest.raises(Refused) as caught:
        await registry.again(again)
    assert caught.value.code == "agent_frozen"


async def test_many_stale_records_read_once(tmp_path: Path) -> None:
    store, registry = await scripted(tmp_path)
    store.epoch = 1
    registry.is_behind("acme", 1)
    reads = registry.reads_total
    await asyncio.gather(*(registry.again(coder(registry)) for _ in range(50)))
    assert registry.reads_total == reads + 1


async def test_a_store_that_cannot_be_read_lets_nobody_through_again(tmp_path: Path) -> None:
    store, registry = await scripted(tmp_path)
    store.fails = True
    registry.is_behind("acme", 1)
    with pytest.raises(Refused) as caught:
        await registry.again(coder(registry))
    assert caught.value.code == "store_unavailable"


async def test_a_look_reads_only_tenants_that_changed(tmp_path: Path) -> None:
    store, registry = await scripted(tmp_path)
    reads = registry.reads_total
    await registry.look()
    assert registry.reads_total == reads
    store.epoch, store.rows = 1, [ROW]
    await registry.look()
    assert registry.reads_total == reads + 1 and coder(registry).state is AgentState.FROZEN


async def test_who_looks_after_a_while_looks_at_the_store(tmp_path: Path) -> None:
    store, registry = await scripted(tmp_path)
    store.fails = True
    await registry.fresh(60)
    with pytest.raises(StoreUnavailable):
        await registry.fresh(0)


@pytest.mark.parametrize("row", [
    ROW._replace(state="asleep"),
    ROW._replace(state="active", profile="not json"),
    ROW._replace(state="active", profile='{"team": 1}'),
    ROW._replace(state="active", profile='{"team": "", "environment": "", "risk": 1, "trust": ""}'),
])  # fmt: skip
async def test_a_row_that_cannot_be_read_lets_nobody_in(tmp_path: Path, row: AgentRow) -> None:
    store, registry = await scripted(tmp_path)
    store.rows = [row]
    await registry.renew("acme")
    assert coder(registry).state is AgentState.QUARANTINED
    store.rows = [ROW._replace(state="active")]
    await registry.renew("acme")
    assert coder(registry).state is AgentState.ACTIVE, "positive control"


async def held(at: Place) -> AgentState | None:
    found = at.callers.registry.by_token(sha256_of(TOKEN))
    return None if found is None else found.state


async def test_two_processes_on_one_file_are_not_there_and_one_sees_its_own_at_once(
    tmp_path: Path,
) -> None:
    async with place(tmp_path) as at:
        await at.callers.changes.move("acme", "coder", Move.FREEZE, actor="t")
        assert await held(at) is AgentState.FROZEN
        assert at.callers.agents_by_state() == {
            "active": 2, "frozen": 1, "quarantined": 0, "revoked": 0, "deleted": 0,
        }  # fmt: skip
