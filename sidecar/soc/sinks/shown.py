"""What of a body a person reads first, whatever its kind: a headline and a few facts. Pure.

Knows: which members matter most, that each value is a text of one line without anything that
hides or pretends, and that what is too long is cut.
Must not know: how a sink writes them down.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from sidecar.policy.printable import printable
from sidecar.soc.sinks.seam import Outgoing

HEADLINES: Final = {
    "alert.opened": "Alert",
    "incident.opened": "Incident",
    "incident.raised": "Incident raised",
    "approval.requested": "Approval requested",
    "approval.decided": "Approval decided",
    "containment.started": "Containment started",
    "containment.ended": "Containment ended",
    "test": "Test",
}
#: Members of the thing that is told of, the first to be read first.
MEMBERS: Final = (
    "title", "called", "reason", "why", "detection", "state", "expires_at_us", "action",
    "agent", "agent_id", "user", "run", "run_id", "tool", "upstream", "method", "path", "subject",
    "arguments", "beside", "authorize", "headers", "is_cut", "is_escaped", "risk", "mutates",
    "rules", "hits", "votes", "actor", "until_us", "ended_by", "ended_reason", "incident_id",
    "recommended", "id",
)  # fmt: skip
VALUE_CHARACTERS_MAX: Final = 200
#: As many as a request for an approval has.
FACTS_MAX: Final = 20


def headline(delivery: Outgoing) -> str:
    """What happened, in our own words."""
    return HEADLINES.get(delivery.kind, "News")


def thing(delivery: Outgoing) -> Mapping[str, Any]:
    """The member of a body that tells of the alert, incident, approval or containment."""
    found = delivery.said.get(delivery.kind.partition(".")[0])
    return found if isinstance(found, Mapping) else {}


def facts(delivery: Outgoing) -> list[tuple[str, str]]:
    """Names of our own, and values that agents and tools may have chosen."""
    about = thing(delivery)
    found = [(name, _text(name, about[name])) for name in MEMBERS if _says_something(about, name)]
    return found[:FACTS_MAX]


def _says_something(about: Mapping[str, Any], name: str) -> bool:
    value = about.get(name)
    return value not in _NOTHING and not (name in _WARNINGS and value is False)


#: What is told only where it is so.
_WARNINGS: Final = frozenset({"is_cut", "is_escaped"})
#: What says nothing.
_NOTHING: Final[tuple[Any, ...]] = (None, "", [], {})


def one_line(text: str, characters_max: int = VALUE_CHARACTERS_MAX) -> str:
    """The text without anything that hides or breaks a line, cut to a length."""
    shown = printable(text[: characters_max + 1])
    return shown if len(shown) <= characters_max else f"{shown[:characters_max]}…"


def _moment(at_us: int) -> str:
    """A time as people read it; what no calendar has stays a number."""
    try:
        return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return str(at_us)


def _text(name: str, value: Any) -> str:
    if name.endswith("_us") and isinstance(value, int):
        return _moment(value)
    if isinstance(value, str):
        return one_line(value)
    return one_line(orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode())
