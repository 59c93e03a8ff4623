#!/usr/bin/env python3
"""Writes dashboards/*.json: overview, write pressure, security. Needs nothing but Python.

python3 deploy/grafana/make_dashboards.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from dashboard import Dashboard, Panel, Row

FOLDER: Final = Path(__file__).parent / "dashboards"
#: The time over which Grafana takes a rate, as it chooses it for the picture.
RATE: Final = "[$__rate_interval]"


def rate_of(name: str, by: str, more: str = "") -> str:
    """So many a second, of the chosen sidecars together."""
    return f"sum by ({by}) (rate({name}{{<of>{more}}}{RATE}))"


def quantile(share: float, name: str) -> str:
    """What `share` of the observations of a histogram do not exceed."""
    return f"histogram_quantile({share}, sum by (le) (rate({name}_bucket{{<of>}}{RATE})))"


def quantiles(name: str) -> list[tuple[str, str]]:
    """Median, and what one in a hundred exceeds."""
    return [(quantile(0.5, name), "median"), (quantile(0.99, name), "99th percentile")]


OVERVIEW = Dashboard(
    "aegis-overview",
    "aegis-sidecar: overview",
    "What agents do with their tools, what is refused, what it costs them.",
    [
        Row("Now", [
            Panel("Calls", "Calls a second that ended: in the tool's answer, in a refusal, or with "
                  "a caller who left.", [("sum(aegis:calls_ended:rate5m{<of>})", "")], "reqps",
                  "stat", 4, 4),
            Panel("Refused", "Share of the calls that were refused, whatever the reason.",
                  [("max(aegis:refused:share5m{<of>})", "")], "percentunit", "stat", 4, 4),
            Panel("Refused without a rule", "Share refused because the sidecar could not judge or "
                  "record them: this is the sidecar's own failing.",
                  [("max(aegis:refused_closed:share5m{<of>})", "")], "percentunit", "stat", 4, 4,
                  {0.001: "orange", 0.05: "red"}),
            Panel("Held for a person", "Calls that are held now until somebody says yes or no.",
                  [("sum(aegis_approvals_held_calls{<of>})", "")], "short", "stat", 4, 4),
            Panel("Added, 99th percentile", "What the sidecar adds to a call.",
                  [(quantile(0.99, "aegis_added_seconds"), "")], "s", "stat", 4, 4,
                  {0.025: "orange", 0.1: "red"}),
            Panel("Nearer limit", "How much of the store's ceiling or of the process is used, "
                  "whichever is more.", [("max(aegis:utilisation_nearer:ratio{<of>})", "")],
                  "percentunit", "stat", 4, 4, {0.7: "orange", 0.9: "red"}, top=1),
        ]),
        Row("Decisions", [
            Panel("Decisions", "Answers of the policies; observe: they were not enforced.",
                  [(rate_of("aegis_decisions_total", "effect, mode"), "{{effect}} ({{mode}})")],
                  "reqps", width=12, stacked=True),
            Panel("Refusals by code", "What callers were told. README lists what each code means.",
                  [(rate_of("aegis_refusals_total", "code") + " > 0", "{{code}}")], "reqps",
                  width=12, stacked=True),
            Panel("Refused because it could not be judged or recorded",
                  "By why. None of these is a policy's decision.",
                  [(rate_of("aegis_denied_fail_closed_total", "reason") + " > 0", "{{reason}}")],
                  "reqps"),
            Panel("How calls ended", "Outcomes of the intents on record.",
                  [(rate_of("aegis_outcomes_total", "outcome"), "{{outcome}}")], "reqps",
                  stacked=True),
            Panel("Shadow rules", "What rules in shadow would have made of calls they are about.",
                  [(rate_of("aegis_shadow_decisions_total", "effect, would_be"),
                    "{{effect}}, would be {{would_be}}")], "reqps"),
        ]),
        Row("Budgets", [
            Panel("Calls that failed here", "Share of calls that could not be judged or recorded, "
                  "over two windows. The objective is 0.1 % over a month; the lines are the speeds "
                  "at which it is gone in five days and in two.",
                  [("max(aegis:refused_closed:share1h{<of>})", "an hour"),
                   ("max(aegis:refused_closed:share6h{<of>})", "six hours")], "percentunit",
                  width=12, steps={0.006: "orange", 0.0144: "red"}),
            Panel("Calls that were delayed", "Share of calls to which more than 25 ms were added. "
                  "The objective is 1 % over a month; the lines are the same speeds.",
                  [("max(aegis:added_late:share1h{<of>})", "an hour"),
                   ("max(aegis:added_late:share6h{<of>})", "six hours")], "percentunit",
                  width=12, steps={0.06: "orange", 0.144: "red"}),
        ]),
        Row("Waiting for people", [
            Panel("Approvals that wait", "Those that wait for a person, and calls held for one.",
                  [("max(aegis_approvals_pending{<of>})", "approvals"),
                   ("sum(aegis_approvals_held_calls{<of>})", "held calls")]),
            Panel("Oldest approval", "How long the oldest one has waited.",
                  [("max(aegis_approvals_oldest_pending_seconds{<of>})", "oldest")], "s",
                  steps={600: "orange"}),
            Panel("From asking to the last word", "How long people take.",
                  quantiles("aegis_approval_decision_seconds"), "s"),
        ]),
        Row("Time", [
            Panel("Added by the sidecar", "All of a call's time without the tool's share and "
                  "without waiting for people.", quantiles("aegis_added_seconds"), "s"),
            Panel("Deciding", "Of that, what the policies took.",
                  quantiles("aegis_decision_seconds"), "s"),
            Panel("Writing", "Of that, until it was durable: one commit.",
                  quantiles("aegis_write_commit_duration_seconds"), "s"),
            Panel("Tools", "How long tools take to answer, 99th percentile.",
                  [(f"histogram_quantile(0.99, sum by (le, upstream) (rate("
                    f"aegis_upstream_seconds_bucket{{<of>}}{RATE})))", "{{upstream}}")], "s"),
            Panel("Tools that fail", "Share of the calls to an upstream that failed there: not "
                  "reached, too slow, too busy, broken off, or answered with 5xx.",
                  [("max by (upstream) (aegis:upstream_failed:share5m{<of>})", "{{upstream}}")],
                  "percentunit", steps={0.25: "orange"}, top=1),
            Panel("Failures of tools", "By upstream and cause.",
                  [(rate_of("aegis_upstream_failures_total", "upstream, cause") + " > 0",
                    "{{upstream}}: {{cause}}")], "reqps"),
            Panel("In flight", "Calls being worked on, connections of agents, open WebSockets.",
                  [("sum(aegis_calls_in_flight{<of>})", "calls"),
                   ("sum(aegis_connections{<of>})", "connections"),
                   ("sum(aegis_websockets{<of>})", "WebSockets")]),
            Panel("Held in memory", "Request bodies above 64 KiB whose calls have not ended, and "
                  "answers that are looked into; `limits.bodies` and `limits.held` bound them.",
                  [("sum by (instance) (aegis_request_bytes_held{<of>})", "requests, {{instance}}"),
                   ("sum by (instance) (aegis_answer_bytes_held{<of>})", "answers, {{instance}}")],
                  "bytes"),
            Panel("Process", "Share of time the event loop computes, and memory.",
                  [("max by (instance) (aegis_process_loop_busy_ratio{<of>})",
                    "busy, {{instance}}")], "percentunit", top=1),
        ]),
    ],
)  # fmt: skip

PRESSURE = Dashboard(
    "aegis-write-pressure",
    "aegis-sidecar: write pressure",
    "How near the store and the process are to what they can carry, and when they will be there.",
    [
        Row("Where the limit is", [
            Panel("Store", "Calls recorded a second, as a share of what the store was measured to "
                  "record.", [("max(aegis_store_utilisation_ratio{<of>})", "")], "percentunit",
                  "gauge", 4, 6, {0.7: "orange", 0.9: "red"}, top=1),
            Panel("Process", "Share of time the event loop computes.",
                  [("max(aegis_process_loop_busy_ratio{<of>})", "")], "percentunit", "gauge", 4, 6,
                  {0.7: "orange", 0.9: "red"}, top=1),
            Panel("Headroom", "Calls a second that the store could record beside what it does.",
                  [("sum(aegis_store_headroom_calls_per_second{<of>})", "")], "reqps", "stat", 4,
                  6),
            Panel("80 % is reached in", "By the daily peaks of two weeks; nothing while they do "
                  "not grow.", [("min by (limit) (aegis:utilisation_80_percent_in:seconds{<of>})",
                                 "{{limit}}")], "s", "stat", 6, 6),
            Panel("In a week", "Where the peak is then if it goes on like that.",
                  [("max by (limit) (aegis:utilisation_in_7_days:predict14d{<of>})", "{{limit}}")],
                  "percentunit", "stat", 6, 6, {0.7: "orange", 0.9: "red"}),
            Panel("Used of each limit", "The larger of the two is what ends it first.",
                  [("max by (instance, limit) (aegis:utilisation:ratio{<of>})",
                    "{{limit}}, {{instance}}")], "percentunit", width=12,
                  steps={0.7: "orange"}, top=1),
            Panel("Recorded, and what could be", "Calls a second against the ceiling: "
                  "1 / (a/N + b) at the largest batch N.",
                  [("sum(aegis_store_committed_calls_per_second{<of>})", "recorded"),
                   ("sum(aegis_store_ceiling_calls_per_second{<of>})", "ceiling")], "reqps",
                  width=12),
            Panel("Daily peaks", "What the last day exceeded for a quarter of an hour in all.",
                  [("max by (instance, limit) (aegis:utilisation_peak:ratio_p99_1d{<of>})",
                    "{{limit}}, {{instance}}")], "percentunit", width=12, top=1),
            Panel("Growth", "By how much the peaks grow a day.",
                  [("max by (instance, limit) (aegis:utilisation_growth_per_day:deriv14d{<of>})",
                    "{{limit}}, {{instance}}")], "percentunit", width=12),
        ]),
        Row("Queue", [
            Panel("Waiting", "Entries that are not durable yet, by lane.",
                  [("sum by (lane) (aegis_write_queue_depth{<of>})", "{{lane}}"),
                   ("sum(aegis_write_queue_reserved{<of>})", "kept for outcomes")]),
            Panel("How full", "Of a lane, kept places included. At 100 % calls are refused.",
                  [("max by (instance, lane) (aegis:write_queue_fill:ratio{<of>})",
                    "{{lane}}, {{instance}}")], "percentunit", steps={0.5: "orange"}, top=1),
            Panel("Oldest caller", "How long somebody has waited for his commit.",
                  [("max by (instance) (aegis_write_queue_oldest_age_seconds{<of>})",
                    "{{instance}}")], "s", steps={1: "orange", 2: "red"}),
            Panel("Turned away", "Entries the queue did not make durable, by lane and reason.",
                  [(rate_of("aegis_write_rejected_total", "lane, reason") + " > 0",
                    "{{lane}}: {{reason}}")], "ops"),
            Panel("Given up", "Committed after their caller had gone; and of unknown outcome.",
                  [(rate_of("aegis_write_abandoned_total", "instance"), "abandoned, {{instance}}"),
                   ("sum by (instance) (aegis_write_unknown_commits{<of>})",
                    "unknown, {{instance}}")]),
            Panel("Never recorded", "Outcomes that were lost, and refusals without a receipt.",
                  [(rate_of("aegis_write_dropped_outcomes_total", "instance"),
                    "outcomes, {{instance}}"),
                   (rate_of("aegis_unrecorded_refusals_total", "instance"),
                    "refusals, {{instance}}")], "ops"),
        ]),
        Row("Commits", [
            Panel("Size of a batch", "Entries in a transaction: what waited while the last one "
                  "committed.", quantiles("aegis_write_batch_size")),
            Panel("Time of a commit", "The sync included.",
                  quantiles("aegis_write_commit_duration_seconds"), "s"),
            Panel("Commits and rows", "Transactions and rows a second.",
                  [(rate_of("aegis_write_commits_total", "instance"), "commits, {{instance}}"),
                   (rate_of("aegis_write_rows_total", "instance"), "rows, {{instance}}")], "ops"),
            Panel("What a commit costs", "Fitted: whatever its size (a), and for each call (b). A "
                  "disk that became slow raises a.",
                  [("max by (instance) (aegis_store_commit_fixed_seconds{<of>})",
                    "a, {{instance}}"),
                   ("max by (instance) (aegis_store_commit_per_call_seconds{<of>})",
                    "b, {{instance}}")], "s"),
            Panel("Failed", "Batches that were not committed, and writes that met another's lock.",
                  [(rate_of("aegis_write_failed_batches_total", "instance"),
                    "failed, {{instance}}"),
                   (rate_of("aegis_store_busy_retries_total", "instance"),
                    "busy, {{instance}}")], "ops"),
            Panel("Writer busy", "Not a measure of pressure: a writer that commits in groups is "
                  "busy nearly always.",
                  [("max by (instance) (aegis_write_busy_ratio{<of>})", "{{instance}}")],
                  "percentunit", top=1),
        ]),
        Row("Store", [
            Panel("Size", "Database file and write-ahead log.",
                  [("sum by (instance) (aegis_store_file_bytes{<of>})", "file, {{instance}}"),
                   ("sum by (instance) (aegis_store_wal_bytes{<of>})", "log, {{instance}}")],
                  "bytes"),
            Panel("Room on the disk", "Of the store's file, or of the data folder.",
                  [("min by (instance) (aegis_data_disk_free_bytes{<of>})", "{{instance}}")],
                  "bytes"),
            Panel("Last backup", "How long ago the last known one of a file was begun.",
                  [("time() - max by (instance) "
                    "(aegis_store_last_backup_timestamp_seconds{<of>} > 0)", "{{instance}}")],
                  "s", "stat", steps={172800: "orange"}),
            Panel("State", "Commits succeed; there is a server that takes writes; it is not moved.",
                  [("min by (instance) (aegis_store_healthy{<of>})", "healthy, {{instance}}"),
                   ("min by (instance) (aegis_store_writable{<of>})", "writable, {{instance}}"),
                   ("max by (instance) (aegis_store_fenced{<of>})", "fenced, {{instance}}")],
                  top=1),
            Panel("Servers", "Opened again, failed over, lookups of commits of unknown outcome.",
                  [(rate_of("aegis_store_reopened_total", "instance"), "opened, {{instance}}"),
                   (rate_of("aegis_store_failovers_total", "instance"), "failover, {{instance}}"),
                   (rate_of("aegis_store_commit_lookups_total", "result"), "lookup: {{result}}")],
                  "ops"),
            Panel("Checkpoints of the log", "Steps, and the time they take a second.",
                  [(rate_of("aegis_store_checkpoints_total", "instance"), "steps, {{instance}}"),
                   (rate_of("aegis_store_checkpoint_seconds_total", "instance"),
                    "seconds, {{instance}}"),
                   (rate_of("aegis_store_checkpoint_failures_total", "instance"),
                    "failed, {{instance}}")], "ops"),
            Panel("Engine", "What each sidecar writes to.",
                  [("max by (instance, engine, version) (aegis_store_info{<of>})",
                    "{{instance}}: {{engine}} {{version}}")], kind="stat"),
        ]),
    ],
)  # fmt: skip

SECURITY = Dashboard(
    "aegis-soc",
    "aegis-sidecar: security",
    "Who is refused and why, who is contained, whether the record can still be trusted.",
    [
        Row("Noticed", [
            Panel("Alerts raised", "By severity.",
                  [(rate_of("aegis_alerts_raised_total", "severity"), "{{severity}}")], "ops",
                  width=6, stacked=True),
            Panel("What followed", "Events that completed what a detection looks for, those that "
                  "joined an alert there was, and alerts without an incident because too many are "
                  "open.",
                  [(rate_of("aegis_detection_hits_total", "instance"), "hits, {{instance}}"),
                   (rate_of("aegis_alerts_joined_total", "instance"), "joined, {{instance}}"),
                   (rate_of("aegis_alerts_without_incident_total", "instance"),
                    "no incident, {{instance}}")], "ops", width=6),
            Panel("Containments", "Active ones of all tenants, by what they do.",
                  [("max by (action) (aegis_containments{<of>})", "{{action}}")], width=6),
            Panel("Responses", "What detections asked for: done, or recommended where it may not "
                  "be done.",
                  [(rate_of("aegis_detection_responses_total", "result"), "{{result}}")], "ops",
                  width=6),
            Panel("How far behind", "Age of the oldest receipt that detections have not looked at.",
                  [("max by (instance) (aegis_detection_lag_seconds{<of>})", "{{instance}}")], "s",
                  width=6, steps={60: "orange"}),
            Panel("What it costs", "Share of the event loop's time spent on detections. It is "
                  "bounded.",
                  [(rate_of("aegis_detection_busy_seconds_total", "instance"), "{{instance}}")],
                  "percentunit", width=6),
            Panel("Looked at", "Receipts, and events among them.",
                  [(rate_of("aegis_detection_receipts_total", "instance"),
                    "receipts, {{instance}}"),
                   (rate_of("aegis_detection_events_total", "instance"), "events, {{instance}}")],
                  "ops", width=6),
            Panel("Detections that fail", "Conditions that could not be evaluated, hits that were "
                  "lost, what was forgotten early, and pauses by cause.",
                  [(rate_of("aegis_detection_condition_errors_total", "instance"),
                    "condition, {{instance}}"),
                   (rate_of("aegis_detection_dropped_total", "instance"), "lost, {{instance}}"),
                   (rate_of("aegis_detection_forgotten_total", "instance"),
                    "forgotten, {{instance}}"),
                   (rate_of("aegis_detection_errors_total", "code"), "paused: {{code}}")], "ops",
                  width=6),
        ]),
        Row("Told", [
            Panel("Given up", "Deliveries that no sink took and that wait for a person.",
                  [("max by (sink) (aegis_deliveries_dead{<of>})", "{{sink}}")], kind="stat",
                  width=6, steps={1: "red"}),
            Panel("Waiting", "Deliveries that no sink has taken yet.",
                  [("max by (sink) (aegis_deliveries_waiting{<of>})", "{{sink}}")], width=6),
            Panel("Oldest of them", "How long it has waited.",
                  [("max by (sink) (aegis_deliveries_oldest_waiting_seconds{<of>})",
                    "{{sink}}")], "s", width=6),
            Panel("Attempts", "By sink, and by what they came to.",
                  [(rate_of("aegis_deliveries_total", "sink, result"), "{{sink}}: {{result}}")],
                  "ops", width=6),
        ]),
        Row("Agents", [
            Panel("Agents, by how they stand", "Of all tenants.",
                  [("max by (state) (aegis_agents{<of>})", "{{state}}")], kind="stat"),
            Panel("Denied", "Decisions to deny, and what observe let pass.",
                  [(rate_of("aegis_decisions_total", "mode", ',effect="deny"'), "{{mode}}")],
                  "reqps"),
            Panel("Refused for who they are", "Frozen, in quarantine, or not known.",
                  [(rate_of("aegis_refusals_total", "code",
                            ',code=~"agent_frozen|agent_quarantined|unauthenticated'
                            '|too_many_failures"'), "{{code}}")], "reqps"),
            Panel("Credentials that nobody has", "By why. Callers are not told.",
                  [(rate_of("aegis_authentication_failures_total", "reason") + " > 0",
                    "{{reason}}")], "ops"),
            Panel("Keys of issuers", "How long ago the keys of those who sign tokens were fetched; "
                  "they count for a day.",
                  [("max by (instance, issuer) (aegis_issuer_keys_age_seconds{<of>})",
                    "{{issuer}}, {{instance}}")], "s", steps={43200: "red"}),
            Panel("Addresses locked out", "Because too many credentials from them were wrong.",
                  [(rate_of("aegis_authentication_lockouts_total", "instance"), "{{instance}}")],
                  "ops"),
            Panel("What approvals came to", "Of this node; spent ones were approved before.",
                  [(rate_of("aegis_approvals_total", "result"), "{{result}}"),
                   (rate_of("aegis_approval_hash_mismatches_total", "instance"),
                    "spent on another action, {{instance}}")], "ops"),
        ]),
        Row("Tools and servers", [
            Panel("Tools that drifted", "Hidden and refused, because their server says something "
                  "else of them.", [("max by (upstream) (aegis_tools_drifted{<of>})",
                                     "{{upstream}}")], steps={1: "red"}),
            Panel("Drifts found", "How often that was found.",
                  [(rate_of("aegis_tool_drifts_total", "upstream"), "{{upstream}}")], "ops"),
            Panel("Asked by servers, and refused", "Sampling, elicitation and roots that no rule "
                  "allows, answers nobody asked for, and sessions and tools that are not what they "
                  "were.",
                  [(rate_of("aegis_refusals_total", "code",
                            ',code=~"arguments_unfit|input_refused|list_changed|session_unknown|'
                            'tool_drifted|unasked_answer"'), "{{code}}")],
                  "ops"),
            Panel("Requests that are no call", "Malformed heads, by code: somebody may be trying "
                  "what two servers read differently.",
                  [(rate_of("aegis_malformed_heads_total", "code") + " > 0", "{{code}}")], "ops"),
            Panel("Connections turned away", "By cause.",
                  [(rate_of("aegis_connections_turned_away_total", "cause"), "{{cause}}")], "ops"),
            Panel("Policies", "1 if the files last tried are in force; rules in force.",
                  [("min by (instance) (aegis_policy_reload_success{<of>})",
                    "reload, {{instance}}"),
                   ("max by (instance) (aegis_default_observe{<of>})",
                    "observe, {{instance}}")], top=1),
        ]),
        Row("The record", [
            Panel("Chains that differ", "Receipts in the store are not what the head of their "
                  "chain stands for.", [("sum(aegis_checkpoint_chains_differing{<of>})", "")],
                  "short", "stat", 6, 8, {1: "red"}),
            Panel("Breaks", "Places found at which a chain of receipts does not hold.",
                  [("sum(aegis_chain_breaks_total{<of>})", "")], "short", "stat", 6, 8,
                  {1: "red"}),
            Panel("Not signed for", "How long the oldest receipt has waited that no signed head "
                  "covers.", [("max by (instance) (aegis_checkpoint_lag_seconds{<of>})",
                               "{{instance}}")], "s", width=6, steps={300: "orange"}),
            Panel("Not exported", "How long a target has not taken the signed head.",
                  [("max by (target) (aegis_checkpoint_export_lag_seconds{<of>})", "{{target}}")],
                  "s", width=6, steps={300: "orange"}),
            Panel("Exports that failed", "By target and reason. A fork does not end by waiting.",
                  [(rate_of("aegis_checkpoint_export_failures_total", "target, reason"),
                    "{{target}}: {{reason}}")], "ops", width=6),
        ]),
    ],
)  # fmt: skip

DASHBOARDS: Final = (OVERVIEW, PRESSURE, SECURITY)


def text_of(dashboard: Dashboard) -> str:
    """The file's content."""
    return json.dumps(dashboard.as_json(), indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Writes them all."""
    for dashboard in DASHBOARDS:
        (FOLDER / f"{dashboard.uid}.json").write_text(text_of(dashboard), "utf-8")


if __name__ == "__main__":
    main()
