"""E6: whoever decides in the console has all of what is asked before him, and a say in it."""

from __future__ import annotations

import json
import time
from hashlib import sha256
from typing import Any

import pytest
from api_setup import Served, ids_of, key_of, terms_and_text
from console_setup import browser
from page_marks import marks_of

from sidecar.approvals.asked import ALL_LENGTH_MAX, TEXT_LENGTH_MAX
from sidecar.approvals.states import Term, Terms, terms_text
from sidecar.control.api import approvals
from sidecar.control.console.rendering import SHOWN_MAX, hurry, in_order, lasting
from sidecar.ledger.receipt import blank_receipt
from storage.records import Entry, Recorded

#: As much as is shown to approvers without being cut, and more than a page shows of other values.
LONG = {f"a{number}": "é" * (TEXT_LENGTH_MAX - 96) for number in range(7)}
assert SHOWN_MAX < sum(map(len, LONG.values())) < ALL_LENGTH_MAX


async def put(
    served: Served, name: str, user: str = "", term: Term | None = None, **asked: Any
) -> None:
    """One more that waits."""
    row = await served.reader.approval("acme", ids_of("acme")["approval_id"])
    assert row is not None
    terms, text = terms_and_text(json.loads(row.asked) | asked)
    if term is not None or user:
        wanted = (term or Term("p/asks", "h", (), 1),)
        terms = terms_text(Terms(wanted, user, sha256(text.encode()).hexdigest()))
    made = row._replace(approval_id=name, action_sha256=name, terms=terms, asked=text)
    receipt = blank_receipt("acme", "approval", event_id=f"e-{name}", call_id=None, ts_us=2**50)
    assert isinstance(await served.queue.submit(Entry(receipt, puts=(made,))), Recorded)


def voted_on(text: str) -> set[str]:
    """The ids that forms of a page vote on."""
    marks = marks_of(text)
    forms = [one for one in marks if one.attributes.get("class") == "vote"]
    return {
        one.attributes["value"]
        for one in marks
        if one.tag == "input"
        and one.attributes.get("name") == "approval_id"
        and any(form in one.above for form in forms)
    }


@pytest.mark.parametrize(
    "arguments",
    [{**LONG, "to": "MALLORY"}, {"list": [*range(60)], "to": "MALLORY"}],
    ids=["long", "many lines"],
)
async def test_e6_all_of_what_is_asked_stands_where_it_is_decided(
    served: Served, arguments: dict[str, Any]
) -> None:
    await put(served, "long-one", arguments=arguments)
    await put(served, "short-one", arguments={"to": "EVE"})
    at = await browser(served).sign_in("acme", "approver")
    _, text = await at.open("/approvals")
    assert "short-one" in voted_on(text) and "EVE" in text, "positive control"
    assert "long-one" not in voted_on(text) and "/console/approvals/long-one" in text
    _, text = await at.open("/approvals/long-one")
    assert voted_on(text) == {"long-one"} and "MALLORY" in text and "[cut]" not in text
    await at.client.close()


def shown(text: str) -> str:
    """As a browser shows it that keeps what stands between `<` and `>` of `bdi` together."""
    return str(in_order(text)).replace("<bdi>", "<").replace("</bdi>", ">")


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("/pay/7/100", "/pay/7/100"),
        ("é ü – 漢字 100/200", "é ü – 漢字 100/200"),
        ("/pay/אבג/100/200", "/pay/<אבג>/100/200"),
        ('"אבג": 100, "דהו": 5', "&#34;<אבג>&#34;: 100, &#34;<דהו>&#34;: 5"),
        ("from דהו שלום to אבג", "from <דהו שלום> to <אבג>"),
        ("א 100 ב 5", "<א> 100 <ב> 5"),
        ("مَرْحَبًا بك", "<مَرْحَبًا بك>"),
        ("/١٠٠/٢٠٠", "/<١٠٠>/<٢٠٠>"),
        ("א<b>ב", "<א>&lt;b&gt;<ב>"),
        ("א\u202eב", "<א>\\u202e<ב>"),
        ("א" * 3 + "  ב", "<אאא>  <ב>"),
    ],
)
def test_e6_what_is_asked_stands_in_the_order_in_which_it_was_written(
    text: str, pieces: str
) -> None:
    assert shown(text) == pieces


def test_e6_long_texts_are_put_in_order_at_once() -> None:
    for text in ("א " * 50_000, "א" + " " * 100_000, "1א" * 50_000, "א\u05b0" * 30_000):
        began = time.perf_counter()
        in_order(text)
        assert time.perf_counter() - began < 2.0


async def test_e6_letters_from_right_to_left_move_no_numbers(served: Served) -> None:
    await put(
        served, "of-two-ways", path="/pay/אבג/100/200", reason="to אבג: 100",
        arguments={"אבג": 100},
    )  # fmt: skip
    at = await browser(served).sign_in("acme", "approver")
    for page in ("/approvals", "/approvals/of-two-ways"):
        _, text = await at.open(page)
        assert "/pay/<bdi>אבג</bdi>/100/200" in text and "to <bdi>אבג</bdi>: 100" in text
        assert "&#34;<bdi>אבג</bdi>&#34;: 100" in text
    await at.client.close()


async def test_the_return_key_in_a_field_says_no_yes(served: Served) -> None:
    """It presses the first button of its form, or none where that one cannot be pressed."""
    await put(served, "one", arguments={"to": "EVE"})
    at = await browser(served).sign_in("acme", "approver")
    for page in ("/approvals", "/approvals/one"):
        _, text = await at.open(page)
        marks = marks_of(text)
        forms = [one for one in marks if one.attributes.get("class") == "vote"]
        assert forms
        for form in forms:
            first = next(one for one in marks if one.tag == "button" and form in one.above)
            assert {"hidden", "disabled"} <= first.attributes.keys()
    await at.client.close()


async def test_whoever_has_no_say_is_not_asked_for_one_and_told_why(served: Served) -> None:
    await put(served, "of-others", term=Term("p/asks", "h", ("law",), 1))
    await put(served, "his-own", user="approver")
    await put(served, "his-to-say", term=Term("p/asks", "h", ("approver",), 1))
    at = await browser(served).sign_in("acme", "approver")
    _, text = await at.open("/approvals")
    assert {"of-others", "his-own", "his-to-say"} & voted_on(text) == {"his-to-say"}
    for name, why in (("of-others", "not yours to decide"), ("his-own", "is asked for you")):
        _, text = await at.open(f"/approvals/{name}")
        assert not voted_on(text) and why in text, name
    await at.client.close()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (95 * 60, "95 min"), (3600, "1 h"),
     (3 * 3600 - 1, "2 h"),     (47 * 3600, "47 h"), (48 * 3600, "2 d")],
)  # fmt: skip
def test_of_the_time_that_is_left_never_more_is_said_than_there_is(seconds: int, said: str) -> None:
    assert lasting(seconds * 1_000_000) == said


def test_a_list_says_how_soon_in_words_that_seldom_change() -> None:
    said = [hurry(seconds * 1_000_000) for seconds in range(0, 7200, 10)]
    assert list(dict.fromkeys(said)) == [
        "less than 2 min left", "less than 15 min left", "less than 1 h left", "",
    ]  # fmt: skip
    assert said.count("less than 2 min left") == 12


async def test_how_many_wait_is_told_to_who_hears_the_page(served: Served) -> None:
    at = await browser(served).sign_in("acme", "approver")
    for path, words in (("", "2 questions."), ("?limit=1", "1 question, and more on the next")):
        _, text = await at.open(f"/approvals{path}")
        (one,) = [one for one in marks_of(text) if one.attributes.get("id") == "how-many"]
        assert one.attributes["role"] == "status" and words in one.text
        assert 'hx-select-oob="#how-many"' in text
    await at.client.close()


async def test_those_that_wait_come_oldest_first_and_the_next_page_says_so(served: Served) -> None:
    at = await browser(served).sign_in("acme", "approver")
    for path, word in (("?limit=1", "Those asked later"), ("?state=any&limit=1", "Older ones")):
        _, text = await at.open(f"/approvals{path}")
        (more,) = [one for one in marks_of(text) if one.attributes.get("rel") == "next"]
        assert more.text == word and "UTC" in text
    await at.client.close()


async def test_what_is_for_good_takes_two_steps_and_what_can_be_undone_one(served: Served) -> None:
    """`Revoke` stands beside `Quarantine`, and nothing undoes it."""
    at = await browser(served).sign_in()
    _, text = await at.open(f"/agents/{ids_of('acme')['agent_id']}")
    await at.client.close()
    steps = {
        one.attributes["action"].rpartition("/")[2]: any(up.tag == "details" for up in one.above)
        for one in marks_of(text)
        if one.tag == "form" and "/do/" in one.attributes.get("action", "")
    }
    folded = {name for name, is_folded in steps.items() if is_folded}
    assert folded == {"revoke_agent", "delete_agent"}
    assert {"freeze_agent", "quarantine_agent"} < steps.keys()


async def test_what_waits_can_be_looked_through_for_an_agent_or_a_tool(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One agent may have hundreds of questions before another's."""
    monkeypatch.setattr(approvals, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(approvals, "LOOKED_THROUGH_MAX", 6)
    row = await served.reader.approval("acme", ids_of("acme")["approval_id"])
    assert row is not None
    for number in range(9):
        other = {"agent_id": "quiet", "tool": "shop/refund"} if number in (4, 8) else {}
        name = f"{number}-one"
        made = row._replace(approval_id=name, action_sha256=name, **other)
        receipt = blank_receipt("acme", "approval", event_id=name, call_id=None, ts_us=2**50)
        assert isinstance(await served.queue.submit(Entry(receipt, puts=(made,))), Recorded)
    key = key_of("acme", "approver")
    for query in ("agent_id=quiet", "tool=shop/refund", "agent_id=quiet&tool=shop/refund&limit=1"):
        found = await served.pages(f"/v1/approvals?{query}", key)
        assert [one["approval_id"] for one in found] == ["4-one", "8-one"], query
    assert await served.pages("/v1/approvals?agent_id=nobody", key) == []
    assert len(await served.pages("/v1/approvals?limit=2", key)) == 11, "positive control"
    at = await browser(served).sign_in("acme", "approver")
    _, text = await at.open("/approvals?agent_id=quiet")
    assert voted_on(text) == {"4-one"} and "agent_id=quiet" in text
    await at.client.close()
