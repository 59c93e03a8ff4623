"""What a page is, as data: where it stands, what it may be asked with, what it shows.

Knows: that a page is made of answers of the API's routes. Must not know: HTTP, the pages there are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

from sidecar.control.api.parameters import Parameter
from sidecar.control.api.route import Asked, Listed, Route
from sidecar.control.api.table import ROUTES

PREFIX: Final = "/console"

View = Callable[[Asked], Awaitable[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Page:
    """One page. `path` stands below the prefix; `tab` is the entry of the menu it belongs to.

    `parameters` are what it may be asked with, in path and query; of a list, `pages` is the name of
    the route that is paged (its cursor is the page's).
    """

    path: str
    template: str
    title: str
    tab: str
    view: View
    parameters: tuple[Parameter, ...] = ()
    pages: str = ""


@cache
def routes() -> Mapping[str, Route]:
    """The API's routes by name."""
    return {route.name: route for route in ROUTES}


def route_of(name: str) -> Route:
    """One of them."""
    return routes()[name]


def whole(name: str, said: Any) -> Any:
    """A route's answer as the API gives it, members that were left out included; of a list its
    items."""
    if isinstance(said, Listed):
        return Listed(whole(name, said.items), said.next)
    adapter = route_of(name).adapter
    return adapter.dump_python(adapter.validate_python(said))


async def told(name: str, asked: Asked, **values: Any) -> Any:
    """What a route answers the same person, asked with these values and its defaults else. Raises
    what the route's handler raises; whoever lacks the role gets None."""
    route = route_of(name)
    if not asked.person.roles & route.roles:
        return None
    given = {one.name: values.get(one.name, one.default) for one in route.every_parameter}
    said = await route.handler(replace(asked, values=given, body=None, position=None))
    return whole(name, said)


async def listed(name: str, asked: Asked) -> Listed:
    """A page of a list that is asked for with this page's own parameters, at its own place."""
    route = route_of(name)
    values = {one.name: asked.values.get(one.name, one.default) for one in route.every_parameter}
    found: Listed = whole(name, await route.handler(replace(asked, values=values, body=None)))
    return found


def queries_of(name: str, *left_out: str) -> tuple[Parameter, ...]:
    """A route's query parameters, for a page that shows its list."""
    return tuple(
        one
        for one in route_of(name).every_parameter
        if one.place == "query" and one.name not in left_out
    )
