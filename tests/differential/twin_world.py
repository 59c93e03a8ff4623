"""What the twin is given: the files of a policy set and a call, as plain data.

Knows: what the names in conditions mean on a call. Must not know: the product, what is decided.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from twin_catalogue import Facts, as_list, called, facts_of
from twin_interpreter import Scope
from twin_tree import Tree
from twin_values import RISKS, TRUSTS, Instant


@dataclass(frozen=True)
class World:
    """All files of one policy set: CEL stands in them as `Cel`, all else as YAML gives it."""

    default: Literal["deny", "observe"]
    upstreams: dict[str, str]
    catalogues: list[dict[str, Any]]
    policies: list[dict[str, Any]]

    def tools_of(self, upstream: str) -> dict[str, Any]:
        for document in self.catalogues:
            if document["catalogue"] == upstream:
                tools: dict[str, Any] = document["tools"]
                return tools
        return {}

    def known_tools(self) -> list[Facts]:
        """Every declared tool, and what nobody declared of each upstream."""
        return [
            self.tool(f"{upstream}/{operation}")
            for upstream in self.upstreams
            for operation in [*self.tools_of(upstream), "unknown"]
            if "*" not in operation
        ]

    def labels(self) -> list[str]:
        """Every label that some tool carries."""
        return sorted({label for tool in self.known_tools() for label in tool.labels})

    def tool(self, name: str) -> Facts:
        """A tool by the name a caller gives it."""
        upstream, _, operation = name.partition("/")
        tools = self.tools_of(upstream)
        return facts_of(upstream, tools, called(tools, operation))


@dataclass(frozen=True)
class Call:
    """One call and all that was so when it came; `run` is None for the first of a run."""

    tool: str
    args: dict[str, Any]
    principal: dict[str, Any]
    http: dict[str, Any]
    now_us: int
    run: dict[str, Any] | None


@dataclass(frozen=True)
class Seen:
    """What rules see of one call. `names` are the names of conditions and what they mean."""

    world: World
    call: Call
    tool: Facts
    run: dict[str, Any]
    names: dict[str, Any]


@dataclass(frozen=True)
class Judged:
    """A rule that matched this call, or failed on it."""

    policy: dict[str, Any]
    rule: dict[str, Any]
    is_shadow: bool
    has_failed: bool

    @property
    def key(self) -> tuple[str, str]:
        return self.policy["policy"], self.rule["id"]

    @property
    def name(self) -> str:
        return "/".join(self.key)

    @property
    def effect(self) -> str | None:
        return self.rule.get("effect")


def seen_of(world: World, call: Call) -> Seen:
    """A call with all that rules see of it."""
    tool, principal = world.tool(call.tool), call.principal
    first = {"trust": principal["trust"], "labels": [], "calls": 0, "id": "", "recent": ()}
    run = {**first, "started_us": None, **(call.run or {})}
    if run["started_us"] is None:
        run["started_us"] = call.now_us
    names = {
        "tool.name": tool.name, "tool.upstream": tool.upstream, "tool.operation": tool.operation,
        "tool.mutates": tool.mutates, "tool.labels": list(tool.labels), "tool.risk": tool.risk,
        "tool.returns": tool.returns, "args": call.args, "agent.name": principal["agent"],
        "agent.team": principal["team"], "agent.environment": principal["environment"],
        "tenant.name": principal["tenant"], "agent.risk": RISKS.index(principal["risk"]),
        "agent.claims": principal["claims"], "run.id": run["id"], "run.calls": run["calls"],
        "run.trust": TRUSTS.index(run["trust"]), "run.labels": run["labels"],
        "run.started": Instant(run["started_us"]), "now": Instant(call.now_us),
        **{f"http.{key}": value for key, value in call.http.items()},
    }  # fmt: skip
    return Seen(world, call, tool, run, names)


def scope_of(policy: dict[str, Any], seen: Seen) -> Scope:
    """What the names in a policy's conditions mean on a call."""
    constants: dict[str, Any] = {}
    variables: dict[str, Tree] = {}
    for other in seen.world.policies:
        if other is policy or other["policy"] in as_list(policy.get("import")):
            constants |= other.get("constants", {})
            variables |= {name: cel.tree for name, cel in other.get("variables", {}).items()}
    return Scope(seen.names, constants, variables, tuple(seen.run["recent"]))
