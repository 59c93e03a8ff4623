"""What holds for every policy set: order means nothing, a deny only tightens, nothing raises."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from policy_setup import judge, make_call, make_principal, policies

from sidecar.model import Effect, TrustLevel
from sidecar.policy.decide import decide
from sidecar.policy.runs import RunState

TOOLS = """catalogue: files
tools:
  read: {mutates: false}
  write: {risk: high, labels: sends}
  drop: {risk: critical}
"""
CALLS = ("files/read", "files/write", "files/drop", "files/other", "files/mcp:ping", "github/x")
CONDITIONS = (
    None,
    "args.n > 1",
    "args.flag",
    "has(args.s) && args.s.matches('^a')",
    "agent.team != ''",
)

RULES = st.fixed_dictionaries(
    {
        "effect": st.sampled_from(["allow", "deny", "require_approval"]),
        "tools": st.sampled_from(
            ["*", "files/*", "files/write", "files/unknown", "*/unknown", "files/mcp:*"]
        ),
    },
    optional={
        "mode": st.just("shadow"),
        "mutates": st.booleans(),
        "risk": st.sampled_from(["low", "medium", "high", "critical"]),
        "agents": st.sampled_from(["coder", "c*", "x"]),
        "run": st.sampled_from(["{trust: untrusted_external}", "{labels: sends}"]),
        "when": st.sampled_from([one for one in CONDITIONS if one]),
    },
)
RUNS = st.builds(
    RunState,
    st.sampled_from(TrustLevel),
    st.sampled_from([frozenset(), frozenset({"sends"}), frozenset({"other"})]),
)
STRICTNESS = [Effect.ALLOW, Effect.REQUIRE_APPROVAL, Effect.DENY]
POLICIES = st.lists(st.lists(RULES, min_size=1, max_size=4), min_size=1, max_size=3)
ARGS = st.dictionaries(
    st.sampled_from(["n", "flag", "s"]),
    st.one_of(
        st.integers(-3, 3), st.booleans(), st.sampled_from(["a", "b", "a\0", "é"]), st.none()
    ),
    max_size=3,
)


def render(name: str, rules: list[tuple[int, dict[str, Any]]]) -> str:
    lines = [f"policy: {name}", "rules:"]
    for number, rule in rules:
        lines.append(f"  - id: r{number}")
        for key, value in rule.items():
            shown = str(value).lower() if isinstance(value, bool) else f'"{value}"'
            shown = value if shown.startswith('"{') else shown
            lines.append(f"    {key}: {shown}")
    return "\n".join(lines) + "\n"


def texts(files: list[list[dict[str, Any]]]) -> list[list[tuple[int, dict[str, Any]]]]:
    return [list(enumerate(rules)) for rules in files]


def load_pack(
    files: list[list[tuple[int, dict[str, Any]]]], order: list[int], extra: str = ""
) -> Any:
    """As packs, which load with any rules: what cannot meet a tool is a warning there."""
    rendered = {f"pack:p{n}": render(f"p{n}", rules) for n, rules in enumerate(files)}
    chosen = [f"pack:p{n}" for n in order]
    sources = [rendered[name] for name in chosen] + ([extra] if extra else [])
    return policies(*sources, TOOLS, names=(*chosen, *(["pack:extra"] if extra else []), "tools"))


@settings(max_examples=60, deadline=None)
@given(POLICIES, ARGS, RUNS, st.randoms(use_true_random=False))
def test_d2_the_order_of_files_and_rules_never_changes_a_decision(
    files: list[list[dict[str, Any]]], args: dict[str, Any], run: RunState, random: Any
) -> None:
    listed = texts(files)
    one = load_pack(listed, list(range(len(listed))))
    shuffled = [random.sample(rules, len(rules)) for rules in listed]
    other = load_pack(shuffled, random.sample(range(len(listed)), len(listed)))
    for name in CALLS:
        first, second = judge(one, name, args, run=run), judge(other, name, args, run=run)
        assert (first.effect, first.rule_id, first.code, first.would_be, first.reason) == (
            second.effect, second.rule_id, second.code, second.would_be, second.reason,
        )  # fmt: skip
        assert [match.rule_id for match in first.matches] == [
            match.rule_id for match in second.matches
        ]


@settings(max_examples=60, deadline=None)
@given(POLICIES, RULES, ARGS, RUNS, st.sampled_from(["deny", "require_approval"]))
def test_d2_adding_a_stricter_rule_never_loosens_a_decision(
    files: list[list[dict[str, Any]]],
    rule: dict[str, Any],
    args: dict[str, Any],
    run: RunState,
    effect: str,
) -> None:
    listed = texts(files)
    before = load_pack(listed, list(range(len(listed))))
    extra = render("extra", [(0, {**rule, "effect": effect})])
    after = load_pack(listed, list(range(len(listed))), extra)
    for name in CALLS:
        first, second = judge(before, name, args, run=run), judge(after, name, args, run=run)
        if first.code != "default_deny" or effect == "deny":
            assert STRICTNESS.index(second.effect) >= STRICTNESS.index(first.effect)


@settings(max_examples=60, deadline=None)
@given(POLICIES, ARGS, RUNS, st.sampled_from(TrustLevel))
def test_c_less_trust_never_loosens_a_decision(
    files: list[list[dict[str, Any]]], args: dict[str, Any], run: RunState, trust: TrustLevel
) -> None:
    listed = texts(files)
    policy_set = load_pack(listed, list(range(len(listed))))
    lower = run._replace(trust=min(run.trust, trust))
    for name in CALLS:
        first, second = (
            judge(policy_set, name, args, run=run),
            judge(policy_set, name, args, run=lower),
        )
        if first.code != "default_deny":  # a rule that asks may stand where none stood
            assert STRICTNESS.index(second.effect) >= STRICTNESS.index(first.effect)
        assert first == second or first.reads_run


@settings(max_examples=60, deadline=None)
@given(POLICIES, RULES, ARGS)
def test_a_shadow_rule_never_changes_what_is_decided(
    files: list[list[dict[str, Any]]], rule: dict[str, Any], args: dict[str, Any]
) -> None:
    listed = texts(files)
    before = load_pack(listed, list(range(len(listed))))
    extra = render("extra", [(0, {**rule, "mode": "shadow"})])
    after = load_pack(listed, list(range(len(listed))), extra)
    for name in CALLS:
        first, second = judge(before, name, args), judge(after, name, args)
        assert (first.effect, first.code, first.rule_id) == (
            second.effect,
            second.code,
            second.rule_id,
        )


JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**80), 2**80), st.floats(), st.text(max_size=5),
        st.just("\ud800"),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)  # fmt: skip
ODD = """policy: odd
variables: {all: "args.map(k, args[k])"}
rules:
  - {id: a, effect: allow, tools: files/*, reason: "{args.x} {args.x.y} {args}",
     when: 'size(variables.all) >= 0 && args.?x.orValue("") != "y"'}
"""


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(["x", "y", "é", ""]), JSON, max_size=3))
def test_d1_no_argument_makes_the_decision_raise(args: dict[str, Any]) -> None:
    decision = judge(ODD_SET, "files/write", args)
    assert decision.code in ("policy_allow", "condition_error")
    decision.reason.encode("utf-8")


ODD_SET = policies(ODD, TOOLS)


def test_d1_a_failure_of_the_engine_is_a_deny_even_under_observe() -> None:
    policy_set = policies(ODD, TOOLS, default="observe")
    call = make_call(policy_set, "files/write", {"x": 1})
    assert decide(policy_set, make_principal(), call, 0).code == "policy_allow"

    class Broken:
        revision = policy_set.revision

        def plan(self, tool: object) -> None:
            raise LookupError("kaputt")

    decision = decide(Broken(), make_principal(), call, 0)  # type: ignore[arg-type]
    assert (decision.effect, decision.code, decision.forward) == (
        Effect.DENY, "internal_error", False,
    )  # fmt: skip
    assert "kaputt" not in decision.reason
