"""`config check`, `config show` and the table of settings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from certificates import Authority
from config_setup import ENVIRON, EVERYTHING

from sidecar.cli.main import main
from sidecar.config.load import KEYS, load_config
from sidecar.config.model import Config
from sidecar.config.reference import settings_table
from sidecar.config.settings import declared, effective

TEXT = """
policies: ./policies
upstreams:
  shop: {url: http://shop.internal, auth: {bearer: {env: SHOP_TOKEN}}, limits: {calls: 3}}
limits: {queue: 10}
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHOP_TOKEN", "hunter2")
    monkeypatch.delenv("AEGIS_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "p.yaml").write_text("policy: p\n")
    file = tmp_path / "sidecar.yaml"
    file.write_text(TEXT)
    return file


def test_check_of_a_sound_file(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("sidecar.yaml: fine. Upstreams: shop.")
    assert said.out.endswith("\ndefault/agent calls with: no credential at all\n")
    assert said.err == ""


def test_check_tells_what_passes_unjudged(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for value, lines in (("false", 0), ("true", 1)):
        (path.parent / "policies" / "p.yaml").write_text(
            f"catalogue: shop\ntools: {{live: {{route: GET /live, websocket: {value}}}}}\n"
        )
        assert main(["config", "check"]) == 0
        said_lines = capsys.readouterr().out.splitlines()
        fine = [line.startswith("sidecar.yaml: fine.") for line in said_lines].index(True)
        warnings = said_lines[:fine]
        said = "shop/live: warning: what goes through its WebSocket is not judged"
        assert [line.startswith(said) for line in warnings] == [True] * lines


def test_check_tells_who_may_call(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODER", "0123456789abcdef01234567")
    agents = "coder: {token: {env: CODER}}, tester: {jwt: tester}, idle: {}"
    issuer = "{issuer: https://idp.acme.io, audience: tools, jwks: https://idp.acme.io/keys}"
    path.write_text(
        f"{TEXT}tenants: {{acme: {{agents: {{{agents}}}}}}}\nidentity: {{jwt: {issuer}}}\n"
    )
    assert main(["config", "check"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "acme/coder calls with: token",
        "acme/tester calls with: signed token of tester",
        "acme/idle calls with: nothing yet",
    ]


def test_check_names_problems(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check", "--config", str(path), "--set", "limits.queue=0"]) == 1
    assert capsys.readouterr().out == (
        "--set limits.queue: error: limits.queue: must be from 1 to 1000000\n"
    )


def test_check_finds_policies_that_are_not_there_and_show_does_not_mind(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path.write_text(TEXT.replace("./policies", "[./policies, ./nope, pack:zzz]"))
    assert main(["config", "check"]) == 1
    assert [line for line in capsys.readouterr().out.splitlines() if "error" in line] == [
        "sidecar.yaml:2:24: error: nope: cannot be read: No such file or directory",
        "sidecar.yaml:2:32: error: pack:zzz: there is no such pack",
    ]
    assert main(["config", "show"]) == 0
    path.write_text(TEXT.replace("./policies", "[./policies, ./nope]") + "limit: {}\n")
    assert main(["config", "check"]) == 1
    out = capsys.readouterr().out
    assert "nope: cannot be read" in out and '"limit" is not a key' in out


def test_an_unreadable_file_is_another_exit_code(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AEGIS_CONFIG", "none.yaml")
    assert main(["config", "check"]) == 2
    assert capsys.readouterr().out.startswith("none.yaml: error: cannot be read")
    monkeypatch.setenv("AEGIS_CONFIG", str(path))
    assert main(["config", "check"]) == 0


def test_show_tells_value_and_origin(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AEGIS_LIMITS__DEPTH", "9")
    assert main(["config", "show", "--set", "limits.query=7"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    shown = {line[0]: line[1:] for line in lines}
    assert shown["limits.queue"] == ["10", "file"]
    assert shown["limits.depth"] == ["9", "environment"]
    assert shown["limits.query"] == ["7", "flag"]
    assert shown["limits.drain"] == ["30s", "default"]
    assert shown["upstreams.shop.auth"] == ["Authorization:", "***", "file"]
    assert shown["upstreams.shop.limits.request"] == ["1MiB", "default"]
    assert shown["identity.default_agent"] == ["default/agent", "default"]


def test_show_as_json(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", "--json"]) == 0
    text = capsys.readouterr().out
    shown = json.loads(text)
    assert shown["limits.queue"] == {"value": 10, "origin": "file"}
    assert shown["policies"] == {"value": [f"{path.parent}/policies"], "origin": "file"}
    assert shown["upstreams.shop.auth"] == {"value": "Authorization: ***", "origin": "file"}
    assert "hunter2" not in text


def test_everything_that_can_be_set_is_shown(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As text and as JSON, with nothing in it that only Python reads."""
    authority = Authority()
    (path.parent / "ca.pem").write_bytes(authority.pem)
    authority.sign().write(path.parent)
    (path.parent / "jira.txt").write_text("hunter2\n")
    (path.parent / "jira.txt").chmod(0o600)
    sink = {"SINK_URL": "https://hooks.internal", "SINK_SECRET": "sink-canary-Qm9Yb2N4a1Zt"}
    key = (path.parent / "server.key").read_text()
    for name, secret in {**ENVIRON, **sink, "CLIENT_KEY": key}.items():
        monkeypatch.setenv(name, secret)
    tls = "{ca: {file: ca.pem}, cert: {file: server.pem}, key: {env: CLIENT_KEY}}"
    of_listener = "{cert: {file: server.pem}, key: {file: server.key}}"
    with_tls = EVERYTHING.replace("encoded_slash: true", f"encoded_slash: true\n    tls: {tls}")
    with_tls = with_tls.replace('"[::1]:9001"', f'{{address: "[::1]:9001", tls: {of_listener}}}')
    hook = f"{{kind: webhook, url: {{env: SINK_URL}}, secret: {{env: SINK_SECRET}}, tls: {tls}}}"
    path.write_text(f"{with_tls}sinks: {{hook: {hook}}}\n")
    assert main(["config", "show", "--json"]) == 0
    text = capsys.readouterr().out
    shown = json.loads(text)
    for place in ("upstreams.github", "sinks.hook"):
        assert shown[f"{place}.tls.ca"] == {"value": f"{path.parent}/ca.pem", "origin": "file"}
        assert shown[f"{place}.tls.cert"] == {
            "value": f"{path.parent}/server.pem",
            "origin": "file",
        }
        assert shown[f"{place}.tls.key"] == {"value": "***", "origin": "file"}
    assert shown["upstreams.jira.tls.ca"] == {"value": None, "origin": "default"}
    assert shown["listen.control.tls"]["value"] == (
        f"cert: {path.parent}/server.pem, key: {path.parent}/server.key"
    )
    assert main(["config", "show"]) == 0
    plain = capsys.readouterr().out
    assert "Path(" not in plain and f"  {path.parent}/ca.pem  " in plain
    for said in (text, plain):
        assert "PRIVATE KEY" not in said and "hunter2" not in said and "canary" not in said


def test_show_of_a_broken_file_says_problems_on_the_side(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "show", "--set", "default=none"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("--set default: error:")


def test_the_command_works_as_a_process(path: Path) -> None:
    command = [sys.executable, "-m", "sidecar.cli.main", "config", "check", "--config", str(path)]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_setting_has_a_line_in_the_table() -> None:
    table = settings_table()
    lines = table.splitlines()
    keys = [setting.key for setting in declared()]
    assert len(keys) == len(set(keys)) == len(lines) - 2
    assert all(setting.meaning and setting.form and setting.default for setting in declared())
    assert "| `limits.queue` | number, 1 to 1000000 | 4096 |" in table
    assert "| `limits.drain` | duration, 0s to 1h | 30s |" in table
    assert all(line.count(" | ") == 3 for line in lines)


def test_what_is_shown_is_what_is_declared(path: Path) -> None:
    people = "{ana: {key: {env: ANA}}}"
    tenants = f"tenants: {{default: {{agents: {{agent: {{}}}}, people: {people}}}}}"
    path.write_text(f"{TEXT}{tenants}\nsinks: {{here: {{kind: stdout}}}}\n")
    environ = {"SHOP_TOKEN": "x", "ANA": "0123456789abcdef01234567"}
    config = load_config(path, environ, []).config
    assert config is not None
    for placeholder, name in (("TENANT", "default"), ("AGENT", "agent"), ("NAME", "shop")):
        assert f".{placeholder}." in settings_table()
        assert f".{name}." in "".join(key for key, _ in effective(config))
    generic = {
        key.replace(".shop.", ".NAME.")
        .replace("sinks.here.", "sinks.NAME.")
        .replace("default.agents.agent", "TENANT.agents.AGENT")
        .replace("default.people.ana", "TENANT.people.PERSON")
        for key, _ in effective(config)
    }
    assert generic == {setting.key for setting in declared()}


def test_every_key_has_settings() -> None:
    assert {setting.key.split(".")[0] for setting in declared(Config)} == set(KEYS)


def test_the_table_tells_the_real_defaults(path: Path) -> None:
    path.write_text("policies: ./policies\nupstreams: {shop: {url: http://shop.internal}}\n")
    config = load_config(path, {}, []).config
    assert config is not None
    values = dict(effective(config))
    told = {setting.key: setting.default for setting in declared()}
    for key in values:
        if key.startswith(("limits.", "listen.data", "listen.control")) and key.count(".") == 1:
            assert told[key] == str(values[key])
    timeouts = {key for key in values if ".timeouts." in key}
    assert len(timeouts) == 4
    for key in timeouts:
        assert told[key.replace(".shop.", ".NAME.")] == values[key]
