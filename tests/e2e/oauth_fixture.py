"""An authorization server and an MCP server that wants its tokens, on the official SDK.

The authorization server says yes to everybody at once; tokens carry the resource that was asked for
(RFC 8707), and the MCP server takes those that were issued for one of `audiences`.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import uvicorn
from mcp.server.auth.provider import (
    AccessToken,
    AuthorizationCode,
    AuthorizationParams,
    RefreshToken,
    construct_redirect_uri,
)
from mcp.server.auth.routes import create_auth_routes
from mcp.server.auth.settings import AuthSettings, ClientRegistrationOptions
from mcp.server.mcpserver import MCPServer
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from pydantic import AnyHttpUrl
from running import free_port
from starlette.applications import Starlette


@dataclass
class Issuer:
    """The provider behind the authorization server; all it knows is in memory."""

    audiences: set[str] = field(default_factory=set)
    clients: dict[str, OAuthClientInformationFull] = field(default_factory=dict)
    codes: dict[str, AuthorizationCode] = field(default_factory=dict)
    tokens: dict[str, AccessToken] = field(default_factory=dict)

    async def get_client(self, client_id: str) -> OAuthClientInformationFull | None:
        return self.clients.get(client_id)

    async def register_client(self, client_info: OAuthClientInformationFull) -> None:
        assert client_info.client_id is not None
        self.clients[client_info.client_id] = client_info

    async def authorize(
        self, client: OAuthClientInformationFull, params: AuthorizationParams
    ) -> str:
        assert client.client_id is not None
        code = secrets.token_urlsafe(24)
        self.codes[code] = AuthorizationCode(
            code=code,
            scopes=params.scopes or [],
            expires_at=time.time() + 60,
            client_id=client.client_id,
            code_challenge=params.code_challenge,
            redirect_uri=params.redirect_uri,
            redirect_uri_provided_explicitly=params.redirect_uri_provided_explicitly,
            resource=params.resource,
        )
        return construct_redirect_uri(str(params.redirect_uri), code=code, state=params.state)

    async def load_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: str
    ) -> AuthorizationCode | None:
        return self.codes.get(authorization_code)

    async def exchange_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: AuthorizationCode
    ) -> OAuthToken:
        del self.codes[authorization_code.code]
        token = secrets.token_urlsafe(24)
        self.tokens[token] = AccessToken(
            token=token,
            client_id=authorization_code.client_id,
            scopes=authorization_code.scopes,
            resource=authorization_code.resource,
        )
        scope = " ".join(authorization_code.scopes)
        return OAuthToken(access_token=token, token_type="Bearer", scope=scope, expires_in=600)

    async def load_refresh_token(
        self, client: OAuthClientInformationFull, refresh_token: str
    ) -> RefreshToken | None:
        return None

    async def exchange_refresh_token(
        self, client: OAuthClientInformationFull, refresh_token: RefreshToken, scopes: list[str]
    ) -> OAuthToken:
        raise NotImplementedError("no login of these tests gets so far")

    async def load_access_token(self, token: str) -> AccessToken | None:
        return self.tokens.get(token)

    async def revoke_token(self, token: AccessToken | RefreshToken) -> None:
        raise NotImplementedError("no login of these tests gets so far")

    async def exchange_identity_assertion(
        self, client: OAuthClientInformationFull, params: object
    ) -> OAuthToken:
        raise NotImplementedError("no login of these tests gets so far")

    async def verify_token(self, token: str) -> AccessToken | None:
        """What the MCP server asks: a token for somebody else is none."""
        found = self.tokens.get(token)
        return found if found is not None and found.resource in self.audiences else None


@dataclass
class Guarded:
    """The two servers: where they are, and what they know."""

    url: str
    issuer_url: str
    issuer: Issuer


@contextlib.asynccontextmanager
async def guarded() -> AsyncIterator[Guarded]:
    """Runs both on loopback."""
    issuer, issuer_port, port = Issuer(), free_port(), free_port()
    found = Guarded(f"http://127.0.0.1:{port}/mcp", f"http://127.0.0.1:{issuer_port}", issuer)
    routes = create_auth_routes(
        issuer,
        AnyHttpUrl(found.issuer_url),
        client_registration_options=ClientRegistrationOptions(
            enabled=True, valid_scopes=["tools"], default_scopes=["tools"]
        ),
    )
    server = MCPServer(
        "guarded",
        token_verifier=issuer,
        auth=AuthSettings(
            issuer_url=AnyHttpUrl(found.issuer_url),
            resource_server_url=AnyHttpUrl(found.url),
            required_scopes=["tools"],
            validate_token_resource=False,
        ),
    )

    @server.tool()
    def add(a: int, b: int) -> int:
        """Adds two numbers."""
        return a + b

    async with (
        _served(Starlette(routes=routes), issuer_port),
        _served(server.streamable_http_app(), port),
    ):
        yield found


@contextlib.asynccontextmanager
async def _served(app: Starlette, port: int) -> AsyncIterator[None]:
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    task = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.02)
    try:
        yield
    finally:
        server.should_exit = server.force_exit = True
        await task
