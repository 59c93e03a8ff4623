"""REST: method and path name an operation of the catalogue, the rest of the request its args.

Knows: routes through the catalogue, where arguments stand in a request. HEAD is judged as the
GET of the same path (it reads the same resource) where no route of its own is declared;
OPTIONS and every other method match routes of their own or are `<upstream>/unknown`.
Must not know: whether a call is allowed, how it is recorded or sent.
"""

from __future__ import annotations

from sidecar.config.model import Limits, Upstream
from sidecar.errors import Refused
from sidecar.model import ToolCall
from sidecar.policy.catalogue import Catalogue, Entry
from sidecar.policy.index import PolicySet
from sidecar.proxy.destination import DESTINATION, MOVING_METHODS, with_destination
from sidecar.proxy.dialects.context import http_facts, run_id, trace_id
from sidecar.proxy.dialects.held import HeldReply
from sidecar.proxy.dialects.reply import WholeReply, problem_reply
from sidecar.proxy.dialects.rest_arguments import gather
from sidecar.proxy.dialects.rest_disguises import refuse_other_method
from sidecar.proxy.head import RequestHead
from sidecar.proxy.headers import forward_headers
from sidecar.proxy.websocket_handshake import offered


class RestDialect:
    """Reads requests to a REST upstream and words refusals as problem details."""

    def read_call(
        self,
        head: RequestHead,
        body: bytes,
        upstream: Upstream,
        policy_set: PolicySet,
        limits: Limits,
        call_id: str,
    ) -> ToolCall:
        """The call in this request; raises Refused for what cannot be judged unambiguously."""
        refuse_other_method(head)
        entry, path_values = _match(policy_set.catalogue, upstream.name, head)
        headers = forward_headers(head, upstream)
        if head.method in MOVING_METHODS and DESTINATION in head.first:
            headers = with_destination(headers, head, upstream)
        if head.is_handshake:
            if not entry.websocket:
                raise Refused("upgrade_refused")
            headers = offered(headers)
        return ToolCall(
            call_id=call_id,
            tool=entry.tool,
            action=head.method,
            args=gather(head, body, path_values, entry.args, limits),
            http=http_facts(head),
            target=head.target,
            headers=headers,
            body=body,
            dialect="rest",
            run_id=run_id(head),
            trace_id=trace_id(head),
            in_path=path_values,
            upgrades=head.is_handshake,
        )

    def held(self, call: ToolCall) -> HeldReply | None:
        """HTTP has nothing to say before its one reply that every client would hear."""
        return None

    def refusal(
        self,
        refused: Refused,
        call_id: str,
        call: ToolCall | None,
        head: RequestHead | None = None,
    ) -> WholeReply:
        """The refusal as application/problem+json with its own HTTP status."""
        return problem_reply(refused, call_id, call, head)


def _match(catalogue: Catalogue, upstream: str, head: RequestHead) -> tuple[Entry, dict[str, str]]:
    method = head.method
    found = catalogue.match_route(upstream, method, head.segments)
    if found is None and method == "HEAD":
        method = "GET"
        found = catalogue.match_route(upstream, method, head.segments)
    if catalogue.is_in_other_case(upstream, method, head.segments):
        raise Refused("ambiguous_path", "A declared path differs from this in letter case alone")
    return found if found is not None else (catalogue.unknown(upstream), {})
