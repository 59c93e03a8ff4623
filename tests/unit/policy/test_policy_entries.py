"""Entries of `policies` that lead nowhere: said where they are written, with all other problems."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sidecar.cli.main import main
from sidecar.config.load import load_config
from sidecar.policy_reading import check_entries
from sidecar.problems import Position

CONFIG = """policies:
  - ./p
  - ./nope
  - pack:zzz
  - pack:read-only
  - ./pipe
  - ./empty
  - ./file.yaml
upstreams: {shop: {url: 'http://127.0.0.1:9', kind: rest}, notes: {kind: mcp, urll: x}}
"""
BROKEN = """policy: p
import: lender
rules:
  - {id: a, effect: alow, tools: shop/get}
  - {id: b, effect: deny, tools: shop/get, when: constants.x == 1 && tool.nme == "x"}
  - {id: c, effect: deny, tools: other/get}
"""
IN_CONFIG = [
    "sidecar.yaml:3:5: error: nope: cannot be read: No such file or directory",
    "sidecar.yaml:4:5: error: pack:zzz: there is no such pack",
    "sidecar.yaml:6:5: error: pipe: cannot be read: is not a regular file",
    "sidecar.yaml:7:5: error: empty: no policy file in this folder",
]
IN_POLICY = [
    "p/x.yaml:4:21: error: effect is allow, deny or require_approval",
    'p/x.yaml:5:70: error: when: there is no "tool.nme"',
]
SOUND_CONFIG = CONFIG.replace(", notes: {kind: mcp, urll: x}", "")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AEGIS_CONFIG", raising=False)
    (tmp_path / "p").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "p" / "x.yaml").write_text(BROKEN)
    (tmp_path / "file.yaml").write_text("policy: f\nconstants: {a: 1}\nrules: []\n")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "sidecar.yaml").write_text(CONFIG)
    return tmp_path


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if ": error: " in line and not line.startswith("{")]


def test_d3_every_unusable_entry_is_named_where_it_is_written(folder: Path) -> None:
    loaded = load_config(Path("sidecar.yaml"), {}, [])
    said = [str(problem).partition("\n")[0] for problem in check_entries(loaded.entries, folder)]
    assert said == IN_CONFIG
    assert loaded.kinds == {"shop": "rest", "notes": "mcp"}


@pytest.mark.parametrize(
    ("entry", "meant"),
    [
        ("./polices", 'did you mean "policies"?'),
        ("read-only", 'did you mean "pack:read-only"?'),
        ("pack:readonly", 'did you mean "pack:read-only"?'),
        ("./quite-another", ""),
    ],
)
def test_d3_an_entry_that_leads_nowhere_is_told_where_it_may_lead(
    tmp_path: Path, entry: str, meant: str
) -> None:
    (tmp_path / "policies").mkdir()
    place = Position("sidecar.yaml", 1, 11)
    (problem,) = check_entries({entry: place}, tmp_path)
    assert (problem.position, problem.hint) == (place, meant)


def test_a_broken_setting_does_not_make_tools_that_ask_need_routes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text("catalogue: pay\ntools: {refund: {risk: high}}\n")
    unset = "store: {env: NOT_SET}\npolicies: ./p.yaml\nupstreams: {pay: {KIND}}\n"
    (tmp_path / "sidecar.yaml").write_text(unset.replace("KIND", "kind: authorize"))
    assert main(["serve", "--config", "sidecar.yaml"]) == 1
    (only,) = lines(capsys.readouterr().err)
    assert only.startswith("sidecar.yaml:1:14: error: store.env: ")
    (tmp_path / "sidecar.yaml").write_text(unset.replace("KIND", "url: 'http://127.0.0.1:9'"))
    assert main(["serve", "--config", "sidecar.yaml"]) == 1
    assert any("needs a route" in line for line in lines(capsys.readouterr().err))


def test_an_entry_of_a_flag_is_named_by_its_flag(folder: Path) -> None:
    loaded = load_config(Path("sidecar.yaml"), {}, ["policies=./nope"])
    (problem,) = check_entries(loaded.entries, folder)
    assert str(problem).startswith("--set policies: error: nope: cannot be read")


def test_d3_policy_check_reports_entries_and_what_was_read(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["policy", "check", "--config", "sidecar.yaml"]) == 1
    assert lines(capsys.readouterr().err) == sorted([*IN_CONFIG, *IN_POLICY])


def test_d3_policy_check_reports_yaml_of_the_configuration_too(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "sidecar.yaml").write_text(CONFIG + "policies: ./q\n")
    assert main(["policy", "check", "--config", "sidecar.yaml"]) == 1
    twice = 'sidecar.yaml:10:1: error: key "policies" is here twice'
    assert lines(capsys.readouterr().err) == [*IN_POLICY, *IN_CONFIG, twice]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n", "sidecar.yaml:1:1: error: this is not a sidecar.yaml: it holds a list"),
        ("a: [\n", "sidecar.yaml:2:1: error: did not find expected node content"),
    ],
)
def test_a_configuration_that_says_nothing_ends_policy_check(
    folder: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    (folder / "sidecar.yaml").write_text(text)
    assert main(["policy", "check", "--config", "sidecar.yaml"]) == 2
    assert capsys.readouterr().err.startswith(said)


def test_d3_serve_shows_configuration_entries_and_policies_together(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--config", "sidecar.yaml"]) == 1
    assert lines(capsys.readouterr().err) == [
        "sidecar.yaml:9:60: error: upstreams.notes.url is missing",
        'sidecar.yaml:9:79: error: "urll" is not a key of upstreams.notes',
        *sorted([*IN_CONFIG, *IN_POLICY]),
    ]
    assert not list(folder.glob("*.db"))


def test_d3_serve_shows_entries_and_policies_of_a_sound_configuration(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "sidecar.yaml").write_text(SOUND_CONFIG)
    assert main(["serve", "--config", "sidecar.yaml"]) == 1
    assert lines(capsys.readouterr().err) == sorted([*IN_CONFIG, *IN_POLICY])
    assert not list(folder.glob("*.db"))


def test_d3_serve_with_a_broken_upstream_does_not_blame_its_catalogue(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "sidecar.yaml").write_text(
        "policies: [./file.yaml, ./tools.yaml]\nupstreams: {shop: 7}\n"
    )
    (folder / "tools.yaml").write_text("catalogue: shop\ntools: {get: GET /a}\n")
    assert main(["serve", "--config", "sidecar.yaml"]) == 1
    assert lines(capsys.readouterr().err) == [
        "sidecar.yaml:2:19: error: upstreams.shop must be a mapping, not a number"
    ]
