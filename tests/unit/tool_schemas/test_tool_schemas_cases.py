"""Schemas of tools as servers write them, well or ill: what fits, what is said, what is unused."""

from __future__ import annotations

import json
import select
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from sidecar.tool_schemas import check
from sidecar.tool_schemas.check import Check, Unchecked, checked
from sidecar.tool_schemas.reading import (
    PATTERNS_MAX,
    SCHEMA_DEPTH_MAX,
    SUBSCHEMAS_MAX,
    Unusable,
)

CASES = json.loads(
    (Path(__file__).parents[2] / "cases" / "mcp" / "input_schemas.json").read_text("utf-8")
)


def of(schema: Any) -> Check | Unchecked:
    return checked(json.dumps({"name": "tool", "inputSchema": schema}))


def named(kind: str) -> list[Any]:
    return [pytest.param(one, id=one["name"]) for one in CASES[kind]]


def require(made: Check | Unchecked, arguments: Any, says: str) -> None:
    """Fits and misfit are of one mind, and the place is the expected one."""
    assert isinstance(made, Check), made.left_out
    assert made.fits(arguments, 100) is not bool(says)
    said = made.misfit(arguments)
    assert said.startswith(says) and bool(said) is bool(says), said


@pytest.mark.parametrize("case", named("held"))
def test_c11_arguments_fit_their_schema_or_the_place_is_named(case: dict[str, Any]) -> None:
    made = of(case["schema"])
    require(made, case["arguments"], case["says"])
    assert made.left_out == ""


@pytest.mark.parametrize("case", named("partly"))
def test_c11_what_cannot_be_checked_is_left_out_and_said(case: dict[str, Any]) -> None:
    made = of(case["schema"])
    require(made, case["arguments"], case["says"])
    assert made.left_out == case["left_out"]


@pytest.mark.parametrize("case", named("unusable"))
def test_c11_a_schema_that_leads_out_or_has_no_bound_is_not_used(case: dict[str, Any]) -> None:
    begun = time.process_time()
    made = of(case["schema"])
    assert time.process_time() - begun < 1
    assert isinstance(made, Unchecked) and case["why"] in made.left_out, made.left_out
    assert not made.fits({}, 2) and made.misfit({}) == ""


def test_c11_no_value_of_the_arguments_stands_in_what_is_said() -> None:
    """Whatever does not fit, and wherever: the words of the schema alone."""
    for case in CASES["held"]:
        made = of(case["schema"])
        said = made.misfit(case["arguments"])
        values = [str(one) for one in case["arguments"].values() if type(one) is str]
        assert not [one for one in values if len(one) > 3 and one in said], said
        assert "secret" not in said and "evil" not in said


def test_c11_what_is_said_is_short() -> None:
    schema: dict[str, Any] = {"type": "string"}
    arguments: Any = 1
    for _ in range(30):
        schema = {"type": "object", "properties": {"a" * 40: schema}}
        arguments = {"a" * 40: arguments}
    said = of(schema).misfit(arguments)
    assert said.endswith("…: type string") and len(said) < 200
    long = of({"type": "object", "required": ["n" * 500]}).misfit({})
    assert long == "/arguments: required " + "n" * 40


def test_c11_limits_of_a_schema() -> None:
    def nested(depth: int) -> dict[str, Any]:
        schema: dict[str, Any] = {}
        for _ in range(depth):
            schema = {"not": schema}
        return schema

    wide = {f"p{number}": {} for number in range(SUBSCHEMAS_MAX - 1)}
    patterns = {f"p{number}": {"pattern": f"^a{number}$"} for number in range(PATTERNS_MAX)}
    assert of(nested(SCHEMA_DEPTH_MAX - 1)).left_out == ""
    assert "nested deeper" in of(nested(SCHEMA_DEPTH_MAX)).left_out
    assert of({"properties": wide}).left_out == ""
    assert "schemas" in of({"properties": {**wide, "more": {}}}).left_out
    assert of({"properties": patterns}).left_out == ""
    assert "patterns" in of({"properties": {**patterns, "more": {"pattern": "b"}}}).left_out
    about = {"description": "x" * (check.SCHEMA_LENGTH_MAX - 100)}
    assert isinstance(of(about), Check)
    assert "longer than" in of({**about, "title": "y" * 200}).left_out
    beside = json.dumps({"inputSchema": {}, "description": "x" * check.SCHEMA_LENGTH_MAX})
    assert isinstance(checked(beside), Check), "only the schema counts"


class PanicException(BaseException):
    """As the library's own would be, which nothing real brings about."""


PanicException.__module__ = "pyo3_runtime"


def test_c11_a_fault_inside_the_library_is_an_error_like_any() -> None:
    class Faulty:
        def is_valid(self, instance: object) -> bool:
            raise PanicException("index out of bounds")

        validate = is_valid

    made = of({"type": "object"})
    assert isinstance(made, Check) and made.fits({}, 2), "positive control"
    made._validator = Faulty()  # type: ignore[assignment]
    for ask in (lambda: made.fits({}, 2), lambda: made.misfit({})):
        with pytest.raises(RuntimeError, match="index out of bounds"):
            ask()


def test_c11_a_schema_the_library_fails_on_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    import jsonschema_rs

    def faulty(*_: object, **__: object) -> None:
        raise PanicException("index out of bounds")

    monkeypatch.setattr(jsonschema_rs, "Draft202012Validator", faulty)
    made = of({"type": "object"})
    assert isinstance(made, Unchecked) and made.left_out == "the library failed on it"


def test_c11_the_library_fetches_nothing_whatever_reaches_it() -> None:
    """The second line: what the reading lets through by mistake is not fetched either."""
    import jsonschema_rs

    with socket.create_server(("127.0.0.1", 0)) as listening:

        def is_asked(wait_s: float) -> bool:
            return bool(select.select([listening], [], [], wait_s)[0])

        leads_out = {"$ref": f"http://127.0.0.1:{listening.getsockname()[1]}/s.json"}
        with pytest.raises(Unusable):
            check._validator("Draft202012Validator", leads_out)
        assert not is_asked(0.2)
        hasty = jsonschema_rs.HttpOptions(timeout=0.2)
        with pytest.raises(ValueError, match=r"s\.json"):
            jsonschema_rs.Draft202012Validator(leads_out, http_options=hasty)
        assert is_asked(5), "positive control: by itself it does"
