"""Signed tokens: which hold, which do not, and what an issuer's faults do; over real HTTP."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from identity_setup import MovedClock, Place, configured, place
from issuer import AUDIENCE, ISSUER, IdentityProvider, provider

from sidecar.errors import Refused
from sidecar.identity import jwks, lockout
from sidecar.identity.agent_states import Move
from sidecar.identity.jwks import KeysWanted
from sidecar.model import Principal, Role

TENANTS = """
tenants:
  acme: {agents: {coder: {jwt: coder, team: platform}, tester: {jwt: tester}}}
  rival: {agents: {spy: {jwt: spy}}}
identity: {jwt: {issuer: https://idp.acme.io, audience: tools, jwks: 'URL', leeway: 30sMORE}}
"""


@dataclass
class World:
    """An issuer, and callers who trust it."""

    idp: IdentityProvider
    at: Place

    @property
    def clock(self) -> MovedClock:
        return self.at.clock

    async def who(self, token: str) -> Principal:
        """As the path of a call does it."""
        authenticator = self.at.callers.authenticator
        while True:
            try:
                return authenticator.proven((token,), None, "10.0.0.1")
            except KeysWanted as wanted:
                await wanted.keys.fetch()

    async def why_not(self, token: str) -> str:
        """The reason operators see; callers are always told the same."""
        with pytest.raises(Refused) as caught:
            await self.who(token)
        assert caught.value.code == "unauthenticated"
        assert caught.value.reason == "The caller is not known"
        return caught.value.detail


@asynccontextmanager
async def world(
    folder: Path, more: str = "", keys: tuple[str, ...] = ("ES256",)
) -> AsyncIterator[World]:
    async with provider() as idp:
        for number, algorithm in enumerate(keys, 1):
            idp.add(f"k{number}", algorithm)
        text = TENANTS.replace("URL", idp.url).replace("MORE", more)
        async with place(folder, configured(folder, text)) as at:
            yield World(idp, at)


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
async def test_a_signed_token_says_who_calls(tmp_path: Path, algorithm: str) -> None:
    async with world(tmp_path, keys=(algorithm,)) as one:
        found = await one.who(one.idp.token("k1", role="deployer"))
        assert (found.tenant, found.agent, found.team) == ("acme", "coder", "platform")
        assert found.claims["role"] == "deployer" and found.run == ""
        assert (await one.who(one.idp.token("k1", sub="spy"))).tenant == "rival"
        assert one.idp.asked == 1, "keys are fetched once"


@pytest.mark.parametrize(("claims", "why"), [
    ({"exp": time.time() - 60}, "jwt_expired"),
    ({"exp": None}, "jwt_claims"),
    ({"exp": "soon"}, "jwt_claims"),
    ({"exp": float("inf")}, "jwt_claims"),
    ({"nbf": time.time() + 3600}, "jwt_not_yet_valid"),
    ({"aud": "others"}, "jwt_audience"),
    ({"aud": None}, "jwt_claims"),
    ({"iss": "https://idp.rival.io"}, "jwt_issuer"),
    ({"iss": None}, "jwt_issuer"),
    ({"sub": None}, "jwt_claims"),
    ({"sub": ""}, "jwt_claims"),
    ({"sub": "nobody"}, "unknown"),
    ({"sub": "Coder"}, "unknown"),
    ({"note": "a\0b"}, "jwt_claims"),
    ({"note": 2**60}, "jwt_claims"),
    ({"note": ["a", "a\0b"]}, "jwt_claims"),
    ({"note": {"a": 1, "b": [2**60]}}, "jwt_claims"),
    ({"note": {"a\0": 1}}, "jwt_claims"),
    ({"note": float("nan")}, "jwt_claims"),
    ({"note": json.loads("[" * 17 + "]" * 17)}, "jwt_claims"),
])  # fmt: skip
async def test_g4_a_token_whose_claims_do_not_hold(
    tmp_path: Path, claims: dict[str, Any], why: str
) -> None:
    async with world(tmp_path) as one:
        assert await one.why_not(one.idp.token("k1", **claims)) == why
        assert one.at.callers.failures_by_reason[why] == 1
        assert (await one.who(one.idp.token("k1"))).agent == "coder", "positive control"


async def test_g4_clocks_may_differ_within_the_leeway(tmp_path: Path) -> None:
    async with world(tmp_path) as one:
        now = time.time()
        await one.who(one.idp.token("k1", exp=now - 20))
        await one.who(one.idp.token("k1", nbf=now + 20))
        assert await one.why_not(one.idp.token("k1", exp=now - 40)) == "jwt_expired"
        assert await one.why_not(one.idp.token("k1", nbf=now + 40)) == "jwt_not_yet_valid"


def forged(header: dict[str, Any], claims: dict[str, Any] | None = None, tail: str = "") -> str:
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "coder", "exp": time.time() + 300}
    parts = [json.dumps(one).encode() for one in (header, {**said, **(claims or {})})]
    return ".".join(
        [base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts] + [tail]
    )


async def test_g4_only_asymmetric_algorithms_and_the_issuers_own_keys(tmp_path: Path) -> None:
    async with world(tmp_path, keys=("RS256", "ES256")) as one:
        public = (
            one.idp.keys["k1"][1]
            .public_key()
            .public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "coder", "exp": time.time() + 300}
        import hashlib
        import hmac

        bare = forged({"alg": "HS256", "kid": "k1", "typ": "JWT"})[:-1]
        mac = hmac.digest(public, bare.encode(), hashlib.sha256)
        confused = f"{bare}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
        stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        for token, why in (
            (confused, "jwt_algorithm"),
            (forged({"alg": "none", "kid": "k1"}), "jwt_algorithm"),
            (forged({"alg": "None", "kid": "k1"}), "jwt_algorithm"),
            (forged({"alg": ["RS256"], "kid": "k1"}), "jwt_malformed"),
            (forged({"alg": "RS256", "kid": "k1"}), "jwt_signature"),
            (forged({"alg": "RS256", "kid": 7}), "jwt_malformed"),
            (forged({"alg": "RS256", "kid": "k1", "crit": ["x"]}), "jwt_malformed"),
            (forged({"alg": "RS256", "kid": "k2"}), "jwt_key"),
            (jwt.encode(said, stranger, "RS256", headers={"kid": "k1"}), "jwt_signature"),
            (one.idp.token("k1")[:-4] + "AAAA", "jwt_signature"),
            ("a.b.c", "jwt_malformed"),
            ("e30.e30.", "jwt_malformed"),
        ):
            assert await one.why_not(token) == why, token
        assert (await one.who(one.idp.token("k1"))).agent == "coder", "positive control"
        assert (await one.who(one.idp.token("k2"))).agent == "coder"


async def test_a_weak_key_signs_for_nobody(tmp_path: Path) -> None:
    async with world(tmp_path) as one:
        one.idp.keys["weak"] = (
            "RS256",
            rsa.generate_private_key(public_exponent=65537, key_size=1024),
        )
        algorithm, key = one.idp.keys["weak"]
        said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "coder", "exp": time.time() + 300}
        with pytest.warns(jwt.InsecureKeyLengthWarning):
            token = jwt.encode(said, key, algorithm, headers={"kid": "weak"})
        assert await one.why_not(token) == "jwt_key"


async def test_keys_rotate_without_a_restart(tmp_path: Path) -> None:
    async with world(tmp_path) as one:
        old = one.idp.token("k1")
        await one.who(old)
        one.idp.add("k2")
        assert await one.why_not(one.idp.token("k2")) == "jwt_key", "asked a moment ago"
        one.clock.moved_s += jwks.REFETCH_S + 1
        assert (await one.who(one.idp.token("k2"))).agent == "coder"
        await one.who(old)
        del one.idp.keys["k1"]
        one.clock.moved_s += jwks.REFRESH_S + 1
        await one.who(one.idp.token("k2", note=1))  # begins a fetch, and waits for none
        await asyncio.sleep(0.2)
        assert await one.why_not(old) == "jwt_key", "also one that was verified before"
        assert (await one.who(one.idp.token("k2"))).agent == "coder"


async def test_g4_a_withdrawn_key_is_noticed_also_if_only_tokens_come_that_are_known(
    tmp_path: Path,
) -> None:
    """An agent with one token that lasts for days would keep its key alive for a day."""
    async with world(tmp_path) as one:
        token = one.idp.token("k1", exp=time.time() + 10**6)
        await one.who(token)
        one.idp.add("k2")
        del one.idp.keys["k1"]
        one.clock.moved_s += jwks.REFRESH_S + 1
        assert (await one.who(token)).agent == "coder", "begins a fetch, and waits for none"
        await asyncio.sleep(0.2)
        assert one.idp.asked == 2
        assert await one.why_not(token) == "jwt_key"


async def test_g4_unknown_keys_do_not_make_us_ask_without_end(tmp_path: Path) -> None:
    async with world(tmp_path) as one:
        one.idp.add("k2")
        await one.who(one.idp.token("k1"))
        one.at.callers.authenticator.lockout.__init__(one.clock)  # type: ignore[misc]
        for number in range(15):
            assert await one.why_not(forged({"alg": "ES256", "kid": f"x{number}"})) == "jwt_key"
        assert one.idp.asked == 1


@pytest.mark.parametrize("fault", ["500", "slow", "huge", "html", "list", "deep", "redirect"])
async def test_what_was_fetched_last_counts_on_while_the_issuer_fails(
    tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "FETCH_S", 0.3)
    async with world(tmp_path) as one:
        known = one.idp.token("k1", exp=time.time() + 10**6, note=2)
        await one.who(known)
        one.idp.fault = fault
        one.clock.moved_s += jwks.REFRESH_S + 1
        began = time.monotonic()
        assert (await one.who(one.idp.token("k1", note=1))).agent == "coder"
        assert time.monotonic() - began < 0.2, "nobody waits for a key that is known"
        (keys,) = one.at.callers.key_sets.values()
        assert keys.age_s is not None and keys.age_s > jwks.REFRESH_S
        one.idp.keys["k9"] = one.idp.keys["k1"]
        assert await one.why_not(one.idp.token("k9")) == "jwt_key"
        assert one.idp.asked == 2, "one at a time, and not again at once"
        assert keys.failures_total == 1
        one.clock.moved_s += jwks.KEEP_S
        assert await one.why_not(known) == "jwt_key", "nor does a token that held while it counted"
        assert await one.why_not(one.idp.token("k1", exp=time.time() + 10**6)) == "jwt_key"
        one.idp.fault = ""
        one.clock.moved_s += jwks.REFETCH_S + 1
        assert (await one.who(one.idp.token("k1", exp=time.time() + 10**6))).agent == "coder"


async def test_an_issuer_that_is_down_from_the_start_lets_nobody_in(tmp_path: Path) -> None:
    async with world(tmp_path) as one:
        one.idp.fault = "500"
        found = await asyncio.gather(*(one.why_not(one.idp.token("k1", n=n)) for n in range(10)))
        assert set(found) == {"jwt_key"}
        assert one.idp.asked == 1, "one fetch at a time"
        one.idp.fault = ""
        one.clock.moved_s += jwks.REFETCH_S + 1
        assert (await one.who(one.idp.token("k1"))).agent == "coder", "positive control"


async def guessed(one: World) -> None:
    """The address of `who` is locked out."""
    for _ in range(lockout.FAILURES_MAX):
        assert await one.why_not("guess") == "unknown"
    with pytest.raises(Refused, match="too_many_failures"):
        await one.who("guess")


async def test_g4_a_signature_is_no_guess_and_goes_on_where_an_address_is_locked(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as one:
        await guessed(one)
        for number in range(3):  # they live for minutes, so that each is another
            assert (await one.who(one.idp.token("k1", n=number))).agent == "coder"
        failures = one.at.callers.failures_by_reason
        before = failures["locked_out"]
        one.idp.add("k2")
        one.clock.moved_s += jwks.REFETCH_S + 1
        for wrong in (
            one.idp.token("k1")[:-4] + "AAAA", one.idp.token("k1", exp=time.time() - 100),
            one.idp.token("k1", aud="others"), "a.b.c", "..", one.idp.token("k2"),
        ):  # fmt: skip
            with pytest.raises(Refused, match="too_many_failures"):
                await one.who(wrong)
        assert failures["locked_out"] == before + 6
        assert one.idp.asked == 1, "for an address that is locked no issuer is asked again"
        assert await one.why_not(one.idp.token("k1", sub="nobody")) == "unknown"


async def test_that_an_issuer_does_not_answer_is_no_wrong_credential(tmp_path: Path) -> None:
    async with world(tmp_path) as one:
        one.idp.fault = "500"
        for number in range(2 * lockout.FAILURES_MAX):
            assert await one.why_not(one.idp.token("k1", n=number)) == "jwt_key"
        assert one.at.callers.lockouts_total == 0, "others of this machine go on"
        assert one.at.callers.failures_by_reason["jwt_key"] == 2 * lockout.FAILURES_MAX
        one.idp.fault = ""
        one.clock.moved_s += jwks.REFETCH_S + 1
        assert (await one.who(one.idp.token("k1"))).agent == "coder", "at once"
        for number in range(lockout.FAILURES_MAX):
            forged_one = forged({"alg": "ES256", "kid": f"x{number}"})
            assert await one.why_not(forged_one) == "jwt_key"
        assert one.at.callers.lockouts_total == 1, "it answers, and has no such key"


async def test_a_verified_token_ends_when_it_expires(tmp_path: Path) -> None:
    async with world(tmp_path) as one:
        token = one.idp.token("k1", exp=time.time() + 1)
        first = await one.who(token)
        assert await one.who(token) is first, "remembered"
        one.clock.moved_s += 60
        # PyJWT looks at the machine's clock, which stands where it was.
        assert one.at.callers.authenticator._signed is not None
        assert (await one.who(token)) is not first, "not from memory"


async def test_an_agent_that_is_frozen_or_revoked_is_so_with_a_signed_token(tmp_path: Path) -> None:
    async with world(tmp_path) as one:
        token = one.idp.token("k1")
        await one.who(token)
        await one.at.callers.changes.move("acme", "coder", Move.FREEZE, actor="t")
        frozen = await one.who(token)
        assert frozen.state == "frozen" and frozen.claims["sub"] == "coder"
        await one.at.callers.changes.move("acme", "coder", Move.REVOKE, actor="t")
        assert await one.why_not(token) == "unknown"


async def test_the_tenants_claim_must_name_the_agents_tenant(tmp_path: Path) -> None:
    more = ", tenant_claim: org, run_claim: sid, agent_claim: azp"
    async with world(tmp_path, more) as one:
        found = await one.who(one.idp.token("k1", azp="coder", org="acme", sid="run-7"))
        assert (found.tenant, found.agent, found.run) == ("acme", "coder", "run-7")
        again = await one.who(one.idp.token("k1", azp="coder", org="acme"))
        assert again.run == "", "without one, silence alone divides"
        for claims, why in (
            ({"azp": "coder", "org": "rival"}, "unknown"),
            ({"azp": "spy", "org": "acme"}, "unknown"),
            ({"azp": "coder"}, "jwt_claims"),
            ({"org": "acme"}, "jwt_claims"),
            ({"azp": "coder", "org": ["acme"]}, "jwt_claims"),
            ({"azp": "coder", "org": "acme", "sid": "x" * 129}, "jwt_claims"),
            ({"azp": "coder", "org": "acme", "sid": "a\nb"}, "jwt_claims"),
            ({"azp": "coder", "org": "acme", "sid": 7}, "jwt_claims"),
        ):
            assert await one.why_not(one.idp.token("k1", **claims)) == why, claims


PEOPLE = ", people_audience: console, person_claim: email"
ANA = "ana@acme.io"


@asynccontextmanager
async def people_world(folder: Path) -> AsyncIterator[World]:
    async with provider() as idp:
        idp.add("k1")
        text = (
            TENANTS.replace("URL", idp.url)
            .replace("MORE", PEOPLE)
            .replace(
                "tester: {jwt: tester}}}",
                f"tester: {{jwt: tester}}}}, people: {{ana: {{roles: approver, jwt: '{ANA}'}}}}}}",
            )
        )
        async with place(folder, configured(folder, text)) as at:
            yield World(idp, at)


def anas(one: World, **claims: Any) -> str:
    return one.idp.token("k1", **{"aud": "console", "sub": None, "email": ANA, **claims})


@pytest.mark.parametrize("verified", [True, "true", None])
async def test_an_email_counts_unless_its_issuer_says_that_nobody_has_verified_it(
    tmp_path: Path, verified: object
) -> None:
    async with people_world(tmp_path) as one:
        token = anas(one, email_verified=verified)
        assert await one.at.callers.doorman.person(f"Bearer {token}", "10.0.0.1") is not None


async def test_a_signed_token_says_which_person_asks(tmp_path: Path) -> None:
    async with people_world(tmp_path) as one:
        person = one.at.callers.doorman.person
        for sent in (f"Bearer {anas(one)}", anas(one)):
            found = await person(sent, "10.0.0.1")
            assert found is not None
            assert (found.tenant, found.actor, found.agent) == ("acme", "person:ana", None)
            assert found.roles == {Role.APPROVER}
        assert one.idp.asked == 1, "keys are fetched once"


@pytest.mark.parametrize(("claims", "why"), [
    ({"aud": AUDIENCE}, "jwt_audience"),
    ({"aud": [AUDIENCE, "console"]}, "jwt_audience"),
    ({"aud": None}, "jwt_claims"),
    ({"aud": "others"}, "jwt_audience"),
    ({"exp": time.time() - 60}, "jwt_expired"),
    ({"iss": "https://idp.rival.io"}, "jwt_issuer"),
    ({"email": None, "sub": ANA}, "jwt_claims"),
    ({"email_verified": False}, "jwt_claims"),
    ({"email_verified": "false"}, "jwt_claims"),
    ({"email": "ana"}, "unknown"),
    ({"email": "coder"}, "unknown"),
])  # fmt: skip
async def test_g4_nobody_is_a_person_by_a_token_that_is_not_a_persons(
    tmp_path: Path, claims: dict[str, Any], why: str
) -> None:
    async with people_world(tmp_path) as one:
        person = one.at.callers.doorman.person
        assert await person(f"Bearer {anas(one, **claims)}", "10.0.0.1") is None
        assert one.at.callers.failures_by_reason[why] == 1
        assert await person(f"Bearer {anas(one)}", "10.0.0.1") is not None, "positive control"


@pytest.mark.parametrize("audience", ["", [""], None, AUDIENCE, "console"])
async def test_g4_an_issuer_that_signs_for_no_people_makes_nobody_one(
    tmp_path: Path, audience: object
) -> None:
    async with world(tmp_path) as one:
        token = anas(one, aud=audience, sub=ANA)
        assert await one.at.callers.doorman.person(f"Bearer {token}", "10.0.0.1") is None
        assert one.at.callers.failures_by_reason["jwt_audience"] == 1


async def test_g4_a_person_is_no_agent_and_an_agent_no_person(tmp_path: Path) -> None:
    async with people_world(tmp_path) as one:
        person, agents = one.at.callers.doorman.person, one.idp.token("k1", email=ANA)
        assert (await one.who(agents)).agent == "coder"
        assert await person(f"Bearer {agents}", "10.0.0.1") is None, "though it held as an agent's"
        persons = anas(one, sub="coder")
        assert await person(f"Bearer {persons}", "10.0.0.1") is not None
        assert await one.why_not(persons) == "jwt_audience", "though it held as a person's"
        both = one.idp.token("k1", aud=[AUDIENCE, "console"], email=ANA)
        assert await one.why_not(both) == "jwt_audience"
        assert await person(f"Bearer {both}", "10.0.0.1") is None
        assert one.at.callers.doorman.lockout.locked_total == 0


async def test_g4_a_persons_signature_is_no_guess_either(tmp_path: Path) -> None:
    async with people_world(tmp_path) as one:
        doorman = one.at.callers.doorman
        for number in range(lockout.FAILURES_MAX):
            assert await doorman.person(f"Bearer guess-{number}", "10.0.0.1") is None
        assert await doorman.person("Bearer guess", "10.0.0.1") is None
        assert one.at.callers.failures_by_reason["locked_out"] == 1
        for number in range(3):
            found = await doorman.person(f"Bearer {anas(one, n=number)}", "10.0.0.1")
            assert found is not None and found.actor == "person:ana"
        for wrong in (f"{anas(one)[:-4]}AAAA", one.idp.token("k1", email=ANA), "a.b.c", "x" * 9000):
            assert await doorman.person(f"Bearer {wrong}", "10.0.0.1") is None
        assert one.at.callers.failures_by_reason["locked_out"] == 5


async def test_people_are_not_locked_out_because_their_issuer_does_not_answer(
    tmp_path: Path,
) -> None:
    async with people_world(tmp_path) as one:
        doorman = one.at.callers.doorman
        one.idp.fault = "500"
        for number in range(2 * lockout.FAILURES_MAX):
            assert await doorman.person(f"Bearer {anas(one, n=number)}", "10.0.0.1") is None
        assert doorman.lockout.locked_total == 0


OF_RIVAL = "https://idp.rival.io"
TWO_ISSUERS = """
tenants:
  acme: {agents: {coder: {jwt: coder}}, people: {ana: {roles: admin, jwt: ana}}}
  rival: {agents: {spy: {jwt: spy}, coder: {jwt: coder}}, people: {eve: {roles: viewer, jwt: eve}}}
identity:
  jwt:
    - {issuer: https://idp.acme.io, audience: tools, people_audience: p, jwks: 'ONE', tenant: acme}
    - {issuer: https://idp.rival.io, audience: tools, people_audience: p, jwks: 'TWO', BOUND}
"""


async def test_g1_an_issuer_of_one_tenant_names_nobody_of_another(tmp_path: Path) -> None:
    async with provider() as first, provider() as second:
        first.add("k1")
        second.add("k1")
        text = TWO_ISSUERS.replace("ONE", first.url).replace("TWO", second.url)
        for number, bound in enumerate(("tenant: rival", "tenant_claim: org")):
            (folder := tmp_path / str(number)).mkdir()
            config = configured(folder, text.replace("BOUND", bound))
            async with place(folder, config) as at:
                one = World(second, at)
                person = at.callers.doorman.person

                def rivals(**claims: Any) -> str:
                    return second.token("k1", **{"iss": OF_RIVAL, "org": "rival", **claims})

                for agent in ("coder", "spy"):
                    found = await one.who(rivals(sub=agent))
                    assert (found.tenant, found.agent) == ("rival", agent)
                eve = await person(f"Bearer {rivals(aud='p', sub='eve')}", "10.0.0.1")
                assert eve is not None and eve.tenant == "rival", "positive control"
                assert await person(f"Bearer {rivals(aud='p', sub='ana')}", "10.0.0.1") is None
                assert (await one.who(first.token("k1"))).tenant == "acme"
                assert await one.why_not(first.token("k1", sub="spy", org="rival")) == "unknown"
                # A claim is the issuer's own word, and only an issuer of one tenant has none.
                said = await one.who(rivals(sub="coder", org="acme"))
                assert said.tenant == ("rival" if bound == "tenant: rival" else "acme")
