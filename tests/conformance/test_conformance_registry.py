"""Agents, keys, approvals and audit events in the store: changed with a receipt, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import asyncpg
import pytest
from conformance_setup import OpenStore, assert_chain, draft, intent, seal

from storage import SqlStore
from storage.record_batch import CHANGED
from storage.records import (
    Declined,
    Entry,
    Full,
    NoRoom,
    Recorded,
    Reservation,
    Reservations,
    Room,
    Stale,
    Ticket,
    Unrecordable,
)
from storage.standing import AgentRow, ApprovalRow, AuditRow, KeyRow

AGENT = AgentRow("acme", "coder", 1, "frozen", '{"team":"x"}', "5e" * 32, 7)
KEY = KeyRow("acme", "k1", 1, "active", '{"person":"ana"}', "1e" * 32, 0, 7)
ASKED = ApprovalRow(
    "acme", "a1", 1, "pending", "ac" * 32, "coder", "c0", "shop/refund", "[]", "{}", "[]",
    5, 9, 5, "",
)  # fmt: skip
Step = Callable[[ApprovalRow | None, int], ApprovalRow | str]


def change(*rows: AgentRow | KeyRow | ApprovalRow, audit: AuditRow | None = None) -> Entry:
    """An entry that stands or falls with its rows."""
    entry = Entry(draft(rows[0].tenant_id, "control", action="agent.freeze"), puts=rows)
    entry.audit = audit
    return entry


def spent_by(call_id: str) -> Step:
    """Spends an approved one; of any other it says its state."""

    def step(row: ApprovalRow | None, _at_us: int) -> ApprovalRow | str:
        if row is None:
            return "unknown"
        if row.state != "approved":
            return row.state
        return row._replace(version=row.version + 1, state="spent", spent_by=call_id)

    return step


def spending(call_id: str, step: Step | None = None, approval_id: str = "a1") -> Entry:
    """An intent that goes ahead by a yes, and is a refusal without."""
    entry = intent(call_id)
    instead = Entry(draft("acme", "refusal", call_id=call_id))
    entry.ticket = Ticket(approval_id, 6, step or spent_by(call_id), lambda _why: instead)
    return entry


async def test_rows_are_there_after_opening_again(open_it: OpenStore) -> None:
    store = await open_it()
    audit = AuditRow("acme", 0, 7, "ana", "agent.freeze", "coder", '"active"', '"frozen"', "why")
    (answer,) = await store.record([change(AGENT, KEY, ASKED, audit=audit)], seal)
    assert isinstance(answer, Recorded)
    await store.close()
    store = await open_it()
    assert await store.agents("acme") == [AGENT] and await store.agents("rival") == []
    assert await store.api_keys("acme") == [KEY] and await store.api_keys("rival") == []
    assert await store.approval("acme", "a1") == ASKED
    assert await store.approval("rival", "a1") is None
    assert await store.approval_of_action("acme", "ac" * 32) == ASKED
    assert await store.approval_of_action("acme", "ad" * 32) is None
    assert await store.open_approvals("acme", "", 10) == [ASKED]
    assert await store.open_approvals("acme", "a1", 10) == []
    assert await store.approvals_before("acme", "a2", 10) == [ASKED]
    assert await store.count_open_approvals("acme") == 1
    assert await store.count_open_approvals("acme", ASKED.agent_id) == 1
    assert await store.count_open_approvals("acme", f"{ASKED.agent_id}x") == 0
    assert await store.approval_rejected_last("acme", "ac" * 32) is None
    assert await store.audit_events("acme", 99, 10) == [audit._replace(seq=answer.seq)]
    assert await store.audit_events("acme", 99, 10, actor="ana", subject="coder")
    assert await store.audit_events("acme", 99, 10, actor="bob") == []
    assert await store.audit_events("acme", 99, 10, action="agent.revoke") == []
    assert await store.audit_events("acme", answer.seq, 10) == []


async def test_the_last_one_given_of_an_agent_and_a_tool(store: SqlStore) -> None:
    states = ("spent", "approved", "expired", "rejected", "pending")
    for number, state in enumerate(states):
        other = ASKED._replace(approval_id=f"b{number}", state=state, action_sha256=f"{number}")
        await store.record([change(other)], seal)
    look = store.approval_granted_before
    found = await look("acme", "b9", ASKED.agent_id, ASKED.tool, 10)
    assert found is not None and found.approval_id == "b1"
    found = await look("acme", "b1", ASKED.agent_id, ASKED.tool, 10)
    assert found is not None and found.approval_id == "b0"
    assert await look("acme", "b0", ASKED.agent_id, ASKED.tool, 10) is None
    assert await look("acme", "b9", ASKED.agent_id, ASKED.tool, 3) is None, "so many are looked at"
    assert await look("acme", "b9", "other", ASKED.tool, 10) is None
    assert await look("acme", "b9", ASKED.agent_id, "other/tool", 10) is None
    assert await look("rival", "b9", ASKED.agent_id, ASKED.tool, 10) is None


async def test_a_row_that_changed_meanwhile_is_not_overwritten(store: SqlStore) -> None:
    await store.record([change(AGENT)], seal)
    late = change(AGENT._replace(state="active"))
    good = change(KEY)
    refused, kept = await store.record([late, good], seal)
    assert refused == Unrecordable(CHANGED) and isinstance(kept, Recorded)
    assert await store.agents("acme") == [AGENT]
    (answer,) = await store.record([change(AGENT._replace(version=2, state="active"))], seal)
    assert isinstance(answer, Recorded), "positive control"
    assert (await store.agents("acme"))[0].state == "active"


async def test_several_that_put_different_rows_share_a_batch(store: SqlStore) -> None:
    answers = await store.record([change(AGENT), change(KEY), change(ASKED)], seal)
    assert all(isinstance(answer, Recorded) for answer in answers)
    assert_chain(await store.receipts("acme", 0, 9), await store.head("acme"))


async def test_an_action_waits_once(store: SqlStore) -> None:
    again = ASKED._replace(approval_id="a2")
    first, second = await store.record([change(ASKED), change(again)], seal)
    assert isinstance(first, Recorded) and isinstance(second, Unrecordable)
    over = ASKED._replace(version=2, state="expired")
    (answer,) = await store.record([change(over, again)], seal)
    assert isinstance(answer, Recorded), "the one that is over makes room in the same entry"
    assert await store.approval_of_action("acme", ASKED.action_sha256) == again


async def test_raising_the_epoch_makes_decisions_made_before_stale(store: SqlStore) -> None:
    freeze = change(AGENT)
    freeze.raises_epoch = True
    before, late, knowing = intent("c1"), intent("c2"), intent("c3")
    before.epoch, late.epoch, knowing.epoch = 0, 0, 1
    answers = await store.record([before, freeze, late, knowing], seal)
    assert [type(answer) for answer in answers] == [Recorded, Recorded, Stale, Recorded]
    assert (await store.head("acme")).epoch == 1 and await store.epochs() == {"acme": 1}
    (answer,) = await store.record([late], seal)
    assert isinstance(answer, Stale) and answer.epoch == 1


async def test_a_change_that_does_not_fit_raises_no_epoch(store: SqlStore) -> None:
    await store.record([change(AGENT)], seal)
    again = change(AGENT)
    again.raises_epoch = True
    (answer,) = await store.record([again], seal)
    assert isinstance(answer, Unrecordable)
    assert (await store.head("acme")).epoch == 0


async def test_e2_a_yes_is_spent_once_also_within_a_batch(store: SqlStore) -> None:
    await store.record([change(ASKED._replace(state="approved"))], seal)
    first, second, third = await store.record(
        [spending("c1"), spending("c2"), spending("c3", approval_id="no")], seal
    )
    assert isinstance(first, Recorded)
    assert isinstance(second, Declined) and second.why == "spent" and second.recorded is not None
    assert isinstance(third, Declined) and third.why == "unknown" and third.approval is None
    row = await store.approval("acme", "a1")
    assert row is not None and (row.state, row.spent_by, row.version) == ("spent", "c1", 2)
    kinds = [row.kind for row in await store.receipts("acme", 1, 9)]
    assert kinds == ["intent", "refusal", "refusal"]
    assert [row.call_id for row in await store.open_intents("node", 9)] == ["c1"]


async def test_e2_of_spenders_at_two_nodes_one_wins(open_it: OpenStore) -> None:
    one = await open_it()
    two = await open_it() if one.has_leases else one
    for number in range(8):
        digest, name = f"{number:064}", f"a{number}"
        ready = ASKED._replace(state="approved", approval_id=name, action_sha256=digest)
        await one.record([change(ready)], seal)
        answers = await asyncio.gather(
            *(
                store.record([spending(f"c{number}-{n}", approval_id=name)], seal)
                for n, store in enumerate((one, two, one, two))
            )
        )
        won = [answer for (answer,) in answers if isinstance(answer, Recorded)]
        assert len(won) == 1
        assert all(isinstance(a, Recorded | Declined) for (a,) in answers)
    assert_chain(await one.receipts("acme", 0, 99), await one.head("acme"))


async def test_without_room_a_yes_is_not_spent(store: SqlStore) -> None:
    await store.record([change(ASKED._replace(state="approved"))], seal)
    entry = spending("c1")
    instead = Entry(draft("acme", "refusal", call_id="c1"))
    no_room = Reservation("limit", "b", lambda _state, _at: Full(3, 4))
    entry.reserves = Reservations([no_room], 6, lambda _position, _full: instead)
    (answer,) = await store.record([entry], seal)
    assert isinstance(answer, NoRoom)
    row = await store.approval("acme", "a1")
    assert row is not None and row.state == "approved"

    again = spending("c2")
    room = Reservation("limit", "b", lambda _state, _at: Room("1", 9))
    again.reserves = Reservations([room], 6, lambda _position, _full: instead)
    (answer,) = await store.record([again], seal)
    assert isinstance(answer, Recorded), "positive control"


async def test_a_ticket_that_is_declined_may_leave_nothing(store: SqlStore) -> None:
    vote = change(KEY)
    vote.puts = ()
    vote.ticket = Ticket("a1", 6, lambda _row, _at: "unknown", lambda _why: None)
    before, declined, after = await store.record([intent("c1"), vote, intent("c2")], seal)
    assert isinstance(before, Recorded) and isinstance(after, Recorded)
    assert declined == Declined("unknown", None, None, None)
    assert (await store.head("acme")).seq == 2


async def test_e3_the_servers_clock_counts_where_there_is_one(store: SqlStore) -> None:
    seen: list[int] = []

    def step(row: ApprovalRow | None, at_us: int) -> ApprovalRow | str:
        seen.append(at_us)
        return "expired"

    await store.record([spending("c1", step)], seal)
    if store.has_leases:
        assert seen[0] > 1_700_000_000_000_000
    else:
        assert seen == [6]


@pytest.mark.parametrize("store_url", ["postgres"], indirect=True)
@pytest.mark.parametrize("table", ["agent", "api_key", "approval", "audit_event"])
async def test_g3_rows_of_another_tenant_are_behind_the_second_wall(
    open_it: OpenStore, store_url: str, table: str
) -> None:
    store = await open_it()
    audit = AuditRow("acme", 0, 7, "ana", "agent.freeze", "coder", "", "", "")
    await store.record([change(AGENT, KEY, ASKED, audit=audit)], seal)
    connection = await asyncpg.connect(store_url)
    try:
        await connection.execute("SELECT set_config('aegis.tenants', 'rival', false)")
        assert await connection.fetch(f"SELECT * FROM {table}") == []
        await connection.execute("SELECT set_config('aegis.tenants', 'acme', false)")
        assert len(await connection.fetch(f"SELECT * FROM {table}")) == 1, "positive control"
    finally:
        await connection.close()


async def test_the_last_no_of_an_action_is_found(store: SqlStore) -> None:
    no = ASKED._replace(state="rejected")
    later = no._replace(approval_id="a2")
    await store.record([change(no, later, ASKED._replace(approval_id="a3"))], seal)
    assert await store.approval_rejected_last("acme", "ac" * 32) == later
    assert await store.approval_rejected_last("rival", "ac" * 32) is None
    assert await store.approval_rejected_last("acme", "ad" * 32) is None


@pytest.mark.parametrize("store_url", ["postgres"], indirect=True)
async def test_what_another_process_decided_is_found_in_one_question(
    open_it: OpenStore, store_url: str
) -> None:
    one, two = await open_it(), await open_it()
    other = ASKED._replace(approval_id="a2", action_sha256="ad" * 32)
    rival = ASKED._replace(tenant_id="rival")
    await one.record([change(ASKED, other), change(rival)], seal)
    wanted = [("acme", "a1"), ("acme", "a2"), ("rival", "a1"), ("acme", "a9")]
    assert await one.approvals_decided(wanted) == []
    await two.record([change(other._replace(version=2, state="approved"))], seal)
    assert await one.approvals_decided(wanted) == [("acme", "a2")]
