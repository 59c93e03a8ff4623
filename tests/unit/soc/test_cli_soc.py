"""`soc test`, `soc backtest`, and detections in the commands about policies."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

import storage
from sidecar.cli.main import main
from sidecar.cli.policy_check import problems_of
from sidecar.clock import Clock
from sidecar.errors import Refused
from sidecar.ledger.chain import seal
from sidecar.ledger.drafts import call_draft
from sidecar.model import Decision, Effect, HttpFacts, Principal, Tool, ToolCall
from sidecar.policy.runs import beginning
from sidecar.problems import Position
from storage.records import Entry

HOUR_US = 3_600_000_000
DETECTION = "detection: storm\nseverity: high\nwhere: {effect: deny}\nat_least: 3\nwithin: 60s\n"
TEST = """test: storm
cases:
  - {name: three, events: [{times: 3, effect: deny, call: mail/send}], expect: 1}
  - {name: two, events: [{times: 2, effect: deny, call: mail/send}], expect: 0}
"""
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir()
    (tmp_path / "d/storm.yaml").write_text(DETECTION)
    (tmp_path / "d/storm_test.yaml").write_text(TEST)
    return tmp_path


def test_the_shipped_detections_pass_and_each_is_shown_both_ways(capsys: Captured) -> None:
    assert main(["soc", "test", "--strict"]) == 0
    assert "14 of 14 detections shown to raise alerts and to keep still" in capsys.readouterr().out


def test_tests_of_detections_run_alone_and_beside_those_of_policies(
    folder: Path, capsys: Captured
) -> None:
    paths = ("d", "d/storm_test.yaml")
    commands = [[word, "test", path] for word in ("soc", "policy") for path in paths]
    for command in [*commands, ["soc", "test", "--strict", "d"]]:
        assert main(command) == 0, command
        assert "2 cases of detections passed" in capsys.readouterr().out


def test_a_failed_case_shows_what_came(folder: Path, capsys: Captured) -> None:
    (folder / "d/storm_test.yaml").write_text(TEST.replace("times: 2", "times: 4"))
    assert main(["policy", "test", "d"]) == 1
    out = capsys.readouterr().out
    assert "d/storm_test.yaml:4:12: FAILED: two" in out
    assert "expected 0" in out and "came     1" in out and "after 2 s  storm: storm" in out
    assert main(["soc", "test", "d", "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert (data["cases"], data["failed"], data["failures"][0]["came"]) == (2, 1, 1)


def test_a_detection_that_no_case_shows_still_is_told_of(folder: Path, capsys: Captured) -> None:
    (folder / "d/storm_test.yaml").write_text(TEST.replace("times: 2", "times: 4").replace(
        "expect: 0", "expect: 1"))  # fmt: skip
    assert main(["soc", "test", "d"]) == 0
    assert main(["soc", "test", "--strict", "d"]) == 1
    assert "storm  never kept still" in capsys.readouterr().out


def test_unusable_tests_exit_2(folder: Path, capsys: Captured) -> None:
    (folder / "d/storm_test.yaml").write_text(TEST.replace("test: storm", "test: strom"))
    assert main(["soc", "test", "d"]) == 2
    assert main(["policy", "test", "d"]) == 2
    assert 'd/storm_test.yaml:1:7: error: there is no detection "strom" here' in (
        capsys.readouterr().err
    )
    (folder / "d/storm_test.yaml").unlink()
    assert main(["soc", "test", "d"]) == 2


def test_checks_of_policies_tell_of_broken_detections(folder: Path, capsys: Captured) -> None:
    assert main(["policy", "check", "d"]) == 0
    assert "1 detection, revision" in capsys.readouterr().out
    config = "policies: ./d\nupstreams: {github: {url: 'https://api.github.com'}}\n"
    (folder / "sidecar.yaml").write_text(config)
    (folder / "d/storm.yaml").write_text(DETECTION.replace("severity", "severty"))
    for command in (["policy", "check", "d"], ["policy", "check", "--config", "sidecar.yaml"]):
        assert main(command) == 1, command
        said = capsys.readouterr().err
        assert 'storm.yaml:2:1: error: "severty" is not a key of a detection' in said
    # What `serve` prints before it refuses to start.
    found = problems_of({"./d": Position("sidecar.yaml", 1, 11)}, folder, {"github": "rest"})
    assert [str(one.position) for one in found] == ["d/storm.yaml:1:1", "d/storm.yaml:2:1"]


# -- backtest --------------------------------------------------------------------------------


def recorded(number: int, agent: str, age_us: int, effect: Effect = Effect.DENY) -> Entry:
    code = "policy_deny" if effect is Effect.DENY else "policy_allow"
    decision = Decision(effect, code, "why", "rev", "p/r", "hash")
    call = ToolCall(
        f"{number:032x}", Tool("mail", "send"), "tools/call", {"to": "ana"},
        HttpFacts("POST", "/", "", "", {}), "", (), b"", "mcp",
    )  # fmt: skip
    principal = Principal("acme", agent)
    receipt, facts = call_draft(
        "refusal" if effect is Effect.DENY else "intent",
        principal,
        call,
        decision,
        Refused(code, decision=decision) if effect is Effect.DENY else None,
        ts_us=Clock().now_us() - age_us,
        nonce=bytes(16),
        arguments=call.args,
        keeps_arguments=True,
        run=beginning(principal.trust),
    )
    return Entry(receipt, facts)


@pytest.fixture
def store(folder: Path) -> str:
    """A storm nine days ago, one of coder three hours ago, too little of helper just now."""
    ages = [
        *(("coder", 9 * 24 * HOUR_US - second * 1_000_000) for second in range(3)),
        *(("coder", 3 * HOUR_US - second * 1_000_000) for second in range(100)),
        *(("helper", HOUR_US - second * 1_000_000) for second in range(2)),
    ]
    url = f"sqlite:///{folder}/a.db"

    async def fill() -> None:
        opened = await storage.open_store(url, now_us=Clock().now_us, node_id="node")
        try:
            entries = [recorded(n, agent, age) for n, (agent, age) in enumerate(ages)]
            await opened.record(entries, seal)
        finally:
            await opened.close()

    asyncio.run(fill())
    return url


def test_a_backtest_tells_what_would_have_been_raised_for_whom_by_which_calls(
    store: str, capsys: Captured
) -> None:
    assert main(["soc", "backtest", "--store", store, "--detections", "d", "--since", "7d"]) == 0
    out = capsys.readouterr().out
    assert "1 alert of 102 recorded events" in out
    assert f"1 × acme/coder  e.g. call {5:032x}" in out and "helper" not in out
    assert main(["soc", "backtest", "--store", store, "--detections", "d", "--since", "30d",
                 "--json"]) == 0  # fmt: skip
    data = json.loads(capsys.readouterr().out)
    assert (data["events"], data["alerts"]) == (105, 2)
    assert data["detections"][0]["subjects"] == [
        {"tenant": "acme", "subject": ["coder"], "alerts": 2}
    ]
    first, second = data["raised"]
    assert first["calls"] == [f"{n:032x}" for n in range(3)] and first["receipts"] == [1, 2, 3]
    assert second["calls"] == [f"{n:032x}" for n in range(3, 6)]


def test_what_was_before_is_known_and_not_counted(store: str, capsys: Captured) -> None:
    command = ["soc", "backtest", "--store", store, "--detections", "pack:soc", "--json"]
    assert main([*command, "--since", "7d"]) == 0
    data = json.loads(capsys.readouterr().out)
    alerts = {one["detection"]: one["alerts"] for one in data["detections"]}
    # coder called the tool nine days ago, so that only helper's call of it is the first.
    assert (alerts["first-use"], alerts["deny-storm"], alerts["runaway"]) == (1, 1, 0)
    assert data["not_told_by_receipts"] == ["chain-break", "store-refusing"]
    assert main([*command, "--since", "10m"]) == 0
    assert json.loads(capsys.readouterr().out)["alerts"] == 0


def test_a_backtest_that_cannot_be_done_exits_2(store: str, capsys: Captured) -> None:
    usual = ["soc", "backtest", "--store", store]
    assert main([*usual, "--detections", "d", "--since", "soon"]) == 2
    assert main([*usual, "--detections", "d", "--tenant", "nobody"]) == 2
    assert main([*usual, "--detections", "pack:read-only"]) == 2
    assert "pack:soc" in capsys.readouterr().err
    assert main(usual) == 2  # no configuration says which
    assert main([*usual, "--detections", "nowhere"]) == 2
