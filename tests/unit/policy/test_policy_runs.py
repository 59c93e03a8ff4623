"""What a run gathers: trust only falls, labels only grow, and what follows from it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from policy_setup import MONDAY_10_UTC_US, judge, make_call, policies, run_after

from sidecar.model import Effect, TrustLevel
from sidecar.policy.runs import (
    CALLS_REMEMBERED_MAX,
    COUNT_WINDOW_MAX_US,
    RunState,
    advances,
    beginning,
    count_calls,
    gathered,
)

TOOLS = """catalogue: files
tools:
  "*": {returns: trusted_internal_unsigned}
  notes: {mutates: false}
  issue: {mutates: false, returns: untrusted_external}
  spam: {mutates: false, returns: malicious_suspected}
  vault: {mutates: false, labels: [reads-private]}
  send: {labels: sends-external}
"""
ALLOW = "policy: p\nrules:\n  - {id: a, effect: allow, tools: [files/*]}\n"
BLOCK = """policy: q
rules:
  - {id: trust, effect: deny, tools: files/send, run: {trust: untrusted_external}}
  - {id: label, effect: deny, tools: files/send, run: {labels: reads-private}}
"""
NAMES = st.sampled_from(["files/notes", "files/issue", "files/spam", "files/vault", "files/send"])


def test_a_call_lowers_trust_and_says_which_did() -> None:
    policy_set = policies(TOOLS, ALLOW)
    run = run_after(policy_set, ["files/notes", "files/issue", "files/issue", "files/vault"])
    assert run == RunState(
        TrustLevel.UNTRUSTED_EXTERNAL,
        frozenset({"reads-private"}),
        4,
        MONDAY_10_UTC_US - 4_000_000,
        "",
        "files/issue",
        "0" * 32,
        MONDAY_10_UTC_US - 3_000_000,
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(NAMES, max_size=8), NAMES, st.sampled_from(TrustLevel))
def test_c_a_run_only_ever_gets_stricter_in_whatever_order(
    names: list[str], last: str, starts: TrustLevel
) -> None:
    policy_set = policies(TOOLS, ALLOW, BLOCK)
    agent = {"trust": starts.label}
    before = run_after(policy_set, names, agent=agent)
    after = run_after(policy_set, [*names, last], agent=agent)
    backwards = run_after(policy_set, [last, *reversed(names)], agent=agent)
    assert after.trust <= before.trust <= starts
    assert after.labels >= before.labels
    assert (after.trust, after.labels, after.calls) == (
        backwards.trust, backwards.labels, backwards.calls,
    )  # fmt: skip
    refused = judge(policy_set, "files/send", agent=agent, run=before).effect is Effect.DENY
    if refused:
        assert judge(policy_set, "files/send", agent=agent, run=after).effect is Effect.DENY
    is_same = judge(policy_set, "files/send", agent=agent, run=after).effect is (
        judge(policy_set, "files/send", agent=agent, run=before).effect
    )
    assert is_same or advances(before, after, counts_calls=False)


def test_only_what_reads_the_run_asks_for_a_guard() -> None:
    policy_set = policies(TOOLS, ALLOW, BLOCK)
    assert judge(policy_set, "files/send").reads_run
    assert not judge(policy_set, "files/notes").reads_run
    assert (policy_set.counts_calls, policy_set.counts_by_tool) == (False, False)


def test_calls_count_only_where_a_rule_counts_them() -> None:
    count = 'policy: c\nrules: [{id: a, effect: deny, tools: "*", when: %s}]\n'
    by_number = policies(TOOLS, count % "run.calls > 3")
    by_tool = policies(TOOLS, count % '\'run.count("files/*", duration("1h")) > 3\'')
    assert (by_number.counts_calls, by_number.counts_by_tool) == (True, False)
    assert (by_tool.counts_calls, by_tool.counts_by_tool) == (True, True)
    first, second = RunState(TrustLevel.UNKNOWN), RunState(TrustLevel.UNKNOWN, calls=1)
    assert advances(first, second, counts_calls=True)
    assert not advances(first, second, counts_calls=False)
    assert run_after(by_number, ["files/notes"]).recent == ()
    assert [name for name, _ in run_after(by_tool, ["files/notes"]).recent] == ["files/notes"]


def test_calls_count_where_only_a_reason_tells_how_many_there_were() -> None:
    rule = 'policy: c\nrules: [{id: a, effect: deny, tools: "*", reason: "after {%s}"}]\n'
    told, other = policies(TOOLS, rule % "run.calls"), policies(TOOLS, rule % "run.labels")
    assert (told.counts_calls, told.counts_by_tool) == (True, False)
    assert not other.counts_calls
    assert not judge(told, "files/notes").reads_run  # what decides is the same whatever it is


def test_what_carries_the_protocol_leaves_the_run_as_it_is() -> None:
    policy_set = policies(TOOLS, ALLOW)
    call = make_call(policy_set, "files/mcp:initialize")
    decision = judge(policy_set, "files/notes")
    run = beginning(TrustLevel.TRUSTED_INTERNAL_SIGNED)
    assert gathered(run, call._replace(is_protocol=True), decision, 1) is run
    assert gathered(run, call, decision, 1).trust is TrustLevel.UNKNOWN, "positive control"


def test_counting_never_forgets_a_call_in_silence() -> None:
    policy_set = policies(TOOLS, ALLOW)
    call, decision = make_call(policy_set, "files/notes"), judge(policy_set, "files/notes")
    run = beginning(TrustLevel.TRUSTED_INTERNAL_SIGNED)
    for at_us in range(1, CALLS_REMEMBERED_MAX + 50):
        run = gathered(run, call, decision, at_us, keeps_calls=True)
    assert len(run.recent) == CALLS_REMEMBERED_MAX
    now_us = CALLS_REMEMBERED_MAX + 50
    assert count_calls(run, "files/*", 100, now_us) == 99
    assert count_calls(run, "other/*", 100, now_us) == 0
    for window_us in (now_us, 0, COUNT_WINDOW_MAX_US + 1):
        try:
            count_calls(run, "files/*", window_us, now_us)
        except ValueError:
            continue
        raise AssertionError(window_us)
    later_us = now_us + COUNT_WINDOW_MAX_US
    assert gathered(run, call, decision, later_us, keeps_calls=True).recent == (
        ("files/notes", later_us),
    )
