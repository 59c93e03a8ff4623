"""What may be told of a visit that has ended to whoever keeps traces.

Knows: what of a call is a configured name. What an agent may have made up (an undeclared tool, a
path) has the name that rules know it by.
Must not know: who keeps traces.
"""

from __future__ import annotations

from sidecar.clock import Clock
from sidecar.proxy.head import RequestHead
from sidecar.proxy.visit import Visit
from sidecar.telemetry.spans import FORWARD, CallSpan, Stages

UNKNOWN = "unknown"


def call_span(visit: Visit, stages: Stages, head: RequestHead, clock: Clock) -> CallSpan:
    """The call, as it was from the arrival of its head until now."""
    now_ns, now_us = clock.monotonic_ns(), clock.now_us()
    if visit.forwarding_ns:
        stages.passes(FORWARD, visit.forwarding_ns, visit.answered_ns or now_ns)
    upstream = visit.upstream.name if visit.upstream is not None else UNKNOWN
    call, principal = visit.call, visit.principal
    is_declared = call is not None and call.tool.declared
    return CallSpan(
        call_id=visit.call_id,
        upstream=upstream,
        tool=call.tool.name if call is not None and is_declared else f"{upstream}/{UNKNOWN}",
        method=head.method,
        tenant=principal.tenant if principal is not None else "",
        agent=principal.agent if principal is not None else "",
        http_status=visit.http_status,
        outcome=visit.ended.value if visit.ended is not None else "",
        begin_ns=visit.started_ns,
        end_ns=now_ns,
        began_at_us=now_us - (now_ns - visit.started_ns) // 1000,
        stages=stages,
        traceparent=head.first.get("traceparent", ""),
        tracestate=head.first.get("tracestate", ""),
    )
