"""Random calls for one policy set: right and wrong arguments, every caller, moments at the edges.

Knows: which tools and windows the set names. Must not know: what is decided.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from generated_rules import method_of
from generated_vocabulary import (
    ADDRESSES,
    ARGUMENTS,
    CLAIMS,
    HEADERS,
    LABELS,
    LONG,
    METHODS,
    PATHS,
    UNDECLARED,
    URLS,
    VALUES,
    WHO,
    WRONG,
    ZONES,
)
from twin_catalogue import as_list
from twin_matching import meets_tool
from twin_values import RISKS, TRUSTS
from twin_world import Call, World

#: Ordinary days, and those on which Berlin and New York move their clocks.
DATES = ("2026-01-05", "2026-03-08", "2026-03-28", "2026-03-29", "2026-06-19", "2026-06-20",
         "2026-06-21", "2026-10-25", "2026-11-01", "2026-12-31")  # fmt: skip
#: So many call the tools of one set, each often: what is kept of a caller must not go stale.
CALLERS = 12
EDGES_US = (0, 0, -1, 1, 60_000_000, -60_000_000, 1_800_000_000)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Calls:
    """Makes calls to the tools of one set."""

    def __init__(self, chance: random.Random, world: World) -> None:
        self.chance = chance
        self.world = world
        self.names = [
            f"{upstream}/{operation}"
            for upstream, kind in world.upstreams.items()
            for operation in [*world.tools_of(upstream), *UNDECLARED]
            if "*" not in operation and (kind == "mcp" or not operation.startswith("mcp:"))
        ]
        rules = [rule for policy in world.policies for rule in policy["rules"]]
        self.tools = {name: world.tool(name) for name in self.names}
        self.principals = [self._principal() for _ in range(CALLERS)]
        #: By rule, the tools that it meets.
        self.met = []
        for rule in rules:
            met = [name for name in self.names if meets_tool(rule, self.tools[name])]
            if met:
                self.met.append(met)
        self.windows = [
            window
            for rule in rules
            for key in ("during", "outside")
            for window in as_list(rule.get(key))
        ]

    def call(self) -> Call:
        """A call, most often to a tool that some rule meets."""
        chance = self.chance
        several = chance.choice(self.met) if self.met and chance.random() < 0.8 else self.names
        now_us = self._now_us()
        tool = chance.choice(several)
        return Call(
            tool=tool,
            args=self._args(),
            principal=chance.choice(self.principals),
            http=self._http(tool),
            now_us=now_us,
            run=None if chance.random() < 0.3 else self._run(now_us),
        )

    def _args(self) -> dict[str, Any]:
        args: dict[str, Any] = {}
        for name, kind in ARGUMENTS.items():
            roll = self.chance.random()
            if roll < 0.12:
                continue
            if roll < 0.2:
                args[name] = self.chance.choice(WRONG)
            elif kind in LONG and roll < 0.215:
                args[name] = self.chance.choice(LONG[kind])
            elif name == "path":
                args[name] = self.chance.choice(PATHS)
            elif name == "url":
                args[name] = self.chance.choice(URLS)
            else:
                args[name] = self.chance.choice(VALUES[kind])
        return args

    def _principal(self) -> dict[str, Any]:
        chance = self.chance
        return {
            **{fact: chance.choice((values[0], *values)) for fact, values in WHO.items()},
            "risk": chance.choice(RISKS),
            "trust": chance.choice(TRUSTS),
            "claims": {
                name: chance.choice(values)
                for name, values in CLAIMS.items()
                if chance.random() < 0.6
            },
        }

    def _http(self, tool: str) -> dict[str, Any]:
        chance = self.chance
        own = method_of(self.world, self.tools[tool])
        return {
            "method": own if chance.random() < 0.7 else chance.choice(METHODS),
            "path": chance.choice(["/", "/admin/x", "/a"]),
            "query": chance.choice(["", "debug=1", "q=1"]),
            "source_ip": chance.choice(ADDRESSES),
            "headers": {
                name: chance.choice(values)
                for name, values in HEADERS.items()
                if chance.random() < 0.6
            },
        }

    def _now_us(self) -> int:
        """Most often at or beside an edge of some window, on the wall clock of its zone."""
        chance = self.chance
        day = datetime.fromisoformat(chance.choice(DATES))
        if self.windows and chance.random() < 0.8:
            _, hours, zone = chance.choice(self.windows).split()
            hour, minute = chance.choice(hours.split("-")).split(":")
        else:
            hour, minute, zone = chance.choice(["0", "6", "9", "17"]), "0", chance.choice(ZONES)
        local = day + timedelta(hours=int(hour), minutes=int(minute))
        moment = local.replace(tzinfo=ZoneInfo(zone), fold=chance.choice([0, 1]))
        return (moment - _EPOCH) // timedelta(microseconds=1) + chance.choice(EDGES_US)

    def _run(self, now_us: int) -> dict[str, Any]:
        chance = self.chance
        count = chance.choice([0, 1, 1, 2, 4])
        ages_s = sorted(
            (chance.choice([5, 50, 70, 3000, 4000, 80_000]) for _ in range(count)), reverse=True
        )
        recent = [(chance.choice(self.names), now_us - age * 1_000_000) for age in ages_s]
        return {
            "trust": chance.choice(TRUSTS),
            "labels": sorted(chance.sample(LABELS, chance.choice([0, 1, 2, 3]))),
            "calls": count,
            "started_us": recent[0][1] if recent else None,
            "id": chance.choice(["", "", "r-1"]),
            "recent": tuple((self.tools[name].name, at_us) for name, at_us in recent),
        }
