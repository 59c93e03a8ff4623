"""Cases run as calls would: routed, judged in a run, held to limits, compared. Coverage."""

from __future__ import annotations

import pytest
from policy_setup import WHOLE, shown

from sidecar.policy.case_runner import CaseResult, run_case
from sidecar.policy.case_set import case_set, read_context
from sidecar.policy.coverage import Coverage, can_miss, coverage_line
from sidecar.policy.explain_text import explanation_data, explanation_lines
from sidecar.policy.fields import Problems
from sidecar.policy.load import Source
from sidecar.policy.protocol_methods import PROTOCOL_NOTIFICATIONS, PROTOCOL_REQUESTS
from sidecar.proxy.described_request import route_request
from sidecar.proxy.dialects.mcp_methods import KNOWN_METHODS, TOOLS_CALL

TOOLS = """catalogue: github
tools:
  get_repo: GET /repos/{owner}/{repo}
  get_issue: {route: "GET /repos/{owner}/{repo}/issues/{number}", returns: untrusted_external,
              labels: reads-private}
  merge: {route: "PUT /repos/{owner}/{repo}/pulls/{number}/merge",
          args: {owner: string, repo: string, number: int, force: bool?}}
"""
POLICY = """policy: p
rules:
  - {id: all, effect: allow, tools: [github/*, mail/send]}
  - {id: no-mixing, effect: deny, tools: "*", mutates: true, run: {trust: untrusted_external},
     reason: "this run has read {run.trust} content; {tool.name} changes state"}
  - {id: asks, effect: require_approval, tools: mail/send, run: {labels: reads-private}}
  - {id: never-forced, effect: deny, tools: github/merge, when: args.?force.orValue(false)}
  - {id: pace, tools: github/get_repo, limits: {per: agent, max: 2, window: 1m},
     reason: "{limit.used} of {limit.max} used"}
  - id: odd
    effect: deny
    tools: mail/send
    sources: 10.0.0.0/8
    when: |
      agent.claims.?guest.orValue(false) ||
      http.headers[?"x-mode"].orValue("").startsWith("raw")
  - {id: marks, tools: github/get_repo, obligations: {add_labels: seen, max_response: 1KiB,
     headers: {remove: x-trace}}}
  - {id: marks-some, tools: github/get_repo, when: args.owner == "acme",
     obligations: {add_labels: ours, max_response: 2KiB}}
"""
MERGE = "call: github/merge, args: {owner: acme, repo: web, number: 7}"


def results(*cases: str, more: str = "") -> list[CaseResult]:
    listed = "".join(f"  - {{name: c{n}, {case}}}\n" for n, case in enumerate(cases))
    test = f"test: p\ntools: {{mail/send: {{}}}}\n{more}cases:\n{listed}"
    problems = Problems()
    parts = {"t.yaml": TOOLS, "p.yaml": POLICY, "p_test.yaml": test}
    sources = [Source(name, text.encode()) for name, text in parts.items()]
    context = read_context(sources, lambda source, path: b"", problems, WHOLE)
    found = case_set(context, context.tests[0], problems)
    assert found is not None and not problems.found, shown(problems.found)
    return [run_case(found, case, route_request) for case in found.file.cases]


def result(case: str, **options: str) -> CaseResult:
    return results(case, **options)[0]


PASSING = [
    f"{MERGE}, expect: allow, by: p/all",
    f'{MERGE}, after: [github/get_repo], expect: deny, reason: "this run has read unknown *"',
    f"{MERGE}, after: github/get_issue, expect: deny, by: p/no-mixing, "
    'reason: "this run has read untrusted_external content; github/merge changes state"',
    "call: github/merge, args: {owner: a, repo: b, number: 7, force: true}, expect: deny, "
    "by: p/never-forced",
    "call: mail/send, expect: allow",
    "call: mail/send, http: {source_ip: 10.1.1.1}, expect: allow",
    "call: mail/send, http: {source_ip: 10.1.1.1}, claims: {guest: true}, expect: deny",
    "call: mail/send, http: {source_ip: 10.1.1.1, headers: {X-Mode: raw}}, expect: deny",
    "call: mail/send, http: {source_ip: 11.1.1.1}, claims: {guest: true}, expect: allow",
    "call: mail/send, http: {source_ip: nowhere}, expect: deny, code: condition_error",
    "call: mail/send, after: github/get_issue, agent: trusting, expect: deny, by: p/no-mixing",
    "call: github/get_repo, args: {owner: a}, times: 2, expect: allow",
    "call: github/get_repo, args: {owner: a}, times: 3, expect: deny, code: rate_limited, "
    'by: p/pace, reason: "2 of 2 used"',
    "call: {method: GET, path: /github/repos/acme/web?page=2}, expect: allow, by: p/all",
    "call: {method: PUT, path: /github/repos/a/b/pulls/7/merge, body: {force: true}}, "
    "expect: deny, by: p/never-forced",
    "call: {method: PUT, path: /github/repos/a/b/pulls/7/merge, body: force=true}, "
    "http: {headers: {content-type: application/x-www-form-urlencoded}}, expect: deny, "
    "by: p/never-forced",
    "call: {method: PUT, path: /github/repos/a/b/pulls/7/merge, body: {number: 8}}, "
    "expect: deny, code: ambiguous_argument",
    "call: {method: GET, path: /nowhere/x}, expect: deny, code: unknown_upstream",
    "call: {method: GET, path: /github/a/../b}, expect: deny, code: ambiguous_path",
    "call: {method: DELETE, path: /github/repos/a/b}, expect: deny, code: default_deny",
    "call: github/merge, args: {owner: a}, expect: deny, code: invalid_argument, "
    'reason: "argument * is missing"',
    "call: github/get_repo, args: {owner: acme}, expect: allow, "
    "obligations: {max_response: 1KiB, add_labels: [ours, seen], headers: {remove: X-Trace}}",
    "call: github/get_repo, args: {owner: else}, expect: allow, obligations: {add_labels: seen}",
]


@pytest.mark.parametrize("case", PASSING)
def test_d_a_true_case_passes(case: str) -> None:
    found = result(case, more="agents: {usual: {}, trusting: {trust: trusted_internal_signed}}\n")
    assert found.wrong == []


FAILING = [
    (f"{MERGE}, expect: deny", ["effect"]),
    (f"{MERGE}, expect: allow, by: p/no-mixing", ["by"]),
    (f"{MERGE}, expect: deny, by: p/never-forced", ["effect", "by"]),
    (f'{MERGE}, expect: allow, reason: "*else*"', ["reason"]),
    (f"{MERGE}, expect: allow, code: default_deny", ["code"]),
    (f"{MERGE}, after: github/get_issue, expect: allow", ["effect"]),
    ("call: github/get_repo, args: {owner: a}, times: 3, expect: allow", ["effect"]),
    (
        "call: github/get_repo, args: {owner: a}, times: 4, expect: deny",
        ["effect"],
    ),  # the third is refused already
    # a call that no rule judged proves nothing of the rules, unless that is what is stated
    ("call: github/merge, args: {owner: a}, expect: deny", ["code"]),
    ("call: github/merge, args: {owner: a}, expect: deny, by: p/no-mixing", ["by"]),
    ("call: github/merge, args: {owner: a}, expect: allow", ["effect"]),
    ("call: {method: GET, path: /nowhere/x}, expect: deny", ["code"]),
    (
        "call: github/get_repo, args: {owner: acme}, expect: allow, "
        "obligations: {max_response: 2KiB, add_labels: seen}",
        ["obligations max_response_bytes", "obligations add_labels"],
    ),
    (
        f"{MERGE}, expect: allow, obligations: {{max_response: 1KiB}}",
        ["obligations max_response_bytes"],
    ),
]


@pytest.mark.parametrize(("case", "what"), FAILING)
def test_d_a_false_case_fails_and_says_what(case: str, what: list[str]) -> None:
    found = result(case)
    assert [one[0] for one in found.wrong] == what
    assert all(expected != came for _, expected, came in found.wrong)


UNSENDABLE = [
    "{owner: acme, repo: web, number: 9007199254740992}",
    "{owner: acme, repo: web, number: 7, force: [{deep: -9007199254740992}]}",
    '{"\u00e9": 1, "e\u0301": 2}',
    f'{{"e{chr(0x301) * 31}": 1}}',
]


@pytest.mark.parametrize("args", UNSENDABLE)
@pytest.mark.parametrize("call", ["github/merge", "mail/send", "github/unheard-of"])
def test_what_no_call_can_hold_is_refused_before_any_rule_as_a_call_with_it_is(
    args: str, call: str
) -> None:
    [found] = results(f"call: {call}, args: {args}, expect: deny, code: invalid_json")
    assert found.passed and found.refused is not None
    path = "/github/repos/acme/web/pulls/7/merge"
    [sent] = results(
        f"call: {{method: PUT, path: {path}, body: {args}}}, expect: deny, code: invalid_json"
    )
    assert sent.refused is not None and sent.refused.reason == found.refused.reason


def test_the_run_is_threaded_through_the_calls_of_a_case() -> None:
    found = result("call: github/get_issue, times: 3, after: mail/send, "
                   "args: {owner: a, repo: b, number: 1}, expect: allow")  # fmt: skip
    assert found.wrong == []
    runs = [one.run for one in found.judged]
    assert [run.calls for run in runs] == [1, 2, 3]
    assert [sorted(run.labels) for run in runs] == [[], ["reads-private"], ["reads-private"]]
    assert [run.lowered_by for run in runs] == ["mail/send"] * 3  # unknown is less than untrusted


def test_rules_that_mark_every_call_of_a_tool_mark_those_that_went_before() -> None:
    found = result("call: mail/send, after: github/get_repo, expect: deny")
    assert found.judged[0].run.labels == {"seen"}  # whether it was ours is not stated


def test_calls_that_are_refused_add_nothing_to_the_run() -> None:
    found = result("call: github/get_repo, args: {owner: a}, times: 4, expect: deny")
    assert [one.run.calls for one in found.judged] == [0, 1, 2]


def test_the_same_case_twice_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    case = "call: github/get_repo, args: {owner: a}, times: 3, expect: deny, code: rate_limited"
    assert [one.wrong for one in results(case, case)] == [[], []]


def test_an_mcp_upstream_is_routed_too() -> None:
    body = '{jsonrpc: "2.0", id: 1, method: tools/call, params: {name: send, arguments: {to: a}}}'
    found = result(f"call: {{method: POST, path: /mail/mcp, body: {body}}}, expect: allow")
    assert found.wrong == [] and found.judged[0].call.args == {"to": "a"}
    ping = '{jsonrpc: "2.0", id: 1, method: ping}'
    found = result(
        f"call: {{method: POST, path: /mail, body: {ping}}}, expect: allow, code: protocol"
    )
    assert found.wrong == []


METHODS = sorted(KNOWN_METHODS - {TOOLS_CALL}) + ["tools/invented", "notifications/invented"]


@pytest.mark.parametrize("method", METHODS)
def test_a_method_that_is_named_is_judged_as_the_message_is(method: str) -> None:
    """What carries the protocol itself goes ahead by no rule: no test may pass by one on it."""
    reply = "" if method.startswith("notifications/") else "id: 1, "
    body = f'{{jsonrpc: "2.0", {reply}method: {method}}}'
    for expect in ("allow", "deny, by: p/no-mixing"):
        sent = result(f"call: {{method: POST, path: /mail, body: {body}}}, after: github/get_issue,"
                      f" expect: {expect}")  # fmt: skip
        named = result(f"call: mail/mcp:{method}, after: github/get_issue, expect: {expect}")
        assert named.wrong == sent.wrong
    assert named.passed is (method not in PROTOCOL_REQUESTS | PROTOCOL_NOTIFICATIONS)


NEWS = "args: {notifications: {toolsListChanged: true}}"
RESOURCES = "args: {notifications: {resourceSubscriptions: [a]}}"


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("mail/mcp:response, args: {result: {}}", "protocol"),
        ("mail/mcp:stream", "protocol"),
        ("mail/mcp:session-end", "protocol"),
        (f"mail/mcp:subscriptions/listen, {NEWS}", "protocol"),
        (f"mail/mcp:subscriptions/listen, {RESOURCES}", "default_deny"),
        ("mail/ping", "default_deny"),  # a tool of that name
        ("nowhere/mcp:ping", "protocol"),  # of an upstream that only the case knows
        ("github/mcp:ping", "default_deny"),  # of one that does not speak MCP
    ],
)
def test_what_else_goes_ahead_by_no_rule(call: str, code: str) -> None:
    assert result(f"call: {call}, expect: deny").judged[0].decision.code == code


def test_a_message_that_nobody_takes_is_refused_before_any_rule() -> None:
    assert result(
        "call: mail/mcp:response, args: {told: 1}, expect: deny, code: invalid_rpc"
    ).passed
    assert not result("call: mail/mcp:response, args: {told: 1}, expect: deny").passed


def test_messages_of_the_protocol_neither_cover_a_rule_nor_change_a_run() -> None:
    coverage = coverage_of("call: mail/mcp:ping, after: github/get_issue, expect: allow")
    assert coverage.by_rule == {}
    found = result("call: mail/send, after: mail/mcp:ping, expect: allow").judged[0]
    assert (found.run.calls, found.run.labels) == (0, frozenset())
    said = result("call: mail/mcp:ping, after: github/get_issue, expect: allow").judged[0]
    *_, last = explanation_lines(said)
    assert last.strip().startswith("no rule is looked at. Revision ")
    assert explanation_data(said)["rules"] == []


# -- coverage --------------------------------------------------------------------------------


def coverage_of(*cases: str) -> Coverage:
    found = results(*cases)
    judged = [one for result in found for one in result.judged]
    coverage = Coverage({account.rule for one in judged for account in one.accounts})
    for one in found:
        coverage.note(one.judged)
    return coverage


def test_a_rule_is_covered_by_a_case_that_matches_and_one_that_does_not() -> None:
    coverage = coverage_of(
        f"{MERGE}, expect: allow",
        f"{MERGE}, after: github/get_issue, expect: deny",
        "call: mail/send, expect: allow",
        "call: mail/send, http: {source_ip: nowhere}, expect: deny, code: condition_error",
    )
    by_rule = coverage.by_rule
    assert (by_rule["p/all"].matched, by_rule["p/all"].lacks) == (4, "")
    assert (by_rule["p/no-mixing"].matched, by_rule["p/no-mixing"].missed) == (1, 3)
    assert by_rule["p/no-mixing"].lacks == ""
    assert by_rule["p/never-forced"].lacks == by_rule["p/asks"].lacks == "never matched"
    assert [one.rule.rule_id for one in coverage.lacking] == ["p/asks", "p/never-forced", "p/odd"]
    odd = by_rule["p/odd"]
    assert (odd.matched, odd.missed, odd.failed) == (0, 1, 1)
    assert coverage_line(odd, 5) == "p/odd  matched 0, not 1, failed 1  <- never matched"
    assert coverage.percent == 40.0
    line = coverage_line(by_rule["p/never-forced"], 16)
    assert line == "p/never-forced    matched 0, not 2  <- never matched"


def test_a_rule_that_always_matched_lacks_a_case_only_if_it_can_miss() -> None:
    coverage = coverage_of(f"{MERGE}, after: github/get_issue, expect: deny")
    assert coverage.by_rule["p/no-mixing"].lacks == "always matched"
    assert coverage.by_rule["p/all"].lacks == ""
    assert not can_miss(coverage.by_rule["p/all"].rule)
    assert can_miss(coverage.by_rule["p/no-mixing"].rule)
