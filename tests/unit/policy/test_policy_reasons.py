"""Reasons: values are cut, escaped and masked; what is missing says so."""

from __future__ import annotations

from typing import Any

import pytest
from policy_setup import judge, make_call, policies

from sidecar.model import Principal
from sidecar.policy.decide import decide
from sidecar.policy.facts import FACTS

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


def test_g5_a_secret_is_masked_in_every_spelling_of_its_name() -> None:
    args = {"apiKey": "k", "user[password]": "p", "x": {"API-KEY": "k", "a.token": "t"}}
    shown = reason("{args.apiKey} {args.x} {args}", args)
    assert shown.startswith('*** {"API-KEY": "***", "a.token": "***"} {"apiKey": "***", "user[pass')
    assert '"p"' not in shown


def test_g5_a_secret_is_masked_in_query_and_path() -> None:
    http = {"query": "a=1&token=t0p&user[password]=p", "path": "/reset/t0p/7"}
    policy_set = policies(
        "policy: p\nrules:\n  - {id: a, effect: deny, tools: files/pay,"
        " reason: '{http.query} {http.path}'}\n",
        TOOLS,
    )
    call = make_call(policy_set, "files/pay", {}, http)._replace(
        in_path={"token": "t0p", "id": "7"}
    )
    shown = decide(policy_set, Principal("acme", "coder"), call, 0).reason
    assert shown == "a=1&token=***&user[password]=*** /reset/***/7"


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


def test_every_path_of_the_language_can_be_shown() -> None:
    """A level is shown by its name: the number behind it says nothing to anybody."""
    for path in FACTS:
        shown = reason(f"<{{{path}}}>", {})
        group, _, level = path.partition(".")
        assert shown.startswith("<") and shown.endswith(">")
        assert (shown == f"<{level}>") is (group in ("trust", "risk")), path
