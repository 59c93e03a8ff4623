"""Spans of OpenTelemetry, for who asks for them by the variables of that standard.

Knows: which variables ask for spans, and that the library is an extra (`aegis-sidecar[otel]`) which
is imported only then. A span for a call and one for each stage of it are made once the call has
ended, with the times it noted; a thread of the library sends them.
Must not know: what a call's way does, or what is in a call beside `CallSpan`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import sidecar
from sidecar.telemetry.spans import CallSpan, Spans

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

_log = logging.getLogger("aegis.traces")

#: Either of them says where spans go, and so that they are wanted.
ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL: Final = "http/protobuf"
EXPORTER: Final = "otlp"
SERVICE: Final = "aegis-sidecar"
TIMEOUTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
#: How long a batch is tried, the last one when the sidecar stops too, unless a variable says more.
SEND_S: Final = 3.0
_PREFIX: Final = "aegis."
#: From this status on the conventions call what a server says an error.
SERVER_ERROR: Final = 500
#: Any other is said as the conventions say it, for a caller may have made it up.
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def are_wanted(environ: Mapping[str, str]) -> bool:
    """Whether the environment asks for spans: it names an endpoint, and nothing says no."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if _exporter(environ) == "none":
        return False
    return any(environ.get(name, "").strip() for name in ENDPOINTS)


def _exporter(environ: Mapping[str, str]) -> str:
    return environ.get("OTEL_TRACES_EXPORTER", "").strip() or EXPORTER


def spans_of(environ: Mapping[str, str]) -> Spans | None:
    """Where spans go, None where nobody asked for any. What was asked for and cannot be is said in
    the log; calls go on without."""
    if not are_wanted(environ):
        return None
    if _exporter(environ) != EXPORTER:
        _log.warning("spans are not sent: the exporter is not known", extra={"detail": EXPORTER})
        return None
    protocol = next((environ[name] for name in PROTOCOLS if environ.get(name)), PROTOCOL)
    if protocol != PROTOCOL:
        _log.warning("spans are not sent: the protocol is not known", extra={"detail": PROTOCOL})
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        _log.warning("spans are asked for and cannot be made: install aegis-sidecar[otel]")
        return None
    timeout_s = None if any(environ.get(name) for name in TIMEOUTS) else SEND_S
    return OpenTelemetrySpans(environ, OTLPSpanExporter(timeout=timeout_s))


class OpenTelemetrySpans:
    """Makes spans of calls; `exporter` gets them in batches, on a thread of the library."""

    def __init__(self, environ: Mapping[str, str], exporter: SpanExporter) -> None:
        from opentelemetry import trace
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = _provider(environ)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(SERVICE, sidecar.__version__)
        self._inside = trace.set_span_in_context
        self._kinds = trace.SpanKind
        self._error = trace.Status(trace.StatusCode.ERROR)
        self._propagator = TraceContextTextMapPropagator()

    def tell(self, call: CallSpan) -> None:
        """A span of the call, a child of the caller's if it named one, with one for each stage."""
        try:
            self._tell(call)
        except Exception:  # a library that fails on a span must not fail the call
            _log.exception("a span could not be made", extra={"call_id": call.call_id})

    def _tell(self, call: CallSpan) -> None:
        came_with = {"traceparent": call.traceparent, "tracestate": call.tracestate}
        parent = self._propagator.extract({name: text for name, text in came_with.items() if text})
        offset_ns = call.began_at_us * 1000 - call.begin_ns
        span = self._tracer.start_span(
            f"call {call.tool}",
            parent,
            kind=self._kinds.SERVER,
            attributes=_attributes(call),
            start_time=call.begin_ns + offset_ns,
        )
        if span.is_recording():
            if call.stages.refused or (call.http_status or 0) >= SERVER_ERROR:
                span.set_status(self._error)
            within = self._inside(span)
            for stage in call.stages.passed:
                part = self._tracer.start_span(
                    stage.name, within, start_time=stage.begin_ns + offset_ns
                )
                part.end(stage.end_ns + offset_ns)
        span.end(call.end_ns + offset_ns)

    def close(self) -> None:
        """Hands on what is left, for some seconds at most. Blocks."""
        self._provider.shutdown()


def _provider(environ: Mapping[str, str]) -> TracerProvider:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    named = "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    attributes = {"service.version": sidecar.__version__}
    if not named and not environ.get("OTEL_SERVICE_NAME"):
        attributes["service.name"] = SERVICE
    # Nothing at exit of its own: the sidecar closes it in its order.
    return TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)


def _attributes(call: CallSpan) -> dict[str, Any]:
    said = {
        "call_id": call.call_id,
        "upstream": call.upstream,
        "tool": call.tool,
        "tenant": call.tenant,
        "agent": call.agent,
        "effect": call.stages.effect,
        "rule": call.stages.rule,
        "refusal": call.stages.refused,
        "outcome": call.outcome,
    }
    attributes: dict[str, Any] = {_PREFIX + name: value for name, value in said.items() if value}
    attributes["http.request.method"] = call.method if call.method in METHODS else "_OTHER"
    if call.stages.refused:
        attributes["error.type"] = call.stages.refused
    elif call.http_status is not None:
        attributes["http.response.status_code"] = call.http_status
        if call.http_status >= SERVER_ERROR:
            attributes["error.type"] = str(call.http_status)
    return attributes
