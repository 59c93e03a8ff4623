"""A1, A13 for calls that are not HTTP: kill -9 while agents ask, and ask again as their SDK does.

Every answer that was heard is on record as it was given; a request id is decided once, however
often it is sent and whenever the sidecar died; a question to people is asked once; nothing of an
action that the agent carries out itself is left open.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import full
import orjson
import pytest

AGENTS = 16
CYCLES = 3
CONFIGURATION = """\
listen: {{data: "127.0.0.1:{data}", control: "127.0.0.1:{control}"}}
store: sqlite:///aegis.db
policies: ./policies
upstreams: {{asks: {{kind: authorize}}}}
"""
CATALOGUE = "catalogue: asks\ntools: {do: {}, never: {}, wait: {}}\n"
POLICY = """\
policy: faults
rules:
  - {id: do, effect: allow, tools: [asks/do, asks/wait]}
  - {id: never, effect: deny, tools: asks/never}
  - {id: wait, effect: require_approval, tools: asks/wait}
"""
ACTIONS = ("do", "do", "never", "wait")


def sidecar_in(folder: Path, planted: str | None) -> full.Sidecar:
    one = full.Sidecar(folder, 1, planted)
    (folder / "policies" / "tools.yaml").write_text(CATALOGUE)
    (folder / "policies" / "faults.yaml").write_text(POLICY)
    one.config.write_text(CONFIGURATION.format(data=one.data_port, control=one.control_port))
    return one


def asking(mark: str, action: str, agent: int) -> dict[str, Any]:
    """One request. What waits is the same action again and again, as when it is tried again."""
    request: dict[str, Any] = {
        "agent": {"id": "agent", "environment": "production"},
        "tool_call": {
            "tool": "asks", "action": action, "resource": None, "mutates_state": True,
            "parameters": {"mark": f"waits-{agent}" if action == "wait" else mark},
        },
        "context": {"source_trust": "trusted_internal_signed"},
    }  # fmt: skip
    if action != "wait":
        request["request_id"] = mark
    return request


class Agents:
    """What they asked and heard: decisions by mark; and what they heard nothing of."""

    def __init__(self, port: int, *, is_strict: bool = True) -> None:
        """Unless `is_strict`, other answers than decisions count as none: a sidecar with a fault
        built in gives such too."""
        self._is_strict = is_strict
        self._url = f"http://127.0.0.1:{port}/v1/authorize"
        self.requests: dict[str, dict[str, Any]] = {}
        self.answers: dict[str, dict[str, Any]] = {}

    async def ask_until_it_dies(self, label: str) -> None:
        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(self._agent(session, label, one) for one in range(AGENTS)))

    async def _agent(self, session: aiohttp.ClientSession, label: str, agent: int) -> None:
        for count in range(1_000_000):
            mark = f"{label}-{agent}-{count}"
            self.requests[mark] = asking(mark, ACTIONS[count % len(ACTIONS)], agent)
            try:
                await self._ask(session, mark)
            except (aiohttp.ClientError, OSError):
                return

    async def _ask(self, session: aiohttp.ClientSession, mark: str) -> dict[str, Any]:
        async with session.post(self._url, json=self.requests[mark]) as reply:
            said: dict[str, Any] = await reply.json()
            if reply.status != 200 and not self._is_strict:
                del self.requests[mark]
                return {}
            assert reply.status == 200, said
            self.answers.setdefault(mark, said)
            return said

    async def ask_again(self) -> list[str]:
        """What was not heard, and some of what was; what is answered otherwise than before."""
        unheard = [mark for mark in self.requests if mark not in self.answers]
        heard = [mark for mark in self.answers if "request_id" in self.requests[mark]]
        wrong = []
        async with aiohttp.ClientSession() as session:
            for mark in unheard + heard[-20:]:
                before, said = self.answers.get(mark), await self._ask(session, mark)
                if before is not None and said != before:
                    wrong.append(f"{mark}: {said}, before {before}")
        return wrong


def violations(one: full.Sidecar, agents: Agents) -> list[str]:
    """What the record says otherwise."""
    with closing(sqlite3.connect(one.folder / "aegis.db")) as store:
        rows = store.execute(
            "SELECT r.call_id, r.seq, r.receipt_hash, r.kind, r.outcome, r.decision, f.arguments "
            "FROM receipts r LEFT JOIN call_facts f ON f.tenant_id = r.tenant_id AND f.seq = r.seq "
            "WHERE r.kind IN ('intent', 'refusal', 'outcome', 'recovery')"
        ).fetchall()
        left_open = store.execute("SELECT count(*) FROM open_intent").fetchone()[0]
        questions = store.execute("SELECT tool, asked FROM approval").fetchall()
    found = [f"{left_open} left open"] * bool(left_open)
    by_call = {row[0]: row for row in rows}
    marks = Counter(orjson.loads(row[6])["mark"] for row in rows)
    if len(by_call) != len(rows):
        found.append("a call stands there twice")
    for mark, said in agents.answers.items():
        row = by_call.get(said["decision_id"].replace("-", ""))
        if row is None:
            found.append(f"heard, not recorded: {mark}")
            continue
        receipt = said["receipt"]
        if (row[1], row[2]) != (receipt["seq"], receipt["receipt_hash"]):
            found.append(f"recorded otherwise than heard: {mark}")
        if (row[3], row[4]) != ("intent", "delegated") and said["decision"] == "allow":
            found.append(f"allowed, recorded as {row[3:6]}: {mark}")
        if "request_id" in agents.requests[mark] and marks[mark] != 1:
            found.append(f"decided {marks[mark]} times: {mark}")
    asked = Counter(orjson.loads(text)["arguments"]["mark"] for _, text in questions)
    found += [f"asked {count} times: {mark}" for mark, count in asked.items() if count > 1]
    return found


async def killed(folder: Path, cycles: int, planted: str | None = None) -> tuple[Agents, list[str]]:
    """So many kills of one store; what was asked, and what is wrong after each."""
    one, found = sidecar_in(folder, planted), list[str]()
    agents, chance = Agents(one.data_port, is_strict=not planted), random.Random(11)
    try:
        await one.start()
        for cycle in range(cycles):
            load = asyncio.ensure_future(agents.ask_until_it_dies(f"c{cycle}"))
            await asyncio.sleep(chance.uniform(0.3, 0.6))
            one.kill()
            await load
            await one.start()
            found += violations(one, agents) if planted else []
            if found:
                return agents, found
            found += await agents.ask_again()
            found += violations(one, agents)
    finally:
        one.kill()
    problem = await asyncio.to_thread(full.verify, one)
    return agents, found + ([problem] if problem else [])


@pytest.mark.timeout(120)
async def test_a1_a13_kills_while_agents_ask_lose_nothing_and_double_nothing(
    tmp_path: Path,
) -> None:
    agents, found = await killed(tmp_path / "one", CYCLES)
    assert found == []
    decisions = Counter(one["decision"] for one in agents.answers.values())
    assert min(decisions[name] for name in ("allow", "deny", "require_approval")) > 20, decisions
    assert len(agents.answers) == len(agents.requests), "positive control: all were asked again"


@pytest.mark.timeout(120)
async def test_the_planted_fault_is_found(tmp_path: Path) -> None:
    _, found = await killed(tmp_path / "one", 3, "acknowledge-before-commit")
    assert any("not recorded" in one or "otherwise" in one for one in found), found
