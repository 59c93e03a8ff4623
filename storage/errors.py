"""What every back end may raise. Drivers translate by error code, never by message text.

A caller who gets any of these has not been promised anything: nothing may be forwarded.
`code` is stable; `next_step` says what the operator can do.
"""

from __future__ import annotations


class StoreError(Exception):
    """The store failed."""

    code = "store_error"
    next_step = "Read the log of the sidecar for the cause."

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (self.__doc__ or "").strip())


class StoreUnavailable(StoreError):
    """The store cannot be reached or does not answer."""

    code = "store_unavailable"


class StoreMissing(StoreUnavailable):
    """There is no store where one was named."""

    next_step = (
        "Correct the path: that of `store` is relative to the folder of sidecar.yaml. The first "
        "start of the sidecar makes the file."
    )


class FolderMissing(StoreUnavailable):
    """There is no folder to put the file in."""

    next_step = "Create the folder, for the sidecar's user, or correct the path."


class StoreFull(StoreError):
    """No space is left where the store lives."""

    code = "store_full"
    next_step = (
        "Free disk space. A sidecar that runs goes on by itself; what did not start, or broke off, "
        "has to be started again."
    )


class StoreReadOnly(StoreError):
    """The store cannot be written: read-only file or file system."""

    code = "store_read_only"
    next_step = "Make the file and its folder writable for the sidecar's user."


class StoreBusy(StoreError):
    """Another connection holds the write lock longer than the busy timeout."""

    code = "store_busy"
    next_step = "Close other programs that write to the store."


class ReadTimeout(StoreBusy):
    """A read took longer than readers may; it was cut off, and kept nobody waiting."""

    code = "read_timeout"
    next_step = "Ask for less at once."


class StoreHeld(StoreError):
    """Another process has this store open; one process per SQLite file."""

    code = "store_held"
    next_step = "Stop the other process, or give this one a store of its own."


class NodeHeld(StoreHeld):
    """Another process works on this server's store under this node's name."""

    next_step = (
        "Stop the other process. A node is named after its machine and the port of `listen.data`: "
        "of two that are named alike, give this one another host name, or another port."
    )


class StoreCorrupt(StoreError):
    """The store's file is damaged."""

    code = "store_corrupt"
    next_step = (
        "Keep a copy of the file, then `store restore` a backup, or what `store salvage` makes of "
        "the copy."
    )


class StoreTooNew(StoreError):
    """The schema is newer than this program."""

    code = "store_too_new"
    next_step = (
        "Start the version of the sidecar that wrote it, or a newer one. No schema is taken back: "
        "the way to an older version is a backup from before."
    )


class MigrationChanged(StoreError):
    """A migration that was applied differs from the one shipped."""

    code = "migration_changed"
    next_step = "Install the release that wrote the store; migrations are never edited."


class CommitUnknown(StoreError):
    """The commit's outcome is not known; look up by call id before anything else."""

    code = "commit_unknown"
    next_step = (
        "What became of it is looked up as soon as the store answers, and its call was refused. "
        "Look whether the disk of the store, or its server, answers."
    )


class UniqueViolation(StoreError):
    """A row with this key is there already."""

    code = "unique_violation"


class UnsupportedStore(StoreError):
    """The store URL names a back end or a file system that cannot be used."""

    code = "unsupported_store"
    next_step = "Use sqlite:///path on a local disk."


class QueueFull(StoreError):
    """The write queue's lane is full."""

    code = "queue_full"
    next_step = "Offer less, or raise `limits.queue`."


class QueueTimeout(StoreError):
    """The record was not durable within `limits.queue_wait`."""

    code = "queue_timeout"
    next_step = "Offer less, or use a faster disk."


class QueueClosed(StoreError):
    """The write queue is draining or closed."""

    code = "queue_closed"


class UnscopedRead(StoreError):
    """A read named no tenant and is no job across tenants (storage/scopes.py)."""

    code = "unscoped_read"
    next_step = "Report it: whose rows are read must be said."
