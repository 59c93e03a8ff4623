"""G10: what somebody changed in sidecar.yaml while nothing ran is on record before anybody is
served by it; a start with the same leaves nothing."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running import Process

POLICIES = {"p.yaml": 'policy: p\nrules:\n  - {id: none, effect: deny, tools: "*"}\n'}
SECRETS = {"ANA": "ana-has-a-secret-of-her-own", "BOB": "bob-has-a-secret-of-his-own"}
PEOPLE = "tenants: {{default: {{agents: {{coder: {{}}}}, people: {{{}}}}}}}\n"
ANA = "ana: {key: {env: ANA}, roles: [viewer]}"
BOB = "bob: {key: {env: BOB}, roles: [admin]}"


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path, environment=SECRETS)
    yield process
    process.kill()


def lived(process: Process, people: str, rest: str = "") -> list[dict[str, Any]]:
    """It starts, serves and stops; what is audited by then, oldest first, but that it did so."""
    process.write("  shop: {url: 'http://127.0.0.1:9'}", POLICIES, PEOPLE.format(people) + rest)
    process.start()
    assert process.stop() == 0
    raw = sqlite3.connect(f"file:{process.folder}/aegis.db?mode=ro", uri=True)
    rows = raw.execute(
        "SELECT e.seq, e.actor, e.action, e.reason, e.before_state, e.after_state, r.approver "
        "FROM audit_event AS e JOIN receipts AS r ON r.tenant_id = e.tenant_id AND r.seq = e.seq "
        "WHERE e.action NOT LIKE 'sidecar.%' ORDER BY e.seq"
    ).fetchall()
    raw.close()
    names = ("seq", "actor", "action", "reason", "before", "after", "approver")
    return [dict(zip(names, row, strict=True)) for row in rows]


def test_g10_other_people_are_on_record_when_it_starts(sidecar: Process) -> None:
    assert lived(sidecar, ANA) == lived(sidecar, ANA) == []
    (row,) = told = lived(sidecar, f"{ANA}, {BOB}")
    assert (row["seq"], row["action"], row["reason"]) == (1, "config.load", "people added: bob")
    assert row["actor"] == row["approver"] == "sidecar"
    assert json.loads(row["after"])["people"]["bob"]["roles"] == ["admin"]
    assert lived(sidecar, f"{ANA}, {BOB}") == told
    _, looser = lived(sidecar, f"{ANA}, {BOB}", "default: observe\n")
    assert looser["reason"] == "default changed"
    for path in sidecar.folder.glob("aegis.db*"):
        assert not [one for one in SECRETS.values() if one.encode() in path.read_bytes()]
