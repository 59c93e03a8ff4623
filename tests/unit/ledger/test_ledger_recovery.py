"""A13: what a crash left open is closed as unknown, once, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from ledger_setup import Ledger, SteadyClock, call, decision, ledger, lines_of, principal

from sidecar.ledger.chain import seal
from sidecar.ledger.recorder import Intent
from sidecar.ledger.recovery import BATCH, recover
from sidecar.ledger.verify import verify_lines
from sidecar.model import Outcome, OutcomeKind
from storage.errors import StoreCorrupt, StoreFull
from storage.records import AlreadyClosed, Answer, Entry, OpenIntentRow, Seal, Unrecordable

CLOCK = SteadyClock(start_us=1_800_000_000_000_000)


async def open_some(at: Ledger, count: int, tenant: str = "default") -> list[Intent]:
    async def one(number: int) -> Intent:
        made = call(f"{tenant}-{number:026d}")
        answer = await at.recorder.intent(principal(tenant), made, decision())
        assert isinstance(answer, Intent)
        return answer

    return await asyncio.gather(*(one(number) for number in range(count)))


async def test_a13_open_intents_of_an_earlier_boot_end_unknown(tmp_path: Path) -> None:
    async with ledger(tmp_path, boot_id="boot-1") as at:
        first, *_ = await open_some(at, 3)
        await open_some(at, 2, "other")
        at.recorder.outcome(first, Outcome(OutcomeKind.COMPLETED, 200))
        await at.rows()
    async with ledger(tmp_path, boot_id="boot-2") as at:
        assert await recover(at.store, seal, CLOCK, boot_id="boot-2") == 4
        rows = await at.rows()
        assert verify_lines(lines_of(rows)).holds
        assert not await at.store.open_intents("node-1", 9)
        assert await recover(at.store, seal, CLOCK, boot_id="boot-2") == 0
        assert len(await at.rows("other")) == 4
    recovered = [row for row in rows if row.kind == "recovery"]
    assert [row.call_id for row in recovered] == [row.call_id for row in rows[1:3]]
    assert {row.outcome for row in recovered} == {"unknown"}


async def test_open_intents_of_this_boot_and_other_nodes_are_left_alone(tmp_path: Path) -> None:
    async with ledger(tmp_path, boot_id="boot-1") as at:
        (mine,) = await open_some(at, 1)
        at.recorder = at.make_recorder(node_id="node-2", boot_id="boot-0")
        await at.recorder.intent(principal(), call("9" * 32), decision())
        assert await recover(at.store, seal, CLOCK, boot_id="boot-1") == 0
        assert len(await at.rows()) == 2
        at.recorder.outcome(mine, Outcome(OutcomeKind.COMPLETED, 200))
        assert [row.kind for row in await at.rows()] == ["intent", "intent", "outcome"]


async def test_a_damaged_index_stops_the_start_instead_of_turning_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An intent that is listed and cannot be deleted: every attempt is answered AlreadyClosed."""
    async with ledger(tmp_path, boot_id="boot-1") as at:
        await open_some(at, 2)

        async def listed_only(entries: Sequence[Entry], _: Seal) -> list[Answer]:
            return [AlreadyClosed(str(entry.closes)) for entry in entries]

        monkeypatch.setattr(at.store, "record", listed_only)
        async with asyncio.timeout(5):
            with pytest.raises(StoreCorrupt):
                await recover(at.store, seal, CLOCK, boot_id="boot-2")


async def test_a13_killed_in_the_middle_it_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.ledger.recovery.BATCH", 2)
    async with ledger(tmp_path) as at:
        await open_some(at, 5)
    async with ledger(tmp_path) as at:
        record, batches = at.store.record, 0

        async def record_once(entries: Sequence[Entry], given: Seal) -> list[Answer]:
            nonlocal batches
            batches += 1
            if batches == 2:
                raise StoreFull
            return await record(entries, given)

        with monkeypatch.context() as patched:
            patched.setattr(at.store, "record", record_once)
            with pytest.raises(StoreFull):
                await recover(at.store, seal, CLOCK, boot_id="boot-2")
        assert len(await at.store.open_intents("node-1", 9)) == 3
    async with ledger(tmp_path) as at:
        assert await recover(at.store, seal, CLOCK, boot_id="boot-3") == 3
        rows = await at.rows()
    assert [row.kind for row in rows] == ["intent"] * 5 + ["recovery"] * 5
    assert len({row.call_id for row in rows[5:]}) == 5
    assert verify_lines(lines_of(rows)).holds


async def test_more_than_a_batch(tmp_path: Path) -> None:
    count = BATCH + 1
    async with ledger(tmp_path, capacity=count) as at:
        await open_some(at, count)
    async with ledger(tmp_path) as at:
        assert await recover(at.store, seal, CLOCK, boot_id="boot-2") == count


async def test_what_cannot_be_closed_stops_the_start_instead_of_looping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ledger(tmp_path) as at:
        await open_some(at, 1)

        async def refuse(entries: Sequence[Entry], given: Seal) -> list[Answer]:
            return [Unrecordable("no") for _ in entries]

        monkeypatch.setattr(at.store, "record", refuse)
        with pytest.raises(StoreCorrupt, match="cannot be closed"):
            await recover(at.store, seal, CLOCK, boot_id="boot-2")
        assert await at.store.open_intents("node-1", 1) == [
            OpenIntentRow("default", f"default-{0:026d}", "node-1", "boot-1")
        ]
