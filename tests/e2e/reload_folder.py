"""A policy folder whose set is swapped, in the ways in which it is swapped in the field.

Knows: by link (files are links through `..data`, which one rename leads elsewhere, as Kubernetes
does), by renaming new files over old ones, by rewriting them in place; and how a set can be broken.
Must not know: the sidecar.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from reload_sets import HALF_WRITTEN, NUMBERS, files_of


class PolicyFolder:
    """The folder; `by_link` works until the first of the other ways has been gone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(exist_ok=True)
        for number in NUMBERS:
            self._write_aside(f"..set{number}", files_of(number))
        os.symlink("..set1", path / "..data")
        for name in files_of(1):
            os.symlink(f"..data/{name}", path / name)
        for name, breaking in self.breakings.items():
            self._write_aside(f"..{name}", files_of(2))
            breaking(path / f"..{name}" / "second.yaml")

    def _write_aside(self, name: str, files: dict[str, str]) -> None:
        folder = self.path / name
        folder.mkdir()
        for file, text in files.items():
            (folder / file).write_text(text)

    def by_link(self, number: int) -> None:
        self._lead_to(f"..set{number}")

    def _lead_to(self, folder: str) -> None:
        draft = self.path / "..data_tmp"
        os.symlink(folder, draft)
        draft.rename(self.path / "..data")

    def by_rename(self, number: int) -> None:
        for name, text in files_of(number).items():
            draft = self.path / f".{name}.new"
            draft.write_text(text)
            draft.rename(self.path / name)

    def in_place(self, number: int) -> None:
        for name, text in files_of(number).items():
            (self.path / name).write_text(text)

    @property
    def breakings(self) -> dict[str, Callable[[Path], None]]:
        """Ways in which a file becomes one that cannot be loaded, by name."""
        ways: dict[str, Callable[[Path], None]] = {
            "half-written": lambda path: _put(path, HALF_WRITTEN),
            "empty": lambda path: _put(path, ""),
            "leads-nowhere": lambda path: (path.unlink(), path.symlink_to("gone"))[1],
            "a-pipe": lambda path: (path.unlink(), os.mkfifo(path))[1],
        }
        if os.geteuid() != 0:  # who may read everything loses no permission
            ways["may-not-be-read"] = lambda path: path.chmod(0)
        return ways

    def break_by(self, name: str, *, is_linked: bool) -> None:
        """The folder with another set, one file of which is broken."""
        if is_linked:
            self._lead_to(f"..{name}")
            return
        self.by_rename(2)
        self.breakings[name](self.path / "second.yaml")


def _put(path: Path, text: str) -> None:
    path.write_text(text)
