"""The URL of the store: which forms there are, and how one is shown.

Knows: that a password may stand in it, and so that it is never repeated in a message.
Must not know: how a store is opened.
"""

from __future__ import annotations

import re

SQLITE = "sqlite:///"
POSTGRES = ("postgresql://", "postgres://")

_USER_PASSWORD = re.compile(r"(?<=://)([^@/?:]*):[^@/]*(?=@)")
_QUERY_PASSWORD = re.compile(r"(?<=[?&])password=[^&]*")


def checked_store(value: object, *, is_secret: bool = False) -> str:
    """A store URL as written; never repeated in a message, it may hold a password.

    `is_secret` says that it came by reference: only then may a password stand in it.
    Raises ValueError, whose text says what to write instead.
    """
    known = f"{SQLITE}PATH or postgresql://USER@HOST/DATABASE"
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(f"not a URL: write {known}")
    if value.startswith(POSTGRES):
        return _checked_server(value, is_secret)
    path = value.removeprefix(SQLITE)
    if path == value or not path:
        raise ValueError(f"not a store that this version knows: write {known}")
    if path.startswith(":memory:"):
        raise ValueError(f"a store in memory would lose its receipts: write {SQLITE}PATH")
    if path.endswith("/") or "?" in path or "#" in path:
        raise ValueError(f"not the path of a file: write {SQLITE}PATH, without parameters")
    return value


def _checked_server(value: str, is_secret: bool) -> str:
    rest = value.partition("://")[2]
    place, _, database = rest.partition("?")[0].partition("/")
    user, at, hosts = place.rpartition("@")
    if not hosts or not database or not (at and user):
        raise ValueError(
            "a server needs a user, a host and a database: postgresql://USER@HOST/NAME"
        )
    has_password = ":" in user or "password=" in rest.partition("?")[2]
    if has_password and not is_secret:
        raise ValueError("a password must not stand here itself: write store: {env: NAME}")
    return value


def shown_store(url: str) -> str:
    """The URL for people: without its password."""
    return _QUERY_PASSWORD.sub("password=***", _USER_PASSWORD.sub(r"\1:***", url))


def store_password(url: str) -> str | None:
    """The password in the URL, for whoever must keep it out of a log; None without one."""
    in_user = _USER_PASSWORD.search(url)
    if in_user is not None:
        return in_user[0].partition(":")[2]
    in_query = _QUERY_PASSWORD.search(url)
    return in_query[0].partition("=")[2] if in_query is not None else None
