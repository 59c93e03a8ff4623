"""µs per decision at 1, 100 and 1,000 rules, in process: matchers only, with a plain condition
(comparisons), and with one that only CEL can evaluate (a pattern)."""

from __future__ import annotations

import statistics
import time
from typing import Any

from sidecar.clock import Clock
from sidecar.model import HttpFacts, Principal, ToolCall
from sidecar.policy.decide import decide
from sidecar.policy.load import Source, load_policies

PLAIN = "\n    when: args.number > 0 && args.owner == 'acme' && args.labels.size() < 5"
PATTERN = "\n    when: args.number > 0 && args.owner.matches('^ac[a-z]+$')"


def build(rules: int, condition: str) -> Any:
    """One tool and one rule each, and one deny rule that reads every tool's environment."""
    tools = "".join(f"  t{n}: {{mutates: false}}\n" for n in range(rules))
    listed = "".join(
        f"  - id: r{n}\n    effect: allow\n    tools: up/t{n}{condition}\n" for n in range(rules)
    )
    loaded = load_policies(
        [
            Source("tools.yaml", f"catalogue: up\ntools:\n{tools}".encode()),
            Source("rules.yaml", f"policy: speed\nrules:\n{listed}".encode()),
        ],
        upstreams={"up": "mcp"},
        default="deny",
        read_file=lambda source, path: b"",
    )
    if loaded.policy_set is None:
        raise RuntimeError("\n".join(map(str, loaded.problems)))
    return loaded.policy_set


def call(policy_set: Any, clock: Clock, number: int) -> ToolCall:
    return ToolCall(
        call_id=clock.new_id(),
        tool=policy_set.catalogue.mcp_tool("up", f"t{number}").tool,
        action="tools/call",
        args={"owner": "acme", "number": 7, "labels": ["ops"], "options": {"draft": False}},
        http=HttpFacts("POST", "/", "", "127.0.0.1", {}),
        target="",
        headers=(),
        body=b"",
        dialect="mcp",
    )


def measure(rules: int, condition: str) -> float:
    clock = Clock()
    policy_set = build(rules, condition)
    principal = Principal("default", "agent")
    calls = [call(policy_set, clock, n % rules) for n in range(1000)]
    now_us = clock.now_us()
    rounds = []
    for _ in range(7):
        started = time.perf_counter()
        for one in calls:
            decide(policy_set, principal, one, now_us)
        rounds.append((time.perf_counter() - started) / len(calls))
    return round(statistics.median(rounds) * 1e6, 2)


def run() -> dict[str, Any]:
    """Medians of seven rounds of 1,000 decisions."""
    figures: dict[str, Any] = {}
    for rules in (1, 100, 1000):
        figures[f"decision_us_{rules}_rules"] = measure(rules, "")
        figures[f"decision_us_{rules}_rules_plain"] = measure(rules, PLAIN)
        figures[f"decision_us_{rules}_rules_cel"] = measure(rules, PATTERN)
    return figures
