"""A control API over a real store, a real queue and real policy files, with two tenants in it.

All rooms are real but the doorman, who knows a person for every role of each tenant here and locks
nobody out; the real one is tried by test_api_people.py.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
from aiohttp import ClientSession
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import storage
from sidecar.api_rooms import made_api
from sidecar.approvals.states import Term, Terms, terms_text
from sidecar.authorize.control_mount import agents_first
from sidecar.authorize_rooms import Shared, made_authorize
from sidecar.clock import Clock
from sidecar.config.identity_model import ConfiguredPerson
from sidecar.config.model import (
    Address,
    Agent,
    Config,
    Listen,
    Receipts,
    Sink,
    Tenant,
    Upstream,
    UpstreamLimits,
)
from sidecar.config.settable import Secret
from sidecar.control.approval_care import ApprovalCare
from sidecar.control.caller_care import CallerCare
from sidecar.control.run_care import RunCare
from sidecar.control.server import ControlServer
from sidecar.control.state import ControlState
from sidecar.control.tool_care import ToolCare
from sidecar.errors import Refused
from sidecar.identity.callers import made_callers
from sidecar.identity.lockout import Lockout
from sidecar.ledger.chain import seal
from sidecar.ledger.checkpointer import Checkpointer
from sidecar.ledger.drafts import call_draft, unread_draft
from sidecar.ledger.fence import Fence
from sidecar.ledger.pin_keeper import PinKeeper
from sidecar.ledger.receipt import blank_receipt
from sidecar.ledger.run_keeper import RunKeeper
from sidecar.model import Effect, HttpFacts, Person, Principal, Role, ToolCall
from sidecar.policy.case_runner import entry_of
from sidecar.policy.decide import decide
from sidecar.policy_files import PolicyKeeper
from sidecar.proxy.redaction import Redactor
from sidecar.rooms import made_approvals, made_bodies, made_masking, policy_loader
from sidecar.signed_note import SigningKey
from sidecar.soc.correlation import Noticed, Raised, correlate
from sidecar.soc.incident_entries import Stamp, raised_entry
from sidecar.soc.incidents import Incidents
from sidecar.soc.levels import Level
from sidecar.soc.model import Evidence, Hit, Severity
from sidecar.telemetry.counters import Counters
from sidecar.telling_rooms import Telling
from sidecar.write_path import made_fencing, made_recorder
from storage.pressure import Pressure
from storage.records import Entry, Recorded
from storage.standing import AgentRow, ApprovalRow, AuditRow, KeyRow, PinRow
from storage.watch_rows import ContainmentRow, DeliveryRow
from storage.write_queue import WriteQueue

TENANTS = ("acme", "rival")
#: Nobody gives so many yeses: the approval stays open.
_TERMS = (Term("shop/asks", "ab" * 32, (), 99),)
#: What an approver reads, with what an agent would like a browser to take for something else.
HOSTILE = (
    "</pre><script>alert('x')</script><div hx-get='/console/sign-in' hx-trigger='load' "
    "hx-on:click='alert(1)' hx-disable='false'>h0stile</div><hx-partial>"
)
_ASKED = {
    "agent": "coder", "tool": "shop/get", "method": "GET", "path": "/orders/7",
    "arguments": {"id": HOSTILE}, "headers": {}, "reason": "it asks", "rules": ["shop/asks"],
    "called": HOSTILE, "beside": {"task": HOSTILE},
    "risk": "medium", "mutates": False, "is_escaped": False, "is_cut": False,
}  # fmt: skip


def terms_and_text(asked: dict[str, Any]) -> tuple[str, str]:
    """What has to be given, and what is asked, as a row has them."""
    text = orjson.dumps(asked).decode()
    return terms_text(Terms(_TERMS, "", sha256(text.encode()).hexdigest())), text


ROLES = tuple(role.value for role in Role)
#: Stands in everything that must never be shown: arguments, hashes of tokens and keys.
CANARY = "c4n4ry5ecret"
CATALOGUE = """catalogue: shop
tools:
  get: GET /orders/{id}
  refund: {route: "POST /orders/{id}/refund", risk: high}
  login: POST /login
"""
POLICY = """policy: shop
rules:
  - {id: reads, effect: allow, tools: shop/get}
  - {id: small, effect: allow, tools: shop/refund, when: args.amount <= 50}
  - {id: logins, effect: allow, tools: shop/login, when: has(args.password)}
  - {id: only-rival, effect: deny, tools: shop/refund, tenants: rival, when: args.amount > 40}
"""


def _signing_pem() -> str:
    made = Ed25519PrivateKey.generate()
    return made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


#: Signs the heads of every store here.
SIGNING_PEM = _signing_pem()


def key_of(tenant: str, role: str) -> str:
    """The key of the one person of a tenant with a role."""
    return f"{tenant}-{role}-key"


class Doorman:
    """Persons by key, as a real one gives them."""

    def __init__(self) -> None:
        self.persons = {
            key_of(tenant, role): Person(tenant, role, f"person:{role}", frozenset({Role(role)}))
            for tenant in TENANTS
            for role in ROLES
        }
        self.persons["nobody-key"] = Person("acme", "nobody", "person:nobody")

    async def person(self, authorization: str | None, address: str) -> Person | None:
        scheme, _, key = (authorization or "").partition(" ")
        return self.persons.get(key) if scheme == "Bearer" else None


def _agent(tenant: str, agent_id: str, state: str = "active") -> AgentRow:
    profile = {"team": f"team-{tenant}", "environment": "", "risk": "low", "trust": "unknown"}
    return AgentRow(tenant, agent_id, 1, state, orjson.dumps(profile).decode(), f"{CANARY}-hash", 7)


def _key(tenant: str, key_id: str, name: str, roles: list[str], state: str = "active") -> KeyRow:
    profile = orjson.dumps({"name": name, "roles": roles, "groups": []}).decode()
    return KeyRow(tenant, key_id, 1, state, profile, f"{CANARY}-hash", 0, 7)


def ids_of(tenant: str) -> dict[str, str]:
    """What a tenant has, by the name of the path parameter that means it. No two share an id but
    numbers, of which the rival has more: its last one is nobody else's."""
    return {
        "call_id": f"call-of-{tenant}",
        "agent_id": f"coder-{tenant}",
        "approval_id": f"approval-of-{tenant}",
        "key_id": f"key-of-{tenant}",
        "containment_id": f"containment-of-{tenant}",
        "alert_id": f"alert-of-{tenant}",
        "incident_id": f"incident-of-{tenant}",
        "delivery_id": f"delivery-of-{tenant}",
    }


@dataclass
class Served:
    """A started listener, and what stands behind it."""

    url: str
    client: ClientSession
    store: storage.SqlStore
    queue: WriteQueue
    reader: storage.SqlReader
    policies: PolicyKeeper
    clock: Clock
    recorder: Recording
    api: Any
    #: What control.sock answers by, with everybody there is.
    state: ControlState
    #: Starts another listener over the same store, as another node has one; its URL.
    another: Callable[[], Awaitable[str]]

    async def seq(self, tenant: str = "acme") -> int:
        """How many receipts a tenant has: what is changed adds some."""
        return (await self.store.head(tenant)).seq

    async def ask(
        self,
        path: str,
        key: str | None = key_of("acme", "admin"),
        *,
        method: str = "GET",
        body: Any = None,
        raw: bytes | None = None,
        **headers: str,
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Status, body (parsed where it is JSON) and headers."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            named.setdefault("Authorization", f"Bearer {key}")
        if body is not None:
            raw = json.dumps(body).encode()
        if raw is not None:
            named.setdefault("Content-Type", "application/json")
        from yarl import URL

        async with self.client.request(
            method, URL(self.url + path, encoded=True), headers=named, data=raw
        ) as reply:
            said = await reply.read()
            if said and reply.content_type in ("application/json", "application/problem+json"):
                return reply.status, orjson.loads(said), reply.headers
            return reply.status, said, reply.headers

    async def pages(self, path: str, key: str = key_of("acme", "admin")) -> list[Any]:
        """All items of a list, page after page."""
        found: list[Any] = []
        cursor = ""
        for _ in range(1000):
            mark = "&" if "?" in path else "?"
            status, body, headers = await self.ask(
                path + (f"{mark}cursor={cursor}" if cursor else ""), key
            )
            assert status == 200, body
            found += body
            cursor = headers.get("X-Next-Cursor", "")
            if not cursor:
                return found
        raise AssertionError("the list does not end")


class Recording:
    """Calls judged by the real policies and recorded as the pipeline does."""

    def __init__(
        self, store: storage.SqlStore, queue: WriteQueue, policies: PolicyKeeper, clock: Clock
    ) -> None:
        self._store, self._queue, self._policies, self._clock = store, queue, policies, clock

    async def call(
        self,
        tenant: str,
        call_id: str,
        tool: str = "shop/get",
        args: Mapping[str, Any] | None = None,
        *,
        agent: str | None = None,
        ends: bool = True,
        **fields: Any,
    ) -> Recorded:
        """One call, with its outcome if it went ahead; `fields` of its receipt."""
        rules, now_us = self._policies.current, self._clock.now_us()
        entry = entry_of(rules.catalogue, tool)
        http = HttpFacts("POST", "/orders/7", "", "127.0.0.1", {})
        call = ToolCall(call_id, entry.tool, "POST", dict(args or {}), http, "", (), b"{}", "rest")
        principal = Principal(tenant, agent or f"coder-{tenant}", team="platform")
        decision = decide(rules, principal, call, now_us)
        goes_ahead = decision.effect is Effect.ALLOW
        receipt, facts = call_draft(
            "intent" if goes_ahead else "refusal", principal, call, decision,
            None if goes_ahead else Refused(decision.code, decision.reason), ts_us=now_us,
            nonce=self._clock.random_bytes(16),
            arguments=Redactor(("password",)).arguments(call.args), keeps_arguments=True,
        )  # fmt: skip
        answer = await self._queue.submit(Entry(receipt._replace(**fields), facts))
        assert isinstance(answer, Recorded), answer
        if goes_ahead and ends:
            ended = blank_receipt(
                tenant, "outcome", event_id=self._clock.new_id(), call_id=call_id,
                ts_us=self._clock.now_us(), agent_id=principal.agent, outcome="completed",
                http_status=200,
            )  # fmt: skip
            await self._queue.submit(Entry(ended))
        return answer

    async def notice(self, tenant: str) -> None:
        """An incident with an alert that rests on a refused call."""
        (row,) = await self._store.receipts_of_call(tenant, f"refused-{tenant}")
        ids, now_us = ids_of(tenant), self._clock.now_us()
        hit = Hit(
            "deny-storm", Severity.HIGH, tenant, (ids["agent_id"],), ids["agent_id"], "", "", "",
            f"of {tenant}", (Evidence(row.seq, row.receipt_hash, row.call_id or "", row.ts_us),), 9,
        )  # fmt: skip
        found = correlate(tenant, [hit], [], [], Level.NOTIFY, now_us)
        incident = found.incidents[0]._replace(incident_id=ids["incident_id"])
        alert = found.alerts[0]._replace(alert_id=ids["alert_id"], incident_id=incident.incident_id)
        noticed = Noticed((alert,), (incident,), (Raised(hit, alert, incident),), (incident,))
        stamp = Stamp(self._clock.new_id(), self._clock.random_bytes(16), now_us)
        answer = await self._queue.submit(raised_entry(tenant, noticed, stamp))
        assert isinstance(answer, Recorded), answer

    async def fill_unread(self, tenant: str) -> None:
        """A request that never became a call."""
        row = unread_draft(
            Principal(tenant, f"coder-{tenant}"), call_id=f"unread-{tenant}", upstream="shop",
            tool=None, action="POST", refused=Refused("invalid_json"), ts_us=self._clock.now_us(),
        )  # fmt: skip
        await self._queue.submit(Entry(row))

    async def fill(self, tenant: str) -> None:
        """One of everything."""
        ids = ids_of(tenant)
        await self.call(tenant, ids["call_id"], args={"id": tenant})
        await self.call(tenant, f"login-{tenant}", "shop/login", {"password": CANARY})
        await self.call(tenant, f"refund-{tenant}", "shop/refund", {"amount": 45, "id": "7"})
        await self.call(tenant, f"refused-{tenant}", "shop/refund", {"amount": 70, "id": "7"})
        approval = ApprovalRow(
            tenant, ids["approval_id"], 1, "pending", f"action-{tenant}", ids["agent_id"],
            ids["call_id"], "shop/get", *terms_and_text(_ASKED | {"of": tenant}),
            "[]", 1, 2**52, 1, "",
        )  # fmt: skip
        second = approval._replace(
            approval_id=f"second-{ids['approval_id']}", action_sha256=f"second-{tenant}"
        )
        seen = orjson.dumps({"of": tenant, "new": HOSTILE}).decode()
        pin = PinRow(tenant, "mail", "send", 1, f'{{"of": "{tenant}"}}', "ab" * 32, 5,
                     seen, "cd" * 32, 6)  # fmt: skip
        block = ContainmentRow(
            tenant, ids["containment_id"], 1, "active", "block-tool", "mail/send", f"for {tenant}",
            f"person:{tenant}", "", "", 7, 0, 7,
        )  # fmt: skip
        told = DeliveryRow(
            tenant, ids["delivery_id"], 1, "dead", "ops", "test", 0, f'{{"of": "of-{tenant}"}}',
            1, 0, "it answered 410", 1, 1,
        )  # fmt: skip
        changes: tuple[tuple[Any, ...], ...] = (
            (_agent(tenant, ids["agent_id"]),), (_agent(tenant, f"stored-{tenant}", "frozen"),),
            (_key(tenant, ids["key_id"], "ana", ["viewer"]),), (approval, second),
            (pin, block, told),
        )  # fmt: skip
        for puts in changes:
            now_us = self._clock.now_us()
            row = blank_receipt(
                tenant, "control", event_id=self._clock.new_id(), call_id=None, ts_us=now_us
            )._replace(action="made", approver=f"person:{tenant}")
            audit = AuditRow(
                tenant, 0, now_us, f"person:{tenant}", "made", f"thing:{tenant}", "", '{"a":1}',
                f"for {tenant}",
            )  # fmt: skip
            answer = await self._queue.submit(Entry(row, puts=puts, audit=audit))
            assert isinstance(answer, Recorded), answer


def make_config(folder: Path, url: str) -> Config:
    local = ("127.0.0.1", "localhost", "::1")
    limits = UpstreamLimits(request_bytes=1024)
    return Config(
        listen=Listen(
            data=Address(host="127.0.0.1", port=8080, hosts=local),
            control=Address(host="127.0.0.1", port=0, hosts=local),
        ),
        store=url,
        data_dir=folder,
        receipts=Receipts(key=Secret(SIGNING_PEM)),
        policies=("policies",),
        tenants={
            tenant: Tenant(
                agents={f"coder-{tenant}": Agent(team="platform")},
                people={
                    role: ConfiguredPerson(roles=(Role(role),), key=Secret(key_of(tenant, role)))
                    for role in ROLES
                },
            )
            for tenant in TENANTS
        },
        default_agent=None,
        upstreams={
            "shop": Upstream(name="shop", url="https://shop.example", limits=limits),
            "mail": Upstream(name="mail", url="https://mail.example", kind="mcp", limits=limits),
        },
        sinks={
            "ops": Sink(
                name="ops",
                kind="webhook",
                url=Secret(f"https://{CANARY}.example"),
                secret=Secret(CANARY),
            )
        },
    )


class NeverLocked(Lockout):
    """Lets everybody try again."""

    def is_locked(self, address: str) -> bool:
        """Nobody is."""
        return False


def agent_token(tenant: str) -> str:
    """What the agent of a tenant calls with that asks on the control listener."""
    return f"token-of-the-asker-of-{tenant}"


def with_askers(config: Config) -> Config:
    """The configuration with an agent more for each tenant, who has a token."""
    tenants = {
        name: one.model_copy(
            update={
                "agents": {**one.agents, f"asker-{name}": Agent(token=Secret(agent_token(name)))}
            }
        )
        for name, one in config.tenants.items()
    }
    return config.model_copy(update={"tenants": tenants})


@asynccontextmanager
async def served_api(
    folder: Path, url: str = "", *, has_real_doorman: bool = False, has_agents: bool = False
) -> AsyncIterator[Served]:
    """Everything started, with one of everything recorded for each tenant, and two more calls of
    the rival's. With `has_agents` the listener serves what agents use too."""
    clock, desk_clock = Clock(), Clock()
    config = make_config(folder, url or f"sqlite:///{folder / 'aegis.db'}")
    if has_agents:
        config = with_askers(config)
    (folder / "policies").mkdir()
    (folder / "policies" / "catalogue.yaml").write_text(CATALOGUE)
    (folder / "policies" / "shop.yaml").write_text(POLICY)
    policies = PolicyKeeper(config.policies, folder, policy_loader(config), clock)
    policies.load_first()
    async with AsyncExitStack() as stack:
        store = await storage.open_store(config.store, now_us=clock.now_us, node_id="n1")
        stack.push_async_callback(store.close)
        pressure = Pressure(
            batch_entries_max=512, monotonic_ns=clock.monotonic_ns, loop_cpu_ns=lambda: 0
        )
        queue = WriteQueue(
            store, seal, capacity=64, wait_s=5.0, monotonic_ns=clock.monotonic_ns,
            on_batch=pressure.observe,
        )  # fmt: skip
        stack.push_async_callback(queue.close)
        fence = Fence()
        runs = RunKeeper(store.run_head, clock, idle_s=60.0, is_alone=True)
        pins = PinKeeper(store, queue, clock, fence, is_alone=True)
        state = ControlState(
            config=config, clock=clock, boot_id="b1", counters=Counters(config.upstreams),
            queue=queue, pressure=pressure, store=store, policies=policies,
            recorder=SimpleNamespace(unrecorded_refusals=0, left_open=0),  # type: ignore[arg-type]
            door=SimpleNamespace(  # type: ignore[arg-type]
                open_connections=0, malformed_total=Counter(), turned_away_total=Counter()
            ),
            runs=RunCare(config, clock, store=store, queue=queue, runs=runs, fence=fence),
            tools=ToolCare.of_config(config, pins),
            incidents=Incidents(store, queue, clock, fence),
            telling=Telling(config, clock, store, queue, fence, stdout=None),
        )  # fmt: skip
        recording = Recording(store, queue, policies, desk_clock)
        for tenant in TENANTS:
            await recording.fill(tenant)
        await recording.call("rival", "one-more")
        await recording.call("rival", "two-more")
        checkpointer = Checkpointer(
            store, clock, fence, SigningKey(SIGNING_PEM), every_s=10.0, receipts=1
        )
        await checkpointer.begin()
        await checkpointer.turn(is_last=True)
        callers = await made_callers(
            stack, config, clock, store, queue, fence, lambda: policies.current.catalogue
        )
        approvals = made_approvals(config, clock, store, queue, fence)

        state.callers = CallerCare(config, callers, store)
        state.approval_care = ApprovalCare(approvals, config.tenants, "", state.callers.open_keys)
        state.fencing = made_fencing(config, clock, fence, queue, store, None)

        before = []
        if has_agents:
            recorder = made_recorder(config, clock, queue, store, "b1", fence)
            counters = Counters(config.upstreams)
            shared = Shared(
                config, clock, policies, callers, recorder, runs, pins, counters, fence,
                made_masking(stack),
            )  # fmt: skip
            # Who tries every token there is, on purpose, would be let in nowhere after a while.
            callers.authenticator.lockout = NeverLocked(clock)
            door = made_authorize(
                shared, queue, store, "b1", approvals, made_bodies(config, counters)
            )
            before = [agents_first(door, config.limits)]

        async def begun() -> tuple[Any, ControlServer]:
            api, console = await made_api(
                stack, config, clock, state=state, policies=policies, callers=callers,
                approvals=approvals, store=store,
            )  # fmt: skip
            if not has_real_doorman:
                api._rooms.doorman = console._sessions._doorman = Doorman()
            server = ControlServer(
                config.listen.control, state, api=api, console=console, before=before
            )
            await server.start()
            stack.push_async_callback(server.stop)
            return api, server

        async def another() -> str:
            return f"http://127.0.0.1:{(await begun())[1].port}"

        api, server = await begun()
        client = await stack.enter_async_context(ClientSession())
        yield Served(
            f"http://127.0.0.1:{server.port}", client, store, queue, api._rooms.reader, policies,
            clock, recording, api, state, another,
        )  # fmt: skip
