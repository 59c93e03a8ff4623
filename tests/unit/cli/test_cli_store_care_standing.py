"""Rows written behind the program's back: whoever verifies the store is told what stands there."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from store_care_setup import CLOCK, call, filled, reports, store_command, tampered

from sidecar.identity.change_entry import Change, change_entry, shown_agent, shown_key
from sidecar.identity.containment_words import shown_containment
from sidecar.identity.profiles import KeyProfile
from sidecar.ledger.pin_entries import (
    ACCEPTED,
    DRIFTED,
    FORGOTTEN,
    PINNED,
    PinChange,
    pin_entry,
)
from sidecar.ledger.standing import LastSaid
from sidecar.model import Role
from storage.records import Entry
from storage.standing import AgentRow, AuditRow, KeyRow, PinRow
from storage.watch_rows import ContainmentRow

ACTOR = "socket:ana"
PROFILE = KeyProfile("bo", frozenset({Role.VIEWER}))
CODER = AgentRow("acme", "coder", 1, "active", '{"team": "web"}', "ab" * 32, 7)
HELPER = AgentRow("acme", "helper", 1, "active", "{}", "", 7)
KEY = KeyRow("acme", "k1", 1, "active", PROFILE.text(), "cd" * 32, 0, 7)
BLOCK = ContainmentRow(
    "acme", "c1", 1, "active", "block-tool", "shop/refund", "odd", ACTOR, "", "", 5, 0, 7
)
FREEZE = BLOCK._replace(containment_id="c2", action="freeze-agent", subject="helper", until_us=99)


def pin(definition: str, seen: str = "", version: int = 1) -> PinRow:
    hashes = [sha256(text.encode()).hexdigest() if text else "" for text in (definition, seen)]
    return PinRow("acme", "mail", "send", version, definition, hashes[0], 5, seen, hashes[1], 6)


def changed(action: str, subject: str, after: Any, put: Any, *also: AgentRow) -> Entry:
    return change_entry(
        CLOCK, Change("acme", ACTOR, action, subject, None, after, "odd", put, also)
    )


def pins(what: str, row: PinRow) -> Entry:
    return pin_entry(CLOCK, "acme", "mail", None, [PinChange(what, row)], {}, ACTOR)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Agents, a key, a pin and containments, which changes on record made."""
    gone, held = KEY._replace(version=2, state="revoked"), HELPER._replace(state="frozen")
    later = CODER._replace(version=2, state="frozen")
    ended = BLOCK._replace(version=2, state="undone")
    entries = [
        changed("agent.register", "agent:coder", shown_agent(CODER), CODER),
        changed("agent.freeze", "agent:coder", shown_agent(later), later),
        changed("key.create", "key:k1", shown_key(KEY, PROFILE), KEY),
        changed("key.revoke", "key:k1", shown_key(gone, PROFILE), gone),
        changed("containment.begin", "containment:c1", shown_containment(BLOCK), BLOCK),
        changed("containment.undo", "containment:c1", shown_containment(ended), ended),
        changed("containment.begin", "agent:helper", shown_containment(FREEZE), FREEZE, held),
        pins(PINNED, pin("{}")),
        pins(DRIFTED, pin("{}", '{"a":1}', 2)),
        pins(ACCEPTED, pin('{"a":1}', "", 3)),
        pins(DRIFTED, pin('{"a":1}', '{"b":1}', 4)),
    ]
    return filled(tmp_path / "aegis.db", call(1), *([one] for one in entries))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ("UPDATE agent SET state = 'active' WHERE agent_id = 'coder'",
         "agent 'coder': its state is 'active', and by receipt 4 'frozen'"),
        ("UPDATE agent SET profile = '{\"team\": \"ops\"}' WHERE agent_id = 'coder'",
         "agent 'coder': its profile is '{\"team\":\"ops\"}', and by receipt 4"),
        ("UPDATE agent SET state = 'active' WHERE agent_id = 'helper'",
         "agent 'helper': its state is 'active', and by receipt 9 'frozen'"),
        ("DELETE FROM agent WHERE agent_id = 'coder'",
         "agent 'coder' is not in the store, and receipt 4 tells of it"),
        ("UPDATE api_key SET state = 'active'",
         "key 'k1': its state is 'active', and by receipt 6 'revoked'"),
        ("UPDATE api_key SET profile = replace(profile, 'viewer', 'admin')",
         "key 'k1': its roles is '[\"admin\"]', and by receipt 6"),
        ("UPDATE api_key SET key_id = 'k2'",
         "key 'k2' stands in the store, and no change tells of it"),
        ("UPDATE containment SET state = 'undone' WHERE containment_id = 'c2'",
         "containment 'c2': its state is 'undone', and by receipt 9 'active'"),
        ("UPDATE containment SET until_us = 6 WHERE containment_id = 'c2'",
         "containment 'c2': its until_us is '6', and by receipt 9 '99'"),
        ("UPDATE containment SET subject = 'coder' WHERE containment_id = 'c2'",
         "containment 'c2': its subject is 'coder', and by receipt 9 'helper'"),
        ("UPDATE containment SET reason = 'x' WHERE containment_id = 'c2'",
         "containment 'c2': its reason is 'x', and by receipt 9 'odd'"),
        ("UPDATE containment SET incident_id = 'i9' WHERE containment_id = 'c2'",
         "containment 'c2': its incident_id is 'i9', and by receipt 9 'null'"),
        ("DELETE FROM containment WHERE containment_id = 'c2'",
         "containment 'c2' is not in the store, and receipt 9 tells of it"),
        ("UPDATE tool_pin SET definition = seen, sha256 = seen_sha256",
         "the pin of tool 'mail/send': its sha256 is"),
        ("UPDATE tool_pin SET definition = replace(definition, 'a', 'c')",
         "the pin of tool 'mail/send': its sha256 is 'of another definition"),
        ("DELETE FROM tool_pin",
         "the pin of tool 'mail/send' is not in the store, and receipt 12 tells of it"),
    ],
)  # fmt: skip
def test_what_stands_in_a_store_otherwise_than_on_record_is_named(
    store: Path, capsys: pytest.CaptureFixture[str], edit: str, said: str
) -> None:
    (report,) = reports(store)
    assert (report.fault, report.strays) == (None, ()), "positive control"
    assert store_command("verify", store) == 0
    assert "was the store written to" not in capsys.readouterr().out
    tampered(store, f"{edit}{' AND' if 'WHERE' in edit else ' WHERE'} tenant_id = ?", "acme")
    (report,) = reports(store)
    assert report.fault is None and any(one.startswith(said) for one in report.strays), report
    assert store_command("verify", store) == 1
    assert said in capsys.readouterr().out
    assert store_command("backup", store, store.with_name("copy.db")) == 0
    assert said in capsys.readouterr().out


def test_a_pin_that_was_forgotten_may_be_gone_and_may_not_be_there(
    store: Path, tmp_path: Path
) -> None:
    one = pin("{}")
    path = filled(
        tmp_path / "other.db", [pins(PINNED, one)], [pins(FORGOTTEN, one)], [pins(PINNED, one)],
        [pins(FORGOTTEN, one)],
    )  # fmt: skip
    (report,) = reports(path)
    assert (report.fault, report.strays) == (None, ())
    tampered(
        path, "INSERT INTO tool_pin VALUES (?, 'mail', 'send', 1, '{}', 'ab', 5, '', '', 0)", "acme"
    )
    (report,) = reports(path)
    assert report.strays == (
        "the pin of tool 'mail/send' stands in the store, and no change tells of it",
    )


def test_of_a_chain_that_was_cut_only_what_changed_since_is_judged() -> None:
    rows = {"coder": {"state": "active"}, "old": {"state": "active"}}
    for is_whole, found in ((True, 2), (False, 1)):
        said = LastSaid(is_whole=is_whole)
        after = json.dumps({"state": "frozen"})
        said.take(AuditRow("acme", 9, 5, ACTOR, "agent.freeze", "agent:coder", "", after, ""))
        assert len(list(said.strays("agent", rows))) == found


@pytest.mark.parametrize("value", [5, "x", None, [5], {"a": 5}, [[]]])
def test_whatever_somebody_wrote_into_changes_whose_facts_are_erased_stops_nothing(
    value: Any,
) -> None:
    said = LastSaid(is_whole=True)
    names = ("alerts", "linked", "incidents", "action", "agent", "state", "evidence_sha256", "a")
    for action, subject in (
        ("alerts.raised", "alerts"), ("containment.begin", "agent:a"), ("agent.freeze", "agent:a"),
        ("incident.close", "incident:i"), ("tools.pinned", "upstream:u"), ("key.create", "key:k"),
    ):  # fmt: skip
        after = json.dumps(dict.fromkeys(names, value))
        said.take(AuditRow("acme", 1, 5, ACTOR, action, subject, "", after, ""))
        said.take(AuditRow("acme", 2, 5, ACTOR, action, subject, "", json.dumps(value), ""))
    for kind in ("agent", "key", "alert", "incident", "containment"):
        assert all(isinstance(one, str) for one in said.strays(kind, {"a": {"state": "active"}}))


def test_how_an_agent_stands_after_a_containment_of_it_ended_is_not_guessed() -> None:
    said = LastSaid(is_whole=True)
    for seq, verb in enumerate(("begin", "expire"), 1):
        after = json.dumps(shown_containment(FREEZE))
        action = f"containment.{verb}"
        said.take(AuditRow("acme", seq, 5, ACTOR, action, "agent:helper", "", after, ""))
        expected = 1 if verb == "begin" else 0
        assert len(list(said.strays("agent", {"helper": {"state": "active"}}))) == expected


def _told(said: LastSaid, *events: tuple[str, str, Any]) -> None:
    for seq, (action, subject, after) in enumerate(events, 1):
        said.take(AuditRow("acme", seq, 5, ACTOR, action, subject, "", json.dumps(after), ""))


@pytest.mark.parametrize(
    ("meanwhile", "state"),
    [
        ([], "frozen"),
        ([("agent.revoke", "agent:coder", {**shown_agent(CODER), "state": "revoked"})], "revoked"),
        ([("agent.rotate_token", "agent:coder", {**shown_agent(CODER), "version": 4})], None),
    ],
)
def test_an_agent_whose_containment_ended_stands_as_before_unless_it_was_changed(
    meanwhile: list[tuple[str, str, Any]], state: str | None
) -> None:
    """Somebody froze it and a detection put it in quarantine for an hour: it is frozen again."""
    frozen = {**shown_agent(CODER), "state": "frozen", "version": 2}
    held = shown_containment(FREEZE._replace(action="quarantine-agent", subject="coder"))
    begin, end = (
        (f"containment.{verb}", "agent:coder", {**held, "state": now})
        for verb, now in (("begin", "active"), ("expire", "expired"))
    )
    told = [("agent.freeze", "agent:coder", frozen), begin, *meanwhile, end]
    for edit, key in (({}, ""), ({"state": "active"}, "state"), ({"profile": {}}, "profile"),
                      ({"token": False}, "token")):  # fmt: skip
        said = LastSaid(is_whole=True)
        _told(said, *told)
        row = {"profile": frozen["profile"], "token": True, "state": state or "active", **edit}
        expected = [key] if key and (state is not None or key != "state") else []
        strays = list(said.strays("agent", {"coder": row}))
        assert [one.split(" its ")[1].split(" ")[0] for one in strays] == expected, (edit, strays)


def test_an_agent_that_is_contained_keeps_its_team_and_token_on_record() -> None:
    said = LastSaid(is_whole=True)
    held = shown_containment(FREEZE._replace(subject="coder"))
    _told(said, ("agent.register", "agent:coder", shown_agent(CODER)),
          ("containment.begin", "agent:coder", held))  # fmt: skip
    row = {**shown_agent(CODER), "state": "frozen", "version": 2}
    assert list(said.strays("agent", {"coder": row})) == []
    (stray,) = said.strays("agent", {"coder": {**row, "profile": {"team": "ops"}}})
    assert stray.startswith("agent 'coder': its profile is '{\"team\":\"ops\"}', and by receipt 2")


def test_of_two_containments_the_one_that_changed_it_last_leads_back() -> None:
    said, held = LastSaid(is_whole=True), shown_containment(FREEZE._replace(subject="coder"))
    other = {**held, "containment_id": "c3", "action": "quarantine-agent"}
    _told(said, ("agent.register", "agent:coder", shown_agent(CODER)),
          ("containment.begin", "agent:coder", held), ("containment.begin", "agent:coder", other),
          ("containment.undo", "agent:coder", held))  # fmt: skip
    rows = [{"coder": {"state": state}} for state in ("active", "frozen", "quarantined")]
    assert [len(list(said.strays("agent", one))) for one in rows] == [1, 1, 0]
    said.take(AuditRow("acme", 5, 5, ACTOR, "containment.undo", "agent:coder", "",
                       json.dumps(other), ""))  # fmt: skip
    assert [len(list(said.strays("agent", one))) for one in rows] == [1, 0, 1]
