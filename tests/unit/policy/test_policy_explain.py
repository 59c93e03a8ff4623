"""Explanations agree with the decision, rule by rule, and say why in words."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_setup import MONDAY_10_UTC_US, WHOLE, load, make_call, make_principal, shown

from sidecar.model import Effect, TrustLevel
from sidecar.policy.decide import decide
from sidecar.policy.explain import Explanation, explain
from sidecar.policy.explain_text import explanation_data, explanation_lines
from sidecar.policy.index import PolicySet
from sidecar.policy.load import Source, load_policies
from sidecar.policy.matcher_words import MATCHERS
from sidecar.policy.rule import Rule
from sidecar.policy.runs import RunState
from sidecar.policy.verdicts import Verdict
from sidecar.problems import Position

TOOLS = """catalogue: files
tools:
  read: {mutates: false}
  write: {risk: high, labels: sends}
  drop: {risk: critical}
"""
CALLS = ("files/read", "files/write", "files/drop", "files/other", "files/mcp:ping", "mail/x")
RULES = st.fixed_dictionaries(
    {
        "effect": st.sampled_from(["allow", "deny", "require_approval"]),
        "tools": st.sampled_from(["*", "files/*", "files/write", "*/unknown", "files/mcp:*"]),
    },
    optional={
        "mode": st.just("shadow"),
        "except": st.sampled_from(["files/read", "*/unknown"]),
        "mutates": st.booleans(),
        "labels": st.sampled_from(["sends", "other"]),
        "risk": st.sampled_from(["low", "medium", "high", "critical"]),
        "agents": st.sampled_from(["coder", "c*", "x"]),
        "teams": st.sampled_from(["platform", "x"]),
        "methods": st.sampled_from(["GET", "POST"]),
        "sources": st.sampled_from(["10.0.0.0/8", "127.0.0.1"]),
        "during": st.sampled_from(["mon-fri 09:00-17:00 UTC", "sat 09:00-17:00 Europe/Berlin"]),
        "outside": st.sampled_from(["mon 09:00-17:00 UTC", "sun 09:00-17:00 UTC"]),
        "run": st.sampled_from(
            ["{trust: untrusted_external}", "{labels: [a, b]}", "{trust: unknown, labels: a}"]
        ),
        "when": st.sampled_from(
            ["args.n > 1", "args.flag", "has(args.s) && args.s.matches('^a')", "run.calls > 1"]
        ),
    },
)
FILES = st.lists(st.lists(RULES, min_size=1, max_size=5), min_size=1, max_size=3)
ARGS = st.dictionaries(
    st.sampled_from(["n", "flag", "s"]),
    st.one_of(st.integers(-3, 3), st.booleans(), st.sampled_from(["a", "b", "a\0"]), st.none()),
    max_size=3,
)
HTTP = st.fixed_dictionaries(
    {"source_ip": st.sampled_from(["", "127.0.0.1", "10.1.1.1", "no address"])},
    optional={"method": st.sampled_from(["GET", "PUT"])},
)
RUNS = st.tuples(
    st.sampled_from(TrustLevel), st.frozensets(st.sampled_from(["a", "c"])), st.integers(0, 3)
).map(lambda one: RunState(*one))


def render(name: str, rules: list[dict[str, Any]]) -> str:
    lines = [f"policy: {name}", "rules:"]
    for number, rule in enumerate(rules):
        lines.append(f"  - id: r{number}")
        for key, value in rule.items():
            text = str(value).lower() if isinstance(value, bool) else f'"{value}"'
            lines.append(f"    {key}: {value if key == 'run' else text}")
    return "\n".join(lines) + "\n"


def loaded(*packs: str, default: Any = "deny") -> PolicySet:
    """As packs, which load with any rules: what cannot meet a tool is a warning there."""
    sources = [Source(f"pack:p{n}", text.encode()) for n, text in enumerate(packs)]
    found = load_policies(
        [*sources, Source("tools.yaml", TOOLS.encode())],
        upstreams={"files": "mcp"},
        default=default,
        read_file=lambda source, path: b"",
        has=WHOLE,
    )
    assert found.policy_set is not None, shown(found.problems)
    return found.policy_set


@settings(max_examples=150, deadline=None)
@given(FILES, ARGS, HTTP, RUNS, st.sampled_from(["deny", "observe"]))
def test_an_explanation_is_of_the_very_decision(
    files: list[list[dict[str, Any]]],
    args: dict[str, Any],
    http: dict[str, str],
    run: RunState,
    default: str,
) -> None:
    policy_set = loaded(*(render(f"p{n}", rules) for n, rules in enumerate(files)), default=default)
    principal = make_principal(team="platform")
    for name in CALLS:
        call = make_call(policy_set, name, args, http)
        decision = decide(policy_set, principal, call, MONDAY_10_UTC_US, run)
        found = explain(policy_set, principal, call, MONDAY_10_UTC_US, run=run)
        assert found.decision == decision
        said = {one.rule.rule_id: one.verdict for one in found.accounts}
        matched = {one.rule_id for one in decision.matches if one.error is None}
        failed = {one.rule_id for one in decision.matches if one.error is not None}
        assert {rule for rule, verdict in said.items() if verdict is Verdict.YES} == matched
        assert {rule for rule, verdict in said.items() if verdict is Verdict.ERROR} == failed
        assert effect_of(found) is decision.effect
        for one in found.accounts:
            words_fit(one)
        assert len(found.accounts) + found.other_rules == policy_set.rule_count
        assert list(explanation_lines(found)) and explanation_data(found)["rules"] is not None


def effect_of(found: Explanation) -> Effect:
    """The semantics in three lines, from the accounts alone."""
    live = [one for one in found.accounts if not one.rule.is_shadow]
    effects = {one.rule.effect for one in live if one.verdict is Verdict.YES}
    if Effect.DENY in effects or any(one.verdict is Verdict.ERROR for one in live):
        return Effect.DENY
    if Effect.REQUIRE_APPROVAL in effects:
        return Effect.REQUIRE_APPROVAL
    return Effect.ALLOW if Effect.ALLOW in effects else Effect.DENY


def words_fit(one: Any) -> None:
    """The words beside a verdict say the same as the verdict."""
    does_hold = all(check.holds for check in one.checks)
    assert does_hold is (one.verdict is Verdict.YES), (one.rule.rule_id, one.verdict, one.checks)
    if one.verdict is not Verdict.YES:
        assert one.why, one


def test_every_matcher_of_a_rule_has_words() -> None:
    no_matchers = {
        *("rule_id", "order", "effect", "mode", "reason", "match"),
        *("limits", "approval", "obligations", "is_policy_in_shadow"),
    }
    fields = {one.name for one in dataclasses.fields(Rule)}
    assert fields - no_matchers - {"condition"} == set(MATCHERS)


POLICY = """policy: p
constants: {free: 3}
variables: {big: args.n > constants.free}
rules:
 - {id: reads, effect: allow, tools: "*", mutates: false}
 - {id: big, effect: deny, tools: "files/*", when: variables.big, reason: "too big: {args.n}"}
 - {id: others, effect: allow, tools: files/write, agents: x, methods: GET, risk: low}
 - {id: watched, effect: allow, tools: files/write, mutates: true, mode: shadow}
 - {id: trusted, effect: allow, tools: files/write, run: {trust: trusted_internal_unsigned}}
 - {id: elsewhere, effect: deny, tools: files/read, when: args.q == 1}
"""
PLACES = {"files/write": Position("tools.yaml", 4, 3)}


def lines(args: dict[str, Any], run: RunState | None = None) -> list[str]:
    policy_set = loaded(POLICY)
    call = make_call(policy_set, "files/write", args)
    found = explain(policy_set, make_principal(), call, MONDAY_10_UTC_US, run=run)
    return [line.rstrip() for line in explanation_lines(found, PLACES)]


def test_the_form_of_an_explanation() -> None:
    run = RunState(
        TrustLevel.UNTRUSTED_EXTERNAL,
        frozenset({"b", "a"}),
        2,
        0,
        "",
        "files/read",
        "",
        36_131_000_000,
    )
    revision = loaded(POLICY).revision[:8]
    assert lines({"n": 7}, run) == [
        'deny  p/big  "too big: 7"',
        "tool  files/write: mutates, risk high, labels sends, returns unknown    tools.yaml:4",
        "run   acme/coder: trust untrusted_external since files/read at 10:02:11; labels a, b; "
        "2 calls; agent risk medium",
        "      deny   p/big      yes  when true: args.n 7",
        "      allow  p/trusted  no   run.trust untrusted_external: wants "
        "trusted_internal_unsigned or safer",
        "      allow  p/watched  yes  shadow; mutates",
        "      no match: p/others (risk high: wants low or safer; agent.name coder: wants x; "
        "http.method POST: wants GET), p/reads (mutates: wants false); 1 other rule does not name "
        f"this tool. Revision {revision}",
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1, "1"),
        ("1", "1 (a text)"),
        ("true", "true (a text)"),
        (True, "true"),
        ("null", "null (a text)"),
        (None, "null"),
        ("one", "one"),
        (["one"], "one (a list)"),
        ([1], "[1]"),
        ('["one"]', '["one"] (a text)'),
        ("one ", "one  (with blanks around it)"),
        ("", "(empty)"),
        ([], "(empty) (a list)"),
    ],
)
def test_a_value_that_reads_like_another_is_told_apart(value: Any, shown: str) -> None:
    """A condition that is false of `["main"]` or "7" must not be shown with `main` or `7`."""
    policy_set = loaded(POLICY)
    call = make_call(policy_set, "files/read", {"q": value})
    (account,) = (
        one
        for one in explain(policy_set, make_principal(), call, MONDAY_10_UTC_US).accounts
        if one.rule.rule_id == "p/elsewhere"
    )
    assert account.why.partition(": args.q ")[2] == shown


TERMS = """policy: t
rules:
 - {id: adds, tools: files/write,
    limits: [{max: 5, window: 1m}, {sum: args.n, max: 10.5, window: 24h}],
    obligations: {redact: {request: args.pin, response: [email, body.x]}, max_response: 64KiB,
    headers: {set: {x-a: b}, remove: x-c}, idempotency_key: required, add_labels: seen}}
 - {id: allow, effect: allow, tools: files/write}
 - {id: deny, effect: deny, tools: files/write, when: args.n > 9.0}
 - {id: many, effect: require_approval, tools: files/write, when: args.n > 2.0,
    approval: {approvers: [a, b], quorum: 2, expires: 4h}}
 - {id: one, effect: require_approval, tools: files/write, when: args.n > 2.0}
"""


@pytest.mark.parametrize(
    ("number", "said", "order"),
    [
        (
            1.5,
            [
                "takes 1 of 5 calls in 1m for t/adds; 1.5 of 10.5 in 1d for t/adds",
                "does  masks args.pin in the request; masks body.x, email in the answer; takes "
                "answers of 64KiB at most; sets the header x-a to b; removes the header x-c; "
                "wants an Idempotency-Key; adds the labels seen to the run",
            ],
            ["t/allow", "t/adds"],
        ),
        (
            3.0,
            [
                "asks  2 of a or b for t/many, within 4h; any approver for t/one",
                "takes 1 of 5 calls in 1m for t/adds; 3 of 10.5 in 1d for t/adds",
            ],
            ["t/many", "t/one", "t/allow", "t/adds"],
        ),
        (
            10.0,
            ["does  masks args.pin in the record"],
            ["t/deny", "t/many", "t/one", "t/allow", "t/adds"],
        ),
    ],
)
def test_what_follows_is_said_and_rules_stand_in_the_order_in_which_they_decide(
    number: float, said: list[str], order: list[str]
) -> None:
    policy_set = loaded(TERMS)
    call = make_call(policy_set, "files/write", {"n": number})
    found = explain(policy_set, make_principal(), call, MONDAY_10_UTC_US)
    shown = list(explanation_lines(found))
    follows = [line for line in shown if line.split()[0] in ("asks", "takes", "does")]
    assert follows[: len(said)] == said
    rows = [line.split()[1] for line in shown if line.startswith("      ")]
    assert [row for row in rows if row.startswith("t/")] == order
    data = explanation_data(found)["decision"]
    assert [one["rule"] for one in data["approvals"]] == (
        ["t/many", "t/one"] if number == 3 else []
    )
    assert [one["max"] for one in data["limits"]] == ([5, 10.5] if number < 10 else [])
    assert data["obligations"]["redact"]["request"] == ["args.pin"]
    assert data["obligations"]["headers"]["set"] == ({"x-a": "b"} if number < 10 else {})


def test_an_error_is_told_to_operators_with_its_values() -> None:
    found = lines({"n": "x"})
    assert found[0].endswith("[condition_error]")
    assert any("p/big" in line and " error " in line and "args.n x" in line for line in found)


def test_absent_values_are_called_absent_and_secrets_are_masked() -> None:
    policy_set = loaded(
        'policy: p\nrules:\n - {id: a, effect: allow, tools: "*", when: "!has(args.x) && '
        "args.token != ''\"}\n"
    )
    call = make_call(policy_set, "files/write", {"token": "hunter2"})
    found = explain(policy_set, make_principal(), call, MONDAY_10_UTC_US)
    text = "\n".join(explanation_lines(found)) + str(explanation_data(found))
    assert "args.x (absent)" in text and "args.token ***" in text
    assert "hunter2" not in text


@pytest.mark.parametrize("key", ["decision", "tool", "agent", "run", "rules", "other_rules"])
def test_the_data_has_every_part(key: str) -> None:
    policy_set = loaded(POLICY)
    found = explain(policy_set, make_principal(), make_call(policy_set, "files/read"), 0)
    data = explanation_data(found, {"p/reads": Position("f.yaml", 5, 3)})
    assert key in data
    reads = next(one for one in data["rules"] if one["rule"] == "p/reads")
    assert (reads["verdict"], reads["place"]) == ("yes", "f.yaml:5:3")
    assert data["rules"][0]["verdict"] == "error"  # big reads args.n, which is not there


def test_places_of_rules_and_tools_come_with_a_load() -> None:
    found = load("policy: p\nrules:\n  - {id: a, effect: allow, tools: files/read}\n", TOOLS)
    assert found.places["p/a"] == Position("f0.yaml", 3, 10)
    assert found.places["files/drop"].line == 5
