"""What a rule may read of one call: the names of the language and where each value comes from.

Knows: every dotted name, its type, and how to take it out of caller, call and time.
Must not know: CEL, YAML, which rules exist.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from sidecar.model import Principal, RiskLevel, ToolCall, TrustLevel
from sidecar.policy.runs import RunState, beginning
from sidecar.policy.sizes import Size, Unreadable, quick_size, size_of, size_within
from sidecar.policy.windows import moment


class Kind(enum.Enum):
    """The types a name may have."""

    TEXT = "string"
    RANK = "int"
    BOOLEAN = "bool"
    TEXTS = "list(string)"
    HEADERS = "map(string, string)"
    ANYTHING = "map(string, dyn)"
    TIME = "timestamp"


_NOT_ASKED: Final = Size(-1, -1)


class Facts:
    """One call as rules see it; without `run` it is the first of its run. `frames` holds what
    conditions prepared for it so far, `sizes` and `extents` what was measured of it."""

    __slots__ = ("_quick_size", "_run", "call", "extents", "frames", "now_us", "principal", "sizes")

    def __init__(
        self, principal: Principal, call: ToolCall, now_us: int, run: RunState | None = None
    ) -> None:
        self.principal = principal
        self.call = call
        self.now_us = now_us
        self._run = run
        self.frames: dict[Any, Any] = {}
        self.sizes: dict[str, Size | str] = {}
        self.extents: dict[Any, Any] = {}
        self._quick_size: Size | None = _NOT_ASKED

    @property
    def quick_size(self) -> Size | None:
        """How large all arguments are together, at most; None if each must be measured."""
        if self._quick_size is _NOT_ASKED:
            call = self.call
            within = size_within(call.body, len(call.args)) if call.is_json else None
            self._quick_size = within or quick_size(call.args)
        return self._quick_size

    @property
    def run(self) -> RunState:
        """The run before the call."""
        return self._run if self._run is not None else beginning(self.principal.trust)


@dataclass(frozen=True, slots=True)
class Fact:
    """One name: its type and its value for a call. `ranks` are the levels of a rank."""

    kind: Kind
    read: Callable[[Facts], Any]
    ranks: type[TrustLevel] | type[RiskLevel] | None = None


def _exact_dict(value: Mapping[str, Any]) -> dict[str, Any]:
    """CEL is fed exact dictionaries only; a subclass could answer twice differently."""
    return value if type(value) is dict else dict(value)


def _run_started_us(facts: Facts) -> int:
    """A run that has not begun begins with this call."""
    return facts.now_us if facts.run.started_us is None else facts.run.started_us


def _constant(value: int) -> Callable[[Facts], int]:
    return lambda facts: value


FACTS: Mapping[str, Fact] = MappingProxyType(
    {
        "tool.name": Fact(Kind.TEXT, lambda f: f.call.tool.name),
        "tool.upstream": Fact(Kind.TEXT, lambda f: f.call.tool.upstream),
        "tool.operation": Fact(Kind.TEXT, lambda f: f.call.tool.operation),
        "tool.mutates": Fact(Kind.BOOLEAN, lambda f: f.call.tool.mutates),
        "tool.labels": Fact(Kind.TEXTS, lambda f: list(f.call.tool.labels)),
        "tool.risk": Fact(Kind.RANK, lambda f: int(f.call.tool.risk), RiskLevel),
        "tool.returns": Fact(Kind.RANK, lambda f: int(f.call.tool.returns), TrustLevel),
        "args": Fact(Kind.ANYTHING, lambda f: _exact_dict(f.call.args)),
        "agent.name": Fact(Kind.TEXT, lambda f: f.principal.agent),
        "agent.team": Fact(Kind.TEXT, lambda f: f.principal.team),
        "agent.environment": Fact(Kind.TEXT, lambda f: f.principal.environment),
        "agent.risk": Fact(Kind.RANK, lambda f: int(f.principal.risk), RiskLevel),
        "agent.claims": Fact(Kind.ANYTHING, lambda f: _exact_dict(f.principal.claims)),
        "tenant.name": Fact(Kind.TEXT, lambda f: f.principal.tenant),
        "http.method": Fact(Kind.TEXT, lambda f: f.call.http.method),
        "http.path": Fact(Kind.TEXT, lambda f: f.call.http.path),
        "http.query": Fact(Kind.TEXT, lambda f: f.call.http.query),
        "http.source_ip": Fact(Kind.TEXT, lambda f: f.call.http.source_ip),
        "http.headers": Fact(Kind.HEADERS, lambda f: _exact_dict(f.call.http.headers)),
        "run.id": Fact(Kind.TEXT, lambda f: f.run.run_id),
        "run.trust": Fact(Kind.RANK, lambda f: int(f.run.trust), TrustLevel),
        "run.labels": Fact(Kind.TEXTS, lambda f: sorted(f.run.labels)),
        "run.calls": Fact(Kind.RANK, lambda f: f.run.calls),
        "run.started": Fact(Kind.TIME, lambda f: moment(_run_started_us(f))),
        "now": Fact(Kind.TIME, lambda f: moment(f.now_us)),
        **{f"trust.{level.label}": Fact(Kind.RANK, _constant(int(level))) for level in TrustLevel},
        **{f"risk.{level.label}": Fact(Kind.RANK, _constant(int(level))) for level in RiskLevel},
    }
)

#: What begins the names of the run, `run.count` among them.
RUN: Final = "run."

#: The first parts of our names; no loop variable may be called like one.
ROOTS = frozenset({"constants", "variables", *(name.partition(".")[0] for name in FACTS)})

#: Names whose value is a rank, and so is compared with trust.NAME or risk.NAME.
RANKS = frozenset(name for name, fact in FACTS.items() if fact.ranks is not None)

_ARGUMENT: Final = "args."

#: What a call or an operator may make as large as they like, and so is measured before it is read.
MEASURED = frozenset(
    {"args", "agent.claims", "http.headers", "http.path", "http.query", "run.labels", "tool.labels"}
)


def fact_or_argument(facts: Facts, name: str) -> Any:
    """The value of a fact, or of an argument (`args.NAME`; None if it is absent)."""
    if name.startswith(_ARGUMENT):
        return facts.call.args.get(name[len(_ARGUMENT) :])
    return FACTS[name].read(facts)


def measured(facts: Facts, name: str) -> Size:
    """How large a fact of `MEASURED` is, or an argument (`args.NAME`; one value if it is absent);
    raises Unreadable."""
    found = facts.sizes.get(name)
    if found is None:
        try:
            found = size_of(fact_or_argument(facts, name))
        except Unreadable as error:
            found = f"{name} {error}, which no condition can be given"
        facts.sizes[name] = found
    if isinstance(found, str):
        raise Unreadable(found)
    return found
