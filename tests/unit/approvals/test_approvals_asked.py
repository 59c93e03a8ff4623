"""E1 and E6: what the digest binds, and that nothing hides from whoever reads what is asked."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import pytest

from sidecar.approvals.action import action_sha256
from sidecar.approvals.asked import ALL_LENGTH_MAX, MEMBERS_MAX, NOT_KEPT, TEXT_LENGTH_MAX, asked
from sidecar.ledger.canonical import NotCanonical
from sidecar.model import Decision, Effect, HttpFacts, Principal, Tool, ToolCall
from sidecar.policy.terms import Obligations, Redaction

AGENT = Principal("acme", "coder")
HTTP = HttpFacts("POST", "/buy/tea", "", "127.0.0.1", {"content-type": "application/json"})
CALL = ToolCall(
    "c1", Tool("shop", "buy"), "POST", {"what": "tea", "n": 1}, HTTP, "/buy/tea",
    (("Idempotency-Key", "k1"), ("Authorization", "Bearer x"), ("traceparent", "t")),
    b'{"n": 1}', "rest",
)  # fmt: skip
ASKS = Decision(Effect.REQUIRE_APPROVAL, "approval_required", "buys tea", "rev", "p/asks", "h")


def digest(call: ToolCall = CALL, who: Principal = AGENT, **more: Any) -> str:
    given = {"obligations": None, "definition_sha256": "", "bind_headers": ()} | more
    obligations = given.pop("obligations")
    return action_sha256(who, call, obligations, **given)


#: Whatever of these is another makes another action.
OTHERS: dict[str, str] = {
    "tenant": digest(who=Principal("rival", "coder")),
    "agent": digest(who=Principal("acme", "other")),
    "user": digest(who=Principal("acme", "coder", user="ana")),
    "tool": digest(CALL._replace(tool=Tool("shop", "sell"))),
    "upstream": digest(CALL._replace(tool=Tool("mall", "buy"))),
    "called": digest(CALL._replace(called="x")),
    "method": digest(CALL._replace(action="PUT")),
    "target": digest(CALL._replace(target="/buy/tea?x=1")),
    "argument": digest(CALL._replace(args={"what": "tea", "n": 2})),
    "one more argument": digest(CALL._replace(args={"what": "tea", "n": 1, "x": None})),
    "kind of a number": digest(CALL._replace(args={"what": "tea", "n": 1.0})),
    "text for a number": digest(CALL._replace(args={"what": "tea", "n": "1"})),
    "definition": digest(definition_sha256="aa"),
    "form for JSON": digest(CALL._replace(http=HTTP._replace(headers={"content-type": "x/form"}))),
    "a bound header": digest(bind_headers=("idempotency-key",)),
    "its value": digest(
        CALL._replace(headers=(("Idempotency-Key", "k2"),)), bind_headers=("idempotency-key",)
    ),
    "what is masked": digest(obligations=Obligations(request=Redaction((("args", "n"),)))),
    "a header that is set": digest(obligations=Obligations(set_headers=(("x-a", "1"),))),
}


def test_e1_whatever_matters_makes_another_action() -> None:
    assert len({digest(), *OTHERS.values()}) == len(OTHERS) + 1


def test_what_does_not_matter_makes_none() -> None:
    same = CALL._replace(
        call_id="c2", body=b'{"n":1}', headers=(("Authorization", "y"), ("X-Trace", "z")),
        args={"n": 1, "what": "tea"}, trace_id="t", run_id="r",
    )  # fmt: skip
    assert digest(same) == digest()
    assert digest(obligations=Obligations(add_labels=("x",))) == digest()


def rpc(reply_id: Any = 1, **params: Any) -> ToolCall:
    message = {"jsonrpc": "2.0", "id": reply_id, "method": "tools/call", "params": params}
    return CALL._replace(
        action="tools/call", target="", dialect="mcp", body=json.dumps(message).encode(),
        args=params.get("arguments", {}), reply_id=reply_id,
    )  # fmt: skip


def test_of_an_mcp_message_all_but_its_id_and_meta_is_the_action() -> None:
    first = rpc(1, name="send", arguments={"to": "a"}, _meta={"progressToken": 1})
    again = rpc("x", name="send", arguments={"to": "a"}, _meta={"traceparent": "y"})
    assert digest(first) == digest(again)
    others = [
        rpc(name="send", arguments={"to": "b"}),
        rpc(name="drop", arguments={"to": "a"}),
        rpc(name="send", arguments={"to": "a"}, inputResponses={"x": 1}),
        rpc(name="send", arguments={"to": "a"}, requestState="s"),
        rpc(name="send", arguments={"to": "a", "_meta": {}}),
    ]
    assert len({digest(first), *map(digest, others)}) == len(others) + 1


def test_what_has_no_canonical_form_is_no_action() -> None:
    with pytest.raises(NotCanonical):
        digest(CALL._replace(args={"n": 2**60}))


def reads(
    arguments: dict[str, Any] | None, as_said: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    call = CALL._replace(**changes)
    text = asked(
        AGENT, call, ASKS, arguments=arguments, path=call.http.path,
        bind_headers=("idempotency-key",), run=None, action_sha256="ac" * 32,
        as_said=as_said,
    )  # fmt: skip
    assert text.sha256 == sha256(text.text.encode()).hexdigest()
    said: dict[str, Any] = json.loads(text.text)
    return said


@pytest.mark.parametrize(
    ("hidden", "shown"),
    [("\u202e", "\\u202e"), ("\u200b", "\\u200b"), ("\u2066", "\\u2066"), ("\ufeff", "\\ufeff"),
     ("\x1b[2J", "\\u001b[2J"), ("\r\n", "\\u000d\\u000a"), ("\U000e0041", "\\U000e0041"),
     ("\u2028", "\\u2028"), ("\ud800", "\\ud800"),
     # Letters, marks and symbols that nobody sees, and what passes for a blank.
     ("\u3164", "\\u3164"), ("\uffa0", "\\uffa0"), ("\u115f\u1160", "\\u115f\\u1160"),
     ("\u2800", "\\u2800"), ("\u034f", "\\u034f"), ("\u17b4", "\\u17b4"), ("\u180b", "\\u180b"),
     ("\ufe0f", "\\ufe0f"), ("\U000e0101", "\\U000e0101"), ("\u00a0", "\\u00a0"),
     ("\u2003\u3000", "\\u2003\\u3000"),
     # More marks than any script has on one letter are drawn over other lines.
     ("\u0301" * 6, "\u0301" * 4 + "\\u0301" * 2)],
)  # fmt: skip
def test_e6_what_cannot_be_seen_stands_as_an_escape(hidden: str, shown: str) -> None:
    said = reads({f"na{hidden}me": [f"pay{hidden}ana"]}, {"tool": hidden}, called=f"t{hidden}")
    assert said["authorize"] == {"tool": shown}
    assert said["arguments"] == {f"na{shown}me": [f"pay{shown}ana"]}
    assert said["called"] == f"t{shown}" and said["is_escaped"] and not said["is_cut"]
    plain = "Grüße, 世界 <b>&amp; e\u0301 שָׁלוֹם ที่นี่ བསྒྲུབས དྷཱུྃ हिन्दी 🙂"
    said = reads({"a": plain})
    assert said["arguments"] == {"a": plain} and not said["is_escaped"]


def test_e6_two_names_that_look_alike_stay_two() -> None:
    said = reads({"a\u200b": 1, "a\\u200b": 2})
    assert sorted(said["arguments"].values()) == [1, 2]


def test_e6_what_is_cut_says_how_much_is_missing() -> None:
    said = reads({"a": "x" * (TEXT_LENGTH_MAX + 5), "b": list(range(MEMBERS_MAX + 3))})
    assert said["is_cut"] and "[cut: 5 of " in said["arguments"]["a"]
    assert said["arguments"]["b"][-1] == f"… [cut: 3 of {MEMBERS_MAX + 3} items more]"
    whole = reads({f"n{number}": "\u202e" * 4000 for number in range(40)})
    assert whole["is_cut"] and len(json.dumps(whole)) < 3 * ALL_LENGTH_MAX
    assert not reads({"a": "x" * TEXT_LENGTH_MAX})["is_cut"], "positive control"


def test_what_is_not_kept_is_not_shown_and_says_so() -> None:
    assert reads(None)["arguments"] == NOT_KEPT
    said = reads({"what": "***"})
    assert said["headers"] == {"idempotency-key": ["k1"]} and "Bearer" not in json.dumps(said)
    assert (said["reason"], said["agent"], said["tool"]) == ("buys tea", "coder", "shop/buy")
