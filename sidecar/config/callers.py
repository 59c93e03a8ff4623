"""`identity` of sidecar.yaml: how callers are known, and who calls without a credential.

Knows: that nobody calls without a credential where other machines reach the listener, and that an
agent's certificate or claim needs something that checks it.
Must not know: how that is done.
"""

from __future__ import annotations

from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import Field

from sidecar.config.bounded import read_bounded
from sidecar.config.endpoints import is_loopback
from sidecar.config.identity import (
    AgentKey,
    Written,
    every_agent,
    every_person,
    read_subject,
)
from sidecar.config.model import Address, Agent, Group, Issuer
from sidecar.yaml_section import Section, suggest

ISSUER_KEYS = (
    "issuer", "audience", "jwks", "agent_claim", "tenant_claim", "tenant", "run_claim",
    "people_audience", "person_claim", "leeway",
)  # fmt: skip
_NAMED = (
    "issuer", "audience", "agent_claim", "tenant_claim", "tenant", "run_claim",
    "people_audience", "person_claim",
)  # fmt: skip
_CREDENTIALS = "token, mtls or jwt"


class Callers(NamedTuple):
    """How callers are known."""

    default_agent: AgentKey | None
    mtls: Literal["off", "spiffe", "cn"]
    issuers: tuple[Issuer, ...]


class _Leeway(Group):
    """The one measure of an issuer."""

    leeway_s: float = Field(60.0, ge=0.0, le=300.0)


def read_callers(top: Section, written: Written, data: Address) -> Callers:
    """Reads and checks `identity` against the agents there are."""
    section = top.sub("identity")
    section.allow(("default_agent", "mtls", "jwt"))
    mtls = _mtls(section, data)
    issuers = _issuers(section, list(written.tenants))
    for key, agent in every_agent(written.tenants):
        own = written.sections.get(key)
        if own is not None:
            _check_credentials(own, agent, mtls, _of_tenant(issuers, key[0]))
    for key, person in every_person(written.tenants):
        own, of_people = written.people.get(key), _of_tenant(issuers, key[0])
        if own is not None and person.jwt and not any(one.people_audience for one in of_people):
            own.report(
                own.members["jwt"],
                f"{own.key('jwt')}: there is no issuer whose tokens of people are taken",
                "say which audience they have: identity.jwt: {people_audience: …, …}",
            )
    _check_unique(written, issuers)
    return Callers(_default_agent(top, section, written, is_loopback(data.host)), mtls, issuers)


# -- who calls without a credential ----------------------------------------------------------


def _default_agent(
    top: Section, section: Section, written: Written, data_is_loopback: bool
) -> AgentKey | None:
    """The (tenant, agent) who calls without a credential; None if nobody does."""
    agents = dict(every_agent(written.tenants))
    every = {"/".join(key): key for key in agents}
    node = section.members.get("default_agent")
    chosen = None
    if node is not None:
        chosen = section.read("default_agent", lambda value: _known(value, every), None)
    elif len(agents) == 1:
        ((key, agent),) = agents.items()
        chosen = None if agent.has_credential else key
    elif not any(agent.has_credential for agent in agents.values()) and agents:
        top.report(
            top.members["tenants"],
            "there are several agents, and none has a credential",
            f"give each its own ({_CREDENTIALS}), or name the one who calls without: "
            f"identity.default_agent: {next(iter(every))}",
            at_key=True,
        )
        return None
    if chosen is not None and not data_is_loopback:
        top.report(
            top.sub("listen").members.get("data"),
            f"listen.data is not loopback, so {'/'.join(chosen)} must not call without a "
            "credential",
            f"give it one ({_CREDENTIALS}) and name no default_agent, or listen on 127.0.0.1",
        )
    return chosen


def _known(value: object, every: dict[str, AgentKey]) -> AgentKey:
    if value not in every:
        hint = suggest(str(value), every) or f"there is {', '.join(every) or 'none'}"
        raise ValueError(f"no such agent, {hint}")
    return every[str(value)]


# -- what checks a credential ----------------------------------------------------------------


def _mtls(section: Section, data: Address) -> Literal["off", "spiffe", "cn"]:
    mtls = section.choice("mtls", ("off", "spiffe", "cn"), "off")
    if mtls != "off" and (data.tls is None or data.tls.client_ca is None):
        section.report(
            section.members["mtls"],
            "identity.mtls needs certificates of clients, and listen.data asks for none",
            "name the authorities that sign them as listen.data.tls.client_ca",
        )
    return "spiffe" if mtls == "spiffe" else "cn" if mtls == "cn" else "off"


def _of_tenant(issuers: tuple[Issuer, ...], tenant: str) -> tuple[Issuer, ...]:
    """Those that may name an agent or a person of a tenant."""
    return tuple(one for one in issuers if one.tenant in ("", tenant))


def _issuers(section: Section, tenants: list[str]) -> tuple[Issuer, ...]:
    node = section.members.get("jwt")
    items = [] if node is None else node.value if node.is_list else [node]
    issuers: dict[str, Issuer] = {}
    for item in items:
        one = Section(item, "identity.jwt", section.problems)
        if not one.members:
            if item.is_mapping:
                section.report(item, "identity.jwt: an issuer needs issuer, audience and jwks")
            continue
        issuer = _issuer(one)
        if issuer is None:
            continue
        _check_tenant(one, issuer, tenants, is_alone=len(items) == 1)
        if issuer.issuer in issuers:
            one.report(one.members["issuer"], f"identity.jwt: {issuer.issuer} is here twice")
        issuers[issuer.issuer] = issuer
    return tuple(issuers.values())


def _check_tenant(section: Section, issuer: Issuer, tenants: list[str], *, is_alone: bool) -> None:
    """An issuer is one tenant's, or says whose its tokens are; of several that are neither, each
    could name whom another has named."""
    if issuer.tenant and issuer.tenant_claim:
        section.report(
            section.members["tenant"],
            f"{section.key('tenant')}: with a tenant_claim its tokens name the tenant",
            "leave one of them out",
        )
    if issuer.tenant and issuer.tenant not in tenants:
        hint = suggest(issuer.tenant, tenants) or f"there is {', '.join(tenants) or 'none'}"
        section.report(section.members["tenant"], f"{section.key('tenant')}: no such tenant", hint)
    if not (issuer.tenant or issuer.tenant_claim or is_alone) and len(tenants) > 1:
        section.warn(
            section.members["issuer"],
            f"{section.key('issuer')}: {issuer.issuer} may name agents and people of every tenant",
            f"if it is one tenant's own, say so: tenant: {tenants[0]}",
        )


def _issuer(section: Section) -> Issuer | None:
    section.allow(ISSUER_KEYS)
    missing = [key for key in ("issuer", "audience", "jwks") if key not in section.members]
    for key in missing:
        section.report(section.node, f"{section.key(key)} is missing")
    named = {key: section.read(key, read_subject, "") for key in _NAMED if key in section.members}
    if named.get("people_audience") and named["people_audience"] == named.get("audience"):
        section.report(
            section.members["people_audience"],
            f"{section.key('people_audience')}: agents have this audience",
            "give people another: a token must not be an agent's and a person's",
        )
    jwks = section.read("jwks", _read_jwks, "")
    only = {key: node for key, node in section.members.items() if key == "leeway"}
    measured = Section(None, section.path, section.problems)
    measured.members = only
    leeway_s = read_bounded(measured, _Leeway, {}).leeway_s
    if missing or not jwks:
        return None
    return Issuer(jwks=jwks, leeway_s=leeway_s, **named)


def _read_jwks(value: object) -> str:
    try:
        parts = urlsplit(value if isinstance(value, str) and value.isascii() else "")
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("not the URL of a key set") from None
    if not host or parts.username or parts.fragment:
        raise ValueError("not the URL of a key set")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise ValueError("keys must come over https: whoever can change them on the way is anybody")
    return str(value)


def _check_credentials(
    section: Section, agent: Agent, mtls: str, issuers: tuple[Issuer, ...]
) -> None:
    if agent.mtls and mtls == "off":
        section.report(
            section.members["mtls"],
            f"{section.key('mtls')}: nothing reads certificates",
            "say which part of them names the agent: identity.mtls: spiffe, or cn",
        )
    if agent.mtls and mtls == "spiffe" and not agent.mtls.startswith("spiffe://"):
        section.report(
            section.members["mtls"],
            f"{section.key('mtls')}: no SPIFFE ID",
            "write it as it stands in the certificate: spiffe://DOMAIN/PATH",
        )
    if agent.jwt and not issuers:
        section.report(
            section.members["jwt"],
            f"{section.key('jwt')}: there is no issuer whose tokens are taken",
            "name it: identity.jwt: {issuer: …, audience: …, jwks: …}",
        )


def _check_unique(written: Written, issuers: tuple[Issuer, ...]) -> None:
    """A certificate or a claim must lead to one agent, a claim of a person to one person."""
    names_tenant = bool(issuers) and all(one.tenant_claim or one.tenant for one in issuers)
    owners: dict[tuple[str, ...], str] = {}
    found: list[tuple[AgentKey, Section | None, str, str, str]] = []
    for key, agent in every_agent(written.tenants):
        own = written.sections.get(key)
        found += [(key, own, "agent", "mtls", agent.mtls), (key, own, "agent", "jwt", agent.jwt)]
    for key, person in every_person(written.tenants):
        found.append((key, written.people.get(key), "person", "jwt", person.jwt))
    for key, own, whose, kind, value in found:
        if own is not None and value:
            by_tenant = (key[0],) if kind == "jwt" and names_tenant else ()
            place = (whose, kind, value, *by_tenant)
            owner = owners.setdefault(place, own.key(kind))
            if owner != own.key(kind):
                own.report(own.members[kind], f"{own.key(kind)}: {owner} says the same")
