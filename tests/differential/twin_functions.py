"""The functions of the language, written once more: globs, paths, hosts, networks.

Knows: what section 1 and 2 of LANGUAGE.md say of them. Must not know: the product.
"""

from __future__ import annotations

import ipaddress
import re

_HOST = re.compile(r"(?i)https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?([/?#].*)?")


class Fault(Exception):
    """What makes a condition an error."""


def glob(text: str, pattern: str) -> bool:
    """`*` is any characters, `/` too; the whole text; case counts."""
    if "*" not in pattern:
        return text == pattern
    if pattern == "*":
        return True
    first, *rest = pattern.split("*")
    if not text.startswith(first):
        return False
    text, last = text[len(first) :], rest.pop()
    for piece in rest:
        at = text.find(piece)
        if at < 0:
            return False
        text = text[at + len(piece) :]
    return text.endswith(last)


def under(path: str, root: str) -> bool:
    """Absolute and lexical, false on `.` and `..`."""
    if not path.startswith("/"):
        return False
    parts = [part for part in path.split("/") if part]
    wanted = [part for part in root.split("/") if part]
    if "." in parts or ".." in parts:
        return False
    return parts[: len(wanted)] == wanted


def host(url: str) -> str:
    """Lower case; a fault for anything but a plain http(s) URL."""
    found = _HOST.fullmatch(url)
    if found is None:
        raise Fault("no plain URL")
    name = found[1].lower()
    if name.startswith("["):
        try:
            ipaddress.IPv6Address(name[1:-1])
        except ValueError:
            raise Fault("no address") from None
        return name
    labels = name.split(".")
    if not all(labels):
        raise Fault("an empty label")
    looks_like_a_number = re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1]) is not None
    if looks_like_a_number:
        try:
            ipaddress.IPv4Address(name)
        except ValueError:
            raise Fault("an odd form of an address") from None
    return name


def in_domain(name: str, domain: str) -> bool:
    """It or below it."""
    return name == domain or name.endswith(f".{domain}")


def in_network(address: str, cidr: str) -> bool:
    """An IPv4 address inside IPv6 is taken as IPv4; no address at all is in no network."""
    if address == "":
        return False
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        raise Fault("no address") from None
    mapped = getattr(ip, "ipv4_mapped", None)
    network = ipaddress.ip_network(cidr)
    one = mapped or ip
    return one.version == network.version and one in network
