"""The console over real rooms: every page, every form, in every role; and what may not be done."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from urllib.parse import urlencode

import pytest
from api_setup import HOSTILE, ROLES, Served, ids_of, key_of, served_api
from console_setup import PATHS, browser, notice
from yarl import URL

from sidecar.clock import Clock
from sidecar.control.console import sessions as session_module
from sidecar.control.console.actions import ACTIONS
from sidecar.control.console.assets import KINDS
from sidecar.control.console.mount import COOKIE, HEADERS
from sidecar.control.console.page import route_of
from sidecar.control.console.rendering import FOLDER, Templates
from sidecar.control.console.sessions import Sessions
from sidecar.control.console.table import PAGES, TABS
from sidecar.ledger.boot_entries import NO_STOP, UNKNOWN, Before, Boot, started
from sidecar.ledger.chain import seal
from sidecar.ledger.receipt import blank_receipt
from sidecar.model import Person, Role
from storage.records import Entry

HOUR_US = 3_600_000_000


@pytest.mark.parametrize("role", ["admin", "viewer"])
async def test_every_page_is_made_and_shows_nothing_of_others(
    served_by_each: Served, role: str
) -> None:
    assert set(PATHS) == {page.path for page in PAGES}, "every page is tried"
    await notice(served_by_each)
    at = await browser(served_by_each).sign_in("acme", role)
    for path in PATHS.values():
        status, text = await at.open(path.format(**ids_of("acme")))
        assert status == 200, (path, text[-2000:])
        assert "rival" not in text, path
        assert "<script>alert" not in text, path
        assert "c4n4ry5ecret" not in text, path
        assert re.search(r'<nav aria-label="Pages">', text)
    status, text = await at.open(f"/approvals/{ids_of('acme')['approval_id']}")
    assert HOSTILE.replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#39;") in text
    await at.client.close()


async def test_g8_what_is_another_tenants_is_not_there(served: Served) -> None:
    await notice(served)
    at = await browser(served).sign_in()
    for path in (
        "/calls/{call_id}", "/approvals/{approval_id}", "/agents/{agent_id}",
        "/incidents/{incident_id}",
    ):  # fmt: skip
        own, foreign = (path.format(**ids_of(tenant)) for tenant in ("acme", "rival"))
        assert (await at.open(own))[0] == 200, "positive control"
        status, text = await at.open(foreign)
        assert status == 404 and "not_found" in text
        unknown = await at.open(path.format(**dict.fromkeys(ids_of("acme"), "none")))
        assert unknown[0] == 404
    fields = {"csrf": at.csrf or (await at.open("/agents"), at.csrf)[1]}
    approval_id = ids_of("rival")["approval_id"]
    assert (await at.send("/do/approve", fields | {"approval_id": approval_id}))[0] == 404
    agent_id = ids_of("rival")["agent_id"]
    assert (await at.send("/do/freeze_agent", fields | {"agent_id": agent_id}))[0] == 404
    await at.client.close()


async def test_nobody_sees_a_page_who_is_not_signed_in(served: Served) -> None:
    at = browser(served)
    for path in PATHS.values():
        status, text = await at.open(path.format(**ids_of("acme")))
        assert status == 200 and "Your key" in text and "Sign out" not in text
    for cookie in ("", "x" * 43, "é", "a" * 5000):
        name = f"{COOKIE}_{URL(served.url).port}"
        at.client.cookie_jar.update_cookies({name: cookie}, URL(served.url))
        assert "Your key" in (await at.open("/calls"))[1]
    async with at.client.get(f"{served.url}/console/live/calls", allow_redirects=False) as answer:
        assert answer.status == 303
    async with at.client.get(f"{served.url}/console/live/pressure") as answer:
        assert "Your key" in await answer.text()
    await at.client.close()


async def test_g8_keys_that_are_nobodys_or_have_no_role_do_not_sign_in(served: Served) -> None:
    at = browser(served)
    for key in ("", "wrong", "nobody-key", "x" * 10_000, "acme-admin-key\n\x00"):
        status, text, _ = await at.send("/sign-in", {"key": key})
        assert status == 401 and "Your key" in text and COOKIE not in str(at.client.cookie_jar)
    status, _, there = await at.send(
        "/sign-in", {"key": key_of("acme", "viewer"), "back": "/console/calls?decision=deny"}
    )
    assert (status, there) == (303, "/console/calls?decision=deny"), "positive control"
    (cookie,) = list(at.client.cookie_jar)
    assert cookie["httponly"] and cookie["samesite"] == "Strict" and cookie["path"] == "/console"
    assert not cookie["secure"], "plain HTTP: TLS sets it"
    await at.client.close()


async def test_g8_a_cookie_won_over_https_is_kept_to_it_where_something_else_ends_tls(
    served: Served,
) -> None:
    at = browser(served)
    host = served.url.partition("://")[2]
    for scheme, is_secure in (("http", ""), ("https", True), ("HTTPS", True)):
        at.client.cookie_jar.clear()
        fields = {"key": key_of("acme", "viewer")}
        assert (await at.send("/sign-in", fields, Origin=f"{scheme}://{host}"))[0] == 303
        (cookie,) = list(at.client.cookie_jar)
        assert cookie["secure"] == is_secure, scheme
    await at.client.close()


@pytest.mark.parametrize("back", [
    "https://evil.example/", "//evil.example", "/\\evil.example", "/console\\..\\x",
    "/console\r\nX: y", "/consoleevil", "javascript:alert(1)", "/console/é", "/v1/keys",
    "/console/" + "a" * 3000,
])  # fmt: skip
async def test_g8_a_form_leads_nowhere_else(served: Served, back: str) -> None:
    at = browser(served)
    fields = {"key": key_of("acme", "viewer"), "back": back}
    assert (await at.send("/sign-in", fields))[2] == "/console"
    await at.client.close()


async def test_g8_forms_that_are_not_ours_do_nothing(served: Served) -> None:
    at = await browser(served).sign_in()
    before = await served.seq()
    agent_id = ids_of("acme")["agent_id"]
    whole = {"csrf": at.csrf, "agent_id": agent_id, "reason": "why"}
    other = await browser(served).sign_in()
    for fields in (whole | {"csrf": ""}, whole | {"csrf": other.csrf}, {"agent_id": agent_id}):
        status, text, _ = await at.send("/do/freeze_agent", fields)
        assert status == 403 and "form_not_ours" in text
    for origin in ("https://evil.example", "null", ""):
        status, text, _ = await at.send("/do/freeze_agent", whole, Origin=origin)
        assert status == 403, origin
    assert (await at.send("/do/freeze_agent", whole, Host="evil.example"))[0] == 421
    assert (await at.send("/sign-out", {"csrf": other.csrf}))[0] == 403
    async with at.client.get(f"{served.url}/console/do/freeze_agent", params=whole) as answer:
        assert answer.status in (404, 405)
    assert await served.seq() == before, "nothing was recorded"
    status, _, there = await at.send("/do/freeze_agent", whole | {"back": "/console/agents"})
    assert (status, there) == (303, "/console/agents"), "positive control"
    assert "The agent is frozen" in (await at.open("/agents"))[1]
    assert "The agent is frozen" not in (await at.open("/agents"))[1], "told once"
    await at.client.close()
    await other.client.close()


@pytest.mark.parametrize("role", ROLES)
async def test_a_form_does_what_the_role_may_and_no_more(served: Served, role: str) -> None:
    await notice(served)
    at = await browser(served).sign_in("acme", role)
    await at.open("/agents")
    ids = ids_of("acme") | {
        "seq": "1", "agent_key": "fresh", "upstream": "mail", "tools": "send",
        "action": "block-tool", "subject": "shop/none", "text": "seen",
    }  # fmt: skip
    for action in ACTIONS:
        route = route_of(action)
        names = {one.name for one in route.parameters} | set(
            route.body.model_fields if route.body else ()
        )
        fields = {name: value for name, value in ids.items() if name in names}
        status, text, _ = await at.send(f"/do/{action}", fields | {"csrf": at.csrf})
        may = Role(role) in route.roles
        assert (status == 403 and "role_required" in text) is not may, (action, status, text[-800:])
    await at.client.close()


async def test_forms_take_their_own_fields_only(served: Served) -> None:
    at = await browser(served).sign_in()
    agent_id = ids_of("acme")["agent_id"]
    wrong = [
        ("freeze_agent", {"agent_id": agent_id, "tenant": "rival"}, 400),
        ("freeze_agent", {}, 400),
        ("freeze_agent", {"agent_id": agent_id, "reason": "x" * 2000}, 400),
        ("verify_range", {"from_seq": "one"}, 400),
        ("verify_receipt", {"seq": "1", "reason": "none"}, 400),
        ("make_key", {"name": "x"}, 404),
        ("no_such", {}, 404),
    ]
    for action, fields, expected in wrong:
        await at.open("/agents")
        status, text, _ = await at.send(f"/do/{action}", fields | {"csrf": at.csrf})
        assert status == expected, (action, fields, text[-500:])
    async with at.client.post(
        f"{served.url}/console/do/freeze_agent", json={}, headers={"Origin": served.url}
    ) as answer:
        assert answer.status == 415
    big = {"csrf": at.csrf, "agent_id": agent_id, "reason": "x" * 70_000}
    assert (await at.send("/do/freeze_agent", big))[0] == 413
    twice = f"csrf={at.csrf}&agent_id={agent_id}&agent_id=other"
    async with at.client.post(
        f"{served.url}/console/do/freeze_agent", data=twice,
        headers={"Origin": served.url, "Content-Type": "application/x-www-form-urlencoded"},
    ) as answer:  # fmt: skip
        assert answer.status == 400
    await at.client.close()


async def test_what_is_shown_once_is_shown_and_what_is_verified_is_told(served: Served) -> None:
    at = await browser(served).sign_in()
    fields = {"csrf": at.csrf, "agent_key": "fresh", "owner_team": "", "risk_tier": "low"}
    status, text, _ = await at.send("/do/register_agent", fields)
    assert status == 200 and re.search(r'class="secret">[^<]{20,}<', text)
    last = str(await served.seq())
    status, text, _ = await at.send(
        "/do/verify_range", {"csrf": at.csrf, "from_seq": "1", "to_seq": last}
    )
    assert status == 200 and "It holds" in text
    assert "Anchored at 12, by a signed head" in text and "unanchored since 13" in text
    assert "the sidecar" not in text and "Silent" not in text, "nothing is told of it"
    await served.store._driver.transaction(  # type: ignore[attr-defined]
        lambda: _spoil(served), ["acme"]
    )
    status, text, _ = await at.send("/do/verify_receipt", {"csrf": at.csrf, "seq": "2"})
    assert status == 200 and "It does not hold" in text
    await at.client.close()


async def test_a_verdict_names_a_yes_that_nobody_gave(served: Served) -> None:
    row = blank_receipt("acme", "intent", event_id="f", call_id="f", ts_us=Clock().now_us() + 10**9)
    forged = row._replace(approval_id="ap-forged", approver="<b>boss")
    await served.store.record([Entry(forged)], seal)
    at = await browser(served).sign_in()
    fields = {"csrf": at.csrf, "from_seq": "1", "to_seq": "13"}
    status, text, _ = await at.send("/do/verify_range", fields)
    assert status == 200 and "It holds" in text
    told = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", text))
    assert (
        "Receipt 13: the call went ahead by a yes of &lt;b&gt;boss for approval ap-forged" in told
    )
    assert "no receipt says that it was given" in told
    await at.client.close()


async def test_a_verdict_tells_of_silences_and_says_that_the_chain_holds(served: Served) -> None:
    boots, at_us = ("boot-1", "<b onclick='x'>boot-2"), (await served.store.head("acme")).ts_us
    for number, boot in enumerate(boots):
        before = Before(boots[1], NO_STOP) if number else Before("", UNKNOWN)
        entry = started(Clock(), "acme", Boot("n1", boot, HOUR_US), before)
        row = entry.receipt._replace(ts_us=at_us + 5 * number * HOUR_US)
        await served.store.record([Entry(row)], seal)
    at = await browser(served).sign_in()
    status, text, _ = await at.send(
        "/do/verify_range", {"csrf": at.csrf, "from_seq": "1", "to_seq": "14"}
    )
    assert status == 200 and "It holds" in text
    told = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", text))
    assert "Silent for 5 h after receipt 13 of " in told
    assert "one was due every 1 h, and no stop is on record." in told
    assert "No stop is on record of the boot before receipt 14" in told
    assert "At the end of them the sidecar ran, and a receipt was due every 1 h" in told
    assert "<b onclick" not in text and "&lt;b onclick" in text
    await at.client.close()


def _spoil(served: Served):  # type: ignore[no-untyped-def]
    from storage.driver import fetch

    sql = "UPDATE receipts SET agent_id = 'other' WHERE tenant_id = ?1 AND seq = 2 RETURNING 1"
    return (yield from fetch(sql, "acme"))


async def test_filters_and_pages_are_those_of_the_api(served: Served) -> None:
    at = await browser(served).sign_in("rival")
    status, text = await at.open("/calls?limit=2&decision=")
    assert status == 200 and text.count("<tr hx-disable>") == 2
    following = re.search(r'href="(/console/calls[^"]+cursor[^"]+)"', text)
    assert following is not None
    status, more = await at.open(following[1].replace("&amp;", "&").removeprefix("/console"))
    assert status == 200 and more != text
    assert (await at.open("/calls?cursor=abc"))[0] == 400
    assert (await at.open("/calls?colour=red"))[0] == 400
    assert (await at.open("/calls?limit=9999"))[0] == 400
    assert (await at.open("/policies/file?file=/etc/passwd"))[0] == 404
    status, text = await at.open("/policies/file?file=policies/shop.yaml")
    assert status == 200 and 'class="rule"' in text and "shop/small" in text
    other = await browser(served).sign_in("acme")
    path = "/policies/file?file=policies/shop.yaml"
    assert (await other.open(path))[0] == 404, "a rule in it is about the rival alone"
    await other.client.close()
    described = urlencode({"describe": '{"call": "shop/refund", "args": {"amount": 7}}'})
    status, text = await at.open(f"/policies?{described}")
    assert status == 200 and "args.amount" in text and 'class="tag yes"' in text
    assert "{&#34;call&#34;: &#34;shop/get&#34;" in (await at.open("/policies"))[1]
    assert "Describe the call" in (await at.open("/policies?describe=nothing"))[1]
    await at.client.close()


async def test_pages_tell_what_holds_an_agent_and_what_matched_then(served: Served) -> None:
    at = await browser(served).sign_in()
    _, text = await at.open("/agents/coder-acme")
    assert "Nothing is active that holds for this agent alone." in text
    assert "block-tool" not in text.partition("What was changed")[0], "that holds for everybody"
    for agent in ("coder-acme", "stored-acme"):
        body = {"action": "block-tool", "subject": f"shop/{agent}", "agent": agent, "reason": "r"}
        status, said, _ = await served.ask("/v1/containments", method="POST", body=body)
        assert status == 200, said
    _, text = await at.open("/agents/coder-acme")
    held = text.partition("<h3>Contained")[2].partition("</section>")[0]
    assert "shop/coder-acme" in held and "Undo" in held and "shop/stored-acme" not in held
    path = served.policies._base / "policies" / "shop.yaml"
    path.write_text(path.read_text().replace("id: small", "id: another-name"))
    await served.policies.reload()
    _, text = await at.open("/calls/refund-acme")
    then, _, now = text.partition("Every rule that names the tool")
    assert "shop/small" in then.partition("Rules that matched then")[2]
    assert "shop/another-name" in now and "shop/small" not in now.partition("</section>")[0]
    await at.client.close()


async def test_a_containment_of_a_name_nobody_is_called_by_says_so(served: Served) -> None:
    at = await browser(served).sign_in()
    for subject, meant in (("shop/refnd", "did you mean shop/refund?"), ("shop/refund", "")):
        body = {"action": "block-tool", "subject": subject}
        _, said, _ = await served.ask("/v1/containments", method="POST", body=body)
        assert said["state"] == "active"
        assert (said["remark"] or "").endswith(meant) and bool(said["remark"]) is bool(meant)
    for subject, tells in (("shop/gte", True), ("shop/get", False)):
        fields = {"csrf": at.csrf, "action": "block-tool", "subject": subject}
        assert (await at.send("/do/contain", fields))[0] == 303
        _, text = await at.open("/containments")
        assert "It is contained" in text
        assert ("But: no catalogue declares shop/gte" in text) is tells
    await at.client.close()


async def test_the_overview_tells_what_is_added_and_what_is_held(served: Served) -> None:
    at = await browser(served).sign_in()
    _, text = await at.open("")
    assert re.search(r"<b>—</b><span>added to a call</span>", text)
    assert re.search(r"<b>0</b><span>held now</span>", text)
    for _ in range(100):
        served.api._rooms.state._sources.counters.added_seconds.observe_ns(1_500_000)
    _, text = await at.open("")
    assert re.search(r"<b>1.5 ms</b><span>added to a call, 99 % below 2.0 ms</span>", text)
    _, said, _ = await served.ask("/v1/store")
    assert said["calls"] == {
        "in_flight": 0, "held": 0,
        "added": {"calls": 100, "p50_s": 0.0015, "p99_s": pytest.approx(0.00199)},
    }  # fmt: skip
    await at.client.close()


async def test_calls_appear_as_they_are_recorded(served: Served) -> None:
    at = await browser(served).sign_in()
    async with at.client.get(f"{served.url}/console/live/calls?decision=deny") as answer:
        assert answer.content_type == "text/event-stream"
        assert await answer.content.readline() == b"retry: 2000\n"
        await served.recorder.call("acme", "allowed-now", args={"id": "1"})
        await served.recorder.call("acme", "refused-now", "shop/refund", {"amount": 99})
        await served.recorder.call("rival", "foreign-now", "shop/refund", {"amount": 99})
        seen = b""
        async with asyncio.timeout(10):
            while b"refused-now" not in seen:
                seen += await answer.content.readany()
        assert b"event: calls" in seen and b"allowed-now" not in seen
        assert b"foreign-now" not in seen
    await at.client.close()


async def test_g4_a_key_that_ends_ends_its_sessions(tmp_path: Path) -> None:
    async with served_api(tmp_path, has_real_doorman=True) as served:
        status, made, _ = await served.ask(
            "/v1/keys", method="POST", body={"name": "eva", "roles": ["viewer"]}
        )
        assert status == 201
        at = browser(served)
        assert (await at.send("/sign-in", {"key": made["key"]}))[0] == 303
        assert "Sign out" in (await at.open("/calls"))[1], "positive control"
        await served.ask(f"/v1/keys/{made['key_id']}/revoke", method="POST", body={})
        assert "Your key" in (await at.open("/calls"))[1]
        await at.client.close()


async def test_signing_out_ends_the_session_for_whoever_has_the_cookie(served: Served) -> None:
    at = await browser(served).sign_in()
    (cookie,) = list(at.client.cookie_jar)
    assert (await at.send("/sign-out", {"csrf": at.csrf}))[0] == 303
    at.client.cookie_jar.update_cookies({cookie.key: cookie.value}, URL(served.url + "/console"))
    assert "Your key" in (await at.open("/calls"))[1]
    await at.client.close()


async def test_a_sign_in_at_another_port_of_the_host_signs_nobody_out(served: Served) -> None:
    at = await browser(served).sign_in()
    other = {"Host": "127.0.0.1:1", "Origin": "http://127.0.0.1:1"}
    assert "Your key" in (await at.open("/calls", Host="127.0.0.1:1"))[1], "another's cookie"
    sent = await at.send("/sign-in", {"key": key_of("rival", "viewer")}, **other)
    assert (sent[0], sent[2]) == (303, "/console")
    assert "coder-rival" in (await at.open("/agents", Host="127.0.0.1:1"))[1], "positive control"
    assert "coder-acme" in (await at.open("/agents"))[1]
    for host in ("[::2", "a:b", "a:123456", ":", "127.0.0.1"):
        url = f"{served.url}/console/calls"
        async with at.client.get(url, headers={"Host": host}) as answer:
            text = await answer.text()
            assert answer.status < 500 and "Sign out" not in text, (host, answer.status)
    await at.client.close()


async def test_files_of_pages_are_served_and_no_others(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = FOLDER.parent / "static"
    there = {name: (folder / name).read_bytes() for name in KINDS}

    def not_now(path: Path) -> bytes:
        raise AssertionError(f"{path} is read while somebody waits")

    monkeypatch.setattr(Path, "read_bytes", not_now)
    at = browser(served)
    for name, kind in KINDS.items():
        url = f"{served.url}/console/static/{name}"
        async with at.client.get(url) as answer:
            assert (answer.status, answer.content_type) == (200, kind)
            assert await answer.read() == there[name]
            mark, caching = answer.headers["ETag"], answer.headers["Cache-Control"]
            assert ("immutable" in caching) == (".min." in name) == (caching != "no-cache")
        for known, status in ((mark, 304), (f'"x", W/{mark}', 304), ("*", 304), ('"x"', 200),
                              ("nonsense", 200)):  # fmt: skip
            async with at.client.get(url, headers={"If-None-Match": known}) as answer:
                assert answer.status == status, (name, known)
                assert (await answer.read() == b"") == (status == 304)
                assert answer.headers["ETag"] == mark
                assert answer.headers["Cache-Control"] == caching
                for header in HEADERS.keys() - {"Cache-Control"}:
                    assert answer.headers[header] == HEADERS[header]
    for name in ("..%2Fmount.py", "uplot.LICENSE", "..", "%2e%2e%2f__init__.py"):
        url = URL(f"{served.url}/console/static/{name}", encoded=True)
        async with at.client.get(url) as answer:
            assert answer.status == 404
    async with at.client.get(served.url, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "/console")
    for path, there in (("/", "/console"), ("/calls/", "/console/calls"), ("//x//", "/console//x"),
                        ("//", "/console")):  # fmt: skip
        url = URL(f"{served.url}/console{path}", encoded=True)
        async with at.client.get(url, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, there), path
    status, text = await at.open("/nothing")
    assert status == 404 and "there is no such page" in text and "<nav" not in text
    await at.client.close()


# -- without a listener --------------------------------------------------------------------------


class _Doorman:
    def __init__(self) -> None:
        self.roles: frozenset[Role] = frozenset({Role.VIEWER})

    async def person(self, authorization: str | None, address: str) -> Person | None:
        return Person("acme", "eva", "key:k1", self.roles)


class _Clock(Clock):
    moved_s = 0.0

    def monotonic_ns(self) -> int:  # type: ignore[override]
        return int(1e9 + self.moved_s * 1e9)


async def test_sessions_end_when_idle_when_old_and_when_roles_are_gone() -> None:
    for gap_s, rounds, is_over in (
        (session_module.IDLE_S - 1, 1, False),
        (session_module.IDLE_S + 1, 1, True),
        (session_module.IDLE_S / 2, 30, True),
    ):
        clock, doorman = _Clock(), _Doorman()
        sessions = Sessions(doorman, clock)
        token = await sessions.begin("key", "::1") or ""
        found = None
        for _ in range(rounds):
            clock.moved_s += gap_s
            found = await sessions.find(token, "::1")
        assert (found is None) is is_over, gap_s
    clock, doorman = _Clock(), _Doorman()
    sessions = Sessions(doorman, clock)
    token = await sessions.begin("key", "::1") or ""
    doorman.roles = frozenset()
    assert await sessions.find(token, "::1") is None and len(sessions) == 0
    assert await sessions.begin("key", "::1") is None


async def test_there_are_so_many_sessions_and_the_idlest_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_module, "SESSIONS_MAX", 3)
    sessions = Sessions(_Doorman(), _Clock())
    tokens = [await sessions.begin("key", "::1") or "" for _ in range(3)]
    assert await sessions.find(tokens[0], "::1") is not None
    tokens.append(await sessions.begin("key", "::1") or "")
    there = [await sessions.find(token, "::1") is not None for token in tokens]
    assert there == [True, False, True, True]
    found = await sessions.find(tokens[0], "::1")
    assert len(set(tokens)) == 4 and found is not None and "key" not in repr(found[0])


def test_nothing_hides_in_what_a_template_prints() -> None:
    templates = Templates()
    made = templates._environment.from_string("{{ text }}|{{ text | pretty }}")
    shown = made.render(text="a<b>\u202e\x1b[31m\x00\u200bz\n\tend")
    assert "<b>" not in shown and "&lt;b&gt;" in shown
    assert not set("\u202e\x1b\x00\u200b") & set(shown)
    assert "\n\tend" in shown, "lines stay lines"


def test_every_template_compiles_and_every_tab_leads_to_a_page() -> None:
    templates = Templates()
    for path in FOLDER.glob("*.html"):
        templates._environment.get_template(path.name)
    assert {path for _, path in TABS} <= {page.path for page in PAGES}
    assert {page.tab for page in PAGES} == {word for word, _ in TABS}
