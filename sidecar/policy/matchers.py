"""The structured matchers of a rule: globs over tools and callers, methods, addresses, risk.

Knows: what each key compares and in which direction. In an allow rule a level means that or
safer and `*` never covers `unknown` or `mcp:…`; in every other rule that or worse, and it does.
Must not know: YAML, CEL, which rule wins.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from sidecar.model import Effect, Principal, RiskLevel, Tool

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

UNKNOWN = "unknown"
MCP_PREFIX = "mcp:"
#: The operation that a client's answer to its MCP server is judged as. It needs no rule that allows
#: it where one lets the server ask (`prospect.may_be_asked`); whatever refuses it does.
CLIENT_ANSWER = "mcp:response"
#: An IPv6 address in full with an IPv4 one in it, a zone of 16 characters and a mask.
ADDRESS_LENGTH_MAX = 66
#: What stands before an IPv4 address inside IPv6.
_MAPPED_BITS = 96


@dataclass(frozen=True, slots=True)
class Glob:
    """`*` is any characters, `/` too; the whole text must fit; case counts.

    Matching is by search from the left, never by backtracking: its cost is bounded by the text
    times the pieces, whatever the text.
    """

    pattern: str
    pieces: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "pieces", tuple(self.pattern.split("*")))

    @property
    def is_literal(self) -> bool:
        """Whether it holds no `*`."""
        return len(self.pieces) == 1

    def matches(self, text: str) -> bool:
        """Whether the whole of `text` fits."""
        pieces = self.pieces
        if len(pieces) == 1:
            return text == self.pattern
        first, last = pieces[0], pieces[-1]
        end = len(text) - len(last)
        if end < len(first) or not text.startswith(first) or not text.endswith(last):
            return False
        at = len(first)
        for piece in pieces[1:-1]:
            found = text.find(piece, at, end)
            if found < 0:
                return False
            at = found + len(piece)
        return True


def is_special(operation: str) -> bool:
    """Whether an operation is one that `*` in an allow rule never covers."""
    return operation == UNKNOWN or operation.startswith(MCP_PREFIX)


def allow_covers(glob: Glob, tool: Tool) -> bool:
    """Whether a glob of an allow rule covers a tool: special operations must be written out."""
    if not is_special(tool.operation):
        return glob.matches(tool.name)
    mark = f"/{UNKNOWN}" if tool.operation == UNKNOWN else f"/{MCP_PREFIX}"
    upstream, found, rest = glob.pattern.partition(mark)
    if not found or not Glob(upstream).matches(tool.upstream):
        return False
    return Glob(mark[1:] + rest).matches(tool.operation)


@dataclass(frozen=True, slots=True)
class ToolMatcher:
    """What a rule says of the tool alone; settled once per tool, never per call."""

    effect: Effect | None
    tools: tuple[Glob, ...]
    exceptions: tuple[Glob, ...] = ()
    mutates: bool | None = None
    labels: tuple[str, ...] = ()
    risk: RiskLevel | None = None

    def names(self, tool: Tool) -> bool:
        """Whether `tools` and `except` lead to the tool."""
        if self.effect is Effect.ALLOW:
            is_named = any(allow_covers(glob, tool) for glob in self.tools)
        else:
            is_named = any(glob.matches(tool.name) for glob in self.tools)
        return is_named and not any(glob.matches(tool.name) for glob in self.exceptions)

    def matches(self, tool: Tool) -> bool:
        """Whether all that is said of the tool is true of it."""
        if self.mutates is not None and tool.mutates is not self.mutates:
            return False
        if self.labels and not any(label in self.labels for label in tool.labels):
            return False
        return self._risk_fits(tool.risk) and self.names(tool)

    def _risk_fits(self, risk: RiskLevel) -> bool:
        if self.risk is None:
            return True
        return risk <= self.risk if self.effect is Effect.ALLOW else risk >= self.risk


@dataclass(frozen=True, slots=True)
class CallerMatcher:
    """What a rule (or its whole file) says of the caller; settled once per caller and tool."""

    agents: tuple[Glob, ...] = ()
    teams: tuple[Glob, ...] = ()
    environments: tuple[Glob, ...] = ()
    tenants: tuple[Glob, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether it takes every caller."""
        return not (self.agents or self.teams or self.environments or self.tenants)

    def matches(self, principal: Principal) -> bool:
        """Whether each key that is given has a glob that fits the caller."""
        return (
            _fits(self.agents, principal.agent)
            and _fits(self.teams, principal.team)
            and _fits(self.environments, principal.environment)
            and _fits(self.tenants, principal.tenant)
        )


def _fits(globs: Sequence[Glob], text: str) -> bool:
    return not globs or any(glob.matches(text) for glob in globs)


@dataclass(frozen=True, slots=True)
class SourceMatcher:
    """The networks a call may come from."""

    networks: tuple[IpNetwork, ...]

    def matches(self, source_ip: str) -> bool:
        """Whether the address is in one of them; no address is in none. Raises ValueError."""
        if not source_ip:
            return False
        address = read_address(source_ip)
        return any(address in network for network in self.networks)


def read_address(text: str) -> IpAddress:
    """An IP address; an IPv4 one inside IPv6 counts as IPv4. Raises ValueError."""
    return _address(_short(text))


def read_network(text: str) -> IpNetwork:
    """A CIDR, or a single address; bits beyond the mask are refused. One of IPv4 addresses inside
    IPv6 is one of IPv4, as such an address is. Raises ValueError."""
    return _network(_short(text))


def _short(text: str) -> str:
    """What is read is kept, and a zone (`fe80::1%…`) may be as long as a caller likes."""
    if len(text) > ADDRESS_LENGTH_MAX:
        raise ValueError("longer than an IP address or network can be")
    return text


@functools.lru_cache(maxsize=4096)
def _address(text: str) -> IpAddress:
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


@functools.lru_cache(maxsize=4096)
def _network(text: str) -> IpNetwork:
    network = ipaddress.ip_network(text, strict=True)
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= _MAPPED_BITS:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
    return network
