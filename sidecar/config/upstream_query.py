"""What the sidecar adds to the address of each request to an MCP server: `?tenant=acme&key=…`.

Knows: that an agent has no query of its own there, so that nothing of its can stand beside these
or in their place; that a value is text, or a reference where it is a secret, and that what has the
name of a secret is one.
Must not say: a secret, in any message.
"""

from __future__ import annotations

import re
from typing import Final

from sidecar.config.model import QueryPart, Secret
from sidecar.config.references import References
from sidecar.yaml_section import Section

#: Parts of one query, and what they are together, in characters as they are sent.
PARTS_MAX: Final = 16
LENGTH_MAX: Final = 4096

_NAME: Final = re.compile(r"[A-Za-z0-9._~-]{1,64}")
_OF_A_SECRET: Final = re.compile(
    r"key|token|secret|passw|pwd|credential|signature|auth(?!or)", re.IGNORECASE
)


def read_query(upstream: Section, references: References) -> tuple[QueryPart, ...]:
    """The parts in their order; each wrong one is a problem where it stands."""
    node = upstream.members.get("query")
    if node is None:
        return ()
    section = upstream.sub("query")
    found: list[QueryPart] = []
    for name in section.members:
        if not _NAME.fullmatch(name):
            section.report(
                section.members[name],
                f"{section.path}: not a name of a query: letters, digits, . _ ~ -",
                at_key=True,
            )
        elif (part := _part(section, name, references)) is not None:
            found.append(part)
    if len(found) > PARTS_MAX or sum(len(part.sent) + 1 for part in found) > LENGTH_MAX:
        section.report(
            node,
            f"{section.path}: more than {PARTS_MAX} parts, or than {LENGTH_MAX} characters in all",
        )
        return ()
    return tuple(found)


def _part(section: Section, name: str, references: References) -> QueryPart | None:
    node = section.members[name]
    if node.is_mapping or _OF_A_SECRET.search(name):
        secret = references.secret(section, name)
        return None if secret is None else QueryPart(name=name, value=secret, is_secret=True)
    if not isinstance(node.value, str):
        section.report(node, f"{section.key(name)}: must be text; quote it")
        return None
    return QueryPart(name=name, value=Secret(node.value), is_secret=False)
