"""Approvals that may be open at once, of which one agent cannot have them all."""

from __future__ import annotations

import asyncio
from pathlib import Path

from proxy_approvals_setup import ANA, TENANT, asking, open_ones
from proxy_whole_setup import Whole

AGENTS = """approvals: {hold: 0s, pending: 8}
tenants:
  default:
    agents: {coder: {token: {file: coder.txt}}, other: {token: {file: other.txt}}}
"""
TOKENS = {name: f"{name}-{'0123456789abcdef' * 3}" for name in ("coder", "other")}


async def ask(one: Whole, agent: str, order: int) -> str:
    """What an agent is told that asks for a yes."""
    headers = {"Aegis-Token": TOKENS[agent]}
    answer = await one.ask("POST", f"/api/refund/{agent}{order}", {"cents": 5}, headers)
    return str(answer.json["code"])


async def test_e8_an_agent_that_asks_for_all_there_is_leaves_room_to_others(tmp_path: Path) -> None:
    for name, token in TOKENS.items():
        (tmp_path / f"{name}.txt").write_text(token)
        (tmp_path / f"{name}.txt").chmod(0o600)
    async with asking(tmp_path, AGENTS) as one:
        said = await asyncio.gather(*(ask(one, "coder", order) for order in range(12)))
        assert said.count("approval_pending") <= 6, "of many at once it opens no more"
        for order in range(12, 20):  # those which were too many at once may be less one by one
            await ask(one, "coder", order)
        assert len(await open_ones(one)) == 6 and await ask(one, "coder", 20) == "approvals_full"
        others = [await ask(one, "other", order) for order in range(3)]
        assert others == ["approval_pending", "approval_pending", "approvals_full"]
        assert len(await open_ones(one)) == 8, "and the tenant no more than it may"
        mine = next(row for row in await open_ones(one) if row.agent_id == "coder")
        await one.sidecar.approvals.deciding.withdraw(TENANT, mine.approval_id, ANA)
        assert await ask(one, "coder", 21) == "approval_pending", "positive control"
