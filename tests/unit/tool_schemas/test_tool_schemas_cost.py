"""Whatever a server writes and a caller sends, holding one against the other takes no time."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest

from sidecar.tool_schemas.check import Check, checked
from sidecar.tool_schemas.cost import STEPS_MAX

#: What one look may take of the processor; without the bounds each takes far longer.
TIME_MAX_S = 1.5
#: A body's largest size by default (`limits.request`).
BODY_BYTES = 1024 * 1024


def of(schema: Any) -> Check:
    made = checked(json.dumps({"inputSchema": schema}))
    assert isinstance(made, Check), made.left_out
    return made


def asked(schema: Any, arguments: Any, *, size: int = BODY_BYTES) -> tuple[bool, str]:
    """Whether they fit, and what is said where they do not, each in time."""
    made = of(schema)
    begun = time.process_time()
    fits = made.fits(arguments, size)
    said = made.misfit(arguments)
    assert time.process_time() - begun < TIME_MAX_S
    return fits, said


def chain(length: int) -> Any:
    value: Any = 1
    for _ in range(length):
        value = {"a": value}
    return value


TOO_LARGE = "they are too large to be held against it"
TWICE: dict[str, Any] = {
    "$ref": "#/$defs/n",
    "$defs": {
        "n": {
            "type": "object",
            "anyOf": [
                {"properties": {"a": {"$ref": "#/$defs/n"}}},
                {"properties": {"a": {"$ref": "#/$defs/n"}}, "minProperties": 1},
            ],
        }
    },
}


def test_c11_a_schema_that_looks_twice_at_each_level_is_bounded_by_depth() -> None:
    """The library's own words for what is wrong take minutes at twenty levels."""
    assert asked(TWICE, {"a": {"a": {}}}, size=20) == (True, "")
    assert asked(TWICE, chain(3), size=20) == (False, "/arguments: anyOf")
    assert asked(TWICE, chain(10), size=60) == (False, "somewhere")
    assert asked(TWICE, chain(20), size=120) == (False, TOO_LARGE)
    assert asked(TWICE, chain(60), size=360) == (False, TOO_LARGE)


def test_c11_a_schema_that_refers_to_itself_once_is_affordable_at_any_depth() -> None:
    once = {"type": "object", "properties": {"a": {"$ref": "#"}}}
    good: Any = {}
    for _ in range(60):
        good = {"a": good}
    assert asked(once, good) == (True, "")
    fits, said = asked(once, chain(60))
    assert (fits, said.endswith(": type object")) == (False, True)


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*b$", "(.*)*x", "^[ab]*a[ab]{200}$"])
def test_c11_a_catastrophic_pattern_stays_quick(pattern: str) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}}
    texts = random.Random(7)
    text = "".join(texts.choice("ab") for _ in range(60_000)) + "!"
    fits, said = asked(schema, {"a": text}, size=len(text))
    assert (fits, said) == (False, "/arguments/a: pattern")
    assert asked(schema, {"a": text * 16}) == (False, TOO_LARGE)


def test_c11_a_pattern_counts_only_the_texts_it_can_meet() -> None:
    """A large text beside a name that has a pattern is what files and mails are made of."""
    schema = {
        "type": "object",
        "properties": {
            "path": {"type": "string", "pattern": "^/[a-z/]+$"},
            "tags": {"items": {"allOf": [{"$ref": "#/$defs/tag"}]}},
            "text": {"type": "string"},
        },
        "$defs": {"tag": {"pattern": "^[a-z]+$"}},
    }
    large = "x" * 900_000
    assert asked(schema, {"path": "/a", "tags": ["a"], "text": large}) == (True, "")
    assert asked(schema, {"path": "/a", "tags": ["A"], "text": large}) == (
        False, "/arguments/tags/0: pattern",
    )  # fmt: skip
    assert asked(schema, {"path": "/a", "tags": [[large]], "text": ""}) == (False, TOO_LARGE)
    assert asked(schema, {"path": "/" + large, "text": ""}) == (False, TOO_LARGE)
    names = {"type": "object", "patternProperties": {"^(a|b)+$": {}}, "additionalProperties": False}
    assert asked(names, {"ab": 1}) == (True, "")
    assert asked(names, {"a" * 900_000: 1}) == (False, TOO_LARGE)
    others = {"type": "object", "additionalProperties": {"pattern": "^(a|b)+$"}}
    assert asked(others, {"x": large}) == (False, TOO_LARGE)


def test_c11_many_values_under_a_costly_schema_are_too_large() -> None:
    """The same steps by length of a list, by what is compared, by what is divided."""
    listed = [{"x": number} for number in range(2000)]
    assert asked({"type": "object", "properties": {"a": {"items": {"enum": listed}}}},
                 {"a": [{"x": 1999}] * 20_000}) == (False, TOO_LARGE)  # fmt: skip
    assert asked({"type": "object", "properties": {"a": {"items": {"multipleOf": 0.01}}}},
                 {"a": [1e300] * 100_000}) == (False, TOO_LARGE)  # fmt: skip
    plain = {"type": "object", "properties": {"a": {"items": {"type": "integer"}}}}
    assert asked(plain, {"a": [1] * 400_000}) == (True, "")
    assert asked(plain, {"a": [*[1] * 400_000, "x"]}) == (
        False,
        "/arguments/a/400000: type integer",
    )


def test_c11_wide_and_long_schemas_are_made_and_used_in_time() -> None:
    wide = {f"p{number}": {"$ref": "#/$defs/n"} for number in range(1800)}
    ring = {f"d{n}": {"items": {"$ref": f"#/$defs/d{(n + 1) % 1000}"}} for n in range(1000)}
    chained: dict[str, Any] = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(1500)}
    chained["d1500"] = {"type": "object"}
    for schema in (
        {"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties": wide}}},
        {"$ref": "#/$defs/d0", "$defs": ring},
        {"$ref": "#/$defs/d0", "$defs": chained},
        {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(2000)}},
    ):
        begun = time.process_time()
        made = of(schema)
        assert time.process_time() - begun < 2 * TIME_MAX_S
        assert made.fits({}, 2)


def test_c11_what_describes_contents_is_not_read_anew_for_each_schema() -> None:
    """The library parses the text once for each of them: ten seconds for a thousand."""
    looks = [{"contentMediaType": "application/json", "title": str(n)} for n in range(1000)]
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema",
        "type": "object",
        "properties": {"t": {"allOf": looks}},
    }
    text = f"[{','.join(['[]'] * 300_000)}]"
    assert asked(schema, {"t": text}) == (True, "")


def test_c11_the_bound_is_never_below_what_is_done() -> None:
    """Bodies below `free_bytes` are not measured: whatever stands in them must be affordable."""
    random_ = random.Random(11)
    for _ in range(300):
        made = of(_schema(random_, 4))
        arguments = {"a": _value(random_, 5), "b": _value(random_, 5)}
        size = len(json.dumps(arguments, separators=(",", ":")))
        if size <= made._cost.free_bytes:
            assert made._cost.steps(arguments) <= STEPS_MAX


def _schema(random_: random.Random, depth: int) -> dict[str, Any]:
    if depth == 0:
        return random_.choice([{"type": "string", "pattern": "^a"}, {"enum": [1, "a"]}, {}])
    inner = [_schema(random_, depth - 1) for _ in range(2)]
    return random_.choice(
        [
            {"properties": {"a": inner[0], "b": inner[1]}},
            {"additionalProperties": inner[0], "patternProperties": {"^b": inner[1]}},
            {"items": inner[0]},
            {"prefixItems": inner, "contains": inner[0]},
            {"allOf": inner},
            {"propertyNames": {"pattern": "^[ab]$"}, "anyOf": inner},
        ]
    )


def _value(random_: random.Random, depth: int) -> Any:
    if depth == 0 or random_.random() < 0.2:
        return random_.choice([1, "a", "é" * 9, None, 2.5])
    if random_.random() < 0.5:
        return [_value(random_, depth - 1) for _ in range(random_.randrange(4))]
    return {name: _value(random_, depth - 1) for name in "ab"[: random_.randrange(3)]}
