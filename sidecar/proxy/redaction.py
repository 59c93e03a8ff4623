"""Redaction: values of arguments that must never be stored are replaced before anything is.

Knows: the argument names of `record.secrets`; they count at any depth, in any case, and with or
without `_`, `-` and `.` (so `api_key` covers `apiKey` and `API-Key`).
Must not know: where the result is stored. What goes upstream is never touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote_plus

#: What stands in the place of a secret value.
MASK = "***"

_SEPARATORS = str.maketrans("", "", "_-. ")
_VERDICTS_MAX = 8192


class Redactor:
    """Masks the values of secret names; remembers its verdict on names it has met."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = frozenset(_folded(name) for name in secrets)
        self._verdicts: dict[str, bool] = {}

    def is_secret(self, name: str) -> bool:
        """Whether values under this name must not be stored."""
        verdict = self._verdicts.get(name)
        if verdict is None:
            verdict = _folded(name) in self._secrets
            if len(self._verdicts) < _VERDICTS_MAX:
                self._verdicts[name] = verdict
        return verdict

    def arguments(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """`values` with secrets masked; the very same object where there are none."""
        if type(values) is dict:
            return self._redact_members(values)
        masked: Mapping[str, Any] = self._redact(values)
        return masked

    def query(self, raw: str) -> str:
        """A raw query string with the values of secret parameters masked."""
        if not raw:
            return raw
        pieces = raw.split("&")
        masked = [self._query_piece(piece) for piece in pieces]
        return "&".join(masked) if masked != pieces else raw

    def _query_piece(self, piece: str) -> str:
        name, separator, _ = piece.partition("=")
        if separator and self.is_secret(unquote_plus(name, errors="replace")):
            return f"{name}={MASK}"
        return piece

    def _redact(self, value: Any) -> Any:
        if isinstance(value, dict):
            return self._redact_members(value)
        if isinstance(value, list):
            return self._redact_items(value)
        return value

    def _redact_members(self, members: dict[str, Any]) -> dict[str, Any]:
        changed: dict[str, Any] = {}
        verdicts = self._verdicts
        for name, value in members.items():
            verdict = verdicts.get(name)
            if verdict if verdict is not None else self.is_secret(name):
                changed[name] = MASK
            elif type(value) is dict:
                members_masked = self._redact_members(value)
                if members_masked is not value:
                    changed[name] = members_masked
            elif type(value) is list:
                items_masked = self._redact_items(value)
                if items_masked is not value:
                    changed[name] = items_masked
        return {**members, **changed} if changed else members

    def _redact_items(self, items: list[Any]) -> list[Any]:
        for item in items:
            if type(item) is dict or type(item) is list:
                break
        else:
            return items
        masked = [self._redact(item) for item in items]
        is_same = all(new is old for new, old in zip(masked, items, strict=True))
        return items if is_same else masked


def _folded(name: str) -> str:
    return name.translate(_SEPARATORS).casefold()
