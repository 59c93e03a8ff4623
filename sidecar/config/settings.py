"""The list of settings, walked from the models: what can be set, and what is set.

Knows: how a field of the model is named, written and bounded in YAML.
Must not know: files, the environment, where a value came from.
"""

from __future__ import annotations

import enum
import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo

from sidecar.config.model import (
    Address,
    Auth,
    Config,
    Group,
    Issuer,
    ListenerTls,
    Pem,
    Secret,
)
from sidecar.config.store_url import shown_store
from sidecar.config.units import duration_text, size_text

#: How the table writes the names that users choose.
_PLACEHOLDERS = {
    "tenants": "TENANT",
    "agents": "AGENT",
    "people": "PERSON",
    "upstreams": "NAME",
    "sinks": "NAME",
}
_UNITS = ("_s", "_bytes")


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting as the table shows it; `form` is its type or unit."""

    key: str
    form: str
    default: str
    meaning: str


def key_of(name: str, field: FieldInfo | None = None) -> str:
    """The YAML key of a field: its name without the unit, unless the field says otherwise."""
    own = _said(field)["key"] if field is not None and is_setting(field) else ""
    if own:
        return str(own)
    for unit in _UNITS:
        name = name.removesuffix(unit)
    return name


def is_setting(field: FieldInfo) -> bool:
    """Whether users can set this field itself (and not only what is below it)."""
    return isinstance(field.json_schema_extra, dict) and "setting" in field.json_schema_extra


def bounds_of(field: FieldInfo) -> tuple[Any, Any]:
    """(least, greatest) value; None where there is no bound."""
    low = next((item.ge for item in field.metadata if hasattr(item, "ge")), None)
    high = next((item.le for item in field.metadata if hasattr(item, "le")), None)
    return low, high


def declared(model: type[Group] = Config, prefix: str = "") -> Iterator[Setting]:
    """Every setting there is, in the order of the models."""
    for name, field in model.model_fields.items():
        key = prefix + key_of(name, field)
        if is_setting(field):
            yield Setting(key, _form(name, field), _default(name, field), field.description or "")
        below, is_named = _group_below(field.annotation)
        if below is not None:
            between = f".{_PLACEHOLDERS[name]}." if is_named else "."
            yield from declared(below, key + between)


def variable_meant(word: str) -> str:
    """What a variable without its prefix is called whose levels are parted by `_`, and not by `__`
    as those of settings are; "" if no setting is meant."""
    for one in declared():
        levels = one.key.split(".")
        chosen = [level.isupper() for level in levels]
        pattern = "_".join(
            "([a-z0-9_]+)" if is_chosen else re.escape(level)
            for level, is_chosen in zip(levels, chosen, strict=True)
        )
        if len(levels) > 1 and (found := re.fullmatch(pattern, word)):
            names = iter(found.groups())
            return "__".join(
                next(names) if is_chosen else level
                for level, is_chosen in zip(levels, chosen, strict=True)
            )
    return ""


def effective(group: Group, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value as YAML would have it) of all that is set; secrets are masked."""
    for name, field in type(group).model_fields.items():
        key = prefix + key_of(name, field)
        value = getattr(group, name)
        if is_setting(field):
            yield key, _shown(name, value)
        if isinstance(value, Group):
            yield from effective(value, f"{key}.")
        elif isinstance(value, dict):
            for chosen, below in value.items():
                yield from effective(below, f"{key}.{chosen}.")


def _said(field: FieldInfo) -> dict[str, Any]:
    return typing.cast("dict[str, Any]", field.json_schema_extra)


def _group_below(annotation: Any) -> tuple[type[Group] | None, bool]:
    """The group a field leads to, and whether there is one per name."""
    if typing.get_origin(annotation) is dict:
        return typing.get_args(annotation)[1], True
    is_group = isinstance(annotation, type) and issubclass(annotation, Group)
    return (annotation if is_group else None), False


def _form(name: str, field: FieldInfo) -> str:
    form = _said(field)["form"] or _form_of_type(name, field.annotation)
    low, high = bounds_of(field)
    if low is None:
        return str(form)
    return f"{form}, {_shown(name, low)} to {_shown(name, high)}"


def _form_of_type(name: str, annotation: Any) -> str:
    if typing.get_origin(annotation) is typing.Literal:
        return ", ".join(f"`{choice}`" for choice in typing.get_args(annotation))
    if issubclass(annotation, enum.IntEnum):
        return ", ".join(f"`{level.name.lower()}`" for level in annotation)
    if annotation is bool:
        return "true or false"
    if name.endswith("_s"):
        return "duration"
    if name.endswith("_bytes"):
        return "size"
    return "number" if annotation is int else "text"


def _default(name: str, field: FieldInfo) -> str:
    said = _said(field)["default_text"]
    if said:
        return str(said)
    if field.is_required():
        return "required"
    value = _shown(name, field.default)
    if isinstance(value, list):
        return ", ".join(value) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if value != "" else "empty"


def _shown(name: str, value: Any) -> Any:
    """A value in the form in which users write it."""
    if isinstance(value, Address):
        return value.text
    if isinstance(value, ListenerTls | Pem):
        return value.text
    if isinstance(value, Auth):
        return f"{value.header_name}: {value.header_value}"
    if isinstance(value, Secret):
        return str(value)
    if isinstance(value, enum.IntEnum):
        return value.name.lower()
    if name == "store":
        return shown_store(value)
    if name == "default_agent":
        return "/".join(value) if value else None
    if isinstance(value, tuple):
        return [one.issuer if isinstance(one, Issuer) else str(one) for one in value]
    if name.endswith("_s"):
        return duration_text(value)
    if name.endswith("_bytes"):
        return size_text(value)
    return value
