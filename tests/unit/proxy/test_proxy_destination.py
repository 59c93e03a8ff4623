"""Where a WebDAV request moves or copies to: the upstream reads its own address there."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from proxy_approvals_setup import ANA, TENANT
from proxy_whole_setup import Answer, Whole, read_answer, whole
from proxy_wire_setup import answering

OK = answering(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
POLICIES = {
    "api.yaml": "catalogue: api\ntools: {move: 'MOVE /{path...}', copy: 'COPY /{path...}',"
    " list: {route: 'PROPFIND /{path...}', mutates: false}, put: 'PUT /{path...}'}\n",
    "p.yaml": "policy: p\nrules:\n  - {id: all, effect: allow, tools: api/*}\n"
    "  - {id: no, effect: deny, tools: api/*, when: "
    '\'http.headers[?"destination"].orValue("").endsWith("/api/secret")\'}\n',
}


async def sent(
    one: Whole, method: str, target: str, *lines: str, host: str | None = None
) -> Answer:
    head = [f"{method} {target} HTTP/1.1", f"Host: {host or f'127.0.0.1:{one.port}'}", *lines]
    reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
    writer.write("\r\n".join([*head, "Connection: close", "", ""]).encode())
    raw = await reader.read()
    writer.close()
    return read_answer(raw)


def arrived(one: Whole) -> str:
    """The Destination of the last request that reached the upstream, without its port."""
    found = re.findall(rb"\r\nDestination: ([^\r]*)", one.arrived)[-1].decode()
    return re.sub(r"^http://127\.0\.0\.1:\d+(?=/base)", "UP", found)


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("http://HOST/api/b%20c/%C3%BC.txt", "UP/base/b%20c/%C3%BC.txt"),
        ("HTTP://HOST/api/d/", "UP/base/d/"),
        ("https://HOST/api/b", "UP/base/b"),  # what ends TLS in front of us
        ("/api/b", "UP/base/b"),
        ("http://other.example/api/b", "http://other.example/api/b"),
        ("//HOST/api/b", "//HOST/api/b"),
        ("queue", "queue"),
    ],
)
@pytest.mark.parametrize("method", ["MOVE", "COPY"])
async def test_the_upstream_reads_its_own_address(
    tmp_path: Path, method: str, written: str, wanted: str
) -> None:
    async with whole(tmp_path, OK, POLICIES, base="/base") as one:
        here = f"127.0.0.1:{one.port}"
        value = written.replace("HOST", here)
        answer = await sent(one, method, "/api/a", f"Destination: {value}")
        assert (answer.status, arrived(one)) == (201, wanted.replace("HOST", here))
        answer = await sent(one, "PUT", "/api/a", f"Destination: {value}", "Content-Length: 0")
        assert (answer.status, arrived(one)) == (201, value), "only where it is an address"


async def test_a_host_of_the_upstreams_own_leads_there_too(tmp_path: Path) -> None:
    async with whole(tmp_path, OK, POLICIES, api=", hosts: [dav.tools]", base="/base") as one:
        value = "Destination: http://dav.tools:8080/api/b"
        answer = await sent(one, "MOVE", "/x/a", value, host="dav.tools:8080")
        assert (answer.status, arrived(one)) == (201, "UP/base/api/b")


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("http://HOST/api/x/../secret", "ambiguous_path"),
        ("http://HOST/api/%2e%2e/secret", "ambiguous_path"),
        ("http://HOST/api//b", "ambiguous_path"),
        ("http://HOST/api/x%2Fb", "ambiguous_path"),
        ("http://HOST/api/x;y/b", "ambiguous_path"),
        ("http://HOST/api/%2573", "ambiguous_path"),
        ("http://HOST/api/b#f", "malformed_request"),
        ("http://HOST/api/b?c=1", "invalid_argument"),
        ("http://HOST/mcp/b", "invalid_argument"),
        ("http://HOST/apix/b", "invalid_argument"),
        ("http://HOST", "invalid_argument"),
        ("/mcp/b", "invalid_argument"),
        ("http://HOST/api/b\r\nDestination: http://HOST/api/c", "ambiguous_header"),
        ("http://HOST/api/secret", "policy_deny"),
    ],
)
async def test_a_destination_is_read_as_strictly_as_a_path(
    tmp_path: Path, written: str, code: str
) -> None:
    async with whole(tmp_path, OK, POLICIES) as one:
        value = written.replace("HOST", f"127.0.0.1:{one.port}")
        answer = await sent(one, "MOVE", "/api/a", f"Destination: {value}")
        assert (answer.json["code"], one.arrived) == (code, b"")


async def test_methods_of_webdav_are_routes(tmp_path: Path) -> None:
    rules = POLICIES | {
        "p.yaml": "policy: p\nrules:\n  - {id: r, effect: allow, tools: '*', mutates: false}\n"
    }
    async with whole(tmp_path, OK, rules) as one:
        assert (await sent(one, "PROPFIND", "/api/a", "Depth: 1")).status == 201
        moved = await sent(one, "MOVE", "/api/a", "Destination: /api/b")
    assert (moved.json["code"], moved.json["tool"]) == ("default_deny", "api/move")


@pytest.mark.parametrize(
    "other", ["Destination: /api/c", "Overwrite: T", "Depth: 0", "Destination: http://x/api/b"]
)
async def test_e1_a_yes_to_a_move_is_to_where_and_how_it_moves(tmp_path: Path, other: str) -> None:
    rules = POLICIES | {
        "p.yaml": "policy: p\nrules:\n"
        "  - {id: asks, effect: require_approval, tools: api/move, reason: asks}\n"
    }
    asked = {"Destination": "/api/b", "Overwrite": "F", "Depth": "infinity"}
    name, _, value = other.partition(": ")
    async with whole(tmp_path, OK, rules, "approvals: {hold: 0s}\n") as one:
        pending = await one.ask("MOVE", "/api/a", None, asked)
        await one.sidecar.approvals.deciding.approve(TENANT, pending.json["approval"], ANA)
        swapped = await one.ask("MOVE", "/api/a", None, {**asked, name: value})
        assert (swapped.json["code"], one.arrived) == ("approval_pending", b"")
        assert (await one.ask("MOVE", "/api/a", None, asked)).status == 201, "positive control"
