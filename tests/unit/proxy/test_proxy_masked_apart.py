"""A large call is masked apart from the event loop, once for all who ask, and as a small one is."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from proxy_approvals_setup import ANA, DONE, TENANT, asking, open_ones, pending
from proxy_mcp_setup import ACCEPT, CATALOGUES, McpServer, Seen, asks, call, event, stream
from proxy_mcp_setup import result as answer_of
from proxy_whole_setup import receipts, whole
from test_proxy_approvals import given_to_agent
from test_proxy_obligations import OK, forwarded, policy

from sidecar.errors import Refused
from sidecar.model import Principal
from sidecar.policy.decide import decide
from sidecar.proxy import masked_calls
from sidecar.proxy.detectors import DETECT, Span
from sidecar.proxy.judging import Judging
from sidecar.proxy.masked_calls import INLINE_BYTES_MAX

CARD = "4111 1111 1111 1111"
LARGE = "555-" * 50_000 + "x" + CARD
SMALL = "555-" * 50 + "x" + CARD
assert len(SMALL) < INLINE_BYTES_MAX < len(LARGE)
MASKS = "{redact: {request: [card_number]}}"


class Watched:
    """In which threads texts were searched, by whether they were long."""

    def __init__(self) -> None:
        self.large: list[int] = []
        self.small: list[int] = []
        self._find = DETECT["card_number"]

    def __call__(self, text: str) -> Iterator[Span]:
        if "555-" in text:
            (self.large if len(text) > INLINE_BYTES_MAX else self.small).append(
                threading.get_ident()
            )
        return self._find(text)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    watch = Watched()
    monkeypatch.setitem(DETECT, "card_number", watch)  # type: ignore[misc]
    return watch


def apart(watch: Watched) -> bool:
    """Whether every long text was searched elsewhere; some were."""
    return bool(watch.large) and threading.get_ident() not in watch.large


async def test_d5_a_large_body_is_masked_elsewhere_and_as_a_small_one(
    tmp_path: Path, watched: Watched
) -> None:
    async with whole(tmp_path, OK, policy(MASKS)) as one:
        for text in (SMALL, LARGE):
            before = len(one.arrived)
            answer = await one.ask("POST", "/api/post", {"text": text})
            assert answer.status == 200, answer.json
            assert forwarded(one.arrived[before:]) == {"text": text.replace(CARD, "***")}
        assert apart(watched) and len(watched.large) == 2, "once to record, once to send"
        assert set(watched.small) == {threading.get_ident()}, "control: little is masked at once"
        kept = [json.loads(row["arguments"]) for row in receipts(tmp_path) if row["arguments"]]
    assert [row["text"][-5:] for row in kept] == ["-x***"] * 2


async def test_d5_a_large_call_of_a_tool_is_masked_elsewhere(
    tmp_path: Path, watched: Watched
) -> None:
    async with whole(tmp_path, DONE, policy(MASKS)) as one:
        beside = {"inputResponses": {"a": {"action": "accept", "content": {"card": LARGE}}}}
        body = call("send", arguments={"text": LARGE}, **beside)
        answer = await one.ask("POST", "/mcp", body, ACCEPT)
        assert answer.status == 200
        said = forwarded(one.arrived)["params"]
    assert said["arguments"]["text"] == LARGE.replace(CARD, "***")
    assert CARD not in json.dumps(said)
    assert apart(watched)


async def test_d5_a_large_call_that_is_refused_is_masked_elsewhere(
    tmp_path: Path, watched: Watched
) -> None:
    no = "{id: no, effect: deny, tools: api/post, reason: 'no {args.mark}'}"
    async with whole(tmp_path, OK, policy(MASKS, no)) as one:
        answer = await one.ask("POST", "/api/post", {"text": LARGE, "mark": CARD})
        assert (answer.status, answer.json["code"]) == (403, "policy_deny")
        assert "***" in answer.json["detail"] and CARD not in answer.json["detail"]
        (refusal,) = receipts(tmp_path)
        assert json.loads(refusal["arguments"])["text"][-5:] == "-x***"
    assert apart(watched) and one.arrived == b""


async def test_d5_a_large_call_that_waits_for_a_yes_is_masked_elsewhere(
    tmp_path: Path, watched: Watched
) -> None:
    rules = f"""policy: p
rules:
  - {{id: asks, effect: require_approval, tools: mcp/*, obligations: {MASKS}}}
"""
    content = {"mark": f"pay {CARD}", "text": LARGE}
    beside = {"inputResponses": {"a": {"action": "accept", "content": content}}}
    async with asking(tmp_path, policy=rules) as one:
        body = call("send", arguments=content, **beside)
        waiting = asyncio.create_task(one.ask("POST", "/mcp", body, ACCEPT))
        row = await pending(one)
        assert CARD not in row.asked
        assert row.asked.count("pay ***") == 2, "among the arguments, and beside them"
        await one.sidecar.approvals.deciding.approve(TENANT, row.approval_id, ANA)
        assert (await waiting).status == 200
        assert CARD.encode() not in one.arrived and b"***" in one.arrived
    assert apart(watched)


async def test_d5_a_large_call_that_is_decided_anew_is_not_masked_anew(
    tmp_path: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tries = Judging._recorded, 0

    async def recorded(self: Judging, *of_it: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries <= 3:
            return of_it[5]  # the decision: what it rested on has changed
        return await real(self, *of_it)

    monkeypatch.setattr(Judging, "_recorded", recorded)
    async with whole(tmp_path, OK, policy(MASKS)) as one:
        answer = await one.ask("POST", "/api/post", {"text": LARGE})
        assert (answer.status, tries) == (200, 4)
        assert forwarded(one.arrived) == {"text": LARGE.replace(CARD, "***")}
    assert apart(watched) and len(watched.large) == 2


async def test_d5_a_call_that_is_refused_once_its_masks_are_made_is_masked_on_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was decided before is known then: that this is not to be kept."""
    real, tries = Judging._known_run, 0

    def known(self: Judging, *of_it: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries == 2:
            raise Refused("store_unavailable", retry_after_s=1)
        return real(self, *of_it)

    monkeypatch.setattr(Judging, "_known_run", known)
    async with whole(tmp_path, OK, policy(MASKS)) as one:
        answer = await one.ask("POST", "/api/post", {"text": LARGE})
        assert (answer.status, answer.json["code"], tries) == (503, "store_unavailable", 2)
        (refusal,) = receipts(tmp_path)
        assert json.loads(refusal["arguments"])["text"][-5:] == "-x***"
        assert (await one.ask("POST", "/api/post", {"text": LARGE})).status == 200, "control"
        assert forwarded(one.arrived) == {"text": LARGE.replace(CARD, "***")}


async def test_d5_what_is_not_to_be_masked_any_more_goes_on_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another decision may come of it than the one that its masks were made for."""
    real, tries = decide, 0

    def decided(*of_it: Any) -> Any:
        nonlocal tries
        tries += 1
        decision = real(*of_it)
        return decision if tries == 1 else replace(decision, obligations=None)

    monkeypatch.setattr("sidecar.proxy.judging.decide", decided)
    async with whole(tmp_path, OK, policy(MASKS)) as one:
        assert (await one.ask("POST", "/api/post", {"text": LARGE})).status == 200
        assert (forwarded(one.arrived), tries) == ({"text": LARGE}, 2)


async def test_d5_what_a_server_asks_is_masked_elsewhere_where_it_is_much(
    tmp_path: Path, watched: Watched
) -> None:
    question = asks("elicitation/create", 91)
    question["params"] = {"message": LARGE}

    def answer(seen: Seen) -> Any:
        return [stream(), event(question), event(answer_of())]

    rules = (
        "policy: p\nrules:\n  - {id: all, effect: allow, tools: [mcp/*, 'mcp/mcp:*']}\n"
        "  - {id: m, tools: 'mcp/mcp:*', obligations: {redact: {response: [card_number]}}}\n"
    )
    async with whole(tmp_path, McpServer(answer), {**CATALOGUES, "p.yaml": rules}) as one:
        got = await one.ask("POST", "/mcp", call("look"), ACCEPT)
    assert b"elicitation/create" in got.body and CARD.encode() not in got.body
    assert apart(watched)


class Bench:
    """Work that is done when it is let go; who has begun, in order."""

    def __init__(self) -> None:
        self.masking = masked_calls.Masking()
        self.begun: list[str] = []
        self.go = threading.Event()

    def queue(self, agent: str, name: str) -> asyncio.Task[str]:
        def work() -> str:
            self.begun.append(name)
            self.go.wait(5)
            if name == "fails":
                raise ValueError(name)
            return name

        return asyncio.create_task(self.masking.do(Principal("acme", agent), work))

    async def until_begun(self) -> None:
        async with asyncio.timeout(5):
            while not self.begun:
                await asyncio.sleep(0.001)


async def test_who_does_not_wait_any_more_takes_none_of_its_time() -> None:
    bench = Bench()
    first, gone, last = (bench.queue("coder", name) for name in ("first", "gone", "last"))
    await bench.until_begun()
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    bench.go.set()
    assert await asyncio.gather(first, last) == ["first", "last"]
    assert bench.begun == ["first", "last"], "one at a time, and nobody for him who left"
    bench.masking.close()


async def test_agents_take_turns_so_that_a_crowd_is_waited_for_by_its_own() -> None:
    bench = Bench()
    crowd = [bench.queue("noisy", f"noisy {number}") for number in range(4)]
    fails = bench.queue("other", "fails")
    quiet = bench.queue("quiet", "quiet")
    await bench.until_begun()
    bench.go.set()
    assert await quiet == "quiet"
    with pytest.raises(ValueError, match="fails"):
        await fails
    assert await asyncio.gather(*crowd) == [f"noisy {number}" for number in range(4)]
    turns = ["noisy 0", "noisy 1", "fails", "quiet", "noisy 2", "noisy 3"]
    assert bench.begun == turns, "the turn of whoever came last comes after one of each"
    assert await bench.queue("quiet", "again") == "again"
    bench.masking.close()


async def test_whoever_waits_when_it_is_closed_waits_no_longer() -> None:
    bench = Bench()
    running, waiting = bench.queue("coder", "running"), bench.queue("other", "waiting")
    await bench.until_begun()
    bench.masking.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    bench.go.set()
    assert await running == "running" and bench.begun == ["running"]


async def test_h_masks_have_one_thread_which_ends_with_the_sidecar(
    tmp_path: Path, watched: Watched
) -> None:
    def names() -> list[str]:
        return [one.name for one in threading.enumerate() if one.name.startswith("aegis-masking")]

    rules = f"""policy: p
rules:
  - {{id: asks, effect: require_approval, tools: mcp/*, obligations: {MASKS}}}
"""

    async def until_none() -> None:
        async with asyncio.timeout(5):
            while names():
                await asyncio.sleep(0.01)

    await until_none()  # those of tests before
    async with asking(tmp_path, policy=rules) as one:
        waiting = asyncio.create_task(
            one.ask("POST", "/mcp", call("send", arguments={"text": LARGE}), ACCEPT)
        )
        row = await pending(one)
        await one.sidecar.approvals.deciding.approve(TENANT, row.approval_id, ANA)
        assert (await waiting).status == 200
        assert apart(watched)
        assert len(names()) == 1, "it was masked to be asked, recorded and sent"
    await until_none()


@pytest.mark.parametrize(
    ("request_id", "ended"), [(1, "approval_pending"), (2, "shutting_down"), ("1", "shutting_down")]
)
async def test_a_call_that_is_taken_back_while_it_is_masked_asks_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request_id: int | str, ended: str
) -> None:
    begun, goes_on = threading.Event(), threading.Event()
    find = DETECT["card_number"]

    def waits(text: str) -> Iterator[Span]:
        if len(text) > INLINE_BYTES_MAX:
            begun.set()
            assert goes_on.wait(10)
        return find(text)

    monkeypatch.setitem(DETECT, "card_number", waits)  # type: ignore[misc]
    rules = f"""policy: p
rules:
  - {{id: asks, effect: require_approval, tools: mcp/*, obligations: {MASKS}}}
"""
    async with asking(tmp_path, policy=rules) as one:
        headers = {**ACCEPT, "Mcp-Session-Id": given_to_agent(tmp_path, "s1")}
        body = call("send", arguments={"text": LARGE[-2 * INLINE_BYTES_MAX :]})
        waiting = asyncio.create_task(one.ask("POST", "/mcp", body, headers))
        assert await asyncio.to_thread(begun.wait, 10)
        about = {"requestId": request_id}
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": about}
        await one.ask("POST", "/mcp", cancel, headers)
        goes_on.set()
        if request_id == body["id"]:
            await waiting
            assert not await open_ones(one)
        else:
            assert await pending(one), "control: another request was taken back"
    await waiting
    refused = [row for row in receipts(tmp_path) if row["kind"] == "refusal"]
    assert [row["outcome"] for row in refused] == [ended]
