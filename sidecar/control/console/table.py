"""The pages there are: one line each. The menu is made of their tabs."""

from __future__ import annotations

from typing import Final

from sidecar.control.api.parameters import SEQ_MAX, Flag, Parameter, Text, Whole, in_path
from sidecar.control.console import (
    views_calls,
    views_people,
    views_policies,
    views_record,
    views_watch,
)
from sidecar.control.console.page import Page, queries_of

#: Tabs of the menu: the word, and the page it leads to.
TABS: Final = (
    ("Overview", ""), ("Calls", "/calls"), ("Approvals", "/approvals"), ("Agents", "/agents"),
    ("Incidents", "/incidents"), ("Containments", "/containments"), ("Tools", "/tools"),
    ("Policies", "/policies"), ("Receipts", "/receipts"), ("Changes", "/changes"),
    ("Store", "/store"),
)  # fmt: skip

PAGES: Final = (
    Page("", "overview.html", "Overview", "Overview", views_record.overview),
    Page(
        "/calls", "calls.html", "Calls", "Calls", views_calls.calls,
        queries_of("list_decisions", "offset"), pages="list_decisions",
    ),
    Page(
        "/calls/{call_id}", "call.html", "Call", "Calls", views_calls.call,
        (in_path("call_id", "its id"),),
    ),
    Page(
        "/approvals", "approvals.html", "Approvals", "Approvals", views_people.approvals,
        queries_of("list_approvals", "offset"), pages="list_approvals",
    ),
    Page(
        "/approvals/{approval_id}", "approval.html", "Approval", "Approvals", views_people.approval,
        (in_path("approval_id", "its id"),),
    ),
    Page(
        "/agents", "agents.html", "Agents", "Agents", views_people.agents,
        queries_of("list_agents", "offset"), pages="list_agents",
    ),
    Page(
        "/agents/{agent_id}", "agent.html", "Agent", "Agents", views_people.agent,
        (in_path("agent_id", "its name"),),
    ),
    Page(
        "/incidents", "incidents.html", "Incidents", "Incidents", views_watch.incidents,
        queries_of("list_incidents", "offset"), pages="list_incidents",
    ),
    Page(
        "/incidents/{incident_id}", "incident.html", "Incident", "Incidents", views_watch.incident,
        (
            in_path("incident_id", "its id"),
            Parameter("verify", Flag(), "held against the chain", False),
        ),
    ),
    Page(
        "/alerts", "alerts.html", "Alerts", "Incidents", views_watch.alerts,
        queries_of("list_alerts", "offset"), pages="list_alerts",
    ),
    Page(
        "/containments", "containments.html", "Containments", "Containments",
        views_watch.containments, queries_of("list_containments"), pages="list_containments",
    ),
    Page(
        "/tools", "tools.html", "Tools", "Tools", views_people.tools,
        queries_of("list_tools"), pages="list_tools",
    ),
    Page(
        "/policies", "policies.html", "Policies", "Policies", views_policies.policies,
        (Parameter("describe", Text(views_policies.CALL_MAX), "a call to be explained", ""),),
    ),
    Page(
        "/policies/shadow", "shadow.html", "Shadow", "Policies", views_policies.shadow_differences,
        queries_of("list_shadow_differences"), pages="list_shadow_differences",
    ),
    Page(
        "/policies/file", "policy_file.html", "Policy file", "Policies", views_policies.policy_file,
        (Parameter("file", Text(1024), "as the set in force names it", is_required=True),),
    ),
    Page(
        "/receipts", "receipts.html", "Receipts", "Receipts", views_record.receipts,
        (
            *queries_of("list_receipts", "offset", "order"),
            Parameter("order", Text(), "newest first", "newest"),
        ),
        pages="list_receipts",
    ),
    Page(
        "/receipts/{seq}", "receipt.html", "Receipt", "Receipts", views_record.receipt,
        (in_path("seq", "its number", Whole(1, SEQ_MAX)),),
    ),
    Page(
        "/changes", "changes.html", "Changes", "Changes", views_record.changes,
        queries_of("list_audit_events", "offset"), pages="list_audit_events",
    ),
    Page("/store", "store.html", "Store", "Store", views_record.store),
)  # fmt: skip
