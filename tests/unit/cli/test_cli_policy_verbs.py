"""`policy test|explain|promote|packs|schema`: what they print, what they change, how they end."""

from __future__ import annotations

import io
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from sidecar.cli.main import main

TOOLS = """catalogue: shop
tools:
  get: GET /orders/{id}
  refund: {route: "POST /orders/{id}/refund", args: {id: string, amount: int}}
"""
POLICY = """# What agents may do in the shop.
policy: shop          # kept
rules:
  - {id: reads, effect: allow, tools: shop/get}
  - {id: refunds, effect: allow, tools: shop/refund}
  - id: large   # over 50
    effect: deny
    mode:  "shadow"   # watched since Monday
    tools: shop/refund
    when: args.amount > 50
    reason: "{args.amount} is too much"
"""
TEST = """test: shop
cases:
  - {name: reading, call: shop/get, args: {id: "7"}, expect: allow, by: shop/reads}
  - {name: a small refund, call: shop/refund, args: {id: "7", amount: 5}, expect: allow}
  - {name: a large refund, call: shop/refund, args: {id: "7", amount: 51}, expect: deny,
     by: shop/large, reason: "51 is too much"}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, tools=TOOLS, shop=POLICY.replace('mode:  "shadow"', "mode: enforce"))
    write(tmp_path, shop_test=TEST)
    return tmp_path


def write(folder: Path, **texts: str) -> None:
    below = folder / "policies"
    below.mkdir(exist_ok=True)
    for name, text in texts.items():
        (below / f"{name}.yaml").write_text(text)


Captured = pytest.CaptureFixture[str]


# -- test ------------------------------------------------------------------------------------


def test_cases_that_pass_end_with_0(folder: Path, capsys: Captured) -> None:
    assert main(["policy", "test", "policies", "--coverage", "100"]) == 0
    assert capsys.readouterr().out == "3 cases passed, 1 file; 3 of 3 rules covered (100 %)\n"


def test_a_failing_case_ends_with_1_and_says_why(folder: Path, capsys: Captured) -> None:
    write(folder, shop=POLICY.replace('mode:  "shadow"', "mode: enforce").replace("> 50", "> 60"))
    assert main(["policy", "test", "policies"]) == 1
    out = capsys.readouterr().out
    assert "policies/shop_test.yaml:5:12: FAILED: a large refund" in out
    assert "effect: expected deny" in out and "came     allow by shop/refunds" in out
    assert "by: expected shop/large" in out
    assert "no match: shop/large (when false: args.amount 51)" in out
    assert "policies/tools.yaml:4" in out
    assert "1 of 3 cases FAILED" in out


def test_too_little_coverage_ends_with_1_and_names_the_rules(
    folder: Path, capsys: Captured
) -> None:
    write(
        folder,
        more="policy: more\nrules:\n  - {id: a, effect: deny, tools: shop/*, methods: PUT}\n",
    )
    assert main(["policy", "test", "policies"]) == 0
    assert main(["policy", "test", "policies", "--coverage", "75"]) == 0
    assert main(["policy", "test", "policies", "--coverage", "76"]) == 1
    out, err = capsys.readouterr()
    assert "more/a  matched 0, not 0  <- never matched" in out
    assert "3 of 4 rules covered (75 %)" in out and "below 76 %" in err


def test_what_came_of_the_tests_as_data(folder: Path, capsys: Captured) -> None:
    assert main(["policy", "test", "policies", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["cases"], found["failed"], found["failures"]) == (3, 0, [])
    assert found["coverage"] == {"rules": 3, "percent": 100.0, "lacking": []}
    write(folder, shop=POLICY)
    assert main(["policy", "test", "policies", "--json"]) == 1
    (failure,) = json.loads(capsys.readouterr().out)["failures"]
    assert failure["place"] == "policies/shop_test.yaml:5:12"
    assert failure["wrong"][0] == {
        "what": "effect", "expected": "deny", "came": "allow by shop/refunds",
    }  # fmt: skip
    assert main(["policy", "test", "policies/shop_test.yaml", "--json", "--coverage", "100"]) == 1


@pytest.mark.parametrize("text", ["101", "-1", "x", "nan"])
def test_a_coverage_is_a_number_from_0_to_100(folder: Path, capsys: Captured, text: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["policy", "test", "policies", f"--coverage={text}"])
    assert ended.value.code == 2 and "is no number from 0 to 100" in capsys.readouterr().err


def test_a_single_test_file_runs_with_its_folder(folder: Path, capsys: Captured) -> None:
    write(folder, other_test="test: shop\ncases:\n  - {name: x, call: shop/get, expect: deny}\n")
    assert main(["policy", "test", "policies/shop_test.yaml"]) == 0
    assert main(["policy", "test", "policies/other_test.yaml"]) == 1
    assert main(["policy", "test", "policies/shop.yaml"]) == 2
    assert "this is no test file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("test: shop\ncases:\n  - {name: a, call: shop/get, expect: allow, tims: 2}\n", "did you"),
        ("test: shp\ncases:\n  - {name: a, call: shop/get, expect: allow}\n", 'mean "shop"?'),
    ],
)
def test_unusable_tests_end_with_2(folder: Path, capsys: Captured, text: str, said: str) -> None:
    write(folder, bad_test=text)
    assert main(["policy", "test", "policies"]) == 2
    assert said in capsys.readouterr().err


def test_broken_policies_and_no_tests_end_with_2(folder: Path, capsys: Captured) -> None:
    write(folder, shop_test="# nothing\ntest: shop\ncases: []\n")
    assert main(["policy", "test", "policies"]) == 2
    (folder / "policies/shop_test.yaml").unlink()
    assert main(["policy", "test", "policies"]) == 2
    assert "there is no test in policies" in capsys.readouterr().err
    write(folder, shop_test=TEST, shop="policy: shop\nrules: 7\n")
    assert main(["policy", "test", "policies"]) == 2
    assert "policies/shop.yaml:2:8: error" in capsys.readouterr().err


def test_a_case_that_passes_by_an_error_is_told(folder: Path, capsys: Captured) -> None:
    """A slip in a case, or a rule that cannot be evaluated, refuses as well as what is meant."""
    slip = TEST.replace("amount: 51", "amuont: 51").replace(', reason: "51 is too much"', "")
    write(folder, tools=TOOLS.replace(", args: {id: string, amount: int}", ""), shop_test=slip)
    assert main(["policy", "test", "policies"]) == 0
    said = capsys.readouterr().err
    assert '5:12: warning: "a large refund" passes by an error in shop/large: Key not found' in said
    write(folder, shop_test=slip.replace("by: shop/large", "code: condition_error"))
    assert main(["policy", "test", "policies"]) == 0
    assert capsys.readouterr().err == ""


def test_a_request_to_no_upstream_is_told_how_paths_begin(folder: Path, capsys: Captured) -> None:
    call = "call: {method: GET, path: /items/7}"
    write(folder, shop_test=TEST + f"  - {{name: path, {call}, expect: allow}}\n")
    assert main(["policy", "test", "policies"]) == 1
    assert "hint: The first path segment names an upstream" in capsys.readouterr().out
    (folder / "call.yaml").write_text(call)
    assert main(["policy", "explain", "--call", "call.yaml", "policies"]) == 0
    assert "The first path segment names an upstream" in capsys.readouterr().out


# -- explain ---------------------------------------------------------------------------------


def explain(folder: Path, call: Any, *more: str) -> int:
    (folder / "call.json").write_text(call if isinstance(call, str) else json.dumps(call))
    return main(["policy", "explain", "--call", "call.json", "policies", *more])


def test_a_call_is_explained(folder: Path, capsys: Captured) -> None:
    call = {
        "call": "shop/refund",
        "args": {"id": "7", "amount": 51},
        "agent": {"name": "coder", "tenant": "acme", "team": "till"},
    }
    assert explain(folder, call) == 0
    out = capsys.readouterr().out
    assert out.startswith('deny  shop/large  "51 is too much"\n')
    assert "acme/coder: trust trusted_internal_unsigned; labels none; no calls" in out
    assert "deny   shop/large    yes  when true: args.amount 51" in out
    assert explain(folder, call, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["decision"]["rule"] == "shop/large"
    assert found["rules"][0]["place"] == "policies/shop.yaml:6:9"


def test_the_agents_of_the_configuration_may_be_named(folder: Path, capsys: Captured) -> None:
    write(
        folder,
        who="policy: who\nrules:\n  - {id: till, effect: deny, tools: shop/get, teams: till}\n",
    )
    (folder / "sidecar.yaml").write_text(
        "policies: [policies]\nidentity: {default_agent: acme/other}\n"
        "tenants: {acme: {agents: {coder: {team: till, risk: high}, other: {}}},"
        " zeta: {agents: {other: {}}}}\n"
        "upstreams: {shop: {url: http://127.0.0.1:1/}}\n"
    )
    for agent, said in (
        ({}, "run   acme/other: "),
        ({"agent": "coder"}, "deny  who/till "),
        ({"agent": "zeta/other"}, "run   zeta/other: "),
        ({"agent": {"name": "new", "team": "till"}}, "deny  who/till "),
    ):
        (folder / "call.json").write_text(json.dumps({"call": "shop/get", **agent}))
        assert main(["policy", "explain", "--call", "call.json"]) == 0
        assert said in capsys.readouterr().out
    for name, hint in (("other", "one of acme/other, zeta/other"), ("codr", '"coder"?')):
        (folder / "call.json").write_text(json.dumps({"call": "shop/get", "agent": name}))
        assert main(["policy", "explain", "--call", "call.json"]) == 2
        assert hint in capsys.readouterr().err


def test_a_tool_that_no_catalogue_declares_may_be_a_slip(folder: Path, capsys: Captured) -> None:
    assert explain(folder, {"call": "shop/gte"}) == 0
    out, err = capsys.readouterr()
    assert "shop/unknown" in out and 'no catalogue declares "shop/gte"' in err
    assert 'did you mean "shop/get"?' in err
    assert explain(folder, {"call": "shp/get"}) == 0
    assert 'there is no upstream "shp"' in capsys.readouterr().err
    assert explain(folder, {"call": "shop/get"}) == 0
    assert capsys.readouterr().err == ""


def test_a_request_is_routed_and_may_be_refused_before_any_rule(
    folder: Path, capsys: Captured
) -> None:
    request = {"method": "POST", "path": "/shop/orders/7/refund", "body": {"amount": 5}}
    assert explain(folder, {"call": request}) == 0
    assert capsys.readouterr().out.startswith("allow  shop/refunds")
    assert explain(folder, {"call": {**request, "body": {"amount": "5"}}}) == 0
    assert "[invalid_argument]\n      refused before any rule" in capsys.readouterr().out


def test_a_path_is_read_as_the_configuration_has_its_upstream_take_it(
    folder: Path, capsys: Captured
) -> None:
    (folder / "policies/t_test.yaml").write_text(
        "test: shop\ncases:\n"
        "  - {name: a, call: {method: GET, path: /shop/orders/a%2Fb}, expect: allow}\n"
        "  - {name: b, call: {method: GET, path: /shop/orders/a;b}, expect: allow}\n"
    )
    config = folder / "sidecar.yaml"
    for settings, passes in (
        ("", False),
        (", encoded_slash: true", False),
        (", path_parameters: true, encoded_slash: false", False),
        (", path_parameters: true, encoded_slash: true", True),
    ):
        config.write_text(
            f"policies: ./policies\nupstreams: {{shop: {{url: 'http://h/'{settings}}}}}\n"
        )
        assert main(["policy", "test", "policies", "--config", "sidecar.yaml"]) == 1 - passes
        capsys.readouterr()
        (folder / "call.json").write_text(
            json.dumps({"call": {"method": "GET", "path": "/shop/orders/a%2Fb"}})
        )
        assert main(["policy", "explain", "--call", "call.json", "--config", "sidecar.yaml"]) == 0
        takes_it = "encoded_slash: true" in settings
        assert ("[ambiguous_path]" in capsys.readouterr().out) is not takes_it
    assert main(["policy", "test", "policies"]) == 1, "no configuration is known"
    assert main(["policy", "test", "policies", "--config", "gone.yaml"]) == 2
    assert "gone.yaml: error: cannot be read" in capsys.readouterr().err


def test_a_call_may_come_from_standard_input_or_as_yaml(
    folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = b'{"call": "shop/get", "args": {"id": null, "t": "a\\tb"}}'
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert main(["policy", "explain", "--call", "-", "policies"]) == 0
    (folder / "call.yaml").write_text("call: shop/get\nafter: shop/refund\n")
    assert main(["policy", "explain", "--call", "call.yaml", "policies"]) == 0
    assert "since shop/refund at 10:00:00; labels none; 1 call" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ({"cal": "shop/get"}, 'error: "cal" is not a key of a call'),
        ({"call": "shop/get", "agent": {"nme": "x"}}, 'did you mean "name"?'),
        ('{"call": "shop/get", "call": "x"}', "call.json: error: "),
        ("call: [", "call.json:2:1: error: "),
        ("{", "not valid JSON"),
    ],
)
def test_an_unusable_call_ends_with_2(folder: Path, capsys: Captured, call: Any, said: str) -> None:
    assert explain(folder, call) == 2
    assert said in capsys.readouterr().err


def test_unusable_policies_end_with_2(folder: Path, capsys: Captured) -> None:
    write(folder, more="policy: more\nrules: []\n")
    assert explain(folder, {"call": "shop/get"}) == 2
    assert main(["policy", "explain", "--call", "call.json"]) == 2  # there is no sidecar.yaml
    assert "sidecar.yaml: error: cannot be read" in capsys.readouterr().err


def test_a_call_that_is_only_asked_about_has_no_method(folder: Path, capsys: Captured) -> None:
    """As /v1/authorize judges it: what refuses a POST does not refuse it."""
    rules = '  - {id: all, effect: allow, tools: "*"}\n'
    rules += '  - {id: no-posts, effect: deny, tools: "*", methods: [POST, PUT]}\n'
    rules += '  - {id: nor-paths, effect: deny, tools: "*", when: http.path != ""}\n'
    (folder / "policies/shop.yaml").write_text(f"policy: shop\nrules:\n{rules}")
    (folder / "policies/shop_test.yaml").unlink()
    (folder / "policies/tools.yaml").write_text("catalogue: shop\ntools: {refund: {}}\n")
    (folder / "call.json").write_text(json.dumps({"call": "shop/refund"}))
    for kind, effect in (("kind: authorize", "allow"), ("kind: mcp, url: http://a.io/m", "deny")):
        config = f"policies: policies\nupstreams:\n  shop: {{{kind}}}\n"
        (folder / "sidecar.yaml").write_text(config)
        assert main(["policy", "explain", "--call", "call.json", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["decision"]["effect"] == effect, kind


# -- promote ---------------------------------------------------------------------------------


def test_promoting_changes_one_line_and_nothing_else(folder: Path, capsys: Captured) -> None:
    write(folder, shop=POLICY)
    path = folder / "policies/shop.yaml"
    path.chmod(0o640)
    assert main(["policy", "promote", "shop/large", "policies"]) == 0
    out = capsys.readouterr().out
    assert "check passes, 3 cases of shop pass with it" in out
    assert "policies/shop.yaml:8:12:" in out
    assert path.read_text() == POLICY.replace('"shadow"', "enforce")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(folder / "policies") and len(os.listdir(folder / "policies")) == 3
    assert main(["policy", "promote", "shop/large", "policies"]) == 1
    assert "is not in shadow" in capsys.readouterr().err


def test_a_whole_policy_is_promoted(folder: Path) -> None:
    text = POLICY.replace('    mode:  "shadow"   # watched since Monday\n', "").replace(
        "rules:", "mode: shadow  # for now\r\nrules:"
    )
    path = folder / "policies/shop.yaml"
    path.write_bytes(text.encode())
    assert main(["policy", "promote", "shop", "policies"]) == 0
    assert path.read_bytes() == text.replace("mode: shadow ", "mode: enforce ").encode()


def test_nothing_is_promoted_whose_tests_fail(folder: Path, capsys: Captured) -> None:
    text = POLICY.replace("> 50", "> 60")
    write(folder, shop=text)
    assert main(["policy", "promote", "shop/large", "policies"]) == 1
    out, err = capsys.readouterr()
    assert "FAILED: a large refund" in out and "nothing was changed" in err
    assert (folder / "policies/shop.yaml").read_text() == text


def test_nothing_is_promoted_that_does_not_load(folder: Path, capsys: Captured) -> None:
    # in shadow it hides nothing; live, no rule below it could ever allow
    text = POLICY + "  - {id: stop, effect: deny, mode: shadow, tools: shop/get}\n"
    write(folder, shop=text)
    assert main(["policy", "promote", "shop/stop", "policies"]) == 1
    err = capsys.readouterr().err
    assert "can never decide" in err and "`policy check` does not pass" in err
    assert (folder / "policies/shop.yaml").read_text() == text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("shop", "in shadow are its rules: shop/large"),
        ("shop/reads", "is not in shadow"),
        ("shop/nothing", "has no rule 'nothing'"),
        ("shop/larg", "has no rule 'larg': did you mean \"large\"?"),
        ("shp/large", 'did you mean "shop"?'),
    ],
)
def test_what_cannot_be_promoted(folder: Path, capsys: Captured, name: str, said: str) -> None:
    write(folder, shop=POLICY)
    assert main(["policy", "promote", name, "policies"]) == 1
    assert said in capsys.readouterr().err
    assert (folder / "policies/shop.yaml").read_text() == POLICY


def test_a_rule_of_a_shadow_policy_and_of_a_pack_stay_where_they_are(
    folder: Path, capsys: Captured
) -> None:
    write(folder, shop=POLICY.replace("rules:", "mode: shadow\nrules:"))
    assert main(["policy", "promote", "shop/large", "policies"]) == 1
    assert "no rule leaves a shadow policy: promote shop" in capsys.readouterr().err
    assert main(["policy", "promote", "read-only", "policies", "pack:read-only"]) == 1
    assert "policy packs copy read-only" in capsys.readouterr().err


def test_untested_promotion_is_said(folder: Path, capsys: Captured) -> None:
    write(folder, shop=POLICY)
    (folder / "policies/shop_test.yaml").unlink()
    assert main(["policy", "promote", "shop/large", "policies"]) == 0
    assert "no case tests shop" in capsys.readouterr().out


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_that_root_promotes_stays_that_of_whoever_reads_it(folder: Path) -> None:
    write(folder, shop=POLICY)
    path = folder / "policies/shop.yaml"
    os.chown(path, 12_345, 12_346)
    path.chmod(0o640)
    assert main(["policy", "promote", "shop/large", "policies"]) == 0
    now = path.stat()
    assert (now.st_uid, now.st_gid, stat.S_IMODE(now.st_mode)) == (12_345, 12_346, 0o640)


@pytest.mark.parametrize(("mode", "code"), [(0o640, 2), (0o644, 0)])
def test_a_file_that_others_could_not_read_any_more_is_not_written(
    folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, mode: int, code: int
) -> None:
    def refused(path: Path, user: int, group: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    write(folder, shop=POLICY)
    path = folder / "policies/shop.yaml"
    path.chmod(mode)
    monkeypatch.setattr("os.chown", refused)
    assert main(["policy", "promote", "shop/large", "policies"]) == code
    said = "it is another user's or group's: do it as its owner or root: nothing was changed"
    assert (said in capsys.readouterr().err) is (code == 2)
    assert (path.read_text() == POLICY) is (code == 2)
    assert len(os.listdir(folder / "policies")) == 3
    assert stat.S_IMODE(path.stat().st_mode) == mode


# -- packs, schema ---------------------------------------------------------------------------


def test_packs_are_listed_with_what_they_say_of_themselves(capsys: Captured) -> None:
    assert main(["policy", "packs", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("read-only ") and "change nothing" in line for line in lines)
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines) and len(lines) >= 10


def test_packs_as_data(capsys: Captured) -> None:
    assert main(["policy", "packs", "list", "--json"]) == 0
    packs = {one["name"]: one for one in json.loads(capsys.readouterr().out)["packs"]}
    assert packs["trust"]["description"] == "untrusted content cannot cause a change"


def test_a_pack_is_copied_once_with_its_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["policy", "packs", "copy", "baseline"]) == 0
    copied = sorted(path.name for path in (tmp_path / "policies/baseline").iterdir())
    assert "no-secrets.yaml" in copied and "no-secrets_test.yaml" in copied
    assert main(["policy", "test", "policies", "--coverage", "100"]) == 0
    assert main(["policy", "packs", "copy", "baseline"]) == 1
    assert "nothing was copied" in capsys.readouterr().err
    assert main(["policy", "packs", "copy", "baseline", "--to", "own"]) == 0
    assert main(["policy", "packs", "copy", "basline"]) == 2
    assert 'did you mean "baseline"?' in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["policy", "catalogue", "test", "sidecar"])
def test_a_schema_is_printed(kind: str, capsys: Captured) -> None:
    assert main(["policy", "schema", kind]) == 0
    assert json.loads(capsys.readouterr().out)["$schema"].startswith("https://json-schema.org/")


def test_schemas_are_written_for_an_editor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["policy", "schema", "--to", ".schemas"]) == 0
    assert len(list((tmp_path / ".schemas").iterdir())) == 5
    said = capsys.readouterr().out.splitlines()[-1]
    # An editor goes by the folder of the file in which the line stands.
    reached = tmp_path / "policies" / said.removeprefix("    # yaml-language-server: $schema=")
    (tmp_path / "policies").mkdir()
    assert json.loads(reached.read_text())["title"] == "A policy of aegis-sidecar"
