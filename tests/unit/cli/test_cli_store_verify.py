"""`store verify`: a store as it stands, while others record in it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from store_care_setup import CLOCK, call, filled, held, rows, store_command, tampered, url_of

import storage
from sidecar.cli.chosen_store import print_reports
from sidecar.cli.store_verify import is_sound
from sidecar.identity.change_entry import Change, change_entry, shown_agent
from sidecar.ledger.chain import seal
from sidecar.ledger.stored_chain import LOOKS_MAX, ChainReport, verify_store
from storage.records import Entry
from storage.sql_store import SqlReader
from storage.standing import AgentRow

CODER = AgentRow("acme", "coder", 1, "active", "{}", "", 5)


def changed(version: int, state: str) -> Entry:
    row = CODER._replace(version=version, state=state)
    action = "agent.register" if version == 1 else "agent.freeze"
    change = Change(
        "acme", "person:ana", action, "agent:coder", None, shown_agent(row), "", row, ()
    )
    return change_entry(CLOCK, change)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A call, and an agent that was registered."""
    return filled(tmp_path / "aegis.db", call(1), [changed(1, "active")])


async def verified_beside(
    path: Path, monkeypatch: pytest.MonkeyPatch, batches: Sequence[Sequence[Entry]]
) -> ChainReport:
    """What is found where each batch is recorded while the agents are looked at, one look after
    the other."""
    writer = await storage.open_store(url_of(path), now_us=CLOCK.now_us, node_id="node")
    reader = await storage.open_reader(url_of(path))
    left = list(batches)
    real: Callable[[SqlReader, str], Awaitable[list[AgentRow]]] = SqlReader.agents

    async def agents(self: SqlReader, tenant_id: str) -> list[AgentRow]:
        found = await real(self, tenant_id)
        for entry in left.pop(0) if left else ():
            await writer.record([entry], seal)
        return found

    monkeypatch.setattr(SqlReader, "agents", agents)
    try:
        (report,) = await verify_store(reader)
        return report
    finally:
        await reader.close()
        await writer.close()


async def test_calls_that_come_meanwhile_keep_nothing_from_being_told(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tampered(store, "UPDATE agent SET state = 'frozen' WHERE tenant_id = ?", "acme")
    report = await verified_beside(store, monkeypatch, [call(2)])
    assert (report.fault, report.last_seq) == (None, 3)
    assert report.strays == ("agent 'coder': its state is 'frozen', and by receipt 3 'active'",)


async def test_a_change_meanwhile_is_followed_and_is_no_stray(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = await verified_beside(store, monkeypatch, [[*call(2), changed(2, "frozen")]])
    assert (report.fault, report.strays, report.last_seq) == (None, (), 6)


async def test_what_changes_at_each_look_is_said_not_to_be_known(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    states = ("frozen", "active") * LOOKS_MAX
    batches = [[changed(at, state)] for at, state in enumerate(states[:LOOKS_MAX], 2)]
    report = await verified_beside(store, monkeypatch, batches)
    assert (report.fault, report.strays) == (None, None)
    assert print_reports([report]) and not is_sound([report])
    assert "stand as recorded cannot be told: they changed" in capsys.readouterr().out


def test_it_reads_beside_a_sidecar_and_changes_nothing(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = rows(store, "SELECT * FROM receipts ORDER BY seq")
    assert held(store, lambda: store_command("verify", store)) == 0
    assert "receipts 1 to 3 hold, 2 with facts" in capsys.readouterr().out
    assert rows(store, "SELECT * FROM receipts ORDER BY seq") == before


def test_json_says_what_does_not_hold(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert store_command("verify", store, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["holds"] and said["tenants"][0]["fault"] is None, "positive control"
    tampered(
        store, "UPDATE receipts SET agent_id = 'other' WHERE tenant_id = ? AND seq = 1", "acme"
    )
    assert store_command("verify", store, "--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert not said["holds"]
    assert said["tenants"][0]["fault"].startswith("receipt 1: its content does not match")
    assert store_command("verify", store) == 1
    assert "DOES NOT HOLD" in capsys.readouterr().err


def test_of_an_empty_store_nothing_is_said_to_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As one that was restored from a copy without rows."""
    assert store_command("verify", filled(tmp_path / "empty.db")) == 1
    assert "there are no receipts in it" in capsys.readouterr().out
