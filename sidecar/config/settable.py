"""What settings are made of: a field that users set, a group of them, a value nobody sees.

Must not know: which settings there are.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


def setting(
    meaning: str,
    default: Any = ...,
    *,
    low: float | None = None,
    high: float | None = None,
    key: str = "",
    form: str = "",
    default_text: str = "",
) -> Any:
    """A field that users set. `form` and `default_text` say what the type cannot."""
    said: Any = {"setting": True, "key": key, "form": form, "default_text": default_text}
    return Field(default, description=meaning, ge=low, le=high, json_schema_extra=said)


class Secret:
    """A value that shows itself only when asked to, so that it reaches no log by accident."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> Any:
        raise TypeError("a secret is not written anywhere")


class Group(BaseModel):
    """Settings that belong together, frozen."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
