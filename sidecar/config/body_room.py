"""Whether the bound of all request bodies has room for each of them.

Knows: that one upstream may have half of it, so that it must be twice what any body may have: less,
and a call that is within its own bound could never be taken.
Must not know: how bodies are counted.
"""

from __future__ import annotations

from collections.abc import Iterable

from sidecar.config.model import Limits, Upstream
from sidecar.config.units import size_text
from sidecar.yaml_section import Section


def with_room(section: Section, limits: Limits, upstreams: Iterable[Upstream]) -> Limits:
    """The limits, read from `section`, with a bound of all bodies that is no less than it must be;
    one that was set and is less is reported where it stands."""
    largest, whose = limits.request_bytes, "limits.request"
    for upstream in upstreams:
        if upstream.limits.request_bytes > largest:
            largest, whose = (
                upstream.limits.request_bytes,
                f"upstreams.{upstream.name}.limits.request",
            )
    least = 2 * largest
    if limits.bodies_bytes >= least:
        return limits
    if "bodies" in section.members:
        section.report(
            section.members["bodies"],
            f"{section.key('bodies')}: must be at least {size_text(least)}: twice {whose}, since "
            "one upstream may have half of it",
        )
    return limits.model_copy(update={"bodies_bytes": least})
