"""A Host that names an upstream leads there with the whole path, over raw sockets (B7)."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from proxy_dialect_setup import Setup
from proxy_whole_setup import Answer, Whole, read_answer, receipts, whole
from proxy_wire_setup import answering

from sidecar.errors import Refused
from sidecar.proxy.dialects import DIALECTS
from sidecar.proxy.head import HeadRules, read_head

POLICIES = {
    "api.yaml": "catalogue: api\ntools: {get: 'GET /get/{x...}', mcp: GET /mcp/x, root: GET /}\n",
    "p.yaml": "policy: p\nrules:\n  - {id: all, effect: allow, tools: api/*}\n",
}
OK = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
HOSTS = ", hosts: [api.tools, '10.9.8.7', '2001:db8::1']"


async def ask(one: Whole, target: str, host: str, *more: str) -> Answer:
    """One raw request under a Host of its own."""
    lines = [f"GET {target} HTTP/1.1", f"Host: {host}", *more, "Connection: close", "", ""]
    reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
    writer.write("\r\n".join(lines).encode())
    raw = await reader.read()
    writer.close()
    return read_answer(raw)


def lines_of(one: Whole) -> list[bytes]:
    """The request line of each request that reached the upstream."""
    return re.findall(rb"^GET \S+ HTTP/1\.1(?=\r\n)", one.arrived, re.MULTILINE)


LEADS: list[tuple[str, str, bytes]] = [
    ("api.tools", "/get/a?q=1", b"GET /get/a?q=1 HTTP/1.1"),
    ("API.Tools:8080", "/get/a", b"GET /get/a HTTP/1.1"),
    ("10.9.8.7", "/get/%61/b/", b"GET /get/%61/b/ HTTP/1.1"),
    ("[2001:db8::1]:80", "/", b"GET / HTTP/1.1"),
    # Its first segment is another upstream's name: still this one's path, and nothing else.
    ("api.tools", "/mcp/x", b"GET /mcp/x HTTP/1.1"),
    ("127.0.0.1", "/api/get/a?q=2", b"GET /get/a?q=2 HTTP/1.1"),
]


async def test_b7_a_host_of_an_upstream_leads_there_with_the_whole_path(tmp_path: Path) -> None:
    async with whole(tmp_path, OK, POLICIES, api=HOSTS) as one:
        for host, target, line in LEADS:
            answer = await ask(one, target, host)
            assert (answer.status, answer.body) == (200, b"ok"), target
            assert lines_of(one)[-1] == line
    assert len(lines_of(one)) == len(LEADS)
    assert b"api.tools" not in one.arrived.lower()
    intents = [row["upstream"] for row in receipts(tmp_path) if row["kind"] == "intent"]
    assert intents == ["api"] * len(LEADS)


async def test_b7_there_is_never_a_second_reading(tmp_path: Path) -> None:
    """Under its Host, `/api/get/a` is the path /api/get/a of the upstream: an unknown tool."""
    async with whole(tmp_path, OK, POLICIES, api=HOSTS) as one:
        for target in ("/api/get/a", "/api", "/v1/x", "/healthz", "/.well-known/x"):
            assert (await ask(one, target, "api.tools")).status == 403, target
        for target, code in [
            ("//get/a", "ambiguous_path"),
            ("/../get/a", "ambiguous_path"),
            ("/get/a%2fb", "ambiguous_path"),
            ("/get/%2e%2e/b", "ambiguous_path"),
            ("get/a", "malformed_request"),
            ("*", "malformed_request"),
            ("http://api.tools/get/a", "malformed_request"),
            ("http://127.0.0.1/api/get/a", "malformed_request"),
        ]:
            answer = await ask(one, target, "api.tools")
            assert answer.status == 400, target
            if answer.headers["content-type"] == "application/problem+json":
                assert answer.json["code"] == code, target
        assert lines_of(one) == []
    tools = {row["tool"] for row in receipts(tmp_path)}
    assert tools == {"api/unknown"}


ELSEWHERE = {
    "api.tools.": 400,
    "api.tools:x": 400,
    "api.tools@127.0.0.1": 400,
    "127.0.0.1, api.tools": 400,
    "api.tools/get": 400,
    "x.api.tools": 421,
    "api.tool": 421,
    "10.9.8.70": 421,
    "other.tools": 421,
    "127.0.0.1": 404,
}


@pytest.mark.parametrize("says", ["", ", path_parameters: true"])
async def test_b9_a_semicolon_in_the_path_passes_where_the_configuration_says_so(
    tmp_path: Path, says: str
) -> None:
    async with whole(tmp_path, OK, POLICIES, api=HOSTS + says) as one:
        answers = [
            await ask(one, target, host)
            for host, target in (("127.0.0.1", "/api/get/a;b/c"), ("api.tools", "/get/a;b/c"))
        ]
    assert [answer.status for answer in answers] == ([200] * 2 if says else [400] * 2)
    assert lines_of(one) == ([b"GET /get/a;b/c HTTP/1.1"] * 2 if says else [])


async def test_b7_other_hosts_stay_misdirected(tmp_path: Path) -> None:
    async with whole(tmp_path, OK, POLICIES, api=HOSTS) as one:
        for host, status in ELSEWHERE.items():
            assert (await ask(one, "/get/a", host)).status == status, host
        twice = await ask(one, "/get/a", "127.0.0.1", "Host: api.tools")
        assert (twice.status, lines_of(one)) == (400, [])


async def test_b22_addresses_are_seen_from_where_the_caller_stands(tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        port = writer.get_extra_info("sockname")[1]
        writer.write(
            b"HTTP/1.1 302 Found\r\n"
            + f"Location: http://127.0.0.1:{port}/get/b?x=1\r\n".encode()
            + f"Link: <http://127.0.0.1:{port}/get/c?page=2>; rel=next\r\n".encode()
            + b"Set-Cookie: a=1; Domain=api.tools; Path=/get\r\n"
            b"Set-Cookie: b=2\r\nContent-Length: 0\r\n\r\n"
        )

    async with whole(tmp_path, talk, POLICIES, api=HOSTS) as one:
        by_host = await ask(one, "/get/a", "api.tools")
        by_path = await ask(one, "/api/get/a", "127.0.0.1")
    assert by_host.headers["location"] == "/get/b?x=1"
    assert by_host.headers["set-cookie"] == "b=2; Path=/"
    assert by_path.headers["location"] == "/api/get/b?x=1"
    assert by_host.headers["link"] == "<http://api.tools/get/c?page=2>; rel=next"
    assert by_path.headers["link"] == "<http://127.0.0.1/api/get/c?page=2>; rel=next"
    assert by_path.headers["set-cookie"] == "b=2; Path=/api"


async def test_b23_a_client_sends_the_session_of_an_https_service_again(tmp_path: Path) -> None:
    """Its cookie is `Secure`, and the way to the sidecar is plain http."""
    secure = b"Set-Cookie: sid=7; Path=/; Secure; HttpOnly"
    talk = answering(b"HTTP/1.1 200 OK\r\n" + secure + b"\r\nContent-Length: 2\r\n\r\nok")
    async with (
        whole(tmp_path, talk, POLICIES) as one,
        aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as client,
    ):
        for _ in range(2):
            async with client.get(f"http://127.0.0.1:{one.port}/api/get/a") as reply:
                assert reply.status == 200
    first, second = one.arrived.split(b"GET /get/a HTTP/1.1\r\n")[1:]
    assert b"sid=7" not in first
    assert b"Cookie: sid=7\r\n" in second


RULES = HeadRules(
    frozenset({"127.0.0.1"}), by_host={"a.tools": "a", "b.tools": "b"},
    encoded_slash=frozenset({"a"}),
)  # fmt: skip


def read(host: str, target: str = "/x", **headers: str) -> Any:
    raw = [(b"Host", host.encode()), *((k.encode(), v.encode()) for k, v in headers.items())]
    return read_head("GET", target, (1, 1), raw, "127.0.0.1", RULES)


def test_b7_only_the_pages_of_a_host_may_call_it() -> None:
    assert read("a.tools", Origin="http://a.tools:8080").upstream == "a"
    assert read("127.0.0.1", Origin="http://127.0.0.1").upstream == "x"
    for host, origin in [
        ("a.tools", "http://b.tools"),
        ("a.tools", "http://127.0.0.1"),
        ("a.tools", "null"),
        ("127.0.0.1", "http://a.tools"),
    ]:
        with pytest.raises(Refused) as caught:
            read(host, Origin=origin)
        assert caught.value.code == "origin_not_allowed"


def test_b9_what_an_upstream_allows_in_a_path_it_allows_under_its_host() -> None:
    found = read("a.tools", "/x%2Fy/z?q")
    assert (found.upstream, found.segments, found.mount) == ("a", ("x/y", "z"), "")
    assert (found.target, found.path) == ("/x%2Fy/z?q", "/x/y/z")
    with pytest.raises(Refused) as caught:
        read("b.tools", "/x%2Fy/z")
    assert caught.value.code == "ambiguous_path"
    assert read("127.0.0.1", "/a/x%2Fy").mount == "/a"


@pytest.mark.parametrize(("target", "is_endpoint"), [("/mcp", True), ("/", True), ("/x", False)])
def test_b7_the_endpoint_of_an_mcp_server_under_its_host(
    tmp_path: Path, target: str, is_endpoint: bool
) -> None:
    setup = Setup(tmp_path)
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call",
               "params": {"name": "read_file", "arguments": {"path": "/a"}}}  # fmt: skip
    raw = [(b"Host", b"files.tools"), (b"Content-Type", b"application/json")]
    rules = HeadRules(frozenset({"127.0.0.1"}), by_host={"files.tools": "files"})
    found = read_head("POST", target, (1, 1), raw, "127.0.0.1", rules)
    if is_endpoint:
        call = setup.call(DIALECTS["mcp"], found, json.dumps(message).encode())
        assert (call.tool.name, dict(call.args)) == ("files/read_file", {"path": "/a"})
        return
    with pytest.raises(Refused) as caught:
        setup.call(DIALECTS["mcp"], found, json.dumps(message).encode())
    assert caught.value.code == "unknown_upstream"
