"""Random policy sets that load: catalogues, policies, rules with every key of the language.

Knows: what makes a file valid (section 2, load errors). Must not know: what a rule decides.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from generated_conditions import Conditions
from generated_rules import Rules
from generated_vocabulary import (
    ARGUMENTS,
    DECLARED,
    LABELS,
    OPERATIONS,
    POLICY_NAMES,
    ROUTES,
    WHO_GLOBS,
    WORDS,
    one_or_several,
)
from twin_tree import Cel
from twin_values import RISKS, TRUSTS
from twin_world import World

UPSTREAMS = {"files": "mcp", "github": "rest", "pay": "mcp"}


class Sets:
    """Makes policy sets from one source of chance."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def world(self) -> World:
        """A set; whether it loads is for the loader to say."""
        names = self.chance.sample(sorted(UPSTREAMS), self.chance.choice([2, 2, 3]))
        upstreams = {name: UPSTREAMS[name] for name in sorted(names)}
        catalogues = [
            {"catalogue": name, "tools": self._tools(kind)}
            for name, kind in upstreams.items()
            if self.chance.random() < 0.95
        ]
        is_observed = self.chance.random() < 0.15
        world = World("observe" if is_observed else "deny", upstreams, catalogues, [])
        labels = world.labels()
        lib = self.chance.random() < 0.5
        if lib:
            world.policies.append(self._lib(labels))
        for name in self.chance.sample(POLICY_NAMES, self.chance.choice([2, 3, 3, 4])):
            world.policies.append(self._policy(world, name, labels, imports=lib))
        return world

    def _tools(self, kind: str) -> dict[str, Any]:
        operations = self.chance.sample(OPERATIONS[kind], self.chance.choice([3, 4, 5]))
        tools = {name: self._tool(name, ROUTES.get(name, "")) for name in operations}
        if kind == "mcp":
            tools = {name: {} if isinstance(one, str) else one for name, one in tools.items()}
            for one in tools.values():
                one.pop("route", None)
        for pattern in ("*", "*e*", "re*"):
            if self.chance.random() < 0.25:
                tools[pattern] = self._said() or {"returns": "trusted_internal_unsigned"}
        return tools

    def _tool(self, name: str, route: str) -> Any:
        said = self._said()
        if self.chance.random() < 0.4:
            wanted = self.chance.sample(sorted(ARGUMENTS), self.chance.choice([3, 5, 7]))
            if "{number}" in route and "number" not in wanted:
                wanted.append("number")
            said["args"] = {
                one: DECLARED[ARGUMENTS[one]]
                + ("?" if self.chance.random() < 0.3 and "{" + one + "}" not in route else "")
                for one in wanted
            }
        return {"route": route, **said} if said else route

    def _said(self) -> dict[str, Any]:
        """What an entry, or a glob, says of tools."""
        said: dict[str, Any] = {}
        if self.chance.random() < 0.4:
            said["mutates"] = self.chance.random() < 0.5
        if self.chance.random() < 0.4:
            said["risk"] = self.chance.choice(RISKS)
        if self.chance.random() < 0.5:
            said["labels"] = one_or_several(self.chance, LABELS)
        if self.chance.random() < 0.5:
            said["returns"] = self.chance.choice(TRUSTS)
        return said

    def _lib(self, labels: list[str]) -> dict[str, Any]:
        """A policy without rules of its own, to import."""
        conditions = Conditions(self.chance, (), (), labels)
        return {
            "policy": "lib",
            "constants": {
                "word": self.chance.choice(WORDS),
                "small": self.chance.choice([1, 2, 5]),
            },
            "variables": {"imported": Cel(conditions.truth(1))},
            "rules": [],
        }

    def _policy(
        self, world: World, name: str, labels: list[str], *, imports: bool
    ) -> dict[str, Any]:
        policy: dict[str, Any] = {"policy": name}
        if self.chance.random() < 0.15:
            policy["mode"] = "shadow"
        for key, globs in WHO_GLOBS.items():
            if self.chance.random() < 0.06:
                policy[key] = one_or_several(self.chance, globs)
        constants: dict[str, Any] = {}
        if self.chance.random() < 0.5:
            constants = {"names": ["a", "agent/x"], "on": self.chance.random() < 0.7}
        variables: dict[str, tuple[str, Cel]] = {}
        shared: dict[str, Any] = {}
        if imports and self.chance.random() < 0.6:
            policy["import"] = "lib"
            lib = world.policies[0]
            shared = lib["constants"]
            variables["imported"] = ("bool", lib["variables"]["imported"])
        readable = {**shared, **constants}
        own = {}
        if self.chance.random() < 0.5:
            own = self._variables(labels, readable, variables)
        if constants:
            policy["constants"] = constants
        if own:
            policy["variables"] = {name: cel for name, (_, cel) in own.items()}
        rules = Rules(self.chance, world, readable, {**variables, **own})
        policy["rules"] = rules.several(name)
        return policy

    def _variables(
        self, labels: list[str], constants: dict[str, Any], known: dict[str, tuple[str, Cel]]
    ) -> dict[str, tuple[str, Cel]]:
        """Variables of every type; `wide` may read the others."""
        names = self.chance.sample(sorted(ARGUMENTS), 3)
        conditions = Conditions(self.chance, names, ARGUMENTS, labels, constants)
        makers: Sequence[tuple[str, str, Callable[[], Any]]] = (
            ("held", "bool", lambda: conditions.truth(1)),
            ("much", "int", lambda: conditions.number(1)),
            ("branch", "string", lambda: conditions.text(1)),
            ("paths", "strings", conditions.texts),
        )
        own = {
            name: (kind, Cel(make())) for name, kind, make in makers if self.chance.random() < 0.5
        }
        kinds = {name: kind for name, (kind, _) in {**known, **own}.items()}
        conditions.variables = kinds
        if kinds and self.chance.random() < 0.5:
            own["wide"] = ("bool", Cel(conditions.truth(1)))
        return own
