"""Every metric there is: name, type, meaning, labels, and where its numbers come from.

Knows: the list, and how to read each number at scrape time; nothing is copied or kept. A label
holds configured names and literal sets only (never a tenant, an agent or an argument).
Must not know: the exposition format (exposition), who counts what when.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Final

import sidecar
from sidecar.telemetry.counters import OTHER, Histogram
from sidecar.telemetry.room_readings import (
    approval_results,
    delivery_results,
    export_failures,
    issuer_key_ages,
    issuer_key_failures,
    lockouts,
    of_approvals,
    of_callers,
    of_checkpoints,
    of_deliveries,
    of_exports,
)
from sidecar.telemetry.room_readings import each as _each
from sidecar.telemetry.room_readings import one as _one
from sidecar.telemetry.sources import (
    Buckets,
    LineCounts,
    Metric,
    PinCounts,
    Sample,
    Scrape,
)
from sidecar.telemetry.store_metrics import STORE_METRICS
from sidecar.telemetry.watch_metrics import WATCH_METRICS


def _logs(value: Callable[[LineCounts], float]) -> Callable[[Scrape], Iterable[Sample]]:
    """No sample where logging is left to the embedding program."""
    return lambda scrape: [((), value(scrape.sources.logs))] if scrape.sources.logs else []


def _rules(scrape: Scrape) -> list[Sample]:
    current = scrape.sources.policies.current
    shadow = current.shadow_count
    return [(("enforce",), current.rule_count - shadow), (("shadow",), shadow)]


def _buckets(histogram: Histogram) -> Buckets:
    return Buckets(histogram.bounds_s, list(accumulate(histogram.counts)), histogram.sum_ns / 1e9)


def _pairs(values: Mapping[tuple[str, str], int]) -> Iterator[Sample]:
    for (first, second), count in values.items():
        yield (str(first), str(second)), count


def _upstream_seconds(scrape: Scrape) -> Iterator[Sample]:
    for name, histogram in scrape.sources.counters.upstream_seconds.items():
        yield (name,), _buckets(histogram)


def _upstream_tls(scrape: Scrape) -> Iterable[Sample]:
    """By upstream; of those without series of their own the worst."""
    labelled = scrape.sources.counters.upstream_seconds
    found: dict[str, bool] = {}
    for one in scrape.sources.upstream_certificates:
        name = one.upstream if one.upstream in labelled else OTHER
        found[name] = found.get(name, True) and one.reload_succeeded
    return [((name,), succeeded) for name, succeeded in found.items()]


def _upstream_expiry(scrape: Scrape) -> Iterable[Sample]:
    """By upstream; of those without series of their own the first to expire."""
    labelled = scrape.sources.counters.upstream_seconds
    found: dict[str, int] = {}
    for one in scrape.sources.upstream_certificates:
        if one.expires_us is not None:
            name = one.upstream if one.upstream in labelled else OTHER
            found[name] = min(found.get(name, one.expires_us), one.expires_us)
    return [((name,), expires_us / 1e6) for name, expires_us in found.items()]


def _of_pins(scrape: Scrape, counts: Callable[[PinCounts], Mapping[str, int]]) -> Iterable[Sample]:
    """By upstream; those without series of their own together."""
    sources = scrape.sources
    if sources.pins is None:
        return []
    totals: dict[str, int] = {}
    labelled = sources.counters.upstream_seconds
    for upstream, count in counts(sources.pins).items():
        name = upstream if upstream in labelled else OTHER
        totals[name] = totals.get(name, 0) + count
    return [((name,), total) for name, total in totals.items()]


def _build(_: Scrape) -> Iterable[Sample]:
    return [((sidecar.__version__, platform.python_version()), 1)]


# fmt: off
METRICS: Final[tuple[Metric, ...]] = (
    # of calls
    Metric("aegis_calls_in_flight", "gauge", "Calls being worked on now.", (),
           _one(lambda s: s.sources.counters.in_flight)),
    Metric("aegis_decisions_total", "counter",
           "Answers of the policies; mode observe means that it was not enforced.",
           ("effect", "mode"), lambda s: _pairs(s.sources.counters.decisions)),
    Metric("aegis_shadow_decisions_total", "counter",
           "Decisions on calls that rules in shadow are about, and what they would have been "
           "with these rules live.", ("effect", "would_be"),
           lambda s: _pairs(s.sources.counters.shadow_decisions)),
    Metric("aegis_decision_seconds", "histogram", "Time the policies took to decide.", (),
           lambda s: [((), _buckets(s.sources.counters.decision_seconds))]),
    Metric("aegis_added_seconds", "histogram",
           "Time the sidecar added to a call: all of it without the upstream's share.", (),
           lambda s: [((), _buckets(s.sources.counters.added_seconds))]),
    Metric("aegis_upstream_seconds", "histogram",
           "Time from sending a call upstream to its answer.", ("upstream",), _upstream_seconds),
    Metric("aegis_upstream_failures_total", "counter",
           "Calls that failed at an upstream, by cause; with `server_error` (5xx) they were "
           "answered. A silent listening stream of MCP is none.", ("upstream", "cause"),
           lambda s: _pairs(s.sources.counters.upstream_failures)),
    Metric("aegis_refusals_total", "counter", "Refusals sent to callers, by code.", ("code",),
           _each(lambda s: s.sources.counters.refusals)),
    Metric("aegis_denied_fail_closed_total", "counter",
           "Calls refused because the sidecar could not judge or record them.", ("reason",),
           _each(lambda s: s.sources.counters.denied_fail_closed)),
    Metric("aegis_intents_total", "counter",
           "Intents made durable before forwarding; also of calls that agents make themselves.", (),
           _one(lambda s: s.sources.counters.intents)),
    Metric("aegis_forwarded_total", "counter",
           "Calls offered to an upstream, and an MCP server's requests passed on to its agent; "
           "never more than intents - not_forwarded - delegated.", (),
           _one(lambda s: s.sources.counters.forwarded)),
    Metric("aegis_outcomes_total", "counter",
           "How recorded intents ended; forwarded <= intents - not_forwarded - delegated.",
           ("outcome",),
           _each(lambda s: s.sources.counters.outcomes)),
    Metric("aegis_request_bytes_held", "gauge",
           "Bytes of request bodies above 64 KiB that arrive or whose calls have not ended; "
           "`limits.bodies` bounds them.",
           (), _one(lambda s: s.sources.counters.request_bytes_held)),
    Metric("aegis_answer_bytes_held", "gauge",
           "Bytes of answers that are held to be looked into; `limits.held` bounds them.",
           (), _one(lambda s: s.sources.counters.answer_bytes_held)),
    Metric("aegis_websockets", "gauge", "Open WebSockets; each is a call in flight.", (),
           _one(lambda s: s.sources.counters.websockets.open)),
    Metric("aegis_websockets_opened_total", "counter", "WebSockets an upstream agreed to.", (),
           _one(lambda s: s.sources.counters.websockets.opened)),
    Metric("aegis_websockets_ended_total", "counter", "Ends of open WebSockets, by cause.",
           ("cause",), _each(lambda s: s.sources.counters.websockets.ended)),
    Metric("aegis_websocket_bytes_total", "counter",
           "Bytes that came through open WebSockets, by who sent them.", ("sender",),
           _each(lambda s: s.sources.counters.websockets.bytes)),
    Metric("aegis_websocket_messages_total", "counter",
           "Whole messages that came through open WebSockets; none of them is judged.", (),
           _one(lambda s: s.sources.counters.websockets.messages)),
    Metric("aegis_open_lookups_total", "counter",
           "Looks at an MCP server's metadata for logging in, without a credential, soon after a "
           "challenge; they stand in no receipt.", (),
           _one(lambda s: s.sources.counters.open_lookups)),
    Metric("aegis_unrecorded_refusals_total", "counter",
           "Refusals that stand in no receipt: there was no caller, or the store failed.", (),
           _one(lambda s: s.sources.counters.unrecorded_refusals
                + s.sources.recorder.unrecorded_refusals)),
    Metric("aegis_authorize_repeats_total", "counter",
           "Authorize requests answered from the record of the same request.", (),
           _one(lambda s: s.sources.counters.authorize_repeats)),
    Metric("aegis_approval_hash_mismatches_total", "counter",
           "Approvals that an agent tried to spend on another action than they were given for.",
           (), _one(lambda s: s.sources.counters.approval_hash_mismatches)),
    Metric("aegis_intents_left_open_total", "counter",
           "Intents of callers that had left, without a place for an outcome; the next start "
           "closes them.", (), _one(lambda s: s.sources.recorder.left_open)),
    Metric("aegis_tool_drifts_total", "counter",
           "Times an MCP server was found to say something else of a tool than was pinned.",
           ("upstream",), lambda s: _of_pins(s, lambda pins: pins.drifts_total)),
    Metric("aegis_tools_drifted", "gauge",
           "Tools of MCP servers that are hidden and refused because they drifted.",
           ("upstream",), lambda s: _of_pins(s, lambda pins: pins.drifted_by_upstream())),
    Metric("aegis_tools_unchecked", "gauge",
           "Called tools of MCP servers whose inputSchema cannot be checked, or not wholly.",
           ("upstream",), lambda s: _of_pins(s, lambda pins: pins.checks.unchecked_by_upstream())),
    Metric("aegis_tool_misfits_total", "counter",
           "Calls of MCP tools whose arguments did not fit the pinned inputSchema.",
           ("upstream",), lambda s: _of_pins(s, lambda pins: pins.checks.misfits_total)),
    # of approvals
    Metric("aegis_approvals_pending", "gauge", "Approvals that wait for a person.", (),
           lambda s: of_approvals(s, lambda a: a.register.pending)),
    Metric("aegis_approvals_oldest_pending_seconds", "gauge",
           "How long the oldest of them has waited.", (),
           lambda s: of_approvals(s, lambda a: a.register.oldest_age_s(a.now_us()))),
    Metric("aegis_approvals_held_calls", "gauge", "Calls that are held for an answer.", (),
           lambda s: of_approvals(s, lambda a: a.waiting.count)),
    Metric("aegis_approvals_total", "counter",
           "What approvals came to at this node; spent ones were approved before.", ("result",),
           approval_results),
    Metric("aegis_approval_decision_seconds", "histogram",
           "Time from asking to a person's last word.", (),
           lambda s: of_approvals(s, lambda a: _buckets(a.register.decision_seconds))),
    # of deliveries
    Metric("aegis_deliveries_total", "counter",
           "Attempts of this node to tell a sink, by what they came to: retried ones will be made "
           "again, dead ones were given up.", ("sink", "result"), delivery_results),
    Metric("aegis_deliveries_waiting", "gauge",
           "Deliveries in the store that no sink has taken yet; every node on it says the same.",
           ("sink",), of_deliveries(lambda told: told.waiting_by_sink())),
    Metric("aegis_deliveries_oldest_waiting_seconds", "gauge",
           "How long the oldest of them has waited.", ("sink",),
           of_deliveries(lambda told: told.oldest_s_by_sink())),
    Metric("aegis_deliveries_dead", "gauge",
           "Deliveries that were given up and wait for a person: `sinks dead`.", ("sink",),
           of_deliveries(lambda told: told.dead_by_sink())),
    # of callers
    Metric("aegis_agents", "gauge", "Agents of all tenants, by how they stand.", ("state",),
           of_callers(lambda callers: callers.agents_by_state())),
    Metric("aegis_containments", "gauge",
           "Active containments of all tenants, by what they do; a revocation is none.",
           ("action",), of_callers(lambda callers: callers.containments_by_action())),
    Metric("aegis_authentication_failures_total", "counter",
           "Callers who were not known, on either listener, by why; callers are not told.",
           ("reason",), of_callers(lambda callers: callers.failures_by_reason)),
    Metric("aegis_authentication_lockouts_total", "counter",
           "Times an address was locked out because too many credentials from it were wrong.", (),
           lockouts),
    Metric("aegis_issuer_keys_age_seconds", "gauge",
           "How long ago the keys of an issuer of signed tokens were fetched; where they are used, "
           "they are fetched again after 5 min, and count for a day.", ("issuer",),
           issuer_key_ages),
    Metric("aegis_issuer_keys_failures_total", "counter",
           "Times the keys of an issuer of signed tokens could not be fetched.", ("issuer",),
           issuer_key_failures),
    # of connections
    Metric("aegis_connections", "gauge", "Open connections of agents.", (),
           _one(lambda s: s.sources.door.open_connections)),
    Metric("aegis_connections_turned_away_total", "counter",
           "Connections closed before a request, by cause.", ("cause",),
           _each(lambda s: s.sources.door.turned_away_total)),
    Metric("aegis_malformed_heads_total", "counter",
           "Requests whose head was refused, by code; they stand in no receipt.", ("code",),
           _each(lambda s: s.sources.door.malformed_total)),
    Metric("aegis_tls_certificate_expiry_timestamp_seconds", "gauge",
           "Until when the certificate of a listener that speaks TLS is valid.", ("listener",),
           _each(lambda s: {c.listener: c.expires_us / 1e6 for c in s.sources.certificates})),
    Metric("aegis_tls_reload_success", "gauge",
           "1 if the certificate that its files hold now is in force, 0 if it cannot be used.",
           ("listener",),
           _each(lambda s: {c.listener: c.reload_succeeded for c in s.sources.certificates})),
    Metric("aegis_upstream_tls_reload_success", "gauge",
           "1 if what the files under `tls` of an upstream hold now is in force, 0 if it cannot "
           "be used.", ("upstream",), _upstream_tls),
    Metric("aegis_upstream_tls_certificate_expiry_timestamp_seconds", "gauge",
           "Until when the certificate that is shown to an upstream, by the files under its `tls`, "
           "is valid.", ("upstream",), _upstream_expiry),
    *STORE_METRICS,
    # of signed heads
    Metric("aegis_checkpoints_signed_total", "counter",
           "Heads of chains that were signed and kept.", (),
           of_checkpoints(lambda c: c.signed_total)),
    Metric("aegis_checkpoint_lag_seconds", "gauge",
           "How long the oldest receipt has waited that no signed head covers.", (),
           of_checkpoints(lambda c: c.lag_s())),
    Metric("aegis_checkpoint_chains_differing", "gauge",
           "Chains of which nothing is signed, because their receipts are not what their head "
           "stands for; should stay 0.", (), of_checkpoints(lambda c: len(c.differing))),
    Metric("aegis_checkpoint_exports_total", "counter", "Signed heads that a target took.",
           ("target",), of_exports(lambda e: e.delivered_total)),
    Metric("aegis_checkpoint_export_failures_total", "counter",
           "Attempts at giving a target a signed head that failed, by reason.",
           ("target", "reason"), export_failures),
    Metric("aegis_checkpoint_export_lag_seconds", "gauge",
           "How long the signed head has waited that a target has not taken for longest.",
           ("target",), of_exports(lambda e: e.lag_s())),
    *WATCH_METRICS,
    # of the policies
    Metric("aegis_policy_reload_success", "gauge",
           "1 if the files last tried are in force, 0 if they are broken (the last good set "
           "stays).", (), _one(lambda s: s.sources.policies.reload_succeeded)),
    Metric("aegis_policy_last_reload_timestamp_seconds", "gauge",
           "When the policy set in force was loaded.", (),
           _one(lambda s: s.sources.policies.loaded_at_us / 1e6)),
    Metric("aegis_policy_reloads_total", "counter", "Loads of the policies, by result.",
           ("result",), _each(lambda s: {"loaded": s.sources.policies.reloads,
                                         "failed": s.sources.policies.failures})),
    Metric("aegis_policy_rules", "gauge",
           "Rules of the policy set in force, by their own mode; those in shadow decide nothing.",
           ("mode",), _rules),
    Metric("aegis_default_observe", "gauge",
           "1 while `default: observe` lets every judged call pass.", (),
           _one(lambda s: s.sources.default == "observe")),
    # of the process
    Metric("aegis_process_loop_busy_ratio", "gauge",
           "Share of time the event loop's thread computes: the second limit beside the store.",
           (), _one(lambda s: s.pressure.loop_busy)),
    Metric("aegis_log_lines_suppressed_total", "counter",
           "Log lines kept back because one event spoke too often.", (),
           _logs(lambda logs: logs.suppressed_total)),
    Metric("aegis_log_lines_waiting", "gauge",
           "Log lines that are not written yet: 0 at almost any moment, unless nobody reads them.",
           (), _logs(lambda logs: logs.waiting)),
    Metric("aegis_log_lines_dropped_total", "counter", "Log lines that could not be written.", (),
           _logs(lambda logs: logs.dropped_total)),
    Metric("aegis_build_info", "gauge", "1; versions of the sidecar and of Python.",
           ("version", "python"), _build),
)
# fmt: on
