"""Names of arguments whose values are never stored or shown, and texts without those values.

Knows: that a name counts in any case, with or without `_`, `-`, `.` and blanks (`api_key` covers
`apiKey` and `API-Key`), and as a part of a name that forms and queries write for a member
(`user[password]`, `user.password`); where in a query or a path such a value stands.
Must not know: what a call is, where texts are stored or shown.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from typing import Final
from urllib.parse import unquote_plus

#: What stands in the place of a secret value.
MASK: Final = "***"

_PARTS: Final = re.compile(r"[\[\].]+")
_VERDICTS_MAX: Final = 8192
#: A longer name is looked at anew each time: callers choose it, and it may be as long as a body.
_KEPT_LENGTH_MAX: Final = 128


class SecretNames(Container[str]):
    """The names of `record.secrets`; `name in names` also covers their other spellings.

    `verdicts` are those on names it has met, so far as they are remembered.
    """

    __slots__ = ("_names", "verdicts")

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(_folded(name) for name in names)
        self.verdicts: dict[str, bool] = {}

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        verdict = self.verdicts.get(name)
        if verdict is None:
            verdict = self._covers(name)
            if len(name) <= _KEPT_LENGTH_MAX and len(self.verdicts) < _VERDICTS_MAX:
                self.verdicts[name] = verdict
        return verdict

    def may_be_among(self, names: Iterable[str]) -> bool:
        """False if none of these is covered; told at once, where each by itself takes a while."""
        folded = _folded("\n".join(names))
        return any(name in folded for name in self._names)

    def _covers(self, name: str) -> bool:
        if _folded(name) in self._names:
            return True
        if "[" not in name and "]" not in name and "." not in name:
            return False
        parts = _PARTS.split(name)
        return len(parts) > 1 and any(_folded(part) in self._names for part in parts)


def parts_of(name: str) -> list[str]:
    """The names that a form or a query writes in one: `customer[email]` and `customer.email` are
    two; places in a list are none."""
    return [part for part in _PARTS.split(name) if part and not part.isdecimal()]


def masked_query(raw: str, secrets: Container[str]) -> str:
    """A raw query string with the values of secret parameters masked."""
    return "&".join(_masked_piece(piece, secrets) for piece in raw.split("&"))


def masked_path(path: str, values: Mapping[str, str], secrets: Container[str]) -> str:
    """A path with the values of secret names masked; `values` are the arguments that stand in it,
    as they stand there."""
    for name, value in values.items():
        if name in secrets:
            path = path.replace(value, MASK)
    return path


def _masked_piece(piece: str, secrets: Container[str]) -> str:
    name, separator, _ = piece.partition("=")
    if separator and unquote_plus(name, errors="replace") in secrets:
        return f"{name}={MASK}"
    return piece


def _folded(name: str) -> str:
    bare = name.replace("_", "").replace("-", "").replace(".", "").replace(" ", "")
    return bare.casefold()
