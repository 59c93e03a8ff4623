"""Who is told, as the composition makes it: whose standard output it is, and at which level."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sidecar.bell import Bell
from sidecar.clock import Clock
from sidecar.config.model import Sink
from sidecar.control.containment_news import ContainmentNews
from sidecar.errors import StartRefused
from sidecar.ledger.fence import Fence
from sidecar.soc.deliveries import Told
from sidecar.soc.model import Severity
from sidecar.telling_rooms import Telling


def telling(level: str = "notify", stdout: Any = None, **sinks: Sink) -> tuple[Telling, Any]:
    config: Any = SimpleNamespace(
        sinks=sinks, approvals=SimpleNamespace(url=""), soc=SimpleNamespace(level=level)
    )
    containing: Any = SimpleNamespace(tells=None)
    store: Any = SimpleNamespace()
    made = Telling(config, Clock(), store, store, Fence(), containing, stdout)
    return made, containing


def test_standard_output_of_a_wrap_is_the_agents() -> None:
    here = Sink(name="here", kind="stdout")
    with pytest.raises(StartRefused, match="belongs to the agent"):
        telling(here=here)
    assert telling(stdout=object(), here=here)[0].told == (Told("here", Severity.LOW),)


@pytest.mark.parametrize(
    ("level", "is_told"), [("log", False), ("notify", True), ("respond", True)]
)
def test_below_notify_nobody_is_told_of_containments(level: str, is_told: bool) -> None:
    _, containing = telling(level)
    assert isinstance(containing.tells, ContainmentNews) is is_told


def test_a_ring_is_heard_here_and_elsewhere() -> None:
    made, _ = telling()
    assert isinstance(made.bell, Bell)
    elsewhere: list[int] = []
    made.bell.ring_elsewhere = lambda: elsewhere.append(1)
    made.ring()
    assert elsewhere == [1] and made.bell._rung.is_set()
