"""G10 of approvals through a whole sidecar: who did what to one stands on record, from what to
what, in the transaction of the change; also that a call went ahead by it."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from proxy_approvals_setup import ANA, BO, POLICY, TENANT, asking, pending, refund
from proxy_whole_setup import Whole

from sidecar.cli.main import main
from sidecar.model import Person, Role

OLA = Person(TENANT, "ola", "person:ola", frozenset({Role.OPERATOR}))
SHORT = "approvals: {hold: 0s}\n"
TWO = POLICY + "    approval: {quorum: 2}\n"


def rows(folder: Path, statement: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(folder / "aegis.db")) as store:
        return store.execute(statement).fetchall()


def audited(folder: Path) -> list[dict[str, Any]]:
    """The audit rows of approvals, each with the kind and call of its receipt."""
    found = rows(
        folder,
        "SELECT a.action, a.actor, a.subject, a.before_state, a.after_state, r.kind, r.call_id, "
        "r.approval_id FROM audit_event a JOIN receipts r USING (tenant_id, seq) ORDER BY a.seq",
    )
    names = ("action", "actor", "subject", "before", "after", "kind", "call_id", "approval_id")
    told = [dict(zip(names, row, strict=True)) for row in found if row[0].startswith("approval.")]
    return [
        one | {name: json.loads(one[name] or "null") for name in ("before", "after")}
        for one in told
    ]


async def yes(one: Whole, *people: Person) -> str:
    row = await pending(one)
    for person in people:
        await one.sidecar.approvals.deciding.approve(TENANT, row.approval_id, person)
    return row.approval_id


async def test_g10_that_a_call_went_ahead_by_a_yes_is_audited_with_its_intent(
    tmp_path: Path,
) -> None:
    async with asking(tmp_path, policy=TWO) as one:
        call = asyncio.create_task(refund(one))
        approval_id = await yes(one, ANA, BO)
        call_id = (await call).headers["aegis-call-id"]
        approved, spent = audited(tmp_path)[-2:]
    assert (approved["action"], approved["after"]["state"]) == ("approval.approve", "approved")
    assert (spent["action"], spent["actor"]) == ("approval.spend", "agent:agent")
    assert (spent["subject"], spent["approval_id"]) == (approval_id, approval_id)
    assert (spent["kind"], spent["call_id"]) == ("intent", call_id)
    assert spent["before"]["state"] == "approved"
    for stood in (approved["after"], spent["before"]):
        assert [vote["actor"] for vote in stood["votes"]] == ["person:ana", "person:bo"]
    assert spent["after"] == spent["before"] | {"state": "spent", "spent_by": call_id}


async def test_g10_of_many_calls_the_one_that_spends_is_audited_and_no_other(
    tmp_path: Path,
) -> None:
    async with asking(tmp_path) as one:
        calls = [asyncio.create_task(refund(one)) for _ in range(8)]
        await pending(one)
        await asyncio.sleep(0.2)
        await yes(one, ANA)
        answers = await asyncio.gather(*calls)
        (spent,) = [row for row in audited(tmp_path) if row["action"] == "approval.spend"]
    (through,) = [answer for answer in answers if answer.status == 200]
    assert spent["call_id"] == through.headers["aegis-call-id"]


async def test_g10_a_yes_that_is_not_spent_is_not_said_to_be(tmp_path: Path) -> None:
    allowing = "policy: p\nrules:\n  - {id: all, effect: allow, tools: [api/*, mcp/*]}\n"
    async with asking(tmp_path) as one:
        call = asyncio.create_task(refund(one))
        await pending(one)
        (tmp_path / "policies" / "p.yaml").write_text(allowing)
        one.sidecar.reload_soon()
        await asyncio.sleep(0.5)
        await yes(one, ANA)
        assert (await call).status == 200
        assert "approval.spend" not in [row["action"] for row in audited(tmp_path)]


async def test_g10_a_yes_is_not_spent_where_a_limit_has_no_room(tmp_path: Path) -> None:
    limited = POLICY + "    limits: {per: agent, max: 1, window: 24h, shared: true}\n"
    async with asking(tmp_path, SHORT, limited) as one:
        await refund(one, 5)
        await yes(one, ANA)
        assert (await refund(one, 5)).status == 200, "positive control"
        await refund(one, 6)
        approval_id = await yes(one, ANA)
        full = await refund(one, 6)
        assert full.status == 429, full
        row = await one.sidecar.approvals.deciding.show(TENANT, approval_id)
        assert row.state == "approved"
        spent = [row for row in audited(tmp_path) if row["action"] == "approval.spend"]
        assert len(spent) == 1 and spent[0]["subject"] != approval_id


@pytest.mark.parametrize("is_led_elsewhere", [False, True])
async def test_e5_a_yes_that_was_led_to_another_action_in_the_store_is_named(
    tmp_path: Path, is_led_elsewhere: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    async with asking(tmp_path, SHORT) as one:
        await refund(one, 5)
        approval_id = await yes(one, ANA)
        if is_led_elsewhere:
            await refund(one, 5_000_000)
            other = (await pending(one)).approval_id
            with contextlib.closing(sqlite3.connect(tmp_path / "aegis.db")) as store:
                hashes = dict(store.execute("SELECT approval_id, action_sha256 FROM approval"))
                for name, digest in ((other, "0" * 64), (approval_id, hashes[other])):
                    statement = "UPDATE approval SET action_sha256 = ? WHERE approval_id = ?"
                    store.execute(statement, (digest, name))
                store.commit()
        went = await refund(one, 5_000_000 if is_led_elsewhere else 5)
        assert went.status == 200, "the sidecar goes by what stands in its store"
    url, copy = f"sqlite:///{tmp_path}/aegis.db", tmp_path / "copy.db"
    export, short = tmp_path / "receipts.jsonl", tmp_path / "short.jsonl"
    exporting = ["receipts", "export", "--store", url, "--tenant", TENANT, "--output"]
    commands = (
        (["store", "backup", str(copy), "--store", url], is_led_elsewhere),
        ([*exporting, str(export), "--facts"], False),
        (["receipts", "verify", str(export)], is_led_elsewhere),
        ([*exporting, str(short)], False),
        (["receipts", "verify", str(short)], False),  # the digests stand beside the receipts
    )
    for command, is_told in commands:
        assert await asyncio.to_thread(main, command) == 0
        assert ("not this action, or not the text" in capsys.readouterr().out) == is_told, command


def told(folder: Path, action: str) -> tuple[str | None, dict[str, Any]]:
    """Of the one receipt of an action: whom it names, and what it commits to."""
    ((seq, approver, commitment),) = rows(
        folder,
        f"SELECT seq, approver, args_commitment FROM receipts WHERE action = 'approval.{action}' "
        "ORDER BY seq DESC LIMIT 1",
    )
    ((text, salt),) = rows(folder, f"SELECT arguments, salt FROM call_facts WHERE seq = {seq}")
    assert hmac.digest(bytes.fromhex(salt), text.encode(), "sha256").hex() == commitment
    return approver, json.loads(text)


ANAS = {"actor": "person:ana", "vote": "approve"}
BOS = {"actor": "person:bo", "vote": "approve"}


@pytest.mark.parametrize(
    ("act", "approver", "votes", "state"),
    [
        ("approve", "person:bo", [ANAS, BOS], "approved"),
        ("reject", "person:bo", [ANAS, BOS | {"vote": "reject"}], "rejected"),
        ("withdraw", "person:ola", [ANAS], "withdrawn"),
    ],
)
async def test_g10_what_a_person_did_is_committed_with_who_and_with_what_stood_before(
    tmp_path: Path, act: str, approver: str, votes: list[dict[str, str]], state: str
) -> None:
    async with asking(tmp_path, SHORT, TWO) as one:
        await refund(one)
        approval_id = await yes(one, ANA)
        acts = getattr(one.sidecar.approvals.deciding, act)
        await acts(TENANT, approval_id, OLA if act == "withdraw" else BO, "so it is")
        named, said = told(tmp_path, act)
    assert (named, said["actor"], said["reason"]) == (approver, approver, "so it is")
    assert said["before"] == {"state": "pending", "votes": [ANAS]}
    assert (said["state"], said["votes"]) == (state, votes)


async def test_g10_what_time_did_names_nobody_and_what_stood_before(tmp_path: Path) -> None:
    more = "approvals: {hold: 0s, expires: 1s}\n"
    async with asking(tmp_path, more, TWO) as one:
        await refund(one)
        named, said = told(tmp_path, "ask")
        assert (named, said["actor"], said["before"]) == (None, "agent:agent", None)
        await yes(one, ANA)
        async with asyncio.timeout(5):
            while not rows(tmp_path, "SELECT 1 FROM receipts WHERE action = 'approval.expire'"):
                await asyncio.sleep(0.05)
        named, said = told(tmp_path, "expire")
    assert (named, said["actor"], said["state"]) == (None, "sidecar", "expired")
    assert said["before"] == {"state": "pending", "votes": [ANAS]}
