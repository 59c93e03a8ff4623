"""What Prometheus gets to read: well formed, bounded, complete, and the truth."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import replace

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text
from telemetry_setup import FACTS, make_sources

from sidecar.model import Decision, Effect, OutcomeKind
from sidecar.telemetry.exposition import Exposition
from sidecar.telemetry.metrics import METRICS
from sidecar.telemetry.reference import metrics_table
from sidecar.telemetry.sources import Sources

OPENMETRICS = "application/openmetrics-text;version=1.0.0"
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def render(sources: Sources, accept: str = "") -> tuple[bytes, str]:
    return asyncio.run(Exposition(sources).render(accept))


def scrape(sources: Sources, accept: str = "") -> str:
    return render(sources, accept)[0].decode()


def series_of(text: str) -> Series:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse_text(text)
        for sample in family.samples
    }


def value(series: Series, name: str, **labels: str) -> float:
    return series[(name, tuple(sorted(labels.items())))]


def promtool(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=30
    )


needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here")


@needs_promtool
def test_promtool_finds_nothing_to_say() -> None:
    checked = promtool(scrape(make_sources()))
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@needs_promtool
@pytest.mark.parametrize(
    "bad",
    [
        "# HELP aegis_wait_ms Waiting.\n# TYPE aegis_wait_ms gauge\naegis_wait_ms 1\n",
        "# HELP aegis_calls Calls.\n# TYPE aegis_calls counter\naegis_calls 1\n",
    ],
)
def test_promtool_would_find_a_bad_name(bad: str) -> None:
    assert promtool(scrape(make_sources()) + bad).returncode != 0


def test_every_number_is_the_one_of_its_source() -> None:
    sources = make_sources()
    counters = sources.counters
    counters.decided(Decision(Effect.DENY, "policy_deny", "", "0" * 32), 40_000, "acme")
    counters.refused("policy_deny")
    counters.took("github", 2_000_000, None)
    counters.took("github", 2_000_000, None, 503)
    counters.took("github", 2_000_000, None, 404)
    counters.refused("upstream_timeout", "", "files")
    counters.refused("upstream_busy", "", "nobody configured it")
    counters.intents, counters.forwarded, counters.in_flight = 11, 10, 2
    counters.ended(OutcomeKind.NOT_FORWARDED)
    sources.queue.counters.committed_batch(3, 0.0015)
    sources.queue.counters.committed.rejected["full"] += 4
    series = series_of(scrape(sources))
    assert value(series, "aegis_decisions_total", effect="deny", mode="enforce") == 1
    assert value(series, "aegis_decision_seconds_bucket", le="5e-05") == 1
    assert value(series, "aegis_decision_seconds_sum") == pytest.approx(4e-05)
    assert value(series, "aegis_refusals_total", code="policy_deny") == 1
    assert value(series, "aegis_upstream_seconds_count", upstream="github") == 3
    assert value(series, "aegis_upstream_seconds_bucket", upstream="github", le="0.001") == 0
    assert value(series, "aegis_upstream_seconds_bucket", upstream="github", le="0.0025") == 3
    failures = "aegis_upstream_failures_total"
    assert value(series, failures, upstream="github", cause="server_error") == 1
    assert value(series, failures, upstream="files", cause="timeout") == 1
    assert value(series, failures, upstream="other", cause="busy") == 1
    assert value(series, failures, upstream="files", cause="server_error") == 0
    assert value(series, "aegis_intents_total") == 11
    assert value(series, "aegis_forwarded_total") == 10
    assert value(series, "aegis_outcomes_total", outcome="not_forwarded") == 1
    assert value(series, "aegis_calls_in_flight") == 2
    assert value(series, "aegis_write_queue_depth", lane="queued") == 5
    assert value(series, "aegis_write_queue_capacity", lane="committed") == 100
    assert value(series, "aegis_write_queue_oldest_age_seconds") == 0.125
    assert value(series, "aegis_write_batch_size_bucket", le="4.0") == 1
    assert value(series, "aegis_write_batch_size_sum") == 3
    assert value(series, "aegis_write_commit_duration_seconds_bucket", le="0.002") == 1
    assert value(series, "aegis_write_rejected_total", lane="committed", reason="full") == 4
    assert value(series, "aegis_write_rows_total") == 21
    assert value(series, "aegis_store_commit_fixed_seconds") == pytest.approx(0.001)
    assert value(series, "aegis_store_commit_per_call_seconds") == pytest.approx(0.00001)
    assert value(series, "aegis_store_ceiling_calls_per_second") == pytest.approx(71_910, rel=0.01)
    assert value(series, "aegis_store_headroom_calls_per_second") == pytest.approx(71_910, rel=0.01)
    assert value(series, "aegis_store_utilisation_ratio") == 0
    assert value(series, "aegis_store_busy_retries_total") == 2
    assert value(series, "aegis_store_wal_bytes") == 4096
    assert value(series, "aegis_data_disk_free_bytes") == 12_000_000_000
    assert value(series, "aegis_store_last_backup_timestamp_seconds") == 1_699_000_000
    expiry = "aegis_upstream_tls_certificate_expiry_timestamp_seconds"
    assert value(series, expiry, upstream="github") == 1_900_000_000
    assert value(series, "aegis_issuer_keys_age_seconds", issuer="https://idp.acme.io") == 42.5
    assert ("aegis_issuer_keys_age_seconds", (("issuer", "https://never.io"),)) not in series
    failed = "aegis_issuer_keys_failures_total"
    assert value(series, failed, issuer="https://idp.acme.io") == 2
    assert value(series, failed, issuer="https://never.io") == 1
    assert value(series, "aegis_unrecorded_refusals_total") == 4
    assert value(series, "aegis_malformed_heads_total", code="ambiguous_path") == 9
    assert value(series, "aegis_tool_drifts_total", upstream="files") == 3
    assert value(series, "aegis_tool_drifts_total", upstream="other") == 1
    assert value(series, "aegis_tools_drifted", upstream="files") == 2
    assert value(series, "aegis_tool_misfits_total", upstream="files") == 4
    assert value(series, "aegis_tools_unchecked", upstream="files") == 5
    assert value(series, "aegis_policy_rules", mode="enforce") == 7
    assert value(series, "aegis_policy_rules", mode="shadow") == 5
    assert value(series, "aegis_policy_last_reload_timestamp_seconds") == 1_700_000_000
    assert value(series, "aegis_store_info", engine="sqlite", version="3.40.1") == 1


def test_every_metric_of_the_list_is_in_the_output_and_nothing_else_is() -> None:
    families = {family.name: family for family in parse_text(scrape(make_sources()))}
    own = {name for name in families if not name.startswith("process_")}
    listed = {metric.name.removesuffix("_total") for metric in METRICS}
    assert own == listed
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    assert "process_resident_memory_bytes" in families


def test_names_and_labels_keep_to_the_conventions() -> None:
    for metric in METRICS:
        assert re.fullmatch(r"aegis_[a-z_]+", metric.name), metric.name
        assert metric.help.endswith(".") and len(metric.help) < 160, metric.name
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert not {"tenant", "agent", "tool", "argument", "session"} & set(metric.labels)


def test_no_created_series_and_both_formats_parse() -> None:
    text, plain_type = render(make_sources())
    open_text, open_type = render(make_sources(), OPENMETRICS)
    assert plain_type.startswith("text/plain")
    assert open_type.startswith("application/openmetrics-text")
    assert b"_created" not in text + open_text
    assert open_text.endswith(b"# EOF\n")
    assert len(list(parse_openmetrics(open_text.decode()))) >= len(METRICS)


def test_g7_series_stay_bounded_whatever_callers_send() -> None:
    sources = make_sources(tuple(f"up-{number:04}" for number in range(1000)))
    before = len(series_of(scrape(sources)))
    for number in range(3000):
        sources.counters.took(f"/etc/{number}", 1, None)
        sources.counters.refused(f"code-{number}")
    assert len(series_of(scrape(sources))) == before <= 2000


def test_g5_nothing_but_numbers_and_known_names_leaves() -> None:
    canary = "hunter2-canary"
    sources = make_sources((canary,))
    assert canary in scrape(sources), "a configured name is a label"
    sources = make_sources()
    sources.counters.took(canary, 1, None)
    sources.counters.refused(canary, canary)
    assert canary not in scrape(sources)


@pytest.mark.parametrize(("default", "expected"), [("deny", 0), ("observe", 1)])
def test_d8_observe_mode_shows(default: str, expected: int) -> None:
    series = series_of(scrape(make_sources(default=default)))
    assert value(series, "aegis_default_observe") == expected


def test_d3_a_failed_reload_shows() -> None:
    sources = make_sources()
    assert value(series_of(scrape(sources)), "aegis_policy_reload_success") == 1
    sources.policies.reload_succeeded = False
    series = series_of(scrape(sources))
    assert value(series, "aegis_policy_reload_success") == 0
    assert value(series, "aegis_policy_reloads_total", result="failed") == 1


def test_a_store_that_fails_shows() -> None:
    sources = make_sources()
    sources.queue.healthy = False
    assert value(series_of(scrape(sources)), "aegis_store_healthy") == 0


def test_without_logs_there_are_no_log_samples() -> None:
    names = {name for name, _ in series_of(scrape(make_sources(logs=None)))}
    assert "aegis_log_lines_dropped_total" not in names
    assert "aegis_build_info" in names


def test_facts_are_asked_once_a_scrape() -> None:
    asked: list[int] = []

    def facts() -> object:
        asked.append(1)
        return replace(FACTS)

    scrape(make_sources(store_facts=facts))
    assert len(asked) == 1


def test_the_reference_table_has_a_line_for_each_metric() -> None:
    def names(lines: Iterable[str]) -> list[str]:
        return [line.split("`")[1] for line in lines]

    table = metrics_table()
    assert table.endswith("\n")
    assert names(table.splitlines()[2:-1]) == [metric.name for metric in METRICS]
    assert all(line.count("|") == 5 for line in table.splitlines())


def test_what_is_noticed_is_published_and_nothing_where_nobody_watches() -> None:
    series = series_of(scrape(make_sources()))
    assert value(series, "aegis_detection_lag_seconds") == 3.5
    assert value(series, "aegis_detection_tenants") == 2
    assert value(series, "aegis_detection_busy_seconds_total") == 0.75
    assert value(series, "aegis_detection_hits_total") == 7
    assert value(series, "aegis_alerts_raised_total", severity="high") == 2
    assert value(series, "aegis_detection_errors_total", code="store_busy") == 1
    names = {name for name, _ in series_of(scrape(make_sources(watch=None)))}
    assert not [name for name in names if name.startswith(("aegis_detection", "aegis_alerts"))]
