"""The weaknesses W1-W9 of SEED_CONTRACT.md section 9, closed: each with its positive control."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import orjson
from aiohttp import ClientSession, UnixConnector
from authorize_setup import AGENT_TOKEN, ANA, agent_row, call, clients_hash, put, stage, verified

BOB = "agent_default.bob.of-the-tests"


async def test_w1_w2_w3_w9_a_request_id_is_one_request(tmp_path: Path) -> None:
    async with stage(tmp_path) as one:
        cheap = call("read_issue", parameters={"number": 1}, request_id="r1")
        first = await one.authorize(cheap, token=AGENT_TOKEN)
        assert first.json["decision"] == "allow"

        # W1: the same id for another action, or under another label, is no replay.
        for other in (
            call("mail", mutates=True, parameters={"to": "x"}, request_id="r1"),
            call("read_issue", parameters={"number": 2}, request_id="r1"),
            call("read_issue", parameters={"number": 1}, trust="unknown", request_id="r1"),
            call("read_issue", parameters={"number": 1}, mutates=True, request_id="r1"),
        ):
            answer = await one.authorize(other, token=AGENT_TOKEN)
            assert answer.status == 409, other
            assert answer.json["details"]["reason"] == "request_id_reused"
        again = await one.authorize(cheap, token=AGENT_TOKEN)
        assert again.json == first.json, "positive control: the very request is answered again"
        assert await one.metric("aegis_authorize_repeats_total") == {"": 1}
        kinds = [(row["kind"], row["outcome"]) for row in one.receipts()]
        assert kinds == [("intent", "delegated"), *[("refusal", "request_id_reused")] * 4]
        # What an alert takes off the intents: the sidecar forwards none of these.
        ended = await one.metric("aegis_outcomes_total")
        assert ended == {'{outcome="delegated"}': 1}
        assert await one.metric("aegis_intents_total") == {"": 1}
        assert await one.metric("aegis_forwarded_total") == {}

        # W3: a repeated question has its approval and its receipt; there is one of each.
        merge = call(
            "merge_pull_request", mutates=True, parameters={"pull_number": 4}, request_id="r2"
        )
        asked = await one.authorize(merge, token=AGENT_TOKEN)
        assert asked.json["approval"]["action_hash"] == clients_hash(merge)
        assert (await one.authorize(merge, token=AGENT_TOKEN)).json == asked.json
        assert len(one.rows("SELECT 1 FROM approval")) == 1

        # W9: many at once are one decision, whatever that is.
        for request in (
            call("read_issue", parameters={"number": 9}, request_id="r3"),
            call("nothing_known", parameters={"number": 9}, request_id="r4"),
            call("merge_pull_request", mutates=True, parameters={}, request_id="r5"),
        ):
            before = len(one.receipts())
            answers = await asyncio.gather(
                *(one.authorize(request, token=AGENT_TOKEN) for _ in range(12))
            )
            assert {answer.status for answer in answers} == {200}
            assert len({orjson.dumps(answer.json) for answer in answers}) == 1
            assert len(one.receipts()) == before + 1

        # After a day the name may be used for something else.
        one.clock.ahead_us = 25 * 3600 * 1_000_000
        fresh = call("read_issue", parameters={"number": 77}, request_id="r1")
        later = await one.authorize(fresh, token=AGENT_TOKEN)
        assert later.json["decision"] == "allow"
        assert later.json["decision_id"] != first.json["decision_id"]
        assert verified(one)


async def test_w2_w7_w13_w14_a_frozen_agent_gets_nothing_and_leaves_receipts(
    tmp_path: Path,
) -> None:
    read = call("read_issue", request_id="r1")
    merge = call("merge_pull_request", mutates=True, parameters={"pull_number": 4})
    async with stage(tmp_path) as one:
        allowed = await one.authorize(read, token=AGENT_TOKEN)
        assert allowed.json["decision"] == "allow"
        asked = await one.authorize(merge, token=AGENT_TOKEN)
        approval_id = asked.json["approval"]["approval_id"]
        await one.approve(approval_id, ANA)
    url = f"sqlite:///{tmp_path}/aegis.db"
    await put(url, agent_row(state="frozen")._replace(version=2))
    async with stage(tmp_path) as one:
        before = len(one.receipts())
        repeated = await one.authorize(read, token=AGENT_TOKEN)
        assert repeated.json["decision"] == "deny", "W2: containment comes before the replay"
        assert repeated.json["matched_policies"] == ["agent_frozen"]
        assert (repeated.json["risk_score"], repeated.json["risk_level"]) == (100, "critical")
        answers = [await one.authorize(call(), token=AGENT_TOKEN) for _ in range(20)]
        assert {answer.json["decision"] for answer in answers} == {"deny"}
        rows = one.receipts()[before:]
        assert [row["outcome"] for row in rows] == ["agent_frozen"] * 21, "W7: all on record"
        assert answers[-1].json["receipt"]["receipt_hash"] == rows[-1]["receipt_hash"]
        path = f"/v1/approvals/{approval_id}"
        claim = {"claimed_action_hash": clients_hash(merge)}
        spent = await one.ask("POST", f"{path}/consume", claim, token=AGENT_TOKEN)
        assert spent.status == 403, "W14: a frozen agent spends no yes"
        assert spent.json["details"]["reason"] == "agent_frozen"
        assert one.receipts()[-1]["approval_id"] == approval_id.replace("-", "")
        assert (await one.ask("GET", path, token=AGENT_TOKEN)).status == 403
    await put(url, agent_row(state="active")._replace(version=3))
    async with stage(tmp_path) as one:
        again = await one.authorize(read, token=AGENT_TOKEN)
        assert again.json == allowed.json, "positive control: its record is there again"
        spent = await one.ask("POST", f"{path}/consume", claim, token=AGENT_TOKEN)
        assert spent.status == 200
        assert verified(one)
    await put(url, agent_row(state="revoked")._replace(version=4))
    async with stage(tmp_path) as one:
        answer = await one.authorize(read, token=AGENT_TOKEN)
        assert answer.status == 401, "W13: what is revoked is as unknown as any other"


async def test_w4_w5_w12_what_callers_say_only_tightens(tmp_path: Path) -> None:
    async with stage(tmp_path) as one:
        # W4: a tool that mutates is judged so, whatever its caller says of it.
        quiet = call("note", trust="untrusted_external", mutates=False)
        answer = await one.authorize(quiet, token=AGENT_TOKEN)
        assert answer.json["decision"] == "deny"
        trusted = await one.authorize(call("note", mutates=False), token=AGENT_TOKEN)
        assert trusted.json["decision"] == "allow", "positive control"
        # A reading one that says it mutates is.
        loud = call("read_issue", trust="untrusted_external", mutates=True)
        assert (await one.authorize(loud, token=AGENT_TOKEN)).json["decision"] == "deny"
        quiet = call("read_issue", trust="untrusted_external", mutates=False)
        assert (await one.authorize(quiet, token=AGENT_TOKEN)).json["decision"] == "allow"

        # W5: a level nobody knows is unknown, the least there is; the lower of two counts.
        for said, root, effective in (
            ("trusted_internal_signed", None, "trusted_internal_unsigned"),
            ("super_trusted", None, "unknown"),
            ("trusted_internal_signed", "semi_trusted_customer", "semi_trusted_customer"),
            ("untrusted_external", "trusted_internal_signed", "untrusted_external"),
            ("TRUSTED_INTERNAL_SIGNED", None, "unknown"),
        ):
            trace = {"run_id": "r", "trace_id": "t", "root_trust_level": root}
            request = call("note", trust=said, mutates=True, trace=trace)
            answer = await one.authorize(request, token=AGENT_TOKEN)
            assert answer.json["root_trust_level"] == effective, said
            expected = "deny" if effective in ("unknown", "untrusted_external") else "allow"
            assert answer.json["decision"] == expected, said
        # A label is for its own call; what came back lowers those that follow.
        assert (await one.authorize(call("note"), token=AGENT_TOKEN)).json["decision"] == "allow"
        await one.authorize(call("read_mail"), token=AGENT_TOKEN)
        after = await one.authorize(call("note"), token=AGENT_TOKEN)
        assert after.json["decision"] == "deny"
        assert after.json["root_trust_level"] == "untrusted_external"

        # W12: who calls is known by the token alone.
        posing = call(request_id="w12") | {"agent": {"id": "root", "environment": "lab"}}
        await one.authorize(posing, token=AGENT_TOKEN, headers={"X-Aegis-Tenant-ID": "tenant_123"})
        row = one.receipts()[-1]
        assert (row["tenant_id"], row["agent_id"]) == ("default", "agent")
        facts = orjson.loads(one.rows("SELECT facts FROM call_facts ORDER BY seq DESC")[0][0])
        assert facts["environment"] == "" and facts["authorize"]["agent"] == "root"


async def test_w6_a_dry_run_plants_and_leaves_nothing(tmp_path: Path) -> None:
    async with stage(tmp_path) as one:
        dry = call("merge_pull_request", mutates=True, parameters={"n": 1}, request_id="r1")
        answer = await one.authorize({**dry, "dry_run": True, "nonce": "n1"}, token=AGENT_TOKEN)
        assert answer.json["decision"] == "require_approval"
        assert answer.json["dry_run"] is True and answer.json["approval"] is None
        assert "receipt" not in answer.json
        denied = call("note", trust="unknown", mutates=True, dry_run=True)
        assert (await one.authorize(denied, token=AGENT_TOKEN)).json["decision"] == "deny"
        for _ in range(4):
            paced = await one.authorize(call("paced", dry_run=True), token=AGENT_TOKEN)
            assert paced.json["decision"] == "allow"
        for table in ("said_once", "approval", "call_facts", "run_head"):
            assert one.rows(f"SELECT * FROM {table}") == [], table
        assert one.receipts() == []
        # The id is free: another action under it, and its hash is its own.
        other = call("merge_pull_request", mutates=True, parameters={"n": 2}, request_id="r1")
        answer = await one.authorize({**other, "nonce": "n1"}, token=AGENT_TOKEN)
        assert answer.json["approval"]["action_hash"] == clients_hash(other)
        assert one.receipts()[-1]["action_hash"] == clients_hash(other)


async def test_w7_w8_w20_every_refusal_has_a_receipt_and_masks_what_it_keeps(
    tmp_path: Path,
) -> None:
    async with stage(tmp_path) as one:

        async def said(request: object, status: int = 200) -> object:
            before = len(one.receipts())
            answer = await one.ask("POST", "/v1/authorize", request, token=AGENT_TOKEN)
            assert answer.status == status, answer
            assert len(one.receipts()) == before + 1, request
            return answer.json

        unknown = await said(call("rm_rf"))
        assert unknown["decision"] == "deny"
        assert unknown["matched_policies"] == ["default_deny", "mcp_unknown_tool"]
        elsewhere = await said(call("read_issue", tool="gitlab"))
        assert elsewhere["decision"] == "deny" and elsewhere["risk_score"] == 100
        assert one.receipts()[-1]["tool"] == "unknown/unknown"
        assert (await said(call("Read_Issue")))["decision"] == "deny", "W24: exactly, or unknown"
        wrong = await said(call("comment", parameters={"body": 7}))
        assert wrong["matched_policies"] == ["invalid_argument"]
        assert (await said(call("comment", parameters={"body": "x"})))["decision"] == "allow"
        assert (await said(call("fetch")))["matched_policies"][-1] == "story/reads"
        assert one.receipts()[-1]["outcome"] == "unmet_obligation"
        assert (await said(call("keyed")))["reason"] == "This call needs a request_id"
        assert (await said(call("keyed", request_id="k")))["decision"] == "allow"
        for number in range(3):
            over = await said(call("paced"), 200 if number < 2 else 429)
        assert over["details"]["reason"] == "rate_limited" and over["reason"] == "TooManyRequests"
        for amount, status in ((6, 200), (6, 429), (4, 200)):
            await said(call("budgeted", parameters={"amount": amount}), status)
        await said(b"{", 400)
        await said(b'{"agent":{"id":"a","id":"b"}}', 400)

        # W8: what is to be masked is named whatever else is asked; W20: and kept by nobody.
        secret = {"api_key": "sk-live-1", "card": "4111 1111 1111 1111", "to": "ana"}
        redacted = await said(call("mail", parameters=secret))
        assert redacted["decision"] == "redact"
        assert redacted["redacted_fields"] == ["api_key", "card"]
        assert (await said(call("mail", parameters={"to": "ana"})))["decision"] == "allow"
        for trust in ("trusted_internal_signed", "untrusted_external"):
            there = call("mail", parameters=secret, trust=trust, mutates=True)
            there["tool_call"]["resource"] = "to/ana?card=4111 1111 1111 1111&key=sk-live-1"
            goes = (await said(there))["decision"]
            assert goes == ("deny" if trust == "untrusted_external" else "redact")
        kept = str(one.rows("SELECT * FROM call_facts")) + str(one.rows("SELECT * FROM approval"))
        kept = re.sub(r"\b[0-9a-f]{32,}\b", "(hex)", kept)  # a salt may hold the digits too
        assert "sk-live" not in kept and "4111" not in kept and "ana" in kept
        assert kept.count("to/ana?card=***&key=***") == 2
        assert verified(one)


async def test_w10_w11_w14_a_yes_is_of_another_and_for_one_agent(tmp_path: Path) -> None:
    async with stage(tmp_path, rows=[agent_row("bob", BOB)]) as one:
        merge = call("merge_pull_request", mutates=True, parameters={"pull_number": 4})
        asked = await one.authorize(merge, token=AGENT_TOKEN)
        approval_id = asked.json["approval"]["approval_id"]
        path, claim = f"/v1/approvals/{approval_id}", {"claimed_action_hash": clients_hash(merge)}

        # W10, W11: no credential of an agent approves, and a tenant's name is none.
        for verb in ("approve", "reject"):
            answer = await one.ask("POST", f"{path}/{verb}", {}, token=AGENT_TOKEN)
            assert answer.status == 404, "not on the data listener"
        for token in ("tenant_default", "default", "", "x" * 9000):
            for control in (False, True):
                answer = await one.authorize(merge, token=token, control=control)
                assert answer.status in (400, 401, 431), token
        assert (await one.authorize(merge, control=True)).status == 401, "no default there"

        # Another agent's approval is one that does not exist.
        await one.approve(approval_id, ANA)
        foreign = await one.ask("POST", f"{path}/consume", claim, token=BOB)
        nobody = "00000000-0000-7000-8000-000000000000"
        missing = await one.ask("POST", f"/v1/approvals/{nobody}/consume", claim, token=BOB)
        assert (foreign.status, missing.status) == (404, 404)
        for said in (foreign.json, missing.json):
            said["details"].pop("call_id")
        assert foreign.json == missing.json
        assert (await one.ask("GET", path, token=BOB)).status == 404
        # Nor does the same action asked by another agent join it.
        theirs = await one.authorize(merge, token=BOB)
        assert theirs.json["approval"]["approval_id"] != approval_id

        mine = await one.ask("POST", f"{path}/consume", claim, token=AGENT_TOKEN)
        assert mine.status == 200, "positive control"


async def test_w15_w17_lists_hold_and_times_are_one_form(tmp_path: Path) -> None:
    async with stage(tmp_path) as one:
        for number in range(5):
            await one.authorize(call(parameters={"n": number}), token=AGENT_TOKEN)
        chain = one.chain()
        assert verified(one)
        stamps = [row["ts_us"] for row in chain]
        assert stamps == sorted(stamps) and all(type(stamp) is int for stamp in stamps)
        merge = call("merge_pull_request", mutates=True)
        expires = (await one.authorize(merge, token=AGENT_TOKEN)).json["approval"]["expires_at"]
        assert len(expires) == 27 and expires.endswith("Z")


async def test_nonces_and_times(tmp_path: Path) -> None:
    async with stage(tmp_path) as one:

        async def reason(**more: object) -> str:
            answer = await one.authorize(call(**more), token=AGENT_TOKEN)
            return "" if answer.status == 200 else answer.json["details"]["reason"]

        assert await reason(nonce="n1") == ""
        assert await reason(nonce="n1") == "replay_nonce_reused"
        assert await reason(nonce="n1", request_id="r1") == "replay_nonce_reused"
        assert await reason(nonce="n2", request_id="r1") == "", "the refused one burnt no id"
        assert await reason(timestamp="2001-01-01T00:00:00Z") == "", "of no use without a nonce"
        old = await reason(nonce="n3", timestamp="2001-01-01T00:00:00Z")
        assert old == "replay_timestamp_expired"
        assert await reason(nonce="n3") == "", "W25: and no nonce"
        answers = await asyncio.gather(
            *(one.authorize(call(nonce="n9"), token=AGENT_TOKEN) for _ in range(8))
        )
        assert sorted(answer.status for answer in answers) == [200, *[409] * 7]


async def test_w2_an_answer_given_in_one_run_is_not_given_in_another(tmp_path: Path) -> None:
    async with stage(tmp_path, upstream="github: {kind: authorize, run: trusted}") as one:

        def of(run: str, action: str, *, mutates: bool, **more: object) -> dict[str, object]:
            trace = {"run_id": run, "trace_id": "t"}
            return call(action, mutates=mutates, trace=trace, **more)  # type: ignore[arg-type]

        async def said(request: dict[str, object]) -> str:
            answer = await one.authorize(request, token=AGENT_TOKEN)
            if answer.status != 200:
                return str(answer.json["details"]["reason"])
            return str(answer.json["decision"])

        assert await said(of("tainted", "read_mail", mutates=False)) == "allow"
        assert await said(of("tainted", "note", mutates=True)) == "deny", "the rule that counts"
        assert await said(of("clean", "note", mutates=True, request_id="x1")) == "allow"
        assert await said(of("clean", "note", mutates=True, request_id="x1")) == "allow", "repeated"
        assert await said(of("tainted", "note", mutates=True, request_id="x1")) != "allow"


async def test_w2_what_was_allowed_is_not_allowed_again_once_approval_is_forced(
    tmp_path: Path,
) -> None:
    async with stage(tmp_path) as one:
        request = call("note", mutates=True, request_id="x1")
        first = await one.authorize(request, token=AGENT_TOKEN)
        assert first.json["decision"] == "allow"
        connector = UnixConnector(str(one.folder / "control.sock"))
        async with ClientSession(connector=connector) as session:
            body = {"action": "force-approval", "subject": "agent"}
            async with session.post("http://x/containments/begin", json=body) as reply:
                assert reply.status == 200, await reply.text()
        fresh = call("note", mutates=True, request_id="x2")
        asked = await one.authorize(fresh, token=AGENT_TOKEN)
        assert asked.json["decision"] == "require_approval", "positive control"
        assert (await one.authorize(fresh, token=AGENT_TOKEN)).json == asked.json, "polls go on"
        again = await one.authorize(request, token=AGENT_TOKEN)
        assert again.json["decision"] != "allow"
