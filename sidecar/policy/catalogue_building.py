"""Drafts of tools become the Catalogue: defaults, globs, OpenAPI operations, routes.

Knows: what a tool is when its entry leaves something open, how globs fill that, and that an entry
completes and overrides an OpenAPI operation of the same name.
Must not know: YAML, rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sidecar.model import RiskLevel, Tool, TrustLevel
from sidecar.policy.arguments import ArgumentTypes
from sidecar.policy.catalogue import Catalogue, Entry, strictest
from sidecar.policy.catalogue_file import CatalogueFile, ToolDraft
from sidecar.policy.fields import Problems, did_you_mean
from sidecar.policy.matchers import MCP_PREFIX
from sidecar.policy.openapi import Operation
from sidecar.policy.routes import Route, RouteTable
from sidecar.problems import Position

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def build_catalogue(
    files: Sequence[CatalogueFile],
    upstreams: Mapping[str, str],
    problems: Problems,
    *,
    needs_routes: bool = True,
) -> Catalogue:
    """All files as one catalogue; `upstreams` gives the kind of each by name. Without
    `needs_routes` a tool of a REST upstream may have none: it is then only known by its name."""
    entries: dict[str, dict[str, Entry]] = {upstream: {} for upstream in upstreams}
    routes: dict[str, RouteTable[Entry]] = {}
    first: dict[str, CatalogueFile] = {}
    for file in files:
        if file.upstream in first:
            problems.error(
                file.position,
                f'there are two catalogues of "{file.upstream}"',
                f"first at {first[file.upstream].position}",
            )
        elif file.upstream not in upstreams:
            problems.error(
                file.position,
                f'there is no upstream "{file.upstream}"',
                did_you_mean(file.upstream, upstreams),
            )
        else:
            first[file.upstream] = file
            builder = _Builder(file, upstreams[file.upstream], problems, needs_routes)
            entries[file.upstream] = builder.entries()
            routes[file.upstream] = builder.routes
    speak_mcp = [upstream for upstream, kind in upstreams.items() if kind == "mcp"]
    defaults = {file.upstream: file.defaults for file in files}
    return Catalogue(entries, routes, defaults, speak_mcp)


class _Builder:
    """Makes the entries and the route table of one upstream."""

    def __init__(
        self, file: CatalogueFile, kind: str, problems: Problems, needs_routes: bool
    ) -> None:
        self._file = file
        self._needs_routes = needs_routes
        self._is_mcp = kind == "mcp"
        self._is_rest = kind == "rest"
        self._named = "an MCP upstream" if self._is_mcp else f"an upstream of kind {kind}"
        self._problems = problems
        self._operations = {operation.name: operation for operation in file.operations}
        self.routes: RouteTable[Entry] = RouteTable()

    def entries(self) -> dict[str, Entry]:
        if not self._is_rest and self._operations:
            self._problems.error(self._file.position, f"{self._named} has no OpenAPI document")
        found: dict[str, Entry] = {}
        for draft in self._file.drafts:
            operation = self._operations.pop(draft.operation, None)
            entry = self._declared(draft, operation)
            if entry is not None:
                found[draft.operation] = entry
        for operation in self._operations.values():
            entry = self._entry(
                operation.name, operation.route, operation.args, None, self._file.position
            )
            found[operation.name] = entry
        return found

    def _declared(self, draft: ToolDraft, operation: Operation | None) -> Entry | None:
        route = draft.route or (operation.route if operation else None)
        is_method = draft.operation.startswith(MCP_PREFIX)
        if not self._is_rest and route is not None:
            self._problems.error(draft.position, f"a tool of {self._named} has no route")
            return None
        if not self._is_mcp and is_method:
            self._problems.error(draft.position, "mcp:METHOD belongs to MCP upstreams only")
            return None
        if self._is_rest and route is None and self._needs_routes:
            self._problems.error(
                draft.position,
                f'the tool "{draft.operation}" needs a route',
                did_you_mean(draft.operation, self._operations)
                or "e.g. GET /repos/{owner}; MCP upstreams say `kind: mcp` in sidecar.yaml",
            )
            return None
        if draft.websocket and (route is None or route.method != "GET"):
            self._problems.error(
                draft.position, "a WebSocket is opened by GET: websocket needs a route with it"
            )
        args = draft.args or (operation.args if operation else None)
        if args is not None and route is not None:
            for parameter in route.parameters:
                if parameter not in args.names:
                    self._problems.error(
                        draft.position,
                        f'args must declare the path parameter "{parameter}"',
                    )
        return self._entry(draft.operation, route, args, draft, draft.position)

    def _entry(
        self,
        operation: str,
        route: Route | None,
        args: ArgumentTypes | None,
        draft: ToolDraft | None,
        position: Position,
    ) -> Entry:
        said = strictest(self._file.defaults, operation)
        own = draft or _OPEN
        # What goes through a WebSocket may be anything, and nobody looks at it.
        is_safe = route is not None and route.method in _SAFE_METHODS and not own.websocket
        mutates = _first(own.mutates, said.mutates, not is_safe)
        tool = Tool(
            self._file.upstream,
            operation,
            mutates=mutates,
            risk=_first(own.risk, said.risk, RiskLevel.MEDIUM if mutates else RiskLevel.LOW),
            labels=tuple(dict.fromkeys(said.labels if own.labels is None else own.labels)),
            returns=_first(own.returns, said.returns, TrustLevel.UNKNOWN),
        )
        text = route.text if route else None
        entry = Entry(tool, args, own.bind_headers, text, own.websocket)
        if route is not None:
            clash = self.routes.add(route, entry)
            if clash is not None:
                self._problems.error(
                    position,
                    f"{route.text} ({operation}) and {clash.route} ({clash.tool.operation}) "
                    "are equally specific",
                    "one path must lead to one tool",
                )
        return entry


_OPEN = ToolDraft("", Position(""), None, None, None, None, None, None, ())


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)
