"""What every dialect reads from a request head alike: facts for rules, run id, trace id.

Knows: which headers carry credentials and so never reach a rule or a record, W3C trace context.
Must not know: bodies, tools, what a dialect makes of the rest.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence

from sidecar.errors import Refused
from sidecar.model import HttpFacts
from sidecar.proxy.head import RequestHead, connection_tokens

RUN_ID_LENGTH_MAX = 128

#: Header names that carry a credential, in whole or by the look of them.
_CREDENTIAL = re.compile(
    r"auth(?!or$)|cookie|token|secret|passw|credential|api-?key|access-?key|signature|session|assertion"
)
_RUN_ID = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")


class PublicHeaders(Mapping[str, str]):
    """Request headers as rules may read them; filtered on first use, since few rules do.

    Names are in lower case, values of repeated names are joined by ", "; credentials and the
    sidecar's own headers are left out.
    """

    __slots__ = ("_fields", "_public")

    def __init__(self, fields: Sequence[tuple[str, str]]) -> None:
        self._fields = fields
        self._public: dict[str, str] | None = None

    def as_dict(self) -> dict[str, str]:
        """The headers as one plain dict; the same object each time, not to be changed."""
        if self._public is None:
            self._public = _public(self._fields)
        return self._public

    def __getitem__(self, name: str) -> str:
        return self.as_dict()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.as_dict())

    def __len__(self) -> int:
        return len(self.as_dict())

    def __repr__(self) -> str:
        return f"PublicHeaders({self.as_dict()!r})"


def _public(fields: Sequence[tuple[str, str]]) -> dict[str, str]:
    public: dict[str, str] = {}
    dropped = connection_tokens(fields)  # they end here: the upstream does not see them
    for name, value in fields:
        lower = name.lower()
        if lower in dropped or lower.startswith("aegis-") or _CREDENTIAL.search(lower):
            continue
        public[lower] = f"{public[lower]}, {value}" if lower in public else value
    return public


def http_facts(head: RequestHead) -> HttpFacts:
    """What rules may read of the request itself."""
    public = PublicHeaders(head.headers)
    return HttpFacts(head.method, head.path, head.query, head.source_ip, public)


def run_id(head: RequestHead) -> str | None:
    """The id the caller groups its calls by: `Aegis-Run`, else its MCP session.

    A session id works like a credential at many servers, so it stands here as a digest.
    Raises Refused("malformed_request") for an `Aegis-Run` that is no short printable text.
    """
    named = head.first.get("aegis-run")
    if named is not None:
        if len(named) > RUN_ID_LENGTH_MAX or not _RUN_ID.fullmatch(named):
            raise Refused(
                "malformed_request",
                f"Aegis-Run must be 1 to {RUN_ID_LENGTH_MAX} printable ASCII characters",
            )
        return named
    session = head.first.get("mcp-session-id")
    if session is None:
        return None
    return "mcp-" + hashlib.sha256(session.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def trace_id(head: RequestHead) -> str | None:
    """The trace id of a valid W3C `traceparent`, else None: an invalid one is as if absent."""
    text = head.first.get("traceparent")
    if text is None:
        return None
    match = _TRACEPARENT.fullmatch(text)
    if match is None:
        return None
    version, trace, parent, more = match.groups()
    if version == "ff" or (version == "00" and more) or not trace.strip("0"):
        return None
    return trace if parent.strip("0") else None
