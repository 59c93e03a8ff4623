"""Whether the alerts, states and notes of a pack are those that its receipts commit to. Pure.

Knows: what a receipt commits to: `alerts.raised` to alerts, their incident and the receipts they
were raised for; a move to who, from what state to which and why; an end to all that an alert rests
on by then. What later hits joined to an alert that is still open nothing commits to.
Must not know: whether a receipt holds; only such as do are given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson

from sidecar.counted import counted
from sidecar.soc.alert_states import AlertState, IncidentState, Move
from sidecar.soc.correlation import opened_id
from sidecar.soc.evidence import evidence_digest
from sidecar.soc.incident_entries import RAISED
from sidecar.soc.incident_moves import alert_subject, incident_subject
from sidecar.soc.model import ERASED, SEVERITIES, Evidence
from sidecar.soc.pack_form import NamedReceipt, Pack, PackedAlert, PackedChange, SaidNote

Body = Mapping[str, Any]

#: Notes that receipts tell of: those of moves. What a detection recommends, or what was done at its
#: word, is noted on alerts without one; the containment itself has its own.
_TOLD: Final = frozenset(move.value for move in Move)


#: Of an incident that detections opened: the time and a hash.
_OWN_ID: Final = re.compile("[0-9a-f]{32}")


class _Done(NamedTuple):
    """A change as its receipt commits to it; `said` is None where that was erased or archived, and
    then the audit row alone tells of it."""

    change: PackedChange
    said: Mapping[str, Any] | None

    @property
    def verb(self) -> str:
        """What was done, without to what."""
        return self.change.action.partition(".")[2]

    def state(self, which: str) -> Any:
        """The state before or after."""
        text = self.change.before if which == "before" else self.change.after
        kept = _json(text)
        return kept.get("state") if isinstance(kept, dict) else None

    def after(self) -> Mapping[str, Any]:
        """What the change left."""
        kept = _json(self.change.after)
        return kept if isinstance(kept, dict) else {}


@dataclass(slots=True)
class _Findings:
    faults: list[str] = field(default_factory=list)
    not_shown: list[str] = field(default_factory=list)

    def unknown(self, what: str) -> None:
        """Said once."""
        if what not in self.not_shown:
            self.not_shown.append(what)


def change_faults(pack: Pack, bodies: Mapping[int, Body]) -> tuple[list[str], list[str]]:
    """What is wrong, and what is not shown; `bodies` are the receipts that hold, by seq, with what
    stands beside them."""
    findings = _Findings()
    done = [
        _Done(change, _committed(change, pack, bodies, findings))
        for change in sorted(pack.changes, key=lambda one: one.seq)
    ]
    _check_all_told(pack, bodies, findings)
    passes = [one for one in done if one.change.action == RAISED]
    for alert in pack.alerts:
        _check_raised(pack, alert, passes, findings)
    _check_none_left_out(pack, passes, findings)
    _check_incident(pack, done, findings)
    for alert in pack.alerts:
        _check_alert(pack, alert, done, findings)
    if any(one.hits > 1 for one in pack.alerts):
        findings.unknown("how often its alerts were hit, and when last: no receipt says it")
    return findings.faults, findings.not_shown


def _committed(
    change: PackedChange, pack: Pack, bodies: Mapping[int, Body], findings: _Findings
) -> Mapping[str, Any] | None:
    """What the receipt of a change commits to, if the audit row says the same."""
    body = bodies.get(change.seq)
    if body is None:
        if change.seq not in pack.archived:
            findings.faults.append(f"{change.action}: its receipt {change.seq} is not here")
        return None
    told = (body["kind"], body["action"], body["approver"], body["resource"])
    if told != ("control", change.action, change.actor, change.subject):
        findings.faults.append(f"receipt {change.seq} is not of {change.action} as it is told")
        return None
    _check_time(change, body, bodies.get(change.seq - 1), findings)
    arguments = body.get("arguments")
    if arguments is None:
        findings.unknown(f"what receipt {change.seq} ({change.action}) commits to: that was erased")
        return None
    said = _json(arguments)
    told_again = {
        "actor": change.actor,
        "subject": change.subject,
        "before": _json(change.before) if change.before else None,
        "after": _json(change.after),
        "reason": change.reason,
    }
    if said != told_again:
        findings.faults.append(
            f"{change.action}: the audit row {change.seq} is not what its receipt commits to"
        )
        return None
    if change.action == RAISED and not _is_pass(told_again["after"]):
        findings.faults.append(f"receipt {change.seq} tells of alerts in no form of this sidecar's")
        return None
    return told_again


def _check_time(change: PackedChange, body: Body, before: Body | None, findings: _Findings) -> None:
    """A receipt has the time of its change, unless the clock had gone back before the last one."""
    late_us = body["ts_us"] - change.at_us
    if late_us < 0 or (late_us and before is not None and before["ts_us"] < body["ts_us"]):
        findings.faults.append(f"{change.action}: its receipt {change.seq} is of another time")
    elif late_us:
        findings.unknown(f"when {change.action} was: its receipt {change.seq} is of a later time")


def _is_pass(after: Any) -> bool:
    """Whether it has the form of what a pass raised, as `raised_entry` writes it."""
    if not isinstance(after, dict):
        return False
    alerts, linked = after.get("alerts"), after.get("linked")
    return (
        isinstance(alerts, list)
        and all(isinstance(one, dict) and isinstance(one.get("alert_id"), str) for one in alerts)
        and isinstance(linked, dict)
    )


def _check_all_told(pack: Pack, bodies: Mapping[int, Body], findings: _Findings) -> None:
    """That whatever a receipt says was done is told of."""
    subjects = {
        incident_subject(pack.incident.incident_id),
        *(alert_subject(one.alert_id) for one in pack.alerts),
    }
    told = {one.seq for one in pack.changes}
    for seq, body in sorted(bodies.items()):
        if body["kind"] == "control" and body["resource"] in subjects and seq not in told:
            findings.faults.append(
                f"receipt {seq} tells of {body['action']!a}, and no audit row does"
            )
    if not pack.trees or pack.looked_until < pack.trees[-1].size:
        findings.unknown(
            f"whether more was done to the incident after receipt {pack.looked_until} than is told"
        )


# -- raising -----------------------------------------------------------------------------------


def _check_raised(pack: Pack, alert: PackedAlert, passes: list[_Done], findings: _Findings) -> None:
    """That a receipt tells of the alert as it is here, and how it came to the incident."""
    name = f"alert {alert.alert_id}"
    if alert.reason == ERASED:
        findings.unknown(f"what {name} said of the call it quotes: that was erased")
    found: Mapping[str, Any] | None = None
    incident = ""
    # Of what was archived or erased the audit row alone tells.
    is_unsaid = any(one.said is None and alert.alert_id in one.change.after for one in passes)
    for one in passes:
        after = one.after() if one.said is not None else {}
        for told in after.get("alerts", ()):
            if told.get("alert_id") == alert.alert_id:
                found, incident = told, told.get("incident_id", "")
        incident = after.get("linked", {}).get(alert.alert_id, incident)
    if found is None:
        what = f"that {name} was raised for what it names"
        if is_unsaid:
            findings.unknown(f"{what}: its receipt is archived, or what it commits to was erased")
        else:
            findings.faults.append(f"{name}: no receipt tells that it was raised")
        return
    expected = {
        "detection": alert.detection,
        "subject": alert.subject,
        "agent": alert.agent,
        "run": alert.run,
        "reason": alert.reason,
        "first_us": alert.first_us,
        "evidence_sha256": _digest(alert.evidence.raised),
    }
    for key, value in expected.items():
        if found.get(key) != value:
            what = "the receipts it was raised for were"
            what = what if key == "evidence_sha256" else f"its {key} was"
            findings.faults.append(f"{name}: {what} changed since")
    if _rank(alert.severity) < _rank(str(found.get("severity"))):
        findings.faults.append(f"{name}: its severity was lowered")
    if incident != pack.incident.incident_id and not is_unsaid:
        findings.faults.append(f"{name}: no receipt tells that it belongs to the incident")
    if alert.evidence.joined and alert.state != AlertState.CLOSED:
        hold = ("receipt of them holds", "receipts of them hold")
        findings.unknown(
            f"that later hits belong to {name}: {counted(len(alert.evidence.joined), *hold)}, and "
            "nothing commits to the alert's naming them before it is closed"
        )


def _check_none_left_out(pack: Pack, passes: list[_Done], findings: _Findings) -> None:
    here = {one.alert_id for one in pack.alerts}
    named = {(one.tenant, one.incident_id) for one in pack.alerts}
    if (named | {(pack.incident.tenant, pack.incident.incident_id)}) != {
        (pack.tenant, pack.incident.incident_id)
    }:
        findings.faults.append("its incident or an alert is said to be another's")
    told: set[str] = set()
    for one in passes:
        after = one.after() if one.said is not None else {}
        for alert in after.get("alerts", ()):
            if alert.get("incident_id") == pack.incident.incident_id:
                told.add(alert["alert_id"])
        for alert_id, incident_id in after.get("linked", {}).items():
            if incident_id == pack.incident.incident_id:
                told.add(alert_id)
    for alert_id in sorted(told - here):
        findings.faults.append(f"alert {alert_id} of the incident is missing")
    if len(here) != pack.incident.alerts:
        findings.faults.append(
            f"the incident has {counted(len(here), 'alert')}, and says that it has "
            f"{pack.incident.alerts}"
        )


# -- moves -------------------------------------------------------------------------------------


def _check_incident(pack: Pack, done: list[_Done], findings: _Findings) -> None:
    incident = pack.incident
    own = [one for one in done if one.change.subject == incident_subject(incident.incident_id)]
    moves = [one for one in own if one.change.action.startswith("incident.")]
    _check_states("the incident", IncidentState.OPEN, moves, incident.state, findings)
    _check_notes(
        "the incident",
        [(one.change.at_us, one.change.actor, one.verb, one.change.reason) for one in moves],
        incident.notes,
        findings,
    )
    _check_opened(pack, done, findings)
    highest = max((_rank(one.severity) for one in pack.alerts), default=-1)
    if _rank(incident.severity) != highest:
        findings.faults.append("the incident's severity is not the highest of its alerts")


def _check_opened(pack: Pack, done: list[_Done], findings: _Findings) -> None:
    """That it is about whom its alerts are about, was opened by one of them when it says, which its
    id is made of, and says what that one said."""
    incident = pack.incident
    if any(one.agent != incident.agent for one in pack.alerts):
        findings.faults.append("the incident names another agent than its alerts")
    runs = {one.run for one in pack.alerts}
    if incident.run != (min(runs) if len(runs) == 1 else ""):
        findings.faults.append("the incident names another run than its alerts")
    opener = next(
        (
            one
            for one in pack.alerts
            if opened_id(pack.tenant, one.alert_id, incident.opened_us) == incident.incident_id
        ),
        None,
    )
    if opener is None and _OWN_ID.fullmatch(incident.incident_id) is None:
        findings.unknown("when the incident was opened, and by which alert: its id does not say it")
    elif opener is None:
        findings.faults.append("the incident was opened by none of its alerts at the time it says")
    elif incident.title not in {opener.reason, *_reasons_told(opener, done)}:
        findings.faults.append("the incident's title is not what the alert said that opened it")


def _reasons_told(alert: PackedAlert, done: list[_Done]) -> Iterator[str]:
    """What receipts say that an alert said."""
    for one in done:
        if one.change.action == RAISED and one.said is not None:
            for told in one.after().get("alerts", ()):
                if told.get("alert_id") == alert.alert_id:
                    yield str(told.get("reason"))


def _check_alert(pack: Pack, alert: PackedAlert, done: list[_Done], findings: _Findings) -> None:
    name = f"alert {alert.alert_id}"
    subjects = {
        alert_subject(alert.alert_id): "alert.",
        incident_subject(pack.incident.incident_id): "incident.close",
    }
    state: Any = AlertState.OPEN.value
    told: list[tuple[int, str, str, str]] = []
    for one in done:
        change = one.change
        prefix = subjects.get(change.subject)
        if prefix is None or not change.action.startswith(prefix):
            continue
        if prefix == "incident.close":
            _check_end(name, alert, one.after().get("evidence_sha256"), findings)
            if state != AlertState.CLOSED:
                why = f"with incident {pack.incident.incident_id}"
                told.append((change.at_us, change.actor, one.verb, why))
            state = AlertState.CLOSED.value
            continue
        if one.state("before") != state:
            findings.faults.append(f"{name}: {change.action} does not follow what was before")
        state = one.state("after")
        if state == AlertState.CLOSED:
            rests = one.after().get("evidence_sha256")
            _check_end(name, alert, {alert.alert_id: rests}, findings)
        told.append((change.at_us, change.actor, one.verb, change.reason))
    if state != alert.state:
        findings.faults.append(f"{name} is {alert.state}, by its receipts it is {state}")
    _check_notes(name, told, alert.notes, findings)


def _check_end(name: str, alert: PackedAlert, said: Any, findings: _Findings) -> None:
    """An end commits to everything an alert rests on."""
    every = [*alert.evidence.raised, *alert.evidence.joined]
    if not isinstance(said, dict) or said.get(alert.alert_id) != _digest(every):
        findings.faults.append(f"{name}: the receipts it rests on were changed after its end")


def _check_states(
    name: str, first: str, moves: list[_Done], last: str, findings: _Findings
) -> None:
    state: Any = str(first)
    for one in moves:
        if one.state("before") != state:
            findings.faults.append(f"{name}: {one.change.action} does not follow what was before")
        state = one.state("after")
    if state != last:
        findings.faults.append(f"{name} is {last}, by its receipts it is {state}")


def _check_notes(
    name: str, told: list[tuple[int, str, str, str]], notes: list[SaidNote], findings: _Findings
) -> None:
    noted = [(one.at_us, one.actor, one.did, one.text) for one in notes if one.did in _TOLD]
    if noted != told:
        findings.faults.append(f"{name}: its notes are not those that receipts tell of")


def _digest(named: list[NamedReceipt]) -> str:
    return evidence_digest(list(_evidence(named)))


def _evidence(named: list[NamedReceipt]) -> Iterator[Evidence]:
    for one in named:
        yield Evidence(one.seq, one.receipt_hash, one.call_id, one.at_us)


def _rank(severity: str) -> int:
    found = SEVERITIES.get(severity)
    return -1 if found is None else int(found)


def _json(text: Any) -> Any:
    """What it says; a text that says nothing is no less than itself."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
