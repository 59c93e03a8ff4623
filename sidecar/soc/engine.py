"""The engine: events of one tenant, in the order of their receipts, become hits of detections.

Knows: which detections may want an event (worked out once for its kind, tool, agent, effect and
code), what each counts, what a hit says. An event that a condition cannot be given, because its
call holds too much, counts as what is looked for: else whoever calls could choose not to be seen.
The same events give the same hits, from wherever they are read again: whoever starts anew gives
it what was remembered (`remember`), shows it all events since `horizon_us` before its mark, and
carries on.
Must not know: stores, the clock, alerts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Final

from sidecar.policy.admission import OutOfReach
from sidecar.policy.meter import OverBudget
from sidecar.soc.detection import Detection, Detections, Wanted
from sidecar.soc.engine_memories import First, Usual
from sidecar.soc.engine_windows import Counting, Found, Sequence, Subject
from sidecar.soc.model import Event, Evidence, Hit
from storage.watch_rows import WatchMemory

#: Receipts a hit names at most: the first and the last of those it rests on.
EVIDENCE_MAX: Final = 20
#: Kinds of events (kind, tool, agent, effect, code, mode) of which is remembered who wants them.
PLANS_MAX: Final = 8192
#: Versions of memories that were forgotten here and may still be kept: more are let go.
VERSIONS_MAX: Final = 100_000
#: Before the reason of a hit whose last event nobody could look into.
UNSEEN: Final = "not looked into, for the call holds too much; it may be that "

_NOTHING: Final[tuple[Hit, ...]] = ()


class _Watching:
    """A detection with what it has counted so far."""

    __slots__ = ("counting", "detection", "memory", "sequence")

    def __init__(self, detection: Detection) -> None:
        self.detection = detection
        self.counting: Counting | None = None
        self.sequence: Sequence | None = None
        self.memory: First | Usual | None = None
        if detection.is_sequence:
            self.sequence = Sequence(len(detection.wanted), detection.within_us)
        elif detection.first is not None:
            self.memory = First(detection.first_name)
        elif detection.unusual is not None:
            unusual = detection.unusual
            self.memory = Usual(unusual.sigma, unusual.history_us, unusual.buckets)
        elif detection.within_us:
            self.counting = Counting(detection.at_least, detection.within_us)

    @property
    def parts(self) -> Counting | Sequence | First | Usual | None:
        """What counts; None where each event is a hit."""
        return self.counting or self.sequence or self.memory

    def see(self, event: Event, steps: tuple[int, ...]) -> Found | None:
        """One more event, which is what these steps look for."""
        detection, evidence = self.detection, event.evidence
        if self.counting is not None:
            value = None
            if detection.distinct is not None:
                value = detection.distinct(event)
                if value is None:
                    return None
            return self.counting.see(detection.subject(event), evidence, value)
        if self.sequence is not None:
            return self.sequence.see(detection.subject(event), evidence, steps)
        if self.memory is not None:
            value = detection.first(event) if detection.first is not None else None
            return self.memory.see(detection.subject(event), evidence, value)
        return Found(1, (evidence,))


#: What wants an event of one kind: a detection, and the steps of it that its receipt fits.
_Plan = tuple[tuple[_Watching, tuple[tuple[int, Wanted], ...]], ...]


class Engine:
    """Watches the events of one tenant. Not for several threads.

    `dropped` counts events and subjects that were forgotten before their time because there is no
    room for more, `failed` conditions that could not be evaluated on an event, by detection.
    """

    def __init__(self, detections: Detections, tenant: str) -> None:
        self._tenant = tenant
        self._secrets = detections.secrets
        self._watching = [_Watching(one) for one in detections.all]
        self._by_name = {one.detection.name: one for one in self._watching}
        self._plans: dict[tuple[object, ...], _Plan] = {}
        self._versions: dict[tuple[str, str], int] = {}
        self.revision = detections.revision
        self.failed: Counter[str] = Counter()

    @property
    def horizon_us(self) -> int:
        """How far before its mark a watcher has to read again, microseconds."""
        parts = (one.parts for one in self._watching)
        return max((part.horizon_us for part in parts if part is not None), default=0)

    @property
    def warm_up_us(self) -> int:
        """How far back everything lies that can matter, for who has nothing that was remembered."""
        parts = (one.parts for one in self._watching)
        return max((part.memory_us for part in parts if part is not None), default=0)

    @property
    def dropped(self) -> int:
        """What was forgotten before its time."""
        return sum(one.parts.dropped for one in self._watching if one.parts is not None)

    @property
    def kept(self) -> int:
        """Events and subjects that are kept at this moment."""
        return sum(one.parts.kept for one in self._watching if one.parts is not None)

    def see(self, event: Event) -> tuple[Hit, ...]:
        """The hits that an event completes. Events come in the order of their receipts. What a
        detection cannot tell of an event is counted in `failed` and is no hit, unless it is out of
        reach; never raises."""
        key = (event.kind, event.effect, event.code, event.mode, event.tool, event.agent)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._planned(key, event)
        if not plan:
            return _NOTHING
        hits: list[Hit] | None = None
        for watching, wanted in plan:
            steps, is_seen = self._met(watching, wanted, event)
            if steps:
                found = watching.see(event, steps)
                if found is not None:
                    hits = hits or []
                    hits.append(self._hit(watching.detection, event, found, is_seen))
        return tuple(hits) if hits else _NOTHING

    def remember(self, rows: Iterable[WatchMemory]) -> None:
        """What was kept, before any event is shown: all rows of the tenant. Rows of detections
        that are gone, or have another form now, say nothing."""
        known: list[tuple[int, str, Subject, str]] = []
        for row in rows:
            self._versions[row.detection, row.subject] = row.version
            watching = self._by_name.get(row.detection)
            if watching is not None and watching.memory is not None:
                known.append((_seq_of(row.state), row.detection, _subject_of(row), row.state))
        for _, name, subject, state in sorted(known):
            memory = self._by_name[name].memory
            if memory is not None:
                memory.restore(subject, state)

    def begin_anew(self, name: str, subject: Subject, found_us: int, at_us: int) -> None:
        """At `at_us` people closed what a detection had found of a subject, last at `found_us`:
        what goes on is counted from here, and found as soon as it is enough by itself."""
        watching = self._by_name.get(name)
        if watching is not None and watching.counting is not None:
            watching.counting.begin_anew(subject, found_us, at_us)

    def find_again(self, names: Iterable[str]) -> None:
        """What these detections count was not looked at with them before: what was found of it
        until here nobody has heard of, and what lasts is found at its next event."""
        for name in names:
            counting = self._by_name[name].counting
            if counting is not None:
                counting.find_again()

    def changed_memories(self) -> tuple[WatchMemory, ...]:
        """What must be kept with the mark up to which all events were shown, in one transaction.
        Each is given once: who cannot put them starts anew."""
        rows: list[WatchMemory] = []
        for watching in self._watching:
            if watching.memory is None:
                continue
            name = watching.detection.name
            for subject, state, until_us in watching.memory.memories.changed():
                text = json.dumps(subject, ensure_ascii=False, separators=(",", ":"))
                version = self._versions.get((name, text), 0) + 1
                self._versions[name, text] = version
                rows.append(WatchMemory(self._tenant, name, text, version, state, until_us))
        while len(self._versions) > VERSIONS_MAX:
            del self._versions[next(iter(self._versions))]
        return tuple(rows)

    def _met(
        self, watching: _Watching, wanted: tuple[tuple[int, Wanted], ...], event: Event
    ) -> tuple[tuple[int, ...], bool]:
        """The steps that the event is, and whether all of them were seen to be: of what cannot be
        told there are none, but for what is out of a condition's reach."""
        met: list[int] = []
        is_seen = True
        for number, one in wanted:
            try:
                if one.matches(event):
                    met.append(number)
            except (OutOfReach, OverBudget):
                met.append(number)
                is_seen = False
            except Exception:  # whatever a condition raises, of values that callers choose
                self.failed[watching.detection.name] += 1
                return (), True
        return tuple(met), is_seen

    def _planned(self, key: tuple[object, ...], event: Event) -> _Plan:
        plan: list[tuple[_Watching, tuple[tuple[int, Wanted], ...]]] = []
        for watching in self._watching:
            steps = enumerate(watching.detection.wanted)
            fitting = tuple((number, one) for number, one in steps if one.heard.fits(event))
            if fitting:
                plan.append((watching, fitting))
        if len(self._plans) >= PLANS_MAX:
            self._plans.clear()
        made = self._plans[key] = tuple(plan)
        return made

    def _hit(self, detection: Detection, event: Event, found: Found, is_seen: bool) -> Hit:
        reason = detection.reason.fill(
            event, self._secrets, found.counted, detection.within_us, found.usual
        )
        evidence = _first_and_last(found.evidence)
        return Hit(
            detection.name,
            detection.severity,
            event.tenant,
            detection.subject(event),
            event.agent,
            event.run,
            event.tool,
            event.upstream,
            reason if is_seen else UNSEEN + reason,
            evidence,
            detection.quiet_us,
            detection.respond,
            len(found.evidence) - len(evidence),
        )


def _first_and_last(evidence: tuple[Evidence, ...]) -> tuple[Evidence, ...]:
    if len(evidence) <= EVIDENCE_MAX:
        return evidence
    return evidence[: EVIDENCE_MAX // 2] + evidence[-(EVIDENCE_MAX // 2) :]


def _seq_of(state: str) -> int:
    try:
        return int(json.loads(state)["seq"])
    except (ValueError, TypeError, KeyError):
        return 0


def _subject_of(row: WatchMemory) -> Subject:
    try:
        said = json.loads(row.subject)
    except ValueError:
        said = [row.subject]
    return tuple(map(str, said)) if isinstance(said, list) else (row.subject,)
