"""Who looks and decides: keys of people, of the store, of agents; over, guessed, swapped."""

from __future__ import annotations

from pathlib import Path

import pytest
from identity_setup import ANA_KEY, TOKEN, MovedClock, SteadyMovedClock, place

from sidecar.control.console.sessions import Sessions
from sidecar.identity import lockout
from sidecar.identity.agent_states import Move
from sidecar.identity.lockout import Lockout
from sidecar.identity.profiles import KeyProfile
from sidecar.model import Person, Role

ADMIN = KeyProfile("root", frozenset({Role.ADMIN}))
HERE = "10.0.0.1"


async def test_people_of_the_configuration(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        ana = Person("acme", "ana", "person:ana", frozenset({Role.APPROVER}), frozenset({"leads"}))
        for shown in (f"Bearer {ANA_KEY}", f"bearer {ANA_KEY}", ANA_KEY):
            assert await at.callers.doorman.person(shown, HERE) == ana
        for shown in (None, "", "Bearer", "Bearer ", f"Basic {ANA_KEY}", ANA_KEY[:-1], "ä", "\0"):
            assert await at.callers.doorman.person(shown, HERE) is None


async def test_g4_a_key_ends_when_it_is_revoked_or_over(tmp_path: Path) -> None:
    clock = SteadyMovedClock()
    async with place(tmp_path, clock=clock) as at:
        changes, doorman = at.callers.changes, at.callers.doorman
        hour = clock.now_us() + 3_600_000_000
        first = await changes.make_key("acme", ADMIN, actor="socket:root", expires_at_us=hour)
        second = await changes.make_key("rival", ADMIN, actor="socket:root")
        found = await doorman.person(f"Bearer {first.key}", HERE)
        assert found == Person("acme", "root", f"key:{first.key_id}", frozenset({Role.ADMIN}))
        assert found is not None and found.may(Role.OPERATOR)
        other = await doorman.person(f"Bearer {second.key}", HERE)
        assert other is not None and other.tenant == "rival"
        clock.moved_s = 3599
        assert await doorman.person(f"Bearer {first.key}", HERE) is not None
        clock.moved_s = 3601
        assert await doorman.person(f"Bearer {first.key}", HERE) is None
        await changes.revoke_key("rival", second.key_id, actor="socket:root")
        assert await doorman.person(f"Bearer {second.key}", HERE) is None


async def test_a18_a_wall_clock_that_was_set_back_revives_no_key(tmp_path: Path) -> None:
    """Neither by itself nor when the tenant, and with it the store's clock, is read again."""
    clock = SteadyMovedClock()
    async with place(tmp_path, clock=clock) as at:
        changes, doorman = at.callers.changes, at.callers.doorman
        until = [await changes.store_now_us() + hours * 3_600_000_000 for hours in (1, 3)]
        short, long = [
            await changes.make_key("acme", ADMIN, actor="socket:root", expires_at_us=one)
            for one in until
        ]
        clock.moved_s = 3601
        assert await doorman.person(f"Bearer {short.key}", HERE) is None
        clock.wall_s = -3600.0
        assert await doorman.person(f"Bearer {short.key}", HERE) is None
        await at.callers.registry.renew("acme")
        assert await doorman.person(f"Bearer {short.key}", HERE) is None
        await at.callers.registry.renew("acme")
        assert await doorman.person(f"Bearer {short.key}", HERE) is None
        assert await doorman.person(f"Bearer {long.key}", HERE) is not None, "positive control"


async def test_a18_a_key_ends_by_the_clock_of_the_store(tmp_path: Path) -> None:
    """This process's is an hour ahead of it: a key that is made and looked at here lasts as long
    as was said, and no longer."""
    clock = SteadyMovedClock()
    async with place(tmp_path, clock=clock) as at:
        at.store._now_us = MovedClock().now_us  # the store's own
        clock.moved_s = 3600.0
        now_us = await at.callers.changes.store_now_us()
        assert now_us < clock.now_us() - 3_500_000_000
        made = await at.callers.changes.make_key(
            "acme", ADMIN, actor="socket:root", expires_at_us=now_us + 1_800_000_000
        )
        assert await at.callers.doorman.person(f"Bearer {made.key}", HERE) is not None
        clock.moved_s = 3600.0 + 1799
        assert await at.callers.doorman.person(f"Bearer {made.key}", HERE) is not None
        clock.moved_s = 3600.0 + 1801
        assert await at.callers.doorman.person(f"Bearer {made.key}", HERE) is None


async def test_g4_a_key_counts_in_its_own_tenant_and_under_its_own_id(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        one = await at.callers.changes.make_key("acme", ADMIN, actor="socket:root")
        other = await at.callers.changes.make_key("rival", ADMIN, actor="socket:root")
        assert one.key is not None and other.key is not None
        secret = one.key.rpartition(".")[2]
        for forged in (
            f"tenant_rival.{one.key_id}.{secret}",
            f"tenant_rival.{other.key_id}.{secret}",
            f"tenant_acme.{other.key_id}.{secret}",
            f"tenant_acme..{secret}",
            f"tenant_acme.{one.key_id}.",
            f"tenant_acme.{one.key_id}",
            "tenant_acme",
            secret,
            one.key + " ",
            one.key.upper(),
        ):
            found = await at.callers.doorman.person(f"Bearer {forged}", HERE)
            assert found is None or forged == one.key + " ", forged
        assert await at.callers.doorman.person(f"Bearer {one.key}", HERE) is not None


async def test_an_agents_token_proves_an_agent_without_a_role(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        found = await at.callers.doorman.person(f"Bearer {TOKEN}", HERE)
        assert found == Person("acme", "coder", "agent:coder", agent="coder")
        assert found is not None and not any(found.may(role) for role in Role)
        await at.callers.changes.move("acme", "coder", Move.FREEZE, actor="t")
        assert await at.callers.doorman.person(f"Bearer {TOKEN}", HERE) is None


async def test_g4_an_address_that_guesses_is_locked_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lockout, "FAILURES_MAX", 3)
    clock = MovedClock()
    async with place(tmp_path, clock=clock) as at:
        for _ in range(3):
            assert await at.callers.doorman.person("Bearer guess", HERE) is None
        assert await at.callers.doorman.person(f"Bearer {ANA_KEY}", HERE) is None
        assert await at.callers.doorman.person(f"Bearer {ANA_KEY}", "10.0.0.2") is not None
        assert at.callers.lockouts_total == 1
        assert at.callers.failures_by_reason["locked_out"] == 1
        clock.moved_s += lockout.LOCKED_S + 1
        assert await at.callers.doorman.person(f"Bearer {ANA_KEY}", HERE) is not None


def test_the_table_of_addresses_is_bounded() -> None:
    table = Lockout(MovedClock())
    for number in range(2 * lockout.ADDRESSES_MAX):
        table.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(table._failures) == lockout.ADDRESSES_MAX


def test_an_address_of_ipv6_counts_by_its_network() -> None:
    table = Lockout(MovedClock())
    for number in range(lockout.FAILURES_MAX):
        table.failed(f"2001:db8:0:1::{number:x}")
    assert table.is_locked("2001:db8:0:1:ffff::1")
    assert not table.is_locked("2001:db8:0:2::1")
    for number in range(lockout.FAILURES_MAX):
        table.failed(f"::ffff:10.0.0.{number}")
    assert not table.is_locked("::ffff:10.0.0.1"), "those are addresses of IPv4, each its own"


def test_failures_long_ago_do_not_count() -> None:
    clock = MovedClock()
    table = Lockout(clock)
    for _ in range(lockout.FAILURES_MAX - 1):
        table.failed(HERE)
    clock.moved_s += lockout.WINDOW_S + 1
    assert not table.failed(HERE) and not table.is_locked(HERE)


async def test_guesses_from_loopback_do_not_sign_people_out(tmp_path: Path) -> None:
    async with place(tmp_path, clock=MovedClock()) as at:
        doorman = at.callers.doorman
        sessions = Sessions(doorman, at.clock)
        token = await sessions.begin(ANA_KEY, HERE)
        assert token is not None and await sessions.find(token, HERE) is not None
        for number in range(lockout.FAILURES_MAX):  # an agent on the same host
            assert await doorman.person(f"Bearer guess-{number}", HERE) is None
        assert await doorman.person("Bearer other", HERE) is None
        assert at.callers.failures_by_reason["locked_out"] == 1, "still locked for guesses"
        assert await doorman.person(f"Bearer {ANA_KEY}", HERE) is not None, "who has worked before"
        assert await sessions.find(token, HERE) is not None, "signed in still"
