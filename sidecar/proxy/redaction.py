"""Redaction: values of arguments that must never be stored are replaced before anything is.

Knows: that a secret name counts at any depth, and that whatever stands below it goes too.
Must not know: which names are secret, where the result is stored. What goes upstream is never
touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sidecar.policy.secret_names import MASK, SecretNames

__all__ = ["MASK", "Redactor"]

#: Of an object with more members the names are first looked at together.
_MANY: Final = 128


class Redactor:
    """Masks the values of secret names."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._names = SecretNames(secrets)
        self._verdicts = self._names.verdicts

    def arguments(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """`values` with secrets masked; the very same object where there are none."""
        if type(values) is dict:
            return self._redact_members(values)
        masked: Mapping[str, Any] = self._redact(values)
        return masked

    def _redact(self, value: Any) -> Any:
        if isinstance(value, dict):
            return self._redact_members(value)
        if isinstance(value, list):
            return self._redact_items(value)
        return value

    def _redact_members(self, members: dict[str, Any]) -> dict[str, Any]:
        if len(members) > _MANY and not self._names.may_be_among(members):
            return self._redact_below(members)
        changed: dict[str, Any] = {}
        verdicts = self._verdicts
        for name, value in members.items():
            verdict = verdicts.get(name)
            if verdict if verdict is not None else name in self._names:
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

    def _redact_below(self, members: dict[str, Any]) -> dict[str, Any]:
        """Members none of which has a secret name."""
        changed: dict[str, Any] = {}
        for name, value in members.items():
            if type(value) is dict or type(value) is list:
                masked = self._redact(value)
                if masked is not value:
                    changed[name] = masked
        return {**members, **changed} if changed else members

    def _redact_items(self, items: list[Any]) -> list[Any]:
        changed: list[Any] | None = None
        for at, item in enumerate(items):
            if type(item) is dict:
                masked: Any = self._redact_members(item)
            elif type(item) is list:
                masked = self._redact_items(item)
            else:
                continue
            if masked is not item:
                changed = [*items] if changed is None else changed
                changed[at] = masked
        return items if changed is None else changed
