"""Signed links on the control listener: GET shows what is asked, POST is the vote by the link.

Knows: that a GET may come from a mail scanner and changes nothing; that whom a link names may have
lost the role or the group since, so that both are asked about whenever it is followed; that nothing
on its page may be framed or scripted, or loaded from elsewhere.
Must not know: how a link is signed, how a vote is counted, what its page looks like.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from aiohttp import web

from sidecar.approvals.deciding import vote_refused
from sidecar.approvals.links import PATH, Link
from sidecar.approvals.refusals import ApprovalRefused
from sidecar.approvals.view import shown
from sidecar.control.continuing import invite
from sidecar.errors import Refused
from storage.errors import StoreError

if TYPE_CHECKING:
    from sidecar.approvals.service import Approvals
    from sidecar.control.console.link_page import LinkPage
    from storage.standing import ApprovalRow

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    # Nothing is told to other sites. Not `no-referrer`: browsers then send a form with the Origin
    # null, which the listener refuses.
    "Referrer-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
}
BODY_WAIT_S: Final = 10.0
_VOTES: Final = ("approve", "reject")

#: The groups of a tenant's approver of a name as he stands now; None if there is none. Raises
#: StoreError.
GroupsOf = Callable[[str, str], Awaitable[frozenset[str] | None]]


class LinkPages:
    """The two routes of one sidecar's links."""

    def __init__(self, approvals: Approvals, groups_of: GroupsOf) -> None:
        self._deciding, self._links = approvals.deciding, approvals.links
        self._groups_of = groups_of
        self._page: LinkPage | None = None

    def add_to(self, app: web.Application) -> None:
        """Serves them."""
        app.router.add_get(f"{PATH}/{{link}}", self._show)
        app.router.add_post(f"{PATH}/{{link}}", self._vote)

    async def _show(self, request: web.Request) -> web.Response:
        try:
            link = await self._followed(request)
            row = await self._deciding.show(link.tenant, link.approval_id)
        except (ApprovalRefused, StoreError) as refused:
            return self._refused(request, refused)
        return self._answer(request, row, link)

    async def _vote(self, request: web.Request) -> web.Response:
        try:
            link = await self._followed(request)
        except (ApprovalRefused, StoreError) as refused:
            return self._refused(request, refused)
        asked = await _asked(request)
        word, reason = asked.get("vote"), asked.get("reason", "")
        if word not in _VOTES or not isinstance(reason, str):
            return self._problem(
                request, 400, "malformed_request", "vote is approve or reject", "Send one of them."
            )
        try:
            decide = self._deciding.approve if word == "approve" else self._deciding.reject
            row = await decide(link.tenant, link.approval_id, link.person, reason)
        except (ApprovalRefused, StoreError, Refused) as refused:
            return self._refused(request, refused)
        return self._answer(request, row, link, done=word)

    async def _followed(self, request: web.Request) -> Link:
        """The link of a request, for its person as he stands now: whoever is no approver any more
        decides on nothing, and a group that he has left counts no more. Raises ApprovalRefused,
        StoreError."""
        link = await self._links.read(request.match_info["link"])
        groups = await self._groups_of(link.tenant, link.name)
        if groups is None:
            raise ApprovalRefused("approver_gone")
        return link._replace(groups=tuple(one for one in link.groups if one in groups))

    # -- answers: as JSON, or for a browser as a page ------------------------------------------

    def _answer(
        self, request: web.Request, row: ApprovalRow, link: Link, done: str = ""
    ) -> web.Response:
        content = shown(row)
        if not _wants_page(request):
            return _json(200, content)
        refused = vote_refused(row, link.person)
        return _html(200, self._pages().approval(content, link.name, refused, done))

    def _refused(
        self, request: web.Request, error: ApprovalRefused | StoreError | Refused
    ) -> web.Response:
        if isinstance(error, ApprovalRefused):
            return self._problem(request, error.status, error.code, error.title, error.next_step)
        return self._problem(request, 503, error.code, "It cannot be recorded now", "Try again.")

    def _problem(
        self, request: web.Request, status: int, code: str, title: str, next_step: str
    ) -> web.Response:
        if _wants_page(request):
            return _html(status, self._pages().problem(code, title, next_step))
        return _json(status, {"code": code, "title": title, "next_step": next_step})

    def _pages(self) -> LinkPage:
        # Here, for a sidecar whose links nobody follows should not load what renders pages.
        if self._page is None:
            from sidecar.control.console.link_page import LinkPage

            self._page = LinkPage()
        return self._page


async def _asked(request: web.Request) -> dict[str, Any]:
    """The members of a form or a JSON object; {} for anything else."""
    await invite(request)
    try:
        async with asyncio.timeout(BODY_WAIT_S):
            raw = (await request.read()).decode()
        if request.content_type == "application/json":
            asked = json.loads(raw)
            return asked if isinstance(asked, dict) else {}
        if request.content_type == "application/x-www-form-urlencoded":
            return dict(parse_qsl(raw, errors="strict", max_num_fields=8))
    except (ValueError, RecursionError, TimeoutError, ConnectionError):
        return {}
    return {}


def _wants_page(request: web.Request) -> bool:
    return "text/html" in request.headers.get("Accept", "")


def _json(status: int, content: Mapping[str, Any]) -> web.Response:
    return web.Response(
        status=status, body=json.dumps(content).encode() + b"\n",
        content_type="application/json", charset="utf-8", headers=_HEADERS,
    )  # fmt: skip


def _html(status: int, text: str) -> web.Response:
    return web.Response(
        status=status, text=text, content_type="text/html", charset="utf-8", headers=_HEADERS
    )
