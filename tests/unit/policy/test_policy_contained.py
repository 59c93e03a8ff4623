"""Which calls a containment is about, and what it makes of a decision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from policy_setup import policies

from sidecar.model import Decision, Effect, HttpFacts, Mode, Principal, Tool, ToolCall
from sidecar.policy.contained import Action, Block, Contained, hosts_in
from sidecar.policy.hidden import Hidden
from sidecar.policy.replay import Replay
from sidecar.policy.runs import RunState, beginning
from sidecar.policy.terms import ApprovalTerms, Charge, Obligations

RUN = RunState(beginning(5).trust, started_us=7)  # type: ignore[arg-type]
ALLOW = Decision(Effect.ALLOW, "policy_allow", "fine", "rev", rule_id="p/r")
DENY = Decision(Effect.DENY, "policy_deny", "no", "rev", rule_id="p/d")
ASKS = Decision(
    Effect.REQUIRE_APPROVAL, "approval_required", "asks", "rev", rule_id="p/a",
    approvals=(ApprovalTerms("p/a"),),
)  # fmt: skip


def call(name: str = "mail/send", args: Any = None, **more: Any) -> ToolCall:
    upstream, _, operation = name.partition("/")
    tool = Tool(upstream, operation, declared=more.pop("declared", True))
    http = HttpFacts("POST", "/", "", "127.0.0.1", {})
    values = {"action": "POST", "dialect": "rest", **more}
    return ToolCall(
        call_id="c1", tool=tool, args=args or {}, http=http, target="", headers=(), body=b"",
        **values,
    )  # fmt: skip


def block(action: str, what: str = "", agent: str = "", **more: Any) -> Contained:
    return Contained((Block("k1", Action(action), agent, what, **more),))


def is_barred(contained: Contained, one: ToolCall, run: RunState = RUN, at_us: int = 0) -> bool:
    return contained.barring(one, run, at_us) is not None


UNKNOWN = {"declared": False, "called": "erase", "dialect": "mcp", "action": "tools/call"}


@pytest.mark.parametrize(("what", "one", "wanted"), [
    ("mail/send", call(), True),
    ("mail/read", call(), False),
    ("mail/erase", call("mail/unknown", **UNKNOWN), True),
    ("mail/unknown", call("mail/unknown", **UNKNOWN), True),
    ("mail/other", call("mail/unknown", **UNKNOWN), False),
    ("act/run", call("act/unknown", declared=False, called="act/run", dialect="authorize",
                     action="run"), True),
    ("act/run", call("act/unknown", declared=False, called="mcp:act/run", dialect="authorize",
                     action="run"), True),
    ("act/run", call("unknown/unknown", declared=False, called="act/run", dialect="authorize",
                     action="run"), True),
    ("mail/mcp:resources/read", call("mail/mcp:resources/read", dialect="mcp"), True),
])  # fmt: skip
def test_a_tool_is_blocked_by_each_of_its_names(what: str, one: ToolCall, wanted: bool) -> None:
    assert is_barred(block("block-tool", what), one) is wanted


@pytest.mark.parametrize(("args", "wanted"), [
    ({"url": "https://evil.example/a"}, True),
    ({"url": "HTTP://EVIL.example:8080"}, True),
    ({"a": [{"b": ("https://x.evil.example",)}]}, True),
    ({"url": "https://evil.example.org"}, False),
    ({"url": "https://notevil.example"}, False),
    ({"url": "https://ok.example/?next=evil.example"}, False),
    ({"url": "https://me:pw@evil.example/"}, True),
    ({"url": "https://evil.example\\@ok.example"}, True),
    ({"url": "https://evil.example./"}, True),
    ({"text": "see evil.example"}, False),
    ({"cmd": "curl https://evil.example"}, False),
    ({"https://evil.example": 1}, False),
    ({}, False),
])  # fmt: skip
def test_a_destination_is_a_url_of_it_among_the_arguments(args: Any, wanted: bool) -> None:
    assert is_barred(block("block-destination", "evil.example"), call(args=args)) is wanted


def test_a_destination_is_also_what_an_upstream_leads_to() -> None:
    held = block("block-destination", "evil.example", upstreams=frozenset({"mail"}))
    assert is_barred(held, call())
    assert not is_barred(held, call("shop/get")), "positive control"


def test_hosts_are_found_in_order_each_once() -> None:
    args = {"a": "https://b.example/1", "c": ["http://a.example", "https://b.example"], "d": "x"}
    assert hosts_in(args) == ["b.example", "a.example"]


def test_a_run_is_blocked_by_its_id_or_by_when_it_began() -> None:
    named = block("block-run", "r1", "coder")
    assert is_barred(named, call(), RUN._replace(run_id="r1"))
    assert not is_barred(named, call(), RUN) and not is_barred(named, call(), beginning(RUN.trust))
    nameless = block("block-run", "", "coder", run_started_us=7)
    assert is_barred(nameless, call(), RUN)
    assert not is_barred(nameless, call(), RUN._replace(started_us=8)), "the next run"
    assert not is_barred(nameless, call(), beginning(RUN.trust)), "one that begins"
    assert not is_barred(nameless, call(), RUN._replace(run_id="r1")), "another run"


def test_what_is_decided_beside_a_blocked_run_rests_on_which_run_it_is() -> None:
    """Whoever knows the run as it was before it began must not take it for another; a yes may
    come later."""
    begins = beginning(RUN.trust)
    nameless = block("block-run", "", "coder", run_started_us=7)
    assert nameless.applied(ALLOW, call(), begins, 0).reads_run
    assert nameless.applied(ASKS, call(), begins, 0) == replace(ASKS, reads_run=True)
    both = Contained((*nameless.blocks, *block("force-approval", "mail/send").blocks))
    asked = both.applied(ALLOW, call(), begins, 0)
    assert (asked.effect, asked.reads_run) == (Effect.REQUIRE_APPROVAL, True)
    for other in (
        block("block-run", "r1", "coder").applied(ALLOW, call(), begins, 0),
        block("block-tool", "shop/get").applied(ALLOW, call(), begins, 0),
        nameless.applied(ALLOW, call(), RUN._replace(run_id="r2"), 0),
    ):
        assert other == ALLOW, "positive control: no needless guard"


def test_what_cannot_be_told_is_barred() -> None:
    """A containment of a later version; a run of which it is not known when it began."""
    unknown = Contained((Block("k1", None, "", ""),))
    made = unknown.applied(ALLOW, call(), RUN, 0)
    assert made.code == "contained" and "later version" in made.reason
    nameless = block("block-run", "", "coder", run_started_us=None)
    assert is_barred(nameless, call()) and is_barred(nameless, call(), beginning(RUN.trust))
    assert not is_barred(nameless, call(), RUN._replace(run_id="r1"))


def test_at_its_end_it_counts_no_more() -> None:
    held = block("block-tool", "mail/send", until_us=100)
    assert is_barred(held, call(), at_us=99)
    assert not is_barred(held, call(), at_us=100)
    assert is_barred(block("block-tool", "mail/send"), call(), at_us=2**60), "without an end"
    asking = block("force-approval", until_us=100)
    assert asking.applied(ALLOW, call(), RUN, 99).code == "approval_required"
    assert asking.applied(ALLOW, call(), RUN, 100) is ALLOW


@pytest.mark.parametrize("mode", [Mode.ENFORCE, Mode.OBSERVE])
@pytest.mark.parametrize("decision", [ALLOW, DENY, ASKS])
def test_a_block_refuses_in_every_mode_whatever_was_decided(decision: Decision, mode: Mode) -> None:
    charge = Charge("p/r", "p/r#1", "acme", 1, 5, 60_000_000, 1, False, False, reason=None)  # type: ignore[arg-type]
    given = replace(
        decision, mode=mode, obligations=Obligations(add_labels=("x",)), charges=(charge,),
        approval_id="a1", approver="person:ana",
    )  # fmt: skip
    made = block("block-tool", "mail/send").applied(given, call(), RUN, 0)
    assert (made.effect, made.code, made.mode, made.forward) == (
        Effect.DENY, "contained", Mode.ENFORCE, False,
    )  # fmt: skip
    assert (made.rule_id, made.approvals, made.charges) == ("containment/k1", (), ())
    assert made.approver is None, "no yes lets it through"
    assert made.obligations == given.obligations, "what rules want masked stays masked"
    assert "mail/send is blocked" in made.reason and "k1" in made.reason
    assert block("block-tool", "mail/other").applied(given, call(), RUN, 0) is given


def test_a_forced_approval_asks_for_what_would_go_ahead_and_for_nothing_else() -> None:
    held = block("force-approval", "", "coder", ends_at_us=1_700_000_000_000_000)
    made = held.applied(ALLOW, call(), RUN, 0)
    assert (made.effect, made.code, made.forward) == (
        Effect.REQUIRE_APPROVAL, "approval_required", False,
    )  # fmt: skip
    assert made.approvals == (ApprovalTerms("containment/k1"),)
    assert "2023-11-14T22:13:20" in made.reason
    assert held.applied(DENY, call(), RUN, 0) is DENY
    assert held.applied(ASKS, call(), RUN, 0) is ASKS
    observed = replace(DENY, mode=Mode.OBSERVE)
    assert held.applied(observed, call(), RUN, 0).forward is False, "it would have gone ahead"
    asked = held.applied(replace(ASKS, mode=Mode.OBSERVE), call(), RUN, 0)
    assert [one.rule_id for one in asked.approvals] == ["p/a", "containment/k1"]
    protocol = call("mail/mcp:initialize", is_protocol=True)
    assert held.applied(ALLOW, protocol, RUN, 0) is ALLOW


def test_a_replay_passes_over_what_a_containment_decided() -> None:
    """No rule can be asked about it again."""
    replay = Replay(policies("policy: p\nrules: [{id: r, effect: allow, tools: github/*}]\n"))
    for effect, code, rule in (
        ("deny", "contained", "containment/k1"),
        ("require_approval", "approval_required", "containment/k1"),
    ):
        replay.add(
            Principal("acme", "coder"), call("github/get"), 0, Hidden(), effect_then=effect,
            code_then=code, rule_then=rule, revision_then="another",
        )  # fmt: skip
    assert replay.skipped == {"containment": 2} and not replay.changes
    replay.add(
        Principal("acme", "coder"), call("github/get"), 0, Hidden(),
        effect_then="require_approval", code_then="approval_required", rule_then="p/d",
        revision_then="another",
    )  # fmt: skip
    assert replay.changed == 1, "positive control"


def test_a_block_goes_before_a_forced_approval() -> None:
    both = Contained(
        (*block("force-approval", "", "coder").blocks, *block("block-tool", "mail/send").blocks)
    )
    assert both.applied(ALLOW, call(), RUN, 0).code == "contained"
    assert both.applied(ALLOW, call("mail/read"), RUN, 0).code == "approval_required"


@pytest.mark.parametrize(
    "url",
    [
        " https://evil.example/a",  # requests, urllib3, WHATWG: blanks in front are nothing
        "\thttps://evil.example/a",
        "\nhttps://evil.example/a",
        "https:\\\\evil.example/a",  # WHATWG: a backslash is a slash
        "https:/evil.example/a",  # WHATWG: any number of slashes
        "ht\ntps://evil.example/a",  # WHATWG: line ends and tabs are taken out
        "https://%65vil.example/a",  # WHATWG: escapes in the host
        "https://\uff45vil.example/a",  # IDNA: full width letters
        "https://ev\u00adil.example/a",
        "https://ev\u200bil.example/a",
        "https://ev%C2%ADil.example/a",
        "\u00a0https://evil.example/a",
        "\ufeffhttps://evil.example/a",
        "\x85https://evil.example/a",
        "https://evil\u3002example/a",  # IDNA: an ideographic full stop
    ],
)
def test_a_destination_is_met_however_oddly_its_url_is_written(url: str) -> None:
    args: dict[str, Any] = {"url": url}
    assert is_barred(block("block-destination", "evil.example"), call(args=args))
    assert not is_barred(
        block("block-destination", "evil.example"), call(args={"url": "https://ok.example"})
    )
