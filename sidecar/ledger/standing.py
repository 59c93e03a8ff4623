"""Whether what stands in the store stands there as the last change of it left it.

Agents, keys, pins of tools, containments, alerts and incidents.

Knows: what changes of state say of what they left, so far as that can be held against a row: never
a secret. Who writes to the store by hand thaws an agent, makes himself a key, ends a containment or
pins another tool without a receipt; the chain holds, and what stands there is named. Of a chain
that was cut only what changed since can be judged.
Must not know: how a change is made, whether a receipt holds, what is made of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple

import orjson

from sidecar.ledger.pin_entries import ACCEPTED, FORGOTTEN, PINNED
from storage.listings import Listings
from storage.records import AFTER_ALL_IDS
from storage.sql_store import SqlReader
from storage.standing import AgentRow, AuditRow, KeyRow, PinRow
from storage.watch_rows import AlertRow, ContainmentRow, IncidentRow

#: What is followed at once of each kind.
FOLLOWED_MAX: Final = 100_000
_PAGE_ROWS: Final = 500

#: What begins a containment of an agent's own standing leaves the agent as.
_STANDINGS: Final[Mapping[Any, str]] = {
    "freeze-agent": "frozen", "quarantine-agent": "quarantined", "revoke-agent": "revoked",
}  # fmt: skip
_AGENT: Final = "agent"
_ROTATED: Final = "agent.rotate_token"
_KEY: Final = "key"
_CONTAINMENT: Final = "containment"
_PIN: Final = "the pin of tool"
_ALERT: Final = "alert"
_INCIDENT: Final = "incident"
_KINDS: Final = (_AGENT, _KEY, _CONTAINMENT, _PIN, _ALERT, _INCIDENT)
_PINS: Final = frozenset({f"tools.{ACCEPTED}", f"tools.{PINNED}"})
_FORGOTTEN: Final = f"tools.{FORGOTTEN}"

#: What a pass of detections raised.
_RAISED: Final = "alerts.raised"

#: What a pass says of an alert that stays, beside whom it is about and why.
_OF_ALERT: Final = (
    "detection", "agent", "run", "incident_id", "severity", "first_us", "evidence_sha256",
)  # fmt: skip
#: What people do with one, as its notes have it.
_CLOSE: Final = "close"
_MOVES: Final = ("acknowledge", _CLOSE)
_OF_MOVES: Final = "moves_sha256"
_CLOSED: Final = "closed"
_SEVERITIES: Final = ("info", "low", "medium", "high", "critical")

Shown = Mapping[str, Any]
#: Rows of a tenant before an id, the newest first.
_Pages = Callable[[str, str, int], Awaitable[Sequence[Any]]]


class _Said(NamedTuple):
    """What the newest change of something left; nothing of what is not known."""

    seq: int
    after: Shown


class LastSaid:
    """Follows the changes of state of a tenant, oldest first."""

    def __init__(self, *, is_whole: bool) -> None:
        """`is_whole` says that they are read from the chain's beginning."""
        self._is_whole = is_whole
        self._said: dict[str, dict[str, _Said]] = {kind: {} for kind in _KINDS}
        #: By containment of an agent's standing: its receipt, and the agent before.
        self._begun: dict[str, _Said] = {}
        #: By agent, the receipt of its last new token.
        self._rotated: dict[str, int] = {}

    def take(self, row: AuditRow) -> None:
        """The next change."""
        kind, _, verb = row.action.partition(".")
        after = _object(row.after_state)
        if kind == _CONTAINMENT:
            self._contained(row.seq, verb, after)
        elif kind in (_AGENT, _KEY, _ALERT, _INCIDENT):
            subject, _, name = row.subject.partition(":")
            if subject == kind and "state" in after:
                known = self._said[kind].get(name) if kind == _ALERT else None
                left = after if known is None else _moved(known.after, row, verb, row.reason)
                self._note(kind, name, row.seq, left)
                if row.action == _ROTATED:
                    self._rotated[name] = row.seq
            if kind == _INCIDENT and after.get("state") == _CLOSED:
                self._closed(row, verb, after.get("evidence_sha256"))
        elif row.action == _RAISED:
            self._raised(row.seq, after)
        elif kind == "tools":
            upstream = row.subject.partition(":")[2]
            for tool, digest in after.items():
                name = f"{upstream}/{tool}"
                if row.action == _FORGOTTEN:
                    self._said[_PIN].pop(name, None)
                # Beside what has drifted there may be what is new, and nothing tells them apart.
                elif row.action in _PINS or name not in self._said[_PIN]:
                    self._note(_PIN, name, row.seq, {"sha256": digest})

    def _contained(self, seq: int, verb: str, after: Shown) -> None:
        containment, agent = str(after.get("containment_id", "")), str(after.get("agent"))
        self._note(_CONTAINMENT, containment, seq, after)
        standing = _STANDINGS.get(str(after.get("action")))
        if standing is not None and verb == "begin":
            self._held(seq, agent, containment, standing)
        elif standing is not None:
            self._let_go(seq, agent, containment)

    def _held(self, seq: int, agent: str, containment: str, standing: str) -> None:
        """An agent stands otherwise, and is what it was but for that."""
        known = self._said[_AGENT].get(agent)
        before = known.after if known is not None else {}
        if len(self._begun) < FOLLOWED_MAX:
            self._begun[containment] = _Said(seq, before)
        # How often it was changed is not said.
        kept = {name: before[name] for name in ("profile", "token") if name in before}
        self._note(_AGENT, agent, seq, {**kept, "state": standing})

    def _let_go(self, seq: int, agent: str, containment: str) -> None:
        """It stands as before, unless it was changed meanwhile; but a new token is no such change,
        and of one that was given meanwhile it is not known whether there was more."""
        known, begun = self._said[_AGENT].get(agent), self._begun.pop(containment, None)
        left = {**known.after} if known is not None else {}
        for name in ("state", "version"):
            left.pop(name, None)
        if known is None or begun is None or self._rotated.get(agent) == known.seq:
            self._note(_AGENT, agent, seq if known is None else known.seq, left)
        elif known.seq == begun.seq:
            state = {"state": begun.after["state"]} if "state" in begun.after else {}
            self._note(_AGENT, agent, seq, left | state)

    def _raised(self, seq: int, after: Shown) -> None:
        """Alerts begin open, and so do their incidents; some older ones come to an incident."""
        alerts, linked, incidents = (after.get(name) for name in ("alerts", "linked", "incidents"))
        for one in alerts if isinstance(alerts, list) else ():
            if not isinstance(one, dict):
                continue
            left = {name: one[name] for name in _OF_ALERT if name in one}
            if "subject" in one:
                left["subject"] = orjson.dumps(one["subject"]).decode()
            if "reason" in one:
                left["reason_sha256"] = _digest(str(one["reason"]))
            left[_OF_MOVES] = ""
            self._note(_ALERT, str(one.get("alert_id")), seq, {"state": "open", **left})
        for name, incident in linked.items() if isinstance(linked, dict) else ():
            known = self._said[_ALERT].get(name)
            if known is not None:
                self._note(_ALERT, name, seq, {**known.after, "incident_id": incident})
        for name in incidents if isinstance(incidents, list) else ():
            self._note(_INCIDENT, str(name), seq, {"state": "open"})

    def _closed(self, row: AuditRow, verb: str, alerts: Any) -> None:
        """An incident that ends, ends its alerts."""
        with_it = f"with incident {row.subject.partition(':')[2]}"
        for name in alerts if isinstance(alerts, dict) else ():
            known = self._said[_ALERT].get(name)
            if known is not None and known.after.get("state") != _CLOSED:
                self._note(_ALERT, name, row.seq, _moved(known.after, row, verb, with_it))

    def _note(self, kind: str, name: str, seq: int, after: Shown) -> None:
        known = self._said[kind]
        if name in known or len(known) < FOLLOWED_MAX:
            known[name] = _Said(seq, after)
        else:
            self._is_whole = False

    def strays(
        self, kind: str, rows: Mapping[str, Shown], *, are_all: bool = True
    ) -> Iterator[str]:
        """In words, each row of a kind that is not what was said of it, or is gone; where
        `are_all` rows are given."""
        said = self._said[kind]
        for name, row in sorted(rows.items()):
            last = said.get(name)
            if last is None:
                if self._is_whole:
                    yield f"{kind} {name!a} stands in the store, and no change tells of it"
                continue
            for key in sorted(row.keys() & last.after.keys()):
                if key == _OF_MOVES and row.get("state") != last.after.get("state"):
                    continue  # that says it
                if _differs(key, row[key], last.after[key]):
                    yield (
                        f"{kind} {name!a}: its {key} is {_short(row[key])}, and by receipt "
                        f"{last.seq} {_short(last.after[key])}"
                    )
        for name in sorted(said.keys() - rows.keys()) if are_all else ():
            yield f"{kind} {name!a} is not in the store, and receipt {said[name].seq} tells of it"


async def strays_of(
    reader: SqlReader, tenant_id: str, said: LastSaid, seq: int, *, is_watched: bool
) -> list[str] | None:
    """What stands in the store otherwise than the changes up to `seq` say; None if there are
    changes after it, which are not known here. `is_watched` says that its schema has containments.
    Raises a StoreError."""
    agents = {row.agent_id: _agent(row) for row in await reader.agents(tenant_id)}
    keys = {row.key_id: _key(row) for row in await reader.api_keys(tenant_id)}
    pins: dict[str, Shown] = {}
    for tenant, upstream in await reader.pinned_upstreams():
        if tenant == tenant_id:
            rows = await reader.tool_pins(tenant_id, upstream)
            pins.update((f"{upstream}/{row.tool}", _pin(row)) for row in rows)
    found = [*said.strays(_AGENT, agents), *said.strays(_KEY, keys), *said.strays(_PIN, pins)]
    if is_watched:
        pages: tuple[tuple[str, _Pages, Callable[[Any], tuple[str, Shown]]], ...] = (
            (_CONTAINMENT, reader.containments_before, _containment),
            (_ALERT, reader.alerts_before, _alert),
            (_INCIDENT, reader.incidents_before, _incident),
        )
        for kind, page, shown in pages:
            shown_rows, are_all = await _every(page, tenant_id, shown)
            found += said.strays(kind, shown_rows, are_all=are_all)
    return found if await Listings(reader).last_change(tenant_id) <= seq else None


async def _every(
    page: _Pages, tenant_id: str, shown: Callable[[Any], tuple[str, Shown]]
) -> tuple[dict[str, Shown], bool]:
    """The newest rows, as far as they are held against what was said, and whether they are all."""
    found: dict[str, Shown] = {}
    before = AFTER_ALL_IDS
    while rows := await page(tenant_id, before, _PAGE_ROWS):
        found.update(map(shown, rows))
        before = shown(rows[-1])[0]
        if len(found) >= FOLLOWED_MAX:
            return found, False
    return found, True


def _agent(row: AgentRow) -> Shown:
    profile = _object(row.profile)
    return {"state": row.state, "profile": profile, "token": bool(row.token_sha256),
            "version": row.version}  # fmt: skip


def _key(row: KeyRow) -> Shown:
    profile = _object(row.profile)
    return {
        "state": row.state, "expires_at_us": row.expires_at_us,
        **{key: _sorted(profile[key]) for key in ("roles", "groups") if key in profile},
    }  # fmt: skip


def _pin(row: PinRow) -> Shown:
    """By its hash, which has to be that of the definition: calls are held against that."""
    own = sha256(row.definition.encode("utf-8", "surrogatepass")).hexdigest()
    return {"sha256": row.sha256 if row.sha256 == own else f"of another definition, {own}"}


def _containment(row: ContainmentRow) -> tuple[str, Shown]:
    return row.containment_id, {
        "state": row.state, "action": row.action, "subject": row.subject, "actor": row.actor,
        "started_us": row.started_us, "until_us": row.until_us or None, "reason": row.reason,
        "incident_id": row.incident_id or None,
    }  # fmt: skip


def _alert(row: AlertRow) -> tuple[str, Shown]:
    return row.alert_id, {
        "state": row.state, "detection": row.detection, "agent": row.agent_id,
        "incident_id": row.incident_id, "run": row.run_id, "severity": row.severity,
        "subject": row.subject, "first_us": row.first_us,
        "reason_sha256": _digest(row.reason), "evidence_sha256": _evidence_digest(row.evidence),
        _OF_MOVES: _moves_digest(row.notes),
    }  # fmt: skip


def _incident(row: IncidentRow) -> tuple[str, Shown]:
    return row.incident_id, {"state": row.state}


def _differs(key: str, here: Any, said: Any) -> bool:
    """A severity may have risen by later hits, of which no receipt tells."""
    if key == "severity" and here in _SEVERITIES and said in _SEVERITIES:
        return _SEVERITIES.index(here) < _SEVERITIES.index(said)
    return bool(here != said)


def _moved(known: Shown, row: AuditRow, verb: str, text: str) -> Shown:
    """An alert as a move leaves it."""
    state = _CLOSED if verb == _CLOSE else _object(row.after_state).get("state")
    left = {**known, "state": state}
    if _OF_MOVES in known:
        left[_OF_MOVES] = _folded(known[_OF_MOVES], row.at_us, row.actor, verb, text)
    return left


def _moves_digest(notes: str) -> str:
    """Of what people did, as its notes tell it, one after the other."""
    found = ""
    for one in _object(f'{{"notes":{notes}}}').get("notes") or ():
        if isinstance(one, dict) and one.get("did") in _MOVES:
            found = _folded(found, *(one.get(name) for name in ("at_us", "actor", "did", "text")))
    return found


def _folded(before: str, *said: Any) -> str:
    return _digest(before + orjson.dumps(said).decode())


def _evidence_digest(text: str) -> str:
    """Of the receipts an alert was raised for, as its receipt has it."""
    raised = _object(text).get("raised")
    return sha256(orjson.dumps(raised, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _digest(text: str) -> str:
    """Of a text that is too long to be kept of every alert."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _sorted(value: Any) -> Any:
    return sorted(map(str, value)) if isinstance(value, list) else value


def _object(text: str) -> dict[str, Any]:
    try:
        said = orjson.loads(text) if text else None
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return f"{text[:80]!a}{'…' if len(text) > 80 else ''}"
