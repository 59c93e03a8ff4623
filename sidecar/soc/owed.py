"""What is still to be done about alerts that are durable, as rows beside them. Pure.

Knows: that what a detection asks for is owed from the moment its alert is committed, in the same
transaction, until it was done or left to people; that who watches next, after a crash or on another
node, finds it and does it; that what would have ended by itself by then is not begun any more.
Must not know: stores, how a response is carried out, alerts' own rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import orjson

from sidecar.soc.model import SEVERITIES, Evidence, Hit, Response
from storage.watch_rows import WatchMemory

if TYPE_CHECKING:
    from sidecar.soc.responding import Raised

#: Stands where a memory names its detection; no detection can be called that.
OWED: Final = ":owed-response"
_SETTLED: Final = ""


def owed_rows(raised: Iterable[Raised]) -> tuple[WatchMemory, ...]:
    """A row for each alert that asks for something, to be put with it."""
    return tuple(
        WatchMemory(
            one.alert.tenant_id, OWED, one.alert.alert_id, 1, _text(one.hit, one.hit.respond),
            one.hit.at_us + one.hit.respond.for_us,
        )
        for one in raised
        if one.hit.respond is not None
    )  # fmt: skip


def settled(row: WatchMemory) -> WatchMemory:
    """The row once nothing is owed; what says nothing is forgotten by and by."""
    return row._replace(version=row.version + 1, state=_SETTLED, until_us=0)


def is_open(row: WatchMemory) -> bool:
    """Whether a memory says that something is owed."""
    return row.detection == OWED and row.state != _SETTLED


def is_over(row: WatchMemory, at_us: int) -> bool:
    """Whether what is owed would have ended by itself by now."""
    return row.until_us <= at_us


def owed_hit(row: WatchMemory) -> Hit:
    """The hit whose response is owed, with the one receipt that completed it. Raises ValueError
    for what `owed_rows` did not write."""
    try:
        said = orjson.loads(row.state)
        return Hit(
            detection=str(said["detection"]),
            severity=SEVERITIES[said["severity"]],
            tenant=row.tenant_id,
            subject=tuple(str(one) for one in said["subject"]),
            agent=str(said["agent"]),
            run=str(said["run"]),
            tool=str(said["tool"]),
            upstream=str(said["upstream"]),
            reason=str(said["reason"]),
            evidence=(_evidence(*said["evidence"]),),
            quiet_us=int(said["quiet_us"]),
            respond=Response(
                str(said["action"]), int(said["for_us"]), bool(said.get("of_several"))
            ),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"that is no response that is owed: {error}") from error


def _text(hit: Hit, respond: Response) -> str:
    said = {
        "detection": hit.detection,
        "severity": hit.severity.label,
        "subject": hit.subject,
        "agent": hit.agent,
        "run": hit.run,
        "tool": hit.tool,
        "upstream": hit.upstream,
        "reason": hit.reason,
        "evidence": tuple(hit.evidence[-1]),
        "quiet_us": hit.quiet_us,
        "action": respond.action,
        "for_us": respond.for_us,
        "of_several": respond.of_several,
    }
    return orjson.dumps(said).decode()


def _evidence(seq: int, receipt_hash: str, call_id: str, at_us: int) -> Evidence:
    return Evidence(int(seq), str(receipt_hash), str(call_id), int(at_us))
