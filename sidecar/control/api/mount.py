"""The API on an aiohttp application: from a request to what a route is asked, and back to bytes.

Knows: HTTP. Who asks comes first, then the role, then what is asked for; nothing is read of a
request that may not be made. Everything is answered in one form, and nothing of it is kept by
caches. Host and Origin have been looked at already (control.server).
Must not know: what any route does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from aiohttp import web
from pydantic import ValidationError

from sidecar.control.api.cursors import Cursors, Position
from sidecar.control.api.parameters import Whole, read_path, read_query
from sidecar.control.api.problems import (
    ALL_ROUTES,
    RETRY_AFTER_S,
    ApiProblem,
    Problem,
    problem_of,
)
from sidecar.control.api.rooms import Rooms
from sidecar.control.api.route import Answer, Asked, Listed, Route, Stream
from sidecar.control.api.shares import Shares
from sidecar.control.continuing import invite
from sidecar.model import Person
from storage.errors import StoreError

_log = logging.getLogger("aegis.api")

PREFIX: Final = "/v1"
#: Requests that are answered at the same time; streams among them.
REQUESTS_MAX: Final = 32
STREAMS_MAX: Final = 2
#: How long a body may take to arrive.
BODY_WAIT_S: Final = 30.0
#: How long a client may take for one piece of a stream.
PIECE_WAIT_S: Final = 30.0
#: Levels of a body, the texts in the innermost included. What a call to be explained may have, and
#: what stands around it, is less.
DEPTH_MAX: Final = 100
#: Problems of a body that are named at once.
_FAULTS_MAX: Final = 5
HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Server": "aegis-sidecar",
}


class Api:
    """All routes over the rooms of one sidecar."""

    def __init__(self, rooms: Rooms, routes: Sequence[Route], cursors: Cursors) -> None:
        self._rooms = rooms
        self.routes = tuple(routes)
        self._cursors = cursors
        self._open = 0
        self._streams = 0
        has_tenants = len(rooms.config.tenants) > 1
        self._open_shares = Shares(has_tenants=has_tenants)
        self._stream_shares = Shares(has_tenants=has_tenants)

    def add_to(self, app: web.Application) -> None:
        """Serves everything below /v1 of an application."""
        for route in self.routes:
            app.router.add_route(route.method, _served_path(route), self._serving(route))
        for path in dict.fromkeys(one.path for one in self.routes if "{" not in one.path):
            # A path that stands there as it is hides those that it would fit by their parameters.
            app.router.add_route("*", path, self._unserved)
        app.router.add_route("*", f"{PREFIX}/{{rest:.*}}", self._unserved)

    def _serving(self, route: Route) -> Any:
        async def serve(request: web.Request) -> web.StreamResponse:
            try:
                if self._open >= REQUESTS_MAX:
                    raise ApiProblem("too_busy")
                self._open += 1
                try:
                    return await self._answered(route, request)
                finally:
                    self._open -= 1
            except asyncio.CancelledError:
                raise
            except TimeoutError:
                return problem_response(ApiProblem("read_timeout").said)
            except Exception as error:
                return _refusal(error)

        return serve

    async def _answered(self, route: Route, request: web.Request) -> web.StreamResponse:
        person = await self._person(request)
        if not any(role in person.roles for role in route.roles):
            named = ", ".join(sorted(role.value for role in route.roles))
            raise ApiProblem("role_required", f"this takes one of the roles {named}")
        with self._open_shares.one_of(REQUESTS_MAX, person):
            return await self._answered_to(person, route, request)

    async def _answered_to(
        self, person: Person, route: Route, request: web.Request
    ) -> web.StreamResponse:
        asked = Asked(
            person,
            self._rooms.of(person),
            read_query(request.rel_url.raw_query_string, route.every_parameter)
            | read_path(request.match_info, route.every_parameter),
            await _body(route, request),
        )
        asked = self._at_its_place(route, asked)
        async with asyncio.timeout(route.time_limit_s):
            said = await route.handler(asked)
        if isinstance(said, Stream):
            with self._stream_shares.one_of(STREAMS_MAX, person):
                return await self._streamed(route, request, said.pieces)
        return self._whole(route, asked, said)

    async def _person(self, request: web.Request) -> Person:
        given = request.headers.getall("Authorization", [])
        person = None
        if len(given) == 1:
            person = await self._rooms.doorman.person(given[0], request.remote or "")
        if person is None:
            raise ApiProblem("unauthenticated")
        return person

    # -- pages -------------------------------------------------------------------------------

    def _at_its_place(self, route: Route, asked: Asked) -> Asked:
        cursor = asked.values.get("cursor") if route.pages else None
        if not cursor:
            return asked
        if asked.values.get("offset"):
            raise ApiProblem(
                "invalid_parameter", "offset counts from the first page", parameter="offset"
            )
        at = self._cursors.read(route.name, asked.tenant, _filters(asked), cursor)
        return Asked(asked.person, asked.rooms, asked.values, asked.body, at)

    def _next(self, route: Route, asked: Asked, at: Position | None) -> dict[str, str]:
        if at is None:
            return {}
        return {"X-Next-Cursor": self._cursors.made(route.name, asked.tenant, _filters(asked), at)}

    # -- answers -----------------------------------------------------------------------------

    def _whole(self, route: Route, asked: Asked, said: Answer) -> web.Response:
        headers = dict(HEADERS)
        if isinstance(said, Listed):
            headers |= self._next(route, asked, said.next)
            said = said.items
        if not isinstance(said, bytes):
            said = route.adapter.dump_json(route.adapter.validate_python(said)) + b"\n"
        return web.Response(
            status=route.status, body=said, headers={**headers, "Content-Type": route.media_type}
        )

    async def _streamed(
        self, route: Route, request: web.Request, pieces: AsyncIterator[bytes]
    ) -> web.StreamResponse:
        """Piece by piece; one that fails half-way is cut off, so that it cannot seem whole."""
        if self._streams >= STREAMS_MAX:
            raise ApiProblem("too_busy", "other exports are under way")
        self._streams += 1
        try:
            first = await anext(pieces, b"")
            response = web.StreamResponse(
                status=route.status, headers={**HEADERS, "Content-Type": route.media_type}
            )
            await response.prepare(request)
            try:
                await self._sent(response, first)
                async for piece in pieces:
                    await self._sent(response, piece)
                await response.write_eof()
            except Exception as error:
                _log.warning("an export broke off", extra={"detail": str(error)})
                if request.transport is not None:
                    request.transport.abort()
        finally:
            self._streams -= 1
        return response

    async def _sent(self, response: web.StreamResponse, piece: bytes) -> None:
        """Raises TimeoutError where nobody takes it: there are few streams at a time."""
        async with asyncio.timeout(PIECE_WAIT_S):
            await response.write(piece)

    async def _unserved(self, request: web.Request) -> web.Response:
        """No such route, or not by this method."""
        exact = [one for one in self.routes if one.path == request.path]
        fitting = exact or [one for one in self.routes if _pattern(one).fullmatch(request.path)]
        allowed = sorted({one.method for one in fitting})
        if allowed:
            said = ApiProblem("method_not_allowed", f"served here: {', '.join(allowed)}").said
            response = problem_response(said)
            response.headers["Allow"] = ", ".join(allowed)
            return response
        said = ApiProblem("not_found", "no such route").said
        return problem_response(said.model_copy(update={"next_step": ALL_ROUTES}))


def problem_response(said: Problem) -> web.Response:
    """A problem as an HTTP answer."""
    headers = {**HEADERS, "Content-Type": "application/problem+json"}
    if said.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if said.status == 503:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    body = said.model_dump_json(exclude_none=True).encode() + b"\n"
    return web.Response(status=said.status, body=body, headers=headers)


def _refusal(error: Exception) -> web.Response:
    said = problem_of(error)
    if said is None:
        _log.error("a request to the API failed", exc_info=error)
        said = ApiProblem("internal_error").said
    elif isinstance(error, StoreError) and said.status >= 500:
        _log.warning(
            "the store did not answer the API", extra={"code": error.code, "detail": str(error)}
        )
    return problem_response(said)


def _filters(asked: Asked) -> dict[str, Any]:
    """All that decides which rows a list has."""
    return {
        name: value
        for name, value in asked.values.items()
        if name not in ("cursor", "limit", "offset")
    }


def _segments(route: Route) -> dict[str, str]:
    """What may stand in the place of each path parameter: digits where it is a number, so that a
    word beside numbers is a route of its own."""
    return {
        one.name: "[0-9]+" if isinstance(one.kind, Whole) else "[^/]+"
        for one in route.parameters
        if one.place == "path"
    }


def _served_path(route: Route) -> str:
    path = route.path
    for name, segment in _segments(route).items():
        path = path.replace(f"{{{name}}}", f"{{{name}:{segment}}}")
    return path


def _pattern(route: Route) -> re.Pattern[str]:
    path = re.escape(route.path)
    for name, segment in _segments(route).items():
        path = path.replace(rf"\{{{name}\}}", segment)
    return re.compile(path)


# -- bodies --------------------------------------------------------------------------------------


async def _body(route: Route, request: web.Request) -> Any:
    """The body as the route's model; None where the route takes none. Raises ApiProblem."""
    if route.body is None:
        if request.can_read_body:
            raise ApiProblem("malformed_request", "no body is asked for here")
        return None
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ApiProblem("unsupported_media_type", "send the body without Content-Encoding")
    try:
        async with asyncio.timeout(BODY_WAIT_S):
            raw = await _bytes(request, route.body_bytes_max)
    except TimeoutError:
        raise ApiProblem("request_timeout") from None
    except ConnectionError:  # nobody is there to be told, and nothing of ours has failed
        raise ApiProblem("malformed_request", "the body broke off") from None
    if not raw and route.is_body_optional:
        return route.body()
    # Spring and others write the name of the charset in capitals: names of charsets have no case.
    charset = (request.charset or "utf-8").lower()
    if request.content_type != "application/json" or charset not in ("utf-8", "utf8"):
        raise ApiProblem("unsupported_media_type")
    try:
        return route.body.model_validate(_object(raw), strict=True)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        named = [f"{_place(one['loc'])}: {one['msg']}" for one in faults[:_FAULTS_MAX]]
        raise ApiProblem(
            "invalid_body", "; ".join(named), parameter=_place(faults[0]["loc"])
        ) from None


async def _bytes(request: web.Request, bytes_max: int) -> bytes:
    pieces = bytearray()
    too_large = ApiProblem("body_too_large", f"at most {bytes_max} bytes are taken here")
    if (request.content_length or 0) > bytes_max:
        raise too_large
    await invite(request)
    async for piece in request.content.iter_any():
        pieces += piece
        if len(pieces) > bytes_max:
            raise too_large
    return bytes(pieces)


def _object(raw: bytes) -> dict[str, Any]:
    def once(members: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(members)
        if len(found) != len(members):
            raise ApiProblem("invalid_body", "a name stands twice in one object")
        return found

    def no_number(text: str) -> Any:
        raise ApiProblem("invalid_body", f"{text} is not JSON")

    def finite(text: str) -> float:
        number = float(text)
        if math.isinf(number):
            raise ApiProblem("invalid_body", "a number is beyond what can be held")
        return number

    try:
        found = json.loads(
            raw.decode(), object_pairs_hook=once, parse_constant=no_number, parse_float=finite
        )
    except (ValueError, RecursionError):
        raise ApiProblem("invalid_body", "it is not JSON in UTF-8") from None
    if not isinstance(found, dict):
        raise ApiProblem("invalid_body", "it is not a JSON object")
    _check_texts(found)
    return found


def _check_texts(found: dict[str, Any]) -> None:
    """Raises ApiProblem for half of a character, which is no text, and for what is nested so deep
    that what reads it next would fail: how deep Python's own reader goes differs by version."""
    level: list[Any] = [found]
    for _ in range(DEPTH_MAX):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, str):
                if any("\ud800" <= one <= "\udfff" for one in value):
                    raise ApiProblem("invalid_body", "a text holds half of a character")
            elif isinstance(value, dict):
                inner += value
                inner += value.values()
            elif isinstance(value, list):
                inner += value
        if not inner:
            return
        level = inner
    raise ApiProblem("invalid_body", f"it is nested deeper than {DEPTH_MAX}")


def _place(location: Sequence[int | str]) -> str:
    return ".".join(str(part) for part in location)[:80] or "body"
