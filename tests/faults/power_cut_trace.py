"""Records what a process does to a store's files, call by call, and what it promised in between.

Knows: strace and the form of its output. Every write, sync, truncation, link and unlink in one
folder becomes an event, in the order the kernel saw them; promises are lines the recorded process
writes to a file of its own, so that they stand in the same order. A call on these files that this
module has no event for is an error: a trace with a hole in it would prove nothing.
The shared-memory file `-shm` is written through a mapping, which no trace shows; SQLite builds it
anew when the first connection opens, and whoever rebuilds a state may put anything there.
Must not know: what a power cut does, what the files hold.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

#: What strace is told to show; anything of these that touches the folder must be understood.
CALLS = (
    "write,writev,pwrite64,pwritev,pwritev2,copy_file_range,sendfile,fallocate,ftruncate,truncate,"
    "fsync,fdatasync,sync_file_range,sync,syncfs,open,openat,openat2,creat,unlink,unlinkat,"
    "rename,renameat,renameat2,link,linkat,symlink,symlinkat,mmap"
)
STRING_BYTES_MAX = 4 << 20
RECORD_S_MAX = 60.0


class Write(NamedTuple):
    """Bytes at an offset; `ended` is when the call came back, or its process was gone."""

    name: str
    offset: int
    data: bytes
    ended: int


class Truncate(NamedTuple):
    """The file's size was set."""

    name: str
    size: int
    ended: int


class Sync(NamedTuple):
    """A sync of a file, or of the folder (name ""), came back; it covers what ended by `begun`."""

    name: str
    begun: int


class Link(NamedTuple):
    """A name was put into the folder for a new, empty file."""

    name: str


class Unlink(NamedTuple):
    """A name was taken out of the folder."""

    name: str


class Rename(NamedTuple):
    """A file got another name, taking the place of what had it."""

    name: str
    new_name: str


class Promise(NamedTuple):
    """What the recorded process told the outside at this moment."""

    said: dict[str, Any]


Event = Write | Truncate | Sync | Link | Unlink | Rename | Promise


class BadTrace(Exception):
    """The trace cannot be trusted to hold everything."""


class LostCall(BadTrace):
    """A process was killed and strace did not see its last call: record it again."""


def record(command: Sequence[str], cwd: Path, promises: Path, output: Path) -> int:
    """Runs a command under strace; gives its exit status. `parse` reads `output`."""
    promises.touch()
    options = ["-f", "--seccomp-bpf", "-y", "-xx", "-s", str(STRING_BYTES_MAX)]
    done = subprocess.run(
        ["strace", *options, "-o", str(output), "-e", f"trace={CALLS}", *command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=RECORD_S_MAX,
    )
    if done.returncode not in (0, -9, 137):
        raise BadTrace(f"{' '.join(command)} ended {done.returncode}: {done.stderr[-2000:]}")
    return done.returncode


def parse(lines: Iterable[str], folder: Path, promises: Path, *, first: int = 0) -> list[Event]:
    """The events of one recorded run, in order; `first` is the number of its first line.

    To be called when the run is over and before the next begins: of a write that never came
    back, because the process was killed in it, the file itself tells whether it was done.
    Raises BadTrace.
    """
    reader = _Reader(folder, promises)
    number = first
    for number, line in enumerate(lines, first):
        reader.take(number, line.rstrip("\n"))
    reader.end(number + 1)
    return [event for _, _, event in sorted(reader.events, key=lambda item: item[:2])]


_LINE = re.compile(r"(\d+) +(.*)", re.DOTALL)
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)", re.DOTALL)
_UNFINISHED = " <unfinished ...>"
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+|\?|0x[0-9a-f]+)(.*)", re.DOTALL)
_HEX = re.compile(r"(?:\\x[0-9a-f]{2})+")
_FD = re.compile(r"\d+<([^>]*)>(\(deleted\))?")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_SYNCS = ("fsync", "fdatasync")


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


class _Reader:
    def __init__(self, folder: Path, promises: Path) -> None:
        self.events: list[tuple[int, int, Event]] = []
        self._folder = str(folder)
        self._promises = str(promises)
        self._begun: dict[str, tuple[int, str]] = {}

    def take(self, number: int, line: str) -> None:
        match = _LINE.fullmatch(line)
        if match is None:
            raise BadTrace(f"line {number}: {line[:200]!r}")
        thread, text = match.groups()
        # "???": a thread that was killed, in a call that is begun or was none of ours.
        if text.startswith(("+++", "---", "???(", "<... ???")):
            return
        if text.endswith(_UNFINISHED):
            self._begun[thread] = (number, text.removesuffix(_UNFINISHED))
            return
        begun = number
        resumed = _RESUMED.fullmatch(text)
        if resumed is not None:
            begun, start = self._begun.pop(thread)
            text = start + resumed[2]
        self._call(text, begun, number)

    def end(self, number: int) -> None:
        """Calls that never came back: the process was killed in them."""
        for begun, text in self._begun.values():
            self._call(f"{text}) = ?", begun, number)

    def _call(self, text: str, begun: int, ended: int) -> None:
        call = _CALL.fullmatch(text)
        if call is None:
            raise BadTrace(f"not understood: {text[:200]!r}")
        name, arguments, result, _ = call.groups()
        if result.startswith("-") or (result == "?" and name in _SYNCS):
            return
        paths = self._paths(arguments)
        if not paths or (paths[0].endswith("-shm") and name != "mmap"):
            return
        event = self._event(name, arguments, result, paths, begun, ended)
        if event is not None:
            at = ended if isinstance(event, Sync) else begun
            self.events.append((at, len(self.events), event))

    def _paths(self, arguments: str) -> list[str]:
        """Names within the folder that a call is about; the folder itself is ""."""
        found = []
        for raw in re.findall(r'<((?:\\x[0-9a-f]{2})+)>|"((?:\\x[0-9a-f]{2})+)"', arguments):
            path = _bytes(raw[0] or raw[1][:4096]).decode("utf-8", "replace")
            if path == self._promises:
                found.append(path)
            elif path == self._folder:
                found.append("")
            elif path.startswith(self._folder + "/"):
                found.append(path[len(self._folder) + 1 :])
        # A working directory that stands beside a path says nothing.
        return [path for path in found if path] or found

    def _event(
        self, name: str, arguments: str, result: str, paths: list[str], begun: int, ended: int
    ) -> Event | None:
        path = paths[0]
        if path == self._promises:
            return self._promise(name, arguments)
        is_deleted = "(deleted)" in arguments
        if name == "pwrite64" and not is_deleted:
            data, offset = self._data(arguments), int(arguments.rpartition(", ")[2])
            if result == "?":
                return Write(path, offset, data, ended) if self._holds(path, offset, data) else None
            return Write(path, offset, data[: int(result)], ended)
        if name == "ftruncate" and not is_deleted:
            return Truncate(path, int(arguments.rpartition(", ")[2]), ended)
        if name in _SYNCS:
            return None if is_deleted else Sync(path, begun)
        if name in ("open", "openat") and "O_TRUNC" not in arguments:
            return Link(path) if path and "O_CREAT" in arguments else None
        if name in ("unlink", "unlinkat"):
            return Unlink(path)
        if name in ("rename", "renameat", "renameat2") and len(paths) == 2:
            return Rename(paths[0], paths[1])
        if name == "mmap" and ("MAP_PRIVATE" in arguments or path.endswith("-shm")):
            return None
        if name == "mmap" and "PROT_WRITE" not in arguments:
            return None
        raise BadTrace(f"{name} on {path!r} has no event")

    def _holds(self, name: str, offset: int, data: bytes) -> bool:
        with (Path(self._folder) / name).open("rb") as file:
            file.seek(offset)
            return file.read(len(data)) == data

    def _promise(self, name: str, arguments: str) -> Promise | None:
        return Promise(json.loads(self._data(arguments))) if name == "write" else None

    @staticmethod
    def _data(arguments: str) -> bytes:
        text = _TEXT.search(arguments)
        if text is None or text[2]:
            raise BadTrace(f"a write without its bytes: {arguments[:120]!r}")
        return _bytes(text[1])
