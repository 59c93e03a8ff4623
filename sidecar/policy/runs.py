"""What a run has gathered: the least trust of what came back to it, the labels of its tools.

Knows: what a call that goes ahead adds (trust only falls, labels only grow), whether that changes
what later decisions rest on, and how rules compare it. A state is a value: small, never changed,
and the same whoever works it out.
Must not know: where states are kept, when a run ends, the clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from sidecar.model import Decision, Effect, ToolCall, TrustLevel
from sidecar.policy.matchers import CLIENT_ANSWER, Glob

#: So many calls of a run are remembered for `run.count`; asked further back it fails.
CALLS_REMEMBERED_MAX: Final = 1000
#: `run.count` looks back so far at most.
COUNT_WINDOW_MAX_US: Final = 24 * 3600 * 1_000_000

NO_LABELS: Final[frozenset[str]] = frozenset()


class RunState(NamedTuple):
    """A run before a call: what its earlier calls that went ahead have left.

    `run_id` is "" unless something trusted divides the agent's work. `started_us` is None before
    the first call. `lowered_by`, `lowered_in` and `lowered_at_us` are the tool, the call id and
    the time of the call that brought trust to what it is, "" and 0 if none did. `recent` are the
    tools and times of earlier calls, oldest first, kept only if some rule counts them.
    """

    trust: TrustLevel
    labels: frozenset[str] = NO_LABELS
    calls: int = 0
    started_us: int | None = None
    run_id: str = ""
    lowered_by: str = ""
    lowered_in: str = ""
    lowered_at_us: int = 0
    recent: tuple[tuple[str, int], ...] = ()


_BEGINNINGS: Final = {level: RunState(level) for level in TrustLevel}


def beginning(trust: TrustLevel) -> RunState:
    """A run in which nothing has happened yet."""
    return _BEGINNINGS[trust]


def gathered(
    run: RunState,
    call: ToolCall,
    decision: Decision,
    now_us: int,
    *,
    keeps_calls: bool = False,
) -> RunState:
    """The run once this call has gone ahead: its tool's labels and those that obligations add,
    trust no higher than what the tool returns. `keeps_calls` is `PolicySet.counts_by_tool`.

    What carries the protocol itself leaves the run as it is.
    """
    if call.is_protocol:
        return run
    tool = call.tool
    labels = run.labels
    if tool.labels or decision.add_labels:
        labels = labels.union(tool.labels, decision.add_labels)
    recent = _remembered(run, tool.name, now_us) if keeps_calls else ()
    started_us = now_us if run.started_us is None else run.started_us
    if tool.returns < run.trust and tool.operation != CLIENT_ANSWER:  # which brings nothing back
        return RunState(
            tool.returns, labels, run.calls + 1, started_us, run.run_id,
            tool.name, call.call_id, now_us, recent,
        )  # fmt: skip
    return RunState(
        run.trust, labels, run.calls + 1, started_us, run.run_id,
        run.lowered_by, run.lowered_in, run.lowered_at_us, recent,
    )  # fmt: skip


def advances(before: RunState, after: RunState, *, counts_calls: bool) -> bool:
    """Whether a decision that rested on `before` may come out otherwise on `after`.

    `counts_calls` is `PolicySet.counts_calls`: then every call may change the next decision.
    """
    if counts_calls and after.calls != before.calls:
        return True
    return after.trust is not before.trust or after.labels != before.labels


def _remembered(run: RunState, tool_name: str, now_us: int) -> tuple[tuple[str, int], ...]:
    """What stays of the earlier calls, and this one."""
    oldest_us = now_us - COUNT_WINDOW_MAX_US
    kept = [one for one in run.recent[1 - CALLS_REMEMBERED_MAX :] if one[1] > oldest_us]
    return (*kept, (tool_name, now_us))


def count_calls(run: RunState, pattern: str, window_us: int, now_us: int) -> int:
    """How many of the run's earlier calls within the window went to tools that fit the glob.

    Raises ValueError for a window beyond what is remembered.
    """
    if not 0 < window_us <= COUNT_WINDOW_MAX_US:
        raise ValueError("run.count looks back 24h at most")
    oldest_us = now_us - window_us
    recent = run.recent
    if len(recent) >= CALLS_REMEMBERED_MAX and recent[0][1] > oldest_us:
        raise ValueError(f"the run made more than {CALLS_REMEMBERED_MAX} calls in the window")
    glob = Glob(pattern)
    return sum(at_us > oldest_us and glob.matches(tool_name) for tool_name, at_us in recent)


@dataclass(frozen=True, slots=True)
class RunMatcher:
    """What a rule says of the run before the call. In an allow rule a level of trust means that
    or safer, in every other rule that or worse; of several labels one is enough."""

    effect: Effect | None
    trust: TrustLevel | None = None
    labels: frozenset[str] = NO_LABELS

    def matches(self, run: RunState) -> bool:
        """Whether all that is said of the run is true of it."""
        if self.labels and self.labels.isdisjoint(run.labels):
            return False
        if self.trust is None:
            return True
        return run.trust >= self.trust if self.effect is Effect.ALLOW else run.trust <= self.trust
