"""The nouns every room shares: who calls, what is called, what was decided, how it ended.

Knows: values only. All are frozen and check themselves where a wrong value could hide; those made
anew for every call are named tuples, which cost a third of a frozen dataclass to make.
Must not know: sockets, files, databases, YAML, the clock.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from sidecar.policy.contained import Contained
    from sidecar.policy.reasons import Reason
    from sidecar.policy.terms import ApprovalTerms, Charge, Obligations


class Effect(enum.StrEnum):
    """What a rule, and in the end a decision, says of a call; `deny` is the strictest."""

    ALLOW = "allow"
    REQUIRE_APPROVAL = "require_approval"
    DENY = "deny"


class Mode(enum.StrEnum):
    """Whether a decision was carried out.

    `shadow` marks rules that are judged and recorded only; `observe` marks calls that went
    ahead although the decision was stricter, because `default: observe` is set.
    """

    ENFORCE = "enforce"
    SHADOW = "shadow"
    OBSERVE = "observe"


class TrustLevel(enum.IntEnum):
    """Trust of a source, ranked; an unrecognised name is UNKNOWN (LANGUAGE.md section 2)."""

    UNKNOWN = 0
    MALICIOUS_SUSPECTED = 1
    UNTRUSTED_EXTERNAL = 2
    SEMI_TRUSTED_CUSTOMER = 3
    TRUSTED_INTERNAL_UNSIGNED = 4
    TRUSTED_INTERNAL_SIGNED = 5

    @classmethod
    def named(cls, name: str) -> TrustLevel:
        """The level somebody else names; a name we do not know is UNKNOWN."""
        return _TRUST_BY_NAME.get(name, cls.UNKNOWN)

    @property
    def label(self) -> str:
        """The level's name as files write it, e.g. `untrusted_external`."""
        return self.name.lower()


_TRUST_BY_NAME = {level.label: level for level in TrustLevel}


class RiskLevel(enum.IntEnum):
    """Risk of a tool or an agent, ranked."""

    LOW = 0
    MEDIUM = 1
    HIGH = 2
    CRITICAL = 3

    @property
    def label(self) -> str:
        """The level's name as files write it, e.g. `high`."""
        return self.name.lower()


class OutcomeKind(enum.StrEnum):
    """How a forwarded call ended (ARCHITECTURE.md, intents)."""

    COMPLETED = "completed"
    UPSTREAM_ERROR = "upstream_error"
    ABORTED_BY_CLIENT = "aborted_by_client"
    NOT_FORWARDED = "not_forwarded"
    WITHHELD = "withheld"
    DELEGATED = "delegated"
    UNKNOWN = "unknown"


#: What no agent may be called: `/v1/agents/register` is where agents are made known.
RESERVED_AGENT_NAMES: Final = frozenset({"register"})


class AgentState(enum.StrEnum):
    """How an agent stands; only an `active` one may call (sidecar/identity/agent_states.py)."""

    ACTIVE = "active"
    FROZEN = "frozen"
    QUARANTINED = "quarantined"
    REVOKED = "revoked"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: one agent of one tenant, with what the configuration says of it.

    `state` is how it stood at the tenant's `epoch`; what is recorded for it holds only while that
    is still the epoch. `run` divides its work where a signed claim names the run. `contained` is
    what its calls were held to at that epoch, None if nothing.
    """

    tenant: str
    agent: str
    team: str = ""
    environment: str = ""
    risk: RiskLevel = RiskLevel.MEDIUM
    trust: TrustLevel = TrustLevel.TRUSTED_INTERNAL_UNSIGNED
    user: str | None = None
    claims: Mapping[str, Any] = field(default_factory=dict)
    state: AgentState = AgentState.ACTIVE
    epoch: int = 0
    run: str = ""
    contained: Contained | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.tenant or not self.agent:
            raise ValueError("a principal names a tenant and an agent")


class Role(enum.StrEnum):
    """What a person or a service may do on the control listener, within one tenant.

    `viewer` reads; `auditor` reads, verifies and exports; `approver` also votes; `operator` acts on
    agents, tools and runs; `admin` also makes and revokes keys. Only `admin` includes the others.
    """

    VIEWER = "viewer"
    AUDITOR = "auditor"
    APPROVER = "approver"
    OPERATOR = "operator"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Person:
    """Who looks and decides: a person or a service of one tenant. `actor` is how records name it,
    e.g. `person:ana`, `key:k_01h…`, `socket:root`; `agent` is set where the credential is an
    agent's own, which may vote on nothing."""

    tenant: str
    name: str
    actor: str
    roles: frozenset[Role] = frozenset()
    groups: frozenset[str] = frozenset()
    agent: str | None = None

    def __post_init__(self) -> None:
        if not self.tenant or not self.name or not self.actor:
            raise ValueError("a person has a tenant, a name and an actor's name")

    def may(self, role: Role) -> bool:
        """Whether the person acts in this role."""
        return role in self.roles or Role.ADMIN in self.roles


@dataclass(frozen=True, slots=True)
class Tool:
    """One operation of one upstream, as the catalogue (with its defaults) describes it."""

    upstream: str
    operation: str
    mutates: bool = True
    risk: RiskLevel = RiskLevel.MEDIUM
    labels: tuple[str, ...] = ()
    returns: TrustLevel = TrustLevel.UNKNOWN
    declared: bool = True
    name: str = ""

    def __post_init__(self) -> None:
        if not self.upstream or not self.operation:
            raise ValueError("a tool names an upstream and an operation")
        object.__setattr__(self, "name", f"{self.upstream}/{self.operation}")


class HttpFacts(NamedTuple):
    """What rules may read of the request itself. Header names are in lower case; credentials
    and `aegis-*` headers are already gone. `path` is decoded once, `query` is raw."""

    method: str
    path: str
    query: str
    source_ip: str
    headers: Mapping[str, str]


def state_digest(state: str) -> str:
    """What is kept of the state that an MCP server has its client give back (2026-07-28): the
    SHA-256 in hex, the same beside the outcome of the call that was answered with it and beside
    the intent of the call that brings it back."""
    return hashlib.sha256(state.encode("utf-8", "surrogatepass")).hexdigest()


class ToolCall(NamedTuple):
    """One call, parsed once and strictly; policy, receipt and the forwarded bytes come from it.

    `action` is the HTTP method (REST) or the JSON-RPC method (MCP). `args` is what rules read.
    `target` is the origin-form target sent upstream, relative to the upstream's base URL.
    `headers` are the end-to-end request headers to forward, in order, ours already stripped.
    `body` are the very bytes that were parsed. `reply_id` is the JSON-RPC id to answer under,
    None for REST and for notifications (`expects_reply` tells them apart). `is_protocol` marks
    an MCP message that carries the protocol itself (initialize, tools/list …): it is recorded
    like any call and needs no rule. `called` is the name the caller used, where the catalogue
    does not know it and `tool` is `<upstream>/unknown`. `in_path` are the arguments that stand in
    the path, as they stand there. `upgrades` says that it opens a WebSocket, and may. `beside` is
    what else stands among the facts of its record. `is_json` says that `body` is strict JSON and
    all of `args` stands in it, as it is. `received` is the body as it came, where an obligation
    made another of it. `answers` is the id of the server's request that it answers.
    """

    call_id: str
    tool: Tool
    action: str
    args: Mapping[str, Any]
    http: HttpFacts
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    dialect: str
    reply_id: str | int | None = None
    expects_reply: bool = True
    run_id: str | None = None
    trace_id: str | None = None
    is_protocol: bool = False
    called: str | None = None
    in_path: Mapping[str, str] = MappingProxyType({})
    upgrades: bool = False
    beside: Mapping[str, Any] | None = None
    is_json: bool = False
    received: bytes | None = None
    answers: str | int | None = None


@dataclass(frozen=True, slots=True)
class RuleMatch:
    """A rule that matched, or failed to be evaluated (`error`), with its effect if it has one."""

    rule_id: str
    rule_hash: str
    effect: Effect | None
    mode: Mode = Mode.ENFORCE
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The PDP's answer for one call under one policy revision.

    `code` is stable and machine-read (`policy_allow`, `policy_deny`, `default_deny`,
    `approval_required`, `condition_error`, `protocol`); `reason` is for people and already has
    values filled in. `would_be` is what the shadow rules together would have made of it, None
    where there are none. `approvals` must each be given, `charges` must each fit before the call
    goes ahead, and `obligations` are then carried out. `approval_id` is the approval that was asked
    for, `approver` who gave it: then what requires approval goes ahead; `approved_sha256` is the
    digest of the action, as this call has it, that the yes was taken for. `reads_run` says that
    another state of the run may lead to another decision. `wording` is what `reason` was filled
    from, if it shows values. `forward` is the one thing the pipeline asks: under `observe` a deny
    goes ahead.
    """

    effect: Effect
    code: str
    reason: str
    policy_revision: str
    rule_id: str | None = None
    rule_hash: str | None = None
    mode: Mode = Mode.ENFORCE
    matches: tuple[RuleMatch, ...] = ()
    would_be: Effect | None = None
    reads_run: bool = False
    approvals: tuple[ApprovalTerms, ...] = ()
    charges: tuple[Charge, ...] = ()
    obligations: Obligations | None = None
    wording: Reason | None = field(default=None, compare=False, repr=False)
    approval_id: str | None = None
    approver: str | None = None
    approved_sha256: str | None = None

    @property
    def add_labels(self) -> tuple[str, ...]:
        """What the run gathers beside the tool's own labels if the call goes ahead."""
        return self.obligations.add_labels if self.obligations is not None else ()

    @property
    def forward(self) -> bool:
        """Whether the call goes ahead."""
        if self.effect is Effect.ALLOW or self.mode is Mode.OBSERVE:
            return True
        return self.effect is Effect.REQUIRE_APPROVAL and self.approver is not None


class Outcome(NamedTuple):
    """How a forwarded call ended; `http_status` is the upstream's, None if no answer came.
    `request_state` is the digest of what a call that goes on has to bring (MCP 2026-07-28)."""

    kind: OutcomeKind
    http_status: int | None = None
    request_state: str | None = None
