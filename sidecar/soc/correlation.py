"""From hits to alerts and incidents: what is the same is counted, what belongs together is linked.

Knows, as rules:
- **One alert for one thing.** A hit joins the alert of its detection and subject for as long as
  that is quiet (from its first hit on, so that what goes on for longer is told of again), unless
  people have closed it, for what happens after that is news, or its row cannot be read.
- **One incident for one agent's trouble.** An alert joins an incident of its agent that is not
  closed and saw something within the last hour (`TOGETHER_US`). If there is none, an alert of
  severity high or above opens one. One below that is noise by itself, and opens one only when
  another detection noticed the same agent within that hour: two different weak signs are a strong
  one, twice the same is not. Whatever opens an incident takes with it the alerts of its agent of
  that hour that belonged to none. What no agent did (a store that refuses, a chain that breaks)
  is the tenant's, and linked in the same way. Runs link nothing, for a run may be of a caller's own
  naming: an incident names its run for as long as all of it is of one.
- **Severity** of an incident is the highest of its alerts, ever.
- **Ids** are made of the tenant, the detection, the subject and the event that completed the hit,
  time first: whoever correlates the same hits again comes to the same rows.
- **Bounds**: a full incident takes no more and another is opened; where too many are open, an alert
  is raised without one and counted as `withheld`. Where one detection has raised as many of one
  agent within the hour as nobody reads one by one, further hits join the newest: what subjects
  there are may be the caller's to choose.
Pure: the same rows and hits give the same answer. Must not know: stores, clocks, sinks, people.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, NamedTuple

import orjson

from sidecar.soc.alert_states import AlertState, IncidentState
from sidecar.soc.evidence import Resting, evidence_text, first_of, joined_to, read_evidence
from sidecar.soc.levels import Level
from sidecar.soc.model import SEVERITIES, Hit, Response, Severity
from sidecar.soc.notes import Note, notes_text
from storage.watch_rows import AlertRow, IncidentRow

#: Alerts of one agent belong together that are no further apart, in microseconds: 1 h.
TOGETHER_US: Final = 3_600_000_000
#: From this severity on an alert opens an incident by itself.
OPENS_FROM: Final = Severity.HIGH
ALERTS_PER_INCIDENT_MAX: Final = 50
#: Of one detection and agent, within `TOGETHER_US`, that nobody has closed.
ALERTS_OF_AGENT_MAX: Final = 100
OPEN_INCIDENTS_MAX: Final = 1_000
#: Alerts that are read to be joined: those quiet after `look_back_us` of the first hit.
QUIET_ALERTS_MAX: Final = 2_000
TEXT_CHARS_MAX: Final = 400

#: Digits of an id: time in microseconds, then of a hash. 32 in all, as other ids have.
_TIME_DIGITS: Final = 14
_HASH_DIGITS: Final = 18


class Raised(NamedTuple):
    """A hit that raised an alert, and the incident that belongs to, if any."""

    hit: Hit
    alert: AlertRow
    incident: IncidentRow | None


class Noticed(NamedTuple):
    """What is to be put, each row one version on, and what of it is news.

    `alerts` and `incidents` are all rows that changed, new ones among them; `raised` are the alerts
    that are new, with the hits that raised them, in order; `opened_incidents` the incidents that
    are. `linked` are ids of older alerts that came to an incident now. `joined` counts hits that
    only joined an alert, `withheld` those that should have opened an incident where too many are
    open.
    """

    alerts: tuple[AlertRow, ...] = ()
    incidents: tuple[IncidentRow, ...] = ()
    raised: tuple[Raised, ...] = ()
    opened_incidents: tuple[IncidentRow, ...] = ()
    linked: tuple[str, ...] = ()
    joined: int = 0
    withheld: int = 0

    @property
    def opened_alerts(self) -> tuple[AlertRow, ...]:
        """The alerts that are new."""
        return tuple(one.alert for one in self.raised)

    @property
    def has_news(self) -> bool:
        """Whether a receipt has to tell of it. If not, hits only joined: `put_rows` will do."""
        return bool(self.raised or self.opened_incidents or self.linked)


def look_back_us(hits: Iterable[Hit]) -> int:
    """What `WatchReader.alerts_quiet` is to be asked with, to have every alert that these hits may
    join or meet."""
    return min((hit.at_us for hit in hits), default=TOGETHER_US) - TOGETHER_US


def subject_text(subject: Iterable[str]) -> str:
    """A subject as alerts keep it."""
    return orjson.dumps(list(subject)).decode()


def alert_id(hit: Hit) -> str:
    """The id of the alert that a hit raises."""
    return _id(hit.at_us, ["alert", hit.tenant, hit.detection, list(hit.subject), hit.seq])


def incident_id_of(alert: AlertRow, opened_us: int) -> str:
    """The id of the incident that an alert opens at that time; its title is the alert's reason."""
    return opened_id(alert.tenant_id, alert.alert_id, opened_us)


def opened_id(tenant: str, alert: str, opened_us: int) -> str:
    """The same, by the id of the alert."""
    return _id(opened_us, ["incident", tenant, alert, opened_us])


def correlate(
    tenant: str,
    hits: Iterable[Hit],
    quiet_alerts: Iterable[AlertRow],
    open_incidents: Iterable[IncidentRow],
    level: Level,
    at_us: int,
) -> Noticed:
    """What comes of hits, whatever their order.

    `quiet_alerts` are those of the store since `look_back_us(hits)`, `open_incidents` those that
    are not closed, at most `OPEN_INCIDENTS_MAX`. `at_us` is when rows are said to have changed;
    nothing else is made of it. At `Level.RECOMMEND` a new alert carries its detection's response as
    a note. Raises ValueError for a hit or a row of another tenant.
    """
    desk = _Desk(tenant, level, at_us)
    for alert in quiet_alerts:
        desk.know_alert(alert)
    for incident in open_incidents:
        desk.know_incident(incident)
    for hit in sorted(hits, key=lambda one: (one.at_us, one.seq, one.detection, one.subject)):
        desk.take(hit)
    return desk.noticed()


@dataclass(slots=True)
class _Desk:
    """Rows as they stand while hits are taken one by one; versions are raised at the end."""

    tenant: str
    level: Level
    at_us: int
    alerts: dict[str, AlertRow] = field(default_factory=dict)
    #: What alerts rest on that are new, or that a hit joins: of those the row is behind.
    resting: dict[str, Resting] = field(default_factory=dict)
    incidents: dict[str, IncidentRow] = field(default_factory=dict)
    #: By detection and subject, those that take hits.
    quiet: dict[tuple[str, str], str] = field(default_factory=dict)
    #: Alerts by agent.
    of_agent: dict[str, dict[str, None]] = field(default_factory=dict)
    #: Versions that stand in the store; 0 of what is new.
    versions: dict[str, int] = field(default_factory=dict)
    changed: dict[str, None] = field(default_factory=dict)
    raising: list[tuple[Hit, str]] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    linked: list[str] = field(default_factory=list)
    joined: int = 0
    withheld: int = 0

    def know_alert(self, row: AlertRow) -> None:
        """One that stands."""
        self._own(row.tenant_id)
        if row.severity in SEVERITIES:
            self.versions[row.alert_id] = row.version
            self._keep(row)

    def know_incident(self, row: IncidentRow) -> None:
        """One that stands and is not closed."""
        self._own(row.tenant_id)
        if row.state != IncidentState.CLOSED and row.severity in SEVERITIES:
            self.versions[row.incident_id] = row.version
            self.incidents[row.incident_id] = row

    def take(self, hit: Hit) -> None:
        """One hit, not older than those before it."""
        self._own(hit.tenant)
        alert = self._quiet_alert(hit) or self._one_of_many(hit)
        alert = self._raised(hit) if alert is None else self._joined(alert, hit)
        self.changed[alert.alert_id] = None
        self._link(alert, hit.at_us)

    def noticed(self) -> Noticed:
        """All that came of it."""
        alerts = {key: self._next_alert(key) for key in self.changed if key in self.alerts}
        incidents = {key: self._next_incident(key) for key in self.changed if key in self.incidents}
        return Noticed(
            tuple(alerts.values()),
            tuple(incidents.values()),
            tuple(
                Raised(hit, alerts[key], incidents.get(alerts[key].incident_id))
                for hit, key in self.raising
            ),
            tuple(incidents[key] for key in self.opened),
            tuple(self.linked),
            self.joined,
            self.withheld,
        )

    # -- alerts --------------------------------------------------------------------------------

    def _quiet_alert(self, hit: Hit) -> AlertRow | None:
        found = self.quiet.get((hit.detection, subject_text(hit.subject)))
        if found is None:
            return None
        alert = self.alerts[found]
        is_quiet = hit.at_us < alert.quiet_until_us
        return alert if is_quiet and self._is_readable(alert) else None

    def _one_of_many(self, hit: Hit) -> AlertRow | None:
        """The newest of too many of the detection and agent; None where there is room."""
        rows = (self.alerts[key] for key in self.of_agent.get(hit.agent, ()))
        same = [
            (row.first_us, row.alert_id)
            for row in rows
            if row.detection == hit.detection
            and row.state != AlertState.CLOSED
            and row.first_us > hit.at_us - TOGETHER_US
        ]
        newest = self.alerts[max(same)[1]] if len(same) >= ALERTS_OF_AGENT_MAX else None
        return newest if newest is not None and self._is_readable(newest) else None

    def _is_readable(self, alert: AlertRow) -> bool:
        """Reads what an alert rests on, when that is wanted: of most it never is."""
        if alert.alert_id not in self.resting:
            try:
                self.resting[alert.alert_id] = read_evidence(alert.evidence)
            except ValueError:
                return False
        return True

    def _joined(self, alert: AlertRow, hit: Hit) -> AlertRow:
        self.joined += 1
        alert = alert._replace(
            hits=alert.hits + 1,
            severity=max(SEVERITIES[alert.severity], hit.severity).label,
            last_us=max(alert.last_us, hit.at_us),
        )
        key = alert.alert_id
        self.alerts[key] = alert
        self.resting[key] = joined_to(self.resting[key], hit.evidence, hit.left_out)
        return alert

    def _raised(self, hit: Hit) -> AlertRow:
        key = alert_id(hit)
        if key in self.alerts and self._is_readable(self.alerts[key]):
            # The very hit again, after people closed what it raised.
            return self._joined(self.alerts[key], hit)
        notes: tuple[Note, ...] = ()
        if self.level is Level.RECOMMEND and hit.respond is not None:
            text = response_text(hit.respond)
            notes = (Note(self.at_us, f"detection:{hit.detection}", "recommend", text),)
        resting = first_of(hit.evidence, hit.left_out)
        alert = AlertRow(
            self.tenant, key, 0, AlertState.OPEN.value, hit.detection, hit.severity.label,
            subject_text(hit.subject), hit.agent, hit.run, "", hit.reason[:TEXT_CHARS_MAX], 1,
            evidence_text(resting), notes_text(notes), hit.at_us, hit.at_us,
            hit.at_us + hit.quiet_us, self.at_us,
        )  # fmt: skip
        self.resting[key] = resting
        self._keep(alert)
        self.raising.append((hit, key))
        return alert

    def _keep(self, row: AlertRow) -> None:
        self.alerts[row.alert_id] = row
        self.of_agent.setdefault(row.agent_id, {})[row.alert_id] = None
        if row.state != AlertState.CLOSED:
            key = (row.detection, row.subject)
            other = self.alerts.get(self.quiet.get(key, ""))
            if other is None or other.quiet_until_us <= row.quiet_until_us:
                self.quiet[key] = row.alert_id

    # -- incidents -----------------------------------------------------------------------------

    def _link(self, alert: AlertRow, at_us: int) -> None:
        if alert.incident_id:
            incident = self.incidents.get(alert.incident_id)
            if incident is not None:
                self._seen(incident, alert, at_us, is_new=False)
            return
        incident = self._open_incident(alert.agent_id, at_us)
        if incident is not None:
            self._into(incident, alert, at_us)
            return
        others = [one for one in self._loose(alert, at_us) if one.alert_id != alert.alert_id]
        is_met = any(one.detection != alert.detection for one in others)
        if SEVERITIES[alert.severity] < OPENS_FROM and not is_met:
            return
        if len(self.incidents) >= OPEN_INCIDENTS_MAX:
            self.withheld += 1
            return
        incident = self._opened(alert, at_us)
        for one in (alert, *others)[:ALERTS_PER_INCIDENT_MAX]:
            incident = self._into(incident, one, at_us)

    def _open_incident(self, agent: str, at_us: int) -> IncidentRow | None:
        """The one that an alert of the agent joins: of several the one that saw something last."""
        fitting = [
            one
            for one in self.incidents.values()
            if one.agent_id == agent
            and one.last_us > at_us - TOGETHER_US
            and one.alerts < ALERTS_PER_INCIDENT_MAX
        ]
        return max(fitting, key=lambda one: (one.last_us, one.incident_id), default=None)

    def _loose(self, alert: AlertRow, at_us: int) -> list[AlertRow]:
        """Alerts of the same agent, of the last hour, that belong to no incident; newest first."""
        found = [self.alerts[key] for key in self.of_agent.get(alert.agent_id, ())]
        loose = [
            one
            for one in found
            if not one.incident_id
            and one.state != AlertState.CLOSED
            and one.last_us > at_us - TOGETHER_US
        ]
        return sorted(loose, key=lambda one: (-one.last_us, one.alert_id))

    def _opened(self, alert: AlertRow, at_us: int) -> IncidentRow:
        incident = IncidentRow(
            self.tenant, incident_id_of(alert, at_us), 0,
            IncidentState.OPEN.value, alert.severity, alert.agent_id, alert.run_id,
            alert.reason, notes_text(()), at_us, at_us, self.at_us, 0,
        )  # fmt: skip
        self.opened.append(incident.incident_id)
        return incident

    def _into(self, incident: IncidentRow, alert: AlertRow, at_us: int) -> IncidentRow:
        if self.versions.get(alert.alert_id):
            self.linked.append(alert.alert_id)
        self.alerts[alert.alert_id] = alert._replace(incident_id=incident.incident_id)
        self.changed[alert.alert_id] = None
        return self._seen(incident, alert, at_us, is_new=True)

    def _seen(
        self, incident: IncidentRow, alert: AlertRow, at_us: int, *, is_new: bool
    ) -> IncidentRow:
        highest = max(SEVERITIES[incident.severity], SEVERITIES[alert.severity])
        incident = incident._replace(
            severity=highest.label,
            run_id=incident.run_id if incident.run_id == alert.run_id else "",
            last_us=max(incident.last_us, at_us),
            alerts=incident.alerts + is_new,
        )
        self.incidents[incident.incident_id] = incident
        self.changed[incident.incident_id] = None
        return incident

    # -- rows ----------------------------------------------------------------------------------

    def _next_alert(self, key: str) -> AlertRow:
        row, resting = self.alerts[key], self.resting.get(key)
        return row._replace(
            version=self.versions.get(key, 0) + 1,
            evidence=row.evidence if resting is None else evidence_text(resting),
            changed_at_us=self.at_us,
        )

    def _next_incident(self, key: str) -> IncidentRow:
        return self.incidents[key]._replace(
            version=self.versions.get(key, 0) + 1, changed_at_us=self.at_us
        )

    def _own(self, tenant: str) -> None:
        if tenant != self.tenant:
            raise ValueError(f"that is {tenant!r}'s, not {self.tenant!r}'s")


def response_text(response: Response) -> str:
    """What a detection asks to be done, in words: `freeze-agent for 3600 s`."""
    return f"{response.action} for {response.for_us // 1_000_000} s"


def _id(at_us: int, parts: list[object]) -> str:
    digest = sha256(orjson.dumps(parts)).hexdigest()
    return f"{at_us:0{_TIME_DIGITS}x}{digest[:_HASH_DIGITS]}"
