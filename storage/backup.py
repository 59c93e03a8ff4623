"""Copies of a SQLite store: made while it is in use, given their name only when they are whole,
and put in a store's place.

Knows: SQLite's online backup, and what makes a file durable and keeps it from being overwritten.
Must not know: tenants, receipts, whether what a copy holds is true: whoever copies verifies.
Everything here blocks: run it on a thread where others wait.
The hard thing: the file that is copied may be in use by a running sidecar. It is never opened but
by SQLite, since closing any other handle of it would drop the locks of this process; and the copy
reads one snapshot from beginning to end, so that it is consistent and never has to start over. The
price is that the write-ahead log cannot start over while a copy is made.
"""

from __future__ import annotations

import errno
import glob
import os
import re
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from storage.errors import FolderMissing, StoreCorrupt, StoreError, StoreUnavailable
from storage.sqlite_errors import translated
from storage.sqlite_file import _translated as error_of_system
from storage.sqlite_file import open_new
from storage.sqlite_thread import prepare_reader

#: 2 MiB: a step is a few milliseconds, and Ctrl-C is heard between steps.
PAGES_A_STEP = 512
#: Between steps the disk belongs to the sidecar's commits: at most 200 MiB are copied a second.
PAUSE_S = 0.01
#: Written out every 8 MiB: one flush at the end would hold up commits for seconds.
STEPS_A_FLUSH = 4

#: What stands behind the name of the file; what is left of earlier versions has no second part.
_PARTIAL = re.compile(r"\.([0-9]{1,10})(?:-[0-9a-z_]{8})?\.part")
#: How a file system says that it has no second names: FAT, and much that is mounted from elsewhere.
_HAS_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})

Progress = Callable[[int, int], None]


class TargetExists(StoreError):
    """There is a file where one is to be made."""

    code = "target_exists"
    next_step = "Name another file; nothing is ever overwritten."


class StoreThere(TargetExists):
    """There is a store where a backup is to be put in place."""

    next_step = "Give --replace: the store that is there is kept, under a dated name."


def partial_of(target: Path) -> Path:
    """Where a file is written before it gets its name: beside it, hidden, under a name that no
    other has: in containers every process has the same number."""
    return target.with_name(f".{target.name}.{os.getpid()}-{os.urandom(4).hex()}.part")


def made_beside(target: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder for what is needed until a file has its name; what is left of it is found too."""
    prefix = f".{target.name}.{os.getpid()}-"
    return tempfile.TemporaryDirectory(prefix=prefix, suffix=".part", dir=target.parent)


def clear_left_behind(target: Path) -> tuple[list[Path], list[Path]]:
    """Removes what processes that are gone have left half written of this file, which may be as
    large as a store: which was removed, and which is of a process that runs, or may. To be called
    before anything is begun here: of this process's own number there is nothing yet."""
    removed, left = [], []
    for path in sorted(target.parent.glob(f".{glob.escape(target.name)}.*.part")):
        found = _PARTIAL.fullmatch(path.name.removeprefix(f".{target.name}"))
        if found is None:
            continue
        if int(found[1]) != os.getpid() and _may_run(int(found[1])):
            left.append(path)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
            removed.append(path)
        else:
            discard(path)
            removed.append(path)
    return removed, left


def _may_run(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass  # it is somebody else's
    return True


def check_free(target: Path) -> None:
    """Raises TargetExists if there is a file, or the log of one, FolderMissing if there is no
    folder to put one in."""
    if not target.parent.is_dir():
        raise FolderMissing(f"the folder {target.parent} does not exist")
    for path in (target, *_beside(target)):
        if os.path.lexists(path):
            raise TargetExists(f"{path} exists")


def copy_store(
    source: Path,
    partial: Path,
    on_progress: Progress | None = None,
    *,
    of_folder: bool = False,
) -> None:
    """Copies one snapshot of the store at `source` to a new file, durable and mode 0600.

    With `of_folder` the copy that root makes is its folder's owner's. `on_progress` gets pages done
    and pages in all, on this thread. The copy needs no write-ahead log, and may be opened on
    read-only media. Raises TargetExists, or a StoreError of reading or writing; then there is no
    file at `partial`.
    """
    try:
        descriptor = open_new(partial, of_folder=of_folder)
    except FileExistsError as error:
        raise TargetExists(f"{partial} exists") from error
    except OSError as error:
        raise error_of_system(error, partial) from error
    try:
        try:
            _copy_snapshot(source, partial, descriptor, on_progress)
            os.fsync(descriptor)
        except sqlite3.Error as error:
            raise translated(error) from error
        except OSError as error:
            raise error_of_system(error, partial) from error
        finally:
            os.close(descriptor)
    except BaseException:
        discard(partial)
        raise


def _copy_snapshot(
    source: Path, partial: Path, descriptor: int, on_progress: Progress | None
) -> None:
    steps = 0

    def progress(_status: int, left: int, total: int) -> None:
        nonlocal steps
        steps += 1
        if steps % STEPS_A_FLUSH == 0:
            os.fdatasync(descriptor)
        time.sleep(PAUSE_S)
        if on_progress is not None:
            on_progress(total - left, total)

    with closing(_connect(source, "ro")) as read, closing(_connect(partial, "rw")) as written:
        prepare_reader(read)
        written.execute("PRAGMA journal_mode = OFF")
        written.execute("PRAGMA synchronous = OFF")
        read.execute("BEGIN")
        read.execute("PRAGMA schema_version").fetchall()  # takes the snapshot
        read.backup(written, pages=PAGES_A_STEP, progress=progress)
        read.execute("ROLLBACK")
        # The mode stands in the file itself: in that of the store, reading needs a writable folder.
        [(mode,)] = written.execute("PRAGMA journal_mode = DELETE").fetchall()
        if mode != "delete":
            raise StoreUnavailable(f"the copy stays in journal mode {mode!r}")


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, isolation_level=None)


def check_pages(path: Path) -> None:
    """Has SQLite look at every page and index of a file; raises StoreCorrupt with what it says."""
    try:
        with closing(_connect(path, "ro")) as raw:
            said = [row[0] for row in raw.execute("PRAGMA integrity_check(5)")]
    except sqlite3.Error as error:
        raise translated(error) from error
    if said != ["ok"]:
        raise StoreCorrupt(f"{path}: {'; '.join(said)}")


def publish(partial: Path, target: Path) -> None:
    """Gives a finished file its name, durably; raises TargetExists rather than overwrite."""
    try:
        try:
            _link(partial, target)
            partial.unlink()
        except OSError as error:
            if error.errno not in _HAS_NO_LINKS:
                raise
            _take_name(partial, target)
        sync_folder(target.parent)
    except OSError as error:
        raise error_of_system(error, target) from error


def _take_name(partial: Path, target: Path) -> None:
    """The same where a file has one name: what is replaced is a file that was just made here."""
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError as error:
        raise TargetExists(f"{target} exists") from error
    try:
        partial.replace(target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _link(path: Path, name: Path) -> None:
    """A second name for a file: unlike renaming, this never replaces what is there."""
    try:
        os.link(path, name)
    except FileExistsError as error:
        raise TargetExists(f"{name} exists") from error


def set_aside(path: Path, kept: Path) -> None:
    """Keeps a store under another name as well; its own place is then ready to be replaced.

    The caller holds the store's lock. What is in its log is carried into the file, so that the
    file is whole until it is replaced; where that fails (it is damaged) `kept` has the log too.
    Raises TargetExists or another StoreError.
    """
    check_free(kept)
    (log, index), (kept_log, _) = _beside(path), _beside(kept)
    try:
        # Both first, as they are: SQLite drops a log that it cannot make sense of.
        if path.exists():
            _link(path, kept)
        if log.exists():
            _link(log, kept_log)
        sync_folder(path.parent)
        if path.exists() and log.exists():
            _carry_log(path)
        # A log that stays would be taken for that of the file which replaces this one.
        log.unlink(missing_ok=True)
        index.unlink(missing_ok=True)
        if kept_log.exists() and not kept_log.stat().st_size:
            kept_log.unlink()
        sync_folder(path.parent)
    except OSError as error:
        raise error_of_system(error, path) from error


def _carry_log(path: Path) -> None:
    """Carries the log into the file, if both can be read; the last to close removes the log."""
    try:
        with closing(_connect(path, "rw")) as raw:
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.Error as error:
        if not isinstance(translated(error), StoreCorrupt):
            raise translated(error) from error


def replace(partial: Path, path: Path) -> None:
    """Puts a finished file in the place of a store that was set aside."""
    try:
        partial.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise error_of_system(error, path) from error


def sync_file(path: Path) -> None:
    """Makes the content of a file durable. Not for a store that is open in this process."""
    _sync(path, os.O_RDWR)


def sync_folder(folder: Path) -> None:
    """Makes names in a folder durable."""
    _sync(folder, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise error_of_system(error, path) from error


def discard(partial: Path) -> None:
    """Removes an unfinished copy, and what SQLite or a lock put beside it."""
    for path in (partial, *_beside(partial), *(_named(partial, end) for end in _LEFTOVERS)):
        path.unlink(missing_ok=True)


_LEFTOVERS = ("-journal", ".lock")


def _named(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


def _beside(path: Path) -> tuple[Path, Path]:
    """The write-ahead log and its index."""
    return _named(path, "-wal"), _named(path, "-shm")
