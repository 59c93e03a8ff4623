"""The validated configuration: frozen values with the units in their names.

Knows: every setting, with its default, unit, bounds and meaning. The loader takes defaults and
bounds from here, and README's table of settings is made from here, so neither can drift.
A field that is a setting was made with `setting`; its key in YAML is its name without the unit.
Must not know: files, YAML, the environment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from sidecar.config.credential_model import Auth, QueryPart
from sidecar.config.identity_model import Agent, ConfiguredPerson, Issuer, Tenant
from sidecar.config.self_test_model import SelfTest
from sidecar.config.settable import Group, Secret
from sidecar.config.settable import setting as _setting
from sidecar.config.sink_model import Sink
from sidecar.config.tls_model import ListenerTls, Pem, UpstreamTls

__all__ = [
    "Agent",
    "Auth",
    "ConfiguredPerson",
    "Group",
    "Issuer",
    "ListenerTls",
    "Pem",
    "QueryPart",
    "Secret",
    "SelfTest",
    "Sink",
    "Tenant",
    "UpstreamTls",
]

KIB: Final = 1024
MIB: Final = 1024 * KIB
HOUR_S: Final = 3600.0
DAY_S: Final = 24 * HOUR_S
#: The URL of an upstream that is a process of its own: `aegis-sidecar wrap` starts it.
STDIO: Final = "stdio"
#: The kind of an upstream without an address, whose tools are called by their agents.
AUTHORIZE: Final = "authorize"
#: Smallest duration that bounds anything.
MOMENT_S: Final = 0.001


class Address(Group):
    """Where a listener stands, and the Host names it answers to (lower case, no port)."""

    host: str
    port: int
    tls: ListenerTls | None = _setting(
        "speak TLS only, 1.2 or later; changed files are taken over while it serves; with "
        "`client_ca` clients must show a certificate of one of these authorities",
        None,
        form="`{cert: ref, key: ref, client_ca: ref}`",
        default_text="none: plain HTTP",
    )
    hosts: tuple[str, ...] = _setting(
        "further Host names that are answered",
        (),
        form="list of host names",
        default_text="the address; localhost too if it is loopback",
    )

    @property
    def text(self) -> str:
        """`host:port`, an IPv6 host in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The base URL of the listener."""
        return f"{'http' if self.tls is None else 'https'}://{self.text}"


class Listen(Group):
    """The two listeners."""

    data: Address = _setting(
        "where agents call, or `{address, tls, hosts}`",
        form="host:port",
        default_text="127.0.0.1:8080",
    )
    control: Address = _setting(
        "where metrics, health and status are asked for, or `{address, tls, hosts}`",
        form="host:port",
        default_text="127.0.0.1:8081",
    )


class Timeouts(Group):
    """Of one upstream, in seconds."""

    connect_s: float = _setting("time to connect", 5.0, low=MOMENT_S, high=HOUR_S)
    response_s: float = _setting("time to the head of the response", 60.0, low=MOMENT_S, high=DAY_S)
    idle_s: float = _setting(
        "silence between two bytes of the response", 300.0, low=MOMENT_S, high=DAY_S
    )
    websocket_s: float = _setting(
        "life of a WebSocket; `idle` is how long it may be silent",
        43_200.0,
        low=MOMENT_S,
        high=7 * DAY_S,
    )


class UpstreamLimits(Group):
    """Of one upstream."""

    request_bytes: int = _setting(
        "largest request body", low=1, high=1024 * MIB, default_text="`limits.request`"
    )
    calls: int = _setting(
        "calls in flight, open WebSockets too; one of several tenants may have half of them", 256,
        low=1, high=65_535,
    )  # fmt: skip
    message_bytes: int = _setting(
        "largest message of a WebSocket, either way", 16 * MIB, low=1, high=1024 * MIB
    )


class Upstream(Group):
    """One tool server."""

    name: str
    url: str = _setting(
        "http or https, a base path is allowed; of an MCP server its endpoint, with a slash at the "
        "end where it has one; `stdio` for a server that `wrap` starts",
        form="URL",
    )
    kind: Literal["rest", "mcp", "authorize"] = _setting(
        "what it speaks; `authorize`: no server but tools that ask before they act, without a URL",
        "rest",
    )
    auth: Auth | None = _setting(
        "the credential sent in place of the agent's own",
        None,
        form="`bearer: ref`, `basic: {user, password: ref}` or `header: {name, value: ref}`",
        default_text="none: the agent's Authorization passes",
    )
    query: tuple[QueryPart, ...] = _setting(
        "of an MCP server: what stands in the query of its address; added to each request, and "
        "never told to agents",
        (),
        form="`{name: text or ref}`",
    )
    tls: UpstreamTls = UpstreamTls()
    timeouts: Timeouts = Timeouts()
    limits: UpstreamLimits
    private: bool = _setting(
        "its name may resolve to private addresses",
        False,
        default_text="false; true for a literal address or localhost",
    )
    decode: tuple[str, ...] = _setting(
        "codings in which a request's body may come; it is judged and sent plain",
        (),
        form="list of `gzip`, `deflate`",
        default_text="none: refused",
    )
    encoded_slash: bool = _setting("%2F within a path segment passes instead of 400", False)
    path_parameters: bool = _setting(
        "`;` within a path segment passes instead of 400: for a server that takes it for a "
        "character like others, and does not end the segment there",
        False,
    )
    run: Literal["window", "trusted"] = _setting(
        "whether a run id sent with the call (`trusted`), and not silence alone, divides the "
        "agent's work",
        "window",
    )
    list_changed: Literal["compare", "pass"] = _setting(
        "pinned tools after the server announced that its tools changed: not called before its "
        "whole list was compared, or (`pass`) called as before",
        "compare",
    )
    arguments: Literal["checked", "strict", "unchecked"] = _setting(
        "whether a call's arguments must fit the pinned `inputSchema` of its MCP tool; `strict`: a "
        "tool whose schema cannot be checked, or not wholly, is refused",
        "checked",
    )
    hosts: tuple[str, ...] = _setting(
        "Host names that lead here too, with the whole path", (), form="list of host names"
    )
    redirects: tuple[str, ...] = _setting(
        "foreign hosts that a Location may name", (), form="list of host names"
    )

    @property
    def own_query(self) -> str:
        """What is added to the address of each request, "" if nothing is."""
        return "&".join(part.sent for part in self.query)


class Record(Group):
    """What of a call's arguments is kept."""

    arguments: Literal["redacted", "digest"] = _setting(
        "whether arguments are kept with secrets cut out, or only their digest", "redacted"
    )
    secrets: tuple[str, ...] = _setting(
        "argument names whose values are never kept, at any depth, in any case",
        ("password", "token", "secret", "api_key", "authorization"),
        form="list of names",
    )


class Checkpoints(Group):
    """When the heads of the chains are signed, and where they go."""

    every_s: float = _setting(
        "longest time until new receipts are covered", 10.0, low=0.1, high=DAY_S
    )
    receipts: int = _setting(
        "so many new receipts of a tenant are covered without waiting", 1000, low=1, high=10_000_000
    )
    to: tuple[str, ...] = _setting(
        "where signed heads are kept out of this process's reach: a file, or a folder with a file "
        "for each chain, that is only appended to; a URL they are posted to, of a C2SP witness if "
        "its key follows after `#`",
        (),
        form="list of `file:PATH` and `https://…[#KEY]`",
    )


class Receipts(Group):
    """What makes receipts provable to others."""

    key: Secret | None = _setting(
        "the Ed25519 private key that signs the heads of the chains",
        None,
        form="ref, PEM",
        default_text="none: nothing is signed, and `receipts verify` says so",
    )
    heartbeat_s: float = _setting(
        "longest silence of a tenant's chain while the sidecar runs: then a receipt says that it "
        "does; `0s`: none",
        HOUR_S,
        low=0.0,
        high=30 * DAY_S,
    )
    checkpoint: Checkpoints = Checkpoints()


class Runs(Group):
    """What divides an agent's work into runs."""

    idle_s: float = _setting("silence that ends a run", 1800.0, low=60.0, high=7 * DAY_S)


class Approvals(Group):
    """How calls wait for a person's yes."""

    hold_s: float = _setting(
        "how long a call is held for an answer before it is told to ask again",
        20.0,
        low=0.0,
        high=HOUR_S,
    )
    expires_s: float = _setting(
        "how long an approval may wait, and a yes may be spent", 1800.0, low=1.0, high=30 * DAY_S
    )
    pending: int = _setting(
        "approvals of one tenant that may be open at once; one agent may have three quarters",
        1000,
        low=1,
        high=100_000,
    )
    url: str = _setting(
        "where people reach the control listener: the base of links in answers",
        "",
        form="http or https URL",
        default_text="`listen.control`",
    )


class Soc(Group):
    """What becomes of what detections notice."""

    level: Literal["log", "notify", "recommend", "respond"] = _setting(
        "how far it goes by itself: alerts are stored, shown and logged; sinks are told; they are "
        "told what a detection would do; it is done",
        "notify",
    )


class Limits(Group):
    """Bounds of the whole sidecar."""

    request_bytes: int = _setting("largest request body", MIB, low=1, high=1024 * MIB)
    message_bytes: int = _setting(
        "largest message of an MCP server, as JSON or as one event of a stream",
        16 * MIB,
        low=1,
        high=1024 * MIB,
    )
    bodies_bytes: int = _setting(
        "request bodies held at once, as they arrive and until their calls end, those up to 64KiB "
        "not counted; one upstream, and one of several tenants, may have half of it held, so that "
        "it is at least twice the largest `limits.request`",
        256 * MIB,
        low=1024,
        high=1024 * 1024 * MIB,
    )
    held_bytes: int = _setting(
        "answers held at once, because they are looked into before they pass; one upstream may "
        "have half of it held",
        512 * MIB,
        low=1024,
        high=1024 * 1024 * MIB,
    )
    depth: int = _setting("deepest nesting of a JSON body", 64, low=1, high=64)
    values: int = _setting(
        "values in a JSON body: members of objects and lists, and these", 50_000, low=1,
        high=1_000_000,
    )  # fmt: skip
    message_values: int = _setting(
        "values in a message of an MCP server that has to be looked into", 250_000, low=1,
        high=10_000_000,
    )  # fmt: skip
    query: int = _setting("query parameters of a request", 128, low=1, high=10_000)
    headers: int = _setting("headers of a request", 64, low=1, high=256)
    connections: int = _setting("client connections", 1024, low=1, high=65_535)
    per_address: int = _setting("client connections of one address", 128, low=1, high=65_535)
    header_wait_s: float = _setting(
        "time for a request head to arrive", 10.0, low=MOMENT_S, high=HOUR_S
    )
    body_wait_s: float = _setting(
        "time for a request body to arrive", 30.0, low=MOMENT_S, high=HOUR_S
    )
    heartbeat_s: float = _setting(
        "silence of an open event stream after which its client is sent a comment line, so that "
        "nothing on the way cuts it and a client that vanished is noticed; `0s`: never",
        15.0,
        low=0.0,
        high=HOUR_S,
    )
    queue: int = _setting("decisions that may wait to be recorded", 4096, low=1, high=1_000_000)
    queue_wait_s: float = _setting(
        "time for a decision to be recorded, then it is refused", 2.0, low=MOMENT_S, high=HOUR_S
    )
    drain_s: float = _setting("time for calls in flight when stopping", 30.0, low=0.0, high=HOUR_S)


class Config(Group):
    """Everything `sidecar.yaml`, the environment and the flags say, checked."""

    default: Literal["deny", "observe"] = _setting(
        "what becomes of a call that no rule decides; `observe` refuses nothing, and says so",
        "deny",
    )
    listen: Listen
    store: str = _setting(
        "where receipts are kept; a path is relative to the file's folder",
        form="URL or ref",
        default_text="sqlite:///aegis.db",
    )
    data_dir: Path
    policies: tuple[str, ...] = _setting(
        "policies and catalogues; the order means nothing",
        form="list of files, folders and `pack:NAME`",
    )
    self_test: SelfTest = SelfTest()
    tenants: dict[str, Tenant]
    default_agent: tuple[str, str] | None = _setting(
        "who calls without a credential; listen.data must be loopback",
        form="TENANT/AGENT",
        key="identity.default_agent",
        default_text="the only agent, if there is one and it has no credential",
    )
    mtls: Literal["off", "spiffe", "cn"] = _setting(
        "the part of a client's certificate that names the agent; listen.data needs "
        "`tls.client_ca`",
        "off",
        key="identity.mtls",
    )
    issuers: tuple[Issuer, ...] = _setting(
        "who signs tokens (JWT; RS256, PS256, ES256 or EdDSA) of agents; they come as Aegis-Token, "
        "or as a bearer where the sidecar sends the upstream's own credential; `run_claim` names "
        "what divides their runs; with a `people_audience` of people too, for the control listener",
        (),
        form="one, or a list of `{issuer, audience, jwks: URL, agent_claim, tenant_claim, "
        "run_claim, people_audience, person_claim, leeway}`",
        key="identity.jwt",
        default_text="none; agent_claim and person_claim: sub, leeway: 60s",
    )
    runs: Runs = Runs()
    upstreams: dict[str, Upstream]
    receipts: Receipts = Receipts()
    approvals: Approvals = Approvals()
    soc: Soc = Soc()
    sinks: dict[str, Sink] = Field(default_factory=dict)
    record: Record = Record()
    limits: Limits = Limits()
