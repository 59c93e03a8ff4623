"""What clients of this API's contract may ask of the control listener and do not get, and why.

Knows: that an answer which would have to be made up is not given: no upload where files are what
is in force. The answer is the same to everybody, and tells nothing.
Must not know: HTTP libraries, what is served elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_SERVERS: Final = (
    "kept_in_files",
    "MCP servers stand in sidecar.yaml under `upstreams`, and take effect at a start",
)

#: By method and path below /v1, in which `*` is one segment: a code, and the reason.
NOT_HERE: Final[Mapping[tuple[str, tuple[str, ...]], tuple[str, str]]] = {
    ("POST", ("mcp", "servers")): _SERVERS,
    ("POST", ("mcp", "servers", "*", "tools")): (
        "kept_in_files",
        "Tools are pinned to what their server itself says; `tools accept` takes a change over",
    ),
    ("POST", ("mcp", "servers", "*", "quarantine")): (
        "not_built",
        "One server cannot be shut off yet; a deny rule on its tools does it",
    ),
    ("POST", ("mcp", "servers", "*", "restore")): (
        "not_built",
        "One server cannot be shut off yet, so that none is to be restored",
    ),
    ("POST", ("mcp", "servers", "*", "inspect")): (
        "not_built",
        "Nothing inspects what tools return; `redact` masks it where calls pass",
    ),
    ("POST", ("policies",)): (
        "kept_in_files",
        "Policies are files in the folders named under `policies`; a saved file is in force within "
        "seconds, and POST /v1/policies/check says what one would be",
    ),
}
