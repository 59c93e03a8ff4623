"""Schemas of an OpenAPI document, as far as the types of arguments go.

Knows: JSON Schema's plain part, local `$ref`s, allOf, oneOf and anyOf; how far all of it may be
followed, since a few schemas that refer to one another can stand for any number.
Must not know: paths, operations, media types, catalogues; it never fetches anything.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import unquote

from sidecar.policy.arguments import Declared
from sidecar.policy.openapi_text import BadDocument

#: References that one schema may lead through, and schemas that may stand within one another.
REFERENCES_MAX: Final = 32
#: Schemas looked at for one operation, and for all.
SCHEMAS_MAX: Final = 2000
SCHEMAS_OF_ALL_MAX: Final = 500_000

ANY: Final = Declared("any", False, False)

_KINDS = {
    "string": "string",
    "integer": "int",
    "number": "number",
    "boolean": "bool",
    "object": "object",
}
_CHOICES = ("oneOf", "anyOf")


class BadReference(BadDocument):
    """A `$ref` that leads nowhere, or out of the document."""


class OpenEnded(Exception):
    """Arguments that cannot be listed completely; the message says why."""


#: A member of an object schema: its own schema, and whether it must be there.
Members = dict[str, tuple[Any, bool]]


class Schemas:
    """The schemas of one document, with references resolved when they are read."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._left = SCHEMAS_MAX
        self._looked_at = 0

    def begin_operation(self) -> None:
        """The next operation may look at SCHEMAS_MAX schemas again."""
        self._left = SCHEMAS_MAX

    def _look(self) -> None:
        """Before each schema; an operation that has too many takes arguments of any kind."""
        self._looked_at += 1
        if self._looked_at > SCHEMAS_OF_ALL_MAX:
            raise BadDocument(f"its operations have more than {SCHEMAS_OF_ALL_MAX} schemas")
        self._left -= 1
        if self._left < 0:
            raise OpenEnded(f"its schemas are more than {SCHEMAS_MAX}")

    def resolve(self, value: Any) -> dict[str, Any]:
        """The mapping a value is or leads to; an empty one if it leads nowhere.

        Raises BadReference.
        """
        for _ in range(REFERENCES_MAX):
            if not isinstance(value, dict):
                return {}
            reference = value.get("$ref")
            if not isinstance(reference, str):
                return value
            value = self._follow(reference)
        return {}

    def _follow(self, reference: str) -> Any:
        if not reference.startswith("#/"):
            raise BadReference(f"the reference {reference[:100]} leads out of the document")
        value: Any = self._root
        for step in reference[2:].split("/"):
            key = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(value, dict) and key in value:
                value = value[key]
            elif isinstance(value, list) and _is_index(key, len(value)):
                value = value[int(key)]
            else:
                raise BadReference(f"the reference {reference[:100]} leads nowhere")
        return value

    def is_same(self, one: Any, other: Any, depth: int = 0) -> bool:
        """Whether two schemas are written alike; what is nested very deep is not."""
        self._look()
        if depth > REFERENCES_MAX:
            return False
        if isinstance(one, dict) and isinstance(other, dict):
            return one.keys() == other.keys() and all(
                self.is_same(one[key], other[key], depth + 1) for key in one
            )
        if isinstance(one, list) and isinstance(other, list):
            return len(one) == len(other) and all(
                self.is_same(a, b, depth + 1) for a, b in zip(one, other, strict=True)
            )
        return type(one) is type(other) and bool(one == other)

    def members(self, schema: Any, depth: int = 0) -> Members:
        """The members of an object schema and whether each is required.

        Of several choices (oneOf, anyOf) all members are listed; one is required if every choice
        requires it. Raises OpenEnded if names that are not listed may come, BadReference.
        """
        self._look()
        found = self.resolve(schema)
        if depth > REFERENCES_MAX:
            raise OpenEnded("its schema is nested too deep")
        _require_closed_object(found)
        members: Members = {}
        for part in _parts(found, "allOf"):
            members.update(self.members(part, depth + 1))
        for key in _CHOICES:
            if key in found:
                members = self._with_choices(members, _parts(found, key), depth)
        properties = found.get("properties", {})
        members.update({name: (one, False) for name, one in properties.items()})
        if not all(isinstance(name, str) and is_plain_name(name) for name in members):
            raise OpenEnded("a member's name cannot be declared")
        required = _names(found.get("required"))
        return {name: (one, must or name in required) for name, (one, must) in members.items()}

    def _with_choices(self, members: Members, choices: list[Any], depth: int) -> Members:
        """`members` and those of all choices. A choice that only says what is required has none:
        it narrows what is listed beside it, which no declaration can say."""
        kept: list[Members] = []
        for choice in choices:
            found = self.resolve(choice)
            if found and not found.keys() - {"required", "title", "description"}:
                kept.append({})
            else:
                kept.append(self.members(choice, depth + 1))
        all_of_them = dict(members)
        for one in kept:
            for name, (schema, must) in one.items():
                is_everywhere = must and all(other.get(name, ("", False))[1] for other in kept)
                earlier = all_of_them.get(name)
                if earlier is not None and not self.is_same(earlier[0], schema):
                    schema = {}
                is_required = is_everywhere or (name in members and members[name][1])
                all_of_them[name] = (schema, is_required)
        return all_of_them

    def type_of(self, schema: Any, is_required: bool, depth: int = 0) -> Declared:
        """The declaration that fits a schema; `any` where none is closer. Raises BadReference."""
        self._look()
        if depth > REFERENCES_MAX:
            return _declared("any", False, is_required, False)
        found = self.resolve(schema) if isinstance(schema, dict) else {}
        is_nullable = found.get("nullable") is True
        other = _beside_null(found)
        if other is not None:
            found, is_nullable = self.resolve(other), True
        kind = found.get("type")
        if isinstance(kind, list):
            is_nullable = is_nullable or "null" in kind
            others = [one for one in kind if one != "null"]
            kind = others[0] if len(others) == 1 else None
        if kind is None:
            return _declared(self._common_kind(found, depth), False, is_required, is_nullable)
        if kind == "array":
            item = self.type_of(found.get("items"), True, depth + 1)
            return _declared("any" if item.is_list else item.kind, True, is_required, is_nullable)
        known = _KINDS.get(kind, "any") if isinstance(kind, str) else "any"
        return _declared(known, False, is_required, is_nullable)

    def _common_kind(self, found: dict[str, Any], depth: int) -> str:
        """The one plain type that all parts of a compound schema have; `any` if they differ."""
        compound = [key for key in (*_CHOICES, "allOf") if key in found]
        parts = found[compound[0]] if len(compound) == 1 and "not" not in found else None
        kinds = set()
        for part in parts if isinstance(parts, list) else []:
            declared = self.type_of(part, True, depth + 1)
            kinds.add("any" if declared.is_list else declared.kind)
        return kinds.pop() if len(kinds) == 1 else "any"


def is_plain_name(name: str) -> bool:
    """Whether an argument can be declared under this name."""
    return 0 < len(name) <= 128 and name.isprintable()


def _is_index(key: str, length: int) -> bool:
    return key.isascii() and key.isdecimal() and len(key) < 10 and int(key) < length


def _require_closed_object(found: dict[str, Any]) -> None:
    if "not" in found or "if" in found:
        raise OpenEnded("its schema is more than a list of members")
    if found.get("type", "object") not in ("object", ["object", "null"]):
        raise OpenEnded("its body is no object")
    is_open = found.get("additionalProperties", False) is not False
    if is_open or "patternProperties" in found:
        raise OpenEnded("its schema takes members it does not list")
    listing = ("properties", "allOf", *_CHOICES)
    if not any(key in found for key in listing):
        raise OpenEnded("its schema lists no members")
    if not isinstance(found.get("properties", {}), dict):
        raise OpenEnded("its schema is malformed")


def _parts(found: dict[str, Any], key: str) -> list[Any]:
    parts = found.get(key, [])
    if not isinstance(parts, list):
        raise OpenEnded("its schema is malformed")
    return parts


def _names(listed: Any) -> set[str]:
    return {one for one in listed if isinstance(one, str)} if isinstance(listed, list) else set()


def _beside_null(schema: dict[str, Any]) -> Any:
    """The one schema that stands beside null (`anyOf: [T, {type: "null"}]`), if that is all that a
    schema says."""
    if any(key in schema for key in ("type", "allOf", "not")):
        return None
    choices = [schema[key] for key in _CHOICES if key in schema]
    members = choices[0] if len(choices) == 1 else None
    if not isinstance(members, list) or len(members) != 2:
        return None
    others = [one for one in members if one != {"type": "null"}]
    return others[0] if len(others) == 1 else None


def _declared(kind: str, is_list: bool, is_required: bool, is_nullable: bool) -> Declared:
    if is_required and is_nullable:
        return ANY
    return Declared(kind, is_list, not is_required)
