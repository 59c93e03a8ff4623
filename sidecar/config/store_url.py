"""The URL of the store: which forms there are, and how one is shown.

Knows: that a password may stand in it, and so that it is never repeated in a message; which
parameters of a server's URL mean something here.
Must not know: how a store is opened.
"""

from __future__ import annotations

import difflib
import re

SQLITE = "sqlite:///"
POSTGRES = ("postgresql://", "postgres://")

#: Files: their whole path, because a driver would look for another from where it was started.
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")
#: What may follow the `?`. Another name would be sent to the server as a setting of its own, and
#: one that was misspelt (sslmod) would take the protection away with it.
_PARAMETERS = (
    "sslmode",
    *_FILES,
    "sslnegotiation",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "target_session_attrs",
    "password",
    "search_path",
)

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
    from storage.postgres_url import (  # only for those with a server
        division_problem,
        link_problem,
        parameters_of,
    )

    if problem := division_problem(value):
        raise ValueError(problem)
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
    if not all(hosts.split(",")):
        raise ValueError("a host between commas is missing: HOST:PORT,HOST:PORT")
    _check_parameters(parameters_of(value))
    if problem := link_problem(value):
        raise ValueError(problem)
    return value


def _check_parameters(parameters: dict[str, str]) -> None:
    for name, value in parameters.items():
        if name == "sslpassword":
            raise ValueError(
                "sslpassword is not taken: let sslkey name a key without one, in a file that "
                "only the sidecar's user can read"
            )
        if name not in _PARAMETERS:
            near = difflib.get_close_matches(name, _PARAMETERS, n=1)
            meant = f"; did you mean {near[0]}?" if near else f": {', '.join(_PARAMETERS)}"
            raise ValueError(f"{name} is not a parameter of a store{meant}")
        if name in _FILES and not value.startswith("/"):
            raise ValueError(f"{name} must be the whole path of a file, from / on")
    for one, other in (("sslcert", "sslkey"), ("sslkey", "sslcert")):
        if one in parameters and other not in parameters:
            raise ValueError(f"{one} stands without {other}: a certificate and its key are a pair")


def store_warning(url: str) -> str:
    """What the operator should know of a store URL that can be used; "" for nothing."""
    if not url.startswith(POSTGRES):
        return ""
    from storage.postgres_url import link_warning

    return link_warning(url)


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
