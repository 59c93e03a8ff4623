"""An `inputSchema` read as a graph: which of its subschemas look at which values, and at what cost.

Knows: the keywords of JSON Schema 2020-12, 2019-09 and draft-07, which of them hold schemas for the
same value and which for a value within it, and what of a schema is not held against arguments: its
server wrote it and may be hostile, so that whatever leads out of it, or cannot be bounded, makes it
unusable, and the reason says why.
Must not know: how a schema is compiled, tools, calls. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

#: What is larger or deeper is not read; as JSON text, in characters, and in levels.
SCHEMA_LENGTH_MAX: Final = 64 * 1024
SCHEMA_DEPTH_MAX: Final = 64
#: Schemas within one schema, and patterns.
SUBSCHEMAS_MAX: Final = 2048
PATTERNS_MAX: Final = 64
#: The smallest `multipleOf`: dividing by less takes numbers of any length.
DIVISOR_MIN: Final = 1e-15

#: What a look at one value costs beside the look itself, in steps.
_DIVISION: Final = 200
_UNIQUE: Final = 16

#: Whose values are schemas for the same value.
_SAME_ONE: Final = ("not", "if", "then", "else")
_SAME_LIST: Final = ("allOf", "anyOf", "oneOf")
_SAME_MAP: Final = ("dependentSchemas", "dependencies")
#: Where a schema within may be named by `$ref` alone.
_NAMED: Final = ("$defs", "definitions")
#: What is read of a value itself; each member costs a step.
_OWN: Final = ("type", "enum", "const", "required", "dependentRequired")
#: These make of one document several, or of a reference what only a call shows.
_ELSEWHERE: Final = (
    "$id", "$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveAnchor", "$recursiveRef",
    "$schema", "$vocabulary",
)  # fmt: skip
#: These look at a value again for each schema beside them, so that their cost has no bound here.
#: Without them a schema lets more through.
_UNBOUNDED: Final = ("unevaluatedProperties", "unevaluatedItems")
#: These only describe (2020-12, section 8; draft-07 leaves it to whoever reads them). The library
#: holds texts against those of draft-07: it decodes and parses them again for each schema.
_DESCRIBING: Final = ("contentEncoding", "contentMediaType")
#: Where these stand, a schema that lets more through within makes one that may let less through.
_NARROWING: Final = ("not", "oneOf", "if", "maxContains")


class Unusable(Exception):
    """Arguments cannot be held against a schema; the text says why, in words for operators."""


@dataclass(slots=True)
class Subschema:
    """One schema within a schema. Schemas are numbered in `Schema.nodes`.

    `same` are looked at with the same value, `named` with the member of that name, `other` with a
    member of any other name, `always` with each member that a pattern fits, `keys` with names,
    `items` with an item. `steps` is what it costs itself, `patterns` how many look at a text.
    """

    steps: int = 1
    patterns: int = 0
    key_patterns: int = 0
    same: list[int] = field(default_factory=list)
    named: dict[str, int] = field(default_factory=dict)
    other: list[int] = field(default_factory=list)
    always: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    items: list[int] = field(default_factory=list)
    beside: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Schema:
    """A schema as it is to be compiled: `document` is a copy of its own, the first of `nodes` the
    whole. `names` are those of members it declares, at any depth. `has_choice` says that it names
    alternatives; `left_out` what of it is not held against anything, in words."""

    document: dict[str, Any]
    nodes: list[Subschema] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    patterned: list[dict[str, Any]] = field(default_factory=list)
    has_choice: bool = False
    has_narrowing: bool = False
    left_out: list[str] = field(default_factory=list)


def read_schema(document: Any) -> Schema:
    """The schema as a graph; `document` is parsed JSON that nobody else holds, and is changed.

    Raises Unusable.
    """
    if type(document) is not dict:
        raise Unusable("it is no object")
    document.pop("$schema", None)
    document.pop("$id", None)
    _require_shallow(document)
    reader = _Reader(document)
    reader.read()
    schema = reader.schema
    if schema.left_out:
        require_widening(schema)
    return schema


def require_widening(schema: Schema) -> None:
    """Raises Unusable where leaving something out might refuse what fits the whole."""
    if schema.has_narrowing:
        what = schema.left_out[-1]
        raise Unusable(f"{what} cannot be checked, and stands beside {', '.join(_NARROWING)}")


def _require_shallow(document: Any) -> None:
    level = [document]
    for _ in range(SCHEMA_DEPTH_MAX):
        level = [child for value in level for child in _within(value)]
        if not level:
            return
    raise Unusable(f"it is nested deeper than {SCHEMA_DEPTH_MAX}")


def _within(value: Any) -> Iterable[Any]:
    if type(value) is dict:
        return value.values()
    return value if type(value) is list else ()


def _size(value: Any) -> int:
    """How many values there are in a value, with itself."""
    size, stack = 0, [value]
    while stack:
        size += 1
        stack += _within(stack.pop())
    return size


class _Reader:
    """Numbers each schema where it is first met, and reads it once."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.schema = Schema(document)
        self._numbers: dict[int, int] = {}
        self._waiting: list[tuple[Any, Subschema]] = []
        self._patterns = 0

    def read(self) -> None:
        """Reads the document and whatever it refers to in itself."""
        self._number(self.schema.document)
        while self._waiting:
            value, node = self._waiting.pop()
            if type(value) is dict:
                self._read_one(value, node)
            elif type(value) is not bool:
                raise Unusable("a schema within it is neither an object nor true or false")

    def _number(self, value: Any) -> int:
        """The number of a schema. All of the document stays referenced, so that ids are its own;
        true and false are one value each wherever they stand, and alike in cost."""
        number = self._numbers.get(id(value))
        if number is None:
            if len(self._numbers) == SUBSCHEMAS_MAX:
                raise Unusable(f"it holds more than {SUBSCHEMAS_MAX} schemas")
            number = self._numbers[id(value)] = len(self._numbers)
            node = Subschema()
            self.schema.nodes.append(node)
            self._waiting.append((value, node))
        return number

    def _read_one(self, value: dict[str, Any], node: Subschema) -> None:
        for name in _ELSEWHERE:
            if name in value:
                raise Unusable(f"a schema within it has {name}")
        for name in _DESCRIBING:
            value.pop(name, None)
        for name in _UNBOUNDED:
            if name in value:
                del value[name]
                self.schema.left_out.append(name)
        self.schema.has_narrowing |= any(name in value for name in _NARROWING)
        self.schema.has_choice |= "anyOf" in value or "oneOf" in value
        if "$ref" in value:
            node.same.append(self._number(self._referred(value["$ref"])))
        node.same += self._each(_same(value))
        for name, within in _map(value, "properties"):
            self.schema.names.add(name)
            node.named[name] = self._number(within)
        node.always += self._each(within for _, within in _map(value, "patternProperties"))
        node.other += self._each(_ones(value, "additionalProperties"))
        node.keys += self._each(_ones(value, "propertyNames"))
        node.items += self._each(_items(value))
        node.beside += self._each(_ones(value, "contains"))
        for name in _NAMED:  # also those that nothing refers to: they are compiled too
            self._each(within for _, within in _map(value, name))
        self._read_cost(value, node)

    def _each(self, values: Iterable[Any]) -> list[int]:
        return [self._number(value) for value in values]

    def _read_cost(self, value: dict[str, Any], node: Subschema) -> None:
        node.steps += sum(_size(value[name]) for name in _OWN if name in value)
        node.steps += len(node.named)
        node.steps += _UNIQUE * ("uniqueItems" in value)
        if "multipleOf" in value:
            divisor = value["multipleOf"]
            if type(divisor) not in (int, float) or divisor < DIVISOR_MIN:
                raise Unusable(f"multipleOf is no number from {DIVISOR_MIN} up")
            node.steps += _DIVISION
        node.patterns = "pattern" in value
        node.key_patterns = len(node.always)
        if node.patterns:
            self.schema.patterned.append(value)
        self._patterns += node.patterns + node.key_patterns
        if self._patterns > PATTERNS_MAX:
            raise Unusable(f"it holds more than {PATTERNS_MAX} patterns")

    def _referred(self, reference: Any) -> Any:
        """What a `$ref` names (RFC 6901, as a fragment)."""
        if type(reference) is not str or not (reference == "#" or reference.startswith("#/")):
            raise Unusable("a $ref leads out of it")
        found: Any = self.schema.document
        for token in unquote(reference).split("/")[1:]:
            name = token.replace("~1", "/").replace("~0", "~")
            if type(found) is list and name.isdecimal() and int(name) < len(found):
                found = found[int(name)]
            elif type(found) is dict and name in found:
                found = found[name]
            else:
                raise Unusable("a $ref leads nowhere")
        return found


def _same(value: dict[str, Any]) -> Iterator[Any]:
    for name in _SAME_ONE:
        yield from _ones(value, name)
    for name in _SAME_LIST:
        found = value.get(name, ())
        if type(found) is list:
            yield from found
    for name in _SAME_MAP:
        # What `dependencies` may hold too, lists of names, is no schema.
        yield from (within for _, within in _map(value, name) if type(within) is not list)


def _items(value: dict[str, Any]) -> Iterator[Any]:
    for name in ("items", "prefixItems"):
        found = value.get(name)
        if type(found) is list:
            yield from found
        elif name in value:
            yield found
    yield from _ones(value, "additionalItems")


def _ones(value: dict[str, Any], name: str) -> Iterator[Any]:
    if name in value:
        yield value[name]


def _map(value: dict[str, Any], name: str) -> Iterable[tuple[str, Any]]:
    found = value.get(name, {})
    if type(found) is not dict:
        raise Unusable(f"{name} is no object")
    return found.items()
