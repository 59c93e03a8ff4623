"""Making a catalogue of an OpenAPI document, and loading it, for the tests of `tools import`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sidecar.cli.catalogue_text import Draft
from sidecar.cli.tools_openapi import survey
from sidecar.cli.tools_openapi_catalogue import render_openapi
from sidecar.policy.abilities import WHOLE
from sidecar.policy.catalogue import Catalogue
from sidecar.policy.load import Source, load_policies
from sidecar.policy.openapi import Document
from sidecar.policy.openapi_text import parse_document
from sidecar.problems import errors_only

CASES = Path(__file__).parents[2] / "cases" / "openapi"


def imported(document: Any, url: str = "https://shop.example/v2") -> Draft:
    """The draft of a document: bytes, or data to be written as JSON."""
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return render_openapi("shop", url, survey(Document(parse_document(data))))


def loaded(draft: Draft) -> Catalogue:
    """The catalogue in a draft, which must load without an error and hold all it says."""

    def read_file(source: str, path: str) -> bytes:
        raise AssertionError(f"{source} names {path}")

    found = load_policies(
        [Source("shop.yaml", draft.text.encode())],
        upstreams={"shop": "rest"},
        default="deny",
        read_file=read_file,
        has=WHOLE,
    )
    problems = errors_only(found.problems)
    assert not problems and found.policy_set is not None, problems
    assert len(found.policy_set.catalogue.tools) == draft.tool_count
    return found.policy_set.catalogue
