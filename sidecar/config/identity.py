"""Tenants of sidecar.yaml: their agents, by what each is known, and their people.

Knows: that a secret must not be guessed, and must lead to one owner. A name that is found twice, or
a credential that nothing can check, is a problem here and not at the first call.
Must not know: how credentials are presented or checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from sidecar.config.model import Agent, ConfiguredPerson, Secret, Tenant
from sidecar.config.references import References
from sidecar.model import RESERVED_AGENT_NAMES, RiskLevel, Role, TrustLevel
from sidecar.yaml_reader import Node
from sidecar.yaml_section import Section, suggest

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
NAME_RULE = "a name has lower-case letters, digits and -, at most 63, and no - in front"
AGENT_KEYS: Final = ("team", "environment", "risk", "trust", "token", "mtls", "jwt")
PERSON_KEYS: Final = ("roles", "groups", "key", "jwt")
#: What a secret must have at least: 24 characters of `openssl rand` are beyond any guessing.
SECRET_CHARS_MIN: Final = 24
SECRET_KINDS_MIN: Final = 8
SUBJECT_CHARS_MAX: Final = 1024
_RISKS = tuple(level.label for level in RiskLevel)
_TRUSTS = tuple(level.label for level in TrustLevel)
_ROLES = tuple(role.value for role in Role)

AgentKey = tuple[str, str]


class Written(NamedTuple):
    """Tenants, and where what must be looked at together stands."""

    tenants: dict[str, Tenant]
    sections: dict[AgentKey, Section]
    people: dict[AgentKey, Section]


def read_tenants(top: Section, references: References) -> Written:
    """The tenants by name; without any, `default` with the one agent `agent`."""
    section = top.sub("tenants")
    if not section.members:
        return Written({"default": Tenant(agents={"agent": Agent()})}, {}, {})
    tenants = {}
    sections: dict[AgentKey, Section] = {}
    persons: dict[AgentKey, Section] = {}
    secrets = _Secrets(references)
    for name in section.members:
        check_name(section, name)
        tenant = section.sub(name)
        tenant.allow(("agents", "people"))
        agents, people = tenant.sub("agents"), tenant.sub("people")
        if not agents.members and not agents.node:
            section.report(section.members[name], f"{tenant.path} has no agents", at_key=True)
        for agent in agents.members:
            sections[name, agent] = agents.sub(agent)
        for person in people.members:
            persons[name, person] = people.sub(person)
        tenants[name] = Tenant(
            agents={agent: _agent(agents, agent, secrets) for agent in agents.members},
            people={person: _person(people, person, secrets) for person in people.members},
        )
    return Written(tenants, sections, persons)


def every_agent(tenants: dict[str, Tenant]) -> Iterator[tuple[AgentKey, Agent]]:
    """All agents of all tenants, in their order."""
    for tenant, one in tenants.items():
        for name, agent in one.agents.items():
            yield (tenant, name), agent


def every_person(tenants: dict[str, Tenant]) -> Iterator[tuple[AgentKey, ConfiguredPerson]]:
    """All people of all tenants, in their order."""
    for tenant, one in tenants.items():
        for name, person in one.people.items():
            yield (tenant, name), person


def check_name(section: Section, name: str) -> None:
    """Reports a name that users chose and that is none."""
    if not NAME.fullmatch(name):
        section.report(section.members[name], f"{name!r} is no name", NAME_RULE, at_key=True)


class _Secrets:
    """The secrets of a file, each the only one of its value."""

    def __init__(self, references: References) -> None:
        self._references = references
        self._owners: dict[str, str] = {}

    def read(self, section: Section, name: str) -> Secret | None:
        """A secret that is nobody else's; None if that is a problem, which is reported."""
        secret = self._references.secret(section, name)
        if secret is None:
            return None
        node, key, value = section.members[name], section.key(name), secret.reveal()
        if len(value) < SECRET_CHARS_MIN or len(set(value)) < SECRET_KINDS_MIN:
            section.report(
                node,
                f"{key}: the secret is too weak: it has less than {SECRET_CHARS_MIN} characters, "
                f"or less than {SECRET_KINDS_MIN} different ones",
                "make one with: openssl rand -hex 32",
            )
            return None
        owner = self._owners.setdefault(value, key)
        if owner != key:
            section.report(node, f"{key}: {owner} has this secret already", "each needs its own")
            return None
        return secret


def _agent(section: Section, name: str, secrets: _Secrets) -> Agent:
    check_name(section, name)
    if name in RESERVED_AGENT_NAMES:
        section.report(section.members[name], f"the name {name} is taken", at_key=True)
    agent = section.sub(name)
    agent.allow(AGENT_KEYS)
    usual = Agent()
    return Agent(
        team=agent.text("team", usual.team),
        environment=agent.text("environment", usual.environment),
        risk=RiskLevel[agent.choice("risk", _RISKS, usual.risk.label).upper()],
        trust=TrustLevel[agent.choice("trust", _TRUSTS, usual.trust.label).upper()],
        token=secrets.read(agent, "token") if "token" in agent.members else None,
        mtls=agent.read("mtls", read_subject, usual.mtls),
        jwt=agent.read("jwt", read_subject, usual.jwt),
    )


def _person(section: Section, name: str, secrets: _Secrets) -> ConfiguredPerson:
    check_name(section, name)
    person = section.sub(name)
    person.allow(PERSON_KEYS)
    is_signed = "jwt" in person.members and "key" not in person.members
    roles = _items(person, "roles", _role)
    groups = _items(person, "groups", _group)
    return ConfiguredPerson(
        roles=tuple(Role(role) for role in roles),
        groups=tuple(groups),
        key=None if is_signed else secrets.read(person, "key"),
        jwt=person.read("jwt", read_subject, ""),
    )


def _items(section: Section, name: str, check: Callable[[object], str]) -> list[str]:
    """The items of a list, or the one that stands in place of a list; wrong ones reported."""
    node = section.members.get(name)
    items: list[Node] = [] if node is None else node.value if node.is_list else [node]
    found = []
    for item in items:
        try:
            found.append(check(item.value))
        except ValueError as error:
            section.report(item, f"{section.key(name)}: {error}")
    return found


def _role(value: object) -> str:
    if value not in _ROLES:
        hint = suggest(str(value), _ROLES)
        raise ValueError(f"{value!r} is not one of {', '.join(_ROLES)}. {hint}".rstrip(". "))
    return str(value)


def _group(value: object) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise ValueError(f"{value!r} is no name: {NAME_RULE}")
    return value


def read_subject(value: object) -> str:
    """Some text that names somebody; raises ValueError."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be text; quote it")
    if not value.isprintable() or len(value) > SUBJECT_CHARS_MAX:
        raise ValueError(f"holds control characters, or more than {SUBJECT_CHARS_MAX} characters")
    return value
