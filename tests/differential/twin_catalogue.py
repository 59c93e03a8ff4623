"""What the twin knows of a tool: the catalogue as plain data, its defaults, its globs.

Knows: section 1 of LANGUAGE.md, of the catalogue. Must not know: the product, rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twin_functions import glob
from twin_values import RISKS, TRUSTS

READS = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Facts:
    """One tool as rules see it; levels are ranks."""

    upstream: str
    operation: str
    mutates: bool
    risk: int
    labels: tuple[str, ...]
    returns: int

    @property
    def name(self) -> str:
        return f"{self.upstream}/{self.operation}"

    @property
    def is_method(self) -> bool:
        return self.operation.startswith("mcp:")


def as_list(value: Any) -> list[Any]:
    """Where a list fits, one value will do; nothing given is none."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def is_declared(tools: dict[str, Any], operation: str) -> bool:
    return "*" not in operation and operation in tools


def called(tools: dict[str, Any], operation: str) -> str:
    """The operation a call is judged as: its own, if it is declared or a method of the protocol."""
    if is_declared(tools, operation) or operation.startswith("mcp:"):
        return operation
    return "unknown"


def facts_of(upstream: str, tools: dict[str, Any], operation: str) -> Facts:
    """An exact entry says; what it leaves open the strictest of all globs says, then the default.

    What nobody declared is mutating, of high risk and returns the unknown, whatever globs say.
    """
    own = _mapping(tools[operation]) if is_declared(tools, operation) else None
    globs = [
        _mapping(entry) for name, entry in tools.items() if "*" in name and glob(operation, name)
    ]
    if own is None:
        own = {}
        globs.append({"mutates": True, "risk": "high", "returns": "unknown"})

    def said(key: str) -> list[Any]:
        return [own[key]] if key in own else [entry[key] for entry in globs if key in entry]

    method = method_of_entry(own)
    mutates = any(said("mutates")) if said("mutates") else method not in READS
    risks = [RISKS.index(level) for level in said("risk")]
    returns = [TRUSTS.index(level) for level in said("returns")]
    labels = {label for several in said("labels") for label in as_list(several)}
    return Facts(
        upstream,
        operation,
        mutates,
        max(risks) if risks else RISKS.index("medium" if mutates else "low"),
        tuple(sorted(labels)),
        min(returns) if returns else TRUSTS.index("unknown"),
    )


def method_of_entry(entry: Any) -> str:
    """The method of an entry's route, "" without a route."""
    return str(_mapping(entry).get("route", "")).partition(" ")[0]


def _mapping(entry: Any) -> dict[str, Any]:
    return {"route": entry} if isinstance(entry, str) else entry
