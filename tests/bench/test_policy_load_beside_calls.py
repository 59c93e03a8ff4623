"""Thousands of rules are loaded while calls go on: no call waits for the load."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import policy_load_speed
import policy_rules
import pytest
from loop_ticks import percentile, ticking

from sidecar.app import GC_THRESHOLD, SWITCH_INTERVAL_S
from sidecar.clock import Clock
from sidecar.policy_files import PolicyKeeper
from sidecar.policy_loading import let_go

#: CPU time of the whole process between two ticks: what the load did while the loop waited.
BUSY_P99_MS_MAX = 10
BUSY_MS_MAX = 50
FEW, MANY = 20, 5_000


@pytest.fixture(autouse=True)
def settled_as_a_sidecar() -> Iterator[None]:
    before = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(GC_THRESHOLD)
    yield
    sys.setswitchinterval(before[0])
    gc.set_threshold(*before[1])


def keeper_of(folder: Path, rules: int) -> PolicyKeeper:
    policy_load_speed.write(folder, rules)
    keeper = PolicyKeeper([str(folder)], folder.parent, policy_load_speed.load, Clock())
    keeper.load_first()
    return keeper


@pytest.mark.serial
async def test_a_load_of_5000_rules_holds_no_call_up(tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    keeper = keeper_of(folder, FEW)
    async with ticking(policy_load_speed.judge_some(keeper, FEW)) as ticks:
        policy_load_speed.write(folder, MANY)
        ticks.taken()
        said = await keeper.reload()
        noted = ticks.taken()
        assert said.succeeded, said.text
        assert keeper.current.rule_count == MANY
        assert len(noted.busy_ms) > 100, "the loop went on"
        assert percentile(noted.busy_ms, 0.99) <= BUSY_P99_MS_MAX, sorted(noted.busy_ms)[-20:]
        assert max(noted.busy_ms) <= BUSY_MS_MAX, sorted(noted.busy_ms)[-20:]

        # And the way back, which lets the 5,000 go.
        policy_load_speed.write(folder, FEW)
        ticks.taken()
        said = await keeper.reload()
        noted = ticks.taken()
        assert said.succeeded, said.text
        assert max(noted.busy_ms) <= BUSY_MS_MAX, sorted(noted.busy_ms)[-20:]


async def test_a_load_on_the_loop_itself_would_be_seen(tmp_path: Path) -> None:
    """Positive control: the ticks tell of a fifth of the rules already."""
    folder = tmp_path / "policies"
    keeper = keeper_of(folder, FEW)
    async with ticking(policy_load_speed.judge_some(keeper, FEW)) as ticks:
        policy_load_speed.write(folder, MANY // 5)
        await asyncio.sleep(0.01)
        ticks.taken()
        keeper.load_first()
        await asyncio.sleep(0.01)
        assert max(ticks.taken().busy_ms) > BUSY_MS_MAX


def test_a_load_leaves_nothing_that_only_a_collection_would_find() -> None:
    """Collections are off while policies are loaded, and leave the sets alone that are made."""
    given = policy_rules.sources(policy_rules.KINDS, 40)
    policy_rules.load(given)  # what is made once a process
    gc.collect()
    gc.disable()
    try:
        loaded = policy_rules.load(given)
        policies = loaded.policy_set
        assert policies is not None
        for tool in policies.catalogue.tools:
            policies.plan(tool)
        assert gc.collect() == 0
        ended = weakref.ref(policies)
        del policies
        loaded.policy_set = None
        assert ended() is None
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_a_set_that_somebody_still_holds_stays_whole() -> None:
    policies = policy_rules.load(policy_rules.sources(("plain",), 3)).policy_set
    assert policies is not None
    tools = policies.catalogue.tools
    discarded = [policies]
    let_go(discarded)
    assert discarded == []
    assert len(tools) == len(policies.rules) == 3
    assert all(policies.plan(tool).tool is tool for tool in tools)
