"""A set whose own tests fail does not come in force; what passed is remembered, no more."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from sidecar import policy_tested
from sidecar.cli.main import main
from sidecar.clock import Clock
from sidecar.config.load import load_config
from sidecar.errors import ConfigurationError
from sidecar.policy.load import LoadedPolicies
from sidecar.policy_files import REST_S, PolicyKeeper
from sidecar.policy_tested import FILE_NAME, LastTested
from sidecar.problems import Problem
from sidecar.rooms import made_policies

TOOLS = "catalogue: shop\ntools: {buy: POST /buy, look: GET /look}\n"
POLICY = "policy: shop\nrules: [{id: looks, effect: allow, tools: shop/*, mutates: false}]\n"
LOOSER = POLICY.replace(", mutates: false", "")
TEST = "test: shop\ncases:\n  - {name: buying, call: shop/buy, expect: deny}\n"
FAILED = 'policies/t.yaml:3:12: error: the test "buying" fails: effect: expected deny, came allow'


@pytest.fixture(autouse=True)
def in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path)


def write(folder: Path, policy: str = POLICY, test: str = TEST) -> None:
    (folder / "policies").mkdir(exist_ok=True)
    for name, text in {"tools": TOOLS, "shop": policy, "t": test}.items():
        (folder / f"policies/{name}.yaml").write_text(text)


def keeper_of(folder: Path, rest: str = "") -> PolicyKeeper:
    path = folder / "sidecar.yaml"
    path.write_text(f"policies: ./policies\nupstreams: {{shop: {{url: 'http://h/'}}}}\n{rest}\n")
    config = load_config(path, {}, []).config
    assert config is not None
    return made_policies(config, Clock())


@pytest.mark.parametrize(
    ("rest", "starts"),
    [
        ("", False),
        ("self_test: {run: true}", False),
        ("self_test: {run: false}", True),
        ("self_test: {run: true, cases: 1}", False),
    ],
)
def test_a_failing_test_stops_the_start_unless_tests_are_off(
    tmp_path: Path, rest: str, starts: bool
) -> None:
    assert keeper_of(tmp_path, rest).load_first()  # positive control
    write(tmp_path, LOOSER)
    keeper = keeper_of(tmp_path, rest)
    if starts:
        assert keeper.load_first()
        return
    with pytest.raises(ConfigurationError) as told:
        keeper.load_first()
    assert FAILED in str(told.value)


async def test_a_reload_keeps_the_set_whose_tests_passed(tmp_path: Path) -> None:
    keeper = keeper_of(tmp_path)
    first = keeper.load_first()
    write(tmp_path, LOOSER)
    said = await keeper.reload()
    assert (said.succeeded, said.text) == (
        False,
        f"1 problem; revision {first.revision} stays in force",
    )
    assert keeper.current is first and not keeper.reload_succeeded and keeper.failures == 1
    assert str(keeper.problems[0]).startswith(FAILED)
    assert not await keeper.poll() and not await keeper.poll()  # not tried again as it is
    assert keeper.failures == 1
    write(tmp_path, LOOSER, TEST.replace("deny", "allow"))
    assert not await keeper.poll()
    assert await keeper.poll()
    assert keeper.current.revision != first.revision and keeper.reload_succeeded


async def test_a_changed_test_alone_is_run_and_changes_no_revision(tmp_path: Path) -> None:
    keeper = keeper_of(tmp_path)
    first = keeper.load_first()
    write(tmp_path, test=TEST.replace("deny", "allow"))
    assert not (await keeper.reload()).succeeded
    write(tmp_path, test=TEST.replace("buying", "to buy"))
    assert (await keeper.reload()).succeeded
    assert keeper.current.revision == first.revision


async def test_more_cases_than_may_be_are_refused(tmp_path: Path) -> None:
    keeper = keeper_of(tmp_path, "self_test: {cases: 2}")
    keeper.load_first()
    cases = "".join(f"  - {{name: n{n}, call: shop/buy, expect: deny}}\n" for n in range(2))
    write(tmp_path, test=TEST + cases)
    assert not (await keeper.reload()).succeeded
    assert "3 cases of tests, and self_test.cases is 2" in str(keeper.problems[0])


async def test_tests_that_take_too_long_are_given_up_beside_the_loop(tmp_path: Path) -> None:
    keeper = keeper_of(tmp_path, "self_test: {time: 200ms}")
    keeper.load_first()
    slow = "".join(
        f"  - {{name: n{n}, call: shop/look, times: 10000, expect: allow}}\n" for n in range(100)
    )
    write(tmp_path, test=TEST + slow)
    loop = asyncio.get_running_loop()
    started, ticks = loop.time(), 0
    reload = asyncio.ensure_future(keeper.reload())
    while not reload.done():
        await asyncio.sleep(0.001)
        ticks += 1
    assert not (await reload).succeeded
    assert 0.2 <= loop.time() - started < 5.0
    assert ticks > 20
    assert "longer than the 0.2 s of self_test.time: 1 of 101 cases" in str(keeper.problems[0])


async def test_whoever_stops_does_not_wait_for_tests(tmp_path: Path) -> None:
    begun, over = threading.Event(), threading.Event()

    def endless(
        files: bytes, loaded: LoadedPolicies, rest: Callable[[], bool]
    ) -> Sequence[Problem]:
        started = time.monotonic()
        assert rest() is False and time.monotonic() - started >= REST_S * 0.9  # calls have a turn
        begun.set()
        while not rest() and time.monotonic() < started + 3:
            pass
        if rest():
            over.set()
        return ()

    keeper = keeper_of(tmp_path)
    first = keeper.load_first()
    keeper._self_test = endless
    reload = asyncio.ensure_future(keeper.reload())
    assert await asyncio.to_thread(begun.wait, 5)
    assert not over.is_set()
    reload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reload
    assert await asyncio.to_thread(over.wait, 5)
    assert keeper.current is first


async def test_a_fault_of_ours_in_a_test_lets_no_set_in(tmp_path: Path) -> None:
    def faulty(files: bytes, loaded: LoadedPolicies, rest: Any) -> Sequence[Problem]:
        raise RuntimeError("ours")

    keeper = keeper_of(tmp_path)
    first = keeper.load_first()
    keeper._self_test = faulty
    write(tmp_path, POLICY.replace("id: looks", "id: look"))
    assert not (await keeper.reload()).succeeded
    assert str(keeper.problems[0]).endswith("testing failed inside the sidecar: RuntimeError")
    assert keeper.current is first


# -- what is remembered ------------------------------------------------------------------------


def counted(keeper: PolicyKeeper, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Gets an item for each time that tests are run."""
    from sidecar.soc import self_test as module

    runs: list[bool] = []
    real = module.self_test

    def counting(*given: Any) -> list[Problem]:
        found = real(*given)
        runs.append(not found)
        return found

    monkeypatch.setattr(module, "self_test", counting)
    return runs


def test_files_that_passed_are_not_tested_again_until_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = counted(keeper_of(tmp_path), monkeypatch)
    keeper_of(tmp_path).load_first()
    keeper_of(tmp_path).load_first()
    assert runs == [True]
    write(tmp_path, LOOSER)
    for _ in range(2):  # what failed is not remembered, neither as good nor as bad
        with pytest.raises(ConfigurationError):
            keeper_of(tmp_path).load_first()
    assert runs == [True, False, False]
    write(tmp_path)
    keeper_of(tmp_path).load_first()
    assert runs == [True, False, False]
    monkeypatch.setattr(policy_tested, "__version__", "another")
    keeper_of(tmp_path).load_first()
    assert runs == [True, False, False, True]


def test_a_note_that_cannot_be_read_or_written_only_costs_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = counted(keeper_of(tmp_path), monkeypatch)
    (tmp_path / FILE_NAME).mkdir()
    for _ in range(2):
        keeper_of(tmp_path).load_first()
    assert runs == [True, True]
    (tmp_path / FILE_NAME).rmdir()
    (tmp_path / FILE_NAME).write_bytes(b"x" * 1000)
    keeper_of(tmp_path).load_first()
    assert runs == [True, True, True]
    assert LastTested(tmp_path).passed(b"other") is False


def test_the_note_is_for_the_owner(tmp_path: Path) -> None:
    keeper_of(tmp_path).load_first()
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_paths_are_read_as_the_upstream_takes_them_and_tested_again_when_it_takes_others(
    tmp_path: Path,
) -> None:
    test = (
        "test: shop\ncases:\n"
        "  - {name: a, call: {method: GET, path: /shop/files/a%2Fb}, expect: allow}\n"
    )
    tools = 'catalogue: shop\ntools: {file: "GET /files/{name}"}\n'
    write(tmp_path, test=test)
    (tmp_path / "policies/tools.yaml").write_text(tools)
    path = tmp_path / "sidecar.yaml"

    def keeper(settings: str) -> PolicyKeeper:
        path.write_text(
            f"policies: ./policies\nupstreams: {{shop: {{url: 'http://h/'{settings}}}}}"
        )
        config = load_config(path, {}, []).config
        assert config is not None
        return made_policies(config, Clock())

    for _ in range(2):
        with pytest.raises(ConfigurationError, match="ambiguous_path"):
            keeper("").load_first()
        assert keeper(", encoded_slash: true").load_first().rule_count == 1


@pytest.mark.parametrize(("kind", "starts"), [("authorize", True), ("mcp", False)])
def test_a_tool_that_is_only_asked_for_has_no_method_and_no_path(
    tmp_path: Path, kind: str, starts: bool
) -> None:
    test = "test: shop\ncases:\n  - {name: a, call: ask/pay, expect: allow}\n"
    write(tmp_path, test=test)
    (tmp_path / "policies/tools.yaml").write_text("catalogue: ask\ntools: {pay: {}}\n")
    (tmp_path / "policies/shop.yaml").write_text(
        "policy: shop\nrules:\n  - {id: pays, effect: allow, tools: ask/pay}\n"
        "  - {id: sent, effect: deny, tools: ask/pay, methods: POST}\n"
    )
    path = tmp_path / "sidecar.yaml"
    of_kind = "{kind: authorize}" if kind == "authorize" else "{kind: mcp, url: 'http://h/mcp'}"
    path.write_text(f"policies: ./policies\nupstreams: {{ask: {of_kind}}}")
    config = load_config(path, {}, []).config
    assert config is not None
    keeper = made_policies(config, Clock())
    if starts:
        assert keeper.load_first()
    else:
        with pytest.raises(ConfigurationError, match="expected allow, came deny by shop/sent"):
            keeper.load_first()
    assert main(["policy", "test", "policies", "--config", "sidecar.yaml"]) == 1 - starts
