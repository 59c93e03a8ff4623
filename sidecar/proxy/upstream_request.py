"""A request to an upstream as bytes: one head, written once, the same whatever client sends it.

Knows: HTTP/1.1 request syntax, the parts of a request to one upstream that never change.
Must not know: sockets, policies, which headers of the agent pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sidecar.proxy.location import read_base

if TYPE_CHECKING:
    from sidecar.config.model import Upstream

_BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})


class RequestForm:
    """What every request to one upstream has in common: base path, Host, credential."""

    __slots__ = ("_fixed", "_fixed_lines", "_path")

    def __init__(self, upstream: Upstream) -> None:
        base = read_base(upstream.url)
        self._path = base.path
        self._fixed = f" HTTP/1.1\r\nHost: {base.authority}\r\n"
        if upstream.auth is not None:
            secret = upstream.auth.header_value.reveal()
            self._fixed += f"{upstream.auth.header_name}: {secret}\r\n"
        self._fixed_lines = self._fixed.count("\r\n")

    def head(
        self, method: str, target: str, headers: Sequence[tuple[str, str]], body_bytes: int
    ) -> bytes:
        """A request's head up to the blank line; raises ValueError if it would split."""
        path = self._path + target
        if path[:1] != "/":
            path = "/" + path
        fields = "".join([f"{name}: {value}\r\n" for name, value in headers])
        lines = 1 + self._fixed_lines + len(headers)
        if body_bytes or method in _BODY_METHODS:
            head = f"{method} {path}{self._fixed}{fields}Content-Length: {body_bytes}\r\n\r\n"
            lines += 1
        else:
            head = f"{method} {path}{self._fixed}{fields}\r\n"
        if head.count("\n") != lines or head.count("\r") != lines or "\0" in head:
            raise ValueError("a request header holds CR, LF or NUL")
        return head.encode("utf-8")
