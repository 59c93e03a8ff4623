"""What an MCP server says of a tool, as far as it is pinned, and its hash.

Knows: the members that tell a model and a client what a tool is and takes: name, title,
description, schemas, annotations. Icons, `_meta` and the like may change freely.
Must not know: lists, pins, what follows from a difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple

from sidecar.ledger.jcs import jcs

MEMBERS: Final = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")


class Definition(NamedTuple):
    """`text` is the RFC 8785 form of the pinned members, but for integers of up to 64 bits, which
    have all their digits; `sha256` is its hash in lower-case hex."""

    tool: str
    text: str
    sha256: str


def definition_of(tool: Mapping[str, Any]) -> Definition:
    """What is pinned of one item of a `tools/list` result, whose `name` is a text. A member that
    is null is as good as absent. Raises NotCanonical."""
    told = {name: tool[name] for name in MEMBERS if tool.get(name) is not None}
    text = jcs(told, has_long_integers=True)
    return Definition(tool["name"], text.decode(), sha256(text).hexdigest())
