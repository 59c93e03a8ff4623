"""Loading 5,000 rules: how long it takes, and how late calls come meanwhile.

The rules are those of the other parts, structured, plain and CEL in turn. They are loaded as the
sidecar does, in the thread of its keeper of policies; meanwhile a tick every millisecond judges two
calls on the loop, and notes how much later than planned it came. The same is noted while nothing is
loaded.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import policy_rules
import uvloop
from loop_ticks import Ticks, percentile, ticking
from policy_rules import SHARED

from sidecar.app import GC_THRESHOLD, SWITCH_INTERVAL_S
from sidecar.clock import Clock
from sidecar.model import HttpFacts, Principal, ToolCall
from sidecar.policy.decide import decide
from sidecar.policy.load import LoadedPolicies, Source
from sidecar.policy_files import PolicyKeeper
from sidecar.policy_loading import load_without_collections

RULES = 5_000
_CALLS_PER_TICK = 2


def write(folder: Path, rules: int) -> None:
    """The files of so many rules, and no others."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for source in policy_rules.sources(SHARED, rules):
        (folder / source.name).write_bytes(source.data)


def load(sources: Sequence[Source], *, read_file: Any) -> LoadedPolicies:
    """What the sidecar gives its keeper of policies."""
    return policy_rules.load(sources)


def judge_some(keeper: PolicyKeeper, rules: int) -> Callable[[], None]:
    """What a tick does: judges calls by the set that is in force."""
    clock, principal = Clock(), Principal("default", policy_rules.AGENT)
    http = HttpFacts("POST", "/", "", "127.0.0.1", {})
    given = itertools.cycle(policy_rules.calls("plain", rules))

    def work() -> None:
        policies = keeper.current
        for call in itertools.islice(given, _CALLS_PER_TICK):
            tool = policies.catalogue.mcp_tool("up", f"t{call.tool}").tool
            made = ToolCall("", tool, "tools/call", call.args, http, "", (), b"", "mcp")
            decide(policies, principal, made, clock.now_us())

    return work


def time_of(rules: int, rounds: int) -> dict[str, float]:
    """Seconds for one load, medians of the rounds."""
    given = policy_rules.sources(SHARED, rules)
    cpu, wall = [], []
    for _ in range(rounds):
        started, cpu_started = time.perf_counter(), time.thread_time()
        loaded = load_without_collections(lambda: policy_rules.load(given))
        cpu.append(time.thread_time() - cpu_started)
        wall.append(time.perf_counter() - started)
        if loaded.policy_set is None:
            raise RuntimeError("\n".join(map(str, loaded.problems)))
        del loaded
    return {"rules": rules, "cpu_s": round(median(cpu), 2), "wall_s": round(median(wall), 2)}


async def _lateness(rules: int, rounds: int, quiet_s: float, folder: Path) -> dict[str, Any]:
    keeper = PolicyKeeper([str(folder)], folder.parent, load, Clock())
    keeper.load_first()
    gc.collect()
    gc.freeze()
    loaded_s = []
    async with ticking(judge_some(keeper, rules)) as ticks:
        quiet, loading = Ticks(), Ticks()
        for _ in range(rounds):
            ticks.taken()
            await asyncio.sleep(quiet_s)
            quiet.add(ticks.taken())
            started = time.perf_counter()
            said = await keeper.reload()
            loaded_s.append(time.perf_counter() - started)
            loading.add(ticks.taken())
            if not said.succeeded:
                raise RuntimeError(said.text)
    rows = {"quiet": _row(quiet), "loading": _row(loading)}
    extra = {
        f"extra_{name}_ms": round(max(0.0, rows["loading"][f"{name}_ms"] - row), 2)
        for name, row in (("p99", rows["quiet"]["p99_ms"]), ("max", rows["quiet"]["max_ms"]))
    }
    return {"rules": rules, "reload_s": round(median(loaded_s), 2), **rows, **extra}


def _row(ticks: Ticks) -> dict[str, float]:
    late = ticks.late_ms
    return {
        "ticks": len(late),
        "p50_ms": round(percentile(late, 0.5), 2),
        "p99_ms": round(percentile(late, 0.99), 2),
        "max_ms": round(max(late), 2),
        "busy_max_ms": round(max(ticks.busy_ms), 2),
    }


def lateness(rules: int, rounds: int, quiet_s: float) -> dict[str, Any]:
    """How late ticks come, of all rounds together, in a process that is settled as a sidecar is.
    Each round is quiet for so long, and then loads."""
    before = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(GC_THRESHOLD)
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "policies"
            write(folder, rules)
            return uvloop.run(_lateness(rules, rounds, quiet_s, folder))
    finally:
        sys.setswitchinterval(before[0])
        gc.set_threshold(*before[1])
