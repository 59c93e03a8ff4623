"""How many files a process may open: what is asked of the system, and who gets how many."""

from __future__ import annotations

import resource

import pytest

from sidecar import open_files

NONE = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "asked"),
    [
        (1024, 524_288, (2624, 524_288)),
        (256, NONE, (2624, NONE)),
        (1024, 2000, (2000, 2000)),
        (1024, 1024, None),
        (65_536, 65_536, None),
        (NONE, NONE, None),
    ],
)
def test_the_limit_is_raised_to_what_is_needed_as_far_as_it_goes(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, asked: tuple[int, int] | None
) -> None:
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: given.append(limits))
    open_files.raise_for(1024)
    assert given == ([] if asked is None else [asked])


def test_a_system_that_refuses_more_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, NONE))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    open_files.raise_for(1024)


@pytest.mark.parametrize(
    ("limit", "agents", "control"),
    [
        (NONE, 1024, 512),
        (2624, 1024, 512),
        (1024, 352, 256),
        (256, 64, 64),
        (128, 16, 32),
        (40, 8, 10),
    ],
)
def test_connections_leave_files_for_the_store_and_the_upstreams(
    monkeypatch: pytest.MonkeyPatch, limit: int, agents: int, control: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert open_files.connections_max(1024) == agents
    assert open_files.control_connections_max() == control
    assert open_files.connections_max(5) == 5, "fewer than there is room for"
