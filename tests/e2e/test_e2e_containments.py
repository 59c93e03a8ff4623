"""Containments through the proxy: each changes live decisions at every sidecar; undo ends it."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import postgres_server
import pytest
from containment_stage import OLE_KEY, Stage, Tools, ask, contain, manage, sidecar_in, undo, until
from dying_responder import EXIT
from kept_figures import keep_figures
from running import Process
from tool_server import serving
from wrapping import Wrap, cli


@pytest.fixture(scope="module")
def tools() -> Iterator[str]:
    with serving(Tools) as url:
        yield url


@pytest.fixture(scope="module")
def single(tools: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One sidecar, on a file."""
    one = sidecar_in(tmp_path_factory.mktemp("contained") / "one", tools).start()
    yield Stage(one, one)
    assert one.stop() == 0


@pytest.fixture(scope="module")
def pair(tools: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Two of them, on one PostgreSQL."""
    folder = tmp_path_factory.mktemp("contained")
    with postgres_server.new_cluster() as cluster:
        cluster.initialise()
        cluster.start("fsync=off")
        url = asyncio.run(postgres_server.new_database(cluster.dsn()))
        one, two = (sidecar_in(folder / name, tools, url).start() for name in ("one", "two"))
        yield Stage(one, two)
        assert one.stop() == 0
        assert two.stop() == 0


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder with a short name: a Unix socket's path has about 100 bytes."""
    with tempfile.TemporaryDirectory(prefix="aegis-wrap-") as name:
        yield Path(name)


@pytest.fixture(params=[pytest.param("pair", marks=pytest.mark.serial), "single"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Each of them. Two are to agree within a second, so that they have the machine to themselves.
    What a test that failed left contained is free for the next."""
    found: Stage = request.getfixturevalue(request.param)
    yield found
    for one in manage(found.one, "GET", "/v1/containments?state=active")[1]:
        undo(found.one, one)


#: What calls are recorded as.
TOOLS = {
    "get": "shop/get", "live": "shop/live", "web": "web/get", "web-r1": "web/get",
    "mcp": "tools/add", "authorize": "act/run",
}  # fmt: skip
RUNS = {"web-r1": "r1"}

#: action, subject, further members, whose calls; calls that are refused and with which code, and
#: calls that go on.
CASES: list[tuple[str, str, dict[str, Any], str, list[str], str, list[str]]] = [
    ("freeze-agent", "coder", {}, "coder",
     ["get", "live", "mcp", "mcp-list", "authorize"], "agent_frozen", []),
    ("quarantine-agent", "coder", {}, "coder", ["get", "mcp"], "agent_quarantined", []),
    ("block-tool", "shop/get", {}, "coder", ["get"], "contained", ["look", "mcp"]),
    ("block-tool", "shop/live", {}, "coder", ["live"], "contained", ["get"]),
    ("block-tool", "tools/add", {}, "coder", ["mcp"], "contained", ["get", "mcp-list"]),
    ("block-tool", "act/run", {}, "coder", ["authorize"], "contained", ["get"]),
    ("block-tool", "shop/get", {"agent": "coder"}, "coder", ["get"], "contained", ["look"]),
    ("block-upstream", "shop", {}, "coder", ["get", "live"], "contained", ["web", "mcp"]),
    ("block-upstream", "tools", {}, "coder", ["mcp", "mcp-list"], "contained", ["get"]),
    ("block-destination", "files.example", {}, "coder",
     ["fetch", "fetch-below", "fetch-odd", "mcp"], "contained", ["fetch-other", "get"]),
    ("block-destination", "localhost", {}, "coder", ["web"], "contained", ["get"]),
    ("block-run", "coder", {}, "coder", ["get", "mcp", "live"], "contained", []),
    ("block-run", "coder/r1", {}, "coder", ["web-r1"], "contained", ["web-r2", "get"]),
    ("force-approval", "act/run", {}, "coder", ["authorize"], "approval_pending", ["get"]),
    ("force-approval", "shop/get", {}, "coder", ["get"], "approval_pending", ["look"]),
    ("force-approval", "coder", {}, "coder", ["get", "mcp"], "approval_pending", ["mcp-list"]),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[1]}"[:40])
def test_each_containment_holds_at_every_sidecar_until_it_is_undone(
    stage: Stage, case: tuple[str, str, dict[str, Any], str, list[str], str, list[str]]
) -> None:
    action, subject, more, agent, refused, code, others = case
    for word in (*refused, *others):
        assert stage.said(word, agent) == {""}, f"{word}: positive control"
    with stage.asking(refused[0], agent) as answers:
        until(lambda: all(answers.values()), 10)
        contained = contain(stage.one, action, subject, **more)
        assert ask(stage.one, refused[0], agent) == code, "at once where it was done"
        for word in refused[1:]:
            assert ask(stage.one, word, agent) == code
        until(lambda: ask(stage.two, refused[0], agent) == code)
        for word in refused[1:]:
            assert ask(stage.two, word, agent) == code, word
        seen = {at: len(said) for at, said in answers.items()}
        # More than the one that was on its way already.
        until(lambda: all(len(said) > seen[at] + 1 for at, said in answers.items()), 10)
    for said in answers.values():
        first = said.index(code)
        assert first > 0 and set(said[:first]) == {""}, "positive control"
        assert set(said[first:]) == {code}, "once refused, always refused"
    for word in others:
        assert stage.said(word, agent) == {""}, f"{word} goes on"
    assert stage.said("get", "helper") == ({""} if agent_only(case) else stage.said("get"))
    undone = undo(stage.two, contained)
    assert undone["state"] == "undone"
    between = stage.receipts(contained, undone)
    passed = [
        one for one in between
        if one["went_ahead"] and one["tool"] == TOOLS.get(refused[0]) and one["agent_id"] == agent
        and (one["run_id"] or "") == RUNS.get(refused[0], one["run_id"] or "")
    ]  # fmt: skip
    assert not passed, "no call goes on record after the containment"
    assert [one for one in between if not one["went_ahead"]], "positive control"
    until(lambda: stage.said(refused[0], agent) == {""})
    assert stage.said(refused[-1], agent) == {""}


@pytest.mark.serial
def test_a_run_is_blocked_also_where_it_is_known_as_it_was_before_it_began(pair: Stage) -> None:
    """The sidecar that no call of the run went through knows of the run what it knew then."""
    assert ask(pair.two, "denied", "runner") != "", "nothing of a run, and now known"
    assert ask(pair.one, "get", "runner") == ""
    contained = contain(pair.one, "block-run", "runner")
    time.sleep(1)  # the other knows by then, as the tests above show
    assert [ask(pair.two, word, "runner") for word in ("get", "mcp-list")] == ["contained"] * 2
    assert pair.said("get", "helper") == {""}, "positive control"
    undo(pair.one, contained)
    until(lambda: pair.said("get", "runner") == {""})


def agent_only(case: tuple[Any, ...]) -> bool:
    """Whether another agent's `get` goes on."""
    return case[1] not in ("shop/get", "shop") or "agent" in case[2]


def test_a_revocation_is_for_good_and_only_an_admin_revokes(stage: Stage) -> None:
    assert stage.said("get", "leaver") == {""}
    body = {"action": "revoke-agent", "subject": "leaver"}
    status, said = manage(stage.one, "POST", "/v1/containments", body, OLE_KEY)
    assert (status, said["code"]) == (403, "role_required")
    status, said = manage(stage.one, "POST", "/v1/containments", {**body, "for_s": 60})
    assert (status, said["code"]) == (400, "bad_expiry")
    assert stage.said("get", "leaver") == {""}, "nothing was done"
    contained = contain(stage.one, "revoke-agent", "leaver")
    assert (contained["state"], contained["agent_state"]) == ("final", "revoked")
    until(lambda: stage.said("get", "leaver") == {"unauthenticated"})
    path = f"/v1/containments/{contained['containment_id']}/undo"
    status, said = manage(stage.two, "POST", path, {})
    assert status == 409 and "final" in said["detail"]
    assert stage.said("get", "leaver") == {"unauthenticated"}


def test_a_yes_cannot_be_spent_by_what_is_contained(stage: Stage) -> None:
    """By the call itself, and by an agent that consumes it."""
    assert ask(stage.one, "buy") == "approval_pending"
    for process, word in ((stage.one, "authorize-pay"),):
        assert "contained" not in ask(process, word)
    status, waiting = manage(stage.one, "GET", "/v1/approvals")
    assert status == 200
    wanted = {one["tool"]: one for one in waiting if one["tool"] in ("shop/buy", "act/pay")}
    for one in wanted.values():
        status, _ = manage(stage.one, "POST", f"/v1/approvals/{one['approval_id']}/approve", {})
        assert status == 200
    pay = wanted["act/pay"]
    consume = f"/v1/approvals/{pay['approval_id']}/consume"
    for action, subject, code in (
        ("block-tool", "shop/buy", "contained"),
        ("freeze-agent", "coder", "agent_frozen"),
        ("block-tool", "act/pay", "contained"),
    ):
        contained = contain(stage.one, action, subject)
        if subject != "act/pay":
            until(lambda code=code: stage.said("buy") == {code})  # type: ignore[misc]
        if subject != "shop/buy":
            status, said = manage(stage.one, "POST", consume, {})
            assert (status, code in json.dumps(said)) == (403, True), said
        undo(stage.two, contained)
        until(lambda: stage.said("get") == {""})
    status, said = manage(stage.one, "POST", consume, {})
    assert (status, said["status"]) == (200, "consumed"), "positive control"
    assert ask(stage.two, "buy") == "", "and the call's own yes is still there"


def test_w2_a_repeated_request_is_not_answered_from_its_record_while_contained(
    stage: Stage,
) -> None:
    """And what was refused so may be asked again under the same id."""
    assert stage.said("authorize#r1") == {""}
    contained = contain(stage.one, "block-tool", "act/run")
    until(lambda: stage.said("authorize#r1") == {"contained"})
    assert stage.said("authorize#r2") == {"contained"}
    undo(stage.two, contained)
    until(lambda: stage.said("authorize#r1") == {""})
    assert stage.said("authorize#r2") == {""}


def test_what_has_to_be_asked_for_goes_ahead_once_by_a_yes(single: Stage) -> None:
    contained = contain(single.one, "force-approval", "shop/get", agent="helper")
    assert ask(single.one, "get", "helper") == "approval_pending"
    _, waiting = manage(single.one, "GET", "/v1/approvals")
    (one,) = [one for one in waiting if one["agent"] == "helper"]
    assert one["terms"][0]["rule"] == f"containment/{contained['containment_id']}"
    status, _ = manage(single.one, "POST", f"/v1/approvals/{one['approval_id']}/approve", {})
    assert status == 200
    assert ask(single.one, "get", "helper") == "", "once"
    assert ask(single.one, "get", "helper") == "approval_pending"
    undo(single.one, contained)
    assert ask(single.one, "get", "helper") == ""


def test_a_containment_ends_by_its_time_on_record(stage: Stage) -> None:
    tool = contain(stage.one, "block-tool", "shop/get", for_s=1)
    agent = contain(stage.one, "freeze-agent", "helper", for_s=1)
    assert ask(stage.one, "get") == "contained" and ask(stage.one, "look", "helper") != ""
    until(lambda: stage.said("get") | stage.said("look", "helper") == {""}, 4)
    for one in (tool, agent):
        _, shown = manage(stage.two, "GET", f"/v1/containments/{one['containment_id']}")
        until(lambda one=one: state_of(stage, one) == "expired", 2)  # type: ignore[misc]
        assert shown["until_us"] == one["started_us"] + 1_000_000
        assert state_of(stage, one) == "expired"
    _, events = manage(stage.one, "GET", "/v1/audit/events?action=containment.expire")
    assert {one["actor"] for one in events} == {"sidecar"} and len(events) == 2


def state_of(stage: Stage, contained: dict[str, Any]) -> str:
    _, shown = manage(stage.two, "GET", f"/v1/containments/{contained['containment_id']}")
    return str(shown["state"])


def test_the_command_line_contains_shows_undoes_and_explains(
    single: Stage,
) -> None:
    stage = single
    where = ("--data-dir", str(stage.one.folder))

    def told(*arguments: str) -> str:
        done = stage.one.cli(*arguments, *where)
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = told(
        "contain", "block-tool", "shop/look", "--for", "1h", "--reason", "it leaks", "--json"
    )
    contained = json.loads(said)
    assert contained["until_us"] - contained["started_us"] == 3_600_000_000
    assert contained["actor"].startswith("socket:")
    assert ask(stage.one, "look") == "contained"
    assert contained["containment_id"] in told("containments", "list")
    shown = told("containments", "show", contained["containment_id"])
    assert "it leaks" in shown and "block-tool  shop/look" in shown
    again = stage.one.cli("contain", "block-tool", "shop/look", *where)
    assert again.returncode == 1 and "active already" in again.stderr
    wrong = stage.one.cli("contain", "block-tool", "shop/look", "--for", "soon", *where)
    assert wrong.returncode == 2 and "not a duration" in wrong.stderr
    _, decisions = manage(stage.one, "GET", "/v1/decisions?code=contained&limit=1")
    (decided,) = decisions
    rule = f"containment/{contained['containment_id']}"
    assert (decided["decision"], decided["mode"], decided["rule_id"]) == ("deny", "enforce", rule)
    _, detail = manage(stage.one, "GET", f"/v1/decisions/{decided['call_id']}")
    assert contained["containment_id"] in detail["facts"]["reason"]
    assert "it leaks" not in json.dumps(detail), "an operator's reason is not the agent's"
    explained = stage.one.cli(
        "policy", "explain", "--id", decided["call_id"], "--config", str(stage.one.config)
    )
    assert f"then: deny by {rule}" in explained.stdout, explained.stdout + explained.stderr
    assert "a containment decided" in explained.stdout
    assert "undone" in told("containments", "undo", contained["containment_id"])
    assert ask(stage.one, "look") == ""
    assert "nothing is contained" in told("containments", "list")
    assert contained["containment_id"] in told("containments", "list", "--all")


def test_a_containment_refuses_under_observe_too(tmp_path: Path, tools: str) -> None:
    process = sidecar_in(tmp_path / "one", tools, default="observe").start()
    try:
        assert ask(process, "buy") == "", "positive control: nothing is refused by policy"
        contain(process, "block-tool", "shop/buy")
        assert ask(process, "buy") == "contained"
        contain(process, "force-approval", "shop/get")
        assert ask(process, "get") == "approval_pending"
    finally:
        assert process.stop() == 0


STORM = """detection: storm
severity: high
where: {effect: deny, code: default_deny}
at_least: 3
within: 60s
respond: {action: %s, for: 1h}
"""


@pytest.mark.parametrize("level", ["respond", "recommend"])
def test_at_level_respond_a_detection_freezes_its_agent_and_at_no_other(
    tmp_path: Path, tools: str, level: str
) -> None:
    process = sidecar_in(tmp_path / "one", tools, more=f"soc: {{level: {level}}}\n")
    (process.folder / "policies" / "storm.yaml").write_text(STORM % "freeze-agent")
    process.start()
    try:
        assert ask(process, "get") == ask(process, "get", "helper") == ""
        for _ in range(3):
            assert ask(process, "denied") == "default_deny"
        (incident,) = waits_for(process, "/v1/incidents")
        if level == "respond":
            until(lambda: ask(process, "get") == "agent_frozen", 4)
            _, (contained,) = manage(process, "GET", "/v1/containments")
            assert (contained["action"], contained["actor"]) == ("freeze-agent", "detection:storm")
            assert contained["until_us"] - contained["started_us"] == 3_600_000_000
            assert contained["incident_id"] == incident["incident_id"]
            until(lambda: waits_for(process, "/v1/incidents")[0]["state"] == "contained", 4)
            undo(process, contained)
        assert ask(process, "get") == ask(process, "get", "helper") == ""
        _, containments = manage(process, "GET", "/v1/containments")
        assert len(containments) == (level == "respond")
        proven = manage(process, "GET", f"/v1/incidents/{incident['incident_id']}/verify")[1]
        assert (proven["faults"], proven["verified"]) == ([], True), "what was done, with receipts"
        assert proven["receipts"] == proven["wanted"] >= 4 + (level == "respond")
        result = process.metrics()['aegis_detection_responses_total{result="done"}']
        assert result == (level == "respond")
    finally:
        assert process.stop() == 0


def test_what_a_detection_asks_for_is_done_after_a_crash_right_behind_its_alert(
    tmp_path: Path, tools: str
) -> None:
    dying = sidecar_in(tmp_path / "one", tools, more="soc: {level: respond}\n")
    (dying.folder / "policies" / "storm.yaml").write_text(STORM % "freeze-agent")
    serve = [sys.executable, str(Path(__file__).with_name("dying_responder.py"))]
    again = replace(dying)
    dying.is_warm = False
    dying.command = lambda *arguments: [*serve, *arguments]  # type: ignore[method-assign]
    keep_figures(dying.folder)
    dying.start()
    try:
        for _ in range(3):
            assert ask(dying, "denied") == "default_deny"
        assert dying.process.wait(10) == EXIT
        again.start()
        until(lambda: ask(again, "get") == "agent_frozen", 4)
        (incident,) = waits_for(again, "/v1/incidents")
        (contained,) = manage(again, "GET", "/v1/containments")[1]
        assert contained["incident_id"] == incident["incident_id"]
        undo(again, contained)
        assert again.stop() == 0
        again.start()
        time.sleep(1)
        assert ask(again, "get") == "", "what was done is owed no more"
    finally:
        dying.kill()
        assert again.stop() == 0


def waits_for(process: Process, path: str) -> list[dict[str, Any]]:
    """A list of the control API, once there is something in it."""
    found: list[dict[str, Any]] = []

    def is_there() -> bool:
        found[:] = manage(process, "GET", path)[1]
        return bool(found)

    until(is_there, 6)
    return found


def test_a_wrapped_server_is_contained_by_its_own_socket(short_path: Path) -> None:
    wrap = Wrap(short_path)
    try:
        assert "contained" not in json.dumps(wrap.asked(1, "echo", text="a"))
        done = cli("contain", "block-upstream", "files", "--data-dir", str(wrap.home))
        assert done.returncode == 0, done.stderr
        assert "contained" in json.dumps(wrap.asked(2, "echo", text="a"))
    finally:
        wrap.kill()
