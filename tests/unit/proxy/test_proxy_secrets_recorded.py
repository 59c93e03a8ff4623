"""What the record of a call tells, beside its arguments: path and reason, without secrets."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from proxy_whole_setup import receipts, whole
from proxy_wire_setup import answering

from sidecar.cli.main import main

OK = answering(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
CATALOGUE = """catalogue: api
tools:
  reset: GET /users/{id}/reset/{token}
  amount: {route: "GET /pay/{secret}", args: {secret: number}}
  post: POST /post
"""
POLICY = """policy: p
rules:
  - {id: all, effect: allow, tools: api/*}
  - {id: masks, tools: api/post, obligations: {redact: {request: [args.pin, card_number]}}}
  - id: told
    effect: deny
    tools: api/post
    when: args.n > 1
    reason: "{args.n} of {args.pin} and {args.note}"
  - id: pace
    tools: api/post
    limits: {max: 1, window: 1h}
    reason: "{limit.used} of {limit.max} for {args.pin} and {args.note}"
  - {id: by-path, effect: deny, tools: api/reset, when: 'http.path.contains("/9/")'}
"""
FILES = {"api.yaml": CATALOGUE, "p.yaml": POLICY}
CARD = "4111111111111111"


async def test_g5_a_secret_in_the_path_is_not_recorded(tmp_path: Path) -> None:
    async with whole(tmp_path, OK, FILES) as one:
        first = await one.ask("GET", "/api/users/7/reset/t0p")
        second = await one.ask("GET", "/api/pay/1.50")
    assert b"/users/7/reset/t0p" in one.arrived
    assert (first.status, second.status) == (200, 200)
    facts = [one["facts"] for one in receipts(tmp_path) if one["kind"] == "intent"]
    assert [one["path"] for one in facts] == ["/users/7/reset/***", "/pay/***"]


async def test_c_a_reason_shows_a_call_as_it_is_recorded(tmp_path: Path) -> None:
    async with whole(tmp_path, OK, FILES) as one:
        body = {"n": 5, "pin": 1234, "note": f"card {CARD}"}
        denied = await one.ask("POST", "/api/post", body)
        assert (await one.ask("POST", "/api/post", {**body, "n": 1})).status == 200
        over = await one.ask("POST", "/api/post", {**body, "n": 1})
    assert denied.json["detail"] == "5 of *** and card ***"
    assert over.json["detail"] == "1 of 1 for *** and card ***"
    recorded = [one for one in receipts(tmp_path) if one["kind"] == "refusal"]
    assert [one["facts"]["reason"] for one in recorded] == [
        denied.json["detail"], over.json["detail"],
    ]  # fmt: skip
    assert [json.loads(one["arguments"])["n"] for one in recorded] == [5, 1]


async def test_g5_a_path_that_was_masked_keeps_a_rule_from_being_judged_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rule that reads the path saw another one than the record tells."""
    async with whole(tmp_path, OK, FILES) as one:
        answer = await one.ask("GET", "/api/users/7/reset/t0p")
    call_id = answer.headers["aegis-call-id"]
    config = str(tmp_path / "sidecar.yaml")
    words = ("policy", "explain", "--id", call_id, "--config", config)
    code = await asyncio.to_thread(main, words)
    said = capsys.readouterr().out
    assert code == 0
    assert "not recorded: http.path" in said
    assert "t0p" not in said


def test_g5_explain_knows_which_names_the_configuration_calls_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "api.yaml").write_text(CATALOGUE)
    (tmp_path / "p.yaml").write_text(
        "policy: p\nrules:\n"
        "  - {id: a, effect: allow, tools: api/post, when: args.ssn == args.other}\n"
    )
    (tmp_path / "call.json").write_text(
        '{"call": "api/post", "args": {"ssn": "x7", "other": "y8"}}'
    )
    config = tmp_path / "sidecar.yaml"
    said = []
    for more in ("", "record: {secrets: [ssn]}\n", "record: {secrets: ssn}\n"):
        config.write_text(
            f"policies: [{tmp_path}/api.yaml, {tmp_path}/p.yaml]\n"
            f"upstreams: {{api: {{url: 'http://127.0.0.1:1'}}}}\n{more}"
        )
        call = str(tmp_path / "call.json")
        assert main(["policy", "explain", "--call", call, "--config", str(config)]) == 0
        said.append(capsys.readouterr().out)
    assert ["x7" in one for one in said] == [True, False, False]
    assert all("y8" in one for one in said)
