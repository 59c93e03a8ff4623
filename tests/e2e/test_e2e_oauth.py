"""Logging in at an MCP server with the official SDK: direct and through the sidecar, the same."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from mcp import ClientSession
from mcp.client.auth import OAuthClientProvider
from mcp.client.auth.oauth2 import AuthorizationCodeResult
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from oauth_fixture import Guarded, guarded
from pydantic import AnyUrl
from running import Process

POLICIES = {
    "tools.yaml": "catalogue: files\ntools: {add: {}}\n",
    "p.yaml": "policy: p\nrules:\n  - {id: all, effect: allow, tools: files/add}\n",
}
TOKEN = "coder-canary-Qm9Yb2N4a1Zt-1"
TENANTS = "tenants: {acme: {agents: {coder: {token: {file: coder.txt}}}}}"
BACK = "http://127.0.0.1:9/callback"


class Memory:
    """Where a client keeps what it was given."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None
        self.client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


async def added(url: str, headers: dict[str, str]) -> tuple[str, list[str]]:
    """Logs in and calls a tool; what it says, and every request that was made on the way."""
    came_back: dict[str, str] = {}
    asked: list[str] = []

    async def person(address: str) -> None:
        """Opens the page; the server says yes at once."""
        async with httpx2.AsyncClient() as browser:
            reply = await browser.get(address)
        query = parse_qs(urlsplit(reply.headers["location"]).query)
        came_back.update({name: values[0] for name, values in query.items()})

    async def came() -> AuthorizationCodeResult:
        return AuthorizationCodeResult(
            code=came_back["code"], state=came_back["state"], iss=came_back.get("iss")
        )

    async def note(request: httpx2.Request) -> None:
        asked.append(f"{request.method} {request.url}")

    metadata = OAuthClientMetadata(
        client_name="a test", redirect_uris=[AnyUrl(BACK)], grant_types=["authorization_code"]
    )
    login = OAuthClientProvider(url, metadata, Memory(), person, came)
    async with (
        httpx2.AsyncClient(
            auth=login, event_hooks={"request": [note]}, timeout=10, headers=headers
        ) as http,
        streamable_http_client(url, http_client=http) as (reading, writing),
        ClientSession(reading, writing) as session,
    ):
        await session.initialize()
        result = await session.call_tool("add", {"a": 2, "b": 3})
    return result.content[0].text, asked  # type: ignore[union-attr]


async def _both(process: Process, server: Guarded, has_token: bool) -> None:
    headers = {"Aegis-Token": TOKEN} if has_token else {}
    rest = TENANTS if has_token else ""
    process.write(f"  files: {{url: '{server.url}', kind: mcp}}", POLICIES, rest)
    await asyncio.to_thread(process.start)
    through = f"{process.url}/files/mcp"
    server.issuer.audiences = {server.url, through}
    direct_said, direct_asked = await added(server.url, headers)
    said, asked = await added(through, headers)
    assert said == direct_said == "5"
    # The same way, but for the one address: what the agent believes is found by our address,
    # and the authorization server is asked directly.
    origin, own = server.url.removesuffix("/mcp"), process.url
    moved = [one.replace(f"{origin}/mcp", through) for one in direct_asked]
    known = "/.well-known/oauth-protected-resource"
    moved = [one.replace(f"{origin}{known}/mcp", f"{own}{known}/files/mcp") for one in moved]
    assert asked == moved
    assert any(one.startswith(f"GET {own}{known}/files/mcp") for one in asked)
    assert any(one.startswith(f"POST {server.issuer_url}/token") for one in asked)
    assert {token.resource for token in server.issuer.tokens.values()} == {server.url, through}
    # A server that was not told of our address takes no token that was issued for it.
    server.issuer.audiences = {server.url}
    with pytest.raises(BaseExceptionGroup):
        await added(through, headers)


async def _run(process: Process, has_token: bool) -> None:
    async with guarded() as server:
        await _both(process, server, has_token)


@pytest.mark.parametrize("has_token", [False, True])
def test_an_agent_logs_in_through_the_sidecar_as_it_does_without(
    tmp_path: Path, has_token: bool
) -> None:
    """The SDK looks at metadata without the headers that it was given for the agent."""
    (tmp_path / "coder.txt").write_text(TOKEN)
    (tmp_path / "coder.txt").chmod(0o600)
    process = Process(tmp_path)
    try:
        asyncio.run(_run(process, has_token))
        lookups = process.metrics()["aegis_open_lookups_total"]
        assert process.stop() == 0
    finally:
        process.kill()
    recorded = "files/mcp:authorization/metadata" in {one["tool"] for one in process.receipts()}
    assert (recorded, lookups > 0) == (not has_token, has_token)
