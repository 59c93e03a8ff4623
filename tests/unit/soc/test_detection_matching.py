"""Every key of `where` on events that it fits and events that it does not, through the record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from soc_setup import START_US, compiled, tried

from sidecar.errors import Refused
from sidecar.ledger.drafts import call_draft
from sidecar.model import Decision, Effect, HttpFacts, Principal, Tool, ToolCall
from sidecar.policy.runs import beginning
from sidecar.soc.engine import UNSEEN, Engine
from sidecar.soc.events import event_of
from storage.records import RecordedEvent

#: What is looked for, an event it fits and one it does not (beside `call` and `effect`).
KEYS = {
    "tools": ("tools: mail/*", "call: mail/send", "call: files/read"),
    "except": ("{tools: '*', except: files/*}", "call: mail/send", "call: files/read"),
    "agents": ("agents: cod*", "call: mail/send", "{call: mail/send, agent: helper}"),
    "tenants": ("tenants: def*", "call: mail/send", "{call: mail/send, agent: foreign}"),
    "teams": ("teams: plat*", "call: mail/send", "{call: mail/send, agent: helper}"),
    "environments": ("environments: prod", "call: mail/send", "{call: mail/send, agent: helper}"),
    "mutates": ("mutates: false", "call: files/read", "call: mail/send"),
    "labels": ("labels: [x, sends-external]", "call: mail/send", "call: files/read"),
    "risk-worse": ("risk: high", "call: files/wipe", "call: mail/send"),
    "methods": ("methods: PUT", "{call: mail/send, http: {method: PUT}}", "call: mail/send"),
    "sources": (
        "sources: 10.0.0.0/8",
        "{call: mail/send, http: {source_ip: 10.1.2.3}}",
        "{call: mail/send, http: {source_ip: 192.168.0.1}}",
    ),
    "run-trust": (
        "run: {trust: untrusted_external}",
        "{call: mail/send, run: {trust: malicious_suspected}}",
        "{call: mail/send, run: {trust: semi_trusted_customer}}",
    ),
    "run-labels": (
        "run: {labels: [reads-private]}",
        "{call: mail/send, run: {labels: [reads-private, other]}}",
        "{call: mail/send, run: {labels: other}}",
    ),
    "during": ("during: mon 09:00-10:00 UTC", "call: mail/send", "{call: mail/send, pause: 30m}"),
    "outside": ("outside: mon 09:00-10:00 UTC", "{call: a/b, pause: 30m}", "call: mail/send"),
    "when-arguments": (
        "when: args.to.endsWith('@evil.example')",
        "{call: mail/send, args: {to: a@evil.example}}",
        "{call: mail/send, args: {to: a@acme.io}}",
    ),
    "when-run": ("when: run.calls > 0", "{call: mail/send, run: {labels: x}}", "call: mail/send"),
    "when-a-mask": (
        "when: args.to == '***'",
        "{call: mail/send, args: {to: '***'}}",
        "{call: mail/send, args: {to: a}}",
    ),
    "effect": ("effect: [deny, require_approval]", "{effect: deny, call: a/b}", "call: mail/send"),
    "code": ("code: 'approval_*'", "{effect: deny, code: approval_spent, call: a/b}", "call: a/b"),
    "code-of-a-yes": (
        "code: approval_required",
        "{effect: require_approval, code: approval_required, call: a/b}",
        "{effect: require_approval, call: a/b}",
    ),
    "mode": ("mode: observe", "{effect: deny, mode: observe, call: a/b}", "call: a/b"),
}  # fmt: skip
TEST = """test: sought
tools:
  mail/send: {{labels: sends-external}}
  files/read: {{mutates: false}}
  files/wipe: {{risk: critical}}
agents:
  coder: {{team: platform, environment: prod}}
  helper: {{team: support, environment: test}}
  foreign: {{tenant: other}}
cases:
  - {{name: it is, now: "2026-01-05T09:30:00Z", events: [{fits}], expect: 1}}
  - {{name: it is not, now: "2026-01-05T09:30:00Z", events: [{not_}], expect: 0}}
"""


def event_text(said: str) -> str:
    inner = said[1:-1] if said.startswith("{") else said
    return f"{{{inner}}}" if "effect" in inner else f"{{effect: allow, {inner}}}"


@pytest.mark.parametrize("key", KEYS)
def test_what_is_looked_for_is_found_and_nothing_else(key: str) -> None:
    where, fits, not_ = KEYS[key]
    where = where if where.startswith("{") else f"{{{where}}}"
    detection = f"detection: sought\nseverity: low\nwhere: {where}\nby: tenant\n"
    text = TEST.format(fits=event_text(fits), not_=event_text(not_))
    tests, problems = tried({"d.yaml": detection, "d_test.yaml": text})
    assert problems == []
    assert [(one.case.name, len(one.alerts), one.refused) for one in tests.results] == [
        ("it is", 1, ""),
        ("it is not", 0, ""),
    ]


def recorded(
    *, keeps_arguments: bool = True, keeps_facts: bool = True, args: dict[str, Any] | None = None
) -> RecordedEvent:
    call = ToolCall(
        "c" * 32, Tool("mail", "send", labels=("x",)), "tools/call", args or {"to": "ana"},
        HttpFacts("POST", "/", "", "", {}), "", (), b"", "mcp",
    )  # fmt: skip
    principal = Principal("acme", "coder")
    decision = Decision(Effect.DENY, "policy_deny", "", "rev")
    receipt, facts = call_draft(
        "refusal", principal, call, decision, Refused("policy_deny", decision=decision),
        ts_us=START_US, nonce=bytes(16), arguments=call.args, keeps_arguments=keeps_arguments,
        run=beginning(principal.trust),
    )  # fmt: skip
    receipt = receipt._replace(seq=1, receipt_hash="a" * 64)
    return RecordedEvent(receipt, facts if keeps_facts else None)


@pytest.mark.parametrize(
    ("where", "digest_only", "erased"),
    [
        ("tools: mail/send", 1, 1),
        ("effect: deny", 1, 1),
        ("labels: x", 1, 0),
        ("when: agent.name == 'coder'", 1, 0),
        ("when: args.to != 'bob'", 0, 0),
        ("when: http.path == '/'", 0, 0),
    ],
)
def test_what_is_not_known_of_a_call_fits_nothing_that_asks_for_it(
    where: str, digest_only: int, erased: int
) -> None:
    found = compiled(f"detection: d\nseverity: low\nwhere: {{{where}}}\n")
    for record, hits in (
        (recorded(), 1),
        (recorded(keeps_arguments=False), digest_only),
        (recorded(keeps_facts=False), erased),
    ):
        event = event_of(record)
        assert event is not None
        engine = Engine(found, "acme")
        assert len(engine.see(event)) == hits and not engine.failed


def test_a_condition_that_fails_on_a_call_is_no_hit_and_is_counted() -> None:
    found = compiled(
        "detection: d\nseverity: low\nwhere: {when: args.missing == 'x'}\n",
        "detection: e\nseverity: low\nwhere: {effect: deny}\n",
    )
    event = event_of(recorded())
    assert event is not None
    engine = Engine(found, "acme")
    assert [hit.detection for hit in engine.see(event)] == ["e"]
    assert dict(engine.failed) == {"d": 1}


LONG = "a " * 15_000


@pytest.mark.parametrize(
    ("text", "seen", "unseen"),
    [
        ("a text", 0, 0),
        ("with the key in it", 1, 0),
        (LONG, 0, 0),
        (f"{LONG} with a ke", 0, 0),
        ("ke" * 200_000, 0, 1),
        (["x"] * 9_000, 0, 1),
        (["x"] * 11_000, 0, 1),
    ],
    ids=["short", "key", "long", "decoy", "too long", "too many", "more than can be given"],
)
def test_nobody_chooses_not_to_be_seen_by_what_a_call_holds(
    text: object, seen: int, unseen: int
) -> None:
    condition = "[type(args.t) == string ? args.t : args.t.join('')].exists(x, x.contains('key'))"
    found = compiled(
        f'detection: d\nseverity: low\nwhere: {{when: "{condition}"}}\n'
        'reason: "it was {tool.name}"\n'
    )
    event = event_of(recorded(args={"t": text}))
    assert event is not None
    engine = Engine(found, "acme")
    reasons = [hit.reason for hit in engine.see(event)]
    assert reasons == ["it was mail/send"] * seen + [f"{UNSEEN}it was mail/send"] * unseen
    assert not engine.failed


@pytest.mark.parametrize(
    ("args", "found"),
    [
        ({"text": "a task-list, " * 4_500}, 0),
        ({"lines": ["a task-list"] * 300}, 0),
        ({"text": "a task-list, " * 300 + "ghp_abcdefghijklmnopqrstuvwxyz0123456789"}, 1),
    ],
    ids=["58 kB", "300 lines", "one in 4 kB"],
)
def test_the_detection_of_credentials_looks_into_what_agents_usually_send(
    args: dict[str, Any], found: int
) -> None:
    file = Path(__file__).parents[3] / "policies/soc/credential-in-arguments.yaml"
    event = event_of(recorded(args=args))
    assert event is not None
    engine = Engine(compiled(file.read_text()), "acme")
    reasons = [hit.reason for hit in engine.see(event)]
    assert reasons == ["an argument of mail/send holds a credential, sent by coder"] * found


def test_what_nobody_looked_into_is_counted_with_the_rest_and_is_a_step() -> None:
    found = compiled(
        "detection: d\nseverity: low\nat_least: 2\nwithin: 1m\n"
        "where: {when: args.t.contains('key')}\n",
        "detection: e\nseverity: low\nwithin: 1m\nsequence:\n"
        "  - {when: args.t.contains('key')}\n  - {when: args.t.contains('lock')}\n",
    )
    engine = Engine(found, "acme")
    events = [event_of(recorded(args={"t": text})) for text in ("ke" * 500_000, "key and lock")]
    hits = [hit for event in events if event is not None for hit in engine.see(event)]
    assert [hit.detection for hit in hits] == ["d", "e"]
    assert not any(hit.reason.startswith(UNSEEN) for hit in hits)  # the last one was seen


def test_reasons_show_what_was_recorded_and_say_what_was_not() -> None:
    found = compiled(
        'detection: d\nseverity: low\nreason: "{agent.name} {args.to} {run.trust} {args.none}"\n'
    )
    said = []
    for record in (recorded(), recorded(keeps_arguments=False), recorded(keeps_facts=False)):
        event = event_of(record)
        assert event is not None
        said += [hit.reason for hit in Engine(found, "acme").see(event)]
    absent = "(absent)"
    assert said == [
        f"coder ana trusted_internal_unsigned {absent}",
        f"coder {absent} trusted_internal_unsigned {absent}",
        f"coder {absent} {absent} {absent}",
    ]


def test_different_values_are_counted_and_a_masked_one_is_none() -> None:
    detection = (
        "detection: d\nseverity: low\ndistinct: args.to\nat_least: 3\nwithin: 60s\nby: agent\n"
    )
    test = """test: d
tools: {mail/send: {}}
cases:
  - name: three customers
    events:
      - {effect: allow, call: mail/send, args: {to: a}}
      - {effect: allow, call: mail/send, args: {to: b}, times: 5}
      - {effect: allow, call: mail/send, args: {to: {deep: 1}}}
    expect: 1
  - name: two, what is not known, and what is not there
    events:
      - {effect: allow, call: mail/send, args: {to: a}, times: 9}
      - {effect: allow, call: mail/send, args: {to: b}}
      - {effect: allow, call: mail/send, args: {to: "***"}}
      - {effect: allow, call: mail/send}
    expect: 0
"""
    tests, problems = tried({"d.yaml": detection, "d_test.yaml": test})
    assert problems == [] and all(one.passed for one in tests.results)


def test_what_is_remembered_of_arguments_is_a_hash() -> None:
    found = compiled("detection: d\nseverity: info\nfirst: args.to\n")
    engine = Engine(found, "acme")
    event = event_of(recorded())
    assert event is not None and len(engine.see(event)) == 1
    (row,) = engine.changed_memories()
    assert "ana" not in row.state and row.subject == '["coder"]'
