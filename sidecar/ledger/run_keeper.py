"""What agents' runs have gathered, as this process last saw it, and what a call makes of that.

Knows: that the store has the word. A decision that rested on the run guards its version; what a
call adds is a step that the store makes on what the run is by then, so that two calls in flight
cannot slip past each other and none of what either adds is lost. A run ends by silence alone,
judged by the time its last call was written down; that is written anew now and then, so a run may
seem to last up to a tenth longer than it did, never shorter; where several nodes write, whose
clocks differ, up to five minutes more. A clock that jumps ahead ends no run that this process has
seen a call of.
Must not know: rules, HTTP, how a step is committed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, Protocol

from sidecar.clock import Clock
from sidecar.ledger.run_text import KeptRun, UnreadableRun, read_run, run_text
from sidecar.ledger.run_turns import Turn, Turns
from sidecar.model import Decision, Principal, ToolCall
from sidecar.policy.runs import RunState, advances, beginning, gathered
from storage.records import RunHead, RunStep

#: Runs remembered; beyond, those that were idle longest are read from the store again.
RUNS_MAX: Final = 10_000
#: The time of a run's last call is written down again after this part of `runs.idle`.
TOUCH_PART: Final = 10
#: How far the clocks of nodes that share a store may differ.
CLOCK_SKEW_US: Final = 300 * 1_000_000

_new_tuple = tuple.__new__


class RunBefore(NamedTuple):
    """A run as a call meets it: `state` is what rules see, `head` what the store keeps."""

    tenant: str
    key: str
    head: RunHead
    state: RunState
    last_us: int
    is_alive: bool


class RunStake(NamedTuple):
    """What an intent has to do with its run: the version it rests on, what becomes of the run."""

    key: str
    version: int | None
    step: RunStep | None


class Counting(Protocol):
    """Whether any rule counts a run's calls at all, and by tool."""

    counts_calls: bool
    counts_by_tool: bool


class _Seen:
    """A run in this process: its head, and when a call of it went ahead here last."""

    __slots__ = ("head", "last_ns")

    def __init__(self, head: RunHead, last_ns: int | None) -> None:
        self.head = head
        self.last_ns = last_ns


class RunKeeper:
    """One for a sidecar. All is done on the event loop's thread."""

    def __init__(
        self,
        read: Callable[[str, str], Awaitable[RunHead]],
        clock: Clock,
        *,
        idle_s: float,
        is_alone: bool,
        runs_max: int = RUNS_MAX,
    ) -> None:
        """`read(tenant, key)` asks the store; `idle_s` of silence ends a run; `is_alone` says that
        no other process writes to the store, so that what was last seen is what is there."""
        self._read = read
        self._clock = clock
        self._idle_us = int(idle_s * 1e6)
        self._touch_us = self._idle_us // TOUCH_PART
        self._is_alone = is_alone
        self._late_us = self._touch_us + (0 if is_alone else CLOCK_SKEW_US)
        self._runs_max = runs_max
        self._seen: dict[tuple[str, str], _Seen] = {}
        self._turns = Turns()

    def known(self, principal: Principal, run_id: str = "") -> RunBefore | None:
        """The run a call of this agent belongs to; None if the store has to be asked (`read`).

        `run_id` divides the agent's work, where such an id is trusted. Raises UnreadableRun.
        """
        key = _key(principal, run_id)
        seen = self._seen.get((principal.tenant, key))
        return None if seen is None else self._before(principal, key, run_id, seen)

    async def read(self, principal: Principal, run_id: str = "") -> RunBefore:
        """The same, from the store. Raises what reading it raises, and UnreadableRun."""
        key = _key(principal, run_id)
        head = await self._read(principal.tenant, key)
        return self._before(principal, key, run_id, self._learn(principal.tenant, key, head))

    def stake(
        self,
        before: RunBefore,
        principal: Principal,
        call: ToolCall,
        decision: Decision,
        counting: Counting,
        now_us: int,
    ) -> RunStake | None:
        """What goes with the intent; None for a call that neither rests on its run nor adds to it.
        `counting` is the policy set the decision was made by, `now_us` when: a run that begins
        with the call begins then, as its limits took it to."""
        counts_calls, keeps_calls = counting.counts_calls, counting.counts_by_tool
        version = before.head.version if decision.reads_run else None
        if call.is_protocol or not self._changes(
            before, principal, call, decision, counts_calls, now_us
        ):
            return RunStake(before.key, version, None) if version is not None else None

        run_id = before.state.run_id

        def step(text: str) -> str:
            try:
                kept = read_run(text)
            except UnreadableRun:  # whoever meets it next is refused; it is not written over
                return text
            state = self._state(kept, principal, run_id, now_us, before.is_alive)
            after = gathered(state, call, decision, now_us, keeps_calls=keeps_calls)
            if kept is None or state.started_us is None:
                return run_text(KeptRun(after, now_us))
            is_due = now_us - kept.last_us > self._touch_us
            if not is_due and not advances(state, after, counts_calls=counts_calls):
                return text
            return run_text(KeptRun(after, max(now_us, kept.last_us)))

        return RunStake(before.key, version, step)

    def _changes(
        self,
        before: RunBefore,
        principal: Principal,
        call: ToolCall,
        decision: Decision,
        counts_calls: bool,
        now_us: int,
    ) -> bool:
        """Whether the run may be another after this call. Where others write too, what this
        process knows may be behind: then whatever could change any run is a step."""
        state, tool = before.state, call.tool
        if counts_calls or state.started_us is None or now_us - before.last_us > self._touch_us:
            return True
        if not self._is_alone:
            state = beginning(principal.trust)
        return (
            tool.returns < state.trust
            or not state.labels.issuperset(tool.labels)
            or not state.labels.issuperset(decision.add_labels)
        )

    def went_ahead(self, before: RunBefore, head: RunHead | None) -> None:
        """A call of the run is on record; `head` is the run as that left it, if the store told."""
        seen = self._learn(before.tenant, before.key, head or before.head)
        seen.last_ns = self._clock.monotonic_ns()

    def is_other(self, before: RunBefore, head: RunHead) -> None:
        """The store says that the run is another by now."""
        self._learn(before.tenant, before.key, head)

    def forget(self, tenant: str) -> None:
        """The runs of a tenant are read from the store again."""
        for key in [key for key in self._seen if key[0] == tenant]:
            del self._seen[key]

    def has_ended(self, tenant: str, key: str, kept: KeptRun) -> bool:
        """Whether silence has ended a run, so that the next call begins another."""
        seen = self._seen.get((tenant, key))
        is_alive = seen is not None and self._is_alive(seen)
        return not is_alive and self._is_over(kept, self._clock.now_us())

    async def turn(self, principal: Principal, run_id: str = "") -> Turn:
        """For whoever was told that the run is another by now: he waits for those ahead of him,
        unless that takes too long. End it."""
        return await self._turns.take((principal.tenant, _key(principal, run_id)))

    # -- what was seen -----------------------------------------------------------------------

    def _learn(self, tenant: str, key: str, head: RunHead) -> _Seen:
        seen = self._seen.get((tenant, key))
        if seen is None:
            if len(self._seen) >= self._runs_max:
                self._make_room()
            seen = self._seen[tenant, key] = _Seen(head, None)
        elif head.version > seen.head.version:
            seen.head = head
        return seen

    def _make_room(self) -> None:
        """Half of the runs go, those without a call for longest first."""
        by_age = sorted(self._seen, key=lambda key: self._seen[key].last_ns or 0)
        for key in by_age[: len(by_age) // 2]:
            del self._seen[key]

    def _before(self, principal: Principal, key: str, run_id: str, seen: _Seen) -> RunBefore:
        kept = read_run(seen.head.state)
        is_alive = self._is_alive(seen)
        state = self._state(kept, principal, run_id, self._clock.now_us(), is_alive)
        last_us = 0 if kept is None else kept.last_us
        return _new_tuple(RunBefore, (principal.tenant, key, seen.head, state, last_us, is_alive))

    def _is_alive(self, seen: _Seen) -> bool:
        """Whether this process itself has seen a call of the run too recently for it to be over."""
        if seen.last_ns is None:
            return False
        return (self._clock.monotonic_ns() - seen.last_ns) // 1000 <= self._idle_us

    def _is_over(self, kept: KeptRun, now_us: int) -> bool:
        return now_us - kept.last_us > self._idle_us + self._late_us

    def _state(
        self, kept: KeptRun | None, principal: Principal, run_id: str, now_us: int, is_alive: bool
    ) -> RunState:
        """What rules see: trust is never above what the agent starts with now. Which run it is
        says the call, by whose id it was found, whatever its text says."""
        if kept is not None and (is_alive or not self._is_over(kept, now_us)):
            state = kept.state
            if principal.trust < state.trust:
                state = state._replace(trust=principal.trust)
        else:
            state = beginning(principal.trust)
        return state if state.run_id == run_id else state._replace(run_id=run_id)


def _key(principal: Principal, run_id: str) -> str:
    return f"{principal.agent}\n{run_id}" if run_id else principal.agent
