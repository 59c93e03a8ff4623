"""The upstreams of sidecar.yaml: where tools are, and how the sidecar reaches them.

Knows: which names are taken, that a sidecar must not stand in front of itself, and which headers
may carry a credential. Must not know: how anything is sent.
"""

from __future__ import annotations

import base64
import re
from typing import Literal

from sidecar.config.bounded import read_bounded
from sidecar.config.endpoints import Place, leads_to, read_host_name, read_url
from sidecar.config.identity import check_name
from sidecar.config.model import (
    AUTHORIZE,
    STDIO,
    Auth,
    Listen,
    QueryPart,
    Secret,
    Timeouts,
    Upstream,
    UpstreamLimits,
)
from sidecar.config.other_words import IN_AN_UPSTREAM, IN_AUTH
from sidecar.config.references import References
from sidecar.config.upstream_query import read_query
from sidecar.config.upstream_tls import read_tls
from sidecar.yaml_section import Section

#: First path segments with a meaning of their own.
RESERVED = ("v1", "healthz", ".well-known")
KEYS = (
    "url", "kind", "auth", "tls", "timeouts", "limits", "private", "encoded_slash",
    "path_parameters", "hosts", "redirects", "run", "decode", "arguments", "list_changed",
    "query",
)  # fmt: skip
RUNS = ("window", "trusted")
LIST_CHANGED = ("compare", "pass")
ARGUMENTS = ("checked", "strict", "unchecked")
CODINGS = ("gzip", "deflate")
_NOWHERE = Place("http://127.0.0.1:9", "127.0.0.1", 9)
_PROCESS = Place(STDIO, "", 0)
#: What an upstream without a server may say of itself.
AUTHORIZE_KEYS = ("kind", "run")
_HEADER_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
#: Set by the sidecar or by HTTP itself (RFC 9110 section 7.6.1), or our own.
_NO_CREDENTIAL_HEADER = re.compile(
    r"host|content-.*|transfer-encoding|connection|keep-alive|te|trailer|upgrade|expect"
    r"|proxy-.*|aegis-.*",
    re.IGNORECASE,
)


def read_upstreams(
    top: Section, listen: Listen, request_bytes: int, references: References
) -> dict[str, Upstream]:
    """The upstreams by name; `request_bytes` is the default of their own limit."""
    section = top.sub("upstreams")
    if not section.members and (section.node is None or section.node.is_mapping):
        top.report(
            section.node,
            "upstreams is missing: there is nothing to forward to",
            "name one, e.g. upstreams: {github: {url: https://api.github.com}}",
        )
    upstreams: dict[str, Upstream] = {}
    sections: dict[str, Section] = {}
    hosts = _Hosts(listen)
    for name in section.members:
        if name in RESERVED:
            section.report(section.members[name], f"the name {name} is taken", at_key=True)
        else:
            check_name(section, name)
        own = sections[name] = section.sub(name, "write its address as `url`: {url: http://HOST}")
        upstreams[name] = _upstream(own, name, listen, request_bytes, references)
        hosts.check(own)
    for name, own in sections.items():
        hosts.check_url(own, upstreams[name].url)
    return upstreams


class _Hosts:
    """What each Host name leads to; it must be one thing."""

    def __init__(self, listen: Listen) -> None:
        self._listen = listen
        self._taken: dict[str, str] = {}

    def check(self, section: Section) -> None:
        """Notes the names of one upstream, and reports those that lead elsewhere already."""
        node = section.members.get("hosts")
        for item in [] if node is None else node.value if node.is_list else [node]:
            host = _readable_host(item.value)
            if host is None:
                continue  # reported where it was read
            if host in self._listen.data.hosts:
                section.report(
                    item,
                    f"{section.key('hosts')}: {host} is the sidecar's own name",
                    "there upstreams are told apart by the first path segment",
                )
            elif host in self._taken:
                section.report(
                    item, f"{section.key('hosts')}: {host} leads to {self._taken[host]} already"
                )
            self._taken.setdefault(host, section.path)

    def check_url(self, section: Section, url: str) -> None:
        """An upstream that is reached by a name that leads to the sidecar is the sidecar."""
        if url in (STDIO, AUTHORIZE):
            return
        place = read_url(url)
        if place.host in self._taken and place.port == self._listen.data.port:
            section.report(
                section.members.get("url"),
                f"{section.key('url')}: this is the sidecar itself "
                f"({self._taken[place.host]}.hosts)",
            )


def _readable_host(value: object) -> str | None:
    try:
        return read_host_name(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _upstream(
    section: Section, name: str, listen: Listen, request_bytes: int, references: References
) -> Upstream:
    kind = section.choice("kind", ("rest", "mcp", AUTHORIZE), "rest")
    if kind == AUTHORIZE:
        return _without_server(section, name, request_bytes)
    section.allow(KEYS, IN_AN_UPSTREAM)
    if "url" not in section.members and (section.node is None or section.node.is_mapping):
        section.report(section.node, f"{section.path}.url is missing", at_key=True)
    place = section.read("url", lambda value: _place(value, listen, kind), _NOWHERE)
    if place is _PROCESS and kind != "mcp":
        section.report(
            section.members["url"], f"{section.path}: a stdio server speaks MCP", "add kind: mcp"
        )
    auth, query = _auth(section, references), _query(section, references, place, kind)
    is_private = section.boolean("private", place.is_plainly_private)
    if place.url.startswith("http:") and place.is_elsewhere(is_private):
        _warn_unencrypted(section, auth, query)
    return Upstream(
        name=name,
        url=place.url,
        kind="mcp" if kind == "mcp" else "rest",
        auth=auth,
        query=query,
        tls=read_tls(section, references, is_https=place.url.startswith("https:")),
        timeouts=read_bounded(section.sub("timeouts"), Timeouts, {}),
        limits=read_bounded(
            section.sub("limits"), UpstreamLimits, {"request_bytes": request_bytes}
        ),
        private=is_private,
        decode=_codings(section),
        encoded_slash=section.boolean("encoded_slash", False),
        path_parameters=section.boolean("path_parameters", False),
        run=_run(section),
        list_changed=_list_changed(section),
        arguments=_arguments(section, kind),
        hosts=read_host_names(section, "hosts"),
        redirects=read_host_names(section, "redirects"),
    )


def _without_server(section: Section, name: str, request_bytes: int) -> Upstream:
    section.allow(AUTHORIZE_KEYS)
    limits = UpstreamLimits(request_bytes=request_bytes)
    return Upstream(name=name, url=AUTHORIZE, kind=AUTHORIZE, limits=limits, run=_run(section))


def _run(section: Section) -> Literal["window", "trusted"]:
    return "trusted" if section.choice("run", RUNS, "window") == "trusted" else "window"


def _list_changed(section: Section) -> Literal["compare", "pass"]:
    return (
        "pass" if section.choice("list_changed", LIST_CHANGED, "compare") == "pass" else "compare"
    )


def _warn_unencrypted(section: Section, auth: Auth | None, query: tuple[QueryPart, ...]) -> None:
    """Of credentials that anybody on the way can read."""
    sent = {"auth": auth is not None, "query": any(part.is_secret for part in query)}
    for name in (name for name, is_sent in sent.items() if is_sent):
        section.warn(
            section.members[name],
            f"{section.key(name)}: the credential goes over the network unencrypted",
            f"write https:// in {section.key('url')}, or private: true if it stays in your network",
        )


def _arguments(section: Section, kind: str) -> Literal["checked", "strict", "unchecked"]:
    said = section.choice("arguments", ARGUMENTS, "checked")
    if "arguments" in section.members and kind != "mcp":
        text = f"{section.key('arguments')}: only tools of kind: mcp have a schema to fit"
        section.report(section.members["arguments"], text)
    if said == "strict":
        return "strict"
    return "unchecked" if said == "unchecked" else "checked"


def _query(
    section: Section, references: References, place: Place, kind: str
) -> tuple[QueryPart, ...]:
    if "query" in section.members and (kind != "mcp" or place is _PROCESS):
        text = f"{section.key('query')}: only the address of an MCP server has a fixed query"
        section.report(section.members["query"], text)
        return ()
    return read_query(section, references)


def _codings(section: Section) -> tuple[str, ...]:
    found = section.texts("decode")
    for item in found:
        if item not in CODINGS:
            text = f"{section.key('decode')}: {item!r} is not one of {', '.join(CODINGS)}"
            section.report(section.members["decode"], text)
    return found


def read_host_names(section: Section, name: str) -> tuple[str, ...]:
    """A list of host names, in lower case; each wrong one is a problem where it stands."""
    node = section.members.get(name)
    hosts = []
    for item in [] if node is None else node.value if node.is_list else [node]:
        try:
            if not isinstance(item.value, str):
                raise ValueError(f"a host name is expected, not {item.kind}")
            hosts.append(read_host_name(item.value))
        except ValueError as error:
            section.report(item, f"{section.key(name)}: {error}")
    return tuple(hosts)


def _place(value: object, listen: Listen, kind: str) -> Place:
    if value == STDIO:
        return _PROCESS
    if kind == "mcp" and isinstance(value, str) and "?" in value:  # not repeated: it may hold a key
        raise ValueError(
            "no query stands here: write it under `query`, e.g. query: {tenant: acme, "
            "key: {env: NAME}}"
        )
    return _not_ours(read_url(value, is_endpoint=kind == "mcp"), listen)


def _not_ours(place: Place, listen: Listen) -> Place:
    for key, listener in (("listen.data", listen.data), ("listen.control", listen.control)):
        if leads_to(place, listener):
            raise ValueError(f"this is the sidecar itself ({key})")
    return place


def _auth(upstream: Section, references: References) -> Auth | None:
    node = upstream.members.get("auth")
    if node is None:
        return None
    if not node.is_mapping:  # not repeated: it may be the secret
        upstream.report(node, f"{upstream.key('auth')}: write one of bearer, basic, header")
        return None
    section = upstream.sub("auth")
    section.allow(("bearer", "basic", "header"), IN_AUTH)
    kinds = [name for name in ("bearer", "basic", "header") if name in section.members]
    if len(kinds) != 1:
        section.report(node, f"{section.path}: write one of bearer, basic, header")
        return None
    if kinds[0] == "bearer":
        return _header("Authorization", "Bearer ", references.secret(section, "bearer"))
    if kinds[0] == "basic":
        return _basic(section.sub("basic"), references)
    return _own_header(section.sub("header"), references)


def _basic(section: Section, references: References) -> Auth | None:
    section.allow(("user", "password"))
    password = references.secret(section, "password")
    user = section.read("user", _user, "")
    if "user" not in section.members:
        section.report(section.node, f"{section.path}.user is missing")
    if password is None:
        return None
    pair = base64.b64encode(f"{user}:{password.reveal()}".encode()).decode("ascii")
    return _header("Authorization", "Basic ", Secret(pair))


def _own_header(section: Section, references: References) -> Auth | None:
    section.allow(("name", "value"))
    value = references.secret(section, "value")
    name = section.read("name", _header_name, "")
    if "name" not in section.members:
        section.report(section.node, f"{section.path}.name is missing")
    return _header(name, "", value)


def _header(name: str, prefix: str, secret: Secret | None) -> Auth | None:
    if secret is None:
        return None
    return Auth(header_name=name, header_value=Secret(prefix + secret.reveal()))


def _user(value: object) -> str:
    if not isinstance(value, str) or not value or ":" in value or not value.isprintable():
        raise ValueError("not a user name: some text without a colon")
    return value


def _header_name(value: object) -> str:
    if not isinstance(value, str) or not _HEADER_NAME.fullmatch(value):
        raise ValueError("not the name of a header")
    if _NO_CREDENTIAL_HEADER.fullmatch(value.replace("_", "-")):
        raise ValueError(f"{value} belongs to HTTP or to the sidecar; it carries no credential")
    return value
