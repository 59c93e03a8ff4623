"""A detection ready to watch: what an event must be, whom it counts apart, what it says.

Knows: which part of what a detection wants is settled by the receipt alone, and which needs the
call as it was recorded; that what is not known of a call (erased, kept as a digest, never recorded)
fits nothing, and a masked argument reads `***`. All of it is frozen and pure.
Must not know: YAML, windows and what is remembered (engine), stores, the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sidecar.ledger.recorded_call import RecordedCall
from sidecar.policy.facts import Facts
from sidecar.policy.hidden import Reads
from sidecar.policy.matchers import CallerMatcher, Glob, SourceMatcher, ToolMatcher
from sidecar.policy.runs import RunMatcher
from sidecar.policy.windows import Window, is_inside
from sidecar.soc.detection_reasons import DetectionReason
from sidecar.soc.model import Event, EventKind, Response, Severity

if TYPE_CHECKING:
    from sidecar.policy.conditions import Condition
    from sidecar.policy.evaluation import BoundScope

#: Gives the value of a name for an event; None where it has none, or it is not known.
Value = Callable[[Event], str | None]

AGENT: Final = "agent"
RUN: Final = "run"
TENANT: Final = "tenant"
TOOL: Final = "tool"
#: What may be counted apart.
BY: Final = (AGENT, RUN, TENANT, TOOL)


@dataclass(frozen=True, slots=True)
class Heard:
    """What must be true of an event by its receipt; empty is any."""

    kind: EventKind
    effects: frozenset[str] = frozenset()
    codes: tuple[Glob, ...] = ()
    modes: frozenset[str] = frozenset()
    tools: tuple[Glob, ...] = ()
    exceptions: tuple[Glob, ...] = ()
    agents: tuple[Glob, ...] = ()
    tenants: tuple[Glob, ...] = ()

    def fits(self, event: Event) -> bool:
        """Whether all of it is."""
        return (
            event.kind is self.kind
            and (not self.effects or event.effect in self.effects)
            and (not self.modes or event.mode in self.modes)
            and _any_fits(self.codes, event.code)
            and _any_fits(self.tools, event.tool)
            and _any_fits(self.agents, event.agent)
            and _any_fits(self.tenants, event.tenant)
            and not any(glob.matches(event.tool) for glob in self.exceptions)
        )


def _any_fits(globs: tuple[Glob, ...], text: str) -> bool:
    return not globs or any(glob.matches(text) for glob in globs)


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """What must be true of the call of a decision. In a detection a level of risk or of trust
    always means that or worse."""

    tool: ToolMatcher | None = None
    caller: CallerMatcher | None = None
    methods: frozenset[str] = frozenset()
    sources: SourceMatcher | None = None
    during: tuple[Window, ...] = ()
    outside: tuple[Window, ...] = ()
    run: RunMatcher | None = None
    condition: Condition | None = None
    scope: BoundScope | None = None
    reads: Reads | None = None

    def holds(self, recorded: RecordedCall) -> bool:
        """Whether all of it is, as far as is known. Raises what a condition raises, and ValueError
        for an address that cannot be read."""
        call = recorded.call
        if self.tool is not None and not self.tool.matches(call.tool):
            return False
        if self.caller is not None and not self.caller.matches(recorded.principal):
            return False
        if self.methods and call.http.method not in self.methods:
            return False
        if self.sources is not None and not self.sources.matches(call.http.source_ip):
            return False
        if self.run is not None and (recorded.run is None or not self.run.matches(recorded.run)):
            return False
        return self._condition_holds(recorded)

    def _condition_holds(self, recorded: RecordedCall) -> bool:
        if self.condition is None or self.scope is None or self.reads is None:
            return True
        hidden, reads = recorded.hidden, self.reads
        if not hidden.facts.isdisjoint(reads.facts):
            return False
        if reads.arguments and hidden.covers("args"):
            return False
        facts = Facts(recorded.principal, recorded.call, recorded.at_us, recorded.run)
        return self.scope.holds(self.condition, facts)

    def is_in_time(self, at_us: int) -> bool:
        """Whether an event of this moment is in its hours."""
        if self.during and not is_inside(self.during, at_us):
            return False
        return not (self.outside and is_inside(self.outside, at_us))

    @property
    def needs_call(self) -> bool:
        """Whether the receipt and its time do not settle it."""
        parts = (self.tool, self.caller, self.methods, self.sources, self.run, self.condition)
        return any(parts)


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """One event that is looked for."""

    heard: Heard
    looked: Looked | None = None

    def matches(self, event: Event) -> bool:
        """Whether an event that `heard` fits is meant; raises as `Looked.holds` does."""
        looked = self.looked
        if looked is None:
            return True
        if not looked.is_in_time(event.at_us):
            return False
        if not looked.needs_call:
            return True
        recorded = event.call()
        return recorded is not None and looked.holds(recorded)


@dataclass(frozen=True, slots=True)
class Unusual:
    """More in an hour than is usual: over the mean of the hours with any in the last `history_us`
    by `sigma` standard deviations, once there are `buckets` such hours that are not all alike."""

    sigma: float
    history_us: int
    buckets: int


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """A detection, compiled. It has one of four forms: `at_least` events within `within_us` (one,
    without a window); `is_sequence`: the events of `wanted` in this order within `within_us`;
    `first`: a value never seen; `unusual`. `form` is a hash of all that it says: another form is
    another detection, whatever its name."""

    name: str
    severity: Severity
    event: EventKind
    wanted: tuple[Wanted, ...]
    by: tuple[str, ...]
    reason: DetectionReason
    quiet_us: int
    at_least: int = 1
    within_us: int = 0
    distinct: Value | None = None
    is_sequence: bool = False
    first: Value | None = None
    first_name: str = ""
    unusual: Unusual | None = None
    respond: Response | None = None
    form: str = ""

    @property
    def run_names(self) -> frozenset[str]:
        """What of a run its conditions and its reason read."""
        looked = (one.looked.condition for one in self.wanted if one.looked is not None)
        conditions = (one for one in looked if one is not None)
        return self.reason.run_names.union(*(one.run for one in conditions))

    def subject(self, event: Event) -> tuple[str, ...]:
        """Whom an event counts for. A run is an agent's: `AGENT/RUN`, the agent alone where nothing
        trusted divides its work: what callers name their runs keeps nothing apart."""
        return tuple([_SUBJECT[one](event) for one in self.by])


def _run_of(event: Event) -> str:
    recorded = event.call()
    run = recorded.of_run if recorded is not None else ""
    return f"{event.agent}/{run}" if run else event.agent


_SUBJECT: Final[dict[str, Callable[[Event], str]]] = {
    AGENT: lambda event: event.agent,
    RUN: _run_of,
    TENANT: lambda event: event.tenant,
    TOOL: lambda event: event.tool,
}


class Detections:
    """All detections in force, by name in order; never changed. Another `revision` is another set:
    whoever watches starts anew. `secrets` are names of arguments whose values are never shown."""

    __slots__ = ("_by_name", "all", "revision", "secrets")

    def __init__(
        self,
        detections: Iterable[Detection],
        revision: str,
        secrets: Container[str] = frozenset(),
    ) -> None:
        self.all = tuple(sorted(detections, key=lambda one: one.name))
        self.revision = revision
        self.secrets = secrets
        self._by_name = {one.name: one for one in self.all}

    def named(self, name: str) -> Detection | None:
        """The detection of that name."""
        return self._by_name.get(name)

    @property
    def run_names(self) -> frozenset[str]:
        """What of a run any of them reads."""
        return frozenset().union(*(one.run_names for one in self.all))

    def only(self, names: Iterable[str]) -> Detections:
        """A set of these alone, as far as they are there."""
        wanted = frozenset(names)
        found = (one for one in self.all if one.name in wanted)
        return Detections(found, self.revision, self.secrets)


#: Where nothing is watched.
NO_DETECTIONS: Final = Detections((), "")
