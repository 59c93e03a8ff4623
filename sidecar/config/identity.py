"""Tenants and agents of sidecar.yaml, and the one who calls without a credential.

Knows: that agents differ by name only in this version (no credentials yet), so that just the
default agent can call, and only where nobody but this machine reaches the listener.
"""

from __future__ import annotations

import re

from sidecar.config.model import Agent, Tenant
from sidecar.yaml_section import Section
from sidecar.model import RiskLevel, TrustLevel

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_LATER = "agents cannot be told apart by a credential yet"
_AGENT_NOT_YET = {"token": _LATER, "mtls": _LATER, "jwt": _LATER}
_RISKS = tuple(level.label for level in RiskLevel)
_LEVELS = tuple(level.label for level in TrustLevel)

Identity = tuple[dict[str, Tenant], tuple[str, str] | None]


def read_identity(top: Section, data_is_loopback: bool) -> Identity:
    """(tenants by name, the default agent as (tenant, agent) or None)."""
    tenants = _tenants(top.sub("tenants")) or {"default": Tenant(agents={"agent": Agent()})}
    return tenants, _default_agent(top, tenants, data_is_loopback)


def _tenants(section: Section) -> dict[str, Tenant]:
    tenants = {}
    for name in section.members:
        _check_name(section, name)
        tenant = section.sub(name)
        tenant.allow(("agents",), {"people": "there is nothing to approve or look at yet"})
        agents_section = tenant.sub("agents")
        agents = {agent: _agent(agents_section, agent) for agent in agents_section.members}
        if not agents:
            tenant.report(tenant.node, f"{tenant.path} has no agents")
        tenants[name] = Tenant(agents=agents)
    return tenants


def _agent(section: Section, name: str) -> Agent:
    _check_name(section, name)
    agent = section.sub(name)
    agent.allow(("team", "environment", "risk", "trust"), _AGENT_NOT_YET)
    risk = agent.choice("risk", _RISKS, RiskLevel.MEDIUM.label)
    trust = agent.choice("trust", _LEVELS, TrustLevel.TRUSTED_INTERNAL_UNSIGNED.label)
    return Agent(
        team=agent.text("team", ""),
        environment=agent.text("environment", ""),
        risk=RiskLevel[risk.upper()],
        trust=TrustLevel[trust.upper()],
    )


def _check_name(section: Section, name: str) -> None:
    if not NAME.fullmatch(name):
        section.report(
            section.members[name],
            f"{name!r} is not a name: lower-case letters, digits and -, at most 63",
            at_key=True,
        )


def _default_agent(
    top: Section, tenants: dict[str, Tenant], data_is_loopback: bool
) -> tuple[str, str] | None:
    section = top.sub("identity")
    section.allow(("default_agent",), {"mtls": _LATER, "jwt": _LATER})
    every = [(tenant, agent) for tenant, of in tenants.items() for agent in of.agents]
    node = section.members.get("default_agent")
    if node is not None:
        tenant, _, agent = section.text("default_agent", "").partition("/")
        if (tenant, agent) not in every:
            known = ", ".join("/".join(pair) for pair in every)
            section.report(node, "identity.default_agent names no agent", f"there is {known}")
            return None
        chosen = (tenant, agent)
    elif len(every) == 1:
        chosen = every[0]
    else:
        top.report(
            top.members.get("tenants"),
            "several agents, and none may call without a credential",
            "name one as identity.default_agent: TENANT/AGENT",
        )
        return None
    if not data_is_loopback:
        top.report(
            top.members.get("listen"),
            "an agent may call without a credential only where listen.data is loopback",
            "listen on 127.0.0.1",
        )
    return chosen
