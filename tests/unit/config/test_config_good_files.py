"""What a sound configuration becomes: values, defaults, secrets, paths."""

from __future__ import annotations

import base64
import os
import pickle
from pathlib import Path

import pydantic
import pytest
from certificates import Authority
from config_setup import ENVIRON, EVERYTHING

from sidecar.app import running
from sidecar.config.load import Loaded, load_config
from sidecar.config.model import STDIO, Config, Issuer, Limits, Secret
from sidecar.config.show import show_text
from sidecar.config.store_url import shown_store, store_password
from sidecar.errors import StartRefused
from sidecar.model import RiskLevel, Role, TrustLevel

SMALLEST = """
policies: ./policies
upstreams:
  shop: {url: http://shop.internal}
"""


def load(folder: Path, text: str) -> Loaded:
    (folder / "sidecar.yaml").write_text(text)
    password = folder / "jira.txt"
    password.write_text("hunter2\n")
    password.chmod(0o640)
    return load_config(folder / "sidecar.yaml", ENVIRON, [])


def config_of(folder: Path, text: str) -> Config:
    loaded = load(folder, text)
    assert loaded.config is not None, "\n".join(map(str, loaded.problems))
    assert loaded.problems == []
    return loaded.config


def test_the_smallest_file_takes_every_default(tmp_path: Path) -> None:
    config = config_of(tmp_path, SMALLEST)
    assert config.default == "deny"
    assert (config.listen.data.url, config.listen.control.url) == (
        "http://127.0.0.1:8080",
        "http://127.0.0.1:8081",
    )
    assert config.listen.data.hosts == ("127.0.0.1", "localhost", "::1")
    assert config.store == f"sqlite:///{tmp_path}/aegis.db"
    assert config.store.startswith("sqlite:////")
    assert config.data_dir == tmp_path
    assert config.policies == (f"{tmp_path}/policies",)
    assert config.default_agent == ("default", "agent")
    agent = config.tenants["default"].agents["agent"]
    assert (agent.risk, agent.trust) == (RiskLevel.MEDIUM, TrustLevel.TRUSTED_INTERNAL_UNSIGNED)
    assert config.limits == Limits()
    shop = config.upstreams["shop"]
    assert (shop.url, shop.kind, shop.auth, shop.private) == (
        "http://shop.internal", "rest", None, False,
    )  # fmt: skip
    assert (shop.limits.request_bytes, shop.limits.calls) == (1024 * 1024, 256)
    assert shop.timeouts.idle_s == 300.0


def test_every_setting_arrives(tmp_path: Path) -> None:
    config = config_of(tmp_path, EVERYTHING)
    assert config.default == "observe"
    assert config.listen.data.hosts == ("127.0.0.1", "localhost", "::1", "aegis.internal")
    assert (config.listen.control.host, config.listen.control.port) == ("::1", 9001)
    assert config.listen.control.url == "http://[::1]:9001"
    assert config.data_dir == tmp_path / "data"
    assert config.policies == (
        "pack:read-only", f"{tmp_path}/policies", "/etc/aegis/policies",
    )  # fmt: skip
    assert config.default_agent == ("acme", "coder")
    coder = config.tenants["acme"].agents["coder"]
    assert (coder.team, coder.environment, coder.risk, coder.trust) == (
        "platform", "production", RiskLevel.HIGH, TrustLevel.UNTRUSTED_EXTERNAL,
    )  # fmt: skip
    tester = config.tenants["acme"].agents["tester"]
    assert tester.token == Secret(ENVIRON["TESTER_TOKEN"])
    assert (tester.jwt, tester.mtls, config.mtls) == ("tester", "", "off")
    ana = config.tenants["acme"].people["ana"]
    assert (ana.roles, ana.groups) == ((Role.APPROVER, Role.VIEWER), ("platform-leads",))
    assert ana.key == Secret(ENVIRON["ANA_KEY"])
    assert config.issuers == (
        Issuer(
            issuer="https://idp.acme.io", audience="tools", jwks="https://idp.acme.io/keys",
            agent_claim="azp", tenant_claim="org", run_claim="sid", leeway_s=5.0,
        ),
    )  # fmt: skip
    github = config.upstreams["github"]
    assert (github.name, github.url) == ("github", "https://api.github.com/api/v3")
    assert (github.timeouts.connect_s, github.timeouts.response_s, github.timeouts.idle_s) == (
        0.25, 120.0, 3600.0,
    )  # fmt: skip
    assert (github.limits.request_bytes, github.limits.calls) == (65536, 3)
    assert github.encoded_slash
    assert github.redirects == ("cdn.github.com",)
    assert not github.private
    assert config.upstreams["files"].kind == "mcp"
    assert config.upstreams["files"].arguments == "strict"
    assert github.arguments == "checked"
    assert config.upstreams["files"].private
    assert config.upstreams["files"].limits.request_bytes == 2 * 1024 * 1024
    assert config.upstreams["jira"].private
    assert config.upstreams["crm"].private
    assert (config.record.arguments, config.record.secrets) == ("digest", ("pin",))
    assert (config.limits.depth, config.limits.queue_wait_s, config.limits.drain_s) == (8, 1.5, 0)


@pytest.mark.parametrize(
    ("limits", "of_upstream", "bodies"),
    [
        ("{}", "{}", 256 << 20),
        ("{request: 128MiB}", "{}", 256 << 20),
        ("{request: 200MiB}", "{}", 400 << 20),
        ("{}", "{request: 1GiB}", 2 << 30),
        ("{request: 200MiB}", "{request: 1MiB}", 400 << 20),
        ("{bodies: 2MiB}", "{}", 2 << 20),
        ("{bodies: 8MiB}", "{request: 4MiB}", 8 << 20),
    ],
)
def test_the_bound_of_all_bodies_has_room_for_two_of_the_largest(
    tmp_path: Path, limits: str, of_upstream: str, bodies: int
) -> None:
    text = (
        "policies: ./policies\nupstreams:\n  shop: {url: http://shop.internal}\n"
        f"  other: {{url: http://other.internal, limits: {of_upstream}}}\nlimits: {limits}\n"
    )
    assert config_of(tmp_path, text).limits.bodies_bytes == bodies


def test_credentials_become_one_header(tmp_path: Path) -> None:
    config = config_of(tmp_path, EVERYTHING)
    sent = {}
    for name, upstream in config.upstreams.items():
        if upstream.auth is not None:
            sent[name] = (upstream.auth.header_name, upstream.auth.header_value.reveal())
    assert sent == {
        "github": ("Authorization", "Bearer ghp_1"),
        "jira": ("Authorization", "Basic " + base64.b64encode(b"aegis:hunter2").decode()),
        "crm": ("X-Api-Key", "key 1"),
    }


def test_g5_secrets_show_themselves_nowhere(tmp_path: Path) -> None:
    config = config_of(tmp_path, EVERYTHING)
    shown = f"{config!r} {config} {config.model_dump()} {config.upstreams['github'].auth!r}"
    assert "***" in shown
    for secret in ("ghp_1", "hunter2", "key 1"):
        assert secret not in shown
    with pytest.raises(TypeError, match="not written"):
        pickle.dumps(config.upstreams["github"].auth)
    with pytest.raises(ValueError, match=r"serialize unknown type|Unable to serialize"):
        config.model_dump_json()
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert len({Secret("a"), Secret("a")}) == 1


def test_a_config_is_frozen(tmp_path: Path) -> None:
    config = config_of(tmp_path, SMALLEST)
    with pytest.raises(pydantic.ValidationError):
        config.limits.queue = 1  # type: ignore[misc]


@pytest.mark.parametrize(("mode", "is_accepted"), [
    (0o600, True), (0o640, True), (0o400, True), (0o644, False), (0o604, False), (0o602, False),
])  # fmt: skip
def test_g12_a_world_readable_secret_file_is_refused(
    tmp_path: Path, mode: int, is_accepted: bool
) -> None:
    path = tmp_path / "token"
    path.write_text("hunter2\n")
    path.chmod(mode)
    (tmp_path / "sidecar.yaml").write_text(
        "policies: ./p\n"
        "upstreams: {shop: {url: http://shop.internal, auth: {bearer: {file: token}}}}\n"
    )
    loaded = load_config(tmp_path / "sidecar.yaml", {}, [])
    assert (loaded.config is not None) == is_accepted
    if not is_accepted:
        (problem,) = loaded.problems
        assert f"{path} is open to every user" in problem.message
        assert "hunter2" not in str(problem)


@pytest.mark.parametrize(("content", "said"), [
    (b"", "is empty"), (b"\n", "is empty"), (b"\xff\xfe", "is not UTF-8"),
    (b"a\nb", "holds control characters"), (b"x" * 65537, "larger than 65536 bytes"),
])  # fmt: skip
def test_a_useless_secret_file_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    path.chmod(0o600)
    (tmp_path / "sidecar.yaml").write_text(
        "policies: ./p\n"
        "upstreams: {shop: {url: http://shop.internal, auth: {bearer: {file: token}}}}\n"
    )
    loaded = load_config(tmp_path / "sidecar.yaml", {}, [])
    assert loaded.config is None
    assert said in loaded.problems[0].message


@pytest.mark.parametrize(("value", "is_accepted"), [
    ("hunter2", True), ("hunter2\n", True), ("hunter2\r\n", True), ("\n", False),
    ("hunter2\nmore", False),
])  # fmt: skip
def test_a_variable_that_was_filled_from_a_file_may_end_its_line(
    tmp_path: Path, value: str, is_accepted: bool
) -> None:
    """As `kubectl create secret --from-file` makes them."""
    (tmp_path / "sidecar.yaml").write_text(
        "policies: ./p\n"
        "upstreams: {shop: {url: http://shop.internal, auth: {bearer: {env: TOKEN}}}}\n"
    )
    loaded = load_config(tmp_path / "sidecar.yaml", {"TOKEN": value}, [])
    assert (loaded.config is not None) == is_accepted
    if loaded.config is not None:
        auth = loaded.config.upstreams["shop"].auth
        assert auth is not None and auth.header_value.reveal() == "Bearer hunter2"


def test_a_pipe_in_place_of_a_secret_file_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "token", 0o600)
    (tmp_path / "sidecar.yaml").write_text(
        "policies: ./p\n"
        "upstreams: {shop: {url: http://shop.internal, auth: {bearer: {file: token}}}}\n"
    )
    loaded = load_config(tmp_path / "sidecar.yaml", {}, [])
    assert "no regular file" in loaded.problems[0].message


def test_commands_that_need_no_upstream_need_no_upstreams_secret(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.yaml"
    secret = "upstreams: {shop: {url: http://shop.internal, auth: {bearer: {env: NOT_SET}}}}\n"
    path.write_text("policies: ./policies\n" + secret)
    loaded = load_config(path, {}, [])
    assert loaded.config is None
    assert loaded.local is not None
    assert loaded.local.store == f"sqlite:///{tmp_path}/aegis.db"
    path.write_text("policies: ./policies\nstore: {env: NOT_SET}\n" + secret)
    assert load_config(path, {}, []).local is None


def test_a_server_is_a_store_and_its_password_is_never_shown(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.yaml"
    path.write_text(SMALLEST + "store: {env: DB}\n")
    for url in (
        "postgresql://aegis:hunter2@db1,db2:5433/aegis?target_session_attrs=primary"
        "&sslmode=verify-full&sslrootcert=/etc/aegis/ca.pem",
        "postgresql://aegis@db/aegis?password=hunter2&sslmode=verify-ca",
    ):
        loaded = load_config(path, {"DB": url}, [])
        assert loaded.problems == []
        assert loaded.config is not None
        assert loaded.config.store == url
        assert loaded.config.data_dir == tmp_path
        assert store_password(url) == "hunter2"
        for shown in (show_text(loaded.config, loaded.origins), repr(shown_store(url))):
            assert "hunter2" not in shown
            assert "aegis" in shown
            assert "***" in shown
    path.write_text(SMALLEST + "store: postgresql://aegis@db/aegis?sslmode=verify-full\n")
    assert load_config(path, {}, []).problems == []


def test_a_store_may_stand_in_a_variable_or_be_absolute(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.yaml"
    path.write_text(SMALLEST + "store: {env: DB}\n")
    loaded = load_config(path, {"DB": "sqlite:////var/lib/aegis/a.db"}, [])
    assert loaded.config is not None
    assert loaded.config.store == "sqlite:////var/lib/aegis/a.db"
    assert loaded.config.data_dir == Path("/var/lib/aegis")


def test_relative_paths_belong_to_the_folder_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "sidecar.yaml").write_text(SMALLEST)
    monkeypatch.chdir(tmp_path)
    loaded = load_config(Path("etc/sidecar.yaml"), {}, [])
    assert loaded.config is not None
    assert loaded.config.policies == (f"{tmp_path}/etc/policies",)
    assert loaded.config.data_dir == tmp_path / "etc"


def test_a_listener_open_to_others_is_warned_of_and_usable(tmp_path: Path) -> None:
    loaded = load(tmp_path, SMALLEST + "listen: {control: '0.0.0.0:8081'}\n")
    assert loaded.config is not None
    (problem,) = loaded.problems
    assert problem.is_warning
    named = "listen: {control: {address: '0.0.0.0:8081', hosts: [aegis]}}\n"
    assert load(tmp_path, SMALLEST + named).problems == []


def test_g12_keys_that_are_sent_in_the_clear_are_warned_of(tmp_path: Path) -> None:
    """Where other machines reach the control listener, and there is somebody who has a key."""
    Authority().sign().write(tmp_path)
    tls = ", tls: {cert: {file: server.pem}, key: {file: server.key}}"
    people = (
        "tenants: {acme: {agents: {coder: {}}, "
        "people: {ana: {roles: [viewer], key: {env: ANA_KEY}}}}}\n"
    )
    for address, more, tenants, is_warned in (
        ("0.0.0.0:8081", "", people, True),
        ("10.0.0.5:8081", "", people, True),
        ("0.0.0.0:8081", tls, people, False),
        ("127.0.0.1:8081", "", people, False),
        ("0.0.0.0:8081", "", "", False),
    ):
        control = f"listen: {{control: {{address: '{address}', hosts: [aegis]{more}}}}}\n"
        loaded = load(tmp_path, SMALLEST + control + tenants)
        assert loaded.config is not None, loaded.problems
        said = [str(problem) for problem in loaded.problems if problem.is_warning]
        assert len(said) == len(loaded.problems) == is_warned, (address, said)
        if is_warned:
            assert "without TLS: keys of people are sent there in the clear" in said[0]
            assert "tls: {cert:" in said[0]


def test_a_neighbour_on_another_port_or_address_is_no_loop(tmp_path: Path) -> None:
    config = config_of(
        tmp_path,
        "policies: ./p\nupstreams:\n"
        "  a: {url: 'http://127.0.0.1:8082'}\n"
        "  b: {url: 'http://10.0.0.5:8080'}\n"
        "  c: {url: 'http://tools.internal:8080'}\n",
    )
    assert len(config.upstreams) == 3


async def test_a_stdio_server_is_an_upstream_that_only_wrap_starts(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.yaml"
    path.write_text("policies: ./p\nupstreams:\n  files: {url: stdio, kind: mcp}\n")
    loaded = load_config(path, {}, [])
    assert loaded.problems == []
    assert loaded.config is not None
    assert loaded.config.upstreams["files"].url == STDIO
    with pytest.raises(StartRefused, match="aegis-sidecar wrap --name files"):
        async with running(loaded.config):
            pass


def test_tools_that_only_ask_need_no_url(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.yaml"
    path.write_text("policies: ./p\nupstreams:\n  shell: {kind: authorize, run: trusted}\n")
    loaded = load_config(path, {}, [])
    assert loaded.problems == []
    assert loaded.config is not None
    shell = loaded.config.upstreams["shell"]
    assert (shell.kind, shell.url, shell.run) == ("authorize", "authorize", "trusted")


def test_hosts_of_upstreams_are_read(tmp_path: Path) -> None:
    file = tmp_path / "sidecar.yaml"
    file.write_text(
        "policies: .\nupstreams:\n"
        "  one: {url: 'https://one.tools:8080', hosts: [One.Tools, '[2001:DB8::1]']}\n"
        "  two: {url: 'https://one.internal', hosts: two.tools}\n"
    )
    loaded = load_config(file, {"AEGIS_LISTEN__DATA": "127.0.0.1:9000"}, [])
    assert loaded.config is not None, loaded.problems
    assert loaded.config.upstreams["one"].hosts == ("one.tools", "2001:db8::1")
    assert loaded.config.upstreams["two"].hosts == ("two.tools",)
    again = load_config(file, {}, [])
    assert again.config is None and "is the sidecar itself" in again.problems[0].message
