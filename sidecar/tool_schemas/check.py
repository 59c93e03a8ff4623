"""One tool's `inputSchema`, compiled: whether arguments fit it, and where they do not.

Knows: the library, which dialect a schema is in, that nothing is ever fetched and no pattern ever
backtracks, and that a place is named without a value: names that the schema does not declare are
not shown either.
Must not know: who calls, which tools are pinned, what follows.

`format` and what describes contents only describe (JSON Schema Validation 2020-12, section 7.2.1).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn

import orjson

from sidecar.tool_schemas.cost import STEPS_MAX, Cost
from sidecar.tool_schemas.reading import (
    SCHEMA_LENGTH_MAX,
    Schema,
    Unusable,
    read_schema,
    require_widening,
)

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError, Validator

_log = logging.getLogger("aegis.schemas")

#: The largest pattern, as the engine holds it; its time for a text is linear in both.
PATTERN_BYTES_MAX: Final = 16 * 1024
#: Where a value fits none of several alternatives, the library makes an error for each. Beyond so
#: many steps it is only said that arguments do not fit, and not where.
TOLD_STEPS_MAX: Final = 10_000
#: Characters of a place, and of one name in it.
PLACE_LENGTH_MAX: Final = 160
NAME_LENGTH_MAX: Final = 40

#: The dialects (their `$schema`, without a fragment), by the library's word for them. Without
#: `$schema` it is the first (MCP 2025-11-25, Basic, JSON Schema Usage).
_DIALECTS: Final = {
    "https://json-schema.org/draft/2020-12/schema": "Draft202012Validator",
    "https://json-schema.org/draft/2019-09/schema": "Draft201909Validator",
    "http://json-schema.org/draft-07/schema": "Draft7Validator",
}
_NEWEST: Final = next(iter(_DIALECTS))
_TOO_MUCH: Final = "they are too large to be held against it"


class Check:
    """What arguments of calls of one tool are held against.

    `left_out` is what of the schema they are not held against, in words for operators, "" if all of
    it counts. `length` is that of the schema, as text.
    """

    __slots__ = ("_cost", "_has_choice", "_names", "_validator", "left_out", "length")

    def __init__(self, validator: Validator, schema: Schema, cost: Cost, length: int) -> None:
        self._validator = validator
        self._cost = cost
        self._names = frozenset(schema.names)
        self._has_choice = schema.has_choice
        self.left_out = ", ".join(dict.fromkeys(schema.left_out))
        self.length = length

    def fits(self, arguments: Mapping[str, Any], size: int) -> bool:
        """Whether arguments out of a body of so many bytes are known to fit; those that might cost
        more than there is time for are not."""
        if size > self._cost.free_bytes and self._cost.steps(arguments) > STEPS_MAX:
            return False
        try:
            return self._validator.is_valid(arguments)
        except BaseException as error:
            _tell_panic(error)

    def misfit(self, arguments: Mapping[str, Any]) -> str:
        """In which place they do not fit, and by which keyword; "" where they do."""
        steps = self._cost.steps(arguments)
        if steps > STEPS_MAX:
            return _TOO_MUCH
        if self._has_choice and steps > TOLD_STEPS_MAX:
            return "" if self.fits(arguments, 0) else "somewhere"
        import jsonschema_rs

        try:
            self._validator.validate(arguments)  # stops at the first; iter_errors would not
        except jsonschema_rs.ValidationError as error:
            return f"{self._place(error)}: {_keyword(error)}"
        except BaseException as fault:
            _tell_panic(fault)
        return ""

    def _place(self, error: ValidationError) -> str:
        """A JSON pointer (RFC 6901) into the call's `params`."""
        place = "/arguments"
        for token in error.instance_path:
            if type(token) is int:
                place += f"/{token}"
            elif token in self._names and len(token) <= NAME_LENGTH_MAX:
                place += "/" + token.replace("~", "~0").replace("/", "~1")
            else:
                place += "/*"  # a name of the caller's choice may be as secret as a value
        return place if len(place) <= PLACE_LENGTH_MAX else f"{place[:PLACE_LENGTH_MAX]}…"


class Unchecked:
    """In place of a Check, for a schema that is unusable: nothing is known to fit it. `left_out`
    says why."""

    __slots__ = ("left_out", "length")

    def __init__(self, why: str) -> None:
        self.left_out = why
        self.length = 0

    def fits(self, arguments: Mapping[str, Any], size: int) -> bool:
        """Nobody knows."""
        return False

    def misfit(self, arguments: Mapping[str, Any]) -> str:
        """Nobody knows."""
        return ""


def checked(definition: str) -> Check | Unchecked:
    """What arguments of a tool are held against; `definition` is what is pinned of it, as JSON."""
    document = orjson.loads(definition).get("inputSchema")
    length = len(definition)
    try:
        if document is None:
            raise Unusable("there is none")
        if length > SCHEMA_LENGTH_MAX:
            length = len(orjson.dumps(document))
            if length > SCHEMA_LENGTH_MAX:
                raise Unusable(f"it is longer than {SCHEMA_LENGTH_MAX} characters")
        return _compiled(document, length)
    except Unusable as error:
        return Unchecked(str(error))


def _compiled(document: Any, length: int) -> Check:
    named = document.get("$schema", _NEWEST) if type(document) is dict else _NEWEST
    dialect = _DIALECTS.get(named.rstrip("#")) if type(named) is str else None
    if dialect is None:
        raise Unusable("its $schema names no dialect that is known here")
    schema = read_schema(document)
    cost = Cost(schema)
    _leave_out_patterns(schema, dialect)
    return Check(_validator(dialect, schema.document), schema, cost, length)


def _leave_out_patterns(schema: Schema, dialect: str) -> None:
    """Takes out of a schema the patterns that need an engine which backtracks (look-around, back
    references) or too much room. Without one it lets more through. Raises Unusable where leaving
    it out might refuse something."""
    verdicts: dict[str, bool] = {}
    for one in schema.patterned:
        pattern = one["pattern"]
        if type(pattern) is not str:
            raise Unusable("a pattern is no text")
        if pattern not in verdicts:
            verdicts[pattern] = _is_regular(pattern, dialect)
        if not verdicts[pattern]:
            del one["pattern"]
            schema.left_out.append("pattern")
    if schema.left_out:
        require_widening(schema)


def _is_regular(pattern: str, dialect: str) -> bool:
    try:
        _validator(dialect, {"pattern": pattern})
    except Unusable:
        return False
    return True


def _validator(dialect: str, document: dict[str, Any]) -> Validator:
    """Raises Unusable."""
    # 7 MB resident (pages of the file itself) and some ms: only where a tool is checked at all.
    import jsonschema_rs

    options = jsonschema_rs.RegexOptions(
        size_limit=PATTERN_BYTES_MAX, dfa_size_limit=PATTERN_BYTES_MAX * 16
    )
    kind: type[Validator] = getattr(jsonschema_rs, dialect)
    try:
        return kind(document, validate_formats=False, pattern_options=options, offline=True)
    except ValueError as error:  # of which the library's own error is one
        raise Unusable("it is no valid JSON Schema, or holds what is not supported") from error
    except BaseException as error:
        try:
            _tell_panic(error)
        except RuntimeError as panic:
            raise Unusable("the library failed on it") from panic


def _keyword(error: ValidationError) -> str:
    """The keyword, and what the schema says where that is short and known to be public."""
    kind = error.kind
    keyword = next((one for one in reversed(error.schema_path) if type(one) is str), kind.name)
    if kind.name == "required":
        return f"{keyword} {str(kind.as_dict().get('property', ''))[:NAME_LENGTH_MAX]}"
    if kind.name == "type":
        return f"{keyword} {' or '.join(kind.as_dict().get('types', ()))}"
    return keyword


def _tell_panic(error: BaseException) -> NoReturn:
    """A fault of the library's own code is no reason to end a task in silence: it comes as
    something that only `except BaseException` meets."""
    if type(error).__module__ == "pyo3_runtime":
        raise RuntimeError(f"jsonschema_rs: {error}") from error
    raise error
