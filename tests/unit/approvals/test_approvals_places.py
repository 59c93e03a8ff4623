"""E6: whatever an approver may decide by, each place shows all of it: the page of a signed link,
the console, the command line, and what sinks are sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from html import unescape
from typing import Any

import pytest

from sidecar.approvals.asked import ALL_LENGTH_MAX, NOT_KEPT, Asked, asked
from sidecar.approvals.difference import compared
from sidecar.approvals.entries import ASK
from sidecar.approvals.states import Term, Terms, Vote, read_terms, terms_text, votes_text
from sidecar.approvals.view import shown
from sidecar.cli.approvals import _lines
from sidecar.control.approval_news import ApprovalNews
from sidecar.control.console.link_page import LinkPage
from sidecar.control.console.rendering import Templates
from sidecar.model import Decision, Effect, HttpFacts, Principal, Tool, ToolCall, TrustLevel
from sidecar.policy.runs import RunState
from sidecar.policy.terms import ApprovalTerms
from sidecar.soc.deliveries import OWN_MEMBERS, Told
from sidecar.soc.delivering import outgoing
from sidecar.soc.model import Severity
from sidecar.soc.sinks import cef, slack
from storage.standing import ApprovalRow

AGENT = Principal("acme", "coder", user="<u>ser")
CALL = ToolCall(
    "c1", Tool("files", "unknown"), "tools/call", {}, HttpFacts("POST", "/mcp", "", "::1", {}),
    "", (("x-note", "<n>ote"),), b"", "mcp", called="<b>delete_everything",
)  # fmt: skip
RUN = RunState(TrustLevel.TRUSTED_INTERNAL_SIGNED, frozenset({"<l>abel"}), 31)
ASKS = Decision(
    Effect.REQUIRE_APPROVAL, "approval_required", "<r>eason", "rev", "p/asks", "h",
    approvals=(ApprovalTerms("p/asks", ()),),
)  # fmt: skip


def row_of(
    *,
    called: str | None = CALL.called,
    arguments: dict[str, Any] | None = None,
    beside: dict[str, Any] | None = None,
    keeps: bool = True,
) -> ApprovalRow:
    text = asked(
        AGENT, CALL._replace(called=called), ASKS,
        arguments=(arguments or {"what": "<a>rgument"}) if keeps else None, path="/m<c>p",
        bind_headers=("x-note",), run=RUN,
        action_sha256="5e" * 32, beside=beside or {"inputResponses": {"<i>d": "<y>es"}},
        as_said={"tool": "mcp:<f>iles", "mutates_state": True},
    )  # fmt: skip
    return row_with(text)


def row_with(text: Asked) -> ApprovalRow:
    terms = Terms((Term("p/asks", "h", (), 1),), "<u>ser", text.sha256)
    return ApprovalRow(
        "acme", "a1", 1, "pending", "ac" * 32, "coder", "c1", "files/unknown", terms_text(terms),
        text.text, "[]", 7, 9, 7, "",
    )  # fmt: skip


def told(row: ApprovalRow) -> str:
    """The body that is put for sinks; what a webhook and a line of JSON say is this."""
    news = ApprovalNews((Told("ops", Severity.LOW),), lambda: 5, lambda: None)
    (delivery,) = news.rows(ASK, row, row, "agent:coder", "")
    return delivery.body


def on_slack(row: ApprovalRow) -> str:
    news = ApprovalNews((Told("ops", Severity.LOW),), lambda: 5, lambda: None)
    (delivery,) = news.rows(ASK, row, row, "agent:coder", "")
    return str(slack.message(outgoing(delivery, {}))["text"])


def in_syslog(row: ApprovalRow) -> str:
    news = ApprovalNews((Told("ops", Severity.LOW),), lambda: 5, lambda: None)
    (delivery,) = news.rows(ASK, row, row, "agent:coder", "")
    return cef.message(outgoing(delivery, {}), "n1", cef.DATAGRAM_BYTES_MAX).decode()


def in_the_console(row: ApprovalRow) -> str:
    text = (
        '{% import "_macros.html" as show with context %}'
        "{{ show.asked_for(one) }}{{ show.arguments(one.asked) }}"
    )
    return str(Templates()._environment.from_string(text).render(one=shown(row), prefix=""))


PLACES: dict[str, Callable[[ApprovalRow], str]] = {
    "link": lambda row: LinkPage().approval(shown(row), "ana", None, ""),
    "console": in_the_console,
    "command line": lambda row: "\n".join(_lines(shown(row))),
    "webhook": told,
    "slack": on_slack,
}


def leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, one in value.items():
            yield name
            yield from leaves(one)
    elif isinstance(value, list):
        for one in value:
            yield from leaves(one)
    elif not isinstance(value, bool):
        yield str(value)


@pytest.mark.parametrize("place", PLACES)
def test_e6_every_member_of_what_is_asked_is_shown_in_every_place(place: str) -> None:
    row = row_of()
    said = json.loads(row.asked)
    said.pop("action_sha256" if place in ("console", "slack") else "nothing", None)
    values = {name: list(leaves(value)) for name, value in said.items()}
    values["run"] = [str(said["run"]["calls"]), said["run"]["trust"], *said["run"]["labels"]]
    values["authorize"] = [said["authorize"]["tool"]]
    assert {"called", "beside", "authorize", "user", "run", "risk"} <= values.keys()
    text = unescape(PLACES[place](row))
    for name, texts in values.items():
        for one in texts:
            assert one in text, (name, one)


#: Ends its line, writes another one, turns what follows round, and hides all the rest.
HOSTILE = "bo\n  tool       files/read\u202e\x1b[8m"


@pytest.mark.parametrize("place", ["link", "console", "command line"])
def test_e6_nothing_hides_in_the_user_an_agent_names_or_in_what_a_voter_said(place: str) -> None:
    row, vote = row_of(), Vote("person:cy", "cy", True, HOSTILE, 5, ("p/asks",))
    terms = read_terms(row.terms)._replace(user=HOSTILE)
    said = PLACES[place](row._replace(terms=terms_text(terms), votes=votes_text([vote])))
    assert not {"\x1b", "\u202e"} & set(said)
    assert "\n  tool       files/read" not in said
    plain = PLACES[place](row._replace(votes=votes_text([vote._replace(reason="fine")])))
    if place != "console":  # its votes stand elsewhere
        assert "fine" in plain and "\\u202e" in said, "positive control"


@pytest.mark.parametrize("place", ["link", "console", "command line", "webhook"])
def test_e6_a_member_that_no_place_knows_is_shown_all_the_same(place: str) -> None:
    text = json.dumps({**json.loads(row_of().asked), "later": {"<z>": ["<k>ept"]}})
    row = row_with(Asked(text, sha256(text.encode()).hexdigest()))
    said = PLACES[place](row)
    for one in ("later", "<z>", "<k>ept"):
        assert one in unescape(said)
    assert "later" not in PLACES[place](row_of()), "positive control"


@pytest.mark.parametrize("place", ["link", "console", "slack"])
def test_e6_none_of_it_is_more_than_text(place: str) -> None:
    text = PLACES[place](row_of())
    for value in ("<b>d", "<r>", "<a>", "<y>", "<i>", "<f>", "<l>", "<n>", "<c>"):
        assert value not in text


def test_e6_a_syslog_message_names_what_was_called() -> None:
    assert "called cs3=<b>delete_everything" in in_syslog(row_of())


def test_e6_the_list_of_the_command_line_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    from sidecar.cli.approvals import _print_list

    _print_list([shown(row_of())], as_json=False)
    assert "files/unknown (<b>delete_everything)" in capsys.readouterr().out


def test_e6_long_arguments_leave_room_for_the_name_of_what_is_called() -> None:
    many = {f"n{number}": "x" * 4096 for number in range(ALL_LENGTH_MAX // 4096 + 1)}
    row = row_of(arguments=many, beside=many)
    said = json.loads(row.asked)
    assert said["is_cut"] and said["called"] == "<b>delete_everything"
    assert (said["reason"], said["path"]) == ("<r>eason", "/m<c>p")
    body = json.loads(told(row_of(arguments={f"n{n}": "\u00e9" * 4000 for n in range(9)})))
    assert body["is_cut"] and body["approval"]["called"] == "<b>delete_everything"
    assert len(body["approval"]) <= OWN_MEMBERS, "none of our own members is cut away"


CHANGED: tuple[tuple[dict[str, Any], str, str], ...] = (
    ({"called": "echo"}, "changed", "called"),
    ({"called": None}, "added", "called"),
    ({"beside": {"inputResponses": {"<i>d": "no"}}}, "changed", "beside.inputResponses.<i>d"),
    ({"beside": {"task": {}}}, "added", "beside.inputResponses"),
)


@pytest.mark.parametrize(("before", "what", "at"), CHANGED)
def test_e6_a_yes_for_another_name_or_beside_other_answers_is_not_the_same(
    before: dict[str, Any], what: str, at: str
) -> None:
    found = compared(row_of(), row_of(**before))
    assert found is not None
    assert (what, at) in [(one["what"], one["at"]) for one in found["differences"]]
    same = compared(row_of(), row_of())
    assert same is not None and same["differences"] == [], "positive control"


def test_e6_what_is_not_kept_is_not_said_to_be_the_same() -> None:
    row = row_of(keeps=False)
    assert json.loads(row.asked)["beside"] == NOT_KEPT
    found = compared(row, row)
    assert found is not None and not found["is_whole"]
    assert [(one["what"], one["at"]) for one in found["differences"]] == [
        ("unknown", "beside"), ("unknown", "arguments"),
    ]  # fmt: skip


ALIKE: tuple[tuple[Any, Any], ...] = (
    ("7", 7), ("true", True), ("null", None), ("-1.5", -1.5), ('["a"]', ["a"]),
    ('{"a": 1}', {"a": 1}),
)  # fmt: skip


@pytest.mark.parametrize(("text", "other"), ALIKE)
def test_e6_what_reads_alike_is_told_apart(text: str, other: Any) -> None:
    """An agent may send a text where a number was approved; the tool may take it otherwise."""
    told = ["\n".join(_lines(shown(row_of(arguments={"x": one})))) for one in (text, other)]
    assert f"x = {json.dumps(text)}" in told[0] and f"x = {json.dumps(other)}" in told[1]
    found = compared(row_of(arguments={"x": text}), row_of(arguments={"x": other}))
    assert found is not None
    (one,) = found["differences"]
    assert one["now"] == json.dumps(text) != one["before"]


def test_e6_a_plain_text_stands_as_it_is_and_a_name_is_one() -> None:
    arguments = {"note": "the customer called", "amount = 5": 1, "when": "2026-12-01", "t": "tea"}
    told = "\n".join(_lines(shown(row_of(arguments=arguments))))
    for line in ("note = the customer called", '"amount = 5" = 1', "when = 2026-12-01", "t = tea"):
        assert line in told
