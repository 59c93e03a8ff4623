"""Reads a group of numbers, durations and sizes: defaults and bounds stand in the model.

Must not know: which groups there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from sidecar.config.model import Group
from sidecar.config.settings import bounds_of, key_of
from sidecar.config.units import duration_s, duration_text, size_bytes, size_text
from sidecar.yaml_section import Section

G = TypeVar("G", bound=Group)


def read_bounded(
    section: Section,
    model: type[G],
    defaults: Mapping[str, Any],
    texts: Mapping[str, Callable[[Any], Any]] = MappingProxyType({}),
) -> G:
    """A group of this model; `defaults` for fields that have none of their own. `texts` reads those
    that are no numbers."""
    fields = model.model_fields
    section.allow([key_of(name, field) for name, field in fields.items()])
    values = {}
    for name, field in fields.items():
        default = defaults.get(name, field.default)
        if name in texts:
            values[name] = section.read(key_of(name, field), texts[name], default)
            continue
        low, high = bounds_of(field)

        def convert(value: Any, name: str = name, low: Any = low, high: Any = high) -> Any:
            return _within(name, value, low, high)

        values[name] = section.read(key_of(name, field), convert, default)
    return model(**values)


def _within(name: str, value: Any, low: Any, high: Any) -> Any:
    text: Callable[[Any], str] = str
    if name.endswith("_s"):
        value, text = duration_s(value), duration_text
    elif name.endswith("_bytes"):
        value, text = size_bytes(value), size_text
    elif type(value) is not int:
        raise ValueError(f"not a whole number from {low} to {high}")
    if not low <= value <= high:
        raise ValueError(f"must be from {text(low)} to {text(high)}")
    return value
