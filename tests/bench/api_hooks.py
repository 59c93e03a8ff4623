"""What schemathesis is told beside the document.

A cursor is what an answer gave, never made up: those of hostile make are tried by
tests/unit/api/test_api_injection.py. And no answer may show what is the other tenant's, whose
names stand in AEGIS_FOREIGN.
"""

import os

import schemathesis

FOREIGN = os.environ.get("AEGIS_FOREIGN", "").split()


@schemathesis.hook
def map_query(context, query):  # type: ignore[no-untyped-def]
    """The query without a cursor that nobody gave."""
    if query:
        query.pop("cursor", None)
    return query


SAFE_INTEGER = 2**53


def within(value):  # type: ignore[no-untyped-def]
    """The value with integers that JSON readers agree on: a schema cannot tell 1e300 from the same
    number written with 301 digits, and only the first is taken. And without NUL, which only a
    schema that names itself could forbid at every depth: the document says so in words."""
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, dict):
        return {name.replace("\0", ""): within(one) for name, one in value.items()}
    if isinstance(value, list):
        return [within(one) for one in value]
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return value % SAFE_INTEGER if is_integer and abs(value) > SAFE_INTEGER else value


@schemathesis.hook
def map_body(context, body):  # type: ignore[no-untyped-def]
    """What is asked to be authorized, with such parameters."""
    call = body.get("tool_call") if isinstance(body, dict) else None
    if isinstance(call, dict) and "parameters" in call:
        return {**body, "tool_call": {**call, "parameters": within(call["parameters"])}}
    return body


@schemathesis.hook
def before_call(context, case, kwargs):  # type: ignore[no-untyped-def]
    """The same for requests that were not generated but enumerated."""
    if case.query:
        case.query.pop("cursor", None)


@schemathesis.hook
def after_call(context, case, response):  # type: ignore[no-untyped-def]
    """Fails for an answer that shows what is another tenant's."""
    for name in FOREIGN:
        assert name.encode() not in response.content, f"{name} is the other tenant's"
