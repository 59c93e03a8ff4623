"""Erasure on every engine: what alerts quoted goes from every table, and what stays still holds."""

from __future__ import annotations

import hmac
import json

import pytest
from erasing_scene import WRITTEN, Quoted, delivery_kinds, hit_of, intent_of, quote, tables_with

from sidecar.clock import Clock
from sidecar.control.erasing import Erased, Erasure, ErasureOvertaken, Marked, finish_erasing
from sidecar.control.erasing_search import Found
from sidecar.ledger.care import ERASE_FACTS
from sidecar.ledger.chain import seal
from sidecar.ledger.receipt import blank_receipt
from sidecar.ledger.stored_chain import verify_store
from sidecar.soc.model import ERASED, Evidence
from sidecar.soc.pack_verdict import pack_verdict
from sidecar.soc.packing import packed
from storage import SqlStore
from storage.erasing import (
    ERASING,
    ErasedAlert,
    ErasedChange,
    ErasedContainment,
    ErasedIncident,
    ErasedMemory,
    Erasing,
)
from storage.records import CallFactsRow, Entry

CLOCK = Clock()
ANN, BOB = "ann-4711-secret", "bob-4712-secret"
#: Where the text of an alert gets to.
COPIED = {
    "call_facts", "audit_event", "alert", "incident", "containment", "delivery", "watch_memory",
}  # fmt: skip


async def called(store: SqlStore, call_id: str, agent: str, user: str, secret: str) -> Evidence:
    """A call that was refused, with a secret among its arguments."""
    arguments, salt = f'{{"text":"{secret}"}}', bytes(16)
    receipt = blank_receipt(
        "acme", "refusal", event_id=CLOCK.new_id(), call_id=call_id, ts_us=CLOCK.now_us(),
        agent_id=agent,
    )._replace(
        user_id=user, tool="mail/send", upstream="mail", decision="deny",
        args_commitment=hmac.digest(salt, arguments.encode(), "sha256").hex(),
    )  # fmt: skip
    facts = CallFactsRow("acme", 0, salt.hex(), arguments, "{}")
    await store.record([Entry(receipt, facts)], seal)
    return await intent_of(store, call_id)


async def two_quoted(store: SqlStore) -> tuple[Quoted, Quoted]:
    """Ann's call and Bob's, by two agents, quoted in one pass; Ann's rests on Bob's too."""
    bob = await called(store, "c-bob", "mailer", "bob", BOB)
    ann = await called(store, "c-ann", "coder", "ann", ANN)
    one, other = await quote(
        store,
        CLOCK,
        hit_of(bob, BOB, "mailer", "acme", detection="leak"),
        hit_of(ann, ANN, "coder", "acme", bob, detection="leak"),
    )
    return other, one


async def about(store: SqlStore, kind: str, name: str) -> Marked:
    return await Erasure(store, CLOCK).about("acme", kind, name)


async def erased_of(store: SqlStore, kind: str, name: str) -> Erased:
    return await Erasure(store, CLOCK).erase(await about(store, kind, name))


async def found_of(store: SqlStore, kind: str, name: str) -> Found:
    return await Erasure(store, CLOCK).found(await about(store, kind, name))


async def faults_of(store: SqlStore, incident_id: str) -> tuple[list[str], list[str]]:
    found = pack_verdict(await packed(store, CLOCK, "acme", incident_id))
    return found.faults, found.not_shown


@pytest.mark.parametrize(("kind", "name"), [
    ("agent", "coder"), ("user", "ann"), ("call", "c-ann"),
])  # fmt: skip
async def test_f7_what_an_alert_quoted_goes_from_every_table(
    store: SqlStore, kind: str, name: str
) -> None:
    ann, bob = await two_quoted(store)
    for secret in (ANN, BOB):
        assert await tables_with(store, secret) == COPIED, "positive control"
    for one in (ann, bob):
        assert (await faults_of(store, one.incident_id))[0] == []
    kinds = await delivery_kinds(store)
    erased = await erased_of(store, kind, name)
    assert erased[1:] == (0, 0, 1, len(kinds) // 2)
    assert await tables_with(store, ANN) == set()
    assert await tables_with(store, BOB) == COPIED
    assert await delivery_kinds(store) == kinds[::2]
    # Names, states, numbers and what people wrote stay; nothing that holds is called forged.
    (alert,) = await store.alerts_of_incident("acme", ann.incident_id, "", 9)
    assert alert._replace(reason="", notes="", version=0) == ann.alert._replace(
        reason="", notes="", version=0, changed_at_us=alert.changed_at_us
    )
    assert alert.reason == ERASED
    incident = await store.incident("acme", ann.incident_id)
    assert incident is not None and incident.title == ERASED and WRITTEN in incident.notes
    faults, not_shown = await faults_of(store, ann.incident_id)
    assert faults == []
    assert f"what alert {alert.alert_id} said of the call it quotes: that was erased" in not_shown
    faults, not_shown = await faults_of(store, bob.incident_id)
    assert faults == [] and not any("it quotes" in one for one in not_shown)
    assert [one.fault for one in await verify_store(store)] == [None]
    told = [one for one in await store.receipts("acme", 0, 99) if one.action == "store.erase_facts"]
    assert [one.resource for one in told] == [
        f"call_facts of one {kind}: {erased.facts}, alerts: 1"
    ]


async def test_f7_what_was_erased_and_is_said_to_be_there_is_a_fault(store: SqlStore) -> None:
    """The word alone is no way to change an alert: its receipt commits to another."""
    ann, _ = await two_quoted(store)
    row = await store.alert("acme", ann.alert.alert_id)
    assert row is not None
    text = ErasedAlert("acme", row.alert_id, row.version, ERASED, row.notes)
    assert await Erasing(store).erase_texts("acme", [text]) == 1
    faults, _ = await faults_of(store, ann.incident_id)
    assert faults == [f"alert {row.alert_id}: its reason was changed since"]


async def test_f7_an_older_erasure_that_left_what_alerts_quoted_is_made_good(
    store: SqlStore,
) -> None:
    await two_quoted(store)
    seqs = [one.seq for one in await store.receipts("acme", 0, 99) if one.call_id == "c-ann"]
    assert await Erasing(store).erase("acme", seqs) == 1
    assert await tables_with(store, ANN) == COPIED
    erased = await erased_of(store, "user", "ann")
    assert (erased.facts, erased.alerts) == (0, 1)
    assert await tables_with(store, ANN) == set()
    assert await erased_of(store, "user", "ann") == Erased()


async def test_f7_whose_call_is_quoted_is_not_guessed(store: SqlStore) -> None:
    """A call whose receipt is in an archive has no user here; an agent is named on the alert."""
    ann, _ = await two_quoted(store)

    async def without_receipts(tenant: str, after_seq: int, limit: int) -> list[object]:
        return []

    kept, store.receipts = store.receipts, without_receipts  # type: ignore[method-assign,assignment]
    found = await found_of(store, "user", "ann")
    assert (found.alerts, found.unknown) == (0, 2)
    found = await found_of(store, "agent", "coder")
    assert (found.alerts, found.unknown) == (1, 0)
    store.receipts = kept  # type: ignore[method-assign]
    row = await store.alert("acme", ann.alert.alert_id)
    assert row is not None
    assert await store.put_rows("acme", [row._replace(version=row.version + 1, evidence="[]")])
    found = await found_of(store, "call", "c-ann")
    assert (found.alerts, found.unknown) == (0, 1)


async def test_texts_are_put_only_where_rows_stand_as_they_were_looked_at(store: SqlStore) -> None:
    ann, _ = await two_quoted(store)
    alert = await store.alert("acme", ann.alert.alert_id)
    incident = await store.incident("acme", ann.incident_id)
    (containment, *_) = await store.containments_before("acme", "z", 9)
    (owed, *_) = await store.watch_memories("acme", ("", ""), 9)
    change = (await store.audit_events("acme", 99, 1))[0]
    assert alert is not None and incident is not None
    erasing = Erasing(store, rows_a_transaction=2)
    for tenant, behind, changed in (("beta", 0, 0), ("acme", 1, 1), ("acme", 0, 5), ("acme", 0, 1)):
        texts = [
            ErasedAlert(tenant, alert.alert_id, alert.version - behind, "x", "[]"),
            ErasedIncident(tenant, incident.incident_id, incident.version - behind, "x", "[]"),
            ErasedContainment(
                tenant, containment.containment_id, containment.version - behind, "x"
            ),
            ErasedMemory(tenant, owed.detection, owed.subject, owed.version - behind, "{}"),
            ErasedChange(tenant, change.seq, "", "{}", "x"),
        ]
        assert await erasing.erase_texts(tenant, texts) == changed
    after = await store.alert("acme", ann.alert.alert_id)
    assert after == alert._replace(version=alert.version + 1, reason="x", notes="[]")
    assert (await store.audit_events("acme", 99, 1))[0] == change._replace(
        before_state="", after_state="{}", reason="x"
    )


async def test_there_is_one_erasure_at_a_time_and_who_comes_later_ends_it(store: SqlStore) -> None:
    await two_quoted(store)
    ann, bob = await about(store, "user", "ann"), await about(store, "user", "bob")
    erasing, erasure = Erasing(store), Erasure(store, CLOCK)
    assert await erasing.unfinished() == "" and await erasure.interrupted() is None
    assert await erasing.begin(ann.text()) == ann.text()
    assert await erasing.begin(bob.text()) == ann.text()
    await erasing.end(bob.text())
    assert await erasure.interrupted() == ann
    await erasure.erase(bob)
    assert await erasing.unfinished() == ""
    assert await tables_with(store, ANN) == await tables_with(store, BOB) == set()


@pytest.mark.parametrize("dies_at", [
    "erase", "erase_approvals", "erase_deliveries", "erase_texts", "end",
])  # fmt: skip
async def test_f7_an_erasure_that_died_anywhere_is_ended_by_the_next_start(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    await two_quoted(store)

    async def die(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Erasing, dies_at, die)
        with pytest.raises(KeyboardInterrupt):
            await erased_of(store, "agent", "coder")
    actions = [one.action for one in await store.receipts("acme", 0, 99)]
    assert actions.count("store.erase_facts") == 1, "it is on record"
    assert bool(await tables_with(store, ANN)) == (dies_at != "end"), "and not done"
    assert await tables_with(store, "coder") >= {"store_state"}, "which is kept in mind"
    await finish_erasing(store, CLOCK)
    assert await tables_with(store, ANN) == set()
    states = "SELECT name, value FROM store_state"
    assert ERASING not in dict(await store._driver.fetch(states, tenant="acme"))
    head = await store.head("acme")
    await finish_erasing(store, CLOCK)
    assert await store.head("acme") == head, "once is enough"
    assert [one.fault for one in await verify_store(store)] == [None]


@pytest.mark.parametrize(("keeps", "told"), [(True, "cli:ana"), (False, "sidecar")])
async def test_g10_who_asked_for_an_erasure_is_on_record_also_where_a_start_ends_it(
    store: SqlStore, keeps: bool, told: str
) -> None:
    """A mark that was made before marks had it names nobody."""
    await two_quoted(store)
    marked = await Erasure(store, CLOCK, "cli:ana").about("acme", "user", "ann")
    said = marked.text()
    if not keeps:
        said = json.dumps({name: one for name, one in json.loads(said).items() if name != "actor"})
    assert await Erasing(store).begin(said) == said
    await finish_erasing(store, CLOCK)
    (receipt,) = [one for one in await store.receipts("acme", 0, 99) if one.action == ERASE_FACTS]
    (event,) = await store.audit_events("acme", 99, 9, action=ERASE_FACTS)
    assert (event.seq, event.actor, receipt.approver) == (receipt.seq, told, told)
    assert await Erasing(store).unfinished() == ""


async def test_what_keeps_coming_is_said_and_stays_marked(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await two_quoted(store)

    async def nothing(*_: object) -> int:
        return 0

    monkeypatch.setattr(Erasing, "erase_texts", nothing)
    with pytest.raises(ErasureOvertaken) as caught:
        await erased_of(store, "user", "ann")
    assert caught.value.code == "erasure_overtaken" and caught.value.next_step
    marked = await Erasure(store, CLOCK).interrupted()
    assert marked is not None and (marked.kind, marked.name) == ("user", "ann")


async def test_f7_what_an_agent_does_after_it_was_erased_is_another_matter(store: SqlStore) -> None:
    """An erasure that is gone on with late, or while the agent works, ends where it began."""
    await two_quoted(store)
    wanted = await about(store, "agent", "coder")
    assert await Erasing(store).begin(wanted.text()) == wanted.text()
    later = await called(store, "c-later", "coder", "ann", "later-4713-secret")
    hit = hit_of(later, "later-4713-secret", "coder", "acme", detection="later")
    await quote(store, CLOCK, hit)
    before = await tables_with(store, "later-4713-secret")
    await finish_erasing(store, CLOCK)
    assert await tables_with(store, ANN) == set()
    after = await tables_with(store, "later-4713-secret")
    assert {"call_facts", "alert", "containment", "delivery"} <= after <= before
    assert await Erasure(store, CLOCK).interrupted() is None
