"""An issuer of signed tokens on loopback: real keys, a real key set over HTTP, and its faults."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ISSUER = "https://idp.acme.io"
AUDIENCE = "tools"
_ALGORITHMS = {
    "RS256": jwt.algorithms.RSAAlgorithm,
    "PS256": jwt.algorithms.RSAAlgorithm,
    "ES256": jwt.algorithms.ECAlgorithm,
    "EdDSA": jwt.algorithms.OKPAlgorithm,
}


def _private_key(algorithm: str) -> Any:
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class IdentityProvider:
    """Its keys by id; `fault` is what its next answers are like; `asked` counts them."""

    def __init__(self) -> None:
        self.keys: dict[str, tuple[str, Any]] = {}
        self.fault = ""
        self.asked = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/keys"

    def add(self, kid: str, algorithm: str = "ES256") -> None:
        self.keys[kid] = (algorithm, _private_key(algorithm))

    def public(self, kid: str) -> dict[str, Any]:
        algorithm, key = self.keys[kid]
        public = _ALGORITHMS[algorithm].to_jwk(key.public_key(), as_dict=True)
        return {**public, "kid": kid, "use": "sig"}

    def token(self, kid: str, **claims: Any) -> str:
        """A token that holds, but for what `claims` say otherwise; None leaves a claim out."""
        algorithm, key = self.keys[kid]
        now = time.time()
        said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "coder", "exp": now + 300, "iat": now}
        said = {name: one for name, one in {**said, **claims}.items() if one is not None}
        return jwt.encode(said, key, algorithm, headers={"kid": kid})

    async def answer(self, _: web.Request) -> web.StreamResponse:
        self.asked += 1
        if self.fault == "slow":
            await asyncio.sleep(30)
        if self.fault == "500":
            return web.Response(status=500)
        if self.fault == "redirect":
            raise web.HTTPFound("/keys2")
        if self.fault == "huge":
            return web.Response(text=json.dumps({"keys": ["x" * 1000] * 1000}))
        if self.fault == "html":
            return web.Response(text="<html>")
        if self.fault == "deep":
            return web.Response(text="[" * 100_000)
        if self.fault == "list":
            return web.Response(text="[]")
        return web.Response(text=json.dumps({"keys": [self.public(kid) for kid in self.keys]}))


@contextlib.asynccontextmanager
async def provider() -> AsyncIterator[IdentityProvider]:
    """A provider that listens."""
    one = IdentityProvider()
    app = web.Application()
    app.router.add_get("/keys", one.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    one.port = runner.addresses[0][1]
    try:
        yield one
    finally:
        await runner.cleanup()
