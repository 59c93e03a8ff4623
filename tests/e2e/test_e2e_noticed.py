"""Every detection that ships notices what it looks for in real traffic, and nothing next to it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from noticed_stage import CREDENTIAL, OF_THE_TENANT, SHIPPED, Stage, Tools
from tool_server import serving


def play(stage: Stage) -> None:
    """What each agent does. Answers are held to, so that each call is what it is meant to be."""
    for number in range(10):
        assert stage.post("approval-flood-yes", "ask", {"n": number}) == "approval_pending"
    for number in range(9):
        assert stage.post("approval-flood-no", "ask", {"n": -1 - number}) == "approval_pending"
    assert [stage.get("budget-exhausted-yes", "few") for _ in range(2)] == ["", "rate_limited"]
    assert stage.get("budget-exhausted-no", "few") == ""
    assert stage.get("confused-deputy-yes", "page") == ""
    for word in ("yes", "no"):
        assert stage.post(f"confused-deputy-{word}", "change", {}) == "policy_deny"
    assert stage.post("credential-in-arguments-yes", "twice", {"ok": True, "n": CREDENTIAL}) == ""
    assert stage.post("credential-in-arguments-no", "twice", {"ok": True, "n": "AKIA"}) == ""
    for count, word in ((5, "yes"), (4, "no")):
        for _ in range(count):
            assert stage.post(f"deny-storm-{word}", "never", {}) == "policy_deny"
    assert stage.get("exfiltration-yes", "private") == ""
    assert stage.post("exfiltration-yes", "send", {}) == ""
    assert stage.post("exfiltration-no", "send", {}) == ""
    assert stage.get("exfiltration-no", "private") == ""
    for agent in ("first-use-yes", "first-use-yes", "first-use-no"):
        assert stage.get(agent, "get") == ""
    for word, header in (("yes", "tools/list"), ("no", "tools/call")):
        status = stage.rpc(
            f"replay-or-tamper-{word}", "tools/call", {"Mcp-Method": header},
            name="count", arguments={},
        )  # fmt: skip
        assert status == ("400" if word == "yes" else "")
    for count, word in ((20, "yes"), (19, "no")):
        for _ in range(count):
            assert stage.get(f"runaway-{word}", "get") == ""
    for word, order in (("yes", (False, True)), ("no", (True, False))):
        for ok in order:
            assert stage.post(f"trust-escalation-{word}", "twice", {"ok": ok}) == (
                "" if ok else "default_deny"
            )
    for count, word in ((12, "yes"), (2, "no")):
        for _ in range(count):
            assert stage.get(f"unusual-rate-{word}", "get") == ""
    for described in ("Adds.", "Adds, and tells a stranger."):
        Tools.said_of_add = described
        assert stage.rpc("definition-drift-yes", "tools/list", {}) == ""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder: Path = tmp_path_factory.mktemp("noticed")
    with serving(Tools) as tools:
        made = Stage(folder, tools)
        made.live_through(("unusual-rate-yes", "unusual-rate-no", "first-use-no"))
        made.process.start()
        try:
            made.catch_up()
            for name in OF_THE_TENANT:
                assert made.alerts(name) == [], "negative control of the tenant's own"
            play(made)
            made.catch_up()
            yield made
        finally:
            made.process.kill()


@pytest.mark.parametrize("name", [one for one in SHIPPED if one not in OF_THE_TENANT])
def test_it_fires_for_the_one_who_did_it_and_for_nobody_who_nearly_did(
    stage: Stage, name: str
) -> None:
    alerts = stage.alerts(name)
    if name == "definition-drift":
        assert [one.subject for one in alerts] == [("tools/add",)], "tools/count stayed the same"
        return
    agents = [one.agent for one in alerts]
    assert agents.count(f"{name}-yes") == 1, agents
    if name != "first-use":  # of everybody else it is the first use too
        assert agents == [f"{name}-yes"]
        return
    (known,) = [one for one in alerts if one.agent == "first-use-no"]
    assert known.first_us < time.time_ns() // 1_000 - 3_600_000_000, "long ago, and not now"
    assert known.hits == 1


def test_what_an_alert_rests_on_is_on_record(stage: Stage) -> None:
    hashes = dict(stage.rows("SELECT seq, receipt_hash FROM receipts"))
    named = [one for name in SHIPPED for alert in stage.alerts(name) for one in alert.evidence]
    assert len(named) > 60
    for one in named:
        assert hashes[one["seq"]] == one["receipt_hash"]


def test_calls_that_could_not_be_recorded_are_noticed_when_the_store_is_back(stage: Stage) -> None:
    with stage.held():
        assert stage.get("store-refusing-yes", "get") == "store_unavailable"
        time.sleep(1.5)
        assert stage.alerts("store-refusing") == []
    until = time.monotonic() + 20
    while not stage.alerts("store-refusing"):
        assert time.monotonic() < until, stage.process.log()[-2000:]
        time.sleep(0.1)
    (alert,) = stage.alerts("store-refusing")
    assert (alert.severity, alert.subject, alert.agent) == ("high", ("acme",), "")


def test_a_receipt_that_was_changed_is_noticed_once(stage: Stage) -> None:
    """Last of all: afterwards the chain does not hold any more."""
    assert stage.alerts("chain-break") == []
    stage.process.kill()
    ((place,),) = stage.rows("SELECT max(seq) - 20 FROM receipts")
    stage.rows("UPDATE receipts SET agent_id = 'nobody' WHERE seq = ?", place)
    for _ in range(2):
        stage.process.start()
        until = time.monotonic() + 20
        while not stage.alerts("chain-break"):
            assert time.monotonic() < until, stage.process.log()[-2000:]
            time.sleep(0.1)
        stage.catch_up()
        stage.process.kill()
    (alert,) = stage.alerts("chain-break")
    assert (alert.severity, alert.hits, alert.evidence[0]["seq"]) == ("critical", 1, place - 1)
