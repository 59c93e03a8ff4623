"""What the catalogue declares of a tool's arguments, and how a call's values are held to it.

Knows: the types `string int number bool object any [T]` and `?` for optional. Declared, a list of
arguments is complete: other names are refused. Values that came as text (path, query, form) are
read as the declared type; values that came as JSON must be of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sidecar.errors import Refused
from sidecar.policy.exact_numbers import INTEGER_MAX, is_exact

_DECLARATION = re.compile(r"(\[)?(string|int|number|bool|object|any)(\])?(\?)?")
#: Those that tell mistakes in conditions; a number may be of two, the rest of any.
TELLING_TYPES = frozenset({"string", "int", "bool", "[string]", "[int]", "[bool]"})
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,15})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Declared:
    """One argument's type; `text` is as the catalogue writes it."""

    kind: str
    is_list: bool
    is_optional: bool

    @property
    def text(self) -> str:
        """The declaration, e.g. `[string]?`."""
        kind = f"[{self.kind}]" if self.is_list else self.kind
        return kind + ("?" if self.is_optional else "")


def declared(text: object) -> Declared:
    """Reads a declaration such as `int` or `[string]?`; raises ValueError."""
    match = _DECLARATION.fullmatch(text) if isinstance(text, str) else None
    if match is None or bool(match[1]) != bool(match[3]):
        shown = repr(text) if isinstance(text, str | int | float) else "this"
        raise ValueError(
            f"{shown} is not an argument type: string int number bool object any [T], ? optional"
        )
    return Declared(match[2], bool(match[1]), bool(match[4]))


class ArgumentTypes:
    """The arguments of one tool."""

    __slots__ = ("_by_name", "_required", "names")

    def __init__(self, by_name: Mapping[str, Declared]) -> None:
        self._by_name = dict(by_name)
        self._required = tuple(n for n, d in self._by_name.items() if not d.is_optional)
        self.names = frozenset(self._by_name)

    def is_list(self, name: str) -> bool:
        """Whether the argument is declared as `[T]`, so that a repeated name is a list."""
        found = self._by_name.get(name)
        return found is not None and found.is_list

    def plain(self) -> dict[str, str]:
        """The declarations as text, by name."""
        return {name: found.text for name, found in self._by_name.items()}

    def takes(self, name: str, value: Any, *, is_text: bool) -> bool:
        """Whether `bind` would take this value for the name."""
        found = self._by_name.get(name)
        if found is None:
            return False
        return (_fit_text(found, value) if is_text else _fit(found, value)) is not _MISSING

    def without(self, names: Collection[str]) -> ArgumentTypes:
        """The same but for some arguments."""
        return ArgumentTypes({n: d for n, d in self._by_name.items() if n not in names})

    def bind(self, values: Mapping[str, Any], textual: Collection[str]) -> dict[str, Any]:
        """The values as the declared types; names in `textual` are read from text.

        Raises Refused: invalid_argument for a name or value that does not fit,
        ambiguous_argument for a repeated text where no list is declared.
        """
        bound: dict[str, Any] = {}
        for name, value in values.items():
            found = self._by_name.get(name)
            if found is None:
                raise Refused("invalid_argument", f"argument {name[:80]!r} is not declared")
            if name in textual and type(value) is list and not found.is_list:
                raise Refused("ambiguous_argument", f"argument {name[:80]!r} is given twice")
            fit = _fit_text(found, value) if name in textual else _fit(found, value)
            if fit is _MISSING:
                raise Refused(
                    "invalid_argument", f"argument {name[:80]!r} must be {found.text.rstrip('?')}"
                )
            bound[name] = fit
        for name in self._required:
            if name not in bound:
                raise Refused("invalid_argument", f"argument {name[:80]!r} is missing")
        return bound


def _fit(found: Declared, value: Any) -> Any:
    if value is None:
        return None if found.is_optional or found.kind == "any" else _MISSING
    if not found.is_list:
        return value if _is_of(found.kind, value) else _MISSING
    if type(value) is not list or not all(_is_of(found.kind, item) for item in value):
        return _MISSING
    return value


def _is_of(kind: str, value: Any) -> bool:
    if kind == "string":
        return type(value) is str
    if kind == "int":
        return type(value) is int
    if kind == "number":
        return type(value) is int or type(value) is float
    if kind == "bool":
        return type(value) is bool
    if kind == "object":
        return type(value) is dict
    return True


def _fit_text(found: Declared, value: Any) -> Any:
    if not found.is_list:
        return _read(found.kind, value)
    items = [_read(found.kind, item) for item in (value if type(value) is list else [value])]
    return _MISSING if _MISSING in items else items


def _read(kind: str, text: Any) -> Any:
    if type(text) is not str:
        return _MISSING
    if kind in ("string", "any"):
        return text
    if kind == "bool":
        return {"true": True, "false": False}.get(text, _MISSING)
    if kind == "int" and _INTEGER.fullmatch(text) and abs(int(text)) <= INTEGER_MAX:
        return int(text)
    if kind == "number" and len(text) <= 32 and _NUMBER.fullmatch(text):
        if _INTEGER.fullmatch(text) and abs(int(text)) <= INTEGER_MAX:
            return int(text)
        number = float(text)
        return number if math.isfinite(number) and is_exact(text) else _MISSING
    return _MISSING
