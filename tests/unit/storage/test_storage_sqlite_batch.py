"""Recording together equals recording one at a time, whatever the batch."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st
from storage_sqlite_setup import assert_chain, draft, grown, intent, outcome, seal

from storage.migrate import read_migrations
from storage.record_batch import ODDITIES, record_each, record_group
from storage.records import (
    Answer,
    Entry,
    Full,
    HeadRow,
    NoRoom,
    ReceiptRow,
    Recorded,
    Reservation,
    Reservations,
    Room,
    Unrecordable,
)
from storage.sqlite_thread import drive
from storage.standing import PinRow
from storage.statements import load_statements

SQL = load_statements("sqlite")
TENANTS = ("acme", "rival")
NOTHING = Entry(draft())


def memory() -> sqlite3.Connection:
    """A database in memory with our tables."""
    raw = sqlite3.connect(":memory:", isolation_level=None)
    for migration in read_migrations("sqlite"):
        for statement in migration.statements:
            raw.execute(statement)
    return raw


def record(raw: sqlite3.Connection, entries: Sequence[Entry]) -> list[Answer]:
    """As SqlStore.record does: together, and if that is odd, carefully."""
    for script in (record_group, record_each):
        raw.execute("BEGIN")
        try:
            done = drive(raw, script(SQL, entries, seal))
        except ODDITIES:
            raw.execute("ROLLBACK")
            continue
        raw.execute("COMMIT")
        return done.answers
    raise AssertionError("the careful way raised")


def counted(amount: int, state: str, at_us: int) -> Room | Full:
    """A bucket of three."""
    used = int(state or 0)
    return Room(str(used + amount), at_us) if used + amount <= 3 else Full(used, used)


@st.composite
def reservations(draw: st.DrawFn, call_id: str, tenant_id: str) -> Reservations:
    """Little room in few buckets; without it a refusal, or another intent, is recorded."""
    kind = draw(st.sampled_from(["refusal", "intent"]))
    wanted = [
        Reservation("limit", draw(st.sampled_from("xy")), partial(counted, draw(st.integers(0, 2))))
        for _ in range(draw(st.integers(1, 3)))
    ]

    def instead(position: int, full: Full) -> Entry:
        outcome = f"{position} {full.used}"
        row = draft(tenant_id, kind, call_id=call_id, outcome=outcome, event_id="instead")
        return Entry(row, run_step=grown if kind == "intent" else None)

    return Reservations(wanted, 1_000, instead)


def pin(tenant_id: str, version: int) -> tuple[PinRow]:
    """A pin of the only tool, which may not be the version that fits."""
    return (PinRow(tenant_id, "calc", "add", version, "{}", "hash", 1),)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """Any entry: few call ids and low guards, so that they collide often."""
    call_id, tenant_id = draw(st.sampled_from("abcd")), draw(st.sampled_from(TENANTS))
    kind = draw(st.sampled_from(["intent", "intent", "outcome", "outcome", "refusal", "bad"]))
    if kind == "outcome":
        return outcome(call_id, tenant_id)
    if kind == "refusal":
        return Entry(draft(tenant_id, kind, call_id=call_id))
    entry = intent(
        call_id,
        tenant_id,
        epoch=draw(st.sampled_from([None, 0, 0, 1])),
        run_version=draw(st.sampled_from([None, None, 0, 1])),
        run_step=draw(st.sampled_from([None, grown])),
        reserves=draw(st.none() | reservations(call_id, tenant_id)),
        puts=draw(st.just(()) | st.builds(pin, st.just(tenant_id), st.sampled_from([1, 1, 2]))),
    )
    if kind == "bad":
        entry.receipt = entry.receipt._replace(run_id="\ud800")
    return entry


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(entries(), max_size=8), max_size=4))
def test_a_batch_equals_its_entries_one_at_a_time(batches: list[list[Entry]]) -> None:
    together, singly = memory(), memory()
    for batch in batches:
        answers = record(together, batch)
        expected = [record(singly, [entry])[0] for entry in batch]
        assert [type(a) for a in answers] == [type(a) for a in expected]
        for answer, wanted in zip(answers, expected, strict=True):
            if isinstance(answer, NoRoom) and isinstance(wanted, NoRoom):  # entries are made anew
                answer, wanted = answer._replace(entry=NOTHING), wanted._replace(entry=NOTHING)
            assert answer == wanted or isinstance(wanted, Unrecordable)
    tables = "receipts call_facts open_intent chain_head run_head limit_bucket tool_pin"
    for table in tables.split():
        query = f"SELECT * FROM {table} ORDER BY 1, 2"
        assert together.execute(query).fetchall() == singly.execute(query).fetchall()
    for tenant_id in TENANTS:
        rows = together.execute(SQL["receipts"], (tenant_id, 0, 1_000)).fetchall()
        head = together.execute(SQL["head"], (tenant_id,)).fetchone()
        if head is not None:
            assert_chain([ReceiptRow(*row) for row in rows], HeadRow(*head))
    together.close()
    singly.close()


def test_a_plain_batch_takes_the_straight_way() -> None:
    raw = memory()
    raw.execute("BEGIN")
    answers = drive(raw, record_group(SQL, [intent("a"), intent("b")], seal)).answers
    assert [type(answer) for answer in answers] == [Recorded, Recorded]
    raw.close()
