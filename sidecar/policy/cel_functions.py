"""The functions conditions may call beside CEL's own: hosts, domains, paths, globs, networks.

Knows: one strict reading of each input; what is odd is an error, and an error is a deny. Errors
are recorded and a value may be a secret: they do not repeat what they were given.
Must not know: the CEL library, rules, files, DNS.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from sidecar.policy.matchers import Glob, IpNetwork, read_address, read_network
from sidecar.policy.meter import spend

HOST_LENGTH_MAX = 253

Address = TypeVar("Address")

_URL = re.compile(
    r"https?://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?(?:[/?#][!-\[\]-~]*)?",
    re.IGNORECASE | re.ASCII,
)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")


def host(url: str) -> str:
    """The host of a plain http(s) URL in lower case, IPv6 in brackets.

    Raises ValueError for user info, backslash, blanks, non-ASCII, escapes in the host, a final
    dot, and address forms other than the four decimal parts or canonical-izable IPv6.
    """
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError("not a plain http or https URL")
    name = found[1].lower()
    if found[2] and int(found[2]) > 65535:
        raise ValueError("not a port")
    if name.startswith("["):
        return f"[{_address(name[1:-1], ipaddress.IPv6Address).compressed}]"
    labels = name.split(".")
    if len(name) > HOST_LENGTH_MAX or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("not a host name")
    if _NUMERIC.fullmatch(labels[-1]):
        return str(_address(name, ipaddress.IPv4Address))
    return name


def in_domain(name: str, domain: str) -> bool:
    """Whether a host is the domain or below it; ASCII case does not count."""
    wanted = domain.lower().removesuffix(".")
    if not wanted or wanted.startswith(".") or not wanted.isascii():
        raise ValueError("not a domain")
    given = name.lower().removesuffix(".")
    return given == wanted or given.endswith(f".{wanted}")


def under(path: str, root: str) -> bool:
    """Whether an absolute path is the root or below it, read lexically.

    False on `.` and `..`; repeated slashes count as one. Blind to symbolic links.
    """
    wanted = _steps(root)
    if wanted is None:
        raise ValueError("the root must be an absolute path without dot segments")
    given = _steps(path)
    return given is not None and given[: len(wanted)] == wanted


def _steps(path: str) -> list[str] | None:
    if not path.startswith("/") or "\0" in path:
        return None
    steps = [step for step in path.split("/") if step]
    return None if "." in steps or ".." in steps else steps


def glob(text: str, pattern: str) -> bool:
    """Whether the whole text fits a pattern in which `*` is any characters."""
    return Glob(pattern).matches(text)


def cidr(text: str) -> str:
    """A network in canonical form; raises ValueError."""
    return str(_network(text))


def contains_ip(network: str, address: str) -> bool:
    """Whether an address lies in a network; raises ValueError for what is none."""
    return _address(address, read_address) in _network(network)


def _address(text: str, read: Callable[[str], Address]) -> Address:
    try:
        return read(text)
    except ValueError:
        raise ValueError("not an IP address") from None


def _network(text: str) -> IpNetwork:
    try:
        return read_network(text)
    except ValueError as error:
        is_inside = "host bits" in str(error)
        said = "a network has no host bits set" if is_inside else "not a network"
        raise ValueError(said) from None


# -- what they cost ------------------------------------------------------------------------

#: Below this length Python compares a text with what is sought in it again and again.
_SEARCHED_PLAINLY: Final = 2500


def _by_the_byte(rate_ns: float) -> Callable[..., float]:
    return lambda *lengths: rate_ns * sum(lengths)


def _glob_ns(text: float, pattern: float) -> float:
    return 90 * pattern + 27 * text + 0.25 * min(text, _SEARCHED_PLAINLY) * pattern


#: By name in CEL: nanoseconds a call takes, and what its texts add, by their lengths.
OWN_COSTS: Final[Mapping[str, tuple[float, Callable[..., float]]]] = {
    "host": (3200, _by_the_byte(100)),
    "inDomain": (1400, _by_the_byte(32)),
    "under": (2500, _by_the_byte(45)),
    "glob": (2500, _glob_ns),
    "cidr": (2200, _by_the_byte(25)),
    "containsIP": (2500, _by_the_byte(40)),
}


def on_the_meter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that puts what its texts cost on the meter before it does its work."""
    texts_ns = OWN_COSTS[name][1]

    def metered(*texts: str) -> Any:
        spend(texts_ns(*map(len, texts)))
        return function(*texts)

    return metered
