"""What the rules in shadow would change: how often since the start, and which recorded calls.

Knows: that what they would have decided was written down with each decision, so that nothing is
judged here; that a page looks at a stretch of the chain, as those of decisions do; that the counts
are this process's, and a tenant is told its own.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from sidecar.control.api.policies import READ_S, ROOM
from sidecar.control.api.route import READERS, Asked, Listed, Route, Shape
from sidecar.control.api.times import time_text
from sidecar.model import Mode
from storage.listings import DifferingCall, Listings

_SECOND_US: Final = 1_000_000


class ShadowCountShape(Shape):
    """Decisions that were made so, and would be another if the rules in shadow decided too."""

    decision: str
    would_be: str
    calls: int


class ShadowShape(Shape):
    """Decisions since this sidecar started, on calls that rules in shadow are about: those that
    would be the same, and the others."""

    counted_from: str
    counted_from_us: int
    same: int
    different: int
    differences: list[ShadowCountShape]


class ShadowRuleShape(Shape):
    """A rule in shadow that a call met; `error` if it could not be judged."""

    rule: str
    effect: str | None
    error: str | None


class DifferenceOfCallShape(Shape):
    """A call that was decided so, and `would_be` what the rules in shadow together would have made
    of it, as it was recorded then. `rules` are those in shadow that it met."""

    call_id: str
    seq: int
    at: str
    ts_us: int
    agent_id: str | None
    tool: str | None
    decision: str
    mode: str | None
    rule_id: str | None
    would_be: str
    rules: list[ShadowRuleShape]
    policy_revision: str | None


async def get_shadow(asked: Asked) -> dict[str, Any]:
    """The counts, largest first."""
    up_s, counts = asked.rooms.state.shadow_counts(asked.tenant)
    since_us = asked.rooms.clock.now_us() - int(up_s * _SECOND_US)
    differing = {pair: calls for pair, calls in counts.items() if calls and pair[0] != pair[1]}
    different = sum(differing.values())
    return {
        "counted_from": time_text(since_us),
        "counted_from_us": since_us,
        "same": sum(counts.values()) - different,
        "different": different,
        "differences": [
            {"decision": decision, "would_be": would_be, "calls": calls}
            for (decision, would_be), calls in sorted(
                differing.items(), key=lambda one: (-one[1], one[0])
            )
        ],
    }


async def list_shadow_differences(asked: Asked) -> Listed:
    """Newest first. Where the page before left off is a seq, and so is where the list ends."""
    listings = Listings(asked.rooms.reader)
    if asked.position is None:
        head, cut = await listings.ends(asked.tenant)
        after, until = cut.seq, head.seq
    else:
        after, until = int(asked.position[0]), int(asked.position[1])
    found, looked = await listings.shadow_differences(asked.tenant, after, until, asked.limit)
    return Listed([_told(one) for one in found], (after, looked) if looked > after else None)


def _told(one: DifferingCall) -> dict[str, Any]:
    facts = orjson.loads(one.facts)
    return {
        **{name: value for name, value in one._asdict().items() if name != "facts"},
        "at": time_text(one.ts_us),
        "would_be": facts["would_be"],
        "rules": [
            {"rule": rule, "effect": effect, "error": error}
            for rule, effect, mode, error in facts.get("matches", ())
            if mode == Mode.SHADOW
        ],
    }


ROUTES: Final = (
    Route(
        "get_shadow", "GET", "/v1/policies/shadow",
        "How many decisions would be others if the rules in shadow decided, since the start",
        READERS, get_shadow, ShadowShape, time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "list_shadow_differences", "GET", "/v1/policies/shadow/differences",
        "Calls that the rules in shadow would have decided otherwise, newest first",
        READERS, list_shadow_differences, list[DifferenceOfCallShape],
        pages="cursor", time_limit_s=READ_S, room=ROOM,
    ),
)  # fmt: skip
