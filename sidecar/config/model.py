"""The validated configuration: frozen values with the units in their names.

Knows: every setting, its default, unit and meaning (README's table is made from the
descriptions). Must not know: files, YAML, the environment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from sidecar.model import RiskLevel, TrustLevel


class Secret:
    """A value that shows itself only when asked to, so that it reaches no log by accident."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Address(_Frozen):
    """Where a listener stands, and the Host names it answers to (lower case)."""

    host: str
    port: int
    hosts: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """The base URL of the listener."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


class Listen(_Frozen):
    """The two listeners."""

    data: Address
    control: Address


class Agent(_Frozen):
    """What rules may know of an agent."""

    team: str = ""
    environment: str = ""
    risk: RiskLevel = RiskLevel.MEDIUM
    trust: TrustLevel = TrustLevel.TRUSTED_INTERNAL_UNSIGNED


class Tenant(_Frozen):
    """The agents of one tenant, by name."""

    agents: dict[str, Agent]


class Auth(_Frozen):
    """The credential the sidecar sends to an upstream, as one header."""

    header_name: str
    header_value: Secret


class Timeouts(_Frozen):
    """Of one upstream, in seconds."""

    connect_s: float = Field(default=5.0, description="to connect")
    response_s: float = Field(default=60.0, description="to the head of the response")
    idle_s: float = Field(default=300.0, description="between two bytes of the response")


class UpstreamLimits(_Frozen):
    """Of one upstream."""

    request_bytes: int = Field(description="largest request body")
    calls: int = Field(default=256, description="calls in flight")


class Upstream(_Frozen):
    """One tool server."""

    name: str
    url: str
    kind: Literal["rest", "mcp"] = "rest"
    auth: Auth | None = None
    timeouts: Timeouts = Timeouts()
    limits: UpstreamLimits
    private: bool = False
    encoded_slash: bool = False
    redirects: tuple[str, ...] = ()


class Record(_Frozen):
    """What of a call's arguments is kept."""

    arguments: Literal["redacted", "digest"] = "redacted"
    secrets: tuple[str, ...] = ("password", "token", "secret", "api_key", "authorization")


class Limits(_Frozen):
    """Bounds of the whole sidecar."""

    request_bytes: int = Field(default=1024 * 1024, description="largest request body")
    depth: int = Field(default=64, description="deepest nesting of a JSON body")
    query: int = Field(default=128, description="query parameters")
    headers: int = Field(default=64, description="request headers")
    connections: int = Field(default=1024, description="client connections at once")
    per_address: int = Field(default=128, description="client connections of one address at once")
    header_wait_s: float = Field(default=10.0, description="for a request head to arrive")
    body_wait_s: float = Field(default=30.0, description="for a request body to arrive")
    queue: int = Field(default=4096, description="entries waiting to be recorded, per lane")
    queue_wait_s: float = Field(default=2.0, description="for a decision to be recorded")
    drain_s: float = Field(default=30.0, description="for calls in flight when stopping")


class Config(_Frozen):
    """Everything `sidecar.yaml`, the environment and the flags say, checked."""

    default: Literal["deny", "observe"] = "deny"
    listen: Listen
    store: str
    data_dir: Path
    policies: tuple[str, ...]
    tenants: dict[str, Tenant]
    default_agent: tuple[str, str] | None
    upstreams: dict[str, Upstream]
    record: Record = Record()
    limits: Limits = Limits()
