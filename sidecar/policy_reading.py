"""The policy files on disk: which belong to the configured entries, and their bytes.

Knows: packs, files and folders; Kubernetes mounts (files are links into a hidden folder that is
swapped by renaming one link); that a file may change while it is read. A reading is taken whole
and has one digest, so that what is loaded is exactly what was compared.
Must not know: what the files mean, when they are loaded (policy_files).
"""

from __future__ import annotations

import difflib
import errno
import hashlib
import importlib.resources
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from sidecar.policy.load import Source
from sidecar.problems import Position, Problem

PACK_PREFIX: Final = "pack:"
SUFFIXES: Final = (".yaml", ".yml")
#: One byte more than a YAML file may have, so that the reader of YAML can say it is too large.
SOURCE_BYTES_MAX: Final = 1024 * 1024 + 1
BESIDE_BYTES_MAX: Final = 32 * 1024 * 1024
FILES_MAX: Final = 5000
FOLDER_DEPTH_MAX: Final = 16
_NOWHERE: Final[Mapping[str, Position]] = {}
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")

#: What `os.stat` says of a file that changes whenever its content may have.
Signature = tuple[tuple[str, int, int, int, int, int], ...]


@dataclass(slots=True)
class Reading:
    """The bytes of all policy files at one moment, and of the files they name beside them.

    What could not be read is a missing source and a problem. `is_torn` tells that the files may
    be of different moments.
    """

    sources: list[Source]
    problems: list[Problem]
    paths: dict[str, Path]
    beside: dict[Path, bytes | OSError] = field(default_factory=dict)
    is_torn: bool = False

    def read_file(self, source_name: str, relative: str) -> bytes:
        """A file named by a source, relative to that source's folder; raises OSError. Asked
        twice, it gives the same bytes."""
        path = self.paths[source_name].parent / relative
        if path not in self.beside:
            self.beside[path] = _read_or_error(path)
        data = self.beside[path]
        if isinstance(data, OSError):
            raise data
        return data

    def digest(self) -> bytes:
        """Of every byte above; equal digests, equal readings."""
        total = hashlib.sha256()
        for source in self.sources:
            _add(total, source.name.encode(), source.data)
        for path in sorted(self.beside):
            data = self.beside[path]
            content = b"error %d" % (data.errno or 0) if isinstance(data, OSError) else data
            _add(total, os.fsencode(path), content)
        for problem in self.problems:
            _add(total, b"problem", str(problem).encode())
        return total.digest()


def read_sources(entries: Sequence[str], base: Path) -> tuple[list[Source], list[Problem]]:
    """All policy files of the entries, in a fixed order, and what could not be read.

    An entry is `pack:NAME`, a file, or a folder (all `*.yaml` and `*.yml` below it; names that
    begin with a dot are passed over). Relative paths start at `base`.
    """
    reading = take_reading(entries, base)
    return reading.sources, reading.problems


def take_reading(
    entries: Iterable[str],
    base: Path,
    beside: Iterable[Path] = (),
    places: Mapping[str, Position] = _NOWHERE,
) -> Reading:
    """Like `read_sources`, with the paths by name; also reads the files of `beside` again."""
    paths, problems = list_files(entries, base, places)
    sources = [Source(problem.position.source, b"", is_missing=True) for problem in problems]
    for name, path in paths.items():
        try:
            sources.append(Source(name, _read(path, SOURCE_BYTES_MAX)))
        except OSError as error:
            problems.append(_unreadable(Position(name), error))
            sources.append(Source(name, b"", is_missing=True))
    return Reading(sources, problems, paths, {path: _read_or_error(path) for path in beside})


def signature_of(paths: Iterable[Path]) -> Signature:
    """What the file system says of the files, without reading them; a missing file counts too."""
    return tuple(_stat(path) for path in paths)


def list_files(
    entries: Iterable[str], base: Path, places: Mapping[str, Position] = _NOWHERE
) -> tuple[dict[str, Path], list[Problem]]:
    """Path by display name, each file once, and what is wrong with the entries. `places` tells
    where entries are written, so that it can be said there."""
    found: dict[str, Path] = {}
    problems: list[Problem] = []
    seen: set[Path] = set()
    for entry in entries:
        try:
            for name, path in _files_of(entry, base):
                if path not in seen:
                    seen.add(path)
                    found[name] = path
        except _Unusable as unusable:
            problem = Problem(Position(unusable.name), unusable.message, unusable.hint)
            problems.append(_placed(problem, places.get(entry)))
        except OSError as error:
            shown = Position(_shown(base / entry, base))
            problem = _unreadable(shown, error, _hint_for(entry, base, error))
            problems.append(_placed(problem, places.get(entry)))
        if len(found) > FILES_MAX:
            problem = Problem(Position(entry), f"more than {FILES_MAX} policy files")
            problems.append(_placed(problem, places.get(entry)))
            break
    return found, problems


def check_entries(places: Mapping[str, Position], base: Path) -> list[Problem]:
    """What is wrong with the entries themselves, each with the place where it is written."""
    return list_files(places, base, places)[1]


def _placed(problem: Problem, place: Position | None) -> Problem:
    if place is None:
        return problem
    return replace(problem, position=place, message=f"{problem.position}: {problem.message}")


class _Unusable(Exception):
    def __init__(self, name: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.name, self.message, self.hint = name, message, hint


def _files_of(entry: str, base: Path) -> Iterator[tuple[str, Path]]:
    """The files of one entry with their display names."""
    if entry.startswith(PACK_PREFIX):
        root, shown = _pack_folder(entry), entry
    else:
        root = base / entry
        shown = _shown(root, base)
        if not root.is_dir():
            _read(root, 0)  # whether it can be read belongs to the entry
            yield shown, root
            return
    count = 0
    for path in _walk(root, ()):
        count += 1
        if count > FILES_MAX:
            raise _Unusable(shown, f"more than {FILES_MAX} policy files in one folder")
        yield f"{shown}/{path.relative_to(root)}", path
    if not count:
        raise _Unusable(shown, "no policy file in this folder", "policy files end in .yaml or .yml")


def pack_folders() -> dict[str, Path]:
    """The packs that come with the program, by name, sorted."""
    packs = Path(str(importlib.resources.files("policies")))
    return {
        path.name: path
        for path in sorted(packs.iterdir())
        if path.is_dir() and _NAME.fullmatch(path.name)
    }


def _pack_folder(entry: str) -> Path:
    known = pack_folders()
    folder = known.get(entry.removeprefix(PACK_PREFIX))
    if folder is None:
        near = difflib.get_close_matches(entry.removeprefix(PACK_PREFIX), known, n=1, cutoff=0.75)
        meant = f'did you mean "{PACK_PREFIX}{near[0]}"?' if near else ""
        hint = meant or f"packs: {', '.join(known) or 'none'}"
        raise _Unusable(entry, "there is no such pack", hint)
    return folder


def _walk(folder: Path, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """Policy files below a folder, sorted by name. Links are followed, but not in circles."""
    here = folder.stat()
    identity = (here.st_dev, here.st_ino)
    if identity in above or len(above) >= FOLDER_DEPTH_MAX:
        raise _Unusable(str(folder), "folders are nested too deep, or a link leads in a circle")
    for name in sorted(os.listdir(folder)):  # noqa: PTH208 - names, sorted as text
        if name.startswith("."):
            continue
        shown = f"{folder}/{name}".encode("utf-8", "backslashreplace").decode()
        if shown != f"{folder}/{name}":
            raise _Unusable(shown, "a name that is not UTF-8", "rename it")
        path = folder / name
        if path.is_dir():
            yield from _walk(path, (*above, identity))
        elif name.endswith(SUFFIXES):
            yield path
        elif name.lower().endswith(SUFFIXES):  # passed over, a rule that refuses would be missed
            raise _Unusable(shown, "a policy file's name ends in capitals", "rename it to .yaml")
        elif path.is_symlink() and not path.exists():  # it may have been a folder that refuses
            hint = "put back what it leads to, which may be a folder of policies, or remove it"
            raise _Unusable(shown, "a link that leads nowhere", hint)


def _shown(path: Path, base: Path) -> str:
    return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)


def _read(path: Path, bytes_max: int) -> bytes:
    """At most `bytes_max` bytes of a regular file; a pipe or a device would never end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
        return file.read(bytes_max)


def _read_or_error(path: Path) -> bytes | OSError:
    try:
        data = _read(path, BESIDE_BYTES_MAX + 1)
    except OSError as error:
        return error.with_traceback(None)
    if len(data) > BESIDE_BYTES_MAX:
        return OSError(errno.EFBIG, f"is larger than {BESIDE_BYTES_MAX >> 20} MiB", str(path))
    return data


def _unreadable(position: Position, error: OSError, hint: str = "") -> Problem:
    return Problem(position, f"cannot be read: {error.strerror or type(error).__name__}", hint)


def _hint_for(entry: str, base: Path, error: OSError) -> str:
    """What an entry that is not there most likely means, or ""."""
    if error.errno != errno.ENOENT:
        return ""
    path = Path(entry)
    if path.name in pack_folders():
        return f'did you mean "{PACK_PREFIX}{path.name}"?'
    try:
        beside = [one.name for one in (base / path.parent).iterdir()]
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, beside, n=1, cutoff=0.75)
    return f'did you mean "{near[0]}"?' if near else ""


def _stat(path: Path) -> tuple[str, int, int, int, int, int]:
    try:
        facts = path.stat()
    except OSError as error:
        return str(path), -1, error.errno or 0, 0, 0, 0
    return (
        str(path), facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns,
    )  # fmt: skip


def _add(total: hashlib._Hash, name: bytes, data: bytes) -> None:
    total.update(b"%d:%b%d:" % (len(name), name, len(data)))
    total.update(data)
