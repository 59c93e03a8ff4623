"""PostgreSQL's errors in the words of storage.errors.

Knows: SQLSTATE codes (PostgreSQL documentation, appendix A), which of them put the connection in
doubt, and which say for certain that a commit did not happen.
Must not know: connections, statements; and not the driver library: a code is all it needs.
"""

from __future__ import annotations

from storage.driver import UnfitRow
from storage.errors import (
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    UniqueViolation,
    UnsupportedStore,
)

_BY_CODE: dict[str, type[StoreError]] = {
    "23505": UniqueViolation,
    "25006": StoreReadOnly,  # the server became a standby under us
    "40001": StoreBusy,
    "40P01": StoreBusy,
    "42501": StoreReadOnly,  # privileges, and row security
    "53100": StoreFull,
    "55P03": StoreBusy,
    "57014": StoreBusy,  # cut off by a time limit
    "3D000": UnsupportedStore,
    "28P01": UnsupportedStore,
    "28000": UnsupportedStore,
    "XX001": StoreCorrupt,
    "XX002": StoreCorrupt,
}
#: By class: integrity of a row, and data that does not fit a type.
_BY_CLASS: dict[str, type[StoreError]] = {"23": UnfitRow, "22": UnfitRow}


def code_of(error: BaseException) -> str:
    """The SQLSTATE the server gave; "" for an error that is not the server's."""
    return str(getattr(error, "sqlstate", None) or "")


def translated(error: BaseException) -> StoreError:
    """The error in our words; one of ours is given back as it is."""
    if isinstance(error, StoreError):
        return error
    code = code_of(error)
    kind = _BY_CODE.get(code) or _BY_CLASS.get(code[:2])
    if kind is None and not code and isinstance(error, (ValueError, TypeError, OverflowError)):
        kind = UnfitRow  # the driver could not even encode the value
    text = f"{code} {error}".strip() or type(error).__name__
    return (kind or StoreUnavailable)(text)


def is_distrustful(error: BaseException) -> bool:
    """Whether the connection must be replaced: it is lost, or talks to a server it should not."""
    if isinstance(error, StoreError):
        return isinstance(error, (StoreUnavailable, StoreReadOnly, StoreCorrupt))
    code = code_of(error)
    if not code:
        return not isinstance(error, (ValueError, TypeError, OverflowError))
    return (code[:2] in ("08", "57", "XX", "58") and code != "57014") or code in ("25006", "42501")


def is_certainly_not_committed(error: BaseException) -> bool:
    """Whether the server itself said that COMMIT failed, on a connection that still stands.

    So are a statement's own errors, where a statement is a whole transaction: it was taken back.
    """
    code = code_of(error)
    return code[:2] in ("22", "23", "25", "40", "42", "53") or code in ("55P03", "57014")
