"""Metadata of MCP servers is led through as it is, but for the address; nonsense is not."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from proxy_whole_setup import Whole, read_answer, receipts, whole
from proxy_wire_setup import Conversation, read_request, upstream_of

from sidecar.errors import Refused
from sidecar.model import OutcomeKind
from sidecar.proxy.authorization import Authorization
from sidecar.proxy.endings import ending_by
from sidecar.proxy.head import HeadRules, read_head
from sidecar.proxy.protected_resource import (
    mapped_challenge,
    mapped_metadata,
    path_at,
    places_of,
)
from sidecar.proxy.upstream import Reply
from sidecar.proxy.upstream_lean import LeanLeg
from sidecar.telemetry.counters import Counters

POLICIES = {
    "tools.yaml": "catalogue: mcp\ntools: {add: {}}\n",
    "rules.yaml": "policy: all\nrules:\n  - {id: all, effect: allow, tools: '*'}\n",
}
KNOWN = "/.well-known/oauth-protected-resource"
OURS = "http://localhost:8080/.well-known/oauth-protected-resource/files/mcp"

CHALLENGES = {
    "quoted": (
        'Bearer realm="x", resource_metadata="http://up/a", scope="b"',
        f'Bearer realm="x", resource_metadata="{OURS}", scope="b"',
        "http://up/a",
    ),
    "a token": (
        "Bearer resource_metadata=http://up/a, error=x",
        f'Bearer resource_metadata="{OURS}", error=x',
        "http://up/a",
    ),
    "in other case, with blanks": (
        'bearer Resource_Metadata = "http://up/a"',
        f'bearer Resource_Metadata="{OURS}"',
        "http://up/a",
    ),
    "second of two": (
        'Basic realm="x", Bearer resource_metadata="http://up/a"',
        f'Basic realm="x", Bearer resource_metadata="{OURS}"',
        "http://up/a",
    ),
    "not named": ('Bearer realm="x"', 'Bearer realm="x"', None),
    "only spoken of": (
        'Bearer error_description="no \\" resource_metadata=http://up/a"',
        'Bearer error_description="no \\" resource_metadata=http://up/a"',
        None,
    ),
    "of another scheme": (
        'DPoP resource_metadata="http://up/a"',
        'DPoP resource_metadata="http://up/a"',
        None,
    ),
}


@pytest.mark.parametrize("case", CHALLENGES)
def test_a_challenge_names_our_address_and_else_what_it_named(case: str) -> None:
    value, wanted, before = CHALLENGES[case]
    assert mapped_challenge(value, OURS) == (wanted, before)


def test_a_challenge_is_read_in_a_moment_whatever_is_in_it() -> None:
    for value in ('Bearer "' * 8000, "Bearer " + "resource_metadata=" * 4000, 'Bearer "\\' * 9000):
        mapped_challenge(value, OURS)


def test_only_the_upstreams_own_origin_is_asked() -> None:
    own = "http://up.local:3001/mcp"
    assert path_at("http://up.local:3001/a/b.json", own) == "/a/b.json"
    assert path_at(f"http://up.local:3001{KNOWN}/mcp", own) == f"{KNOWN}/mcp"
    for url in (
        "http://up.local/a", "https://up.local:3001/a", "http://other:3001/a", "/a", "",
        "http://up.local:3001/a?b", "http://u@up.local:3001/a", "http://up.local:3001/../a",
        "http://up.local:3001/a%2fb", "http://up.local:3001/a\r\nX: y", "file:///etc/passwd",
    ):  # fmt: skip
        assert path_at(url, own) is None, url
    assert places_of(own) == (f"{KNOWN}/mcp", KNOWN)
    assert places_of("http://up.local:3001") == (KNOWN,)


OWN = "http://up.local/mcp"
GOOD = {"resource": OWN, "authorization_servers": ["https://as.acme.io"], "x": [1, {"y": None}]}
NONSENSE: dict[str, bytes] = {
    "no JSON": b"<html>",
    "no object": b"[]",
    "a name twice": b'{"resource": "http://up.local/mcp", "resource": "http://up.local/mcp"}',
    "no resource": b"{}",
    "a resource that is no text": b'{"resource": 1}',
    "somebody else's resource": b'{"resource": "http://evil/mcp"}',
    "another scheme": b'{"resource": "https://up.local/mcp"}',
    "a neighbour": b'{"resource": "http://up.local/mcp2"}',
    "one below": b'{"resource": "http://up.local/mcp/a"}',
    "servers that are no list": b'{"resource": "http://up.local", "authorization_servers": "x"}',
    "a server that is no URL": b'{"resource": "http://up.local", "authorization_servers": ["x"]}',
    "signed": b'{"resource": "http://up.local", "signed_metadata": "a.b.c"}',
    "deep": b'{"resource": "http://up.local", "x": ' + b"[" * 40 + b"]" * 40 + b"}",
}


def test_nothing_but_the_resource_is_made_another() -> None:
    body, servers = mapped_metadata(json.dumps(GOOD).encode(), OWN, "http://us/files/mcp")
    assert json.loads(body) == {**GOOD, "resource": "http://us/files/mcp"}
    assert list(json.loads(body)) == list(GOOD)
    assert servers == ["https://as.acme.io"]
    for resource in ("http://up.local", "http://up.local/", "http://UP.local:80/mcp/"):
        mapped_metadata(json.dumps({"resource": resource}).encode(), OWN, "x")


@pytest.mark.parametrize("case", NONSENSE)
def test_nonsense_is_not_led_through(case: str) -> None:
    with pytest.raises(Refused) as refused:
        mapped_metadata(NONSENSE[case], OWN, "http://us/files/mcp")
    assert refused.value.code == "metadata_unusable"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_resource_is_the_url_the_agent_used(scheme: str) -> None:
    rules = HeadRules(frozenset({"tools.acme.io"}), scheme=scheme, log_in=frozenset({"files"}))
    lines = [(b"Host", b"tools.acme.io:8443")]
    head = read_head("GET", f"{KNOWN}/files/mcp", (1, 1), lines, "127.0.0.1", rules)
    assert (head.upstream, head.mount, head.target) == ("files", "/files", f"{KNOWN}/mcp")
    assert head.origin == f"{scheme}://tools.acme.io:8443"
    other = read_head("GET", f"{KNOWN}/other/mcp", (1, 1), lines, "127.0.0.1", rules)
    assert other.upstream == ".well-known"


# -- through a whole sidecar -----------------------------------------------------------------


def upstream(pages: dict[str, Any], asked: list[bytes]) -> Conversation:
    """Answers paths with JSON (a value), with a status, or with bytes; all else is 401."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = writer.get_extra_info("sockname")[1]
        while True:
            head, _ = await read_request(reader)
            asked.append(head)
            path = head.split(b" ")[1].decode()
            page = pages.get(path, 404 if path.startswith("/.well") else 401)
            status = page if isinstance(page, int) else 200
            body = b"" if isinstance(page, int) else json.dumps(page).encode()
            body = body.replace(b"ORIGIN", f"http://127.0.0.1:{port}".encode())
            lines = [f"HTTP/1.1 {status} x", f"Content-Length: {len(body)}"]
            if status == 401:
                place = f"http://127.0.0.1:{port}{pages.get('challenge', KNOWN + '/rpc')}"
                lines.append(f'WWW-Authenticate: Bearer resource_metadata="{place}"')
            writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    return talk


META = {"resource": "ORIGIN/rpc", "authorization_servers": ["http://as.local"], "n": 1}


async def ask(proxy: Whole, path: str, method: str = "GET", **headers: str) -> Any:
    answer = await proxy.ask(method, path, headers=headers)
    return answer.json if answer.status == 200 else answer.status


async def test_the_forms_in_which_clients_ask(tmp_path: Path) -> None:
    asked: list[bytes] = []
    async with whole(tmp_path, upstream({f"{KNOWN}/rpc": META}, asked), POLICIES) as proxy:
        us = proxy.sidecar.data_url
        for path, resource in (
            (f"{KNOWN}/mcp/mcp", "/mcp/mcp"),
            (f"{KNOWN}/mcp/rpc", "/mcp/rpc"),
            (f"{KNOWN}/mcp", "/mcp"),
            (f"/mcp{KNOWN}", "/mcp"),
            (f"/mcp{KNOWN}/mcp", "/mcp/mcp"),
        ):
            found = await ask(proxy, path, Authorization="Bearer own", Cookie="a=b")
            assert found == {**META, "resource": f"{us}{resource}"}, path
        assert not any(b"Bearer own" in head or b"a=b" in head for head in asked)
        before = len(asked)
        for path in (
            KNOWN, f"{KNOWN}/api/x", f"{KNOWN}/nobody/mcp", f"{KNOWN}/mcp/other",
            f"{KNOWN}/%6dcp/mcp", "/.well-known/openid-configuration/mcp/mcp",
        ):  # fmt: skip
            assert await ask(proxy, path) == 404, path
        assert await ask(proxy, f"{KNOWN}/mcp/mcp", "POST") == 405
        assert await ask(proxy, f"{KNOWN}/mcp/mcp?x=1") == 400
        assert len(asked) == before, "none of these went on"
    found = receipts(tmp_path)
    intents = [one for one in found if one["kind"] == "intent"]
    assert {one["tool"] for one in intents} == {"mcp/mcp:authorization/metadata"}
    assert len(intents) == 5 == sum(one["outcome"] == "completed" for one in found)


async def test_a_challenge_leads_to_where_the_upstream_keeps_it(tmp_path: Path) -> None:
    pages = {"/odd/place.json": META, "challenge": "/odd/place.json"}
    asked: list[bytes] = []
    async with whole(tmp_path, upstream(pages, asked), POLICIES) as proxy:
        us = proxy.sidecar.data_url
        assert await ask(proxy, f"{KNOWN}/mcp/mcp") == 404, "nobody knows the place yet"
        answer = await proxy.tool("add")
        assert answer.status == 401
        where = f"{us}{KNOWN}/mcp"
        assert answer.headers["www-authenticate"] == f'Bearer resource_metadata="{where}"'
        assert await ask(proxy, f"{KNOWN}/mcp") == {**META, "resource": f"{us}/mcp"}


async def test_a_host_of_its_own_has_its_metadata_at_its_root(tmp_path: Path) -> None:
    asked: list[bytes] = []
    talk = upstream({f"{KNOWN}/rpc": META}, asked)
    async with whole(tmp_path, talk, POLICIES, mcp=", hosts: [files.tools]") as proxy:
        for path in (f"{KNOWN}/mcp", KNOWN):
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            lines = f"GET {path} HTTP/1.1\r\nHost: files.tools\r\nConnection: close\r\n\r\n"
            writer.write(lines.encode())
            found = read_answer(await reader.read()).json
            writer.close()
            assert found == {**META, "resource": f"http://files.tools{path.removeprefix(KNOWN)}"}


async def test_what_is_no_metadata_is_refused_and_on_record(tmp_path: Path) -> None:
    pages: dict[str, Any] = {}
    async with whole(tmp_path, upstream(pages, []), POLICIES) as proxy:
        for page in ({"resource": "http://evil/rpc"}, {**META, "a": "x" * 70_000}, [1], 500):
            pages[f"{KNOWN}/rpc"] = page
            status = 404 if page == 500 else 502
            assert await ask(proxy, f"{KNOWN}/mcp/mcp") == status, page
    outcomes = [one["outcome"] for one in receipts(tmp_path) if one["kind"] == "outcome"]
    assert outcomes == ["upstream_error"] * 3 + ["completed"]


async def test_where_the_credential_is_ours_there_is_nothing_to_log_in_to(tmp_path: Path) -> None:
    talk = upstream({f"{KNOWN}/rpc": META}, asked := [])
    (tmp_path / "key").write_text("ours")
    (tmp_path / "key").chmod(0o600)
    auth = f", auth: {{bearer: {{file: {tmp_path}/key}}}}"
    async with whole(tmp_path, talk, POLICIES, mcp=auth) as proxy:
        assert await ask(proxy, f"{KNOWN}/mcp/mcp") == 404
        assert asked == []


async def test_an_authorization_server_that_is_the_upstream_itself_is_told_of(
    tmp_path: Path,
) -> None:
    meta = {"resource": "ORIGIN/rpc", "authorization_servers": ["ORIGIN"]}
    async with whole(tmp_path, upstream({f"{KNOWN}/rpc": meta}, []), POLICIES) as proxy:
        for _ in range(2):
            found = await ask(proxy, f"{KNOWN}/mcp/mcp")
            assert found["authorization_servers"][0].startswith("http://127.0.0.1:")
            assert found["authorization_servers"] != [proxy.sidecar.data_url]
    said = "the authorization server is the upstream itself"
    assert proxy.log.getvalue().count(said) == 1


TENANTS = "tenants:\n  acme: {agents: {coder: {token: {file: coder.txt}}}}\n"


async def test_a_server_that_says_nowhere_where_its_agents_log_in_is_told_of(
    tmp_path: Path,
) -> None:
    """As those of revision 2025-03-26: clients then ask the sidecar itself, which is no such."""
    said = "no metadata (RFC 9728)"
    async with whole(tmp_path, upstream({}, []), POLICIES) as proxy:
        assert await ask(proxy, f"{KNOWN}/mcp/mcp") == 404
        assert said not in proxy.log.getvalue(), "nobody was asked to log in"
        assert (await proxy.tool("add")).status == 401
        for _ in range(2):
            assert await ask(proxy, f"{KNOWN}/mcp/mcp") == 404
    assert proxy.log.getvalue().count(said) == 1
    assert "upstreams.mcp.auth" in proxy.log.getvalue()


async def test_a_client_looks_without_the_agents_token_once_the_agent_was_challenged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SDKs make these requests of their own, without the headers an agent was given."""
    (tmp_path / "coder.txt").write_text("coder-canary-Qm9Yb2N4a1Zt-1")
    (tmp_path / "coder.txt").chmod(0o600)
    pages: dict[str, Any] = {f"{KNOWN}/rpc": META}
    asked: list[bytes] = []
    own = {"Aegis-Token": "coder-canary-Qm9Yb2N4a1Zt-1"}
    async with whole(tmp_path, upstream(pages, asked), POLICIES, TENANTS) as proxy:
        us, look = proxy.sidecar.data_url, f"{KNOWN}/mcp/mcp"
        assert await ask(proxy, look) == 401, "nobody was challenged"
        assert asked == []
        answer = await proxy.ask("POST", "/mcp/mcp", {"jsonrpc": "2.0", "id": 1, "method": "ping"},
                                 {"Accept": "application/json", **own})  # fmt: skip
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Bearer resource_metadata=")
        assert await ask(proxy, look) == {**META, "resource": f"{us}/mcp/mcp"}
        before = len(asked)
        assert await ask(proxy, look, **{"Aegis-Token": "wrong"}) == 401
        assert await ask(proxy, f"{KNOWN}/mcp/other") == 404
        assert await ask(proxy, "/mcp/mcp", "POST") == 401
        assert await ask(proxy, "/api/x") == 401
        monkeypatch.setattr("sidecar.proxy.authorization.OPEN_LOOKUPS_MAX", 0)
        assert await ask(proxy, look) == 503
        assert len(asked) == before
        assert (await ask(proxy, look, **own))["n"] == 1, "whoever is known is not counted there"
        monkeypatch.undo()
        pages[f"{KNOWN}/rpc"] = [1]
        assert await ask(proxy, look) == 502
        monkeypatch.setattr("sidecar.proxy.authorization.OPEN_S", -1.0)
        await proxy.ask("POST", "/mcp/mcp", {"jsonrpc": "2.0", "id": 1, "method": "ping"}, own)
        assert await ask(proxy, look) == 401, "it was too long ago"
    intents = [one["tool"] for one in receipts(tmp_path) if one["kind"] == "intent"]
    assert intents.count("mcp/mcp:authorization/metadata") == 1


def test_a_quoted_string_without_an_end_is_read_in_a_moment() -> None:
    value = 'Bearer "' + '\\"' * 4000
    began_s = time.perf_counter()
    mapped_challenge(value, "http://x/")
    assert time.perf_counter() - began_s < 0.2


async def test_a_look_for_metadata_that_was_sent_is_not_on_record_as_never_sent() -> None:
    class Leg(LeanLeg):
        asked = 0

        async def send(self, *_: object) -> Reply:  # type: ignore[override]
            self.asked += 1
            if self.asked > 1:
                raise Refused("upstream_unreachable")
            return Reply(404, ())

    upstream = upstream_of(9, kind="mcp", path="/rpc")
    with pytest.raises(Refused) as refused:
        await Authorization(Leg(), Counters()).metadata(upstream, "http://x/up")
    assert ending_by(refused.value) is not OutcomeKind.NOT_FORWARDED
