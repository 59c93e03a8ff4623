"""G10: whatever changes state from outside is on record with who did it. Every route of the API and
every path of control.sock that is not said to look only is asked for, and leaves an audit event by
whoever asked, whose receipt commits to that. The commands that write to a store themselves are in
tests/unit/cli/test_cli_store_care_told.py."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import MagicMock

import pytest
from api_examples import body_of, path_of
from api_setup import POLICY, TENANTS, Served, ids_of

from sidecar.cli.control_client import Unreachable, ask_at
from sidecar.control.api.table import ROUTES
from sidecar.control.care_routes import cares_of
from sidecar.control.socket import NAME, ControlSocket, _app
from sidecar.ledger.fence import Fence
from sidecar.ledger.policy_record import PolicyRecord
from sidecar.ledger.stored_chain import verify_store
from sidecar.local_users import user_name
from storage.records import AFTER_ALL_IDS
from storage.standing import AuditRow

TENANT = "acme"
ME = f"socket:{user_name(os.geteuid())}"
#: Routes that are asked by POST because of what they are given, and only look.
LOOKS = {
    "verify_range", "verify_chain", "check_policies", "replay_calls", "explain_policies",
}  # fmt: skip
#: Where the example would change nothing.
BODIES = {
    "accept_tools": {"upstream": "mail", "tools": ["send"]},
    "forget_tools": {"upstream": "mail", "tools": ["send"]},
}
#: Paths of control.sock that look, beside those that `care_routes` calls so.
SOCKET_LOOKS = {"/runs/show", "/tools/diff", "/approvals/list", "/approvals/show"}
#: What changes something, and is not on record by itself, with the reason.
SOCKET_EXCEPTIONS = {
    "/approvals/link": "a link lets nobody in for good; whoever votes by it is on record",
    "/fence/moved": "a store that was left is not written to: the new one tells of it",
}
#: What the receipt of an approval says of who acted: what agents ask is said by `agent_id`.
VOTES = ("approval.approve", "approval.reject", "approval.withdraw", "approval.link")


async def audited(served: Served, after_seq: int) -> list[AuditRow]:
    """What is told since a receipt, oldest first; each with a receipt that commits to its actor."""
    rows = (await served.store.audit_events(TENANT, 2**62, 99))[::-1]
    rows = [row for row in rows if row.seq > after_seq]
    for row in rows:
        (receipt,) = await served.store.receipts(TENANT, row.seq - 1, 1)
        assert receipt.action == row.action
        assert receipt.args_commitment, row.action
        if not row.action.startswith("approval.") or row.action in VOTES:
            assert receipt.approver == row.actor, row.action
    return rows


async def one_more_given_up(served: Served) -> None:
    """A delivery for whoever has all of them tried again, after one was."""
    (row,) = await served.store.deliveries_before(TENANT, AFTER_ALL_IDS, 1)
    assert await served.store.put_rows(TENANT, [row._replace(delivery_id="one-more")])


async def test_g10_every_route_that_changes_something_is_audited(served: Served) -> None:
    await served.recorder.notice(TENANT)
    await one_more_given_up(served)
    assert {one.name for one in ROUTES if one.method != "GET"} >= LOOKS
    for route in ROUTES:
        if route.method == "GET":
            continue
        before = await served.seq()
        body = BODIES.get(route.name) or body_of(route, TENANT)
        status, body, _ = await served.ask(path_of(route, TENANT), method=route.method, body=body)
        assert status == route.status, (route.name, body)
        rows = await audited(served, before)
        if route.name in LOOKS:
            assert (rows, await served.seq()) == ([], before), route.name
        else:
            assert [row.actor for row in rows] == ["person:admin"], route.name


class Asked(NamedTuple):
    """A path of control.sock, what it is asked with, and the action that is on record then."""

    path: str
    body: dict[str, Any]
    action: str
    method: str = "POST"


def _asked() -> list[Asked]:
    """Each path that changes something, in an order in which each can be done."""
    ids = ids_of(TENANT)
    agent, one = {"agent": ids["agent_id"]}, {"tenant": TENANT}
    return [
        Asked("/reload", {}, "policy.load"),
        Asked("/runs/reset", agent | one, "run.reset"),
        Asked("/tools/accept", one | {"upstream": "mail", "tool": "send"}, "tools.accepted"),
        Asked("/tools/forget", one | {"upstream": "mail", "tools": ["send"]}, "tools.forgotten"),
        Asked("/approvals/approve", one | {"id": ids["approval_id"]}, "approval.approve"),
        Asked("/approvals/withdraw", one | {"id": ids["approval_id"]}, "approval.withdraw"),
        Asked("/approvals/reject", one | {"id": f"second-{ids['approval_id']}"}, "approval.reject"),
        Asked("/sinks/test", one | {"sink": "ops"}, "sink.test"),
        Asked("/sinks/retry", one | {"sink": "ops"}, "delivery.retry"),
        Asked("/agents/register", one | {"agent": "newcomer"}, "agent.register"),
        Asked("/agents/rotate-token", agent | one, "agent.rotate_token"),
        Asked("/agents/move", agent | one | {"move": "freeze"}, "agent.freeze"),
        Asked("/keys/create", one | {"name": "bob", "roles": ["viewer"]}, "key.create"),
        Asked("/keys/revoke", one | {"key_id": ids["key_id"]}, "key.revoke"),
        Asked(
            "/containments/begin",
            one | {"action": "block-tool", "subject": "shop/refund", "agent": ids["agent_id"]},
            "containment.begin",
        ),
        Asked("/containments/undo", one | {"id": ids["containment_id"]}, "containment.undo"),
        Asked("/alerts/move", one | {"id": ids["alert_id"], "move": "acknowledge"}, "alert."),
        Asked("/incidents/move", one | {"id": ids["incident_id"], "move": "close"}, "incident."),
        Asked("/fence", {"target": "elsewhere", "reason": "store move"}, "store.fence"),
        Asked("/fence", {}, "store.unfence", "DELETE"),
    ]  # fmt: skip


@pytest.fixture
async def socket(served: Served, tmp_path: Path) -> AsyncIterator[Path]:
    record = PolicyRecord(TENANTS, served.store, served.queue, served.clock, Fence(), node="n1")
    await served.policies.record_by(record)
    control = ControlSocket(tmp_path, served.state)
    await control.start()
    yield tmp_path / NAME
    await control.stop()


async def test_g10_every_path_of_control_sock_that_changes_something_is_audited(
    served: Served, socket: Path
) -> None:
    await served.recorder.notice(TENANT)
    await one_more_given_up(served)
    shop = served.policies._base / "policies" / "shop.yaml"
    shop.write_text(POLICY.replace("args.amount <= 50", "args.amount <= 49"))
    for one in _asked():
        before = await served.seq()
        try:
            await asyncio.to_thread(ask_at, socket, one.method, one.path, one.body)
        except Unreachable as error:
            pytest.fail(f"{one.path}: {error} {error.code}")
        rows = await audited(served, before)
        assert [row.actor for row in rows] == [ME], one.path
        assert rows[0].action.startswith(one.action), (one.path, rows[0].action)
    reports = {one.tenant_id: one for one in await verify_store(served.store)}
    strays = [one for one in reports[TENANT].strays if not one.startswith("the pin")]
    assert strays and all("no change tells of it" in one for one in strays), "what was put by hand"


def test_g10_no_path_of_control_sock_is_forgotten() -> None:
    """A new one is asked for above, or said to look, or an exception with its reason."""
    everybody = MagicMock()
    routes = {
        (route.method, str(route.resource.canonical) if route.resource else "")
        for route in _app(everybody).router.routes()
        if route.method not in ("GET", "HEAD")
    }
    looks = SOCKET_LOOKS.union(*(care.reads for care in cares_of(everybody)))
    changing = {(method, path) for method, path in routes if path not in looks}
    known = {(one.method, one.path) for one in _asked()}
    assert changing == known | {("POST", path) for path in SOCKET_EXCEPTIONS}
    assert not looks & {path for _, path in known}
    assert len(changing) > 15, "positive control"
    acting = [path for care in cares_of(everybody) for path in care.acts]
    assert set(acting) <= {path for _, path in known}


async def test_g10_what_is_an_exception_writes_nothing(served: Served, socket: Path) -> None:
    said = await asyncio.to_thread(ask_at, socket, "POST", "/fence", {"target": "elsewhere"})
    before = await served.seq()
    await asyncio.to_thread(ask_at, socket, "POST", "/fence/moved", {"fence_id": said["fence_id"]})
    assert await served.seq() == before
    (told,) = await served.store.audit_events(TENANT, 2**62, 1)
    assert json.loads(told.after_state)["target"] == "elsewhere", "where it went was told before"
