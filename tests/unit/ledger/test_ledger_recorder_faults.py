"""The recorder when something fails: guards, full and closed queues, stores, callers who leave."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ledger_setup import Ledger, call, decision, ledger, principal

from sidecar.errors import Refused
from sidecar.ledger.recorder import Intent
from sidecar.model import Outcome, OutcomeKind
from storage.errors import QueueTimeout, StoreFull
from storage.records import Answer, Entry, Recorded, Seal, Stale

ID, OTHER_ID = "1" * 32, "2" * 32


async def intent_of(at: Ledger, call_id: str = ID, **values: Any) -> Intent:
    answer = await at.recorder.intent(principal(), call(call_id, **values), decision())
    assert isinstance(answer, Intent)
    return answer


async def refuse(at: Ledger, refused: Refused, **values: Any) -> Recorded | None:
    given: dict[str, Any] = {
        "call_id": ID,
        "upstream": "github",
        "action": "POST",
        "call": call(ID),
        **values,
    }
    return await at.recorder.refusal(principal(), refused=refused, **given)


# -- guards --------------------------------------------------------------------------------


async def test_the_epoch_that_guards_an_intent_is_its_callers(tmp_path: Path) -> None:
    """The recorder takes over no epoch from answers: by then its caller may be frozen."""
    async with ledger(tmp_path) as at:
        await intent_of(at)
        assert await at.store.raise_epoch("default") == 1
        answer = await at.recorder.intent(principal(), call(OTHER_ID), decision())
        assert answer == Stale(1, None)
        assert at.queue.reserved == 1  # the first intent's; the stale one gave its place back
        assert len(await at.rows()) == 1
        again = await at.recorder.intent(principal(), call(OTHER_ID), decision())
        assert again == answer, "it was looked up before the epoch was raised, and still is"
        now = replace(principal(), epoch=1)
        assert isinstance(await at.recorder.intent(now, call(OTHER_ID), decision()), Intent)


async def test_a_refusal_needs_no_guard(tmp_path: Path) -> None:
    async with ledger(tmp_path) as at:
        await at.store.raise_epoch("default")
        assert await refuse(at, Refused("policy_deny")) is not None


# -- failures fail closed ------------------------------------------------------------------


async def test_a5_a_full_queue_refuses_before_anything_is_submitted(tmp_path: Path) -> None:
    async with ledger(tmp_path, capacity=1) as at:
        intent = await intent_of(at)
        with pytest.raises(Refused) as caught:
            await intent_of(at, OTHER_ID)
        assert (caught.value.code, caught.value.retry_after_s) == ("queue_full", 1)
        at.recorder.outcome(intent, Outcome(OutcomeKind.COMPLETED, 200))
        assert len(await at.rows()) == 2
        await intent_of(at, OTHER_ID)


async def test_a6_a_closed_queue_says_shutting_down(tmp_path: Path) -> None:
    async with ledger(tmp_path) as at:
        await at.queue.drain(0.01)
        with pytest.raises(Refused) as caught:
            await intent_of(at)
        assert caught.value.code == "shutting_down"


async def test_a3_a_store_that_fails_refuses_and_gives_the_place_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ledger(tmp_path) as at:
        for error in (StoreFull(), QueueTimeout()):

            async def fail(tenant: str, draft: object, error: Exception = error) -> Recorded:
                raise error

            with monkeypatch.context() as patched:
                patched.setattr(at.queue, "submit_draft", fail)
                with pytest.raises(Refused) as caught:
                    await intent_of(at)
            assert (caught.value.code, caught.value.detail) == ("store_unavailable", error.code)
            assert at.queue.reserved == 0
        await intent_of(at)


async def test_an_intent_that_cannot_be_recorded_refuses(tmp_path: Path) -> None:
    async with ledger(tmp_path) as at:
        await intent_of(at)
        with pytest.raises(Refused) as caught:
            await intent_of(at)  # the same call twice
        assert caught.value.code == "store_unavailable"
        assert caught.value.detail.startswith("unrecordable: UNIQUE constraint failed")
        assert at.queue.reserved == 1


async def test_an_intent_whose_caller_left_ends_not_forwarded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ledger(tmp_path) as at:
        record, has_begun, may_go_on = at.store.record, asyncio.Event(), asyncio.Event()

        async def record_slowly(entries: Sequence[Entry], seal: Seal) -> list[Answer]:
            has_begun.set()
            await may_go_on.wait()
            return await record(entries, seal)

        monkeypatch.setattr(at.store, "record", record_slowly)
        task = asyncio.create_task(intent_of(at))
        await has_begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        may_go_on.set()
        while len(rows := await at.rows()) < 2:
            await asyncio.sleep(0.001)
        assert at.queue.reserved == 0
        assert not await at.store.open_intents("node-1", 9)
    assert [(row.kind, row.outcome) for row in rows] == [
        ("intent", None),
        ("outcome", "not_forwarded"),
    ]


async def test_an_abandoned_intent_without_a_place_stays_open(tmp_path: Path) -> None:
    async with ledger(tmp_path, capacity=1) as at:
        intent = await intent_of(at)
        entry = Entry((await at.rows())[0], opens=(await at.store.open_intents("node-1", 1))[0])
        at.recorder.abandoned(entry, Recorded(intent.seq, intent.receipt_hash, 0, 0))
        assert at.recorder.left_open == 1
        intent.slot.release()
        at.recorder.abandoned(entry, Recorded(intent.seq, intent.receipt_hash, 0, 0))
        assert at.recorder.left_open == 1
        assert [row.outcome for row in await at.rows()] == [None, "not_forwarded"]


async def test_an_abandoned_refusal_needs_no_outcome(tmp_path: Path) -> None:
    async with ledger(tmp_path) as at:
        await refuse(at, Refused("policy_deny"))
        at.recorder.abandoned(Entry((await at.rows())[0]), Recorded(1, "", 0, 0))
        assert len(await at.rows()) == 1
        assert at.recorder.left_open == 0


async def test_an_outcome_after_the_writer_is_gone_is_left_for_recovery(tmp_path: Path) -> None:
    async with ledger(tmp_path) as at:
        intent = await intent_of(at)
        await at.queue.close()
        at.recorder.outcome(intent, Outcome(OutcomeKind.COMPLETED, 200))
        assert at.recorder.left_open == 1
        assert len(await at.store.open_intents("node-1", 9)) == 1
