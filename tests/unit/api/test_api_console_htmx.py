"""htmx in the console: what it is told, what tools cannot tell it, and that it is trusted with
nothing: who may do what is asked as if it were not there."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import urlencode

import pytest
from api_setup import HOSTILE, Served, ids_of, key_of, terms_and_text
from console_setup import PATHS, browser, notice
from page_marks import Element, marks_of
from yarl import URL

from sidecar.control.console import htmx
from sidecar.control.console.rendering import Templates
from sidecar.ledger.receipt import blank_receipt
from storage.records import Entry, Recorded

#: What may stand on a page for htmx; anything that could hold code is not in it.
SAID = {
    "hx-get", "hx-post", "hx-target", "hx-select", "hx-select-oob", "hx-swap", "hx-sync",
    "hx-trigger", "hx-ext", "sse-connect", "sse-close", "sse-swap",
}  # fmt: skip
AS_HTMX = {"HX_Request": "true", "HX_Target": "page"}
#: Pages that show what an agent or a tool's server chose, and so how often at least.
HOSTILE_ON = {
    "/calls/hostile-call": 2, "/approvals": 2, "/approvals/{approval_id}": 1, "/tools": 1,
    "/receipts/{seq}": 2, "/containments": 1, "/agents/{agent_id}": 2, "/changes": 1,
    "/incidents/{incident_id}": 1, "/policies/shadow": 0,
}  # fmt: skip


async def _hostile(served: Served) -> int:
    """Markup wherever an agent, a tool's server or a person may put some; the seq of the call."""
    await notice(served)
    call = await served.recorder.call(
        "acme", "hostile-call", args={"id": HOSTILE}, run_id=HOSTILE, trace_id=HOSTILE
    )
    ids = ids_of("acme")
    contain = {"action": "freeze-agent", "subject": ids["agent_id"], "reason": HOSTILE}
    note = f"/v1/incidents/{ids['incident_id']}/note"
    for path, body in (("/v1/containments", contain), (note, {"text": HOSTILE})):
        status, said, _ = await served.ask(path, method="POST", body=body)
        assert status in (200, 201), said
    return call.seq


async def test_what_tools_and_agents_choose_is_text_that_htmx_leaves_alone(served: Served) -> None:
    seq = await _hostile(served)
    at = await browser(served).sign_in()
    ids = ids_of("acme") | {"seq": str(seq)}
    described = "/policies?" + urlencode({"describe": json.dumps({"call": HOSTILE})})
    paths = {path.format(**ids): least for path, least in HOSTILE_ON.items()}
    for path, least in {**paths, described: 1}.items():
        status, text = await at.open(path)
        assert status == 200, (path, text[-1500:])
        marks = marks_of(text)
        assert not [one for one in marks if "h0stile" in " ".join(one.htmx.values())], path
        assert not [one for one in marks if one.tag == "script" and one.text], path
        texts = [one for one in marks if "h0stile" in one.text and one.tag != "textarea"]
        assert len(texts) >= least, (path, len(texts))
        for one in texts:
            assert one.is_disabled, (path, one.tag, [above.tag for above in one.above])
    await at.client.close()


async def test_what_comes_live_is_rows_of_text(served: Served) -> None:
    at = await browser(served).sign_in()
    forged = f"{HOSTILE}\r\nevent: over\r\ndata: \r\n\r\n"
    async with at.client.get(f"{served.url}/console/live/calls") as answer:
        assert answer.headers["Vary"] == htmx.VARY
        assert await answer.content.readline() == b"retry: 2000\n"
        await served.recorder.call("acme", "hostile-now", tool="shop/get", rule_id=forged)
        seen = b""
        async with asyncio.timeout(10):
            while b"hostile-now" not in seen or not seen.endswith(b"\n\n"):
                seen += await answer.content.readany()
    assert [line for line in seen.splitlines() if line.startswith(b"event:")] == [b"event: calls"]
    rows = "\n".join(
        line.removeprefix("data: ") for line in seen.decode().split("\n") if line[:6] == "data: "
    )
    marks = marks_of(rows)
    assert {one.tag for one in marks if not one.above} == {"tr"}
    assert all(one.attributes.get("class") == "new" for one in marks if one.tag == "tr")
    assert [one.tag for one in marks if "h0stile" in one.text] == ["td"]
    assert not [one for one in marks if one.htmx or not one.is_disabled or one.tag == "script"]
    await at.client.close()


@pytest.mark.parametrize("role", ["admin", "viewer"])
async def test_pages_say_to_htmx_what_their_forms_do_without_it(served: Served, role: str) -> None:
    await notice(served)
    at = await browser(served).sign_in("acme", role)
    seen: set[str] = set()
    for path in PATHS.values():
        _, text = await at.open(path.format(**ids_of("acme")))
        marks = marks_of(text)
        for one in marks:
            assert "style" not in one.attributes and one.tag != "style", path
            assert not [name for name in one.attributes if name.startswith("on")], path
            assert one.tag != "script" or (one.attributes["src"] and not one.text), path
            assert set(one.htmx) <= SAID, (path, one.htmx)
            assert not one.htmx or not one.is_disabled, (path, one)
            assert "[" not in one.htmx.get("hx-trigger", ""), "a filter is code"
            seen |= set(one.htmx)
            _leads_where_it_did(one, path)
            if "hx-target" in one.htmx:
                assert _is_there(one, marks), (path, one.htmx)
        (settings,) = [m for m in marks if m.attributes.get("name") == "htmx-config"]
        assert settings.attributes["content"] == htmx.SETTINGS
        ids = [one.attributes["id"] for one in marks if "id" in one.attributes]
        assert {"notice", "problem", "page"} <= set(ids) and len(ids) == len(set(ids)), path
    assert role == "viewer" or seen == SAID, "each is used on some page"
    await at.client.close()


def _leads_where_it_did(one: Element, path: str) -> None:
    """A form goes to the same place with htmx and without."""
    if one.tag != "form":
        return
    action, method = one.attributes["action"], one.attributes["method"]
    if action in ("/console/sign-in", "/console/sign-out") or method == "get":
        assert one.htmx.get("hx-get", action) == action, path
        return
    assert one.htmx["hx-post"] == action, path
    assert one.htmx["hx-sync"] == "this:drop", "what is sent twice is done once"


def _is_there(one: Element, marks: list[Element]) -> bool:
    target = one.htmx["hx-target"]
    if target.startswith("#"):
        return any(other.attributes.get("id") == target[1:] for other in marks)
    wanted = target.removeprefix("find .")
    inside = [other for other in marks if one in other.above]
    return any(other.attributes.get("class") == wanted for other in inside)


def test_htmx_is_told_to_evaluate_keep_and_fetch_nothing() -> None:
    settings = json.loads(htmx.SETTINGS)
    for name in (
        "allowEval", "allowScriptTags", "includeIndicatorStyles", "historyEnabled",
        "historyRestoreAsHxRequest", "allowNestedOobSwaps",
    ):  # fmt: skip
        assert settings[name] is False, name
    assert settings["historyCacheSize"] == 0
    assert settings["selfRequestsOnly"] is True and settings["disableInheritance"] is True
    last = settings["responseHandling"][-1]
    assert last["code"] == "..." and last["swap"] and last["error"], "what failed is shown"


async def test_whoever_is_signed_out_is_told_where_to_sign_in(served: Served) -> None:
    at = browser(served)
    for path, stands_at, back in (
        ("/approvals", f"{served.url}/console/approvals?state=any", "/console/approvals?state=any"),
        ("/policies?describe=x", f"{served.url}/console/policies", "/console/policies"),
        ("/approvals", "https://evil.example//evil.example/x", "/console"),
        ("/approvals", "http://[", "/console"),
        ("/approvals", "", "/console"),
    ):
        headers = {"HX-Request": "true", "HX-Current-URL": stands_at}
        url = URL(f"{served.url}/console{path}", encoded=True)
        async with at.client.get(url, headers=headers, allow_redirects=False) as answer:
            assert answer.status == 401 and answer.headers["Vary"] == htmx.VARY
            there = URL(answer.headers["HX-Redirect"])
            assert there.path == "/console/sign-in" and not there.host
            assert there.query["back"] == back
    status, _, there = await at.send("/do/approve", {"csrf": "x"})
    assert (status, there) == (303, "/console/sign-in"), "without it as ever"
    async with at.client.post(
        f"{served.url}/console/do/approve", data={"csrf": "x"},
        headers={"Origin": served.url, "HX-Request": "true"},
    ) as answer:  # fmt: skip
        assert answer.status == 401 and "HX-Redirect" in answer.headers
    await at.client.close()


async def test_g8_nothing_is_believed_of_who_says_that_he_is_htmx(served: Served) -> None:
    at = await browser(served).sign_in()
    viewer = await browser(served).sign_in("acme", "viewer")
    before = await served.seq()
    whole = {"csrf": at.csrf, "agent_id": ids_of("acme")["agent_id"]}
    for fields, headers, expected in (
        (whole | {"csrf": ""}, {}, 403),
        (whole | {"csrf": viewer.csrf}, {}, 403),
        (whole, {"Origin": "https://evil.example"}, 403),
        (whole, {"Origin": "null"}, 403),
        (whole, {"Origin": ""}, 403),
        (whole, {"Host": "evil.example"}, 421),
    ):
        status, _, _ = await at.send("/do/freeze_agent", fields, **AS_HTMX, **headers)
        assert status == expected, (fields, headers)
    await viewer.open("/agents")
    fields = whole | {"csrf": viewer.csrf}
    status, text, _ = await viewer.send("/do/freeze_agent", fields, **AS_HTMX)
    assert status in (400, 403) and 'id="page"' in text, "told in the part that htmx shows"
    assert await served.seq() == before, "nothing was recorded"
    assert (await at.send("/do/freeze_agent", whole, **AS_HTMX))[0] == 303, "positive control"
    await at.client.close()
    await viewer.client.close()


async def test_a_notice_waits_for_the_answer_that_shows_it(served: Served) -> None:
    at = await browser(served).sign_in()
    fields = {"csrf": at.csrf, "agent_id": ids_of("acme")["agent_id"], "back": "/console/agents"}
    assert (await at.send("/do/freeze_agent", fields, **AS_HTMX))[0] == 303
    for unseen in ({"HX_Target": "inbox"}, {"HX_Target": "explained"}, {}):
        _, text = await at.open("/approvals", HX_Request="true", **unseen)
        assert "The agent is frozen" not in text, unseen
    _, text = await at.open("/agents", **AS_HTMX)
    (told,) = [one for one in marks_of(text) if one.attributes.get("id") == "notice"]
    assert "The agent is frozen" in text and told.attributes["role"] == "status"
    assert "The agent is frozen" not in (await at.open("/agents"))[1], "told once"
    await at.client.close()


async def test_a_yes_is_given_where_the_list_is_and_a_receipt_verified_where_it_stands(
    served: Served,
) -> None:
    ids = ids_of("acme")
    for role, may in (("admin", True), ("approver", True), ("viewer", False), ("operator", False)):
        at = await browser(served).sign_in("acme", role)
        _, text = await at.open("/approvals")
        assert ("Approve" in text) is may, role
        await at.client.close()
    at = await browser(served).sign_in("acme", "approver")
    marks = marks_of((await at.open("/approvals"))[1])
    (form, *_) = [one for one in marks if one.attributes.get("class") == "vote"]
    fields = _fields(form, marks)
    assert fields["approval_id"].endswith(ids["approval_id"])
    status, _, there = await at.send("/do/approve", fields | {"reason": "seen"}, **AS_HTMX)
    assert (status, there) == (303, "/console/approvals")
    voted = marks_of((await at.open("/approvals", **AS_HTMX))[1])
    ids_there = [_fields(one, voted)["approval_id"] for one in voted if _is_vote(one)]
    assert fields["approval_id"] not in ids_there and len(ids_there) == 1, "he has said his"
    await at.client.close()
    at = await browser(served).sign_in("acme", "auditor")
    await at.open("/receipts/1")
    status, text, _ = await at.send("/do/verify_receipt", {"csrf": at.csrf, "seq": "1"}, **AS_HTMX)
    (verdict,) = [one for one in marks_of(text) if one.attributes.get("class") == "verdict"]
    said = [
        one for one in marks_of(text) if verdict.attributes in [a.attributes for a in one.above]
    ]
    assert status == 200 and "It holds" in " ".join(one.text for one in said)
    await at.client.close()


def _is_vote(one: Element) -> bool:
    return one.attributes.get("class") == "vote"


def _fields(form: Element, marks: list[Element]) -> dict[str, str]:
    inputs = [one for one in marks if one.tag == "input" and form in one.above]
    return {one.attributes["name"]: one.attributes.get("value", "") for one in inputs}


async def test_what_does_not_fit_is_read_before_it_is_answered(served: Served) -> None:
    """What was cut cannot be approved where the rest of it cannot be read."""
    row = await served.reader.approval("acme", ids_of("acme")["approval_id"])
    assert row is not None
    terms, cut = terms_and_text(json.loads(row.asked) | {"is_cut": True})
    made = row._replace(approval_id="cut-one", action_sha256="cut", terms=terms, asked=cut)
    receipt = blank_receipt("acme", "approval", event_id="e1", call_id=None, ts_us=2**50)
    assert isinstance(await served.queue.submit(Entry(receipt, puts=(made,))), Recorded)
    at = await browser(served).sign_in("acme", "approver")
    marks = marks_of((await at.open("/approvals"))[1])
    offered = [_fields(one, marks)["approval_id"] for one in marks if _is_vote(one)]
    assert len(offered) == 2 and "cut-one" not in offered
    (link,) = [one for one in marks if one.text == "Read it before you answer"]
    assert link.attributes["href"] == "/console/approvals/cut-one"
    marks = marks_of((await at.open("/approvals/cut-one"))[1])
    assert [_fields(one, marks)["approval_id"] for one in marks if _is_vote(one)] == ["cut-one"]
    await at.client.close()


async def test_e6_what_the_store_was_changed_to_is_neither_shown_nor_voted_on(
    served: Served,
) -> None:
    row = await served.reader.approval("acme", ids_of("acme")["approval_id"])
    assert row is not None
    other = json.dumps(json.loads(row.asked) | {"path": "/orders/altered"})
    made = row._replace(approval_id="altered-one", action_sha256="altered", asked=other)
    receipt = blank_receipt("acme", "approval", event_id="e1", call_id=None, ts_us=2**50)
    assert isinstance(await served.queue.submit(Entry(receipt, puts=(made,))), Recorded)
    at = await browser(served).sign_in("acme", "approver")
    text = (await at.open("/approvals"))[1]
    marks = marks_of(text)
    offered = [_fields(one, marks)["approval_id"] for one in marks if _is_vote(one)]
    assert len(offered) == 2 and "altered-one" not in offered, "the others, and not this one"
    assert "/orders/altered" not in text and "not what was asked" in text
    status, text = await at.open("/approvals/altered-one")
    assert status == 409 and "/orders/altered" not in text and "withdraw" in text
    await at.client.close()
    approver = key_of("acme", "approver")
    path = "/v1/approvals/altered-one"
    for way, send in (("", {}), ("/approve", {"body": {}}), ("/reject", {"body": {}})):
        more = {"method": "POST", **send} if way else {}
        said = await served.ask(path + way, approver, **more)
        assert (said[0], said[1]["code"]) == (409, "approval_altered"), way
    said = await served.ask(f"{path}/withdraw", approver, method="POST", body={})
    assert (said[0], said[1]["state"]) == (200, "withdrawn")
    assert said[1]["asked"]["is_altered"] and "/orders/altered" not in str(said[1])


def test_a_rendered_part_of_a_page_is_nested() -> None:
    """The parser of these tests finds what is not."""
    with pytest.raises(AssertionError):
        marks_of("<p><b>x</p>")
    with pytest.raises(AssertionError):
        marks_of("<div>")
    made = Templates()._environment.from_string("<p hx-disable>{{ text }}</p>")
    (one,) = marks_of(made.render(text=HOSTILE))
    assert one.is_disabled and one.text == HOSTILE
