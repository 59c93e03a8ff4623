"""The one endpoint of an MCP server is asked for as the operator wrote it, slash, query and all."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from proxy_mcp_setup import ACCEPT, CATALOGUES, POLICY, McpServer, Seen, call, reply
from proxy_mcp_setup import result as answer_of
from proxy_whole_setup import Whole, receipts, whole
from proxy_wire_setup import upstream_of

from sidecar.cli.main import main
from sidecar.proxy.upstream_request import RequestForm

FILES = {**CATALOGUES, "p.yaml": POLICY}


@pytest.mark.parametrize(("path", "asked"), [
    ("/mcp/", "/mcp/"), ("/mcp", "/mcp"), ("/a/b/", "/a/b/"), ("/", "/"), ("", "/"),
])  # fmt: skip
def test_an_mcp_server_is_asked_at_the_very_path_of_its_url(path: str, asked: str) -> None:
    upstream = upstream_of(3001, path=path).model_copy(update={"kind": "mcp"})
    head = RequestForm(upstream).head("POST", "", (), 2)
    assert head.startswith(f"POST {asked} HTTP/1.1\r\n".encode())


def test_a_rest_upstream_has_its_targets_below_its_base() -> None:
    head = RequestForm(upstream_of(3001, path="/v4/")).head("GET", "/items", (), 0)
    assert head.startswith(b"GET /v4/items HTTP/1.1\r\n")


def redirecting(location: str, status: int = 307) -> McpServer:
    def answer(seen: Seen) -> Any:
        more = f"Location: {location}\r\n"
        return reply(b"", more=more, status=status) if seen.method == "POST" else reply(b"")

    return McpServer(answer)


async def called(one: Whole) -> tuple[int, Any, dict[str, str]]:
    answer = await one.ask("POST", "/mcp", call(), ACCEPT)
    return answer.status, answer.json if answer.body else None, answer.headers


@pytest.mark.parametrize("status", [301, 307, 308])
async def test_b22_an_endpoint_that_wants_a_slash_is_told_and_no_circle(
    tmp_path: Path, status: int
) -> None:
    """Any path of ours leads to the URL as it is configured, which answers with the redirect."""
    async with whole(tmp_path, redirecting("/rpc/", status), FILES) as one:
        got, said, headers = await called(one)
    assert (got, said["id"], said["error"]["data"]["code"]) == (403, 1, "redirect_refused")
    assert "upstreams.NAME.url" in said["error"]["message"]
    assert "location" not in headers
    ends = [each["outcome"] for each in receipts(tmp_path) if each["kind"] == "outcome"]
    assert len(ends) == 1


@pytest.mark.parametrize(("location", "seen"), [("/rpc", "/mcp"), ("/rpc/v2", "/mcp/v2")])
async def test_b22_other_redirects_lead_back_as_before(
    tmp_path: Path, location: str, seen: str
) -> None:
    """To the same place too: it may have set a cookie."""
    async with whole(tmp_path, redirecting(location), FILES) as one:
        got, _, headers = await called(one)
    assert (got, headers["location"]) == (307, seen)


@pytest.mark.parametrize("endpoint", ["/rpc/", "/rpc"])
async def test_a_slash_of_the_configured_endpoint_reaches_the_server(
    tmp_path: Path, endpoint: str
) -> None:
    """As many servers have it that are mounted below a path of another application."""
    talk = McpServer(lambda _: reply(answer_of()))
    async with whole(tmp_path, talk, FILES, endpoint=endpoint) as one:
        assert (await called(one))[0] == 200
        assert one.arrived.startswith(f"POST {endpoint} HTTP/1.1\r\n".encode())


async def test_a_name_of_something_made_is_no_circle(tmp_path: Path) -> None:
    talk = McpServer(lambda _: reply(answer_of(), more="Location: /rpc/\r\n", status=201))
    async with whole(tmp_path, talk, FILES) as one:
        assert (await called(one))[0] == 201


KEY = "canary+/=&? ä"
SENT = "canary%2B%2F%3D%26%3F%20%C3%A4"
TOLD: dict[str, tuple[str, int]] = {
    "beside": ("", 200),
    "a circle": (f"/rpc/?tenant=acme&key={SENT}", 307),
    "below": (f"/rpc/v2?key={SENT}#x", 307),
    "made": (f"/rpc/v2?key={SENT}", 201),
    "elsewhere": (f"https://cdn.acme.io/x?key={SENT}", 307),
}


def with_query(folder: Path) -> str:
    """What `whole` says of the MCP server."""
    key = folder / "key"
    key.write_text(f"{KEY}\n")
    key.chmod(0o600)
    return f", query: {{tenant: acme, key: {{file: {key}}}}}, redirects: [cdn.acme.io]"


@pytest.mark.parametrize("told", TOLD)
async def test_g5_a_query_of_the_configured_address_goes_to_the_server_and_nowhere_else(
    tmp_path: Path, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An agent has no query there, so that none of its can stand in the place of ours."""
    location, status = TOLD[told]

    def answer(seen: Seen) -> Any:
        more = f"Location: {location}\r\nContent-Location: {location}\r\n" if location else ""
        more += f"Link: <{location}>; rel=next\r\n" if location else ""
        return reply(answer_of(), more=more, status=status)

    heard = []
    async with whole(tmp_path, McpServer(answer), FILES, mcp=with_query(tmp_path)) as one:
        for method, body in (("POST", call()), ("GET", None), ("DELETE", None)):
            got = await one.ask(method, "/mcp", body, ACCEPT)
            heard.append(str((got.headers, got.body)))
            line = f"{method} /rpc?tenant=acme&key={SENT} HTTP/1.1\r\n"
            assert line.encode() in one.arrived
        own = await one.ask("POST", "/mcp?key=mine", call(), ACCEPT)
        assert (own.status, b"mine" in one.arrived) == (400, False)
        await one.ask("GET", "/.well-known/oauth-protected-resource/mcp/mcp")
        assert b"GET /.well-known/oauth-protected-resource/rpc HTTP/1.1\r\n" in one.arrived
    log = one.log.getvalue()  # all of it is written by now
    assert main(["config", "show", "--config", str(tmp_path / "sidecar.yaml")]) == 0
    shown = capsys.readouterr().out
    assert "[tenant=acme, key=***]" in shown
    with sqlite3.connect(tmp_path / "aegis.db") as store:
        kept = "".join(store.iterdump())
    store.close()
    assert len(receipts(tmp_path)) >= 4, "positive control: there is something to look through"
    for text in (*heard, log, shown, kept):
        assert "canary" not in text


async def test_b22_a_circle_is_one_with_a_query_too(tmp_path: Path) -> None:
    talk = redirecting(f"/rpc/?key={SENT}")
    async with whole(tmp_path, talk, FILES, mcp=with_query(tmp_path)) as one:
        got, said, _ = await called(one)
    assert (got, said["error"]["data"]["code"]) == (403, "redirect_refused")
