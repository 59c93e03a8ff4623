"""`aegis-sidecar policy check`: what it prints and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sidecar.cli.main import main

TOOLS = "catalogue: shop\ntools:\n  get: GET /orders/{id}\n"
GOOD = "policy: p\nrules:\n  - {id: a, effect: allow, tools: shop/get}\n"
BAD = (
    "policy: p\nrules:\n"
    "  - {id: a, effect: allow, tool: shop/get}\n"
    "  - {id: b, effect: alow, tools: '*'}\n"
)


def write(folder: Path, **texts: str) -> str:
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return str(folder)


def test_a_sound_folder_is_summed_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "check", write(tmp_path, tools=TOOLS, rules=GOOD)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("1 rule, 1 tool, revision ") and err == ""


def test_every_problem_is_printed_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["policy", "check", write(tmp_path, tools=TOOLS, rules=BAD)]) == 1
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if ": error: " in line]
    assert out == "" and len(lines) == 3
    assert lines[0].endswith('rules.yaml:3:5: error: a rule needs "tools"')
    assert 'hint: did you mean "allow"?' in err and "3 errors" in err


def test_packs_and_files_load_together(tmp_path: Path) -> None:
    folder = write(tmp_path, tools=TOOLS, rules=GOOD)
    assert main(["policy", "check", "pack:read-only", "pack:baseline", folder]) == 0


def test_the_configuration_names_upstreams_and_paths(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, rules=GOOD.replace("shop/get", "files/read"))
    write(tmp_path, tools="catalogue: files\ntools: {read: {}}\n")
    config = tmp_path / "sidecar.yaml.conf"
    config.write_text(
        "policies: [rules.yaml, tools.yaml]\ndefault: observe\n"
        "upstreams: {files: {url: http://127.0.0.1:1/, kind: mcp}}\n"
    )
    assert main(["policy", "check", "--config", str(config)]) == 0
    config.write_text(config.read_text().replace("files:", "other:"))
    assert main(["policy", "check", "--config", str(config)]) == 1
    assert 'there is no upstream "files"' in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--config", "/nowhere/sidecar.yaml"]])
def test_nothing_to_check_is_wrong_usage(arguments: list[str]) -> None:
    assert main(["policy", "check", *arguments]) == 2


TEST = "test: p\ncases:\n  - {name: reads, call: shop/get, args: {id: a}, expect: allow}\n"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (
            TEST.replace("call:", "cal:"),
            'rules_test.yaml:3:19: error: "cal" is not a key of a case',
        ),
        (TEST.replace("test: p", "test: q"), 'there is no policy "q" here'),
        (TEST.replace("allow}", "allow, by: p/b}"), 'there is no rule "p/b" under test'),
        (f"{TEST}---\ntest: d\ncases: [{{name: n, evnts: []}}]\n", '"evnts" is not a key'),
    ],
)
def test_d3_a_test_that_keeps_serve_from_starting_is_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], written: str, said: str
) -> None:
    folder = write(tmp_path, tools=TOOLS, rules=GOOD, rules_test=written)
    assert main(["policy", "check", folder]) == 1
    assert said in capsys.readouterr().err
    assert main(["policy", "check", "--json", folder]) == 1
    assert json.loads(capsys.readouterr().out)["loads"] is False
    config = tmp_path / "sidecar.yaml.conf"
    upstreams = "upstreams: {shop: {url: http://127.0.0.1:1}}\n"
    config.write_text(f"policies: [{folder}]\n{upstreams}")
    assert main(["policy", "check", "--config", str(config)]) == 1
    config.write_text(f"policies: [{folder}]\n{upstreams}self_test: {{run: false}}\n")
    assert main(["policy", "check", "--config", str(config)]) == 0, "serve starts with it"


@pytest.mark.parametrize("written", [TEST, TEST.replace("allow}", "deny}")])
def test_tests_are_not_run_and_one_by_itself_is_not_held_against_the_others(
    tmp_path: Path, written: str
) -> None:
    folder = write(tmp_path, tools=TOOLS, rules=GOOD, rules_test=written)
    assert main(["policy", "check", folder]) == 0
    assert main(["policy", "check", str(tmp_path / "rules_test.yaml")]) == 0


def test_without_a_path_the_usual_configuration_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "policies").mkdir()
    write(tmp_path / "policies", tools=TOOLS, rules=GOOD)
    upstreams = "upstreams: {shop: {url: http://127.0.0.1:1}}\n"
    (tmp_path / "sidecar.yaml").write_text(f"policies: ./policies\n{upstreams}")
    monkeypatch.chdir(tmp_path)
    assert main(["policy", "check"]) == 0
    assert capsys.readouterr().out.startswith("1 rule, 1 tool")


def test_a_missing_file_and_a_missing_pack_are_problems(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["policy", "check", str(tmp_path / "none.yaml"), "pack:nothing"]) == 1
    err = capsys.readouterr().err
    assert "cannot be read" in err and "there is no such pack" in err


def test_strict_ends_with_1_on_a_warning(tmp_path: Path) -> None:
    rule = GOOD + "  - {id: b, effect: deny, tools: shop/get, when: agent.risk > 2}\n"
    folder = write(tmp_path, tools=TOOLS, rules=rule)
    assert main(["policy", "check", folder]) == 0
    assert main(["policy", "check", "--strict", folder]) == 1


def test_the_same_as_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "check", "--json", write(tmp_path, tools=TOOLS, rules=GOOD)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["loads"], found["problems"], found["rules"], found["tools"]) == (True, [], 1, 1)
    assert main(["policy", "check", "--json", write(tmp_path, tools=TOOLS, rules=BAD)]) == 1
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert err == "" and (found["loads"], found["revision"]) == (False, None)
    assert [(one["line"], one["column"], one["severity"]) for one in found["problems"]] == [
        (3, 5, "error"), (3, 28, "error"), (4, 21, "error"),
    ]  # fmt: skip
    assert found["problems"][2]["hint"] == 'did you mean "allow"?'


def test_rules_for_agents_that_the_configuration_does_not_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = (
        "policy: p\nrules:\n"
        "  - {id: one, effect: allow, tools: shop/get, agents: 'cod*', teams: till}\n"
        "  - {id: slip, effect: deny, tools: shop/get, agents: codr}\n"
        "  - {id: both, effect: deny, tools: shop/get, agents: coder, environments: production}\n"
    )
    write(tmp_path, tools=TOOLS, rules=rules)
    config = tmp_path / "sidecar.yaml.conf"
    config.write_text(
        "policies: [rules.yaml, tools.yaml, pack:production-read-only]\n"
        "tenants: {acme: {agents: {coder: {team: till}}}}\n"
        "upstreams: {shop: {url: http://127.0.0.1:1/}}\n"
    )
    assert main(["policy", "check", "--config", str(config)]) == 0
    warned = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert [line.partition("warning: ")[2] for line in warned] == [
        "p/slip is for none of the agents that sidecar.yaml names",
        "p/both is for none of the agents that sidecar.yaml names",
    ]
    config.write_text(config.read_text().replace("team: till", "environment: production"))
    assert main(["policy", "check", "--config", str(config)]) == 0
    assert "p/one is" in (err := capsys.readouterr().err) and "p/both is" not in err


def test_one_of_several_callers_that_is_misspelt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rule that refuses two agents, one of them misspelt, refuses one."""
    rules = (
        "policy: p\nrules:\n"
        "  - {id: slip, effect: deny, tools: shop/get, agents: [reviewer, codr, 'ci-*']}\n"
        "  - {id: team, effect: deny, tools: shop/get, teams: plattform}\n"
        "  - {id: else, effect: deny, tools: shop/get, agents: [coder, registered-later]}\n"
    )
    write(tmp_path, tools=TOOLS, rules=rules)
    config = tmp_path / "sidecar.yaml.conf"
    config.write_text(
        "policies: [rules.yaml, tools.yaml]\n"
        "tenants: {acme: {agents: {coder: {team: platform}, reviewer: {}}}}\n"
        "upstreams: {shop: {url: http://127.0.0.1:1/}}\n"
    )
    assert main(["policy", "check", "--config", str(config)]) == 0
    said = [
        line.partition("warning: ")[2] or line.strip()
        for line in capsys.readouterr().err.splitlines()
    ]
    assert said == [
        'p/slip: "codr" is nobody whom sidecar.yaml names',
        'hint: did you mean "coder"?',
        "p/team is for none of the agents that sidecar.yaml names",
        'hint: did you mean "platform"?',
    ]


ASKS = """policy: p
rules:
  - {id: fine, effect: require_approval, tools: shop/get, approval: {approvers: [leads, ana]}}
  - {id: slip, effect: require_approval, tools: shop/get, approval: {approvers: laeds}}
  - {id: many, effect: require_approval, tools: shop/get, approval: {approvers: leads, quorum: 3}}
  - {id: any, effect: require_approval, tools: shop/get, approval: {quorum: 3}}
  - {id: looks, effect: require_approval, tools: shop/get, approval: {approvers: lookers}}
  - {id: of-other, effect: require_approval, tools: shop/get, tenants: keyed,
     approval: {approvers: nobody}}
"""
PEOPLE = """policies: [rules.yaml, tools.yaml]
tenants:
  acme:
    agents: {coder: {}}
    people:
      ana: {roles: [approver], groups: [leads, finance], jwt: a}
      ben: {roles: approver, groups: leads, jwt: b}
      cy: {roles: [viewer], groups: [lookers, leads], jwt: c}
  keyed: {agents: {other: {}}}
upstreams: {shop: {url: http://127.0.0.1:1/}}
"""


def unfilled(tmp_path: Path, capsys: pytest.CaptureFixture[str], config: str) -> list[str]:
    write(tmp_path, tools=TOOLS, rules=ASKS)
    path = tmp_path / "sidecar.yaml.conf"
    path.write_text(config)
    assert main(["policy", "check", "--config", str(path)]) == 0
    lines = capsys.readouterr().err.splitlines()
    return [line.partition("warning: ")[2] for line in lines if " sidecar.yaml names " in line]


def test_approvals_that_nobody_of_the_configuration_can_give(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert unfilled(tmp_path, capsys, PEOPLE) == [
        "p/slip wants 1 of laeds, and sidecar.yaml names none in tenant acme",
        "p/many wants 3 of leads, and sidecar.yaml names only 2 such in tenant acme",
        "p/any wants 3 of any approver, and sidecar.yaml names only 2 such in tenant acme",
        "p/looks wants 1 of lookers, and sidecar.yaml names none in tenant acme",
    ]
    main(["policy", "check", "--config", str(tmp_path / "sidecar.yaml.conf")])
    err = capsys.readouterr().err
    assert 'hint: did you mean "leads"?' in err and err.count("need the role approver") == 3
    # An admin's yes counts for every rule, and of a tenant whose people have keys nothing is known.
    as_admin = PEOPLE.replace("roles: [viewer]", "roles: [admin]")
    assert unfilled(tmp_path, capsys, as_admin) == []
    without_people = PEOPLE.partition("    people:")[0] + PEOPLE[PEOPLE.index("  keyed:") :]
    assert unfilled(tmp_path, capsys, without_people) == []
