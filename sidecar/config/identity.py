"""Tenants and agents of sidecar.yaml, and the one who calls without a credential.

Knows: that in this version no agent has a credential, so that only the default agent can call,
and only where nobody but this machine reaches the listener.
"""

from __future__ import annotations

import re

from sidecar.config.model import Agent, Tenant
from sidecar.model import RiskLevel, TrustLevel
from sidecar.yaml_section import Section, suggest

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
NAME_RULE = "a name has lower-case letters, digits and -, at most 63, and no - in front"
_NO_CREDENTIALS = "agents have no credentials yet; identity.default_agent names the one who calls"
_AGENT_NOT_YET = dict.fromkeys(("token", "mtls", "jwt"), _NO_CREDENTIALS)
_RISKS = tuple(level.label for level in RiskLevel)
_TRUSTS = tuple(level.label for level in TrustLevel)

AgentKey = tuple[str, str]


def read_tenants(top: Section) -> dict[str, Tenant]:
    """The tenants by name; without any, `default` with the one agent `agent`."""
    section = top.sub("tenants")
    if not section.members:
        return {"default": Tenant(agents={"agent": Agent()})}
    tenants = {}
    for name in section.members:
        check_name(section, name)
        tenant = section.sub(name)
        tenant.allow(("agents",), {"people": "nobody approves or looks at anything yet"})
        agents = tenant.sub("agents")
        if not agents.members and not agents.node:
            section.report(section.members[name], f"{tenant.path} has no agents", at_key=True)
        tenants[name] = Tenant(agents={agent: _agent(agents, agent) for agent in agents.members})
    return tenants


def read_default_agent(
    top: Section, tenants: dict[str, Tenant], data_is_loopback: bool
) -> AgentKey | None:
    """The (tenant, agent) who calls without a credential; None if that is a problem."""
    section = top.sub("identity")
    section.allow(("default_agent",), {"mtls": _NO_CREDENTIALS, "jwt": _NO_CREDENTIALS})
    every = {f"{tenant}/{agent}": (tenant, agent) for tenant in tenants
             for agent in tenants[tenant].agents}  # fmt: skip
    node = section.members.get("default_agent")
    if node is None:
        if len(every) > 1:
            top.report(
                top.members["tenants"],
                "there are several agents, and none may call without a credential",
                f"name one as identity.default_agent: {next(iter(every))}",
                at_key=True,
            )
        chosen = next(iter(every.values())) if len(every) == 1 else None
    else:
        chosen = section.read("default_agent", lambda value: _known(value, every), None)
    if chosen is not None and not data_is_loopback:
        listen = top.sub("listen")
        top.report(
            listen.members.get("data"),
            f"listen.data is not loopback, so {'/'.join(chosen)} must not call without a "
            "credential, and this version knows no credentials",
            "listen on 127.0.0.1",
        )
    return chosen


def check_name(section: Section, name: str) -> None:
    """Reports a name that users chose and that is none."""
    if not NAME.fullmatch(name):
        section.report(section.members[name], f"{name!r} is no name", NAME_RULE, at_key=True)


def _agent(section: Section, name: str) -> Agent:
    check_name(section, name)
    agent = section.sub(name)
    agent.allow(("team", "environment", "risk", "trust"), _AGENT_NOT_YET)
    usual = Agent()
    return Agent(
        team=agent.text("team", usual.team),
        environment=agent.text("environment", usual.environment),
        risk=RiskLevel[agent.choice("risk", _RISKS, usual.risk.label).upper()],
        trust=TrustLevel[agent.choice("trust", _TRUSTS, usual.trust.label).upper()],
    )


def _known(value: object, every: dict[str, AgentKey]) -> AgentKey:
    if value not in every:
        hint = suggest(str(value), every) or f"there is {', '.join(every) or 'none'}"
        raise ValueError(f"no such agent, {hint}")
    return every[str(value)]
