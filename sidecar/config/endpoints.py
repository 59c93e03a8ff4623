"""Addresses, host names and URLs as users write them, and whether two lead to the same place.

Knows: what may stand in them, and that a URL must be readable in one way only.
Raises ValueError with a message fit for a user; it never repeats a URL that may hold a password.
Must not know: name servers; nothing is resolved or connected to here.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from sidecar.config.model import Address

_HOST_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?"
                        r"(\.[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?)*")  # fmt: skip
_LISTENER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?(?P<rest>.*)"
)
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:([0-9]{1,5}))?")
_PATH = re.compile(r"(/([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+)*/?")
_ENCODED_AMBIGUITY = re.compile(r"%(2e|2f|5c|00)", re.IGNORECASE)
_PORT = re.compile(r":[0-9]*$")
#: Names that are given out in one's own network, or lead nowhere (RFC 6761, RFC 6762, RFC 8375).
_INWARD = re.compile(r"\.(localhost|local|internal|home\.arpa|lan|test|invalid)$")
_LOOKS_NUMERIC = re.compile(r"(.*\.)?(0x[0-9a-f]*|[0-9]+)")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a URL leads, in canonical form; an IPv6 host has no brackets."""

    url: str
    host: str
    port: int

    @property
    def is_plainly_private(self) -> bool:
        """A literal address or localhost says itself where it leads."""
        return self.host == "localhost" or _literal(self.host) is not None

    def is_elsewhere(self, is_private: bool) -> bool:
        """Whether what is sent there leaves the network; `is_private` says that a name need not
        lead to a public address, and some never do."""
        address = _literal(self.host)
        if address is not None:
            return address.is_global
        return not is_private and _INWARD.search(f".{self.host}") is None and "." in self.host


def read_listener(value: object) -> tuple[str, int]:
    """(host, port) of `host:port`; an IPv6 host stands in brackets and loses them."""
    match = _LISTENER.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not an address: write host:port, e.g. 127.0.0.1:8080 or [::1]:8080")
    return _host(match[1]), _port(match[2])


def read_host_name(value: str) -> str:
    """A host name or address as it stands in a Host header, in lower case, without a port."""
    if re.fullmatch(r"[^:\[\]]+:[0-9]+|\[.*\]:[0-9]+", value):
        raise ValueError("write the name alone, without a port")
    return _host(value)


def read_url(value: object, *, is_endpoint: bool = False) -> Place:
    """The place a URL leads to, below which others stand; or, `is_endpoint`, which is the only one:
    then a slash at its end belongs to it."""
    if not isinstance(value, str):
        raise ValueError("not a URL: write it as text")
    match = _URL.fullmatch(value)
    if match is not None and not match["authority"].isascii() and "@" not in match["authority"]:
        raise ValueError(_why_no_host(_PORT.sub("", match["authority"].lower())))
    if match is None or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("not a URL: write http://host/path or https://host/path")
    scheme = match["scheme"].lower()
    if scheme not in _DEFAULT_PORTS:
        raise ValueError("not an http or https URL")
    if "@" in match["authority"]:
        raise ValueError("a URL must not hold credentials: give them under auth")
    if match["rest"]:
        raise ValueError("a base URL has no query and no fragment")
    authority = _AUTHORITY.fullmatch(match["authority"])
    if authority is None:
        raise ValueError("the URL has no proper host")
    host = _host(authority[1])
    port = _port(authority[3]) if authority[3] else _DEFAULT_PORTS[scheme]
    shown = f"[{host}]" if ":" in host else host
    if port != _DEFAULT_PORTS[scheme]:
        shown = f"{shown}:{port}"
    return Place(f"{scheme}://{shown}{_path(match['path'] or '', is_endpoint)}", host, port)


def default_hosts(host: str) -> tuple[str, ...]:
    """The Host names a listener answers to by itself."""
    if is_loopback(host):
        return tuple(dict.fromkeys((host, *_LOOPBACK_NAMES)))
    return (host, *_LOOPBACK_NAMES) if is_unspecified(host) else (host,)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host."""
    address = _literal(host)
    return address.is_loopback if address is not None else host == "localhost"


def is_unspecified(host: str) -> bool:
    """Whether it stands for every address of this machine."""
    address = _literal(host)
    return address is not None and address.is_unspecified


def leads_to(place: Place, listener: Address) -> bool:
    """Whether a URL leads to a listener of ours, as far as the texts tell."""
    if place.port != listener.port:
        return False
    if place.host == listener.host or place.host in listener.hosts:
        return True
    is_here = is_loopback(place.host) or is_unspecified(place.host)
    is_here = is_here or place.host.endswith(".localhost")
    return is_here and (is_loopback(listener.host) or is_unspecified(listener.host))


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _host(text: str) -> str:
    """A host in canonical form: lower case, no brackets, addresses as the standard writes them."""
    bare = text.removeprefix("[").removesuffix("]").lower()
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        if bare != text.lower():
            raise ValueError("not an IPv6 address") from None
    if _LOOKS_NUMERIC.fullmatch(bare):
        raise ValueError("not an address: write four decimal numbers, e.g. 127.0.0.1")
    if not _HOST_NAME.fullmatch(bare):
        raise ValueError(_why_no_host(bare))
    return bare


def _why_no_host(text: str) -> str:
    if _HOST_NAME.fullmatch(text.removesuffix(".")):
        return "not a host name: write it without the dot at its end"
    if "*" in text:
        return "not a host name: patterns are not read, write each name"
    if "/" in text:
        return "not a host name: write the name alone, without scheme and path"
    try:
        return f"not a host name: write it in ASCII, {_in_ascii(text)}"
    except ValueError:
        return "not a host name"


def _in_ascii(text: str) -> str:
    """A name of other letters as it stands on the wire; raises ValueError if that is none."""
    if text.isascii():
        raise ValueError
    written = text.encode("idna").decode("ascii")  # what that refuses is a ValueError too
    if not _HOST_NAME.fullmatch(written):
        raise ValueError
    return written


def _port(text: str) -> int:
    if not 0 < int(text) < 65536:
        raise ValueError("the port must be from 1 to 65535")
    return int(text)


def _path(path: str, is_endpoint: bool) -> str:
    segments = path.split("/")
    if (
        not _PATH.fullmatch(path)
        or "." in segments
        or ".." in segments
        or _ENCODED_AMBIGUITY.search(path)
    ):
        raise ValueError("the path of the URL can be read in more than one way")
    bare = path.rstrip("/")
    return f"{bare}/" if is_endpoint and bare and path != bare else bare
