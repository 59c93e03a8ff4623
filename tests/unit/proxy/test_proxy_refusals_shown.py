"""A refusal as clients of vendors show it: each looks in a place of its own, and at no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from proxy_whole_setup import whole
from proxy_wire_setup import answering

from sidecar.errors import REFUSALS
from sidecar.proxy.doorkeeper import farewell

OK = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
POLICIES = {
    "api.yaml": "catalogue: api\ntools: {pay: POST /pay}\n",
    "p.yaml": "policy: p\nrules:\n  - {id: r, effect: deny, tools: api/pay, reason: not today}\n",
}
#: First for stripe (to which what has no `error` is a success), openai and googleapis; then for
#: docker (a KeyError otherwise), twilio, botocore, azure-core and octokit.
PLACES: list[Callable[[Any], Any]] = [
    lambda document: document["error"]["message"],
    lambda document: document["message"],
]


@pytest.mark.parametrize("look", PLACES)
async def test_code_rule_reason_and_next_step_stand_where_clients_look(
    tmp_path: Path, look: Callable[[Any], Any]
) -> None:
    async with whole(tmp_path, OK, POLICIES) as one:
        answer = await one.ask("POST", "/api/pay", {"amount": 1})
    problem = answer.json
    assert (answer.status, problem["code"], problem["detail"]) == (403, "policy_deny", "not today")
    assert problem["error"]["code"] == "policy_deny"
    shown = look(problem)
    for part in ("policy_deny", "api/pay", "p/r", "not today", problem["next_step"]):
        assert part in shown
    assert problem["call_id"] in shown


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("application/vnd.elasticsearch+json; compatible-with=9", "application/json"),
        ("application/vnd.github.v3+json, Application/Vnd.GitHub+JSON", "application/json"),
        ("application/vnd.github.v3+json, */*", "application/problem+json"),
        ("application/vnd.github.v3+json, application/problem+json", "application/problem+json"),
        ("application/json", "application/problem+json"),
        ("application/vnd.github.raw", "application/problem+json"),
        ("", "application/problem+json"),
        (None, "application/problem+json"),
    ],
)
@pytest.mark.parametrize("content_type_sent", ["application/json", "text/plain"])
async def test_whoever_takes_a_vendors_json_alone_is_given_plain_json(
    tmp_path: Path, accept: str | None, content_type: str, content_type_sent: str
) -> None:
    sent = {"Content-Type": content_type_sent}  # refused by a rule, or before a call was read
    if accept is not None:
        sent["Accept"] = accept
    async with whole(tmp_path, OK, POLICIES) as one:
        answer = await one.ask("POST", "/api/pay", {"amount": 1}, sent)
        nowhere = await one.ask("POST", "/nowhere/pay", {"amount": 1}, sent)
    assert answer.status in (403, 415)
    assert answer.headers["content-type"] == nowhere.headers["content-type"] == content_type
    assert answer.json["error"]["message"] and nowhere.json["code"] == "unknown_upstream"


@pytest.mark.parametrize("look", PLACES)
async def test_an_mcp_client_that_looks_for_a_login_is_told_why_there_is_none(
    tmp_path: Path, look: Callable[[Any], Any]
) -> None:
    """Answered 401 it shows its user no word of that, but what it is told where it goes next."""
    async with whole(tmp_path, OK, POLICIES) as one:
        told = [await one.ask("POST", f"/{name}", {}) for name in ("register", "token")]
        told.append(await one.ask("GET", "/authorize"))
        nowhere = await one.ask("POST", "/registers", {})
    for answer in told:
        assert (answer.status, answer.json["code"]) == (404, "unknown_upstream")
        assert "answered 401" in look(answer.json) and "Aegis-Token" in look(answer.json)
    assert "401" not in look(nowhere.json)


def test_who_is_turned_away_at_the_door_reads_it_there_too() -> None:
    problem = json.loads(farewell("too_many_connections", "503 X").partition(b"\r\n\r\n")[2])
    for look in PLACES:
        assert "(too_many_connections)" in look(problem) and problem["next_step"] in look(problem)


def test_what_took_effect_is_told_by_no_status_that_client_libraries_repeat() -> None:
    told = {kind.code: kind.status for kind in REFUSALS.values() if "took effect" in kind.next_step}
    assert {"response_too_large", "cannot_redact"} <= told.keys()
    repeated = {408, 409, 425, 429, *range(500, 600)}
    assert not {code for code, status in told.items() if status in repeated}


@pytest.mark.parametrize("method", ["LIST", "get"])
async def test_a_method_that_is_not_served_is_named_as_the_reason(
    tmp_path: Path, method: str
) -> None:
    """Vault's clients ask with LIST, where `GET ?list=true` would do."""
    async with whole(tmp_path, OK, POLICIES) as one:
        problem = (await one.ask(method, "/api/pay")).json
    assert problem["code"] == "malformed_request"
    assert problem["detail"] == "The method is none that is served"
