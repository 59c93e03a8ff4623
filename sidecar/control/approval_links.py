"""Signed links on the control listener: GET shows what is asked, POST is the vote by the link.

Knows: that a GET may come from a mail scanner and changes nothing; that what is shown was chosen by
an agent, so that all of it is text, and nothing on the page may be framed, scripted or loaded.
Must not know: how a link is signed, how a vote is counted.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from aiohttp import web

from sidecar.approvals.links import PATH
from sidecar.approvals.refusals import ApprovalRefused
from sidecar.approvals.view import shown
from sidecar.control.continuing import invite
from sidecar.errors import Refused
from sidecar.ledger.recorded_call import AUTHORIZE
from storage.errors import StoreError

if TYPE_CHECKING:
    from sidecar.approvals.service import Approvals

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    # Nothing is told to other sites. Not `no-referrer`: browsers then send a form with the Origin
    # null, which the listener refuses.
    "Referrer-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; form-action 'self'; frame-ancestors 'none'",
}
#: Our words for members of what is asked, in the order in which they are read.
_WORDS: Final[Mapping[str, str]] = {
    "called": "called, which no catalogue declares",
    AUTHORIZE: "in the agent's words",
    "user": "for",
    "method": "method",
    "path": "path",
    "arguments": "arguments",
    "beside": "sent beside the arguments",
    "headers": "headers",
    "risk": "risk",
    "mutates": "changes state",
    "run": "its run",
    "rules": "rules that ask",
    "is_cut": "cut",
    "is_escaped": "escaped",
}
#: Those that stand elsewhere on the page.
_SAID: Final = frozenset({"agent", "tool", "reason", "action_sha256"})
BODY_WAIT_S: Final = 10.0
_VOTES: Final = ("approve", "reject")


def add_link_routes(app: web.Application, approvals: Approvals) -> None:
    """The two of them."""
    deciding, links = approvals.deciding, approvals.links

    async def show(request: web.Request) -> web.Response:
        try:
            link = await links.read(request.match_info["link"])
            row = await deciding.show(link.tenant, link.approval_id)
        except (ApprovalRefused, StoreError) as refused:
            return _refused(request, refused)
        return _answer(request, 200, shown(row), f"You decide as {link.name}")

    async def vote(request: web.Request) -> web.Response:
        try:
            link = await links.read(request.match_info["link"])
        except (ApprovalRefused, StoreError) as refused:
            return _refused(request, refused)
        asked = await _asked(request)
        word, reason = asked.get("vote"), asked.get("reason", "")
        if word not in _VOTES or not isinstance(reason, str):
            said = {"code": "malformed_request", "title": "vote is approve or reject"}
            return _answer(request, 400, said, said["title"])
        try:
            decide = deciding.approve if word == "approve" else deciding.reject
            row = await decide(link.tenant, link.approval_id, link.person, reason)
        except (ApprovalRefused, StoreError, Refused) as refused:
            return _refused(request, refused)
        return _answer(request, 200, shown(row), f"Recorded: {word} by {link.name}")

    app.router.add_get(f"{PATH}/{{link}}", show)
    app.router.add_post(f"{PATH}/{{link}}", vote)


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


def _refused(request: web.Request, error: ApprovalRefused | StoreError | Refused) -> web.Response:
    if isinstance(error, ApprovalRefused):
        said = {"code": error.code, "title": error.title, "next_step": error.next_step}
        return _answer(request, error.status, said, error.title)
    said = {"code": error.code, "title": "It cannot be recorded now", "next_step": "Try again."}
    return _answer(request, 503, said, said["title"])


def _answer(request: web.Request, status: int, content: dict[str, Any], title: str) -> web.Response:
    """As JSON, or for a browser as a page; the page of what waits has the two buttons."""
    if "text/html" not in request.headers.get("Accept", ""):
        body = json.dumps(content).encode() + b"\n"
        kind = "application/json"
    else:
        can_vote = request.method == "GET" and content.get("state") == "pending"
        body, kind = _page(title, content, can_vote=can_vote).encode(), "text/html"
    return web.Response(
        status=status, body=body, content_type=kind, charset="utf-8", headers=_HEADERS
    )


def _rows(content: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """All that is asked under our own words: what names the call first, and no member left out."""
    rows = {
        "state": content["state"],
        "agent": f"{content['tenant']}/{content['agent']}",
        "why": asked["reason"],
        "tool": content["tool"],
    }
    rows |= {word: asked[name] for name, word in _WORDS.items() if name in asked}
    rows |= {name: value for name, value in asked.items() if name not in {*_WORDS, *_SAID}}
    hashes = (content["action_sha256"], asked.get("action_sha256", content["action_sha256"]))
    return rows | {
        "wanted": content["terms"],
        "said": content["votes"],
        "action": " ".join(dict.fromkeys(hashes)),
    }


def _page(title: str, content: dict[str, Any], *, can_vote: bool) -> str:
    lines = [f"<h1>{escape(title)}</h1>"]
    asked = content.get("asked")
    rows = _rows(content, asked) if isinstance(asked, dict) else content
    for name, value in rows.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
        lines.append(f"<h2>{escape(name)}</h2><pre>{escape(text)}</pre>")
    if can_vote:
        lines.append(
            '<form method="post"><p><label>Why <input name="reason" maxlength="300"></label></p><p>'
            '<button name="vote" value="approve">Approve</button> '
            '<button name="vote" value="reject">Reject</button></p></form>'
        )
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Approval</title>'
    return "\n".join([head, *lines, "</html>", ""])
