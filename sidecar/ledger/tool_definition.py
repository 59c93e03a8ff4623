"""What an MCP server says of a tool, as far as it is pinned, and its hash.

Knows: the members that tell a model and a client what a tool is and takes: name, title,
description, schemas, annotations. Icons, `_meta` and the like may change freely. What cannot be
read or kept is something else than whatever was pinned. Of a tool that a server tells clients of
two eras in two ways both are one definition.
Must not know: lists, pins, what follows from a difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple

import orjson

from sidecar.ledger.jcs import jcs
from sidecar.ledger.output_eras import told_otherwise

MEMBERS: Final = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")
#: No member that is pinned.
_UNKNOWN: Final = "unreadable"


class Definition(NamedTuple):
    """`text` is the RFC 8785 form of the pinned members, but for integers of up to 64 bits, which
    have all their digits; `sha256` is its hash in lower-case hex. Of what nobody can read or keep
    `is_unknown` is set, and `text` says why in the place of what it is."""

    tool: str
    text: str
    sha256: str
    is_unknown: bool = False
    #: The hash of the same as a client of the other era is told it; "" where that is no other.
    twin_sha256: str = ""

    def is_what(self, sha256: str) -> bool:
        """Whether this is the definition of this hash, to a client of either era."""
        return self.sha256 == sha256 or (self.twin_sha256 == sha256 and bool(sha256))


def unknown_definition(tool: str, why: str) -> Definition:
    """What stands for a definition that cannot be read, or is too long to be kept."""
    text = jcs({"name": tool, _UNKNOWN: why})
    return Definition(tool, text.decode(), sha256(text).hexdigest(), True)


def why_unknown(text: str) -> str:
    """Why a definition of this text could not be read or kept; "" of any other."""
    said = orjson.loads(text).get(_UNKNOWN, "") if text else ""
    return said if isinstance(said, str) else ""


def definition_of(tool: Mapping[str, Any]) -> Definition:
    """What is pinned of one item of a `tools/list` result, whose `name` is a text. A member that
    is null is as good as absent. Raises NotCanonical."""
    told = {name: tool[name] for name in MEMBERS if tool.get(name) is not None}
    text = jcs(told, has_long_integers=True)
    twin = ""
    other = told_otherwise(told.get("outputSchema"))
    if other is not None:
        twin = sha256(jcs({**told, "outputSchema": other}, has_long_integers=True)).hexdigest()
    return Definition(tool["name"], text.decode(), sha256(text).hexdigest(), twin_sha256=twin)
