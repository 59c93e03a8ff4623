"""Addresses in an upstream's reply, seen from the agent's side of the sidecar.

Knows: that a `Location` within the upstream's base leads back through the sidecar, that one to a
foreign host leads around it, and that a cookie of one upstream must not be sent to another.
Must not know: sockets, configuration models, whether anyone follows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from sidecar.errors import Refused

_DEFAULT_PORTS = {"http": 80, "https": 443}
_SECURE_NAMES = ("__secure-", "__host-")
#: A reference that is resolved against the request's own URL needs no change.
_LINK = re.compile(r"<(/[^<>]*|https?:[^<>]*)>", re.IGNORECASE)
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\\"<>^`{}]")


@dataclass(frozen=True, slots=True)
class Base:
    """An upstream's base URL in parts; `path` has no trailing slash, `port` is never None."""

    scheme: str
    host: str
    port: int
    path: str
    authority: str


@lru_cache(maxsize=256)
def read_base(url: str) -> Base:
    """The parts of an http(s) URL; raises ValueError for anything else."""
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError("not an http(s) URL with a host")
    default = _DEFAULT_PORTS[parts.scheme]
    port = parts.port or default
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    authority = host if port == default else f"{host}:{port}"
    return Base(parts.scheme, parts.hostname.lower(), port, parts.path.rstrip("/"), authority)


def rewrite(
    location: str, *, mount: str, base: Base, target: str, redirects: tuple[str, ...] = ()
) -> str:
    """`location` for the agent: within `base` it becomes `<mount>/…`, elsewhere it is refused.

    `mount` is where the agent sees the upstream: `/<name>`, or "" for a Host of its own.

    Relative references are resolved against the request (`base` + `target`). A host named in
    `redirects` passes unchanged, or by its whole URL. Raises Refused: upstream_broken for what is
    no URL reference, redirect_refused for a place that may not be named.
    """
    if not location:
        return location
    if _UNSAFE.search(location):
        raise Refused("upstream_broken", "The upstream's Location is malformed")
    origin = f"{base.scheme}://{base.authority}"
    try:
        place = urlsplit(urljoin(f"{origin}{base.path}{target}", location))
        port = place.port or _DEFAULT_PORTS.get(place.scheme, 0)
        host = (place.hostname or "").lower()
    except ValueError:
        raise Refused("upstream_broken", "The upstream's Location is malformed") from None
    if place.scheme not in _DEFAULT_PORTS or not host or "@" in place.netloc:
        raise Refused("redirect_refused", "The upstream redirects to something else than HTTP")
    is_ours = (place.scheme, host, port) == (base.scheme, base.host, base.port)
    if is_ours:
        inside = _inside(place, base)
        if inside is not None:
            return f"{mount}{inside}" if mount or inside[:1] == "/" else f"/{inside}"
    if host in redirects or f"{host}:{port}" in redirects:
        # What names no host would lead to a path of ours, of another upstream perhaps.
        return location if urlsplit(location).netloc else place.geturl()
    if is_ours:
        raise Refused("redirect_refused", "The upstream redirects out of the path of its url")
    if host == base.host:
        why = "The upstream redirects to another scheme or port of its host: http, or https?"
        raise Refused("redirect_refused", why)
    raise Refused("redirect_refused")


def rewrite_links(value: str, *, mount: str, origin: str, base: Base, target: str) -> str:
    """The value of a `Link` (RFC 8288) for the agent, each of its URLs `led_through`. Lists are
    paged so, and clients take the next page's URL as it stands: it would lead around the sidecar.
    """

    def seen(match: re.Match[str]) -> str:
        way = led_through(match[1], mount=mount, origin=origin, base=base, target=target)
        return f"<{way}>"

    return _LINK.sub(seen, value)


def led_through(reference: str, *, mount: str, origin: str, base: Base, target: str) -> str:
    """A URL for the agent: what leads below `base` leads through the sidecar, whose `origin` he
    used; all else stands as it is."""
    try:
        place = urlsplit(urljoin(f"{base.scheme}://{base.authority}{base.path}{target}", reference))
        port = place.port or _DEFAULT_PORTS.get(place.scheme, 0)
        is_ours = (place.scheme, place.hostname, port) == (base.scheme, base.host, base.port)
        inside = _inside(place, base) if is_ours and "@" not in place.netloc else None
        is_whole = urlsplit(reference).netloc != ""
    except ValueError:
        return reference
    if inside is None or _UNSAFE.search(reference):
        return reference
    path = f"{mount}{inside}" if mount or inside[:1] == "/" else f"/{inside}"
    return f"{origin}{path}" if is_whole else path


def _inside(place: SplitResult, base: Base) -> str | None:
    """What follows the base path, with query and fragment; None if it is not below the base."""
    path = place.path
    if any(unquote(segment) in (".", "..") for segment in path.split("/")):
        return None
    if path != base.path and not path.startswith(base.path + "/"):
        return None
    rest = path[len(base.path) :]
    if rest.startswith("//"):
        return None
    query = f"?{place.query}" if place.query else ""
    fragment = f"#{place.fragment}" if place.fragment else ""
    return f"{rest}{query}{fragment}"


def scope_cookie(cookie: str, *, mount: str, base: Base, is_secured: bool = True) -> str:
    """A `Set-Cookie` value bound to this upstream: no Domain, and a Path below `mount`.

    The agent's client knows one host, ours; without this it would send one upstream's session to
    every other. Unless the agent's way `is_secured`, `Secure` is left out: most clients would keep
    the cookie and never send it. Where its name asks for Secure (RFC 6265bis section 4.1.3) it
    stays.
    """
    pair, *attributes = cookie.split(";")
    kept = [pair]
    drops_secure = not is_secured and not pair.strip().lower().startswith(_SECURE_NAMES)
    path = mount or "/"
    for attribute in attributes:
        key, _, value = attribute.strip().partition("=")
        if key.strip().lower() == "path":
            path = _cookie_path(value.strip(), mount, base)
        elif key.strip().lower() != "domain" and not (
            drops_secure and key.strip().lower() == "secure"
        ):
            kept.append(attribute)
    return ";".join([*kept, f" Path={path}"])


def _cookie_path(path: str, mount: str, base: Base) -> str:
    if path.startswith(base.path + "/") and path != "/":
        return f"{mount}{path[len(base.path) :]}"
    return mount or "/"
