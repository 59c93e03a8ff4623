"""Runs: what calls leave behind is kept, met by the next call, and over after silence alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from ledger_setup import START_US, SteadyClock, call, decision, principal

import storage
from sidecar.ledger.chain import seal
from sidecar.ledger.run_keeper import RunBefore, RunKeeper
from sidecar.ledger.run_text import KeptRun, UnreadableRun, read_run, run_text
from sidecar.model import Decision, Principal, Tool, ToolCall, TrustLevel
from sidecar.policy.runs import RunState, beginning
from storage.records import Entry, ReceiptRow, Recorded, RunHead, Stale

IDLE_S = 600.0
NO_COUNTS = SimpleNamespace(counts_calls=False, counts_by_tool=False)
MINUTE_US = 60_000_000
TRUSTED = TrustLevel.TRUSTED_INTERNAL_UNSIGNED

STATES = st.builds(
    RunState,
    st.sampled_from(TrustLevel),
    st.frozensets(st.text(max_size=8), max_size=4),
    st.integers(0, 2**40),
    st.none() | st.integers(0, 2**52),
    st.text(max_size=8),
    st.text(min_size=1, max_size=8),
    st.text(max_size=8),
    st.integers(0, 2**52),
    st.lists(st.tuples(st.text(max_size=8), st.integers(0, 2**52)), max_size=4).map(tuple),
)


@given(STATES, st.integers(0, 2**52))
def test_what_is_kept_is_read_again(state: RunState, last_us: int) -> None:
    text = run_text(KeptRun(state, last_us))
    assert read_run(text) == KeptRun(state, last_us)
    assert text == run_text(KeptRun(state, last_us))


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"v":2}', '{"v":1,"trust":"most"}', "null"])
def test_a_text_that_is_none_of_ours_is_no_run_that_begins(text: str) -> None:
    with pytest.raises(UnreadableRun):
        read_run(text)


class Clock(SteadyClock):
    """A wall clock that tests set, and a clock that only runs."""

    def __init__(self) -> None:
        super().__init__()
        self.ns = 0

    def monotonic_ns(self) -> int:
        return self.ns

    def passes(self, us: int) -> None:
        self.us += us
        self.ns += us * 1000


class Node:
    """A keeper over a real store, and calls that go ahead as the pipeline lets them."""

    def __init__(self, store: storage.SqlStore, clock: Clock, *, is_alone: bool = True) -> None:
        self.store, self.clock = store, clock
        self.runs = RunKeeper(store.run_head, clock, idle_s=IDLE_S, is_alone=is_alone)

    async def before(self, who: Principal, run_id: str = "") -> RunBefore:
        return self.runs.known(who, run_id) or await self.runs.read(who, run_id)

    async def goes_ahead(
        self,
        tool: Tool,
        *,
        reads_run: bool = False,
        run_id: str = "",
        before: RunBefore | None = None,
    ) -> RunBefore | Stale:
        """Gives the run as the call met it, or Stale."""
        who = principal()
        met = before or await self.before(who, run_id)
        entry = self.entry(met, tool, reads_run=reads_run)
        [answer] = await self.store.record([entry], seal)
        if isinstance(answer, Stale):
            assert answer.run is not None
            self.runs.is_other(met, answer.run)
            return answer
        assert isinstance(answer, Recorded)
        self.runs.went_ahead(met, answer.run)
        return met

    def entry(self, met: RunBefore, tool: Tool, *, reads_run: bool = False) -> Entry:
        made = _call(self.clock, tool)
        stake = self.runs.stake(
            met,
            principal(),
            made,
            _decision(reads_run),
            NO_COUNTS,
            self.clock.now_us(),
        )
        entry = Entry(_row(made))
        if stake is not None:
            entry.run_key, entry.run_version, entry.run_step = stake
        return entry


def _row(made: ToolCall) -> ReceiptRow:
    from sidecar.ledger.receipt import blank_receipt

    return blank_receipt(
        principal().tenant, "refusal", event_id=made.call_id, call_id=made.call_id,
        ts_us=START_US, agent_id=principal().agent,
    )  # fmt: skip


def _call(clock: SteadyClock, tool: Tool) -> ToolCall:
    return call(clock.new_id(), tool=tool)


def _decision(reads_run: bool) -> Decision:
    return decision(reads_run=reads_run)


def tool(name: str, *, returns: TrustLevel = TRUSTED, labels: tuple[str, ...] = ()) -> Tool:
    return Tool("github", name, returns=returns, labels=labels)


NOTES, SEND = tool("notes"), tool("send")
ISSUE = tool("issue", returns=TrustLevel.UNTRUSTED_EXTERNAL)
VAULT = tool("vault", labels=("reads-private",))


@pytest_asyncio.fixture
async def store(tmp_path: object) -> AsyncIterator[storage.SqlStore]:
    opened = await storage.open_store(f"sqlite:///{tmp_path}/runs.db", now_us=lambda: START_US)
    yield opened
    await opened.close()


async def test_a_call_leaves_what_the_next_one_meets(store: storage.SqlStore) -> None:
    node = Node(store, Clock())
    await node.goes_ahead(NOTES)
    await node.goes_ahead(ISSUE)
    await node.goes_ahead(VAULT)
    met = await node.before(principal())
    assert (met.state.trust, met.state.labels) == (
        TrustLevel.UNTRUSTED_EXTERNAL,
        {"reads-private"},
    )
    assert met.state.lowered_by == ISSUE.name


async def test_a_restart_changes_nothing(store: storage.SqlStore) -> None:
    clock = Clock()
    await Node(store, clock).goes_ahead(ISSUE)
    again = Node(store, clock)
    assert again.runs.known(principal()) is None, "positive control: it has to be read"
    met = await again.before(principal())
    assert met.state.trust is TrustLevel.UNTRUSTED_EXTERNAL


async def test_what_adds_nothing_new_writes_nothing(store: storage.SqlStore) -> None:
    node = Node(store, Clock())
    await node.goes_ahead(ISSUE)
    before = (await node.before(principal())).head
    for _ in range(3):
        await node.goes_ahead(ISSUE)
        await node.goes_ahead(NOTES)
    assert (await node.before(principal())).head == before


async def test_two_calls_in_flight_cannot_slip_past_each_other(store: storage.SqlStore) -> None:
    """Both were judged on a run in which nothing had happened yet."""
    node = Node(store, Clock())
    await node.goes_ahead(NOTES)
    met = await node.before(principal())
    reading, sending = node.entry(met, VAULT), node.entry(met, SEND, reads_run=True)
    answers = await store.record([reading, sending], seal)
    assert isinstance(answers[0], Recorded)
    assert isinstance(answers[1], Stale)
    node.runs.is_other(met, answers[1].run)
    assert (await node.before(principal())).state.labels == {"reads-private"}


async def test_a_node_that_is_behind_is_told_by_the_store(store: storage.SqlStore) -> None:
    clock = Clock()
    here, there = Node(store, clock, is_alone=False), Node(store, clock, is_alone=False)
    await here.goes_ahead(NOTES)
    await there.goes_ahead(NOTES)
    await there.goes_ahead(VAULT)
    assert isinstance(await here.goes_ahead(SEND, reads_run=True), Stale)
    met = await here.goes_ahead(SEND, reads_run=True)
    assert isinstance(met, RunBefore) and met.state.labels == {"reads-private"}


async def test_nothing_of_what_two_nodes_add_is_lost(store: storage.SqlStore) -> None:
    """What one believes to have been added before may belong to a run that was reset."""
    clock = Clock()
    here, there = Node(store, clock, is_alone=False), Node(store, clock, is_alone=False)
    await here.goes_ahead(VAULT)
    await there.goes_ahead(NOTES)
    reset = Entry(_row(_call(clock, NOTES)), run_step=lambda _: "", run_key=principal().agent)
    await there.store.record([reset], seal)
    await here.goes_ahead(VAULT)
    there.runs.forget(principal().tenant)
    assert (await there.before(principal())).state.labels == {"reads-private"}


async def test_silence_ends_a_run_and_a_call_in_time_does_not(store: storage.SqlStore) -> None:
    clock = Clock()
    node = Node(store, clock)
    await node.goes_ahead(ISSUE)
    for _ in range(5):
        clock.passes(9 * MINUTE_US)
        await node.goes_ahead(NOTES)
    assert (await node.before(principal())).state.trust is TrustLevel.UNTRUSTED_EXTERNAL
    clock.passes(12 * MINUTE_US)
    met = await node.goes_ahead(NOTES)
    assert isinstance(met, RunBefore) and met.state == beginning(TRUSTED)
    after = (await node.before(principal())).state
    assert (after.trust, after.calls) == (TRUSTED, 1)


async def test_that_a_run_has_ended_is_told_as_the_next_call_finds_it(
    store: storage.SqlStore,
) -> None:
    clock = Clock()
    node = Node(store, clock)
    met = await node.goes_ahead(ISSUE)
    assert isinstance(met, RunBefore)
    told = []
    for minutes in (9, 1, 2):
        clock.passes(minutes * MINUTE_US)
        kept = read_run((await store.run_head(met.tenant, met.key)).state)
        assert kept is not None
        next_meets = (await node.before(principal())).state
        told.append(node.runs.has_ended(met.tenant, met.key, kept))
        assert told[-1] is (next_meets.trust is TRUSTED)
    assert told == [False, False, True]


async def test_a18_a_wall_clock_that_jumps_ahead_ends_no_run_that_is_alive_here(
    store: storage.SqlStore,
) -> None:
    clock = Clock()
    node = Node(store, clock)
    await node.goes_ahead(ISSUE)
    clock.us += 60 * MINUTE_US
    assert (await node.before(principal())).state.trust is TrustLevel.UNTRUSTED_EXTERNAL
    await node.goes_ahead(NOTES)
    assert (await node.before(principal())).state.trust is TrustLevel.UNTRUSTED_EXTERNAL


async def test_trust_is_never_above_what_the_agent_starts_with_now(
    store: storage.SqlStore,
) -> None:
    node = Node(store, Clock())
    await node.goes_ahead(NOTES)
    lowered = replace(principal(), trust=TrustLevel.SEMI_TRUSTED_CUSTOMER)
    assert (await node.before(lowered)).state.trust is TrustLevel.SEMI_TRUSTED_CUSTOMER


async def test_a_trusted_run_id_divides_the_agents_work(store: storage.SqlStore) -> None:
    node = Node(store, Clock())
    await node.goes_ahead(ISSUE, run_id="night")
    assert (await node.before(principal(), "night")).state.trust is TrustLevel.UNTRUSTED_EXTERNAL
    other = (await node.before(principal(), "day")).state
    assert (other.trust, other.run_id) == (TRUSTED, "day")
    assert (await node.before(principal())).state == beginning(TRUSTED)


async def test_which_run_it_is_says_the_call_and_not_the_text(store: storage.SqlStore) -> None:
    """A containment of the run would be missed if the text named another, or none."""
    node = Node(store, Clock())
    await node.goes_ahead(ISSUE)
    await node.goes_ahead(ISSUE, run_id="night")
    own = await store.run_head(principal().tenant, principal().agent)
    met = await node.before(principal(), "night")
    node.runs.is_other(met, RunHead(9, own.state))
    assert (await node.before(principal(), "night")).state.run_id == "night"


async def test_an_unreadable_run_is_refused_and_not_written_over(store: storage.SqlStore) -> None:
    node = Node(store, Clock())
    met = await node.before(principal())
    spoilt = Entry(_row(_call(node.clock, NOTES)), run_step=lambda _: "{", run_key=met.key)
    await store.record([spoilt], seal)
    await store.record([node.entry(met, VAULT)], seal)
    assert await store.run_head(met.tenant, met.key) == RunHead(1, "{")
    node.runs.forget(met.tenant)
    with pytest.raises(UnreadableRun):
        await node.before(principal())


async def test_runs_are_forgotten_when_there_are_too_many(store: storage.SqlStore) -> None:
    clock = Clock()
    node = Node(store, clock)
    node.runs = RunKeeper(store.run_head, clock, idle_s=IDLE_S, is_alone=True, runs_max=10)
    for number in range(25):
        clock.passes(1000)
        await node.goes_ahead(ISSUE, run_id=f"run-{number}")
    assert node.runs.known(principal(), "run-24") is not None
    assert node.runs.known(principal(), "run-0") is None
    assert (await node.before(principal(), "run-0")).state.trust is TrustLevel.UNTRUSTED_EXTERNAL
