"""All routes of the API, in the order in which they are tried and described.

A route is added in the file of its subject and is then served, authorised, described and tested.
"""

from __future__ import annotations

import json
from typing import Any, Final

from sidecar.control.api import (
    agents,
    alerts,
    approvals,
    audit,
    checkpoints,
    containments,
    decisions,
    explaining,
    incidents,
    keys,
    overview,
    policies,
    receipts,
    run_calls,
    shadow,
    sinks,
    soc_summary,
    tools,
    verifying,
)
from sidecar.control.api.openapi import Described, document
from sidecar.control.api.route import READERS, Asked, Route


async def get_document(asked: Asked) -> bytes:
    """The document of these very routes, and of what is served beside them."""
    return asked.rooms.document()


def written_document(beside: Described) -> bytes:
    """The document as it is served."""
    return json.dumps(document(ROUTES, beside)).encode() + b"\n"


_DOCUMENT: Final = Route(
    "get_document", "GET", "/v1/openapi.json", "This document", READERS, get_document,
    dict[str, Any], room=overview.ROOM,
)  # fmt: skip

ROUTES: Final[tuple[Route, ...]] = (
    *decisions.ROUTES,
    *run_calls.ROUTES,
    *verifying.ROUTES,
    *receipts.ROUTES,
    *checkpoints.ROUTES,
    *audit.ROUTES,
    *approvals.ROUTES,
    *alerts.ROUTES,
    *incidents.ROUTES,
    *soc_summary.ROUTES,
    *sinks.ROUTES,
    *agents.ROUTES,
    *containments.ROUTES,
    *tools.ROUTES,
    *policies.ROUTES,
    *shadow.ROUTES,
    *explaining.ROUTES,
    *keys.ROUTES,
    *overview.ROUTES,
    _DOCUMENT,
)
