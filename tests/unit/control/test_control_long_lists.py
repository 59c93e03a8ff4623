"""Lists that are longer than one answer: that there is more is said, and had by its place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from incident_scene import Scene

from sidecar.cli import alerts, containments, incidents
from sidecar.control import containment_care, incident_care
from sidecar.control.containment_care import ContainmentCare
from sidecar.control.incident_care import IncidentCare
from sidecar.identity.containing import Containing
from sidecar.policy.contained import Action
from storage import open_store
from storage.watch_rows import AlertRow, ContainmentRow, IncidentRow

TENANTS = ("acme", "rival")


def alert(tenant: str, name: str) -> AlertRow:
    return AlertRow(
        tenant, name, 1, "open", "storm", "high", "[]", "coder", "", "", "why", 1,
        '{"raised":[],"joined":[],"left_out":0}', "[]", 1, 1, 1, 1,
    )  # fmt: skip


def incident(tenant: str, name: str) -> IncidentRow:
    return IncidentRow(tenant, name, 1, "open", "high", "coder", "", "why", "[]", 1, 1, 1, 1)


def contained(tenant: str, name: str) -> ContainmentRow:
    action, subject = Action.BLOCK_TOOL.value, f"shop/{name}"
    return ContainmentRow(tenant, name, 1, "active", action, subject, "", "ana", "", "", 1, 0, 1)


async def test_what_does_not_fit_is_said_and_is_had_by_the_last_that_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incident_care, "LISTED_MAX", 4)
    monkeypatch.setattr(containment_care, "LISTED_MAX", 4)
    store = await open_store(f"sqlite:///{tmp_path}/aegis.db", now_us=lambda: 1)
    try:
        names = [f"n{number}" for number in range(9)]
        for make in (alert, incident, contained):
            for number, name in enumerate(names):
                tenant = TENANTS[number % 2]
                assert await store.put_rows(tenant, [cast(Any, make)(tenant, name)])
        care = IncidentCare(Scene.on(store).incidents, TENANTS)
        containing = ContainmentCare(TENANTS, cast(Containing, None), store)
        ways: Mapping[str, tuple[Callable[..., Awaitable[dict[str, Any]]], Any]] = {
            "alert_id": (care.alerts, alerts._listed),
            "incident_id": (care.incidents, incidents._listed),
            "containment_id": (containing.list, containments._listed),
        }
        for key, (listed, shown) in ways.items():
            found, before, pages = list[str](), "", 0
            while True:
                said = await listed({"before": before})
                rows = next(value for value in said.values() if isinstance(value, list))
                found += [one[key] for one in rows]
                lines, before = shown(said), found[-1]
                pages += 1
                if not said["has_more"]:
                    assert len(lines) == len(rows)
                    break
                assert lines[-1] == f"there are older ones: --before {before}"
            assert (found, pages) == (names[::-1], 3), key
    finally:
        await store.close()
