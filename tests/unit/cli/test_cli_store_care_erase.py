"""`store erase`: what was kept of a person goes, the chain stays, and tells of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from pathlib import Path

import pytest
from store_care_setup import CLOCK, call, filled, held, reports, rows, store_command, url_of

import storage
from sidecar.approvals.erasing import ERASED
from sidecar.approvals.states import Terms, terms_text
from sidecar.approvals.view import compared_with
from sidecar.counted import counted
from sidecar.ledger.chain import seal
from sidecar.ledger.receipt import blank_receipt
from sidecar.soc.deliveries import Ids, Kind, Told, about, deliveries_of
from sidecar.soc.model import Severity
from storage.records import AFTER_ALL_IDS, Entry
from storage.standing import ApprovalRow
from storage.watch_rows import DeliveryRow

SECRETS = range(10, 60)


def peopled(folder: Path) -> Path:
    """Ann calls by two agents, Bob by one; the same names are there in another tenant."""
    return filled(
        folder / "aegis.db",
        *(call(n) for n in range(10, 15)),
        *(call(n, agent_id="agent-2") for n in range(20, 23)),
        *(call(n, agent_id="agent-2", user_id="bob") for n in range(30, 34)),
        *(call(n, "beta") for n in range(40, 42)),
    )


def kept_secrets(path: Path) -> list[int]:
    """The numbers of the calls of which something can be read in the files, by their bytes."""
    data = b"".join(p.read_bytes() for p in path.parent.glob(f"{path.name}*"))
    return [number for number in SECRETS if f"secret-{number}-".encode() in data]


@pytest.mark.parametrize(("subject", "tenant", "gone"), [
    (("--user", "ann"), "acme", [*range(10, 15), *range(20, 23)]),
    (("--user", "bob"), "acme", [*range(30, 34)]),
    (("--agent", "agent-2"), "acme", [*range(20, 23), *range(30, 34)]),
    (("--call", "acme-000031"), "acme", [31]),
    (("--agent", "agent-1"), "beta", [40, 41]),
])  # fmt: skip
def test_f7_a_subject_is_erased_to_the_byte_and_every_chain_still_verifies(
    tmp_path: Path,
    subject: tuple[str, str],
    tenant: str,
    gone: list[int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = peopled(tmp_path)
    everyone, before = kept_secrets(path), reports(path)
    assert set(gone) < set(everyone) and len(everyone) == 14
    assert store_command("erase", path, "--tenant", tenant, *subject) == 0
    printed = capsys.readouterr().out
    assert f"facts of {counted(len(gone), 'call')} erased" in printed
    assert kept_secrets(path) == [number for number in everyone if number not in gone]
    for was, now in zip(before, reports(path), strict=True):
        assert now.fault is None
        told = now.tenant_id == tenant
        assert now.last_seq == was.last_seq + told
        assert now.facts == was.facts - (len(gone) if told else 0)
    kind = subject[0].removeprefix("--")
    told_of = rows(path, "SELECT tenant_id, action, resource, agent_id, user_id FROM receipts "
                         "WHERE kind = 'control'")  # fmt: skip
    told = (tenant, "store.erase_facts", f"call_facts of one {kind}: {len(gone)}", None, None)
    assert told_of == [told]


def test_a_dry_run_changes_nothing_and_wants_no_store_to_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = peopled(tmp_path)
    ann = ("--tenant", "acme", "--user", "ann")
    assert held(path, lambda: store_command("erase", path, *ann, "--dry-run")) == 0
    assert "facts of 8 calls, what 0 approvals asked would go" in capsys.readouterr().out
    assert held(path, lambda: store_command("erase", path, *ann)) == 1, "control"
    assert "[store_held]" in capsys.readouterr().err
    versions = "SELECT max(version), count(*) FROM schema_migration"
    with contextlib.closing(sqlite3.connect(path)) as older:
        older.execute("DELETE FROM schema_migration WHERE version > 15")
        older.commit()
    before = rows(path, versions)
    assert store_command("erase", path, *ann, "--dry-run") == 0
    assert rows(path, versions) == before, "it brings no older store up to date"


def asked(number: int, state: str, *, agent: str = "agent-2", user: str = "bob") -> ApprovalRow:
    """An approval in whose arguments, path, headers and reason `secret-<number>` stands."""
    secret = f"secret-{number}-"
    said = {
        "agent": agent, "tool": "shop/buy", "method": "POST", "path": f"/buy/{secret}",
        "arguments": {"text": secret}, "headers": {"x-note": secret}, "reason": secret,
        "rules": ["asks"], "risk": "high", "mutates": True, "action_sha256": "ac" * 32,
        "user": user, "is_cut": False, "is_escaped": False,
    }  # fmt: skip
    return ApprovalRow(
        "acme", f"a{number}", 1, state, f"{number:064x}", agent, f"acme-0000{number}", "shop/buy",
        terms_text(Terms((), user, "5e" * 32)), json.dumps(said), "[]", 5, 9, 5, "",
    )  # fmt: skip


def told_of(row: ApprovalRow) -> tuple[DeliveryRow, ...]:
    """What a sink was told of it."""
    body = {"asked": json.loads(row.asked)}
    return deliveries_of(
        Kind.APPROVAL_REQUESTED, body, Severity.HIGH, [Told("ops", Severity.LOW)],
        Ids("acme", row.approval_id), 5,
    )  # fmt: skip


def with_approvals(path: Path, *approvals: ApprovalRow) -> dict[str, ApprovalRow]:
    """Puts them, each with news of it, into a store that is closed."""

    async def put() -> None:
        store = await storage.open_store(url_of(path), now_us=CLOCK.now_us, node_id="node")
        for row in approvals:
            blank = blank_receipt(
                "acme", "approval", event_id=row.approval_id, call_id=None, ts_us=CLOCK.now_us()
            )
            await store.record([Entry(blank, puts=(row, *told_of(row)))], seal)
        await store.close()

    asyncio.run(put())
    return {row.approval_id: row for row in approvals}


async def _approvals(path: Path) -> tuple[dict[str, ApprovalRow], set[tuple[str, str]]]:
    reader = await storage.open_reader(url_of(path))
    try:
        found = {
            row.approval_id: row for row in await reader.approvals_before("acme", AFTER_ALL_IDS, 99)
        }
        return found, {
            about(row) for row in await reader.deliveries_before("acme", AFTER_ALL_IDS, 9)
        }
    finally:
        await reader.close()


@pytest.mark.parametrize(("subject", "gone"), [
    (("--user", "bob"), [50, 52]),
    (("--agent", "agent-2"), [50, 52, 53]),
    (("--call", "acme-000050"), [50]),
    (("--user", "ann"), [53]),
])  # fmt: skip
def test_f7_what_approvals_asked_goes_too_and_what_was_told_of_it(
    tmp_path: Path, subject: tuple[str, str], gone: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    path = peopled(tmp_path)
    before = with_approvals(
        path,
        asked(50, "spent"),
        asked(51, "pending"),
        asked(52, "rejected"),
        asked(53, "expired", user="ann"),
        asked(54, "spent", agent="agent-1", user="cleo"),
    )
    assert set(kept_secrets(path)) >= set(range(50, 55)), "positive control"
    assert store_command("erase", path, "--tenant", "acme", *subject) == 0
    printed = capsys.readouterr().out
    assert f"What {counted(len(gone), 'approval')} asked is erased, and " in printed
    assert f"erased, and {counted(len(gone), 'message')} about" in printed
    is_open = subject in (("--user", "bob"), ("--agent", "agent-2"))
    assert ("1 approval is open" in printed) == is_open
    assert not set(kept_secrets(path)) & set(gone)
    assert set(kept_secrets(path)) >= set(range(50, 55)) - set(gone)
    now, told = asyncio.run(_approvals(path))
    assert told == {("approval", f"a{number}") for number in range(50, 55) if number not in gone}
    for key, row in now.items():
        if int(key[1:]) not in gone:
            assert row == before[key]
            continue
        assert row._replace(asked="", version=1) == before[key]._replace(asked="")
        shown = compared_with(row, before["a54"])
        assert (shown["asked"]["arguments"], shown["asked"]["path"]) == (ERASED, ERASED)
        assert (shown["asked"]["tool"], shown["user"]) == ("shop/buy", before_user(before[key]))
        assert shown["last_approved"]["is_whole"] is False
    assert all(report.fault is None for report in reports(path))
    assert store_command("erase", path, "--tenant", "acme", *subject) == 0
    said = capsys.readouterr().out
    assert "what 0 approvals asked are kept: nothing is there to erase" in said
    assert "look at how it is spelt" in said


def before_user(row: ApprovalRow) -> str:
    """For whom it was asked: an id, which stays."""
    return str(json.loads(row.terms)["user"])


def test_f7_the_check_for_bytes_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where deleted rows are not overwritten, they can still be read in the file."""
    from storage import retention

    async def leave(self: object) -> bool:
        await self._driver.transaction(  # type: ignore[attr-defined]
            lambda: retention.fetch("PRAGMA secure_delete = OFF")
        )
        return True

    monkeypatch.setattr(retention.Retention, "overwrite_deleted", leave)
    path = peopled(tmp_path)
    assert store_command("erase", path, "--tenant", "acme", "--user", "bob") == 0
    assert reports(path)[0].facts == 8
    assert set(kept_secrets(path)) & set(range(30, 34))


def test_f7_what_is_not_there_leaves_no_trace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = peopled(tmp_path)
    before = reports(path)
    assert store_command("erase", path, "--tenant", "beta", "--user", "bob") == 0
    assert "facts of 0 calls" in capsys.readouterr().out
    assert store_command("erase", path, "--tenant", "acme", "--user", "ann", "--dry-run") == 0
    assert "facts of 8 calls, what 0 approvals asked would go" in capsys.readouterr().out
    assert reports(path) == before
    assert store_command("erase", path, "--user", "ann") == 2
    assert "name a tenant with --tenant; there are: acme, beta" in capsys.readouterr().err
    assert store_command("erase", path, "--tenant", "gamma", "--user", "ann") == 2
    with pytest.raises(SystemExit) as caught:
        store_command("erase", path, "--tenant", "acme")
    assert caught.value.code == 2


def test_f7_twice_erases_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = peopled(tmp_path)
    for said in ("facts of 4 calls erased", "facts of 0 calls"):
        assert store_command("erase", path, "--tenant", "acme", "--user", "bob") == 0
        assert said in capsys.readouterr().out
    assert reports(path)[0].last_seq == 25


def test_no_erasing_under_a_running_sidecar(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = peopled(tmp_path)
    before = reports(path)
    command = ("erase", path, "--tenant", "acme", "--user", "bob")
    assert held(path, lambda: store_command(*command)) == 1
    error = capsys.readouterr().err
    assert "[store_held]" in error and "stop it first" in error
    assert reports(path) == before
    assert store_command(*command) == 0
