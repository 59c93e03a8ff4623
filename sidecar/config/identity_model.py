"""Who calls and who decides, as sidecar.yaml has them: agents and people by tenant, issuers.

Must not know: how any of them is proved.
"""

from __future__ import annotations

from pydantic import Field

from sidecar.config.settable import Group, Secret, setting
from sidecar.model import RiskLevel, Role, TrustLevel


class Agent(Group):
    """What rules may know of an agent."""

    team: str = setting("the team rules know it by", "")
    environment: str = setting("the environment rules know it by", "")
    risk: RiskLevel = setting("its risk", RiskLevel.MEDIUM)
    trust: TrustLevel = setting(
        "the trust its runs start with", TrustLevel.TRUSTED_INTERNAL_UNSIGNED
    )
    token: Secret | None = setting(
        "the secret it sends as Aegis-Token, 24 characters or more",
        None,
        form="ref",
        default_text="none",
    )
    mtls: str = setting(
        "what names it in its certificate, as `identity.mtls` says", "", default_text="none"
    )
    jwt: str = setting(
        "what names it in its signed tokens, in `agent_claim`", "", default_text="none"
    )

    @property
    def has_credential(self) -> bool:
        """Whether the configuration gives it a way to prove who it is."""
        return self.token is not None or bool(self.mtls or self.jwt)


class ConfiguredPerson(Group):
    """Who may look and decide."""

    roles: tuple[Role, ...] = setting(
        "what they may do: viewer, auditor, approver, operator, admin", (), form="list of roles"
    )
    groups: tuple[str, ...] = setting(
        "groups whose approval they can give", (), form="list of names"
    )
    key: Secret | None = setting(
        "the secret they send to the control listener",
        None,
        form="ref",
        default_text="none; one of key and jwt is required",
    )
    jwt: str = setting(
        "what names them in signed tokens for `people_audience`, in `person_claim`",
        "",
        default_text="none",
    )


class Tenant(Group):
    """The agents and people of one tenant, by name."""

    agents: dict[str, Agent]
    people: dict[str, ConfiguredPerson] = Field(default_factory=dict)


class Issuer(Group):
    """Who signs tokens of agents and people (RFC 7519), and what stands in them. No token is both:
    `audience` is of agents, `people_audience` of people; "" takes none of theirs. Those of an
    issuer with a `tenant` are of nobody else's agents and people, whatever stands in them."""

    issuer: str
    audience: str
    jwks: str
    agent_claim: str = "sub"
    tenant_claim: str = ""
    tenant: str = ""
    run_claim: str = ""
    people_audience: str = ""
    person_claim: str = "sub"
    leeway_s: float = 60.0
