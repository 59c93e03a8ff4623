"""Places in flight at an upstream, of which one tenant cannot have them all; over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bodies_setup import Sending, sending
from proxy_approvals_setup import DONE, POLICIES, open_ones, person, soon
from proxy_whole_setup import Whole, receipts, whole

TENANTS = """tenants:
  default: {agents: {coder: {token: {file: default.txt}}}}
  rival: {agents: {coder: {token: {file: rival.txt}}}}
"""
TOKENS = {name: f"{name}-{'0123456789abcdef' * 3}" for name in ("default", "rival")}
OF = {name: {"Aegis-Token": token} for name, token in TOKENS.items()}


@contextlib.asynccontextmanager
async def shared(folder: Path, said: str = TENANTS) -> AsyncIterator[Whole]:
    """An upstream that takes four calls at once."""
    for name, token in TOKENS.items():
        (folder / f"{name}.txt").write_text(token)
        (folder / f"{name}.txt").chmod(0o600)
    async with whole(folder, DONE, POLICIES, said, api=", limits: {calls: 4}") as one:
        yield one


async def slow(one: Whole, count: int) -> list[Sending]:
    """Calls of the first tenant whose bodies do not come, and are waited for."""
    begun = [await sending(one, "/api/look", b"{", 50, OF["default"]) for _ in range(count)]
    await asyncio.sleep(0.3)
    return begun


async def asked(one: Whole, tenant: str) -> str:
    """What a short call of the tenant ends in."""
    answer = await one.ask("GET", "/api/look", headers=OF[tenant])
    return "ok" if answer.status == 200 else f"{answer.json['code']}: {answer.json['title']}"


async def all_free(one: Whole) -> None:
    """Its two places are all there again, and no more."""

    async def is_free() -> bool:
        return await asked(one, "default") == "ok"

    await soon(is_free)
    for left in await slow(one, 1):
        assert await asked(one, "default") == "ok"
        more = await slow(one, 1)
        assert "upstream_busy" in await asked(one, "default")
        more[0].vanish()
        left.vanish()


@pytest.mark.parametrize("has_several", [True, False])
async def test_b19_calls_that_last_leave_places_to_other_tenants(
    tmp_path: Path, has_several: bool
) -> None:
    said = TENANTS if has_several else TENANTS.partition("  rival")[0]
    async with shared(tmp_path, said) as one:
        begun = await slow(one, 4)
        assert "upstream_busy" in await asked(one, "default"), "positive control: it has its part"
        if has_several:
            assert [await asked(one, "rival") for _ in range(3)] == ["ok", "ok", "ok"]
        for left in begun:
            left.vanish()
        if has_several:
            await all_free(one)
    refused = [row["outcome"] for row in receipts(tmp_path) if row["kind"] == "refusal"]
    assert ("upstream_busy" in refused) is has_several, "with the tenant known it is on record"


async def test_a_held_call_leaves_its_tenants_share_and_takes_it_again(tmp_path: Path) -> None:
    async with shared(tmp_path) as one:
        pay = asyncio.create_task(one.ask("POST", "/api/pay", {"cents": 5}, OF["default"]))

        async def is_held() -> bool:
            return bool(await open_ones(one))

        await soon(is_held)
        (row,) = await open_ones(one)
        begun = await slow(one, 2)
        assert "upstream_busy" in await asked(one, "default"), "these two have all"
        begun[0].vanish()
        await asyncio.sleep(0.3)
        await one.sidecar.approvals.deciding.approve("default", row.approval_id, person("ana"))
        assert (await pay).status == 200
        begun[1].vanish()
        await all_free(one)
