"""E2 and E3 at two nodes of a real PostgreSQL: one winner each, and the server's clock decides."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import postgres_server
import pytest
from approval_races import ANA, TENANT, node, race

from sidecar.approvals.refusals import ApprovalRefused
from sidecar.ledger.recorder import Intent, Unspent
from sidecar.ledger.stored_chain import verify_chain

HOUR_US = 3_600_000_000
SPENDERS = 16


@pytest.fixture(scope="module")
def dsn() -> Iterator[str]:
    with postgres_server.server() as dsn:
        yield dsn


@pytest.mark.timeout(120)
async def test_e2_of_sixteen_at_two_nodes_exactly_one_spends_each(dsn: str) -> None:
    url = await postgres_server.new_database(dsn)
    count = int(os.environ.get("AEGIS_TEST_APPROVALS", "500"))
    async with node(url, "one") as one, node(url, "two") as two:
        raced = await race([one, two], count, SPENDERS)
    assert raced.winners == [1] * count, raced.figures
    assert raced.lost == {"approval_spent": count * (SPENDERS - 1)}


async def test_e2_on_a_file_too(tmp_path: Path) -> None:
    async with node(f"sqlite:///{tmp_path}/a.db", "one") as one:
        raced = await race([one], 50, SPENDERS)
        row = await one.open("other")
        assert isinstance(await one.spend(row), Unspent), "positive control: it was not approved"
    assert raced.winners == [1] * 50


@pytest.mark.parametrize("by_us", [-HOUR_US, 0, HOUR_US], ids=["behind", "right", "ahead"])
async def test_e3_a_node_whose_clock_is_wrong_spends_in_time_and_not_late(
    dsn: str, by_us: int
) -> None:
    url = await postgres_server.new_database(dsn)
    async with node(url, "right") as right, node(url, "wrong", by_us) as wrong:
        row = await wrong.open("a", life_us=30_000_000)
        assert row.expires_at_us - row.asked_at_us == 30_000_000
        yes = await wrong.deciding.approve(TENANT, row.approval_id, ANA)
        assert isinstance(await wrong.spend(yes), Intent), "in time by the server's clock"

        held = await right.open("b", life_us=1_500_000)
        yes = await right.deciding.approve(TENANT, held.approval_id, ANA)
        late = await right.open("c", life_us=1_500_000)
        await asyncio.sleep(1.6)
        answer = await wrong.spend(yes)
        assert isinstance(answer, Unspent) and answer.decision.code == "approval_expired"
        with pytest.raises(ApprovalRefused) as refused:
            await wrong.deciding.approve(TENANT, late.approval_id, ANA)
        assert refused.value.code == "approval_expired"


async def test_e1_a_yes_is_not_spent_by_another_action_nor_burnt_by_it(tmp_path: Path) -> None:
    async with node(f"sqlite:///{tmp_path}/a.db", "one") as one:
        row = await one.open("a")
        yes = await one.deciding.approve(TENANT, row.approval_id, ANA)
        answer = await one.spend(yes, action="f" * 64)
        assert isinstance(answer, Unspent)
        assert isinstance(await one.spend(yes), Intent), "positive control"
        assert isinstance(await one.spend(yes), Unspent)
        report = await verify_chain(one.store, TENANT)
    assert report.fault is None


async def test_e5_votes_at_two_nodes_at_once_the_first_stands(dsn: str) -> None:
    url = await postgres_server.new_database(dsn)
    async with node(url, "one") as one, node(url, "two") as two:
        for number in range(10):
            row = await one.open(f"{number}")
            said = await asyncio.gather(
                one.deciding.approve(TENANT, row.approval_id, ANA),
                two.deciding.reject(TENANT, row.approval_id, ANA),
                return_exceptions=True,
            )
            assert sum(isinstance(one, ApprovalRefused) for one in said) == 1, said
