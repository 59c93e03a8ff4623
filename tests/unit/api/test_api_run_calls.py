"""The run of a call until then, over real runs in a real store: held against what each commit
made of the run, also of calls that were under way together."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from api_setup import Served, key_of
from console_setup import browser
from page_marks import Element, marks_of

from sidecar.control.api import run_calls
from sidecar.ledger.chain import seal
from sidecar.ledger.entries import Entries
from sidecar.ledger.run_keeper import RunBefore, RunKeeper
from sidecar.ledger.run_text import read_run
from sidecar.model import (
    Decision,
    Effect,
    HttpFacts,
    Principal,
    Tool,
    ToolCall,
    TrustLevel,
)
from sidecar.policy.terms import Obligations
from storage.records import Entry, Recorded
from storage.retention import Retention

AGENT = Principal("acme", "coder-acme", team="platform")
NO_COUNTS = SimpleNamespace(counts_calls=False, counts_by_tool=False)
LABELS = ("private", "web", "money", "code")


class Judged(NamedTuple):
    """A call between its decision and its place on the chain."""

    call_id: str
    met: RunBefore
    entry: Entry


class Working:
    """An agent whose calls are judged and recorded by the parts that do it."""

    def __init__(self, served: Served) -> None:
        self.store, self.clock = served.store, served.clock
        self.runs = RunKeeper(self.store.run_head, self.clock, idle_s=60.0, is_alone=True)
        self.entries = Entries(
            self.clock, node_id="n1", boot_id="b1", redact=lambda args: args, keeps_arguments=True
        )
        self.made = 0

    async def labels(self, run_id: str = "") -> frozenset[str]:
        """What the store keeps of the run."""
        key = f"{AGENT.agent}\n{run_id}" if run_id else AGENT.agent
        kept = read_run((await self.store.run_head("acme", key)).state)
        return frozenset() if kept is None else kept.state.labels

    async def judge(self, *labels: str, adds: tuple[str, ...] = (), run_id: str = "") -> Judged:
        """As far as the decision."""
        self.made += 1
        call_id = f"run-call-{self.made}"
        met = self.runs.known(AGENT, run_id) or await self.runs.read(AGENT, run_id)
        tool = Tool("shop", "get", labels=labels, returns=TrustLevel.TRUSTED_INTERNAL_UNSIGNED)
        http = HttpFacts("GET", "/orders/7", "", "127.0.0.1", {})
        call = ToolCall(call_id, tool, "GET", {}, http, "", (), b"", "rest", run_id or None)
        obliged = Obligations(add_labels=adds) if adds else None
        decision = Decision(Effect.ALLOW, "policy_allow", "", "r1", obligations=obliged)
        stake = self.runs.stake(met, AGENT, call, decision, NO_COUNTS, self.clock.now_us())
        return Judged(call_id, met, self.entries.intent(AGENT, call, decision, stake, met.state))

    async def record(self, judged: Judged) -> str:
        """Its place on the chain; gives its id."""
        [answer] = await self.store.record([judged.entry], seal)
        assert isinstance(answer, Recorded), answer
        self.runs.went_ahead(judged.met, answer.run)
        return judged.call_id

    async def call(self, *labels: str, **more: Any) -> str:
        """One that is alone."""
        return await self.record(await self.judge(*labels, **more))


async def run_of(served: Served, call_id: str) -> dict[str, Any]:
    """As the API tells it."""
    status, said, _ = await served.ask(f"/v1/decisions/{call_id}/run", key_of("acme", "viewer"))
    assert status == 200, said
    return said  # type: ignore[no-any-return]


@pytest.mark.parametrize("seed", range(6))
async def test_a_label_is_told_of_the_very_call_whose_commit_brought_it(
    served_by_each: Served, seed: int
) -> None:
    """Calls are judged and recorded in any order; the run in the store says who brought what."""
    drawn, working = random.Random(seed), Working(served_by_each)
    waiting: list[Judged] = []
    brought: dict[str, list[str]] = {}
    unseen: dict[str, list[str]] = {}
    last = ""
    for _ in range(60):
        if waiting and (len(waiting) > 4 or drawn.random() < 0.5):
            judged = waiting.pop(drawn.randrange(len(waiting)))
            before = await working.labels()
            last = await working.record(judged)
            after = await working.labels()
            brought[last] = sorted(after - before)
            unseen[last] = sorted(before - judged.met.state.labels)
        else:
            own = drawn.sample(LABELS, drawn.randrange(3)) if drawn.random() < 0.2 else []
            adds = (drawn.choice(LABELS),) if drawn.random() < 0.1 else ()
            waiting.append(await working.judge(*own, adds=adds))
    told = await run_of(served_by_each, last)
    assert told["is_whole"] and told["calls"][-1]["call_id"] == last
    assert {one["call_id"]: one["labels_added"] for one in told["calls"]} == brought
    assert {one["call_id"]: one["labels_unseen"] for one in told["calls"]} == unseen
    assert not any(one["labels_appeared"] for one in told["calls"])
    assert sum(len(labels) for labels in brought.values()) == len(await working.labels()) > 0
    seqs = [one["seq"] for one in told["calls"]]
    assert seqs == sorted(seqs)


async def test_the_first_calls_of_a_run_that_were_under_way_together(served: Served) -> None:
    working = Working(served)
    first, second = await working.judge("private"), await working.judge("private", "web")
    await working.record(first)
    told = await run_of(served, await working.record(second))
    assert told["started_us"] is not None and told["is_whole"]
    assert [one["labels_added"] for one in told["calls"]] == [["private"], ["web"]]
    assert [one["labels_before"] for one in told["calls"]] == [[], ["private"]]
    assert [one["labels_unseen"] for one in told["calls"]] == [[], ["private"]]


async def test_runs_that_are_divided_are_told_apart(served: Served) -> None:
    working = Working(served)
    await working.call("private", run_id="one")
    await working.call("web", run_id="two")
    last = await working.call("money", run_id="one")
    await working.call("code", run_id="two")
    told = await run_of(served, last)
    assert [one["labels_added"] for one in told["calls"]] == [["private"], ["money"]]
    assert told["calls"][1]["labels_before"] == ["private"] and told["is_whole"]


async def test_a_run_longer_than_a_page_says_that_it_is_not_all(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    working = Working(served)
    await working.call("private")
    await working.call("web")
    last = await working.call("money")
    monkeypatch.setattr(run_calls, "CALLS_MAX", 2)
    told = await run_of(served, last)
    assert not told["is_whole"]
    assert [(one["labels_before"], one["labels_added"]) for one in told["calls"]] == [
        (["private"], ["web"]), (["private", "web"], ["money"]),
    ]  # fmt: skip
    at = await browser(served).sign_in("acme", "viewer")
    marks = marks_of((await at.open(f"/calls/{last}"))[1])
    (further,) = [one for one in marks if one.text == "The run until the first of these"]
    assert further.attributes["href"] == f"/console/calls/{told['calls'][0]['call_id']}"
    await at.client.close()


async def test_what_was_erased_is_told_as_not_known(served: Served) -> None:
    working = Working(served)
    first = await working.call("private")
    last = await working.call("web")
    (row,) = await served.store.receipts_of_call("acme", first)
    assert await Retention(served.store).erase("acme", [row.seq]) == 1
    told = await run_of(served, last)
    assert [one["labels_added"] for one in told["calls"]] == [None, ["web"]]
    assert told["calls"][1]["labels_appeared"] == ["private"]
    alone = await run_of(served, first)
    assert (alone["started_us"], alone["is_whole"]) == (None, False)
    assert [one["call_id"] for one in alone["calls"]] == [first]
    at = await browser(served).sign_in("acme", "viewer")
    _, text = await at.open(f"/calls/{last}")
    assert "what it added is not known: it was erased" in text
    assert "private: no call shown is on record as having added it" in text
    await at.client.close()


async def test_pages_show_what_each_call_added(served: Served) -> None:
    working = Working(served)
    first = await working.call("private")
    held = await working.judge("private")
    second = await working.call("web", adds=("spent",))
    await working.record(held)
    at = await browser(served).sign_in("acme", "viewer")
    marks = marks_of((await at.open(f"/calls/{held.call_id}"))[1])
    (timeline,) = [one for one in marks if one.attributes.get("class") == "timeline"]
    items = [one for one in marks if one.tag == "li" and timeline in one.above]
    added = [
        [one.text for one in marks if one.tag == "ins" and item in one.above] for item in items
    ]
    assert added == [["+ private"], ["+ spent", "+ web"], []]
    hints = " ".join(one.text for one in marks if items[2] in one.above)
    assert "judged before spent, web was there" in hints
    assert all(one.is_disabled for one in items), "labels are names that policies chose"
    marks = marks_of((await at.open(f"/agents/{AGENT.agent}"))[1])
    links = [one.attributes["href"].rpartition("/")[2] for one in marks if _is_brought_by(one)]
    assert links == [first, second, second], "of private, spent and web"
    await at.client.close()
    assert {first, second} == {one["call_id"] for one in (await run_of(served, second))["calls"]}


def _is_brought_by(one: Element) -> bool:
    below = [above.tag for above in one.above]
    return one.tag == "a" and "/calls/" in one.attributes["href"] and "p" in below


def test_a_call_that_was_not_judged_is_a_run_of_itself() -> None:
    assert not run_calls._may_be_of({"run": None, "of_run": "other"}, "")
    assert run_calls._may_be_of({"run": None}, "") and run_calls._may_be_of(None, "x")
    assert run_calls._may_be_of({}, "x"), "refused before its run was looked up"
