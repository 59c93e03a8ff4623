"""The console on an aiohttp application: signing in, pages, forms, the live list.

Knows: HTTP. A page is for whoever is signed in; a form also proves that it is ours, by the token of
its session and by the Origin that a browser names. Nothing may be framed, scripted or loaded from
elsewhere; nothing is kept by caches but what has its version in its name.
Must not know: what any page shows, or any form does.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode

from aiohttp import web

from sidecar.control.api.cursors import KEY_BYTES, Cursors
from sidecar.control.api.parameters import read_path, read_query
from sidecar.control.api.problems import ApiProblem, Problem, problem_of
from sidecar.control.api.rooms import Rooms
from sidecar.control.api.route import Asked
from sidecar.control.api.shares import Shares
from sidecar.control.console import addresses, htmx, live
from sidecar.control.console.actions import ACTIONS, OURS, done
from sidecar.control.console.assets import read_assets
from sidecar.control.console.forms import read_form
from sidecar.control.console.page import PREFIX, Page, queries_of
from sidecar.control.console.sessions import LIFE_S, Session, Sessions
from sidecar.control.console.table import PAGES, TABS
from sidecar.model import Person
from storage.listings import CallFilter

if TYPE_CHECKING:
    from sidecar.control.console.rendering import Templates

_log = logging.getLogger("aegis.console")

COOKIE: Final = "aegis_console"
#: What pages ask for while they are open.
LIVE: Final = f"{PREFIX}/live/"
#: How long a browser may take for one piece of what it follows.
PIECE_WAIT_S: Final = 30.0
#: How long a page may take to be made.
PAGE_S: Final = 15.0
HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not `no-referrer`: with it browsers send `Origin: null` with a form.
    "Referrer-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Server": "aegis-sidecar",
    "Vary": htmx.VARY,
}
Answered = Callable[[web.Request], Awaitable[web.StreamResponse]]


def cookie_name(request: web.Request) -> str:
    """Browsers give a cookie to every port of its host (RFC 6265 section 8.5): of two sidecars on
    one machine, each has a name of its own, or signing in at one would sign out of the other."""
    port = re.search(r":([0-9]{1,5})\Z", request.host)
    return f"{COOKIE}_{port[1]}" if port else COOKIE


class _SignIn(Exception):
    """Nobody is signed in."""


class Console:
    """All of it over the rooms of one sidecar."""

    def __init__(self, rooms: Rooms, *, is_secure: bool) -> None:
        """`is_secure` says that the listener speaks TLS: then the cookie goes nowhere else. So it
        does where a browser came over https to what ends TLS before us, as its Origin tells."""
        self._rooms = rooms
        self._is_secure = is_secure
        self._sessions = Sessions(rooms.doorman, rooms.clock)
        self._cursors = Cursors(rooms.clock.random_bytes(KEY_BYTES))
        self._assets = read_assets()
        self._streams = 0
        self._shares = Shares(has_tenants=len(rooms.config.tenants) > 1)

    def add_to(self, app: web.Application) -> None:
        """Serves everything below /console of an application, and leads `/` there."""
        add = app.router.add_route
        add("GET", "/", self._guarded(self._lead_here))
        add("GET", f"{PREFIX}/static/{{name}}", self._guarded(self._static))
        add("GET", f"{PREFIX}/sign-in", self._guarded(self._show_sign_in))
        add("POST", f"{PREFIX}/sign-in", self._guarded(self._sign_in))
        add("POST", f"{PREFIX}/sign-out", self._guarded(self._sign_out))
        add("POST", f"{PREFIX}/do/{{action}}", self._guarded(self._do))
        add("GET", f"{PREFIX}/live/calls", self._guarded(self._live_calls))
        add("GET", f"{PREFIX}/live/pressure", self._guarded(self._live_pressure))
        for page in PAGES:
            add("GET", f"{PREFIX}{page.path}", self._guarded(self._showing(page)))
        add("GET", f"{PREFIX}/{{rest:.*}}", self._guarded(self._unserved))

    @cached_property
    def _templates(self) -> Templates:
        # Here, for a sidecar at which nobody looks should not load what renders pages.
        from sidecar.control.console.rendering import Templates

        return Templates()

    # -- the rim -----------------------------------------------------------------------------

    def _guarded(self, answer: Answered) -> Answered:
        async def serve(request: web.Request) -> web.StreamResponse:
            try:
                return await answer(request)
            except _SignIn:
                return _to_sign_in(request)
            except asyncio.CancelledError:
                raise
            except TimeoutError:
                return self._problem(request, ApiProblem("read_timeout").said)
            except Exception as error:
                said = problem_of(error)
                if said is None:
                    _log.error("a page of the console failed", exc_info=error)
                    said = ApiProblem("internal_error").said
                return self._problem(request, said)

        return serve

    def _problem(self, request: web.Request, said: Problem) -> web.Response:
        values = {"said": said, "page": None, "title": said.title}
        return self._html("problem.html", values, status=said.status)

    def _html(self, template: str, values: Mapping[str, Any], status: int = 200) -> web.Response:
        common = {
            "tabs": TABS, "prefix": PREFIX, "person": None, "notice": "", "csrf": "",
            "htmx_settings": htmx.SETTINGS,
        }  # fmt: skip
        text = self._templates.page(template, common | dict(values))
        return web.Response(
            status=status, text=text, content_type="text/html", charset="utf-8", headers=HEADERS
        )

    async def _lead_here(self, _: web.Request) -> web.Response:
        return _lead(PREFIX)

    async def _unserved(self, request: web.Request) -> web.Response:
        """No page; but one that was asked for with a slash behind it is there without."""
        if request.path.endswith("/"):
            return _lead(addresses.ours(request.path.rstrip("/")))
        raise ApiProblem("not_found", "there is no such page")

    async def _static(self, request: web.Request) -> web.Response:
        asset = self._assets.get(request.match_info["name"])
        if asset is None:
            raise ApiProblem("not_found", "there is no such file")
        headers = {**HEADERS, "Cache-Control": asset.caching, "ETag": f'"{asset.mark}"'}
        if any(one.value in (asset.mark, "*") for one in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return web.Response(
            body=asset.body, content_type=asset.kind, charset="utf-8", headers=headers
        )

    # -- who it is ---------------------------------------------------------------------------

    async def _signed_in(self, request: web.Request) -> tuple[Session, Person]:
        token = request.cookies.get(cookie_name(request), "")
        by_itself = request.path.startswith(LIVE) or htmx.is_by_itself(request.headers)
        found = (
            await self._sessions.find(token, request.remote or "", by_itself=by_itself)
            if token
            else None
        )
        if found is None:
            raise _SignIn
        return found

    async def _show_sign_in(self, request: web.Request) -> web.Response:
        back = dict(parse_qsl(request.rel_url.raw_query_string)).get("back", "")
        return self._html("sign_in.html", {"title": "Sign in", "back": back, "failed": False})

    async def _sign_in(self, request: web.Request) -> web.Response:
        fields = await read_form(request)
        key, back = fields.get("key", "").strip(), fields.get("back", "")
        token = await self._sessions.begin(key, request.remote or "") if key else None
        if token is None:
            values = {"title": "Sign in", "back": back, "failed": True}
            return self._html("sign_in.html", values, status=401)
        is_secure = self._is_secure or request.headers["Origin"].lower().startswith("https://")
        answer = _lead(addresses.ours(back))
        answer.set_cookie(
            cookie_name(request), token, path=PREFIX, httponly=True, samesite="Strict",
            secure=is_secure, max_age=int(LIFE_S),
        )  # fmt: skip
        return answer

    async def _sign_out(self, request: web.Request) -> web.Response:
        fields = await read_form(request)
        session, _ = await self._signed_in(request)
        _require_ours(session, fields)
        self._sessions.end(request.cookies.get(cookie_name(request), ""))
        answer = _lead(f"{PREFIX}/sign-in")
        answer.del_cookie(cookie_name(request), path=PREFIX)
        return answer

    # -- pages and forms ---------------------------------------------------------------------

    def _showing(self, page: Page) -> Answered:
        async def show(request: web.Request) -> web.StreamResponse:
            session, person = await self._signed_in(request)
            raw = addresses.without_empty(request.rel_url.raw_query_string)
            values = read_query(raw, page.parameters) | read_path(
                request.match_info, page.parameters
            )
            asked = self._at_its_place(page, Asked(person, self._rooms.of(person), values))
            async with asyncio.timeout(PAGE_S):
                shown = await page.view(asked)
            notice = ""
            if htmx.shows_notice(request.headers):
                notice, session.notice = session.notice, ""
            more = {
                "title": page.title, "page": page, "person": person, "csrf": session.csrf,
                "notice": notice, "asked": asked.values, "here": request.rel_url.raw_path_qs,
                "next_page": self._next(page, asked, shown.get("next")),
            }  # fmt: skip
            return self._html(page.template, {**more, **shown})

        return show

    def _at_its_place(self, page: Page, asked: Asked) -> Asked:
        cursor = asked.values.get("cursor") if page.pages else None
        if not cursor:
            return asked
        at = self._cursors.read(page.pages, asked.tenant, addresses.filters(asked), cursor)
        return Asked(asked.person, asked.rooms, asked.values, None, at)

    def _next(self, page: Page, asked: Asked, at: Any) -> str:
        """The address of the next page of a list; "" after the last."""
        if at is None or not page.pages:
            return ""
        cursor = self._cursors.made(page.pages, asked.tenant, addresses.filters(asked), at)
        query = urlencode([*addresses.given(page, asked), ("cursor", cursor)])
        return f"{PREFIX}{page.path}?{query}"

    async def _do(self, request: web.Request) -> web.Response:
        fields = await read_form(request)
        session, person = await self._signed_in(request)
        _require_ours(session, fields)
        action = request.match_info["action"]
        answer = await done(action, fields, Asked(person, self._rooms.of(person), {}))
        back = addresses.ours(fields.get("back", ""))
        if ACTIONS[action]:
            remark = answer.get("remark")
            session.notice = f"{ACTIONS[action]} But: {remark}" if remark else ACTIONS[action]
            return _lead(back)
        values = {
            "title": "Done", "page": None, "person": person, "csrf": session.csrf, "back": back,
            "answer": answer, "action": action,
        }  # fmt: skip
        return self._html("done.html", values)

    # -- what changes while it is looked at --------------------------------------------------

    async def _live_calls(self, request: web.Request) -> web.StreamResponse:
        _, person = await self._signed_in(request)
        raw = addresses.without_empty(request.rel_url.raw_query_string)
        values = read_query(raw, queries_of("list_decisions", "offset"))
        if self._streams >= live.STREAMS_MAX:
            raise ApiProblem("too_busy", "too many pages follow the calls")
        wanted = CallFilter(
            agent=values["agent_id"], tool=values["tool"], upstream=values["upstream"],
            decision=values["decision"], rule=values["rule"], code=values["code"],
            run=values["run_id"], trace=values["trace_id"], approval=values["approval_id"],
        )  # fmt: skip

        def render(rows: Any) -> str:
            values = {"calls": rows, "prefix": PREFIX, "are_new": True}
            return self._templates.page("_call_rows.html", values)

        async def is_on() -> bool:
            token = request.cookies.get(cookie_name(request), "")
            found = await self._sessions.find(token, request.remote or "", by_itself=True)
            return found is not None

        asked = Asked(person, self._rooms.of(person), values)
        with self._shares.one_of(live.STREAMS_MAX, person):
            return await self._followed(request, live.calls(asked, wanted, render, is_on))

    async def _followed(
        self, request: web.Request, pieces: AsyncIterator[bytes]
    ) -> web.StreamResponse:
        self._streams += 1
        response = web.StreamResponse(
            headers={**HEADERS, "Content-Type": "text/event-stream; charset=utf-8"}
        )
        try:
            await response.prepare(request)
            async for piece in pieces:
                async with asyncio.timeout(PIECE_WAIT_S):
                    await response.write(piece)
        except (ConnectionError, TimeoutError):
            _log.debug("whoever followed the calls has gone")
        except Exception as error:
            if not response.prepared:
                raise
            # Its head is sent: it is cut off, and the browser comes back by itself.
            _log.warning("a page can follow no more", extra={"detail": str(error)})
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._streams -= 1
        return response

    async def _live_pressure(self, request: web.Request) -> web.Response:
        """A few numbers for the drawing on the overview."""
        await self._signed_in(request)
        said = await self._rooms.state.status()
        store, lanes = said["store"], said["queue"]["lanes"]
        numbers = {
            "depth": sum(lane["depth"] for lane in lanes.values()),
            "utilisation": store["utilisation"],
            "loop_busy": store["loop_busy"],
            "calls_per_s": store["committed_calls_per_s"],
        }
        return web.json_response(numbers, headers=HEADERS)


def _lead(there: str) -> web.Response:
    return web.Response(status=303, headers={**HEADERS, "Location": there})


def _to_sign_in(request: web.Request) -> web.Response:
    """Leads there, and from there back to the page that was asked for, or from which htmx asked:
    that one is told, for what it was led to it would take for the part it asked for."""
    is_htmx = htmx.is_asking(request.headers)
    back = htmx.stands_at(request.headers) if is_htmx else request.rel_url.raw_path_qs
    is_page = is_htmx or request.method == "GET"
    query = f"?{urlencode({'back': addresses.ours(back)})}" if is_page else ""
    there = f"{PREFIX}/sign-in{query}"
    if is_htmx:
        return web.Response(status=401, headers={**HEADERS, "HX-Redirect": there})
    return _lead(there)


def _require_ours(session: Session, fields: Mapping[str, str]) -> None:
    if not session.is_ours(fields.get(OURS[0], "")):
        raise ApiProblem("form_not_ours")
