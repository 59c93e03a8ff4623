"""The SQLite file among its neighbours: where it is, on what, who holds it.

Knows: paths, permissions, file systems, the lock file. Must not know: SQL or connections.
One process per file: an flock on `<file>.lock` is held while the store is open. It dies with
its process, so a lock file left by a crash is no obstacle. SQLite over a network file system, or
one whose locks do nothing, loses data silently; such places are refused.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from pathlib import Path

from storage.errors import (
    FolderMissing,
    StoreError,
    StoreFull,
    StoreHeld,
    StoreReadOnly,
    StoreUnavailable,
    UnsupportedStore,
)

_URL_START = "sqlite:///"
_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK_FILE_SYSTEMS = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "beegfs")
    + ("gpfs", "ncpfs", "vboxsf", "fuse.glusterfs", "fuse.sshfs", "fuse.s3fs", "fuse.rclone")
    + ("fuse.gcsfuse", "fuse.goofys", "fuse.vmhgfs-fuse")
)
_IN_MEMORY = "lies in memory ({}): every receipt is gone when the machine or its pod is"
_PASSING_FILE_SYSTEMS = {
    "tmpfs": _IN_MEMORY.format("tmpfs"),
    "ramfs": _IN_MEMORY.format("ramfs"),
    "overlay": "lies in a container's own layer: every receipt is gone when the container is",
}
_READ_ONLY_ERRNO = (errno.EROFS, errno.EACCES, errno.EPERM)
_FULL_ERRNO = (errno.ENOSPC, errno.EDQUOT)


def path_of_url(url: str) -> Path:
    """The file a `sqlite:///relative` or `sqlite:////absolute` URL names, symbolic links resolved.

    Raises UnsupportedStore for any other URL, and for a store in memory: it would forget.
    """
    name = url.removeprefix(_URL_START)
    if name == url:
        # Not repeated: it may be the URL of a server, with a password, that nobody recognises.
        error = UnsupportedStore("the URL of the store begins with nothing that is known here")
        error.next_step = (
            "Write sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE, in small letters "
            "and without anything before it."
        )
        raise error
    if not name or name == ":memory:":
        raise UnsupportedStore("a store in memory would forget; name a file")
    if "?" in name or "#" in name or "\0" in name:
        raise UnsupportedStore(f"{url!r}: the path may not contain '?', '#' or NUL")
    return Path(name).resolve()


def file_system_of(path: Path, mounts: str) -> str:
    """The type of the file system `path` lies on, by the text of mountinfo; "" if not found."""
    found, kind = "", ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split()
        if len(fields) < 5 or not right:
            continue
        point = fields[4].encode().decode("unicode_escape")
        if path.is_relative_to(point) and len(point) >= len(found):
            found, kind = point, right.split()[0]
    return kind


def place_warnings(path: Path) -> tuple[str, ...]:
    """What an operator should know of a place that keeps a store only for a while."""
    if not _MOUNTS.exists():
        return ()
    kind = file_system_of(path.parent, _MOUNTS.read_text(encoding="utf-8", errors="replace"))
    what = _PASSING_FILE_SYSTEMS.get(kind)
    return () if what is None else (f"{path} {what}; put it on a disk or a volume that stays.",)


def check_place(path: Path) -> None:
    """Raises UnsupportedStore or FolderMissing if a store cannot live at `path`."""
    if not path.parent.is_dir():
        raise FolderMissing(f"the folder {path.parent} does not exist")
    if path.exists() and not path.is_file():
        raise UnsupportedStore(f"{path} is not a regular file")
    if _MOUNTS.exists():
        kind = file_system_of(path.parent, _MOUNTS.read_text(encoding="utf-8", errors="replace"))
        if kind in _NETWORK_FILE_SYSTEMS:
            raise UnsupportedStore(f"{path.parent} is a network file system ({kind})")


def create_private(path: Path) -> None:
    """Makes the file if it is not there, readable by its owner only, and proves it is writable.

    The files SQLite puts beside it inherit its mode. Raises StoreReadOnly, StoreFull or
    StoreUnavailable.
    """
    try:
        descriptor = _open_or_make(path)
    except OSError as error:
        raise _translated(error, path) from error
    os.close(descriptor)
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    except OSError as error:
        raise _translated(error, path.parent) from error
    finally:
        os.close(folder)


def _open_or_make(path: Path) -> int:
    """A descriptor of the file, which is made, for its owner alone, where there is none; of nothing
    that a link in its place leads to."""
    try:
        return open_new(path, of_folder=True)
    except FileExistsError:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def open_new(path: Path, *, of_folder: bool) -> int:
    """A descriptor of a file that is made, mode 0600; raises FileExistsError and other OSErrors.

    With `of_folder` a file that root makes belongs to whom the folder belongs to, if that is
    somebody else: a command that was run as root leaves nothing that the sidecar cannot open. Only
    of a file that was made here: what stood there may lead elsewhere.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    if of_folder and os.geteuid() == 0:
        with contextlib.suppress(OSError):  # root of a container may not: then it stays root's
            folder = path.parent.stat()
            if folder.st_uid:
                os.fchown(descriptor, folder.st_uid, folder.st_gid)
    return descriptor


class FileLock:
    """Holds `<file>.lock` for this process until `release`."""

    def __init__(self, path: Path) -> None:
        """Takes the lock. Raises StoreHeld (naming the holder), StoreReadOnly, StoreFull or
        UnsupportedStore (locks that do not lock)."""
        self._path = path.with_name(path.name + ".lock")
        self._descriptor = self._open()
        try:
            self._take()
        except BaseException:
            os.close(self._descriptor)
            raise

    def _open(self) -> int:
        try:
            return _open_or_make(self._path)
        except OSError as error:
            raise _translated(error, self._path) from error

    def _take(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 300, 0).decode("utf-8", "replace").strip()
            who = holder or "another process"
            raise StoreHeld(f"{self._path.name.removesuffix('.lock')} is held by {who}") from None
        except OSError as error:
            raise UnsupportedStore(
                f"{self._path.parent} has no working file locks: {error.strerror}"
            ) from error
        self._prove_it_locks()
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(
                self._descriptor, f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0
            )
        except OSError as error:
            raise _translated(error, self._path) from error

    def _prove_it_locks(self) -> None:
        """A second handle must not get the lock; where it does, locks are only pretended."""
        second = self._open()
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        finally:
            os.close(second)
        raise UnsupportedStore(f"{self._path.parent} pretends to lock files; use a local disk")

    def release(self) -> None:
        """Gives the lock up. The file stays: removing it would race with the next holder."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _translated(error: OSError, path: Path) -> StoreError:
    """An error of the operating system about `path` in the words of storage.errors."""
    text = f"{path}: {error.strerror}"
    if error.errno in _READ_ONLY_ERRNO:
        return StoreReadOnly(text)
    if error.errno in _FULL_ERRNO:
        return StoreFull(text)
    return StoreUnavailable(text)
