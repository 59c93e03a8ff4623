"""Detections are loaded, and loaded again, with the policies they stand beside."""

from __future__ import annotations

from pathlib import Path

import pytest
from soc_setup import event

from sidecar.clock import Clock
from sidecar.policy.load import LoadedPolicies, Source
from sidecar.policy_files import PolicyKeeper, ReadFile
from sidecar.soc.detection import NO_DETECTIONS
from sidecar.soc.engine import Engine
from sidecar.soc.loading import detections_of, load_all

POLICY = "policy: p\nrules:\n  - {id: r, effect: allow, tools: github/read}\n"
CATALOGUE = "catalogue: github\ntools:\n  read: GET /read\n"
DETECTION = "detection: each\nseverity: low\nwhere: {effect: deny}\n"


def loader(sources: list[Source], read_file: ReadFile) -> LoadedPolicies:
    return load_all(sources, upstreams={"github": "rest"}, default="deny", read_file=read_file)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "tools.yaml").write_text(CATALOGUE)
    return tmp_path


async def test_d2_detections_reload_with_policies_and_a_broken_one_replaces_nothing(
    folder: Path,
) -> None:
    keeper = PolicyKeeper([str(folder)], folder, loader, Clock())  # type: ignore[arg-type]
    keeper.load_first()
    assert detections_of(keeper) is NO_DETECTIONS
    revision = keeper.current.revision

    (folder / "each.yaml").write_text(DETECTION)
    reload = await keeper.reload()
    assert reload.succeeded
    assert reload.text == f"revision {revision} stays in force, beside other detections"
    assert (await keeper.reload()).text.startswith("in force already")
    found = detections_of(keeper)
    assert [one.name for one in found.all] == ["each"]
    assert keeper.current.revision == revision
    assert len(Engine(found, "acme").see(event(1, 1))) == 1

    (folder / "each.yaml").write_text(DETECTION.replace("effect", "effects"))
    assert not (await keeper.reload()).succeeded
    assert detections_of(keeper) is found
    assert "did you mean" in str(keeper.problems[0])

    (folder / "each.yaml").unlink()
    assert await keeper.poll() is False and await keeper.poll() is True
    assert detections_of(keeper) is NO_DETECTIONS


WATCHES = "detection: each\nseverity: low\n"
STEPS = "sequence: [{effect: allow}, {effect: deny, when: run.calls > 7}]\nwithin: 1h\n"


@pytest.mark.parametrize(
    ("detection", "is_counted"),
    [
        (f"{WATCHES}where: {{when: run.calls > 7}}\n", True),
        (f"{WATCHES}{STEPS}", True),
        (f'{WATCHES}reason: "after {{run.calls}} calls"\n', True),
        (f'{WATCHES}reason: "{{count}} calls"\n', False),
        (f"{WATCHES}where: {{when: run.trust == trust.unknown}}\n", False),
    ],
)
def test_the_calls_of_a_run_are_counted_where_a_detection_reads_how_many_there_were(
    folder: Path, detection: str, is_counted: bool
) -> None:
    keeper = PolicyKeeper([str(folder)], folder, loader, Clock())  # type: ignore[arg-type]
    assert not keeper.load_first().counts_calls
    (folder / "each.yaml").write_text(detection)
    found = keeper.load_first()
    assert (found.counts_calls, found.counts_by_tool) == (is_counted, False)


def test_an_object_that_carries_no_detections_has_none() -> None:
    assert detections_of(object()) is NO_DETECTIONS
