"""E7: signed links of approvals. Forged, replayed, prefetched; over a real control listener."""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import dataclasses
import hmac
import json
import os
import pwd
import re
import socket
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession, UnixConnector
from kept_figures import keep_figures
from yarl import URL

from sidecar.app import Sidecar, running
from sidecar.approvals.links import Link, read, signed
from sidecar.approvals.refusals import ApprovalRefused
from sidecar.cli import approvals as cli_approvals
from sidecar.config.load import load_config
from sidecar.control import approval_care
from sidecar.ledger.fence import Standing

LINK = Link("acme", "a1", "ana", ("finance",), 100)
KEY = b"k" * 32
POLICY = """policy: p
rules:
  - id: asks
    effect: require_approval
    tools: shop/buy
    reason: "<script>{args.what}</script>"
    approval: {approvers: finance, quorum: 2}
"""
#: Who may be given a link, as sidecar.yaml says it; vic may not.
PEOPLE = """tenants:
  default:
    agents: {agent: {}}
    people:
      ana: {roles: [approver], groups: [finance], key: {file: ana.key}}
      bo: {roles: [approver], groups: [finance, law], key: {file: bo.key}}
      eve: {roles: [admin], groups: [law], key: {file: eve.key}}
      vic: {roles: [viewer], groups: [finance], key: {file: vic.key}}
"""


@dataclasses.dataclass
class Served:
    """A sidecar with one call that waits, and a client."""

    sidecar: Sidecar
    folder: Path
    client: ClientSession
    approval_id: str

    async def link(self, name: str, *groups: str) -> str:
        connector = UnixConnector(path=str(self.folder / "control.sock"))
        asked = {"id": self.approval_id, "name": name, "groups": groups}
        async with (
            ClientSession(connector=connector) as session,
            session.post("http://localhost/approvals/link", json=asked) as reply,
        ):
            assert reply.status == 200, await reply.text()
            url: str = (await reply.json())["url"]
        return url

    async def ask(self, act: str, **more: object) -> tuple[int, dict[str, Any]]:
        """One of the verbs of `approvals`, or another path, over control.sock."""
        connector = UnixConnector(path=str(self.folder / "control.sock"))
        path = act if act.startswith("/") else f"/approvals/{act}"
        asked = {"id": self.approval_id, **more}
        async with (
            ClientSession(connector=connector) as session,
            session.post(f"http://localhost{path}", json=asked) as reply,
        ):
            return reply.status, await reply.json()

    async def vote(self, url: str, vote: str) -> ClientResponse:
        async with self.client.post(url, json={"vote": vote}) as reply:
            await reply.read()
            return reply

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """What stands in the store."""
        with contextlib.closing(sqlite3.connect(self.folder / "aegis.db")) as store:
            return store.execute(statement).fetchall()

    async def state(self) -> tuple[str, int]:
        row = await self.sidecar.approvals.deciding.found("default", self.approval_id)
        return row.state, row.version


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("", 0)) as other:
        data, control = one.getsockname()[1], other.getsockname()[1]
    (tmp_path / "p").mkdir()
    (tmp_path / "p/c.yaml").write_text("catalogue: shop\ntools: {buy: 'POST /buy/{what}'}\n")
    (tmp_path / "p/p.yaml").write_text(POLICY)
    (tmp_path / "sidecar.yaml").write_text(
        f"listen: {{data: '127.0.0.1:{data}', control: '127.0.0.1:{control}'}}\npolicies: ./p\n"
        "upstreams: {shop: {url: 'http://127.0.0.1:9'}}\napprovals: {hold: 0s}\n" + PEOPLE
    )
    for name in ("ana", "bo", "eve", "vic"):
        (tmp_path / f"{name}.key").write_text(f"{name}-0123456789abcdefghijklmnop")
        (tmp_path / f"{name}.key").chmod(0o600)
    loaded = load_config(tmp_path / "sidecar.yaml", {}, ())
    config = loaded.config
    assert config is not None, loaded.problems
    keep_figures(tmp_path)
    async with running(config) as sidecar, ClientSession() as client:
        async with client.post(f"{sidecar.data_url}/shop/buy/tea") as reply:
            approval_id = (await reply.json())["approval"]
        yield Served(sidecar, tmp_path, client, approval_id)


async def test_e7_looking_changes_nothing_and_a_vote_counts_once(served: Served) -> None:
    url = await served.link("ana", "finance")
    before = await served.state()
    for headers in ({"Accept": "text/html"}, {}):
        for _ in range(3):
            async with served.client.get(url, headers=headers) as page:
                assert page.status == 200
                text = await page.text()
        async with served.client.head(url) as reply:
            assert reply.status == 200
    assert await served.state() == before == ("pending", 1), "a mail scanner decides on nothing"
    assert (await served.vote(url, "approve")).status == 200
    assert await served.state() == ("pending", 2), "one of two"
    for vote in ("approve", "reject"):
        assert (await served.vote(url, vote)).status == 409, "replayed"
    assert await served.state() == ("pending", 2)
    assert (await served.vote(await served.link("bo", "finance"), "approve")).status == 200
    assert await served.state() == ("approved", 3)
    row = await served.sidecar.approvals.deciding.show("default", served.approval_id)
    assert '"link:ana"' in row.votes and '"link:bo"' in row.votes and text


async def test_e6_the_page_is_text_and_loads_and_runs_nothing(served: Served) -> None:
    url = await served.link("ana", "finance")
    async with served.client.get(url, headers={"Accept": "text/html"}) as page:
        text = await page.text()
    assert "<script>" not in text and "&lt;script&gt;tea&lt;/script&gt;" in text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert page.headers["Referrer-Policy"] == "same-origin" and "<button" in text


NO_LINKS: tuple[tuple[dict[str, object], str], ...] = (
    ({"name": "zoe"}, "unknown_person"),
    ({"name": "zoe", "groups": ["finance"]}, "unknown_person"),
    ({"name": "vic"}, "unknown_person"),
    ({"name": "ana", "groups": ["law"]}, "not_in_group"),
    ({"name": "eve", "groups": ["finance"]}, "not_in_group"),
    ({"name": "Ana"}, "malformed_request"),
)


@pytest.mark.parametrize(("asked", "code"), NO_LINKS)
async def test_g10_a_link_is_good_for_nobody_who_is_not_known_as_an_approver(
    served: Served, asked: dict[str, object], code: str
) -> None:
    """One who may make links would fill a quorum alone with names that he makes up."""
    status, answer = await served.ask("link", **asked)
    assert (status, answer["code"]) == (409, code)
    assert answer["next_step"]
    assert served.rows("SELECT action FROM receipts WHERE action = 'approval.link'") == []
    assert (await served.ask("link", name="ana"))[0] == 200, "positive control"


async def test_g10_who_made_a_link_for_whom_is_on_record_before_it_is_there(served: Served) -> None:
    url = await served.link("bo", "law")
    me = f"socket:{pwd.getpwuid(os.geteuid()).pw_name}"
    ((seq, approver, approval_id, commitment),) = served.rows(
        "SELECT seq, approver, approval_id, args_commitment FROM receipts "
        "WHERE kind = 'approval' AND action = 'approval.link'"
    )
    assert (approver, approval_id) == (me, served.approval_id)
    ((text, salt),) = served.rows(f"SELECT arguments, salt FROM call_facts WHERE seq = {seq}")
    assert hmac.digest(bytes.fromhex(salt), text.encode(), "sha256").hex() == commitment
    said, link = json.loads(text), {"for": "bo", "groups": ["law"]}
    assert (said["actor"], said["state"]) == (me, "pending") and link.items() <= said[
        "link"
    ].items()
    ((actor, subject, before, after),) = served.rows(
        f"SELECT actor, subject, before_state, after_state FROM audit_event WHERE seq = {seq}"
    )
    assert (actor, subject) == (me, served.approval_id)
    assert json.loads(before)["state"] == "pending" and json.loads(after) == said["link"]
    assert await served.state() == ("pending", 1), "it changes nothing"
    assert (await served.vote(url, "reject")).status == 403, "as one of law alone, as it was asked"
    every = await served.link("bo")
    assert (await served.vote(every, "reject")).status == 200, (
        "without a group as one of all of his"
    )


async def test_g10_no_link_is_made_that_cannot_be_recorded(served: Served) -> None:
    fence = served.sidecar.approvals.changes._fence
    fence.stand(Standing("f", "x", "", 0))
    status, answer = await served.ask("link", name="ana")
    assert (status, answer["code"]) == (409, "store_fenced") and "url" not in answer
    fence.lift()
    assert (await served.ask("link", name="ana"))[0] == 200, "positive control"


async def test_g10_whoever_has_a_key_of_that_role_may_be_given_a_link(served: Served) -> None:
    made = {"name": "kim", "roles": ["approver"], "groups": ["finance"]}
    assert (await served.ask("link", name="kim"))[1]["code"] == "unknown_person"
    _, key = await served.ask("/keys/create", **made)
    await served.ask("/keys/create", **{**made, "name": "ci", "roles": ["viewer"]})
    assert (await served.ask("link", name="ci"))[1]["code"] == "unknown_person"
    assert (await served.vote(await served.link("kim"), "approve")).status == 200
    await served.ask("/keys/revoke", key_id=key["key_id"])
    assert (await served.ask("link", name="kim"))[1]["code"] == "unknown_person"


async def test_g10_whoever_is_no_approver_any_more_decides_by_no_link(served: Served) -> None:
    """A link was made while he was one; his key was revoked since."""
    made = {"name": "kim", "roles": ["approver"], "groups": ["finance"]}
    _, key = await served.ask("/keys/create", **made)
    _, law = await served.ask("/keys/create", **{**made, "groups": ["law"]})
    url = await served.link("kim")
    async with served.client.get(url) as reply:
        assert reply.status == 200, "positive control"
    assert (await served.ask("/keys/revoke", key_id=key["key_id"]))[0] == 200
    assert (await served.vote(url, "approve")).status == 403, "he has left the group that is asked"
    await served.ask("/keys/revoke", key_id=law["key_id"])
    for vote in ("approve", "reject"):
        async with served.client.post(url, json={"vote": vote}) as reply:
            assert (reply.status, (await reply.json())["code"]) == (403, "approver_gone")
    async with served.client.get(url, headers={"Accept": "text/html"}) as page:
        text = await page.text()
    assert page.status == 403 and "/buy/" not in text and "no approver" in text
    assert await served.state() == ("pending", 1)
    await served.ask("/keys/create", **made)
    assert (await served.vote(url, "approve")).status == 200, "he is one again"


async def test_the_page_fits_a_telephone_and_asks_only_whom_it_can(served: Served) -> None:
    """Chats lead there."""
    url = await served.link("ana")
    pages = []
    for send in (served.client.get, served.client.post, served.client.get):
        form = {"data": {"vote": "approve", "reason": "so"}} if send == served.client.post else {}
        async with send(url, headers={"Accept": "text/html"}, **form) as page:
            assert page.status == 200
            pages.append(await page.text())
            policy = page.headers["Content-Security-Policy"]
    (sheet,) = re.findall('rel="stylesheet" href="([^"]+)"', pages[0])
    async with served.client.get(URL(url).with_path(sheet)) as reply:
        assert reply.status == 200 and "style-src 'self'" in policy
    assert all('name="viewport"' in one and "UTC" in one for one in pages)
    assert ['value="approve"' in one for one in pages] == [True, False, False]
    assert "Your yes is on record." in pages[1] and "This person has voted" in pages[2]
    assert "/buy/tea" in pages[0] and "0 of 2" in pages[0] and "1 of 2" in pages[2]
    first = pages[0].index("<button")  # what the return key in a field presses
    assert pages[0][first:].startswith("<button hidden disabled></button>")


async def test_e6_nobody_reads_or_votes_on_what_the_store_was_changed_to(served: Served) -> None:
    url = await served.link("ana", "finance")
    with contextlib.closing(sqlite3.connect(served.folder / "aegis.db")) as store:
        ((text,),) = store.execute("SELECT asked FROM approval").fetchall()

    def change(asked: str) -> None:
        with contextlib.closing(sqlite3.connect(served.folder / "aegis.db")) as store:
            assert store.execute("UPDATE approval SET asked = ?", (asked,)).rowcount == 1
            store.commit()

    change(text.replace("/buy/tea", "/buy/pin"))
    before = await served.state()
    for headers in ({"Accept": "text/html"}, {}):
        async with served.client.get(url, headers=headers) as page:
            said = await page.text()
        assert page.status == 409 and "/buy/" not in said and "<button" not in said
    assert (await served.vote(url, "approve")).status == 409
    for act, asked in (("show", {}), ("approve", {}), ("reject", {}), ("link", {"name": "bo"})):
        status, answer = await served.ask(act, **asked)
        assert (status, answer["code"]) == (409, "approval_altered"), act
        assert "withdraw" in answer["next_step"]
    _, listed = await served.ask("list")
    (listed_one,) = listed["approvals"]
    assert listed_one["asked"]["is_altered"] and "/buy/" not in str(listed_one)
    assert await served.state() == before
    change(text)
    assert (await served.vote(url, "approve")).status == 200, "positive control"
    change(text.replace("/buy/tea", "/buy/pin"))
    status, answer = await served.ask("withdraw")
    assert (status, answer["state"]) == (200, "withdrawn"), "that makes only stricter"


async def test_e7_forged_links_and_foreign_groups(served: Served) -> None:
    url = await served.link("ana", "finance")
    base, _, link = url.rpartition("/")
    said, _, signature = link.partition(".")
    forged = base64.urlsafe_b64encode(b'["default","x","eve",["finance"],9e18]').decode()
    altered = ("B" if signature[0] == "A" else "A") + signature[1:]
    for other in (f"{forged}.{signature}", f"{said}.{altered}", said, f"{said}.", "x.y",
                  f"{said}=.{signature}", signed(LINK, KEY)):  # fmt: skip
        assert (await served.vote(f"{base}/{other}", "approve")).status in (403, 404), other
        async with served.client.get(f"{base}/{other}") as reply:
            assert reply.status in (403, 404)
    assert (await served.vote(await served.link("eve", "law"), "approve")).status == 403
    async with served.client.post(url, data={"vote": "maybe"}) as reply:
        assert reply.status == 400
    assert await served.state() == ("pending", 1)
    async with served.client.post(url, data={"vote": "reject", "reason": "no"}) as reply:
        assert reply.status == 200, "positive control, as a form"
    assert await served.state() == ("rejected", 2)


def test_a_link_reads_as_it_was_signed_until_it_is_over() -> None:
    text = signed(LINK, KEY)
    assert read(text, KEY, 99) == LINK
    assert LINK.person.actor == "link:ana" and LINK.person.groups == {"finance"}
    for key, at_us, code in ((KEY, 100, "expired_link"), (b"x" * 32, 99, "forged_link")):
        with pytest.raises(ApprovalRefused) as refused:
            read(text, key, at_us)
        assert refused.value.code == code


async def test_the_command_line_lists_and_watches_all_that_wait(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hundreds of one agent's questions stood before what was asked last, which was never shown."""
    monkeypatch.setattr(approval_care, "LISTED_MAX", 2)
    ids = [served.approval_id]
    for number in range(6):
        async with served.client.post(f"{served.sidecar.data_url}/shop/buy/{number}") as reply:
            ids.append((await reply.json())["approval"])
    where = served.folder / "control.sock"
    found = await asyncio.to_thread(cli_approvals._waiting, where, "")
    assert [one["approval_id"] for one in found] == sorted(ids) and len(ids) == 7
    after = await asyncio.to_thread(cli_approvals._waiting, where, "", sorted(ids)[3])
    assert [one["approval_id"] for one in after] == sorted(ids)[4:]

    looks = 0

    def look_thrice(_: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(cli_approvals.time, "sleep", look_thrice)
    args = argparse.Namespace(tenant="", json=False)
    with pytest.raises(KeyboardInterrupt):
        await asyncio.to_thread(cli_approvals._watch, args, where)
    printed = capsys.readouterr().out
    assert [printed.count(f"{one}  pending") for one in ids] == [1] * 7, "each is shown once"


def test_what_is_watched_is_looked_for_some_time_back() -> None:
    now = "01a2304dff4b7be5a98947d9556ed3d4"
    before = cli_approvals._some_time_before(now)
    assert int(now[:12], 16) - int(before, 16) == cli_approvals.OVERLAP_MS and before < now
    assert cli_approvals._some_time_before("") == ""
