"""Calls of one run that are made at once, under rules that every call of the run changes: each is
judged on what those before it have left, and none is refused because there are many."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from proxy_whole_setup import receipts, whole
from proxy_wire_setup import answering

from sidecar.ledger.run_turns import Turns

OK = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
AT_ONCE = 40
CATALOGUE = "catalogue: api\ntools: {get: GET /get, ask: GET /ask}\n"


def policies(condition: str) -> dict[str, str]:
    return {
        "api.yaml": CATALOGUE,
        "p.yaml": "policy: p\nrules:\n"
        f"  - {{id: counted, effect: allow, tools: api/get, when: '{condition}'}}\n",
    }


@pytest.mark.parametrize("counts", ["run.calls", 'run.count("api/get", duration("1h"))'])
@pytest.mark.parametrize("most", [15, 1000])
async def test_as_many_go_ahead_as_may(tmp_path: Path, counts: str, most: int) -> None:
    async with whole(tmp_path, OK, policies(f"{counts} < {most}")) as one:
        answers = await asyncio.gather(*(one.ask("GET", "/api/get") for _ in range(AT_ONCE)))
    ahead = min(most, AT_ONCE)
    wanted = {200: ahead, 403: AT_ONCE - ahead}
    assert Counter(answer.status for answer in answers) == Counter(wanted)
    kinds = Counter(one["kind"] for one in receipts(tmp_path))
    assert (kinds["intent"], kinds["refusal"]) == (ahead, AT_ONCE - ahead)


async def test_who_waits_for_a_person_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most find, once it is their turn, that a person has to be asked by now."""
    monkeypatch.setattr(Turns.__init__, "__defaults__", (60.0,))
    asks = (
        "policy: q\nrules:\n"
        "  - {id: soon-asks, effect: require_approval, tools: api/get, when: run.calls >= 5}\n"
    )
    files = policies("true") | {"q.yaml": asks}
    async with whole(tmp_path, OK, files, more="approvals: {hold: 60s}\n") as one:
        writers = []
        for _ in range(AT_ONCE):
            _, writer = await asyncio.open_connection("127.0.0.1", one.port)
            writer.write(f"GET /api/get HTTP/1.1\r\nHost: 127.0.0.1:{one.port}\r\n\r\n".encode())
            writers.append(writer)
        async with asyncio.timeout(30):
            while sum((await one.metric("aegis_approvals_held_calls")).values()) < AT_ONCE - 5:
                await asyncio.sleep(0.05)
        for writer in writers:
            writer.close()
    assert Counter(one["kind"] for one in receipts(tmp_path))["intent"] == 5
