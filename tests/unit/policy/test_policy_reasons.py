"""Reasons: values are cut, escaped and masked; what is missing says so."""

from __future__ import annotations

from typing import Any

import pytest
from policy_setup import judge, policies

TOOLS = "catalogue: files\ntools: {pay: {labels: [a, b], risk: high}}\n"


def reason(template: str, args: dict[str, Any], **options: Any) -> str:
    text = (
        "policy: p\nrules:\n  - id: a\n    effect: deny\n    tools: files/pay\n"
        f"    reason: '{template}'\n"
    )
    return judge(policies(text, TOOLS), "files/pay", args, **options).reason


VALUES: list[tuple[Any, str]] = [
    ("EUR", "EUR"),
    (7, "7"),
    (1.5, "1.5"),
    (True, "true"),
    (None, "null"),
    ([], ""),
    (["a", "b"], "a, b"),
    ([1, "b"], '[1, "b"]'),
    ({"a": [1]}, '{"a": [1]}'),
    ("x" * 81, "x" * 80 + "…"),
    ("x" * 80, "x" * 80),
    ("a\nb\t\x1b[31m", "a\\u000ab\\u0009\\u001b[31m"),
    ("\u202egnp\u200b\u2028", "\\u202egnp\\u200b\\u2028"),
    ("\ud800", "\\ud800"),
    ("\U000e0041", "\\U000e0041"),
    ({"password": "hunter2", "b": {"Token": 1}}, '{"password": "***", "b": {"Token": "***"}}'),
    ([{"secret": "x"}], '[{"secret": "***"}]'),
    ("{agent.name}", "{agent.name}"),
]


@pytest.mark.parametrize(("value", "shown"), VALUES)
def test_a_value_is_fit_to_be_read(value: Any, shown: str) -> None:
    assert reason("<{args.x}>", {"x": value}) == f"<{shown}>"


def test_members_and_missing_ones() -> None:
    args = {"a": {"b": {"c": "deep"}}, "base-branch": "main", "list": [1]}
    assert reason("{args.a.b.c} {args.base-branch}", args) == "deep main"
    assert reason("{args.x} {args.a.x} {args.list.0} {args.a.b.c.d}", args) == " ".join(
        ["(absent)"] * 4
    )


def test_a_secret_is_masked_by_any_part_of_its_path() -> None:
    args = {"token": "t0p", "Api_Key": "k", "auth": {"password": {"old": "p"}}}
    shown = reason("{args.token} {args.Api_Key} {args.auth.password.old} {args.auth}", args)
    assert shown == '*** *** *** {"password": "***"}'


def test_facts_of_caller_tool_and_call() -> None:
    shown = reason(
        "{tool.name} {tool.risk} {tool.returns} {tool.labels} {tool.mutates} {agent.name} "
        "{agent.team} {agent.risk} {tenant.name} {http.method} {http.headers.x} {now}",
        {},
        agent={"team": "platform", "risk": "low"},
        http={"headers": {"x": "y"}},
    )
    assert shown == (
        "files/pay high unknown a, b true coder platform low acme POST y 2026-01-05 10:00:00+00:00"
    )


def test_a_huge_value_costs_little() -> None:
    deep: Any = "x"
    for _ in range(50):
        deep = {"a": deep, "b": ["y" * 1000] * 1000}
    assert len(reason("{args.x}", {"x": deep})) < 100
