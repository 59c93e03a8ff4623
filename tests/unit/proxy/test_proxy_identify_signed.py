"""Certificates and signed tokens, through a whole sidecar: over real TLS, with a real issuer."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from certificates import Authority
from proxy_whole_setup import Answer, Whole, read_answer, receipts, whole
from proxy_wire_setup import answering

sys.path.insert(0, str(Path(__file__).parents[1] / "identity"))

from issuer import provider

from sidecar.identity.agent_states import Move

AUTHORITY = Authority()
Loop = Callable[[], asyncio.AbstractEventLoop]
POLICIES = {
    "api.yaml": "catalogue: api\ntools: {get: GET /get, put: PUT /put}\n",
    "p.yaml": (
        "policy: p\nrules:\n"
        "  - {id: all, effect: allow, tools: api/*}\n"
        "  - {id: claimed, effect: deny, tools: api/put, "
        "when: '!(has(agent.claims.role) && agent.claims.role == \"deployer\")'}\n"
    ),
}
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
SPIFFE = "spiffe://acme.io/coder"


def client(folder: Path, name: str, *uris: str) -> ssl.SSLContext:
    """A client with a certificate of this common name and these URIs."""
    pair = AUTHORITY.sign(name, uris=uris)
    certificate, key = pair.write(folder, f"client-{len(list(folder.iterdir()))}")
    context = AUTHORITY.trusted()
    context.load_cert_chain(certificate, key)
    return context


@asynccontextmanager
async def over_tls(folder: Path, part: str, agents: str) -> AsyncIterator[Whole]:
    """A sidecar whose data listener asks for certificates."""
    certificate, key = AUTHORITY.sign().write(folder)
    (folder / "ca.pem").write_bytes(AUTHORITY.pem)
    (folder / "coder.txt").write_text("coder-canary-Qm9Yb2N4a1Zt-1")
    (folder / "coder.txt").chmod(0o600)
    tls = f"{{cert: {{file: {certificate}}}, key: {{file: {key}}}, client_ca: {{file: ca.pem}}}}"
    more = f"tenants: {{acme: {{agents: {agents}}}}}\nidentity: {{mtls: {part}}}\n"
    async with whole(folder, answering(OK), POLICIES, more, tls=tls) as one:
        yield one


async def ask(one: Whole, context: ssl.SSLContext, more: str = "") -> Answer:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", one.port, ssl=context, server_hostname="localhost"
    )
    writer.write(
        f"GET /api/get HTTP/1.1\r\nHost: localhost\r\n{more}Connection: close\r\n\r\n".encode()
    )
    raw = bytearray()
    while piece := await reader.read(65536):
        raw += piece
    writer.close()
    return read_answer(bytes(raw))


async def test_a_certificate_says_who_calls_by_its_spiffe_id(tmp_path: Path) -> None:
    agents = f"{{coder: {{mtls: '{SPIFFE}'}}, tester: {{mtls: 'spiffe://acme.io/tester'}}}}"
    async with over_tls(tmp_path, "spiffe", agents) as one:
        assert (await ask(one, client(tmp_path, "anything", SPIFFE))).status == 200
        for uris in ((), ("spiffe://acme.io/nobody",), ("https://acme.io/coder",),
                     (SPIFFE, "spiffe://acme.io/tester"), (f"{SPIFFE}/",)):  # fmt: skip
            answer = await ask(one, client(tmp_path, "coder", *uris))
            assert (answer.status, answer.json["code"]) == (401, "unauthenticated"), uris
        await one.sidecar.callers.changes.move("acme", "coder", Move.FREEZE, actor="t")
        frozen = await ask(one, client(tmp_path, "anything", SPIFFE))
        assert (frozen.status, frozen.json["code"]) == (403, "agent_frozen")
    assert [row["agent_id"] for row in receipts(tmp_path) if row["kind"] == "intent"] == ["coder"]


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_certificate_says_who_calls_by_its_common_name(tmp_path: Path, loop: Loop) -> None:
    """On either loop: each has an implementation of TLS of its own."""
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(by_common_name(tmp_path))


async def by_common_name(tmp_path: Path) -> None:
    async with over_tls(tmp_path, "cn", "{coder: {mtls: coder}}") as one:
        assert (await ask(one, client(tmp_path, "coder"))).status == 200
        assert (await ask(one, client(tmp_path, "Coder"))).status == 401
        stranger = AUTHORITY.trusted()
        other = Authority("another").sign("coder").write(tmp_path, "other")
        stranger.load_cert_chain(*other)
        try:
            answered = (await ask(one, stranger)).status
        except (ssl.SSLError, ConnectionError):
            answered = 0
        assert answered == 0, "TLS lets no stranger in"


async def test_w21_a_header_is_no_certificate(tmp_path: Path) -> None:
    async with over_tls(tmp_path, "cn", "{coder: {mtls: coder}, tester: {}}") as one:
        headers = (
            "X-Client-Cert-CN: coder\r\nX-Ssl-Client-S-Dn: CN=coder\r\nX-Aegis-Agent: coder\r\n"
        )
        assert (await ask(one, client(tmp_path, "nobody"), headers)).status == 401


async def test_a_certificate_that_is_nobodys_is_not_passed_over(tmp_path: Path) -> None:
    """Though somebody may call without a credential: this one was shown, and proves nothing."""
    agents = "{coder: {mtls: coder}, tester: {}}"
    async with over_tls(tmp_path, "cn, default_agent: acme/tester", agents) as one:
        assert (await ask(one, client(tmp_path, "stranger"))).status == 401
        assert (await ask(one, client(tmp_path, "coder"))).status == 200, "positive control"


async def test_a_certificate_and_a_token_must_agree(tmp_path: Path) -> None:
    agents = "{coder: {mtls: coder, token: {file: coder.txt}}, tester: {mtls: tester}}"
    token = "Aegis-Token: coder-canary-Qm9Yb2N4a1Zt-1\r\n"
    async with over_tls(tmp_path, "cn", agents) as one:
        assert (await ask(one, client(tmp_path, "coder"), token)).status == 200
        assert (await ask(one, client(tmp_path, "tester"))).status == 200, "positive control"
        assert (await ask(one, client(tmp_path, "tester"), token)).status == 401
        assert (await ask(one, client(tmp_path, "coder"), "Aegis-Token: x\r\n")).status == 401


async def test_claims_reach_the_rules_and_a_signed_run_divides_the_work(tmp_path: Path) -> None:
    async with provider() as idp:
        idp.add("k1")
        jwt = f"{{issuer: https://idp.acme.io, audience: tools, jwks: '{idp.url}', run_claim: sid}}"
        more = (
            f"tenants: {{acme: {{agents: {{coder: {{jwt: coder}}}}}}}}\nidentity: {{jwt: {jwt}}}\n"
        )
        async with whole(tmp_path, answering(OK), POLICIES, more) as one:

            async def put(**claims: Any) -> Answer:
                headers = {"Aegis-Token": idp.token("k1", **claims), "Aegis-Run": "said"}
                return await one.ask("PUT", "/api/put", {}, headers)

            assert (await put(role="deployer", sid="r1")).status == 200
            assert (await put(role="deployer", sid="r2")).status == 200
            assert (await put(role="deployer")).status == 200
            denied = await put(role="reader")
            assert (denied.status, denied.json["rule"]) == (403, "p/claimed")
            assert (await put()).status == 403
            wrong = await one.ask("GET", "/api/get", headers={"Aegis-Token": idp.token("k1")[:-9]})
            assert (wrong.status, wrong.json["code"]) == (401, "unauthenticated")
            assert idp.asked == 1
            assert b"egis" not in one.arrived
    assert "eyJ" not in one.log.getvalue()
    rows = [row for row in receipts(tmp_path) if row["kind"] == "intent"]
    assert [row["run_id"] for row in rows] == ["r1", "r2", "said"]
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("aegis.db*"))
    assert b"eyJ" not in kept
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(tmp_path / "aegis.db")) as store:
        runs = {row[0] for row in store.execute("SELECT agent_id FROM run_head")}
    assert {"coder\nr1", "coder\nr2", "coder"} <= runs
