"""A delivery as one syslog message (RFC 5424) with one CEF event in it. Pure.

Knows: how each part is escaped, so that no value can end its field or the message; that a message
has a size that every receiver takes, and what comes last is left out where it would be larger.
Must not know: how it is sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import sidecar
from sidecar.soc.model import Severity
from sidecar.soc.sinks.seam import Outgoing
from sidecar.soc.sinks.shown import facts, headline, one_line

#: Of a datagram (RFC 5426 section 3.2), and of a message over TCP.
DATAGRAM_BYTES_MAX: Final = 2048
MESSAGE_BYTES_MAX: Final = 8192
#: Syslog's facility "log audit".
FACILITY: Final = 13
#: Syslog's severity (RFC 5424 table 2), and CEF's from 0 to 10.
SYSLOG_SEVERITY: Final[Mapping[Severity, int]] = {
    Severity.INFO: 6,
    Severity.LOW: 5,
    Severity.MEDIUM: 4,
    Severity.HIGH: 3,
    Severity.CRITICAL: 2,
}
CEF_SEVERITY: Final[Mapping[Severity, int]] = {
    Severity.INFO: 1,
    Severity.LOW: 3,
    Severity.MEDIUM: 5,
    Severity.HIGH: 8,
    Severity.CRITICAL: 10,
}
#: Names of CEF's dictionary for what has one; the others get a custom string each.
EXTENSIONS: Final[Mapping[str, str]] = {
    "reason": "reason",
    "agent": "suser",
    "agent_id": "suser",
    "action": "act",
    "state": "outcome",
    "path": "request",
    "method": "requestMethod",
}
_CUSTOM: Final = ("title", "detection", "tool", "called", "subject", "incident_id", "id")
_UNPRINTABLE: Final = re.compile(r"[^\x21-\x7e]")


def cef(delivery: Outgoing, bytes_max: int) -> str:
    """The event, with as many of its fields as fit."""
    begins = "|".join(
        (
            "CEF:0",
            "Aegis",
            "aegis-sidecar",
            header(sidecar.__version__),
            header(delivery.kind),
            header(headline(delivery)),
            f"{CEF_SEVERITY[delivery.severity]}|",
        )
    )
    event, left = begins, bytes_max - len(begins.encode())
    for name, value in _fields(delivery):
        field = f"{'' if event is begins else ' '}{name}={extension(value)}"
        left -= len(field.encode())
        if left < 0:
            break
        event += field
    return event


def message(delivery: Outgoing, node: str, bytes_max: int) -> bytes:
    """The whole message, without framing."""
    priority = FACILITY * 8 + SYSLOG_SEVERITY[delivery.severity]
    at = datetime.fromtimestamp(delivery.at_us / 1e6, UTC).isoformat(timespec="microseconds")
    head = (
        f"<{priority}>1 {at.replace('+00:00', 'Z')} {_name(node, 255)} aegis-sidecar - "
        f"{_name(delivery.kind, 32)} - "
    )
    return (head + cef(delivery, bytes_max - len(head))).encode()


def header(text: str) -> str:
    """A text of the header."""
    return one_line(text).replace("\\", "\\\\").replace("|", "\\|")


def extension(text: str) -> str:
    """A value of the extension."""
    return one_line(text).replace("\\", "\\\\").replace("=", "\\=")


def _fields(delivery: Outgoing) -> list[tuple[str, str]]:
    known = dict(facts(delivery))
    found = [
        ("rt", str(delivery.at_us // 1000)),
        ("externalId", delivery.delivery_id),
        ("cs1Label", "tenant"),
        ("cs1", delivery.tenant),
    ]
    taken = set()
    for member, name in EXTENSIONS.items():
        if member in known and name not in taken:
            taken.add(name)
            found.append((name, known[member]))
    number = 2
    for member in _CUSTOM:
        if member in known and number <= 6:
            found += [(f"cs{number}Label", member), (f"cs{number}", known[member])]
            number += 1
    return found


def _name(text: str, characters_max: int) -> str:
    return _UNPRINTABLE.sub("_", text)[:characters_max] or "-"
