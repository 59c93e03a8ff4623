"""What is remembered of calls whose answers are held to rules has bounds, and is whose it is."""

from __future__ import annotations

from sidecar.model import Principal
from sidecar.proxy.obliged_ids import IDS_MAX, SESSIONS_MAX, ObligedIds

ANN, BO = Principal("acme", "ann"), Principal("acme", "bo")


def test_e8_of_too_many_the_oldest_are_forgotten() -> None:
    ids = ObligedIds()
    for number in range(IDS_MAX + 1):
        ids.note(ANN, "mcp", "s", number)
    assert not ids.answered(ANN, "mcp", "s", [0], None)
    assert ids.answered(ANN, "mcp", "s", [1], None) and ids.answered(ANN, "mcp", "s", [IDS_MAX], 1)
    for number in range(SESSIONS_MAX):
        ids.note(BO, "mcp", f"s{number}", 1)
    assert len(ids.by_session) == SESSIONS_MAX and not ids.are_in(ANN, "mcp", "s")


def test_c13_they_are_those_of_one_agent_upstream_and_session() -> None:
    ids = ObligedIds()
    ids.note(ANN, "mcp", "s", 1)
    for whose in ((BO, "mcp", "s"), (ANN, "other", "s"), (ANN, "mcp", "t")):
        assert not ids.are_in(*whose) and not ids.answered(*whose, [1], None)
    assert not ids.answered(ANN, "mcp", "s", [1], 1), "in its own reply"
    assert not ids.answered(ANN, "mcp", "s", [True, None, {}, 1.5], 2)
    ids.forget(ANN, "mcp", "s", 1)
    assert not ids.answered(ANN, "mcp", "s", [1], 2)
