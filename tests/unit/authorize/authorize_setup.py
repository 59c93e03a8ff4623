"""A whole sidecar with tools that only ask, and a client that asks over real sockets."""

from __future__ import annotations

import contextlib
import io
import json
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientTimeout, UnixConnector
from free_ports import free_port
from kept_figures import keep_figures

from sidecar.app import Sidecar, running
from sidecar.clock import Clock
from sidecar.config.load import load_config
from sidecar.ledger.chain import seal
from sidecar.ledger.receipt import blank_receipt
from sidecar.model import Person, Role
from storage import open_store
from storage.records import Entry, Recorded
from storage.standing import AgentRow, VersionedRow

CATALOGUE = """\
catalogue: github
tools:
  read_issue: {mutates: false, risk: low, returns: trusted_internal_signed}
  read_mail: {mutates: false, risk: low, returns: untrusted_external}
  read_repo: {mutates: false, risk: low, returns: trusted_internal_signed}
  merge_pull_request: {risk: high, returns: trusted_internal_signed, labels: writes-code}
  comment: {returns: trusted_internal_signed, args: {body: string, number: int?}}
  mail: {risk: critical, returns: trusted_internal_signed}
  note: {returns: trusted_internal_signed}
  fetch: {mutates: false, returns: trusted_internal_signed}
  paced: {mutates: false, returns: trusted_internal_signed}
  budgeted: {mutates: false, returns: trusted_internal_signed}
  keyed: {mutates: false, returns: trusted_internal_signed}
"""
POLICY = """\
policy: story
rules:
  - {id: reads, effect: allow, tools: "github/*", mutates: false}
  - {id: untrusted-cannot-mutate, effect: deny, tools: "*", mutates: true,
     run: {trust: untrusted_external},
     reason: "mutating under {run.trust}"}
  - {id: merges-ask, effect: require_approval, tools: github/merge_pull_request,
     reason: "merge of {args.pull_number}", approval: {approvers: platform-leads}}
  - {id: comments, effect: allow, tools: github/comment, run: {trust: semi_trusted_customer}}
  - {id: mask, tools: github/mail, obligations: {redact: {request: [args.api_key, card_number]}}}
  - {id: mails, effect: allow, tools: [github/mail, github/note]}
  - {id: mask-reply, tools: github/fetch, obligations: {redact: {response: email}}}
  - {id: pace, tools: github/paced, limits: {per: agent, max: 2, window: 1h}}
  - id: budget
    tools: github/budgeted
    limits: {per: agent, sum: args.amount, max: 10, window: 1h}
  - {id: keyed, tools: github/keyed, obligations: {idempotency_key: required}}
"""


#: What the agent of the configuration calls with, and who may approve.
AGENT_TOKEN = "agent_default.agent.of-the-tests"
ANA = Person(
    "default", "ana", "person:ana", frozenset({Role.APPROVER}), frozenset({"platform-leads"})
)


@dataclass
class Answer:
    """A reply as a client sees it."""

    status: int
    headers: Mapping[str, str]
    json: Any


def call(
    action: str = "read_issue",
    *,
    tool: str = "github",
    trust: str = "trusted_internal_signed",
    mutates: bool = False,
    parameters: Any = None,
    **more: Any,
) -> dict[str, Any]:
    """An authorize request; `more` are members of its top level."""
    return {
        "agent": {"id": "agent", "environment": "production"},
        "tool_call": {
            "tool": tool, "action": action, "resource": None, "mutates_state": mutates,
            "parameters": {} if parameters is None else parameters,
        },
        "context": {"source_trust": trust, "contains_sensitive_data": False},
        **more,
    }  # fmt: skip


def clients_hash(request: Mapping[str, Any]) -> str:
    """The hash that a client computes of its own call."""
    text = json.dumps(
        request["tool_call"], sort_keys=True, separators=(",", ":"), ensure_ascii=False,
        allow_nan=False,
    )  # fmt: skip
    return sha256(text.encode()).hexdigest()


@dataclass
class Stage:
    """A running sidecar and its store."""

    sidecar: Sidecar
    session: ClientSession
    folder: Path
    clock: MovedClock
    log: io.StringIO = field(default_factory=io.StringIO)

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        control: bool = False,
    ) -> Answer:
        """One request; `control` sends it to the control listener."""
        base = self.sidecar.control_url if control else self.sidecar.data_url
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        async with self.session.request(method, base + path, data=data, headers=sent) as reply:
            text = await reply.read()
            kind = reply.headers.get("Content-Type", "")
            said = json.loads(text) if "json" in kind else text
            return Answer(reply.status, dict(reply.headers), said)

    async def authorize(self, request: Mapping[str, Any], **more: Any) -> Answer:
        """Asks, on the data listener unless told otherwise."""
        return await self.ask("POST", "/v1/authorize", request, **more)

    async def fence(self, *, lift: bool = False) -> None:
        """Fences the store through control.sock, as `store move` does, or lifts the fence."""
        path = str(self.folder / "control.sock")
        async with ClientSession(connector=UnixConnector(path)) as session:
            body = {"target": "sqlite:///elsewhere.db", "reason": "tests", "wait_s": 5}
            sent = (
                session.delete("http://x/fence")
                if lift
                else session.post("http://x/fence", json=body)
            )
            async with sent as reply:
                assert reply.status == 200, await reply.text()

    async def approve(self, approval_id: str, person: Person) -> None:
        """A person's yes."""
        await self.sidecar.approvals.deciding.approve(
            person.tenant, approval_id.replace("-", ""), person
        )

    async def reject(self, approval_id: str, person: Person) -> None:
        """A person's no."""
        await self.sidecar.approvals.deciding.reject(
            person.tenant, approval_id.replace("-", ""), person
        )

    async def metric(self, name: str) -> dict[str, float]:
        """The samples of a metric that are not 0, by their labels as they are written."""
        async with self.session.get(f"{self.sidecar.control_url}/metrics") as reply:
            lines = (await reply.text()).splitlines()
        found = (line.removeprefix(name).rsplit(" ", 1) for line in lines if line.startswith(name))
        return {labels: float(value) for labels, value in found if float(value)}

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """What stands in the store."""
        with contextlib.closing(sqlite3.connect(self.folder / "aegis.db")) as raw:
            return raw.execute(statement).fetchall()

    def chain(self) -> list[dict[str, Any]]:
        """The whole chain, as rows by column."""
        with contextlib.closing(sqlite3.connect(self.folder / "aegis.db")) as raw:
            raw.row_factory = sqlite3.Row
            return [dict(row) for row in raw.execute("SELECT * FROM receipts ORDER BY seq")]

    def receipts(self) -> list[dict[str, Any]]:
        """Receipts of calls."""
        return [row for row in self.chain() if row["kind"] in ("intent", "refusal", "outcome")]


class MovedClock(Clock):
    """The clock, moved by so much."""

    ahead_us = 0

    def now_us(self) -> int:
        return super().now_us() + self.ahead_us

    def steady_us(self) -> int:
        return super().steady_us() + self.ahead_us


def verified(one: Stage) -> bool:
    """Whether the receipts from genesis hold by the rules of clients: every member but the hash
    itself is hashed, and each names the one before (SEED_CONTRACT.md section 3.6)."""
    previous = ""
    for row in one.chain():
        body = {name: value for name, value in row.items() if name != "receipt_hash"}
        body |= {"v": 1, "prev_receipt_hash": previous}
        text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        if sha256(text.encode()).hexdigest() != row["receipt_hash"]:
            return False
        previous = row["receipt_hash"]
    return previous != ""


async def put(url: str, *rows: VersionedRow) -> None:
    """Puts rows beside a receipt, as whoever registers or freezes an agent does."""
    clock = Clock()
    store = await open_store(url, now_us=clock.now_us, node_id="tests")
    try:
        for row in rows:
            receipt = blank_receipt(
                row.tenant_id, "control", event_id=clock.new_id(), call_id=None,
                ts_us=clock.now_us(),
            )  # fmt: skip
            (answer,) = await store.record([Entry(receipt, puts=(row,), raises_epoch=True)], seal)
            assert isinstance(answer, Recorded)
    finally:
        await store.close()


def agent_row(name: str = "agent", token: str = AGENT_TOKEN, state: str = "active") -> AgentRow:
    """An agent that the store knows, with its token."""
    hashed = sha256(token.encode()).hexdigest()
    return AgentRow("default", name, 1, state, "{}", hashed, 1)


@contextlib.asynccontextmanager
async def stage(
    folder: Path,
    *,
    policy: str = POLICY,
    catalogue: str = CATALOGUE,
    more: str = "",
    rows: Sequence[VersionedRow] = (),
    upstream: str = "github: {kind: authorize}",
    store: str = "",
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[Stage]:
    """A sidecar whose one upstream only asks; `more` is further configuration, `rows` stand
    in its store beside the agent's token."""
    (folder / "policies").mkdir(exist_ok=True, parents=True)
    (folder / "policies" / "story.yaml").write_text(policy)
    (folder / "policies" / "tools.yaml").write_text(catalogue)
    (folder / "sidecar.yaml").write_text(
        f"listen: {{data: '127.0.0.1:{free_port()}', control: '127.0.0.1:{free_port()}'}}\n"
        f"store: {{env: STORE}}\npolicies: {folder}/policies\n"
        f"upstreams: {{{upstream}}}\n{more}"
    )
    known = {"STORE": store or f"sqlite:///{folder}/aegis.db", **(environ or {})}
    loaded = load_config(folder / "sidecar.yaml", known, [])
    assert loaded.config is not None, loaded.problems
    if not store and not (folder / "aegis.db").exists():
        await put(loaded.config.store, agent_row(), *rows)
    clock, log = MovedClock(), io.StringIO()
    keep_figures(folder)
    async with (
        running(loaded.config, clock, log=log) as sidecar,
        ClientSession(timeout=ClientTimeout(10)) as session,
    ):
        yield Stage(sidecar, session, folder, clock, log)
