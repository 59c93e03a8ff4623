"""Guards: an entry decided on what no longer holds is answered `Stale`, and nothing is written."""

from __future__ import annotations

from conformance_setup import assert_chain, grown, intent, run, seal

from storage import SqlStore
from storage.records import Recorded, RunHead, RunStep, Stale


async def test_an_epoch_that_holds_passes_and_one_that_does_not_is_stale(store: SqlStore) -> None:
    [answer] = await store.record([intent("c1", epoch=0)], seal)
    assert isinstance(answer, Recorded) and answer.epoch == 0
    assert await store.raise_epoch("acme") == 1
    answers = await store.record(
        [
            intent("c2", epoch=0),
            intent("c3", epoch=1),
            intent("c4"),
            intent("c5", "rival", epoch=0),
        ],
        seal,
    )
    assert answers[0] == Stale(epoch=1, run=None)
    assert [type(answer) for answer in answers[1:]] == [Recorded, Recorded, Recorded]
    assert [a.epoch for a in answers[1:] if isinstance(a, Recorded)] == [1, 1, 0]
    rows = await store.receipts("acme", 0, 10)
    assert [row.call_id for row in rows] == ["c1", "c3", "c4"]
    assert_chain(rows, await store.head("acme"))
    assert [
        row.call_id for row in await store.open_intents("node", 10) if row.call_id == "c2"
    ] == []


async def test_a_batch_of_stale_entries_writes_nothing(store: SqlStore) -> None:
    answers = await store.record([intent("c1", epoch=7), intent("c2", epoch=8)], seal)
    assert answers == [Stale(0, None), Stale(0, None)]
    assert await store.tenants() == []


async def test_the_epoch_survives_records_and_counts_up(store: SqlStore) -> None:
    assert [await store.raise_epoch("acme") for _ in range(3)] == [1, 2, 3]
    head = await store.head("acme")
    assert (head.seq, head.receipt_hash, head.epoch) == (0, "", 3)
    await store.record([intent("c1")], seal)
    assert (await store.head("acme")).epoch == 3
    assert await store.raise_epoch("acme") == 4
    assert (await store.head("acme")).seq == 1
    assert (await store.head("rival")).epoch == 0


async def test_a_run_version_that_moved_is_stale_also_within_the_batch(store: SqlStore) -> None:
    answers = await store.record(
        [
            intent("c1", run_version=0, run_step=grown),
            intent("c2", run_version=0, run_step=grown),
            intent("c3", run_version=1),
            intent("c4", "rival", run_version=0),
        ],
        seal,
    )
    assert [type(answer) for answer in answers] == [Recorded, Stale, Recorded, Recorded]
    assert answers[1] == Stale(epoch=0, run=run(1))
    [late] = await store.record([intent("c5", run_version=0)], seal)
    assert late == Stale(0, run(1))
    [fresh] = await store.record([intent("c5", run_version=1, run_step=grown)], seal)
    assert isinstance(fresh, Recorded)
    assert await store.record([intent("c6", run_version=1)], seal) == [Stale(0, run(2))]


async def test_a_stale_entry_does_not_advance_its_run(store: SqlStore) -> None:
    [answer] = await store.record([intent("c1", epoch=9, run_version=0, run_step=grown)], seal)
    assert answer == Stale(0, run(0))
    [answer] = await store.record([intent("c1", epoch=0, run_version=0)], seal)
    assert isinstance(answer, Recorded)


async def test_an_entry_that_cannot_be_written_does_not_advance_its_run(store: SqlStore) -> None:
    await store.record([intent("c1")], seal)
    batch = [intent("c1", run_step=grown), intent("c2", run_version=0)]
    answers = await store.record(batch, seal)
    assert isinstance(answers[1], Recorded)


async def test_an_entry_is_told_of_the_run_it_has_to_do_with_and_of_no_other(
    store: SqlStore,
) -> None:
    """Whoever rests on no run may be part of another than the agent's own."""
    await store.record([intent("c1", run_step=grown)], seal)
    stale = [
        intent("c2", epoch=5),
        intent("c3", epoch=5, run_version=7),
        intent("c4", epoch=5, run_step=grown),
        intent("c5", epoch=5, run_step=grown, run_key="agent/7"),
    ]
    told = [None, run(1), run(1), run(0)]
    assert await store.record(stale, seal) == [Stale(0, one) for one in told]


async def test_a_step_of_a_run_is_made_on_what_the_run_is_by_then(store: SqlStore) -> None:
    """No guard is needed to add to a run, and none of what others added meanwhile is lost."""

    def adds(letter: str) -> RunStep:
        return lambda state: "".join(sorted({*state, letter}))

    [first, second, same] = await store.record(
        [intent(f"c{n}", run_step=adds(letter)) for n, letter in enumerate("bab")], seal
    )
    assert [a.run for a in (first, second, same) if isinstance(a, Recorded)] == [
        RunHead(1, "b"), RunHead(2, "ab"), RunHead(2, "ab"),
    ], "each as it left it; a step that changes nothing raises nothing"  # fmt: skip
    assert await store.run_head("acme", "agent") == RunHead(2, "ab")
    [alone] = await store.record([intent("d0", run_step=adds("c"))], seal)
    assert isinstance(alone, Recorded) and alone.run == RunHead(3, "abc")
    [unconcerned] = await store.record([intent("d1")], seal)
    assert isinstance(unconcerned, Recorded) and unconcerned.run is None


async def test_a_run_has_a_key_of_its_own_if_it_is_given_one(store: SqlStore) -> None:
    await store.record([intent("c1", run_step=grown, run_key="agent/7")], seal)
    assert await store.run_head("acme", "agent/7") == run(1)
    assert await store.run_head("acme", "agent") == run(0)
    assert await store.run_head("rival", "agent/7") == run(0)
    answers = await store.record(
        [intent("c2", run_version=0), intent("c3", run_version=0, run_key="agent/7")], seal
    )
    assert isinstance(answers[0], Recorded)
    assert answers[1] == Stale(0, run(1))
