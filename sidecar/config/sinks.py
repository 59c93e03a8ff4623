"""`sinks:` of sidecar.yaml: who is told, where that is, and that it is a place fit for it.

Knows: the kinds of sink and what each needs. A URL is a secret like any other: whoever has it may
write there, so that no message repeats it.
Must not know: what is told, how it is sent; nothing is resolved or connected to here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, cast
from urllib.parse import urlsplit

from sidecar.config.endpoints import Place, is_loopback, leads_to, read_url
from sidecar.config.identity import NAME
from sidecar.config.identity_model import Tenant
from sidecar.config.model import Listen, Secret, Sink, UpstreamTls
from sidecar.config.references import References
from sidecar.config.upstream_tls import read_tls
from sidecar.model import Role
from sidecar.yaml_section import Section

SINKS_MAX: Final = 16
SECRET_CHARACTERS_MIN: Final = 16
URL_CHARACTERS_MAX: Final = 2048

_COMMON: Final = ("kind", "min_severity")
#: What a sink of each kind may say beside that.
KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "webhook": ("url", "secret", "private", "approver", "tls"),
    "slack": ("url", "private", "approver", "tls"),
    "syslog": ("url", "private", "tls"),
    "stdout": (),
}
SEVERITIES: Final = ("info", "low", "medium", "high", "critical")
#: The port of each way to a syslog server, where the URL names none (RFC 5426, 6587, 5425).
SYSLOG_PORTS: Final = {"syslog": 514, "syslog+tcp": 601, "syslog+tls": 6514}
_SYSLOG: Final = re.compile(r"(syslog(?:\+tcp|\+tls)?)://([^/?#@]+)/?", re.ASCII)
_QUERY: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*", re.ASCII)

SinkKind = Literal["webhook", "slack", "syslog", "stdout"]


class SinkPlace(NamedTuple):
    """Where a sink is: the whole URL, its scheme, and the parts that are connected to."""

    url: str
    scheme: str
    host: str
    port: int
    #: A literal address or localhost says itself where it leads.
    is_plainly_private: bool

    @property
    def is_encrypted(self) -> bool:
        """Whether what is sent cannot be read on the way."""
        return self.scheme in ("https", "syslog+tls")


def sink_place(kind: str, url: str) -> SinkPlace:
    """Where a URL of a sink of this kind leads; raises ValueError, without the URL in it."""
    if len(url) > URL_CHARACTERS_MAX:
        raise ValueError(f"the URL is longer than {URL_CHARACTERS_MAX} characters")
    return _syslog_place(url) if kind == "syslog" else _http_place(url)


def read_sinks(
    top: Section, references: References, tenants: Mapping[str, Tenant], listen: Listen
) -> dict[str, Sink]:
    """All sinks by name; what is wrong is a problem where it stands."""
    section = top.sub("sinks")
    if len(section.members) > SINKS_MAX:
        section.report(section.node, f"sinks: more than {SINKS_MAX} of them")
    found = {}
    for name, node in section.members.items():
        if not NAME.fullmatch(name):
            section.report(
                node,
                f"sinks: {name!r} is not a name",
                "lower-case letters, digits and -; at most 63",
                at_key=True,
            )
            continue
        found[name] = _sink(section.sub(name), name, references, tenants, listen)
    return found


def _sink(
    section: Section,
    name: str,
    references: References,
    tenants: Mapping[str, Tenant],
    listen: Listen,
) -> Sink:
    if "kind" not in section.members and (section.node is None or section.node.is_mapping):
        section.report(section.node, f"{section.path}.kind is missing", at_key=True)
    kind = section.choice("kind", tuple(KEYS), "")
    severity = section.choice("min_severity", SEVERITIES, "low")
    if not kind:  # what else it may say depends on it
        return Sink(name=name, kind="stdout")
    section.allow((*_COMMON, *KEYS[kind]))
    url = references.secret(section, "url") if "url" in KEYS[kind] else None
    place = _checked_place(section, kind, url, listen)
    is_private = section.boolean("private", place.is_plainly_private if place else False)
    if place is not None and place.scheme == "http" and not is_private:
        section.report(
            section.members["url"],
            f"{section.key('url')}: what is sent over http can be read on the way",
            "write https://, or `private: true` if the way is your own",
        )
    return Sink(
        name=name,
        kind=cast("SinkKind", kind),
        url=url,
        secret=_secret(section, references) if kind == "webhook" else None,
        min_severity=cast("Literal['info', 'low', 'medium', 'high', 'critical']", severity),
        private=is_private,
        approver=_approver(section, tenants, place) if "approver" in KEYS[kind] else "",
        tls=_tls(section, references, place) if "tls" in KEYS[kind] else UpstreamTls(),
    )


def _checked_place(
    section: Section, kind: str, url: Secret | None, listen: Listen
) -> SinkPlace | None:
    if url is None:
        return None
    try:
        place = sink_place(kind, url.reveal())
        ours = Place(place.url, place.host, place.port)
        if any(leads_to(ours, one) for one in (listen.data, listen.control)):
            raise ValueError("this is the sidecar itself")
    except ValueError as error:
        section.report(section.members["url"], f"{section.key('url')}: {error}")
        return None
    return place


def _secret(section: Section, references: References) -> Secret | None:
    secret = references.secret(section, "secret")
    if secret is not None and len(secret.reveal()) < SECRET_CHARACTERS_MIN:
        section.report(
            section.members["secret"],
            f"{section.key('secret')}: shorter than {SECRET_CHARACTERS_MIN} characters",
            "openssl rand -hex 32",
        )
    return secret


def _approver(section: Section, tenants: Mapping[str, Tenant], place: SinkPlace | None) -> str:
    """The person; there must be one, and nobody on the way may become him."""
    name = section.text("approver", "")
    if "approver" not in section.members:
        return ""
    node = section.members["approver"]
    people = [tenant.people[name] for tenant in tenants.values() if name in tenant.people]
    if not any({Role.APPROVER, Role.ADMIN} & set(person.roles) for person in people):
        section.report(
            node,
            f"{section.key('approver')}: no tenant has a person of this name who may approve",
            "name one of tenants.TENANT.people with the role approver",
        )
    if place is not None and not place.is_encrypted and not is_loopback(place.host):
        section.report(
            node,
            f"{section.key('approver')}: whoever reads along over http could decide",
            "write https:// in url",
        )
    return name


def _tls(section: Section, references: References, place: SinkPlace | None) -> UpstreamTls:
    return read_tls(section, references, is_https=place is not None and place.is_encrypted)


def _http_place(url: str) -> SinkPlace:
    base, mark, query = url.partition("?")
    if "@" in urlsplit(base).netloc:
        raise ValueError("a URL of a sink must not hold credentials before its host")
    if not _QUERY.fullmatch(query):
        raise ValueError("the query of the URL can be read in more than one way")
    place = read_url(base)
    # As it was written: to a receiver a slash at the end may matter.
    slash = "/" if base.endswith("/") else ""
    scheme = place.url.partition(":")[0]
    whole = f"{place.url}{slash}{mark}{query}"
    return SinkPlace(whole, scheme, place.host, place.port, place.is_plainly_private)


def _syslog_place(url: str) -> SinkPlace:
    match = _SYSLOG.fullmatch(url)
    if match is None:
        raise ValueError("not a place of a syslog server: write syslog+tls://HOST:PORT")
    scheme, authority = match[1], match[2]
    if not re.search(r":[0-9]+$", authority):
        authority = f"{authority}:{SYSLOG_PORTS[scheme]}"
    place = read_url(f"http://{authority}")
    return SinkPlace(url, scheme, place.host, place.port, place.is_plainly_private)
