"""The upstreams of sidecar.yaml: where tools are, and how the sidecar reaches them.

Knows: what a usable URL is, and that a sidecar must not stand in front of itself.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Callable
from urllib.parse import urlsplit

from sidecar.config.identity import NAME
from sidecar.config.model import Auth, Listen, Secret, Timeouts, Upstream, UpstreamLimits
from sidecar.yaml_section import Section
from sidecar.config.units import duration_s, is_loopback, size_bytes

#: First path segments with a meaning of their own.
RESERVED = ("v1", "healthz", ".well-known")
KEYS = (
    "url", "kind", "auth", "timeouts", "limits", "private", "encoded_slash", "redirects",
)  # fmt: skip
NOT_YET = {
    "tls": "own CAs and client certificates are not carried out yet; https works",
    "hosts": "upstreams are addressed by the first path segment only",
    "run": "runs of an agent are not gathered yet",
}
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
_GIB = 1024**3

ReadSecret = Callable[[Section], Secret | None]


def read_upstreams(
    top: Section, listen: Listen, request_bytes: int, read_secret: ReadSecret
) -> dict[str, Upstream]:
    """The upstreams by name; `request_bytes` is the default of their own limit."""
    section = top.sub("upstreams")
    if not section.members:
        top.report(
            top.members.get("upstreams"),
            "upstreams is missing: there is nothing to forward to",
            "name one, e.g. upstreams: {github: {url: https://api.github.com}}",
        )
    upstreams = {}
    for name in section.members:
        if name in RESERVED or not NAME.fullmatch(name):
            reason = "reserved" if name in RESERVED else "no name: lower-case letters, digits, -"
            section.report(section.members[name], f"upstream {name!r} is {reason}", at_key=True)
        upstreams[name] = _upstream(section.sub(name), name, listen, request_bytes, read_secret)
    return upstreams


def _upstream(
    section: Section, name: str, listen: Listen, request_bytes: int, read_secret: ReadSecret
) -> Upstream:
    section.allow(KEYS, NOT_YET)
    if "url" not in section.members:
        section.report(section.node, f"{section.path} needs a url")
    url = section.read("url", lambda value: _checked_url(value, listen), "http://127.0.0.1:1")
    kind = section.choice("kind", ("rest", "mcp"), "rest")
    timeouts = section.sub("timeouts")
    timeouts.allow(("connect", "response", "idle"))
    limits = section.sub("limits")
    limits.allow(("request", "calls"))
    usual = Timeouts()
    return Upstream(
        name=name,
        url=url,
        kind="mcp" if kind == "mcp" else "rest",
        auth=_auth(section.sub("auth"), read_secret) if "auth" in section.members else None,
        timeouts=Timeouts(
            connect_s=timeouts.measure("connect", duration_s, usual.connect_s, 0.01, 600.0),
            response_s=timeouts.measure("response", duration_s, usual.response_s, 0.01, 86400.0),
            idle_s=timeouts.measure("idle", duration_s, usual.idle_s, 0.01, 86400.0),
        ),
        limits=UpstreamLimits(
            request_bytes=limits.measure("request", size_bytes, request_bytes, 1, _GIB),
            calls=limits.number("calls", 256, 1, 65_535),
        ),
        private=section.boolean("private", _is_private_by_itself(url)),
        encoded_slash=section.boolean("encoded_slash", False),
        redirects=tuple(host.lower() for host in section.texts("redirects")),
    )


def _checked_url(value: object, listen: Listen) -> str:
    if not isinstance(value, str) or not value.isprintable() or " " in value:
        raise ValueError("must be a URL")
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{value!r} is not an http or https URL")
    if parts.username is not None or "@" in parts.netloc:
        raise ValueError("a URL must not hold credentials: use auth with {env:} or {file:}")
    if parts.query or parts.fragment or "?" in value or "#" in value:
        raise ValueError("a base URL has no query and no fragment")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    for own in (listen.data, listen.control):
        if port == own.port and (parts.hostname == own.host or is_loopback(parts.hostname)):
            raise ValueError("this is the sidecar's own address")
    return value.rstrip("/")


def _is_private_by_itself(url: str) -> bool:
    """A literal address or localhost says plainly where it leads."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _auth(section: Section, read_secret: ReadSecret) -> Auth | None:
    section.allow(("bearer", "basic", "header"))
    if len(section.members) != 1:
        section.report(section.node, f"{section.path}: write one of bearer, basic, header")
        return None
    name = next(iter(section.members))
    if name == "bearer":
        secret = read_secret(section.sub("bearer"))
        return _header("Authorization", "Bearer ", secret)
    if name == "basic":
        basic = section.sub("basic")
        basic.allow(("user", "password"))
        secret = read_secret(basic.sub("password"))
        if secret is None:
            return None
        pair = f"{basic.text('user', '')}:{secret.reveal()}".encode()
        return _header("Authorization", "Basic ", Secret(base64.b64encode(pair).decode()))
    if name == "header":
        header = section.sub("header")
        header.allow(("name", "value"))
        header_name = header.text("name", "")
        if not _HEADER_NAME.fullmatch(header_name):
            header.report(header.node, f"{header.path} needs the name of a header")
        return _header(header_name, "", read_secret(header.sub("value")))
    return None


def _header(name: str, prefix: str, secret: Secret | None) -> Auth | None:
    if secret is None:
        return None
    return Auth(header_name=name, header_value=Secret(prefix + secret.reveal()))
