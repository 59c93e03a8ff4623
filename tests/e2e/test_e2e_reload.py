"""D4: a hundred reloads under load, and never a mixture: each answer and receipt is of one set."""

from __future__ import annotations

import itertools
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from reload_folder import PolicyFolder
from reload_load import Call, Callers, Change, misjudged, mixtures, settled, upstream
from reload_sets import NUMBERS, known_sets, told_by_receipt
from running import Process

from sidecar.cli.control_client import ask_at
from sidecar.cli.main import main

_SERVE = Path(__file__).with_name("reload_serve.py")
KNOWN = known_sets()
REVISIONS = {one.number: one.revision for one in KNOWN.values()}
CONNECTIONS = 3
PAUSE_S = 0.015


class FaultyProcess(Process):
    """A sidecar whose keeper of policies does what the file `fault` says."""

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(_SERVE), *arguments]


class Reloads:
    """A sidecar, its policy folder, and the account of every change made there."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.folder = PolicyFolder(process.folder / "policies")
        self.changes = [Change(0.0, 0.0, frozenset({1}))]
        self.succeeded = self.refused = 0
        self._numbers = itertools.cycle((2, 3, 1))

    def _ask(self, method: str, path: str) -> dict[str, Any]:
        return ask_at(self.process.folder / "control.sock", method, path)

    def _reload(self) -> dict[str, Any]:
        said = self._ask("POST", "/reload")
        self.succeeded += said["succeeded"]
        self.refused += not said["succeeded"]
        return said

    def policies(self) -> dict[str, Any]:
        found: dict[str, Any] = self._ask("GET", "/status")["policies"]
        return found

    def swap(self, swap: Callable[[int], None]) -> tuple[int, str]:
        """Another set; gives what the sidecar says of it when it has been told to reload."""
        number, begun_s = next(self._numbers), time.monotonic()
        swap(number)
        said = self._reload()
        self.changes.append(Change(begun_s, time.monotonic(), frozenset({number})))
        time.sleep(PAUSE_S)
        return number, said["text"]

    def spoil(self, name: str, *, is_linked: bool) -> None:
        """A broken set, which must not be put in force, and must be told of."""
        begun_s, before = time.monotonic(), self.policies()
        self.folder.break_by(name, is_linked=is_linked)
        said = self._reload()
        self.changes.append(Change(begun_s, time.monotonic(), frozenset()))
        assert not said["succeeded"], name
        assert any("second.yaml" in problem for problem in said["problems"]), said
        assert f"{before['revision']} stays in force" in said["text"]
        after = self.policies()
        assert (after["revision"], after["files_are_in_force"]) == (before["revision"], False)
        assert self.process.metrics()["aegis_policy_reload_success"] == 0
        time.sleep(PAUSE_S)

    def swap_unseen(self) -> None:
        """Another set of which nobody tells the sidecar: it looks for itself."""
        in_force = self.policies()["revision"]
        number = next(one for one in self._numbers if REVISIONS[one] != in_force)
        begun_s = time.monotonic()
        self.folder.by_link(number)
        while self.policies()["revision"] != REVISIONS[number]:
            assert time.monotonic() < begun_s + 20
            time.sleep(0.02)
        self.changes.append(Change(begun_s, time.monotonic(), frozenset({number})))

    def swap_while_it_reads(self, count: int) -> None:
        """Sets that change at any moment of a reload; which is in force is not known then."""
        begun_s, is_over, chance = time.monotonic(), threading.Event(), random.Random(4)

        def keep_swapping() -> None:
            while not is_over.wait(chance.uniform(0.002, 0.02)):
                self.folder.by_link(next(self._numbers))

        swapping = threading.Thread(target=keep_swapping)
        swapping.start()
        for _ in range(count):
            self._reload()
        is_over.set()
        swapping.join()
        self.changes.append(Change(begun_s, time.monotonic(), frozenset(NUMBERS)))


@contextmanager
def reloading(process: Process) -> Iterator[Reloads]:
    with upstream() as url:
        reloads = Reloads(process)
        process.write(f"  up: {{url: '{url}'}}", {})
        process.start()
        try:
            yield reloads
        finally:
            process.stop()


def exported(process: Process) -> list[dict[str, Any]]:
    """All receipts in their order, with what stands beside them."""
    path = process.folder / "receipts.jsonl"
    export = ("receipts", "export", "--facts", "--output", str(path))
    assert main([*export, "--config", str(process.config)]) == 0
    return [json.loads(line) for line in path.read_text().splitlines()]


def receipts_of(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Decisions by call, with their facts."""
    return {
        one["call_id"]: {**one, "facts": json.loads(one["facts"])}
        for one in found
        if one["kind"] in ("intent", "refusal")
    }


def test_d4_a_hundred_reloads_under_load_never_show_a_mixture(tmp_path: Path) -> None:
    process = Process(tmp_path)
    with reloading(process) as reloads:
        folder = reloads.folder
        broken = itertools.cycle(folder.breakings)
        with Callers(process.data_port, CONNECTIONS) as callers:
            reloads.swap_unseen()
            for way, count in ((folder.by_link, 40), (folder.by_rename, 30), (folder.in_place, 30)):
                for number in range(count):
                    wanted, said = reloads.swap(way)
                    assert f"revision {REVISIONS[wanted]}" in said
                    if number % 6 == 3:
                        reloads.spoil(next(broken), is_linked=way == folder.by_link)
                        if way == folder.in_place:
                            folder.by_rename(wanted)
                if way == folder.by_link:
                    reloads.swap_while_it_reads(60)
                    reloads.swap_unseen()
        calls = callers.calls()
        metrics = process.metrics()
        log = process.log()
    assert mixtures(calls) == []
    assert misjudged(calls, reloads.changes) == []
    found = exported(process)
    assert_every_receipt_is_of_one_set(found, calls)
    assert_each_set_is_on_record_before_it_decides(found, reloads.refused)
    loads = 'aegis_policy_reloads_total{result="%s"}'
    assert metrics["aegis_policy_reload_success"] == 1
    assert metrics[loads % "loaded"] > reloads.succeeded >= 100
    assert metrics[loads % "failed"] >= reloads.refused >= 16
    assert "policies are broken and were not loaded" in log
    of_sets = Counter(number for _, number in settled(calls, reloads.changes))
    assert all(of_sets[number] > 20 for number in NUMBERS), of_sets


def assert_each_set_is_on_record_before_it_decides(
    found: list[dict[str, Any]], refused: int
) -> None:
    """Each reload tells what it replaced, so that the record of changes has no gap."""
    told, in_force = [], {next(one for one in found if one["policy_revision"])["policy_revision"]}
    for one in found:
        if one["action"] == "policy.load":
            told.append((json.loads(one["arguments"]), one["policy_revision"]))
            in_force.add(one["policy_revision"])
        elif one["policy_revision"]:
            assert one["policy_revision"] in in_force, one["seq"]
    assert len(told) > 100 and {name for _, name in told} == set(REVISIONS.values())
    assert all(said["before"]["revision"] != revision for said, revision in told)
    for (_, before), (said, _) in itertools.pairwise(told):
        assert said["before"]["revision"] == before
    assert sum(one["action"] == "policy.refuse" for one in found) >= refused


def assert_every_receipt_is_of_one_set(found: list[dict[str, Any]], calls: list[Call]) -> None:
    receipts = receipts_of(found)
    of_call = {call_id: told_by_receipt(one, KNOWN) for call_id, one in receipts.items()}
    assert {call_id: sets for call_id, sets in of_call.items() if len(sets) != 1} == {}
    assert 0 not in frozenset().union(*of_call.values())
    assert [call for call in calls if of_call[call.call_id] != call.sets] == []


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reloads]:
    folder = tmp_path_factory.mktemp("faulty")
    process = FaultyProcess(folder, environment={"RELOAD_FAULT": str(folder / "fault")})
    with reloading(process) as reloads:
        yield reloads


@pytest.mark.parametrize(
    ("fault", "mixes", "misjudges"),
    [("", False, False), ("apart", True, True), ("torn", True, None), ("late", False, True)],
)
def test_d4_planted_faults_of_the_keeper_are_found(
    faulty: Reloads, fault: str, mixes: bool, misjudges: bool | None
) -> None:
    """Rules and catalogue swapped apart, a reading of two moments, a word that comes too early;
    and without a fault nothing is found. What was read torn may stay in force for a while, and
    then judges calls by no set there is; or not, as the moment has it."""
    (faulty.process.folder / "fault").write_text(fault)
    with Callers(faulty.process.data_port, CONNECTIONS) as callers:
        for _ in range(12):
            faulty.swap(faulty.folder.by_link)
        faulty.swap_while_it_reads(8)
        (faulty.process.folder / "fault").write_text("")
        faulty.swap(faulty.folder.by_link)
    calls = callers.calls()
    assert bool(mixtures(calls)) == mixes
    assert misjudges in (None, bool(misjudged(calls, faulty.changes)))
