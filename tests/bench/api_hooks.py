"""What schemathesis is told beside the document: a cursor is what an answer gave, never made up.

Cursors of hostile make are tried by tests/unit/api/test_api_injection.py.
"""

import schemathesis


@schemathesis.hook
def map_query(context, query):  # type: ignore[no-untyped-def]
    """The query without a cursor that nobody gave."""
    if query:
        query.pop("cursor", None)
    return query


@schemathesis.hook
def before_call(context, case, kwargs):  # type: ignore[no-untyped-def]
    """The same for requests that were not generated but enumerated."""
    if case.query:
        case.query.pop("cursor", None)
