"""Spans are made only where the standard's variables ask for them, as the call's way noted them,
and hold nothing that a caller made up."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from sidecar.telemetry.logs import Logs
from sidecar.telemetry.opentelemetry_spans import OpenTelemetrySpans, are_wanted, spans_of
from sidecar.telemetry.spans import STAGES_MAX, CallSpan, Stages

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


def call(stages: Stages, **changes: object) -> CallSpan:
    made = CallSpan(
        call_id="c1", upstream="shop", tool="shop/refund", method="POST", tenant="acme",
        agent="coder", http_status=200, outcome="completed", begin_ns=1_000, end_ns=9_000,
        began_at_us=1_700_000_000_000_000, stages=stages,
        traceparent=f"00-{TRACE}-{PARENT}-01", tracestate="vendor=x",
    )  # fmt: skip
    return made._replace(**changes)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> Iterator[OpenTelemetrySpans]:
    made = OpenTelemetrySpans({}, exporter)
    yield made
    made.close()


def told(
    spans: OpenTelemetrySpans, exporter: InMemorySpanExporter, *calls: CallSpan
) -> list[ReadableSpan]:
    for one in calls:
        spans.tell(one)
    spans._provider.force_flush()
    return list(exporter.get_finished_spans())


def test_a_call_is_a_span_within_the_callers_with_one_for_each_stage(
    spans: OpenTelemetrySpans, exporter: InMemorySpanExporter
) -> None:
    stages = Stages(effect="allow", rule="demo/reads")
    stages.passes("judge", 2_000, 3_000)
    stages.passes("record", 3_000, 5_000)
    judge, record, whole = told(spans, exporter, call(stages))
    assert [judge.name, record.name, whole.name] == ["judge", "record", "call shop/refund"]
    assert f"{whole.context.trace_id:032x}" == TRACE
    assert whole.parent is not None and f"{whole.parent.span_id:016x}" == PARENT
    assert judge.parent == record.parent == whole.context
    begin = 1_700_000_000_000_000_000
    assert (whole.start_time, whole.end_time) == (begin, begin + 8_000)
    assert (record.start_time, record.end_time) == (begin + 2_000, begin + 4_000)
    assert dict(whole.attributes or {}) == {
        "aegis.call_id": "c1", "aegis.upstream": "shop", "aegis.tool": "shop/refund",
        "aegis.tenant": "acme", "aegis.agent": "coder", "aegis.effect": "allow",
        "aegis.rule": "demo/reads", "aegis.outcome": "completed", "http.request.method": "POST",
        "http.response.status_code": 200,
    }  # fmt: skip
    assert whole.status.is_unset
    assert whole.resource.attributes["service.name"] == "aegis-sidecar"


def test_a_refusal_is_an_error_with_its_code(
    spans: OpenTelemetrySpans, exporter: InMemorySpanExporter
) -> None:
    stages = Stages(effect="deny", rule="demo/no", refused="policy_deny")
    (whole,) = told(spans, exporter, call(stages, http_status=None, outcome=""))
    assert not whole.status.is_ok and not whole.status.is_unset
    assert whole.attributes is not None
    assert whole.attributes["error.type"] == whole.attributes["aegis.refusal"] == "policy_deny"
    assert "aegis.outcome" not in whole.attributes


@pytest.mark.parametrize(("status", "is_error"), [(404, False), (500, True), (503, True)])
def test_an_answer_that_says_that_the_tool_failed_is_an_error(
    spans: OpenTelemetrySpans, exporter: InMemorySpanExporter, status: int, is_error: bool
) -> None:
    """As the conventions for HTTP have it; tools for traces find failures by that."""
    (whole,) = told(spans, exporter, call(Stages(effect="allow"), http_status=status))
    assert (whole.status.status_code.name == "ERROR") == is_error
    assert (whole.attributes or {}).get("error.type") == (str(status) if is_error else None)
    assert (whole.attributes or {})["http.response.status_code"] == status


@pytest.mark.parametrize(
    "traceparent",
    ["", "x", f"ff-{TRACE}-{PARENT}-01", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{PARENT}"],
)
def test_without_a_valid_context_a_call_begins_a_trace(
    spans: OpenTelemetrySpans, exporter: InMemorySpanExporter, traceparent: str
) -> None:
    (whole,) = told(spans, exporter, call(Stages(), traceparent=traceparent))
    assert whole.parent is None and f"{whole.context.trace_id:032x}" != TRACE


def test_what_its_caller_does_not_sample_is_not_told(
    spans: OpenTelemetrySpans, exporter: InMemorySpanExporter
) -> None:
    unsampled = call(Stages(), traceparent=f"00-{TRACE}-{PARENT}-00")
    assert told(spans, exporter, unsampled) == []
    assert len(told(spans, exporter, call(Stages()))) == 1


def test_a_method_that_nobody_knows_is_not_repeated(
    spans: OpenTelemetrySpans, exporter: InMemorySpanExporter
) -> None:
    (whole,) = told(spans, exporter, call(Stages(), method="HUNTER-TWO"))
    assert whole.attributes is not None
    assert whole.attributes["http.request.method"] == "_OTHER"


def test_stages_are_bounded() -> None:
    stages = Stages()
    for number in range(STAGES_MAX + 5):
        stages.passes("judge", number, number)
    assert len(stages.passed) == STAGES_MAX


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_EXPORTER": "otlp"}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "true"}, False),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
    ],
)
def test_the_standard_variables_say_whether_they_are_wanted(
    environ: dict[str, str], wanted: bool
) -> None:
    assert are_wanted(environ) is wanted
    if not wanted:
        assert spans_of(environ) is None


def said(environ: dict[str, str]) -> tuple[object, list[str]]:
    stream = io.StringIO()
    logs = Logs(monotonic_ns=time.perf_counter_ns, stream=stream)
    try:
        made = spans_of(environ)
    finally:
        logs.stop()
    return made, [json.loads(line)["event"] for line in stream.getvalue().splitlines()]


def test_what_is_asked_for_and_cannot_be_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    made, events = said({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
    assert (made, events) == (None, ["spans are not sent: the protocol is not known"])
    made, events = said({**ENDPOINT, "OTEL_TRACES_EXPORTER": "zipkin"})
    assert (made, events) == (None, ["spans are not sent: the exporter is not known"])
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    made, events = said(ENDPOINT)
    assert made is None
    assert events == ["spans are asked for and cannot be made: install aegis-sidecar[otel]"]


def test_the_library_is_imported_only_where_spans_are_wanted() -> None:
    code = (
        "import sys, sidecar.app; from sidecar.telemetry.opentelemetry_spans import spans_of; "
        "assert spans_of({}) is None; "
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_a_failing_library_does_not_fail_the_call(spans: OpenTelemetrySpans) -> None:
    broken = call(Stages(), began_at_us=None)
    with pytest.raises(TypeError):
        spans._tell(broken)
    spans.tell(broken)


def test_a_collector_that_is_not_there_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", ENDPOINT["OTEL_EXPORTER_OTLP_ENDPOINT"])
    spans = spans_of(ENDPOINT)
    assert spans is not None
    begun = time.monotonic()
    spans.tell(call(Stages()))
    assert time.monotonic() - begun < 1
    spans.close()
    assert time.monotonic() - begun < 10
