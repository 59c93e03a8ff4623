"""What is noticed, contained and told: put one version at a time, with an entry or for itself."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from conformance_setup import OpenStore, draft, intent, seal

from storage import SqlStore
from storage.record_batch import CHANGED
from storage.records import CallFactsRow, Entry, Recorded, Unrecordable
from storage.watch_rows import (
    AlertRow,
    ContainmentRow,
    DeliveryRow,
    IncidentRow,
    OpenDeliveries,
    WatchMark,
    WatchMemory,
)

FAR_US = 4_000_000_000_000_000
MARK = WatchMark("acme", "detections", 1, "n1", 0, FAR_US, 5)
MEMORY = WatchMemory("acme", "first-use", "coder", 1, "[]", FAR_US)
ALERT = AlertRow(
    "acme", "a1", 1, "open", "deny-storm", "high", '["coder"]', "coder", "r1", "i1",
    "coder: 5 refusals", 5, "[]", "[]", 1, 5, 9, 5,
)  # fmt: skip
INCIDENT = IncidentRow("acme", "i1", 1, "open", "high", "coder", "r1", "storm", "[]", 1, 5, 5)
CONTAINMENT = ContainmentRow(
    "acme", "k1", 1, "active", "block-tool", "mail/send", "why", "ana", "i1", "", 1, FAR_US, 1
)
DELIVERY = DeliveryRow("acme", "d1", 1, "waiting", "ops", "alert", 3, "{}", 0, 7, "", 1, 1)


def noticing(*rows: object, call_id: str = "c1") -> Entry:
    """A change of state with its rows."""
    return Entry(draft("acme", "control", call_id=None, event_id=call_id), puts=rows)  # type: ignore[arg-type]


async def test_rows_are_put_with_an_entry_and_there_after_opening_again(
    open_it: OpenStore,
) -> None:
    store = await open_it()
    rows = (MARK, MEMORY, ALERT, INCIDENT, CONTAINMENT, DELIVERY)
    (answer,) = await store.record([noticing(*rows)], seal)
    assert isinstance(answer, Recorded)
    await store.close()
    store = await open_it()
    assert await store.watch_mark("acme", "detections") == MARK
    assert await store.watch_memories("acme", ("", ""), 9) == [MEMORY]
    assert await store.watch_memories("acme", ("first-use", "coder"), 9) == []
    assert await store.alert("acme", "a1") == ALERT
    assert await store.alerts_quiet("acme", 8, 9) == [ALERT]
    assert await store.alerts_quiet("acme", 9, 9) == []
    assert await store.alerts_of_incident("acme", "i1", "", 9) == [ALERT]
    assert await store.incident("acme", "i1") == INCIDENT
    assert await store.open_incidents("acme", 9) == [INCIDENT]
    assert await store.containment("acme", "k1") == CONTAINMENT
    assert await store.active_containments("acme") == [CONTAINMENT]
    assert await store.delivery("acme", "d1") == DELIVERY
    assert await store.deliveries_due("acme", "ops", 7, 9) == [DELIVERY]
    assert await store.deliveries_due("acme", "ops", 6, 9) == []
    assert await store.deliveries_due("acme", "other", 7, 9) == []
    assert await store.count_open_deliveries("acme") == [
        OpenDeliveries("acme", "ops", "waiting", 1, 1)
    ]


async def test_nothing_of_another_tenant_is_seen(store: SqlStore) -> None:
    rows = (MARK, MEMORY, ALERT, INCIDENT, CONTAINMENT, DELIVERY)
    await store.record([noticing(*rows)], seal)
    assert await store.watch_mark("rival", "detections") is None
    assert await store.watch_memories("rival", ("", ""), 9) == []
    assert await store.alert("rival", "a1") is None
    assert await store.alerts_before("rival", "z", 9) == []
    assert await store.alerts_of_incident("rival", "i1", "", 9) == []
    assert await store.incident("rival", "i1") is None
    assert await store.incidents_before("rival", "z", 9) == []
    assert await store.active_containments("rival") == []
    assert await store.containments_before("rival", "z", 9) == []
    assert await store.delivery("rival", "d1") is None
    assert await store.deliveries_before("rival", "z", 9) == []
    assert await store.count_open_deliveries("rival") == []
    assert await store.recorded_after("rival", 0, 9) == []


async def test_lists_are_filtered_and_paged_newest_first(store: SqlStore) -> None:
    alerts = [ALERT._replace(alert_id=f"a{n}", incident_id="") for n in range(4)]
    alerts[2] = alerts[2]._replace(severity="low", state="closed", agent_id="bob")
    incidents = [INCIDENT._replace(incident_id=f"i{n}") for n in range(3)]
    incidents[0] = incidents[0]._replace(state="closed")
    contained = [
        CONTAINMENT._replace(containment_id=f"k{n}", subject=f"t{n}", state=state)
        for n, state in enumerate(("undone", "active", "expired"))
    ]
    told = [
        DELIVERY._replace(delivery_id=f"d{n}", state=state)
        for n, state in enumerate(("dead", "delivered", "waiting"))
    ]
    await store.record([noticing(*alerts, *incidents, *contained, *told)], seal)

    def ids(rows: object) -> list[str]:
        return [row[1] for row in rows]  # type: ignore[attr-defined]

    assert ids(await store.alerts_before("acme", "z", 2)) == ["a3", "a2"]
    assert ids(await store.alerts_before("acme", "a2", 9)) == ["a1", "a0"]
    assert ids(await store.alerts_before("acme", "z", 9, agent="bob")) == ["a2"]
    assert ids(await store.alerts_before("acme", "z", 9, severity="low")) == ["a2"]
    assert ids(await store.alerts_before("acme", "z", 9, state="open")) == ["a3", "a1", "a0"]
    assert ids(await store.alerts_before("acme", "z", 9, detection="other")) == []
    assert await store.alerts_of_incident("acme", "", "", 9) == []
    assert await store.tally_alerts("acme") == [("closed", "low", 1), ("open", "high", 3)]
    assert await store.tally_incidents("acme") == [("closed", "high", 1), ("open", "high", 2)]
    assert await store.tally_alerts("rival") == await store.tally_incidents("rival") == []
    assert ids(await store.incidents_before("acme", "z", 9, state="closed")) == ["i0"]
    assert ids(await store.incidents_before("acme", "i2", 1)) == ["i1"]
    assert ids(await store.open_incidents("acme", 1)) == ["i2"]
    assert ids(await store.active_containments("acme")) == ["k1"]
    assert ids(await store.containments_before("acme", "z", 9, state="undone")) == ["k0"]
    assert ids(await store.containments_before("acme", "z", 9, action="freeze-agent")) == []
    assert ids(await store.deliveries_before("acme", "z", 9, state="dead")) == ["d0"]
    assert ids(await store.deliveries_before("acme", "d2", 9, sink="ops")) == ["d1", "d0"]


async def test_the_same_thing_is_contained_once(store: SqlStore) -> None:
    await store.record([noticing(CONTAINMENT)], seal)
    again = CONTAINMENT._replace(containment_id="k2")
    other = again._replace(subject="mail/read")
    first, second = await store.record([noticing(again), noticing(other, call_id="c2")], seal)
    assert isinstance(first, Unrecordable)
    assert isinstance(second, Recorded), "positive control"
    undone = CONTAINMENT._replace(version=2, state="undone")
    fresh = CONTAINMENT._replace(containment_id="k3")
    answers = [await store.record([noticing(row)], seal) for row in (undone, fresh)]
    assert all(isinstance(answer, Recorded) for (answer,) in answers)


async def test_an_alert_is_raised_once_however_often_it_is_tried(store: SqlStore) -> None:
    moved = MARK._replace(seq=7)
    await store.record([noticing(ALERT, moved)], seal)
    assert await store.record([noticing(ALERT, moved)], seal) == [Unrecordable(CHANGED)]
    joined = ALERT._replace(version=2, hits=6, last_us=6)
    (answer,) = await store.record([noticing(joined, moved._replace(version=2, seq=8))], seal)
    assert isinstance(answer, Recorded), "positive control"
    assert await store.alert("acme", "a1") == joined


async def test_rows_are_put_for_themselves_all_or_none(store: SqlStore) -> None:
    assert await store.put_rows("acme", [MARK, MEMORY, DELIVERY])
    head = await store.head("acme")
    assert head.seq == 0, "no receipt says so"
    behind = MARK._replace(seq=3)
    assert not await store.put_rows("acme", [MEMORY._replace(version=2, state="[1]"), behind])
    assert await store.watch_memories("acme", ("", ""), 9) == [MEMORY], "none of them"
    ahead = MARK._replace(version=2, seq=3)
    assert await store.put_rows("acme", [ahead]), "positive control"
    assert await store.watch_mark("acme", "detections") == ahead
    assert not await store.put_rows("rival", [ahead._replace(version=3)]), "a tenant's own only"


async def test_of_two_nodes_that_watch_one_goes_on(open_it: OpenStore) -> None:
    one = await open_it()
    two = await open_it() if one.has_leases else one
    await one.put_rows("acme", [MARK])
    for version in range(2, 8):
        came = await asyncio.gather(
            *(
                node.put_rows("acme", [MARK._replace(version=version, node_id=name)])
                for node, name in ((one, "n1"), (two, "n2"))
            )
        )
        assert sorted(came) == [False, True]


async def test_events_come_with_their_facts(store: SqlStore) -> None:
    with_facts = intent("c1")
    with_facts.facts = CallFactsRow("acme", 0, "ab", '{"x":1}', '{"f":2}')
    await store.record([with_facts, intent("c2"), intent("c3")], seal)
    first, second = await store.recorded_after("acme", 0, 2)
    assert first.facts == CallFactsRow("acme", 1, "ab", '{"x":1}', '{"f":2}')
    assert (first.receipt.seq, second.receipt.seq) == (1, 2)
    assert [e.receipt.call_id for e in await store.recorded_after("acme", 2, 9)] == ["c3"]
    assert [first.receipt] == await store.receipts("acme", 0, 1)


async def test_where_every_chain_ends_is_known_in_one_look(store: SqlStore) -> None:
    assert await store.heads_seen() == {}
    await store.record([intent("c1"), intent("c2"), intent("c3", "rival")], seal)
    heads = await store.heads_seen()
    assert {tenant: seen.seq for tenant, seen in heads.items()} == {"acme": 2, "rival": 1}
    assert heads["acme"].receipt_hash == (await store.head("acme")).receipt_hash


async def test_what_control_receipts_are_about_is_told_by_stretch(store: SqlStore) -> None:
    about = [
        Entry(draft("acme", "control", resource=f"alert:{n}" if n != 2 else None)) for n in range(4)
    ]
    await store.record([*about[:2], intent("c1"), *about[2:]], seal)
    assert await store.control_subjects("acme", 0, 9) == [
        (1, "alert:0"), (2, "alert:1"), (5, "alert:3"),
    ]  # fmt: skip
    assert await store.control_subjects("acme", 1, 4) == [(2, "alert:1")]
    assert await store.control_subjects("rival", 0, 9) == []


async def test_what_says_nothing_any_more_is_forgotten(store: SqlStore) -> None:
    old = MEMORY._replace(subject="old", until_us=5)
    told = DELIVERY._replace(delivery_id="d0", state="delivered", changed_at_us=4)
    fresh = told._replace(delivery_id="d2", changed_at_us=9)
    await store.put_rows("acme", [MEMORY, old, DELIVERY, told, fresh])
    foreign = old._replace(tenant_id="rival")
    await store.put_rows("rival", [foreign])
    assert await store.forget_memories("acme", 6) == 1
    assert await store.forget_memories("acme", 6) == 0
    assert await store.watch_memories("acme", ("", ""), 9) == [MEMORY]
    assert await store.watch_memories("rival", ("", ""), 9) == [foreign]
    assert await store.forget_delivered("acme", 5) == 1
    assert [row.delivery_id for row in await store.deliveries_before("acme", "z", 9)] == [
        "d2",
        "d1",
    ]


async def test_what_is_due_is_found_across_tenants_and_counted(store: SqlStore) -> None:
    foreign = DELIVERY._replace(tenant_id="rival", due_us=9)
    dead = DELIVERY._replace(delivery_id="d2", state="dead", created_us=4)
    await store.put_rows("acme", [DELIVERY, dead, DELIVERY._replace(delivery_id="d3", sink="b")])
    await store.put_rows("rival", [foreign])
    assert await store.sinks_due(7) == [("acme", "b"), ("acme", "ops")]
    assert await store.sinks_due(9) == [("acme", "b"), ("acme", "ops"), ("rival", "ops")]
    assert await store.count_every_open_delivery() == [
        OpenDeliveries("acme", "b", "waiting", 1, 1),
        OpenDeliveries("acme", "ops", "dead", 1, 4),
        OpenDeliveries("acme", "ops", "waiting", 1, 1),
        OpenDeliveries("rival", "ops", "waiting", 1, 1),
    ]


async def test_the_least_severe_and_oldest_come_first_where_some_must_go(store: SqlStore) -> None:
    rows = [
        DELIVERY._replace(delivery_id=f"d{n}", severity=severity, created_us=created_us)
        for n, (severity, created_us) in enumerate(((4, 1), (1, 9), (1, 2), (0, 8)))
    ]
    await store.put_rows("acme", [*rows, DELIVERY._replace(delivery_id="d9", state="dead")])
    least = [row.delivery_id for row in await store.deliveries_least("acme", 3)]
    assert least == ["d3", "d2", "d1"]


async def test_what_was_given_up_is_forgotten_by_age_or_number(store: SqlStore) -> None:
    dead = [DELIVERY._replace(delivery_id=f"d{n}", state="dead", changed_at_us=n) for n in range(4)]
    await store.put_rows("acme", [*dead, DELIVERY._replace(delivery_id="d8", changed_at_us=0)])
    assert await store.forget_dead("acme", 1) == 1
    assert await store.forget_dead("rival", 9) == 0
    assert await store.forget_oldest_dead("acme", 2) == 2
    left = [row.delivery_id for row in await store.deliveries_before("acme", "z", 9)]
    assert left == ["d8", "d3"]


async def test_the_clock_of_the_store_goes_forward(store: SqlStore) -> None:
    first = await store.clock_us()
    assert 0 < first <= await store.clock_us()


@pytest.mark.parametrize("store_url", ["postgres"], indirect=True)
async def test_g3_rows_of_another_tenant_are_behind_the_second_wall(
    open_it: OpenStore, store_url: str
) -> None:
    store = await open_it()
    await store.record([noticing(MARK, MEMORY, ALERT, INCIDENT, CONTAINMENT, DELIVERY)], seal)
    connection = await asyncpg.connect(store_url)
    try:
        for table in ("watch_mark", "watch_memory", "alert", "incident", "containment", "delivery"):
            await connection.execute("SELECT set_config('aegis.tenants', 'rival', false)")
            assert await connection.fetch(f"SELECT * FROM {table}") == []
            await connection.execute("SELECT set_config('aegis.tenants', 'acme', false)")
            assert len(await connection.fetch(f"SELECT * FROM {table}")) == 1, "positive control"
    finally:
        await connection.close()
