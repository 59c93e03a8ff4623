"""Statements as PostgreSQL takes many rows: one array for each column instead of a text per row.

Knows: how the two shapes of a row in our texts (`VALUES ($1, …)` and a closing `WHERE (…)`) read
from arrays, and how several statements stand in one. Everything is derived from the one text in
sql/; nothing of a value ever becomes part of a statement.
Must not know: connections, what the statements mean.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from storage.statements import BadStatement

_VALUES = re.compile(r"VALUES \( ?(\$[0-9]+(?:, \$[0-9]+)*) ?\)")
_CONDITION = re.compile(r"WHERE (\([^()]*\$[0-9][^()]*\))$")
_ARRAYS = re.compile(r"SELECT \* FROM (?:pg_catalog\.)?unnest\([^()]*\)")
_PLACEHOLDER = re.compile(r"\$([0-9]+)")


def gathered(text: str, types: Sequence[str]) -> str:
    """The statement for any number of rows: `$n` is the array of the rows' n-th values.

    `types` are the types of the placeholders. Raises BadStatement for a text of another shape.
    """
    arrays = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(types, 1))
    # Of several arrays it is a word of the language; of one a function, and anybody may have one.
    unnest = "unnest" if len(types) > 1 else "pg_catalog.unnest"
    found = _VALUES.search(text)
    if found is not None:
        in_order = ", ".join(f"${number}" for number in range(1, len(types) + 1))
        if found[1] != in_order:
            raise BadStatement(f"the values of a row stand out of order: {text[:60]}")
        # Placeholders and type names only: nothing of a value can get in here.
        return f"{text[: found.start()]}SELECT * FROM {unnest}({arrays}){text[found.end() :]}"  # noqa: S608
    found = _CONDITION.search(text)
    if found is None or not text.startswith("DELETE FROM "):
        raise BadStatement(f"no row to repeat: {text[:60]}")
    names = ", ".join(f"p{number}" for number in range(1, len(types) + 1))
    condition = _PLACEHOLDER.sub(r"given.p\1", found[1])
    return f"{text[: found.start()]}USING {unnest}({arrays}) AS given ({names}) WHERE {condition}"


@lru_cache(maxsize=256)
def combined(texts: tuple[str, ...]) -> str:
    """Gathered statements as one, whose only row holds how many rows each changed, in order."""
    parts, counts = _side_by_side(texts, 0)
    return f"WITH {', '.join(parts)} SELECT {', '.join(counts)}"


@lru_cache(maxsize=256)
def guarded(guard: str, texts: tuple[str, ...]) -> str:
    """Gathered statements as one that does nothing unless `guard` (`SELECT … AS holds`) is true.

    Its parameters are the guard's, those of the statements in order, and then how many rows the
    first statement has to change: dividing by whether it did makes the server take all of it back.
    Each statement asks for the guard's answer before its first row, so its locks come first.
    """
    offset = _width(guard)
    parts, counts = _side_by_side([_if_it_holds(text) for text in texts], offset)
    wanted = f"${offset + sum(map(_width, texts)) + 1}::bigint"
    whole = f"{counts[0]} = {wanted} OR NOT guard.holds"
    rows = "".join(f", {count}" for count in counts)
    guard_part = f"guard AS MATERIALIZED ({guard})"
    return (
        f"WITH {', '.join([guard_part, *parts])} "  # noqa: S608
        f"SELECT guard.holds, 1 / ({whole})::int{rows} FROM guard"
    )


def _side_by_side(texts: Sequence[str], offset: int) -> tuple[list[str], list[str]]:
    """The statements as parts of one, and the counts of what each changed."""
    parts: list[str] = []
    for number, text in enumerate(texts):
        parts.append(f"s{number} AS ({_shifted(text, offset)} RETURNING 1)")
        offset += _width(text)
    return parts, [f"(SELECT count(*) FROM s{number})" for number in range(len(texts))]  # noqa: S608


def _if_it_holds(text: str) -> str:
    """A gathered statement that changes nothing unless the guard holds."""
    condition = "(SELECT holds FROM guard)"
    if text.startswith("DELETE FROM "):
        return f"{text} AND {condition}"
    found = _ARRAYS.search(text)
    if found is None:
        raise BadStatement(f"not a gathered statement: {text[:60]}")
    return f"{text[: found.end()]} WHERE {condition}{text[found.end() :]}"


def _width(text: str) -> int:
    return len(set(_PLACEHOLDER.findall(text)))


def _shifted(text: str, offset: int) -> str:
    return _PLACEHOLDER.sub(lambda one: f"${int(one[1]) + offset}", text)
