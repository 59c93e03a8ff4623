"""Runs the cases of a detection: each event is drafted as the record would have it, read back from
there, shown to an engine, and the alerts are counted.

Knows: that a detection sees of a call only what was recorded, so that a test shows what it would
see. Events of the store and the chain have no receipt.
Must not know: files, stores, how results are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sidecar.errors import Refused
from sidecar.ledger.commitment import NONCE_BYTES
from sidecar.ledger.drafts import call_draft, unread_draft
from sidecar.ledger.receipt import blank_receipt
from sidecar.model import Decision, Effect
from sidecar.policy.case_runner import named_call
from sidecar.policy.catalogue import Catalogue
from sidecar.policy.runs import beginning
from sidecar.soc.detection import Detections
from sidecar.soc.detection_cases import YES, DetectionCase, DetectionCaseFile, GivenEvents
from sidecar.soc.engine import Engine
from sidecar.soc.events import event_of
from sidecar.soc.joining import Alerts
from sidecar.soc.model import Event, EventKind, Evidence, Hit
from storage.records import CallFactsRow, ReceiptRow, RecordedEvent

#: Masks in arguments what is never recorded.
Redact = Callable[[Mapping[str, Any]], Mapping[str, Any]]

_REVISION: Final = "test"
_NONCE: Final = bytes(NONCE_BYTES)
_APPROVER: Final = "somebody"
#: What a decision came to where a test says only its effect.
_USUAL_CODES: Final = {
    Effect.ALLOW: "policy_allow",
    Effect.DENY: "policy_deny",
    Effect.REQUIRE_APPROVAL: "approval_pending",
}


@dataclass(frozen=True, slots=True)
class DetectionCases:
    """A test file with the detections it names and the catalogue its calls go by."""

    file: DetectionCaseFile
    detections: Detections
    catalogue: Catalogue

    def kind(self, given: GivenEvents) -> EventKind:
        """The kind of an event: its own, or that of the first detection named."""
        if given.kind is not None:
            return given.kind
        found = self.detections.named(self.file.detections[0][0])
        return found.event if found is not None else EventKind.DECISION


@dataclass(frozen=True, slots=True)
class DetectionCaseResult:
    """What came of a case: the hits that opened alerts, and conditions that could not be
    evaluated."""

    case: DetectionCase
    alerts: Sequence[Hit]
    failed: Mapping[str, int]
    refused: str = ""

    @property
    def passed(self) -> bool:
        """Whether as many alerts came as are expected, and nothing failed."""
        is_right = len(self.alerts) == self.case.expect
        return is_right and not self.failed and not self.refused


def run_detection_case(
    cases: DetectionCases,
    case: DetectionCase,
    redact: Redact,
    tick: Callable[[], None] = lambda: None,
) -> DetectionCaseResult:
    """Shows the events of one case to an engine of its own; `tick` is called before each."""
    tenant = case.events[0].principal.tenant
    engine = Engine(cases.detections, tenant)
    alerts = Alerts()
    try:
        for event in _events_of(cases, case, redact):
            tick()
            for hit in engine.see(event):
                alerts.take(hit)
    except Refused as error:
        return DetectionCaseResult(case, (), {}, f"{error.code}: {error.reason}")
    return DetectionCaseResult(case, tuple(alerts.opened), dict(engine.failed))


def _events_of(cases: DetectionCases, case: DetectionCase, redact: Redact) -> Iterator[Event]:
    at_us, seq = case.now_us, 0
    for given in case.events:
        kind = cases.kind(given)
        at_us += given.pause_us
        for _ in range(given.times):
            seq += 1
            event = _event(cases.catalogue, given, kind, at_us, seq, redact)
            if event is not None:
                yield event
            at_us += given.every_us


def _event(
    catalogue: Catalogue,
    given: GivenEvents,
    kind: EventKind,
    at_us: int,
    seq: int,
    redact: Redact,
) -> Event | None:
    """Raises Refused for arguments that the catalogue does not take."""
    if kind in (EventKind.STORE, EventKind.CHAIN):
        evidence = Evidence(seq, f"{seq:064x}", "", at_us)
        return Event(kind, given.principal.tenant, evidence, code=given.code)
    receipt, facts = _recorded(catalogue, given, kind, at_us, f"{seq:032x}", redact)
    receipt = receipt._replace(seq=seq, receipt_hash=f"{seq:064x}")
    return event_of(RecordedEvent(receipt, facts))


def _recorded(
    catalogue: Catalogue,
    given: GivenEvents,
    kind: EventKind,
    at_us: int,
    event_id: str,
    redact: Redact,
) -> tuple[ReceiptRow, CallFactsRow | None]:
    if kind is EventKind.DECISION:
        return _decided(catalogue, given, at_us, event_id, redact)
    what = {EventKind.OUTCOME: "outcome", EventKind.APPROVAL: "approval"}.get(kind, "control")
    action = {"approval": f"approval.{given.code}", "control": f"tools.{given.code}"}.get(what)
    receipt = blank_receipt(
        given.principal.tenant,
        what,
        event_id=event_id,
        call_id=None if what == "control" else event_id,
        ts_us=at_us,
        agent_id=given.principal.agent,
        outcome=given.code if what == "outcome" else None,
    )
    if what == "outcome":
        return receipt, None
    upstream = given.call.partition("/")[0]
    return receipt._replace(upstream=upstream, tool=given.call, action=action), None


def _decided(
    catalogue: Catalogue, given: GivenEvents, at_us: int, event_id: str, redact: Redact
) -> tuple[ReceiptRow, CallFactsRow | None]:
    effect = given.effect or Effect.DENY
    code = given.code or _USUAL_CODES[effect]
    if not given.call:
        return unread_draft(
            given.principal,
            call_id=event_id,
            upstream="",
            tool=None,
            action="",
            refused=Refused(code),
            ts_us=at_us,
        ), None
    call = named_call(catalogue, given.call, given.args, given.http)
    run = beginning(given.principal.trust)
    if given.run is not None:
        run = given.run.state(given.principal.trust, at_us)
    approver = _APPROVER if code == YES else None
    decision = Decision(effect, code, "", _REVISION, mode=given.mode, approver=approver)
    refused = None if decision.forward else Refused(code, decision=decision)
    return call_draft(
        "intent" if refused is None else "refusal",
        given.principal,
        call._replace(call_id=event_id, run_id=given.run.run_id or None if given.run else None),
        decision,
        refused,
        ts_us=at_us,
        nonce=_NONCE,
        arguments=redact(call.args),
        keeps_arguments=True,
        run=run,
    )
