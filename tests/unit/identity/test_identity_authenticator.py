"""Several credentials of one call prove one agent, whole: its tenant too, and short of its end."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from identity_setup import OTHER_TOKEN, TOKEN, Place, configured, place
from issuer import provider

from sidecar.config.model import Config
from sidecar.errors import Refused
from sidecar.identity import lockout
from sidecar.identity.agent_states import Move
from sidecar.identity.jwks import KeysWanted
from sidecar.model import Principal

ADDRESS = "10.0.0.1"
AUTHORITY = Authority()
#: Both tenants have an agent of that name.
TENANTS = """
tenants:
  acme: {agents: {coder: {token: {file: coder.txt}, mtls: coder.acme, jwt: coder}}}
  rival: {agents: {coder: {token: {file: rival.txt}, mtls: coder.rival}}}
"""
MTLS = "identity: {mtls: cn}\n"
IDENTITY = (
    "identity: {mtls: cn, jwt: {issuer: https://idp.acme.io, audience: tools, jwks: 'URL'}}\n"
)


def trusting(folder: Path, text: str) -> Config:
    """A configuration by which certificates count that a listener over TLS has verified."""
    certificate, key = AUTHORITY.sign().write(folder)
    (folder / "ca.pem").write_bytes(AUTHORITY.pem)
    tls = f"{{cert: {{file: {certificate}}}, key: {{file: {key}}}, client_ca: {{file: ca.pem}}}}"
    return configured(folder, f"listen: {{data: {{address: 127.0.0.1:8080, tls: {tls}}}}}\n{text}")


def certificate(name: str) -> dict[str, Any]:
    """As Python's `ssl` gives one that was verified."""
    return {"subject": ((("commonName", name),),)}


async def proven(
    at: Place, *secrets: str, shown: dict[str, Any] | None = None
) -> Principal | tuple[str, str]:
    """Who calls, or the code and the reason why nobody does."""
    while True:
        try:
            return at.callers.authenticator.proven(secrets, shown, ADDRESS)
        except KeysWanted as wanted:
            await wanted.keys.fetch()
        except Refused as refused:
            return refused.code, refused.detail


async def test_g4_credentials_of_two_agents_are_nobodys_also_where_both_have_one_name(
    tmp_path: Path,
) -> None:
    async with provider() as idp:
        idp.add("k1")
        text = TENANTS + IDENTITY.replace("URL", idp.url)
        async with place(tmp_path, trusting(tmp_path, text)) as at:
            signed, wrong = idp.token("k1"), ("unauthenticated", "disagree")
            for one, other in itertools.permutations((TOKEN, OTHER_TOKEN, signed), 2):
                found = await proven(at, one, other)
                assert (found == wrong) is (OTHER_TOKEN in (one, other))
            assert await proven(at, TOKEN, shown=certificate("coder.rival")) == wrong
            assert await proven(at, OTHER_TOKEN, shown=certificate("coder.acme")) == wrong
            assert await proven(at, signed, shown=certificate("coder.rival")) == wrong
            for secrets in ((TOKEN, signed), (signed, TOKEN)):
                for shown in (None, certificate("coder.acme")):
                    both = await proven(at, *secrets, shown=shown)
                    assert isinstance(both, Principal) and both.tenant == "acme"
                    assert both.claims["sub"] == "coder", "what a signature says is not lost"


@pytest.mark.parametrize("move", [Move.REVOKE, Move.DELETE])
async def test_w13_no_credential_proves_an_agent_that_is_at_its_end(
    tmp_path: Path, move: Move
) -> None:
    async with place(
        tmp_path, trusting(tmp_path, TENANTS.replace(", jwt: coder", "") + MTLS)
    ) as at:
        shown = certificate("coder.acme")
        for secrets, known in (((TOKEN,), None), ((), shown), ((TOKEN,), shown)):
            assert isinstance(await proven(at, *secrets, shown=known), Principal)
        await at.callers.changes.move("acme", "coder", move, actor="t")
        assert await proven(at, TOKEN) == ("unauthenticated", "unknown")
        assert await proven(at, shown=shown) == ("unauthenticated", "certificate")
        assert await proven(at, TOKEN, shown=shown) == ("unauthenticated", "certificate")
        other = await proven(at, OTHER_TOKEN, shown=certificate("coder.rival"))
        assert isinstance(other, Principal) and other.tenant == "rival", "positive control"


async def test_g4_who_is_locked_out_calls_without_a_credential_no_more(tmp_path: Path) -> None:
    text = "tenants: {acme: {agents: {coder: {mtls: coder.acme}}}}\n"
    text += MTLS.replace("mtls:", "default_agent: acme/coder, mtls:")
    async with place(tmp_path, trusting(tmp_path, text)) as at:
        assert isinstance(await proven(at), Principal), "the agent by default"
        for _ in range(lockout.FAILURES_MAX):
            assert await proven(at, "guess") == ("unauthenticated", "unknown")
        assert (await proven(at))[0] == "too_many_failures"
        assert isinstance(await proven(at, shown=certificate("coder.acme")), Principal)
