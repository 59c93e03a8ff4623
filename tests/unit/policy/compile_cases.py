"""The cases of tests/cases/compile: broken files, and exactly what is said of them.

A case is one text: its files, each after a line `### NAME`, and last `### problems`. Behind a name
may stand how its bytes are written: `utf-16`, `latin-1`, `escaped` (with \\x00 and the like),
`padded N` (with a comment, up to N bytes); `beside` is no file of its own, but one that another
names. Each case is loaded beside the files of `good`, which allow everything; a file of the same
name takes the place of one of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "cases" / "compile"
GOOD = {path.name: path.read_bytes() for path in sorted((FOLDER / "good").glob("*.yaml"))}
UPSTREAMS = {"github": "rest", "files": "mcp", "payments": "rest"}
PROBLEMS = "problems"
BESIDE = "beside"

_PART = re.compile(r"^### (\S+)(?: (\S.*))?\n", re.MULTILINE)


def _padded(text: str, length: str) -> bytes:
    data = text.encode()
    return data + b"#" * (int(length) - len(data))


_WRITTEN: Mapping[str, Callable[[str, str], bytes]] = {
    "": lambda text, _: text.encode(),
    "utf-16": lambda text, _: text.encode("utf-16"),
    "latin-1": lambda text, _: text.encode("latin-1"),
    "escaped": lambda text, _: (
        text.encode("latin-1", "backslashreplace")
        .decode("unicode_escape")
        .encode("latin-1", "surrogatepass")
    ),
    "padded": _padded,
}


@dataclass(frozen=True)
class Part:
    """One file of a case."""

    text: str
    how: str

    @property
    def data(self) -> bytes:
        word, _, rest = self.how.removeprefix(BESIDE).strip().partition(" ")
        return _WRITTEN[word](self.text, rest)

    @property
    def is_beside(self) -> bool:
        return self.how.startswith(BESIDE)


@dataclass(frozen=True, eq=False)
class CompileCase:
    """A case as it is kept."""

    path: Path
    parts: Mapping[str, Part]
    problems: str

    @property
    def name(self) -> str:
        return f"{self.path.parent.name}/{self.path.stem}"

    @property
    def group(self) -> str:
        return self.path.parent.name

    @property
    def sources(self) -> dict[str, bytes]:
        """Its files and the good ones, by name."""
        own = {name: part.data for name, part in self.parts.items() if not part.is_beside}
        return {**GOOD, **own}

    @property
    def beside(self) -> dict[str, bytes]:
        """What its files name."""
        return {f"./{name}": part.data for name, part in self.parts.items() if part.is_beside}

    def keep(self, problems: str) -> None:
        """Writes the case anew with what is said of it now."""
        kept = "".join(
            f"### {name}{part.how and ' '}{part.how}\n{part.text}"
            for name, part in self.parts.items()
        )
        self.path.write_text(f"{kept}### {PROBLEMS}\n{problems}\n")


def read_case(path: Path) -> CompileCase:
    pieces = _PART.split(path.read_text())[1:]
    parts = {
        name: Part(text, how or "")
        for name, how, text in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True)
    }
    problems = parts.pop(PROBLEMS, Part("", ""))
    return CompileCase(path, parts, problems.text.rstrip("\n"))


def all_cases() -> list[CompileCase]:
    """Every case, in order."""
    paths = sorted(path for path in FOLDER.rglob("*.yaml") if path.parent.name != "good")
    return [read_case(path) for path in paths]
