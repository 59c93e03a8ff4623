"""What can be used and is hardly meant is warned of, and what cannot be read is told how it can."""

from __future__ import annotations

from pathlib import Path

import pytest
from certificates import Authority

from sidecar.config.load import Loaded, load_config

WARNED = "goes over the network unencrypted"


def load(folder: Path, text: str) -> Loaded:
    (folder / "sidecar.yaml").write_text(text)
    return load_config(folder / "sidecar.yaml", {"GITHUB_TOKEN": "ghp_1"}, [])


@pytest.mark.parametrize(
    ("upstream", "is_warned"),
    [
        ("{url: 'http://api.example.com', auth: {bearer: {env: GITHUB_TOKEN}}}", True),
        ("{url: 'http://8.8.8.8', auth: {bearer: {env: GITHUB_TOKEN}}}", True),
        ("{url: 'https://api.example.com', auth: {bearer: {env: GITHUB_TOKEN}}}", False),
        ("{url: 'http://api.example.com'}", False),
        (
            "{url: 'http://api.example.com', private: true, auth: {bearer: {env: GITHUB_TOKEN}}}",
            False,
        ),
        ("{url: 'http://10.0.0.7', auth: {bearer: {env: GITHUB_TOKEN}}}", False),
        ("{url: 'http://localhost:1', auth: {bearer: {env: GITHUB_TOKEN}}}", False),
        ("{url: 'http://shop', auth: {bearer: {env: GITHUB_TOKEN}}}", False),
        ("{url: 'http://shop.internal', auth: {bearer: {env: GITHUB_TOKEN}}}", False),
        ("{url: 'http://8.8.8.8', kind: mcp, query: {k: {env: GITHUB_TOKEN}}}", True),
        ("{url: 'http://8.8.8.8', kind: mcp, query: {tenant: acme}}", False),
    ],
)
def test_g5_a_credential_that_would_leave_the_network_in_the_clear_is_told(
    tmp_path: Path, upstream: str, is_warned: bool
) -> None:
    loaded = load(tmp_path, f"policies: ./policies\nupstreams:\n  up: {upstream}\n")
    assert loaded.config is not None
    assert [WARNED in str(one) for one in loaded.problems] == [True] * is_warned


@pytest.mark.parametrize("days", [-2, 9])
@pytest.mark.parametrize("place", ["listener", "upstream"])
def test_a_certificate_that_has_expired_is_told(tmp_path: Path, place: str, days: int) -> None:
    Authority().sign(days=days).write(tmp_path)
    tls = "tls: {cert: {file: server.pem}, key: {file: server.key}}"
    listen = f"listen: {{data: {{address: '127.0.0.1:9000', {tls}}}}}\n"
    upstream = "url: 'https://api.example.com'" + (f", {tls}" if place == "upstream" else "")
    text = f"policies: ./policies\nupstreams: {{up: {{{upstream}}}}}\n"
    loaded = load(tmp_path, text + (listen if place == "listener" else ""))
    assert loaded.config is not None
    told = [str(one) for one in loaded.problems]
    assert ["the certificate has expired" in one for one in told] == [True] * (days < 0), told


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("müller.example", "write it in ASCII, xn--mller-kva.example"),
        ("api.acme.io.", "write it without the dot at its end"),
        ("'*.acme.io'", "patterns are not read"),
        ("https://cdn.acme.io/", "write the name alone"),
        ("a..b", "not a host name"),
        ("ü" * 80, "not a host name"),
    ],
)
def test_b7_a_host_name_that_cannot_stand_so_is_told_how_it_can(
    tmp_path: Path, name: str, hint: str
) -> None:
    upstream = f"{{url: 'https://api.example.com', redirects: [{name}]}}"
    loaded = load(tmp_path, f"policies: ./policies\nupstreams: {{up: {upstream}}}\n")
    [problem] = loaded.problems
    assert hint in str(problem)


def test_b7_a_url_of_other_letters_is_told_in_ascii_and_shows_no_password(tmp_path: Path) -> None:
    def told(url: str) -> str:
        text = f"policies: ./policies\nupstreams: {{up: {{url: '{url}'}}}}\n"
        [problem] = load(tmp_path, text).problems
        return str(problem)

    assert "xn--mller-kva.example" in told("https://MÜLLER.example:8443/x")
    assert "hünter2" not in told("https://user:hünter2@müller.example/x")


@pytest.mark.parametrize(
    ("name", "is_taken"),
    [("api_key", True), ("client_id", True), ("Content_Length", False), ("aegis_token", False)],
)
def test_b12_a_credential_may_have_an_underscore_in_its_name(
    tmp_path: Path, name: str, is_taken: bool
) -> None:
    auth = f"auth: {{header: {{name: {name}, value: {{env: GITHUB_TOKEN}}}}}}"
    text = f"policies: ./policies\nupstreams: {{up: {{url: 'https://a.example', {auth}}}}}\n"
    loaded = load(tmp_path, text)
    assert (loaded.config is not None) is is_taken, loaded.problems


@pytest.mark.parametrize(
    ("issuers", "tenants", "warned"),
    [
        (("", ""), 2, 2),
        (("tenant: acme", ""), 2, 1),
        (("tenant: acme", "tenant: rival"), 2, 0),
        (("tenant_claim: org", "tenant: rival"), 2, 0),
        (("", ""), 1, 0),
        (("",), 2, 0),
    ],
)
def test_g1_of_several_issuers_one_that_may_name_anybody_is_told(
    tmp_path: Path, issuers: tuple[str, ...], tenants: int, warned: int
) -> None:
    lines = [
        f"    - {{issuer: https://i{number}.io, audience: a, jwks: https://i{number}.io/k, {more}}}"
        for number, more in enumerate(issuers)
    ]
    names = "".join(f"  {name}: {{agents: {{}}}}\n" for name in ("acme", "rival")[:tenants])
    loaded = load(
        tmp_path,
        f"policies: ./policies\ntenants:\n{names}identity:\n  jwt:\n" + "\n".join(lines)
        + "\nupstreams: {shop: {url: http://shop.internal}}\n",
    )  # fmt: skip
    assert loaded.config is not None, loaded.problems
    said = [one for one in loaded.problems if "of every tenant" in one.message]
    assert len(said) == warned and all(one.is_warning for one in said)
