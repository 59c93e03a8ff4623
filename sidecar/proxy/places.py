"""Places among the calls in flight to each upstream.

Knows: how many calls an upstream takes at once; a call that waits for a person's yes needs none.
Must not know: what the calls are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sidecar.errors import Refused

if TYPE_CHECKING:
    from sidecar.config.model import Upstream


class Places:
    """Of all upstreams of a sidecar, by their names."""

    __slots__ = ("_in_flight", "_upstreams")

    def __init__(self, upstreams: Mapping[str, Upstream]) -> None:
        self._upstreams = upstreams
        self._in_flight = dict.fromkeys(upstreams, 0)

    def take(self, name: str) -> Upstream:
        """The upstream, with a place at it. Raises Refused: unknown_upstream, upstream_busy."""
        upstream = self._upstreams.get(name)
        if upstream is None:
            raise Refused("unknown_upstream")
        if self._in_flight[name] >= upstream.limits.calls:
            raise Refused("upstream_busy", retry_after_s=1)
        self._in_flight[name] += 1
        return upstream

    def give_back(self, name: str) -> None:
        """The place is free again."""
        self._in_flight[name] -= 1
