"""The rules and the calls that policy engines are measured on: as many rules as tools, one each.

A rule is of one of four kinds. `structured` says who calls, and how; `plain` compares arguments (a
number, membership, a prefix of a nested text, no membership); `cel` is what only CEL can evaluate
here (a sum, an argument that is a list, a glob); `pattern` has a regular expression instead, which
not every engine knows, so that only the sidecar is measured on it. No two rules say the same.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sidecar.policy.load import LoadedPolicies, Source, load_policies

#: Kinds that every engine is given, and the one that is the sidecar's own.
SHARED = ("structured", "plain", "cel")
KINDS = (*SHARED, "pattern")
#: A call goes to one of so many tools, spread over all: an agent knows some tools, not thousands.
TOOLS_CALLED = 50
RULES_PER_FILE = 500
AGENT = "agent"
METHOD = "POST"
_NUMBER = 1_000_000
_FIRST = 10_000


@dataclass(frozen=True)
class Call:
    """A call as every engine is given it."""

    tool: int
    agent: str
    method: str
    args: dict[str, Any]


def numbers(rules: int) -> range:
    """By which rules and their tools are called. All have as many digits: a longer text costs
    more, whatever the size of the set."""
    return range(_FIRST, _FIRST + rules)


def condition(kind: str, number: int) -> str:
    """The lines of a rule that are of its kind."""
    if kind == "structured":
        return f"    agents: [{AGENT}, 'writer-{number}-*']\n    methods: [POST, PUT]\n"
    return f"    when: |-\n      {_CEL[kind].replace('@', str(number))}\n"


_CEL = {
    "plain": "args.number > @ && args.owner in ['acme', 'umbrella', 'team-@'] "
    "&& args.options.path.startsWith('/srv/t@/') && !(args.kind in ['admin', 'root-@'])",
    "cel": "args.number + args.fee > @ && 'ops' in args.labels "
    "&& glob(args.options.path, '/srv/t@/*.csv')",
    "pattern": "args.number > @ && args.options.path.matches('^/srv/t@/[a-z]+[.]csv$')",
}


def sources(kinds: Sequence[str], rules: int) -> list[Source]:
    """Catalogue and policies; the kinds take turns."""
    tools = "".join(f"  t{number}: {{mutates: false}}\n" for number in numbers(rules))
    found = [Source("tools.yaml", f"catalogue: up\ntools:\n{tools}".encode())]
    every = numbers(rules)
    for first in range(0, rules, RULES_PER_FILE):
        listed = "".join(
            f"  - id: r{number}\n    effect: allow\n    tools: up/t{number}\n"
            f"{condition(kinds[number % len(kinds)], number)}"
            for number in every[first : first + RULES_PER_FILE]
        )
        text = f"policy: speed-{first}\nrules:\n{listed}"
        found.append(Source(f"rules-{first}.yaml", text.encode()))
    return found


def load(given: Sequence[Source], **more: Any) -> LoadedPolicies:
    """As the sidecar loads them."""
    return load_policies(
        given, upstreams={"up": "mcp"}, default="deny", read_file=lambda *_: b"", **more
    )


def calls(kind: str, rules: int, *, every_tool: bool = False) -> list[Call]:
    """Calls that a rule allows, and as many that miss it by one thing, in a mixed order. With
    `every_tool` no two in a row go to the same tool of any, so that nothing is at hand."""
    step = 1 if every_tool else max(1, rules // TOOLS_CALLED)
    tools = numbers(rules)[::step]
    odd = _MISSES[kind]
    found = [made for tool in tools for made in (_call(tool), _call(tool, odd[tool % len(odd)]))]
    random.Random(rules).shuffle(found)
    return found


def _call(tool: int, miss: str = "") -> Call:
    args = {
        "owner": "nobody" if miss == "owner" else "acme",
        "number": -1 if miss == "number" else _NUMBER,
        "fee": 0,
        "kind": "admin" if miss == "kind" else "user",
        "labels": ["eu"] if miss == "labels" else ["eu", "ops"],
        "options": {
            "draft": False,
            "path": "/etc/report.csv" if miss == "path" else f"/srv/t{tool}/report.csv",
        },
    }
    agent = "reader" if miss == "agent" else AGENT
    return Call(tool, agent, "GET" if miss == "method" else METHOD, args)


#: By what a call of each kind misses its rule.
_MISSES = {
    "structured": ("agent", "method"),
    "plain": ("number", "owner", "path", "kind"),
    "cel": ("number", "labels", "path"),
    "pattern": ("number", "path"),
}
