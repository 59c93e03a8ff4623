"""Random rules of one policy: matchers, conditions, limits, obligations, approvals.

Knows: which tools a rule can meet, so that it meets one, and what these declare.
Must not know: what a rule decides.
"""

from __future__ import annotations

import random
from typing import Any

from generated_conditions import Conditions
from generated_vocabulary import (
    APPROVERS,
    ARGUMENTS,
    CIDRS,
    DAYS,
    DETECTORS,
    HOURS,
    LABELS,
    METHODS,
    RULE_IDS,
    WHO_GLOBS,
    ZONES,
    one_or_several,
)
from twin_catalogue import Facts, is_declared, method_of_entry
from twin_matching import meets_tool
from twin_tree import Cel, Tree, arguments, nodes
from twin_values import RISKS, TRUSTS
from twin_world import World

#: Of a hundred rules.
EFFECTS = ("allow",) * 44 + ("deny",) * 17 + ("require_approval",) * 15 + (None,) * 24
#: Keys that keep a rule from deciding on every call to its tools.
NARROWING = ("when", "during", "sources", "methods", "agents", "teams", "environments", "run")


def method_of(world: World, tool: Facts) -> str:
    """The HTTP method by which a tool is called."""
    return method_of_entry(world.tools_of(tool.upstream).get(tool.operation, {})) or "POST"


class Rules:
    """Makes the rules of one policy. `variables` are their types and what they are."""

    def __init__(
        self,
        chance: random.Random,
        world: World,
        constants: dict[str, Any],
        variables: dict[str, tuple[str, Cel]],
    ) -> None:
        self.chance = chance
        self.world = world
        self.constants = constants
        self.variables = variables
        self.known = world.known_tools()
        self.labels = world.labels()

    def several(self, policy: str) -> list[dict[str, Any]]:
        count = self.chance.choice([2, 3, 4, 5])
        rules = [self._rule(name) for name in self.chance.sample(RULE_IDS, count)]
        if self.chance.random() < 0.35:
            rules.append({"id": "wide", "effect": "allow", "tools": "*"})
        return rules

    def _rule(self, name: str) -> dict[str, Any]:
        effect = self.chance.choice(EFFECTS)
        rule: dict[str, Any] = {"id": name}
        if effect is not None:
            rule["effect"] = effect
        if self.chance.random() < 0.15:
            rule["mode"] = "shadow"
        met = self._reach(rule)
        narrow = self._narrowing(rule)
        unconditional = {"allow": 0.4, None: 0.7}.get(effect, 0.05)
        if not narrow and self.chance.random() > unconditional:
            narrow = [self.chance.choice(["when", "when", "when", *NARROWING])]
        for key in narrow:
            self._narrow(rule, key, met)
        self._reason(rule)
        if effect == "require_approval" and self.chance.random() < 0.6:
            rule["approval"] = self._approval()
        beside = 1.0 if effect is None else 0.3
        if effect != "deny" and self.chance.random() < beside * 0.6:
            rule["limits"] = self._limits(met)
        if "limits" not in rule and self.chance.random() < beside:
            rule["obligations"] = self._obligations(met)
        return rule

    def _reach(self, rule: dict[str, Any]) -> list[Facts]:
        """Gives a rule tools, some of which it meets; returns those."""
        met: list[Facts] = []
        for _ in range(8):
            for key in ("except", "mutates", "labels", "risk"):
                rule.pop(key, None)
            count = self.chance.choice([1, 1, 2, 3])
            patterns = [self._pattern() for _ in range(count)]
            rule["tools"] = patterns[0] if count == 1 else patterns
            if self.chance.random() < 0.15:
                rule["except"] = self._pattern()
            if self.chance.random() < 0.15:
                rule["mutates"] = self.chance.random() < 0.6
            if self.labels and self.chance.random() < 0.12:
                rule["labels"] = one_or_several(self.chance, self.labels)
            if self.chance.random() < 0.2:
                rule["risk"] = self.chance.choice(RISKS)
            met = [tool for tool in self.known if meets_tool(rule, tool)]
            if met:
                return met
        for key in ("except", "mutates", "labels", "risk"):
            rule.pop(key, None)
        tool = self.chance.choice(self.known)
        rule["tools"] = tool.name
        return [tool]

    def _pattern(self) -> str:
        roll, tool = self.chance.random(), self.chance.choice(self.known)
        if roll < 0.22:
            return "*"
        if roll < 0.4:
            return f"{tool.upstream}/*"
        if roll < 0.5:
            return f"*/{tool.operation}"
        if roll < 0.58:
            return f"{tool.upstream}/{tool.operation[0]}*"
        if roll < 0.64:
            return self.chance.choice(["*unknown", "*e*", "*s/*"])
        if roll < 0.72:
            return self.chance.choice(
                [f"{tool.upstream}/unknown", "*/unknown", f"{tool.upstream}/unkn*", "*/unknown*"]
            )
        if roll < 0.8:
            return self.chance.choice(
                [
                    f"{tool.upstream}/mcp:*",
                    "*/mcp:resources/read",
                    "*/mcp:*",
                    "*mcp:*",
                    "files/mcp*",
                ]
            )
        return tool.name

    def _narrowing(self, rule: dict[str, Any]) -> list[str]:
        chances = {
            "agents": 0.1, "teams": 0.06, "environments": 0.06, "tenants": 0.04, "methods": 0.08,
            "sources": 0.06, "during": 0.08, "outside": 0.06, "run": 0.16, "when": 0.5,
        }  # fmt: skip
        # Rules that only add something meet most calls, so that several add to one.
        share = 1.0 if "effect" in rule else 0.5
        return [key for key, chance in chances.items() if self.chance.random() < chance * share]

    def _narrow(self, rule: dict[str, Any], key: str, met: list[Facts]) -> None:
        if key in WHO_GLOBS:
            rule[key] = one_or_several(self.chance, WHO_GLOBS[key])
        elif key == "methods":
            rule[key] = self._methods(met)
        elif key == "sources":
            rule[key] = one_or_several(self.chance, CIDRS)
        elif key in ("during", "outside"):
            rule[key] = one_or_several(self.chance, [self._window() for _ in range(3)])
        elif key == "run":
            rule[key] = self._run()
        else:
            rule[key] = Cel(self._truth(met))

    def _methods(self, met: list[Facts]) -> list[str]:
        """Some methods, one of which leads to a tool of the rule."""
        tool = self.chance.choice(met)
        return sorted({method_of(self.world, tool), self.chance.choice(METHODS)})

    def _truth(self, met: list[Facts]) -> Tree:
        """A condition that reads something of the call."""
        conditions = self._conditions(met)
        while True:
            tree = conditions.truth(self.chance.choice([0, 0, 1, 1, 2]))
            if any(node[0] in ("name", "variable", "counted") for node in nodes(tree)):
                return tree

    def _window(self) -> str:
        days, hours = self.chance.choice(DAYS), self.chance.choice(HOURS)
        return f"{days} {hours} {self.chance.choice(ZONES)}"

    def _run(self) -> dict[str, Any]:
        wanted: dict[str, Any] = {}
        if self.labels and self.chance.random() < 0.5:
            wanted["labels"] = one_or_several(self.chance, self.labels)
        if not wanted or self.chance.random() < 0.5:
            wanted["trust"] = self.chance.choice(TRUSTS)
        return wanted

    def _conditions(self, met: list[Facts]) -> Conditions:
        """Conditions over what the tools of a rule declare; over anything if one is undeclared."""
        declared = [self._declared(tool) for tool in met]
        typed = {name for names in declared for name in names or ()}
        is_free = any(names is None for names in declared)
        readable = set(ARGUMENTS) if is_free else typed
        variables = {
            name: kind
            for name, (kind, cel) in self.variables.items()
            if self._reads(cel) <= readable
        }
        return Conditions(
            self.chance, sorted(readable), typed, self.labels, self.constants, variables
        )

    def _declared(self, tool: Facts) -> list[str] | None:
        tools = self.world.tools_of(tool.upstream)
        entry = tools.get(tool.operation)
        if not is_declared(tools, tool.operation) or not isinstance(entry, dict):
            return None
        return list(entry["args"]) if "args" in entry else None

    def _reads(self, cel: Cel) -> set[str]:
        """The arguments that a variable reads, and those it reads through others."""
        found = arguments(cel.tree)
        for node in nodes(cel.tree):
            if node[0] == "variable":
                found |= self._reads(self.variables[node[1]][1])
        return found

    def _reason(self, rule: dict[str, Any]) -> None:
        if self.chance.random() < 0.2:
            rule["reason"] = self.chance.choice(
                ["{tool.name} is refused", "plain words", "{agent.name} after {run.calls} calls"]
            )

    def _approval(self) -> dict[str, Any]:
        terms: dict[str, Any] = {}
        if self.chance.random() < 0.7:
            terms["approvers"] = one_or_several(self.chance, APPROVERS)
        if self.chance.random() < 0.5:
            terms["quorum"] = self.chance.choice([1, 2, 3])
        if self.chance.random() < 0.5:
            terms["expires"] = self.chance.choice(["15m", "4h", "1d"])
        if not terms or self.chance.random() < 0.3:
            terms["hold"] = self.chance.choice(["250ms", "5s"])
        return terms

    def _limits(self, met: list[Facts]) -> Any:
        limits = [self._limit(met) for _ in range(self.chance.choice([1, 1, 2]))]
        return limits[0] if len(limits) == 1 and self.chance.random() < 0.6 else limits

    def _limit(self, met: list[Facts]) -> dict[str, Any]:
        conditions = self._conditions(met)
        limit: dict[str, Any] = {
            "max": self.chance.choice([1, 5, 100]),
            "window": self.chance.choice(["1s", "1m", "24h", "7d"]),
        }
        by = ["agent", "team", "tenant", "run", "tool"]
        by += [f"args.{name}" for name in conditions.arguments]
        if self.chance.random() < 0.7:
            limit["per"] = one_or_several(self.chance, by)
        if self.chance.random() < 0.5:
            limit["sum"] = Cel(self._sum(conditions))
            limit["max"] = self.chance.choice([1, 5, 100.5, 0.1, 2000000])
        if self.chance.random() < 0.2:
            limit["shared"] = True
        return limit

    def _sum(self, conditions: Conditions) -> Tree:
        numbers = [one for one in conditions.arguments if ARGUMENTS[one] in ("int", "number")]
        if numbers and self.chance.random() < 0.7:
            return "field", ("name", "args"), self.chance.choice(numbers)
        return conditions.number()

    def _obligations(self, met: list[Facts]) -> dict[str, Any]:
        wanted: dict[str, Any] = {}
        if self.chance.random() < 0.4:
            wanted["redact"] = self._redact(met)
        if self.chance.random() < 0.4:
            wanted["max_response"] = self.chance.choice(["1KiB", "64KiB", "1MiB"])
        if self.chance.random() < 0.6:
            wanted["headers"] = self._headers()
        if self.chance.random() < 0.15:
            wanted["idempotency_key"] = "required"
        if not wanted or self.chance.random() < 0.35:
            wanted["add_labels"] = one_or_several(self.chance, LABELS)
        return wanted

    def _redact(self, met: list[Facts]) -> dict[str, Any]:
        readable = list(self._conditions(met).arguments)
        paths = [f"args.{name}" for name in readable] or ["email"]
        sides = {
            "request": [*DETECTORS, *paths],
            "response": [*DETECTORS, "body.a", "body.customer.email"],
        }
        chosen = self.chance.choice([["request"], ["response"], ["request", "response"]])
        return {side: one_or_several(self.chance, sides[side]) for side in chosen}

    def _headers(self) -> dict[str, Any]:
        names = self.chance.sample(["x-a", "x-b", "x-trace"], self.chance.choice([1, 2]))
        written = [name.upper() if self.chance.random() < 0.3 else name for name in names]
        wanted: dict[str, Any] = {}
        if self.chance.random() < 0.7:
            wanted["set"] = {written[0]: self.chance.choice(["one", "two"])}
        if not wanted or len(written) > 1:
            wanted["remove"] = written[-1]
        return wanted
