"""The tool catalogue: what the operator knows of the tools of each upstream. Immutable.

Knows: how a call's tool is looked up: by operation, by route, by MCP method; and what everything
nobody declared is: `<upstream>/unknown`, mutating, of high risk, returning what is unknown.
Must not know: YAML, rules, requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sidecar.model import RiskLevel, Tool, TrustLevel
from sidecar.policy.arguments import ArgumentTypes
from sidecar.policy.matchers import MCP_PREFIX, UNKNOWN, Glob
from sidecar.policy.routes import RouteTable

__all__ = ["ArgumentTypes", "Catalogue", "Entry", "ToolDefaults"]

#: Entries kept for MCP methods nobody declared; their names are chosen by callers.
METHODS_KEPT_MAX: Final = 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """One tool with what only its own calls need. `args` None: arguments are not checked.

    `websocket`: its route may be upgraded.
    """

    tool: Tool
    args: ArgumentTypes | None = None
    bind_headers: tuple[str, ...] = ()
    route: str | None = None
    websocket: bool = False


@dataclass(frozen=True, slots=True)
class ToolDefaults:
    """What a glob of the catalogue says of tools that leave it open."""

    glob: Glob
    mutates: bool | None = None
    risk: RiskLevel | None = None
    labels: tuple[str, ...] = ()
    returns: TrustLevel | None = None


def strictest(defaults: Sequence[ToolDefaults], operation: str) -> ToolDefaults:
    """What the globs that fit an operation say together: the strictest of each."""
    fitting = [one for one in defaults if one.glob.matches(operation)]
    mutates = [one.mutates for one in fitting if one.mutates is not None]
    risks = [one.risk for one in fitting if one.risk is not None]
    returns = [one.returns for one in fitting if one.returns is not None]
    labels = sorted({label for one in fitting for label in one.labels})
    return ToolDefaults(
        Glob(operation),
        any(mutates) if mutates else None,
        max(risks) if risks else None,
        tuple(labels),
        min(returns) if returns else None,
    )


class Catalogue:
    """The declared tools of all upstreams, and the answer for everything else."""

    def __init__(
        self,
        entries: Mapping[str, Mapping[str, Entry]],
        routes: Mapping[str, RouteTable[Entry]],
        defaults: Mapping[str, Sequence[ToolDefaults]],
        speak_mcp: Sequence[str],
    ) -> None:
        #: The upstreams that have methods of the protocol.
        self.speak_mcp = tuple(speak_mcp)
        self._entries = {upstream: dict(tools) for upstream, tools in entries.items()}
        self._routes = dict(routes)
        self._defaults = {upstream: tuple(ones) for upstream, ones in defaults.items()}
        self._unknown = {upstream: self._undeclared(upstream, UNKNOWN) for upstream in entries}
        self._methods: dict[tuple[str, str], Entry] = {}

    @property
    def upstreams(self) -> tuple[str, ...]:
        """The upstreams it was built for."""
        return tuple(self._entries)

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Every declared tool."""
        return tuple(entry.tool for entry in self.entries)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Every declared entry."""
        return tuple(entry for tools in self._entries.values() for entry in tools.values())

    def entry(self, upstream: str, operation: str) -> Entry | None:
        """The declared tool of exactly this operation."""
        return self._entries.get(upstream, _NONE).get(operation)

    def unknown(self, upstream: str) -> Entry:
        """What a call to anything undeclared is judged as."""
        found = self._unknown.get(upstream)
        return found if found is not None else self._undeclared(upstream, UNKNOWN)

    def mcp_tool(self, upstream: str, name: str) -> Entry:
        """The tool a `tools/call` names; undeclared names, and methods, are unknown."""
        found = self._entries.get(upstream, _NONE).get(name)
        if found is None or name.startswith(MCP_PREFIX):
            return self.unknown(upstream)
        return found

    def mcp_method(self, upstream: str, method: str) -> Entry:
        """The operation `mcp:METHOD`: declared, or mutating and of high risk."""
        operation = f"{MCP_PREFIX}{method}"
        found = self._entries.get(upstream, _NONE).get(operation)
        if found is not None:
            return found
        key = (upstream, operation)
        found = self._methods.get(key)
        if found is None:
            if len(self._methods) >= METHODS_KEPT_MAX:
                self._methods.clear()
            found = self._methods[key] = self._undeclared(upstream, operation)
        return found

    def match_route(
        self, upstream: str, method: str, segments: Sequence[str]
    ) -> tuple[Entry, dict[str, str]] | None:
        """The tool of the most specific route that fits, and its path values."""
        routes = self._routes.get(upstream)
        return None if routes is None else routes.match(method, segments)

    def is_in_other_case(self, upstream: str, method: str, segments: Sequence[str]) -> bool:
        """Whether another route fits if letter case is passed over, as some servers do."""
        routes = self._routes.get(upstream)
        return routes is not None and routes.is_in_other_case(method, segments)

    def _undeclared(self, upstream: str, operation: str) -> Entry:
        """Globs of the catalogue may make it stricter and add labels, never loosen it."""
        said = strictest(self._defaults.get(upstream, ()), operation)
        return Entry(
            Tool(
                upstream,
                operation,
                mutates=True,
                risk=max(RiskLevel.HIGH, said.risk or RiskLevel.LOW),
                labels=said.labels,
                returns=TrustLevel.UNKNOWN,
                declared=False,
            )
        )


_NONE: Final[Mapping[str, Entry]] = {}
