"""The harness of large documents, at a small size and without the network."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from openapi_measured import by_command
from openapi_packages import Package, fetched

SHOP = Path(__file__).resolve().parents[1] / "cases" / "openapi" / "shop.yaml"


def test_time_and_memory_are_of_the_command_alone() -> None:
    held = b"x" * (100 * 1024 * 1024)  # what the harness itself holds must not count
    used = by_command(SHOP.read_bytes())
    assert 0 < used["seconds"] < 10 and len(held) > 0
    assert 10 < used["peak_mib"] < 90 and used["catalogue_kib"] > 1


def test_planted_a_command_that_fails_is_no_figure() -> None:
    with pytest.raises(ValueError, match="tools import ended with 1"):
        by_command(b"swagger: '2.0'")


def test_planted_an_archive_that_was_changed_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openapi_packages.CACHE", tmp_path)
    package = Package("@acme/api", "1.0.0", "0" * 64)
    package.archive.write_bytes(b"another")
    with pytest.raises(ValueError, match="is not the archive"):
        fetched(package)
