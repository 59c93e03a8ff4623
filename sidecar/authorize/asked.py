"""An HTTP request as the authorize API takes it, whichever listener it came by.

Must not know: HTTP libraries, what is asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol

from sidecar.model import Person, Principal
from sidecar.proxy.held_bodies import HeldBody


class AskedHttp(NamedTuple):
    """A request: its path below `/v1` in segments, and by lower-case name the one value of each
    header. `read_body` is told whose it is and raises Refused, or that the client is gone; what is
    kept of it stands in `held`, until whoever leads the request lets it go. `is_control` tells that
    it came by the control listener, where nobody calls without a credential; `certificate` is the
    one that the client has shown."""

    method: str
    segments: tuple[str, ...]
    headers: Mapping[str, str]
    source_ip: str
    read_body: Callable[[Principal], Awaitable[bytes]]
    held: HeldBody
    is_control: bool = False
    certificate: Mapping[str, Any] | None = None
    query: str = ""


class IdentifiesAgents(Protocol):
    """Who knows agents by their credentials."""

    async def __call__(self, asked: AskedHttp) -> Principal:
        """The agent, however it stands short of its end. Raises Refused."""
        ...


class IdentifiesPeople(Protocol):
    """Who knows people by their keys."""

    async def person(self, authorization: str | None, address: str) -> Person | None:
        """The person; None for nobody. Raises StoreError."""
        ...
