"""Random conditions over all but the arguments: caller, tool, request, run, time.

Knows: which facts there are, and how to compare them. Must not know: what a tree is worth.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from generated_vocabulary import CIDRS, CLAIMS, HEADERS, TOOL_GLOBS, WHO, ZONES
from twin_tree import Tree
from twin_values import RISKS, TRUSTS

ORDER = ("lt", "le", "gt", "ge")
EQUAL = ("eq", "eq", "eq", "ne")
RANKS = {"tool.risk": "risk", "agent.risk": "risk", "tool.returns": "trust", "run.trust": "trust"}


class FactConditions:
    """Makes conditions over facts; `labels` are carried by some tool."""

    def __init__(self, chance: random.Random, labels: Sequence[str]) -> None:
        self.chance = chance
        self.labels = labels

    def ranks(self) -> Tree:
        """A rank against a level."""
        name = self.chance.choice(sorted(RANKS))
        levels = RISKS if RANKS[name] == "risk" else TRUSTS
        level = ("level", RANKS[name], self.chance.choice(levels))
        return self.chance.choice([*ORDER, "eq"]), ("name", name), level

    def carried(self) -> Tree:
        """What labels tool or run carry."""
        side = ("name", self.chance.choice(["tool.labels", "run.labels"]))
        if self.labels and self.chance.random() < 0.7:
            return "in", ("literal", self.chance.choice(self.labels)), side
        test = ("startsWith", ("loop", "l"), ("literal", "reads"))
        return self.chance.choice(["exists", "all"]), side, "l", test

    def who(self) -> Tree:
        """Who calls."""
        name, fact = self.chance.choice(
            [("agent.name", "agent"), ("agent.team", "team"), ("tenant.name", "tenant"),
             ("agent.environment", "environment")]
        )  # fmt: skip
        return self.chance.choice(EQUAL), ("name", name), ("literal", self.chance.choice(WHO[fact]))

    def http(self) -> Tree:
        """The request."""
        header, roll = self.chance.choice(list(HEADERS)), self.chance.random()
        headers: Tree = ("name", "http.headers")
        value: Tree = ("literal", self.chance.choice(HEADERS[header]))
        if roll < 0.3:
            return "eq", ("item", headers, ("literal", header)), value
        if roll < 0.5:
            return "in", ("literal", header), headers
        if roll < 0.7:
            method = ("literal", self.chance.choice(["GET", "PUT"]))
            return self.chance.choice(EQUAL), ("name", "http.method"), method
        if roll < 0.85:
            return "startsWith", ("name", "http.path"), ("literal", "/admin")
        return "contains", ("name", "http.query"), ("literal", "debug")

    def time(self) -> Tree:
        """The moment, and how long the run has lived."""
        zone, roll, now = self.chance.choice(ZONES), self.chance.random(), ("name", "now")
        if roll < 0.35:
            hour = ("literal", self.chance.choice([0, 6, 9, 17, 22]))
            return self.chance.choice([*ORDER, "eq"]), ("hours", now, zone), hour
        if roll < 0.55:
            day = ("literal", self.chance.choice([0, 1, 5, 6]))
            return self.chance.choice([*ORDER, "eq"]), ("weekday", now, zone), day
        if roll < 0.8:
            date = self.chance.choice(["2026-03-29T01:00:00Z", "2026-07-01T00:00:00+02:00"])
            return self.chance.choice(ORDER), now, ("timestamp", date)
        lived = ("sub", now, ("name", "run.started"))
        length = ("duration", self.chance.choice(["1m", "1h", "90s"]))
        return self.chance.choice(ORDER), lived, length

    def run(self) -> Tree:
        """What the run did."""
        roll = self.chance.random()
        if roll < 0.4:
            most = ("literal", self.chance.choice([0, 1, 3]))
            return self.chance.choice(ORDER), ("name", "run.calls"), most
        if roll < 0.9:
            tools = self.chance.choice(TOOL_GLOBS)
            counted = ("counted", tools, self.chance.choice(["1m", "1h", "24h"]))
            return self.chance.choice(ORDER), counted, ("literal", self.chance.choice([0, 1, 2]))
        return self.chance.choice(EQUAL), ("name", "run.id"), ("literal", "")

    def claims(self) -> Tree:
        """What a token claims."""
        claim = self.chance.choice(list(CLAIMS))
        claims: Tree = ("name", "agent.claims")
        if self.chance.random() < 0.4:
            return "has", claims, claim
        return "eq", ("field", claims, claim), ("literal", self.chance.choice(CLAIMS[claim]))

    def network(self) -> Tree:
        """Where the call comes from."""
        return "in_network", self.chance.choice(CIDRS), ("name", "http.source_ip")
