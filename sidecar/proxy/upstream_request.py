"""A request to an upstream as bytes: one head, written once, the same whatever client sends it.

Knows: HTTP/1.1 request syntax, the parts of a request to one upstream that never change; that the
URL of an MCP server is its one endpoint, and that to many servers a slash at its end is part of it.
Must not know: sockets, policies, which headers of the agent pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sidecar.proxy.location import read_base

if TYPE_CHECKING:
    from sidecar.config.model import Upstream

_BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})


class RequestForm:
    """What every request to one upstream has in common: base path, Host, credential, and of an MCP
    server, to which no agent sends a query, what it is to find in one."""

    __slots__ = ("_fixed", "_path")

    def __init__(self, upstream: Upstream) -> None:
        base = read_base(upstream.url)
        self._path = urlsplit(upstream.url).path if upstream.kind == "mcp" else base.path
        fields = [f"Host: {base.authority}"]
        if upstream.auth is not None:
            secret = upstream.auth.header_value.reveal()
            fields.append(f"{upstream.auth.header_name}: {secret}")
        query = f"?{upstream.own_query}" if upstream.query else ""
        self._fixed = f"{query} HTTP/1.1\r\n" + "\r\n".join(fields)

    def head(
        self, method: str, target: str, headers: Sequence[tuple[str, str]], body_bytes: int
    ) -> bytes:
        """A request's head with its blank line; raises ValueError if it would split."""
        path = self._path + target
        if path[:1] != "/":
            path = "/" + path
        fields = [f"{name}: {value}" for name, value in headers]
        said = f"{method} {path}{''.join(fields)}"
        if "\n" in said or "\r" in said or "\0" in said:
            raise ValueError("a request header holds CR, LF or NUL")
        if body_bytes or method in _BODY_METHODS:
            fields.append(f"Content-Length: {body_bytes}")
        fields.append("\r\n")  # with the join's own: the last header's end, and the blank line
        lines = "\r\n".join(fields)
        return f"{method} {path}{self._fixed}\r\n{lines}".encode()
