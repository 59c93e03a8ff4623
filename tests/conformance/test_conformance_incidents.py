"""Incidents over each engine: raised, moved on record, packed, and proven; tampering is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from conformance_setup import OpenStore
from incident_scene import Queue, Scene, signing_key

from sidecar.ledger.anchors import TrustedKey
from sidecar.ledger.checkpoint_file import Kept
from sidecar.ledger.fence import Standing
from sidecar.ledger.stored_chain import verify_store
from sidecar.soc.alert_states import Move
from sidecar.soc.incident_entries import Stamp, Told, told_entry
from sidecar.soc.incidents import IncidentRefused
from sidecar.soc.model import Evidence
from sidecar.soc.pack_form import Pack
from sidecar.soc.pack_verdict import PackVerdict, pack_verdict, read_pack
from sidecar.soc.packing import held_against, packed
from storage import SqlStore
from storage.driver import fetch
from storage.statements import for_engine

Tampering = tuple[str, str]


@pytest.fixture
async def scene(open_it: OpenStore) -> Scene:
    """On each engine in turn."""
    return Scene.on(await open_it())


async def verdict_of(scene: Scene, incident: str, tenant: str = "acme") -> PackVerdict:
    return pack_verdict(await packed(scene.store, scene.clock, tenant, incident))


async def done(scene: Scene, incident: str, move: Move, text: str = "") -> int | None:
    moved = await scene.incidents.move_incident(
        "acme", incident, move, actor="person:ana", text=text
    )
    return moved.seq


async def test_an_incident_is_proven_from_its_opening_to_its_end(scene: Scene) -> None:
    incident = await scene.trouble()
    opened = await verdict_of(scene, incident)
    assert (opened.faults, opened.receipts, opened.wanted) == ([], 7, 7)
    assert any("later hits belong to alert" in one for one in opened.not_shown)
    await scene.sign()
    assert await done(scene, incident, Move.ACKNOWLEDGE, "looking") == 8
    assert await done(scene, incident, Move.NOTE, "the agent was told to") == 9
    (_, second) = await scene.alerts(incident)
    moved = await scene.incidents.move_alert(
        "acme", second.alert_id, Move.CLOSE, actor="person:bob", text="as asked"
    )
    assert (moved.alert.state, moved.seq) == ("closed", 10)
    assert await done(scene, incident, Move.CONTAIN, "frozen") == 11
    assert await done(scene, incident, Move.CLOSE, "the agent is gone") == 12
    assert [one.state for one in await scene.alerts(incident)] == ["closed", "closed"]
    key = TrustedKey(scene.key.public)
    pack = await packed(scene.store, scene.clock, "acme", incident)
    found = pack_verdict(pack, (), [key])
    assert (found.faults, found.receipts, found.wanted) == ([], 12, 12)
    assert (found.signed_size, found.head_size) == (7, 12)
    assert not any("later hits" in one for one in found.not_shown), "its end commits to them too"
    offline = pack_verdict(read_pack(pack.model_dump_json().encode()), (), [key])
    assert offline == found
    stranger = pack_verdict(pack, (), [TrustedKey(signing_key().public)])
    assert stranger.faults == ["nothing of it is signed by a key that is trusted"]


async def test_every_move_has_its_receipt_and_audit_row_and_only_once(scene: Scene) -> None:
    incident = await scene.trouble()
    await done(scene, incident, Move.ACKNOWLEDGE, "looking")
    assert await done(scene, incident, Move.ACKNOWLEDGE) is None, "it stood so already"
    await done(scene, incident, Move.CLOSE, "done")
    assert await done(scene, incident, Move.CLOSE) is None
    assert await done(scene, incident, Move.NOTE, "written up") is not None
    with pytest.raises(IncidentRefused) as refused:
        await done(scene, incident, Move.ACKNOWLEDGE)
    assert refused.value.code == "wrong_state" and refused.value.next_step
    rows = await scene.store.audit_events("acme", 99, 99, subject=f"incident:{incident}")
    told = [(one.action, one.actor, one.reason) for one in rows if one.action != "alerts.raised"]
    assert told == [
        ("incident.note", "person:ana", "written up"),
        ("incident.close", "person:ana", "done"),
        ("incident.acknowledge", "person:ana", "looking"),
    ]
    for row in rows:
        (receipt,) = await scene.store.receipts("acme", row.seq - 1, 1)
        assert (receipt.kind, receipt.action, receipt.approver) == (
            "control", row.action, row.actor,
        )  # fmt: skip
        assert receipt.args_commitment and receipt.resource == f"incident:{incident}"


async def test_what_happens_after_an_end_is_a_new_alert_in_a_new_incident(scene: Scene) -> None:
    incident = await scene.trouble()
    await done(scene, incident, Move.CLOSE)
    late = await scene.notice(scene.hit(await scene.refuse("late")))
    (opened,) = late.opened_incidents
    assert opened.incident_id > incident and len(late.raised) == 1
    before = await verdict_of(scene, incident)
    assert before.faults == [] and (await verdict_of(scene, opened.incident_id)).faults == []


async def test_another_tenants_alerts_and_incidents_are_not_there(scene: Scene) -> None:
    incident = await scene.trouble()
    (alert, _) = await scene.alerts(incident)
    with pytest.raises(IncidentRefused) as refused:
        await packed(scene.store, scene.clock, "rival", incident)
    assert refused.value.code == "unknown_incident"
    with pytest.raises(IncidentRefused) as refused:
        await scene.incidents.move_incident("rival", incident, Move.CLOSE, actor="person:eve")
    assert refused.value.code == "unknown_incident"
    with pytest.raises(IncidentRefused) as refused:
        await scene.incidents.move_alert("rival", alert.alert_id, Move.CLOSE, actor="person:eve")
    assert refused.value.code == "unknown_alert"
    assert (await scene.store.head("rival")).seq == 0


async def test_a_move_waits_for_a_fence_and_gives_way_to_a_hit(scene: Scene) -> None:
    incident = await scene.trouble()
    scene.fence.stand(Standing("f", "x", "", 0))
    with pytest.raises(IncidentRefused) as refused:
        await done(scene, incident, Move.CLOSE)
    assert refused.value.code == "store_fenced"
    scene.fence.lift()
    submit, hits = Queue.submit, []

    async def overtaken(queue: Queue, entry: Any) -> Any:
        if Queue.submit is not submit:
            Queue.submit = submit  # type: ignore[method-assign]
            hits.append(await scene.refuse("meanwhile"))
            await scene.notice(scene.hit(*hits))
        return await submit(queue, entry)

    Queue.submit = overtaken  # type: ignore[method-assign]
    try:
        assert await done(scene, incident, Move.CLOSE, "anyway") is not None
    finally:
        Queue.submit = submit  # type: ignore[method-assign]
    (first, _) = await scene.alerts(incident)
    assert (first.state, first.hits) == ("closed", 3), "worked out anew from the row by then"
    assert (await verdict_of(scene, incident)).faults == []


#: In the store: what is changed, and what the verdict says of it.
TAMPERINGS: dict[str, Tampering] = {
    "a receipt's field": (
        "UPDATE receipts SET tool = 'mail/read' WHERE tenant_id = $1 AND seq = 2",
        "receipt 2: its content does not match its receipt_hash",
    ),
    "a receipt's hash": (
        f"UPDATE receipts SET receipt_hash = '{'ab' * 32}' WHERE tenant_id = $1 AND seq = 2",
        "receipt 2: its content does not match its receipt_hash",
    ),
    "a receipt that is gone": (
        "DELETE FROM receipts WHERE tenant_id = $1 AND seq = 2",
        "receipt 2 is missing",
    ),
    "arguments committed to": (
        "UPDATE call_facts SET arguments = '{}' WHERE tenant_id = $1 AND seq = 6",
        "its arguments are not those its args_commitment stands for",
    ),
    "the facts of a call": (
        "UPDATE call_facts SET facts = replace(facts, '\"risk\"', '\"Risk\"')"
        " WHERE tenant_id = $1 AND seq = 1",
        "its facts are not those its salt stands for",
    ),
    "what an alert was raised for": (
        "UPDATE alert SET evidence = replace(evidence, '\"acme-1\"', '\"acme-3\"')"
        " WHERE tenant_id = $1",
        "the receipts it was raised for were changed since",
    ),
    "an alert's agent": (
        "UPDATE alert SET agent_id = 'innocent' WHERE tenant_id = $1",
        "its agent was changed since",
    ),
    "an alert's reason": (
        "UPDATE alert SET reason = 'nothing' WHERE tenant_id = $1",
        "its reason was changed since",
    ),
    "an alert's severity": (
        "UPDATE alert SET severity = 'info' WHERE tenant_id = $1",
        "its severity was lowered",
    ),
    "an alert's state": (
        "UPDATE alert SET state = 'acknowledged' WHERE tenant_id = $1",
        "is acknowledged, by its receipts it is closed",
    ),
    "an alert that is gone": (
        "DELETE FROM alert WHERE tenant_id = $1 AND detection = 'runaway'",
        "of the incident is missing",
    ),
    "an alert that was taken out": (
        "UPDATE alert SET incident_id = '' WHERE tenant_id = $1 AND detection = 'runaway'",
        "of the incident is missing",
    ),
    "later receipts after the end": (
        'UPDATE alert SET evidence = replace(evidence, \'"left_out":0\', \'"left_out":0,'
        "\"joined\":[]') WHERE tenant_id = $1 AND detection = 'deny-storm'",
        "were changed after its end",
    ),
    "an incident's state": (
        "UPDATE incident SET state = 'open' WHERE tenant_id = $1",
        "the incident is open, by its receipts it is closed",
    ),
    "an incident that nobody contained": (
        "UPDATE incident SET state = 'contained' WHERE tenant_id = $1",
        "the incident is contained, by its receipts it is closed",
    ),
    "an incident's severity": (
        "UPDATE incident SET severity = 'low' WHERE tenant_id = $1",
        "severity is not the highest of its alerts",
    ),
    "whose incident it is": (
        "UPDATE incident SET agent_id = 'helper' WHERE tenant_id = $1",
        "the incident names another agent than its alerts",
    ),
    "an incident's run": (
        "UPDATE incident SET run_id = 'another' WHERE tenant_id = $1",
        "the incident names another run than its alerts",
    ),
    "when an incident was opened": (
        "UPDATE incident SET opened_us = opened_us + 60000000 WHERE tenant_id = $1",
        "the incident was opened by none of its alerts at the time it says",
    ),
    "an incident's title": (
        "UPDATE incident SET title = 'nothing of note' WHERE tenant_id = $1",
        "the incident's title is not what the alert said that opened it",
    ),
    "notes": (
        "UPDATE incident SET notes = replace(notes, 'looking', 'ignoring') WHERE tenant_id = $1",
        "its notes are not those that receipts tell of",
    ),
    "an audit row": (
        "UPDATE audit_event SET actor = 'person:eve' WHERE tenant_id = $1 AND seq = 8",
        "receipt 8 is not of incident.acknowledge as it is told",
    ),
    "when, in an audit row": (
        "UPDATE audit_event SET at_us = at_us - 60000000 WHERE tenant_id = $1 AND seq = 9",
        "incident.close: its receipt 9 is of another time",
    ),
    "when, in an audit row, to come": (
        "UPDATE audit_event SET at_us = at_us + 60000000 WHERE tenant_id = $1 AND seq = 8",
        "incident.acknowledge: its receipt 8 is of another time",
    ),
    "when, in a note": (
        "UPDATE incident SET notes = replace(notes, '\"at_us\":1', '\"at_us\":2') "
        "WHERE tenant_id = $1",
        "its notes are not those that receipts tell of",
    ),
    "why, in an audit row": (
        "UPDATE audit_event SET reason = 'ignoring' WHERE tenant_id = $1 AND seq = 8",
        "the audit row 8 is not what its receipt commits to",
    ),
    "an audit row that is gone": (
        "DELETE FROM audit_event WHERE tenant_id = $1 AND seq = 8",
        "its notes are not those that receipts tell of",
    ),
    "all that was said of a move": (
        "DELETE FROM audit_event WHERE tenant_id = $1 AND seq = 9",
        "receipt 9 tells of 'incident.close', and no audit row does",
    ),
    "the audit row of the raising": (
        "DELETE FROM audit_event WHERE tenant_id = $1 AND seq = 6",
        "no receipt tells that it was raised",
    ),
}


async def tamper(store: SqlStore, sql: str) -> None:
    def script() -> Any:
        yield from fetch(for_engine(sql, store.facts().engine), "acme")

    await store._driver.transaction(script, ["acme"])


async def test_tampering_with_the_store_is_found_wherever_it_is(open_it: OpenStore) -> None:
    """One scene, one change after the other, each undone."""
    scene = Scene.on(await open_it())
    incident = await scene.trouble()
    await scene.sign()
    await done(scene, incident, Move.ACKNOWLEDGE, "looking")
    await done(scene, incident, Move.CLOSE, "done")
    assert (await verdict_of(scene, incident)).faults == [], "positive control"
    tables = ("receipts", "call_facts", "alert", "incident", "audit_event")
    kept = {table: await _rows(scene.store, table) for table in tables}
    for what, (sql, expected) in TAMPERINGS.items():
        await tamper(scene.store, sql)
        faults = (await verdict_of(scene, incident)).faults
        assert any(expected in one for one in faults), (what, faults)
        for table in tables:
            await _put_back(scene.store, table, kept[table])
        assert (await verdict_of(scene, incident)).faults == [], what


async def test_what_verifies_the_store_names_alerts_and_incidents_that_stand_otherwise(
    open_it: OpenStore,
) -> None:
    scene = Scene.on(await open_it())
    incident = await scene.trouble()
    await scene.notice(scene.hit(await scene.refuse("c90"), detection="first-use", agent="other"))
    kept = {table: await _rows(scene.store, table) for table in ("alert", "incident")}
    edits = {
        "UPDATE alert SET state = 'closed' WHERE tenant_id = $1": "its state is 'closed', and by",
        "UPDATE alert SET agent_id = 'x' WHERE tenant_id = $1": "its agent is 'x', and by receipt",
        "UPDATE alert SET incident_id = '' WHERE tenant_id = $1": "its incident_id is '', and by",
        "UPDATE alert SET reason = 'x' WHERE tenant_id = $1": "its reason_sha256 is",
        "UPDATE alert SET severity = 'info' WHERE tenant_id = $1": "its severity is 'info', and by",
        "UPDATE alert SET subject = '[]' WHERE tenant_id = $1": "its subject is '[]', and by",
        "UPDATE alert SET first_us = 5 WHERE tenant_id = $1": "its first_us is '5', and by",
        "UPDATE alert SET evidence = '{}' WHERE tenant_id = $1": "its evidence_sha256 is",
        """UPDATE alert SET notes = '[{"did":"close"}]' WHERE tenant_id = $1""": "its moves_sha256",
        "DELETE FROM alert WHERE tenant_id = $1 AND detection = 'first-use'": "is not in the store",
        "UPDATE incident SET state = 'closed' WHERE tenant_id = $1": "its state is 'closed', and",
        "DELETE FROM incident WHERE tenant_id = $1": f"incident {incident!r} is not in the store",
    }
    for sql, expected in edits.items():
        await tamper(scene.store, sql)
        found = await _strays(scene.store)
        assert any(expected in one for one in found), (sql, found)
        for table, rows in kept.items():
            await _put_back(scene.store, table, rows)
        assert await _strays(scene.store) == [], sql
    for move in (Move.ACKNOWLEDGE, Move.CLOSE):
        await done(scene, incident, move, "looking")
        assert await _strays(scene.store) == [], move
    await tamper(scene.store, "UPDATE alert SET notes = replace(notes, 'with', 'without') "
                 "WHERE tenant_id = $1")  # fmt: skip
    assert all(
        "its moves_sha256 is" in one for one in await _strays(scene.store)
    ) and await _strays(scene.store)
    for table, rows in kept.items():
        await _put_back(scene.store, table, rows)
    found = await _strays(scene.store)
    assert [one for one in found if "'open', and by" in one and "'closed'" in one] == found != []


async def _strays(store: SqlStore) -> list[str]:
    (report,) = await verify_store(store)
    assert report.fault is None
    return list(report.strays)


async def test_a_pack_that_was_edited_does_not_hold(scene: Scene) -> None:
    incident = await scene.trouble()
    await done(scene, incident, Move.ACKNOWLEDGE, "looking")
    whole = (await packed(scene.store, scene.clock, "acme", incident)).model_dump()
    raised = next(at for at, one in enumerate(whole["changes"]) if not one["before"])
    edits: list[tuple[tuple[str | int, ...], Any, str]] = [
        (("alerts", 0, "tenant"), "rival", "said to be another's"),
        (("alerts", 0, "incident_id"), "0" * 32, "said to be another's"),
        (("incident", "tenant"), "rival", "said to be another's"),
        (("incident", "notes", 0, "at_us"), 5, "its notes are not those"),
        (("changes", raised, "before"), "x", "is not what its receipt commits to"),
        (("changes", raised, "at_us"), 5, ""),
        (("changes", raised, "at_us"), 2**52, "is of another time"),
    ]
    for path, value, expected in edits:
        pack = orjson.loads(orjson.dumps(whole))
        holder = pack
        for step in path[:-1]:
            holder = holder[step]
        holder[path[-1]] = value
        found = pack_verdict(read_pack(orjson.dumps(pack)))
        if expected:
            assert any(expected in one for one in found.faults), (path, found.faults)
        else:
            assert found.faults or any("is of a later time" in one for one in found.not_shown)
    assert pack_verdict(read_pack(orjson.dumps(whole))).faults == [], "positive control"


async def _rows(store: SqlStore, table: str) -> list[Any]:
    sql = for_engine(f"SELECT * FROM {table} WHERE tenant_id = $1", store.facts().engine)
    return await store._driver.fetch(sql, "acme", tenant="acme")


async def _put_back(store: SqlStore, table: str, rows: list[Any]) -> None:
    def script() -> Any:
        yield from fetch(for_engine(f"DELETE FROM {table} WHERE tenant_id = $1", engine), "acme")
        for row in rows:
            holes = ", ".join(f"${at}" for at in range(1, len(row) + 1))
            yield from fetch(for_engine(f"INSERT INTO {table} VALUES ({holes})", engine), *row)

    engine = store.facts().engine

    await store._driver.transaction(script, ["acme"])


async def test_what_no_receipt_tells_of_rests_on_the_last_one_before_if_there_is_any(
    scene: Scene,
) -> None:
    at_us = scene.clock.now_us()
    nothing = scene.hit(Evidence(0, "", "", at_us), detection="store-refusing", agent="")
    (incident,) = (await scene.notice(nothing)).opened_incidents
    found = await verdict_of(scene, incident.incident_id)
    assert (found.faults, found.receipts, found.wanted) == ([], 1, 1)
    last = (await scene.refuse("c1"))._replace(call_id="", at_us=at_us + 10)
    await scene.notice(scene.hit(last, detection="chain-break", agent=""))
    found = await verdict_of(scene, incident.incident_id)
    assert (found.faults, found.receipts, found.wanted) == ([], 3, 3)


async def test_what_was_not_looked_for_is_said(scene: Scene) -> None:
    incident = await scene.trouble()
    await done(scene, incident, Move.CLOSE)
    pack = await packed(scene.store, scene.clock, "acme", incident, looked_at_max=2, leaves_max=3)
    found = pack_verdict(pack)
    assert found.faults == [] and pack.trees == []
    assert "the tree of the head at 8 is not kept, and too large to be made here" in found.not_shown
    assert any("stand in the chain: the pack has no proof" in one for one in found.not_shown)


async def test_what_was_archived_or_erased_is_said_and_no_fault(scene: Scene) -> None:
    incident = await scene.trouble()
    await tamper(
        scene.store, "UPDATE call_facts SET arguments = NULL WHERE tenant_id = $1 AND seq = 6"
    )
    found = await verdict_of(scene, incident)
    assert found.faults == []
    assert any("(alerts.raised) commits to: that was erased" in one for one in found.not_shown)
    pack = await packed(scene.store, scene.clock, "acme", incident)
    gone = pack.model_copy(
        update={
            "archived": [1, 2],
            "receipts": [one for one in pack.receipts if one.receipt["seq"] not in (1, 2)],
        }
    )
    found = pack_verdict(gone)
    assert found.faults == [] and (found.receipts, found.wanted) == (5, 7)
    assert any("receipts 1, 2: archived" in one for one in found.not_shown)


async def test_a_pack_without_facts_has_none_of_the_calls_and_holds(scene: Scene) -> None:
    incident = await scene.trouble()
    whole = await packed(scene.store, scene.clock, "acme", incident)
    bare = await packed(scene.store, scene.clock, "acme", incident, with_facts=False)
    assert "risk" in whole.model_dump_json() and "risk" not in bare.model_dump_json()
    assert pack_verdict(bare).faults == pack_verdict(whole).faults == []


async def test_checkpoints_kept_elsewhere_show_a_cut_and_a_rewritten_chain(scene: Scene) -> None:
    incident = await scene.trouble()
    await scene.sign()
    heads = [Kept(*_read(one.note)) for one in await _checkpoints(scene.store)]
    assert await held_against(scene.store, "acme", heads) == (7, [])
    cut = [Kept(_grown(kept, 99), kept.note) for kept in heads]
    assert (await held_against(scene.store, "acme", cut))[1] == [
        "CUT: 99 receipts were signed, and there are 7"
    ]
    other = [Kept(_grown(kept, 7, b"x" * 32), kept.note) for kept in heads]
    assert (await held_against(scene.store, "acme", other))[1] == [
        "REWRITTEN: the first 7 receipts are not what was signed"
    ]
    pack = await packed(scene.store, scene.clock, "acme", incident)
    assert any("FORKED" in one for one in pack_verdict(pack, other).faults)
    await scene.refuse("one-more")
    later = await packed(scene.store, scene.clock, "acme", incident, size=3)
    assert [tree.size for tree in later.trees] == [3, 7, 8]
    assert pack_verdict(later).faults == []
    await tamper(scene.store, "UPDATE receipts SET tool = 'x' WHERE tenant_id = $1 AND seq = 2")
    _, (fault,) = await held_against(scene.store, "acme", heads)
    assert "receipt 2 of 'acme' is not what its hash says" in fault


def _read(note: str) -> Any:
    from sidecar.ledger.checkpoint import read_signed

    return read_signed(note)


def _grown(kept: Kept, size: int, root: bytes | None = None) -> Any:
    from dataclasses import replace

    return replace(kept.checkpoint, size=size, root=root or kept.checkpoint.root)


async def _checkpoints(store: SqlStore) -> Any:
    from sidecar.ledger.proofs import list_checkpoints

    return await list_checkpoints(store, "acme")


def _set(*path: Any, to: Any) -> Callable[[Any], None]:
    def change(value: Any) -> None:
        for key in path[:-1]:
            value = value[key]
        value[path[-1]] = to

    return change


#: In a file: what is changed, and what the verdict says of it.
FORGERIES: dict[str, tuple[Callable[[Any], None], str]] = {
    "a receipt": (_set("receipts", 0, "receipt", "tool", to="x"), "does not match its receipt"),
    "a proof": (_set("receipts", 0, "proofs", "7", 0, to="ab" * 32), "not in the tree of 7"),
    "no proof": (_set("receipts", 0, "proofs", to={}), "there is no proof of their place"),
    "a root": (_set("trees", 0, "root", to="ab" * 32), "not of the tree that it is put beside"),
    "a note": (_set("trees", 0, "note", to="nothing"), "its checkpoint:"),
    "between trees": (_set("consistency", 0, 0, to="ab" * 32), "does not go on from that of 7"),
    "no history": (_set("consistency", to=[]), "the proofs between them do not fit"),
    "the tenant": (_set("tenant", to="rival"), "it belongs to tenant 'acme'"),
    "what it rests on": (
        _set("alerts", 0, "evidence", "raised", 0, "receipt_hash", to="ab" * 32),
        "is not the one it rests on",
    ),
    "its time": (
        _set("alerts", 0, "evidence", "joined", 0, "at_us", to=5), "the time it is named with",
    ),
    "archived": (
        lambda pack: (pack["receipts"].pop(0), pack["archived"].append(99)), "receipt 1 is missing",
    ),
    "archived out of turn": (
        lambda pack: (pack["receipts"].pop(1), pack["archived"].append(2)),
        "receipt 2 is said to be archived, and receipt 1 is here",
    ),
    "no changes, for they are archived": (
        lambda pack: pack.update(changes=[], archived=[99]), "no receipt tells that it was raised",
    ),
    "twice": (
        lambda pack: pack["receipts"].append(pack["receipts"][0]), "receipt 1 stands twice",
    ),
    "a change": (_set("changes", 0, "after", to="{}"), "is not what its receipt commits to"),
    "no changes": (_set("changes", to=[]), "no receipt tells that it was raised"),
}  # fmt: skip


async def test_a_forged_pack_is_found_without_any_store(scene: Scene) -> None:
    incident = await scene.trouble()
    await scene.sign()
    await done(scene, incident, Move.ACKNOWLEDGE)
    pack = await packed(scene.store, scene.clock, "acme", incident)
    trusted = [TrustedKey(scene.key.public)]
    text = pack.model_dump_json()
    assert pack_verdict(read_pack(text.encode()), (), trusted).faults == [], "positive control"
    for what, (forge, expected) in FORGERIES.items():
        forged = json.loads(text)
        forge(forged)
        faults = pack_verdict(read_pack(json.dumps(forged).encode()), (), trusted).faults
        assert any(expected in one for one in faults), (what, faults)


async def test_a_made_up_receipt_in_a_form_of_its_own_is_a_fault(scene: Scene) -> None:
    incident = await scene.trouble()
    for after in ({"alerts": 5}, {"alerts": [5], "linked": {}}, {"alerts": [], "linked": 5}):
        told = Told("x", "alerts.raised", f"incident:{incident}", None, after, "")
        stamp = Stamp(scene.clock.new_id(), b"s" * 16, scene.clock.now_us())
        await Queue(scene.store).submit(told_entry("acme", told, stamp, ()))
    faults = (await verdict_of(scene, incident)).faults
    assert faults == [
        f"receipt {seq} tells of alerts in no form of this sidecar's" for seq in (8, 9, 10)
    ]


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"form": "other"}'])
def test_what_is_no_pack_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(ValueError, match="it is no evidence pack") as refused:
        read_pack(data)
    said = str(refused.value)
    assert "[type=" not in said and "\n" not in said
    if data == b"{}":
        assert said.startswith("it is no evidence pack: form: Field required (and ")


def test_a_pack_takes_no_member_that_nobody_verifies() -> None:
    assert Pack.model_config["extra"] == "forbid"
