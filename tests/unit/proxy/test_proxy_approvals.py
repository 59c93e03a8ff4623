"""E1 to E8 through a whole sidecar: held calls, votes, spending once; over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, UnixConnector
from proxy_approvals_setup import (
    ANA,
    BO,
    CATALOGUES,
    POLICY,
    TENANT,
    asking,
    open_ones,
    pending,
    person,
    refund,
    saying,
    sent,
    soon,
)
from proxy_whole_setup import Whole, receipts

from sidecar.approvals.refusals import ApprovalRefused
from sidecar.ledger.verify import verify_lines
from sidecar.model import Person, Principal, Role
from sidecar.proxy.bindings import Bindings
from storage.standing import ApprovalRow

SHORT = "approvals: {hold: 0s}\n"


async def approved(one: Whole) -> str:
    """The one that waits gets its yes."""
    row = await pending(one)
    await one.sidecar.approvals.deciding.approve(TENANT, row.approval_id, ANA)
    return row.approval_id


async def test_a_held_call_goes_through_when_it_is_approved_and_is_spent(tmp_path: Path) -> None:
    async with asking(tmp_path) as one:
        call = asyncio.create_task(refund(one))
        approval_id = await approved(one)
        answer = await call
        assert answer.status == 200 and sent(one) == 1
        row = await one.sidecar.approvals.deciding.show(TENANT, approval_id)
        assert row.state == "spent" and row.spent_by == answer.headers["aegis-call-id"]
        again = asyncio.create_task(refund(one))
        fresh = (await pending(one)).approval_id
        assert fresh != approval_id, "an identical call is a new action"
        await one.sidecar.approvals.deciding.reject(TENANT, fresh, ANA)
        assert (await again).status == 403
    recorded = receipts(tmp_path)
    (intent,) = [row for row in recorded if row["kind"] == "intent"]
    assert (intent["decision"], intent["approval_id"], intent["approver"]) == (
        "require_approval", approval_id, "person:ana",
    )  # fmt: skip
    said = [row["action"] for row in recorded if row["kind"] == "approval"]
    assert said[:2] == ["approval.ask", "approval.approve"]


async def test_the_next_identical_call_spends_the_yes(tmp_path: Path) -> None:
    async with asking(tmp_path, SHORT) as one:
        first = await refund(one)
        assert (first.status, first.json["code"]) == (403, "approval_pending")
        assert "retry-after" in first.headers and first.json["approval_url"].startswith("http")
        assert (await refund(one)).json["approval"] == first.json["approval"], "joined"
        await approved(one)
        assert (await refund(one)).status == 200 and sent(one) == 1
        assert (await refund(one)).json["approval"] != first.json["approval"]


OLA = Person(TENANT, "ola", "person:ola", frozenset({Role.OPERATOR}))


async def test_a_question_that_is_taken_back_ends_the_call_that_waits(tmp_path: Path) -> None:
    async with asking(tmp_path) as one:
        deciding = one.sidecar.approvals.deciding
        call = asyncio.create_task(refund(one))
        waits = await pending(one)
        row = await deciding.withdraw(TENANT, waits.approval_id, OLA, "asked by mistake")
        answer = await call
        assert (answer.status, answer.json["code"]) == (403, "approval_withdrawn")
        assert row.state == "withdrawn" and sent(one) == 0
        for act in (deciding.approve, deciding.reject, deciding.withdraw):
            assert await _refused(act(TENANT, row.approval_id, ANA)) == "approval_already_decided"
        again = asyncio.create_task(refund(one))
        assert (await pending(one)).approval_id != row.approval_id, "it asks anew"
        await approved(one)
        assert (await again).status == 200
    with contextlib.closing(sqlite3.connect(tmp_path / "aegis.db")) as store:
        (audit,) = store.execute(
            "SELECT actor, reason, before_state, after_state FROM audit_event "
            "WHERE action = 'approval.withdraw'"
        ).fetchall()
    assert audit[:2] == ("person:ola", "asked by mistake")
    assert '"pending"' in audit[2] and '"withdrawn"' in audit[3]


async def test_what_is_asked_is_shown_beside_what_was_approved_last(tmp_path: Path) -> None:
    async with asking(tmp_path, SHORT) as one:
        await refund(one, 5)
        before = await approved(one)
        await one.ask("POST", "/api/pay", {"cents": 5})
        await refund(one, 9, order="8")
        found = await open_ones(one)
        said = [await _told(one, "approvals/show", {"id": row.approval_id}) for row in found]
        first, other, last = (one["last_approved"] for one in said)
        assert (first, other) == (None, None), "of the same tool alone"
        assert (last["approval_id"], last["is_whole"]) == (before, True)
        assert [tuple(one.values()) for one in last["differences"]] == [
            ("changed", "path", "/refund/7", "/refund/8"),
            ("changed", "args.cents", "5", "9"), ("changed", "args.order", "7", "8"),
        ]  # fmt: skip


async def test_a_yes_that_is_taken_back_is_not_spent(tmp_path: Path) -> None:
    async with asking(tmp_path, SHORT) as one:
        deciding = one.sidecar.approvals.deciding
        await refund(one)
        approval_id = await approved(one)
        for who, code in (
            (person("eve", tenant="other"), "unknown_approval"),
            (Person(TENANT, "vic", "person:vic", frozenset({Role.VIEWER})), "not_an_approver"),
            (person("agent", agent="agent"), "not_an_approver"),
        ):
            assert await _refused(deciding.withdraw(TENANT, approval_id, who)) == code
        await deciding.withdraw(TENANT, approval_id, BO)
        assert (await refund(one)).json["code"] == "approval_pending" and sent(one) == 0
        spent = await approved(one)
        assert (await refund(one)).status == 200, "positive control"
        with pytest.raises(ApprovalRefused, match="the yes is spent") as late:
            await deciding.withdraw(TENANT, spent, ANA)
        assert late.value.code == "approval_already_decided"


async def _refused(act: Awaitable[ApprovalRow]) -> str:
    with pytest.raises(ApprovalRefused) as caught:
        await act
    return caught.value.code


SWAPPED = {
    "arguments": ("/api/refund/7", 6, "a"),
    "path": ("/api/refund/8", 5, "a"),
    "tool": ("/api/pay", 5, "a"),
    "bound header": ("/api/refund/7", 5, "b"),
    "query": ("/api/refund/7?x=1", 5, "a"),
}


async def test_e1_swapped_after_the_yes_it_waits_anew_and_the_yes_is_not_burnt(
    tmp_path: Path,
) -> None:
    async with asking(tmp_path, SHORT) as one:
        await refund(one, headers={"Idempotency-Key": "a"})
        approval_id = await approved(one)
        for what, (path, cents, key) in SWAPPED.items():
            swapped = await one.ask("POST", path, {"cents": cents}, {"Idempotency-Key": key})
            assert (swapped.status, swapped.json["code"]) == (403, "approval_pending"), what
            assert swapped.json["approval"] != approval_id and sent(one) == 0, what
        true = await refund(one, headers={"Idempotency-Key": "a", "X-Other": "1"})
        assert true.status == 200, "positive control: it was not burnt; other headers do not matter"


async def test_e1_the_same_tool_name_at_another_upstream_or_over_mcp(tmp_path: Path) -> None:
    async with asking(tmp_path, SHORT) as one:
        first = (await one.tool("send", {"to": "a"})).json["result"]
        assert first["isError"] and "approval_pending" in first["content"][0]["text"]
        await approved(one)
        for name, arguments in (("drop", {"to": "a"}), ("send", {"to": "b"}), ("send", {})):
            swapped = (await one.tool(name, arguments)).json["result"]
            assert "approval_pending" in swapped["content"][0]["text"]
        assert sent(one) == 0
        message = {
            "jsonrpc": "2.0", "id": "other", "method": "tools/call",
            "params": {"name": "send", "arguments": {"to": "a"}, "_meta": {"x": 1}},
        }  # fmt: skip
        accepts = {"Accept": "application/json, text/event-stream", "traceparent": "x"}
        true = await one.ask("POST", "/mcp", message, accepts)
        assert "isError" not in true.json["result"], "id, _meta and trace are no part of the action"


@pytest.mark.parametrize(
    "other",
    [
        POLICY + "    approval: {quorum: 2}\n",
        POLICY + "    approval: {approvers: ana}\n",
        POLICY + "    when: has(args.cents)\n",
        POLICY.replace("needs somebody", "wants somebody"),
        POLICY.replace("tools: [api/refund, api/pay,", "tools: [api/refund,"),
        POLICY + "  - {id: too, effect: require_approval, tools: api/refund}\n",
    ],
    ids=["quorum", "approvers", "condition", "reason", "tools", "one more"],
)
async def test_e1_other_rules_by_now_and_a_new_approval_is_opened(
    tmp_path: Path, other: str
) -> None:
    async with asking(tmp_path, SHORT) as one:
        await refund(one)
        approval_id = await approved(one)
        await _reloaded(one, other)
        outdated = await refund(one)
        assert (outdated.status, outdated.json["code"]) == (403, "approval_outdated")
        assert outdated.json["approval"] != approval_id and sent(one) == 0
        row = await one.sidecar.approvals.deciding.show(TENANT, approval_id)
        assert row.state == "superseded"
        again = await refund(one)
        assert (again.json["code"], again.json["approval"]) == (
            "approval_pending", outdated.json["approval"],
        )  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "status", "state"),
    [
        (POLICY.replace("require_approval", "deny"), 403, "approved"),
        (
            "policy: p\nrules:\n  - {id: all, effect: allow, tools: [api/*, mcp/*]}\n",
            200,
            "approved",
        ),
        (POLICY + "# a comment more\n", 200, "spent"),
    ],
    ids=["deny", "allow", "comment"],
)
async def test_e1_the_policies_of_the_moment_are_asked_again(
    tmp_path: Path, policy: str, status: int, state: str
) -> None:
    """A held call meets the rules as they are after the yes: deny refuses, allow spends nothing."""
    async with asking(tmp_path) as one:
        call = asyncio.create_task(refund(one))
        row = await pending(one)
        await _reloaded(one, policy)
        await one.sidecar.approvals.deciding.approve(TENANT, row.approval_id, ANA)
        answer = await call
        assert answer.status == status
        assert (await one.sidecar.approvals.deciding.show(TENANT, row.approval_id)).state == state


async def _reloaded(one: Whole, policy: str) -> None:
    (one.folder / "policies" / "p.yaml").write_text(policy)
    before = await one.metric("aegis_build_info")
    assert before
    one.sidecar.reload_soon()
    await asyncio.sleep(0.5)


async def test_e2_of_many_identical_calls_exactly_one_goes_through(tmp_path: Path) -> None:
    async with asking(tmp_path) as one:
        calls = [asyncio.create_task(refund(one)) for _ in range(64)]
        await pending(one)
        await asyncio.sleep(0.2)
        await approved(one)
        answers = await asyncio.gather(*calls)
    assert [answer.status for answer in answers].count(200) == 1 and sent(one) == 1
    codes = {answer.json["code"] for answer in answers if answer.status != 200}
    assert codes <= {"approval_spent", "approval_pending"}
    kinds = [row["kind"] for row in receipts(tmp_path)]
    assert kinds.count("intent") == 1 and kinds.count("refusal") == 63


async def test_e5_a_no_is_told_and_stands(tmp_path: Path) -> None:
    async with asking(tmp_path) as one:
        deciding = one.sidecar.approvals.deciding
        call = asyncio.create_task(refund(one))
        row = await pending(one)
        await deciding.reject(TENANT, row.approval_id, ANA, "not this customer")
        answer = await call
        assert (answer.status, answer.json["code"]) == (403, "approval_rejected")
        assert "not this customer" in answer.json["detail"]
        again = await refund(one)
        assert (again.json["code"], again.json["approval"]) == (
            "approval_rejected",
            row.approval_id,
        )
        for vote in (deciding.approve, deciding.reject):
            with pytest.raises(ApprovalRefused) as late:
                await vote(TENANT, row.approval_id, BO)
            assert (late.value.code, late.value.status) == ("approval_already_decided", 409)
        assert sent(one) == 0 and await open_ones(one) == []


async def test_e5_yes_and_no_at_once_the_first_stands(tmp_path: Path) -> None:
    async with asking(tmp_path, SHORT) as one:
        deciding = one.sidecar.approvals.deciding
        for order in range(8):
            await refund(one, order=str(order))
            row = await pending(one)
            said = await asyncio.gather(
                deciding.approve(TENANT, row.approval_id, ANA),
                deciding.reject(TENANT, row.approval_id, BO),
                deciding.approve(TENANT, row.approval_id, ANA),
                return_exceptions=True,
            )
            refused = [one for one in said if isinstance(one, ApprovalRefused)]
            assert len(refused) == 2
            assert {one.code for one in refused} <= {"approval_already_decided", "already_voted"}


async def test_e5_four_eyes_groups_and_quorum(tmp_path: Path) -> None:
    policy = POLICY + "    approval: {approvers: [finance, zoe], quorum: 2}\n"
    async with asking(tmp_path, policy=policy) as one:
        deciding = one.sidecar.approvals.deciding
        call = asyncio.create_task(refund(one))
        row = await pending(one)

        async def code_of(who: object) -> str:
            with pytest.raises(ApprovalRefused) as refused:
                await deciding.approve(TENANT, row.approval_id, who)  # type: ignore[arg-type]
            return refused.value.code

        assert await code_of(ANA) == "not_an_approver"
        assert await code_of(person("agent-key", "finance", agent="agent")) == "own_approval"
        assert await code_of(person("zoe", tenant="rival")) == "unknown_approval"
        half = await deciding.approve(TENANT, row.approval_id, person("bo", "finance"))
        assert half.state == "pending"
        assert await code_of(person("bo", "finance")) == "already_voted"
        whole_yes = await deciding.approve(TENANT, row.approval_id, person("zoe"))
        assert whole_yes.state == "approved"
        assert (await call).status == 200
    (intent,) = [row for row in receipts(tmp_path) if row["kind"] == "intent"]
    assert intent["approver"] == "person:bo,person:zoe"


async def test_of_several_rules_each_must_be_given(tmp_path: Path) -> None:
    policy = POLICY + (
        "    approval: {approvers: finance}\n"
        "  - {id: legal, effect: require_approval, tools: api/refund, approval: {approvers: law}}\n"
    )
    async with asking(tmp_path, policy=policy) as one:
        deciding = one.sidecar.approvals.deciding
        call = asyncio.create_task(refund(one))
        row = await pending(one)
        half = await deciding.approve(TENANT, row.approval_id, person("ana", "finance"))
        assert half.state == "pending"
        both = await deciding.approve(TENANT, row.approval_id, person("lex", "law"))
        assert both.state == "approved" and (await call).status == 200


async def test_e8_expiry_ends_what_nobody_decided_on_record(tmp_path: Path) -> None:
    more = "approvals: {hold: 5s, expires: 1s}\n"
    async with asking(tmp_path, more) as one:
        answer = await refund(one)
        assert (answer.status, answer.json["code"]) == (403, "approval_expired")
        rows = await one.sidecar.approvals.deciding.latest(TENANT, "", 10)
        assert [row.state for row in rows] == ["expired"]
        with pytest.raises(ApprovalRefused) as late:
            await one.sidecar.approvals.deciding.approve(TENANT, rows[0].approval_id, ANA)
        assert late.value.code == "approval_expired"
    ended = [row for row in receipts(tmp_path) if row["action"] == "approval.expire"]
    assert len(ended) == 1 and ended[0]["approval_id"] == rows[0].approval_id


async def test_e8_what_nobody_waits_for_is_ended_too(tmp_path: Path) -> None:
    async with asking(tmp_path, "approvals: {hold: 0s, expires: 1s}\n") as one:
        await refund(one)

        async def ended() -> bool:
            return not await one.sidecar.approvals.deciding._reader.count_open_approvals(TENANT)

        await soon(ended)
    assert [row["action"] for row in receipts(tmp_path)][-1] == "approval.expire"


async def test_e8_a_tenant_has_so_many_open_and_no_more(tmp_path: Path) -> None:
    async with asking(tmp_path, "approvals: {hold: 0s, pending: 3}\n") as one:
        for order in range(3):
            answer = await refund(one, order=str(order))
            assert (answer.status, answer.json["code"]) == (403, "approval_pending")
        full = await refund(one, order="3")
        assert (full.status, full.json["code"]) == (429, "approvals_full")
        assert "retry-after" in full.headers
        joined = await refund(one, order="1")
        assert joined.json["code"] == "approval_pending", "an open one is joined all the same"
        assert len(await open_ones(one)) == 3
        await one.sidecar.approvals.deciding.withdraw(
            TENANT, (await open_ones(one))[0].approval_id, ANA
        )
        again = await refund(one, order="3")
        assert again.json["code"] == "approval_pending", "positive control: there is room again"
        assert len(await open_ones(one)) == 3


async def test_e8_of_many_that_ask_at_once_no_more_are_opened_than_may_be(tmp_path: Path) -> None:
    async with asking(tmp_path, "approvals: {hold: 0s, pending: 3}\n") as one:
        answers = await asyncio.gather(*(refund(one, order=str(n)) for n in range(8)))
        said = [(answer.status, answer.json["code"]) for answer in answers]
        assert set(said) <= {(403, "approval_pending"), (429, "approvals_full")}
        opened = await open_ones(one)
        assert len(opened) == said.count((403, "approval_pending")) <= 3
        assert said.count((429, "approvals_full")) == 8 - len(opened)


async def test_e8_a_client_that_leaves_stops_waiting_and_the_approval_stays(tmp_path: Path) -> None:
    async with asking(tmp_path, "approvals: {hold: 30s}\n") as one:
        body = b'{"cents": 5}'
        head = f"POST /api/refund/7 HTTP/1.1\r\nHost: 127.0.0.1:{one.port}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        _, writer = await asyncio.open_connection("127.0.0.1", one.port)
        writer.write(head.encode() + body)
        row = await pending(one)
        waiting = one.sidecar.approvals.changes.waiting

        async def joined() -> bool:
            return waiting.count == 1

        await soon(joined)
        writer.close()

        async def left() -> bool:
            return waiting.count == 0

        await soon(left)
        await one.sidecar.approvals.deciding.approve(TENANT, row.approval_id, ANA)
        await asyncio.sleep(0.1)
        assert sent(one) == 0, "nobody is connected"
        assert (await refund(one)).status == 200, "the next identical call spends it"
    (left_alone,) = [row for row in receipts(tmp_path) if row["kind"] == "refusal"]
    assert (left_alone["outcome"], left_alone["tool"]) == ("approval_pending", "api/refund")


def given_to_agent(folder: Path, session: str) -> str:
    """A session of the server at /mcp, as the agent of this sidecar has it."""
    with contextlib.closing(sqlite3.connect(folder / "aegis.db")) as store:
        ((key,),) = store.execute("SELECT value FROM store_state WHERE name = 'keep:mcp_bindings'")
    agent = Principal(tenant=TENANT, agent="agent")
    return Bindings(bytes.fromhex(key)).session_out(agent, "mcp", session)


@pytest.mark.parametrize(
    ("reply_id", "session", "forwarded"), [(1, "s1", 1), ("1", "s1", 2), (1, "s2", 2)]
)
async def test_a_held_call_that_its_mcp_client_takes_back_goes_nowhere(
    tmp_path: Path, reply_id: int | str, session: str, forwarded: int
) -> None:
    accepts = {"Accept": "application/json, text/event-stream"}
    message = {
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "send", "arguments": {}},
    }  # fmt: skip
    async with asking(tmp_path) as one:
        in_session = {**accepts, "Mcp-Session-Id": given_to_agent(tmp_path, "s1")}
        call = asyncio.create_task(one.ask("POST", "/mcp", message, in_session))
        row = await pending(one)
        await asyncio.sleep(0.1)
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled",
                  "params": {"requestId": reply_id}}  # fmt: skip
        other = given_to_agent(tmp_path, session)
        await one.ask("POST", "/mcp", cancel, {**accepts, "Mcp-Session-Id": other})
        await one.sidecar.approvals.deciding.approve(TENANT, row.approval_id, ANA)
        await call
        assert sent(one) == forwarded, "the notification itself, and the call if it was another"


async def test_stopping_lets_held_calls_go_and_the_approval_stays(tmp_path: Path) -> None:
    async with asking(tmp_path, "approvals: {hold: 30s}\n") as one:
        call = asyncio.create_task(refund(one))
        row = await pending(one)
    answer = await asyncio.wait_for(call, 5)
    assert (answer.status, answer.json["code"]) == (503, "shutting_down")
    assert row.approval_id in json.dumps(receipts(tmp_path), default=str)


async def test_a_held_mcp_call_hears_progress_and_gets_its_answer_in_the_same_stream(
    tmp_path: Path,
) -> None:
    message = {
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "send", "arguments": {}, "_meta": {"progressToken": "t"}},
    }  # fmt: skip
    accepts = {"Accept": "application/json, text/event-stream"}
    async with asking(tmp_path, talk=saying(b'{"jsonrpc": "2.0",\n "id": 1, "result": {}}')) as one:
        call = asyncio.create_task(one.ask("POST", "/mcp", message, accepts))
        await approved(one)
        answer = await call
        refused = asyncio.create_task(one.ask("POST", "/mcp", message, accepts))
        row = await pending(one)
        await one.sidecar.approvals.deciding.reject(TENANT, row.approval_id, ANA, "no")
        no = await refused
    assert answer.status == 200 and answer.headers["content-type"] == "text/event-stream"
    assert answer.is_whole and no.is_whole
    first, *rest = _events(answer.body)
    assert first["method"] == "notifications/progress"
    assert first["params"]["progressToken"] == "t" and first["params"]["progress"] == 1
    assert rest[-1] == {"jsonrpc": "2.0", "id": 1, "result": {}}
    said = _events(no.body)
    assert said[-1]["id"] == 1 and said[-1]["result"]["isError"] is True
    assert "approval_rejected" in said[-1]["result"]["content"][0]["text"]


def _events(body: bytes) -> list[dict[str, object]]:
    return [
        json.loads(line.removeprefix("data: "))
        for line in body.decode().splitlines()
        if line.startswith("data: ")
    ]


async def test_limits_count_what_is_approved_and_a_full_one_does_not_burn_the_yes(
    tmp_path: Path,
) -> None:
    policy = POLICY + (
        "  - {id: budget, tools: api/refund, limits: {sum: args.cents, max: 8, window: 1h}}\n"
    )
    async with asking(tmp_path, SHORT, policy=policy) as one:
        await refund(one)
        await approved(one)
        assert (await refund(one)).status == 200
        await refund(one, order="8")
        approval_id = await approved(one)
        over = await refund(one, order="8")
        assert (over.status, over.json["code"]) == (429, "rate_limited")
        row = await one.sidecar.approvals.deciding.show(TENANT, approval_id)
        assert row.state == "approved", "the yes is there for when there is room again"


async def test_metrics_tell_of_what_waits_and_what_came_of_it(tmp_path: Path) -> None:
    async with asking(tmp_path, SHORT) as one:
        await refund(one)
        text = await _metrics(one)
        assert "aegis_approvals_pending 1.0" in text
        await approved(one)
        await refund(one)
        text = await _metrics(one)
    assert "aegis_approvals_pending 0.0" in text
    assert 'aegis_approvals_total{result="approved"} 1.0' in text
    assert 'aegis_approvals_total{result="spent"} 1.0' in text
    assert "aegis_approval_decision_seconds_count 1.0" in text


async def _metrics(one: Whole) -> str:
    url = f"{one.sidecar.control_url}/metrics"
    async with ClientSession() as session, session.get(url) as reply:
        return await reply.text()


async def test_the_chain_holds_after_all_of_it(tmp_path: Path) -> None:
    import storage
    from sidecar.ledger.export import export_lines

    async with asking(tmp_path, SHORT) as one:
        await refund(one)
        await approved(one)
        await refund(one)
    reader = await storage.open_reader(f"sqlite:///{tmp_path}/aegis.db")
    with contextlib.suppress(FileNotFoundError):
        lines = [line async for line in export_lines(reader, TENANT)]
    await reader.close()
    verdict = verify_lines(iter(lines))
    assert verdict.holds and verdict.count == len(lines) >= 5
    assert CATALOGUES


async def test_a_frozen_agent_cannot_spend_and_what_it_asked_for_stays_unspent(
    tmp_path: Path,
) -> None:
    async with asking(tmp_path) as one:
        deciding = one.sidecar.approvals.deciding
        call = asyncio.create_task(refund(one))
        row = await pending(one)
        await _told(one, "agents/move", {"agent": "agent", "move": "freeze", "reason": "odd"})
        await deciding.approve(TENANT, row.approval_id, ANA)
        answer = await call
        assert answer.status == 403 and answer.json["code"] == "agent_frozen", answer.body
        assert (await deciding.show(TENANT, row.approval_id)).state == "approved"
        assert sent(one) == 0
        await _told(one, "agents/move", {"agent": "agent", "move": "unfreeze", "reason": "fine"})
        assert (await refund(one)).status == 200, "positive control"


async def _told(one: Whole, path: str, asked: dict[str, str]) -> Any:
    """What the command line says over control.sock."""
    connector = UnixConnector(path=str(one.folder / "control.sock"))
    url = f"http://localhost/{path}"
    async with ClientSession(connector=connector) as s, s.post(url, json=asked) as reply:
        assert reply.status == 200, await reply.text()
        return await reply.json()
