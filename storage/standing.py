"""Rows of what stands beside the chains and changes one version at a time: agents, keys, approvals.

Knows: their columns, by which statement each is put, and what tells two rows of a table apart.
Must not know: what a state, a profile or a vote means; that is the rooms' above.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from storage.watch_rows import (
    AlertRow,
    ContainmentRow,
    DeliveryRow,
    IncidentRow,
    WatchMark,
    WatchMemory,
)


class PinRow(NamedTuple):
    """`tool_pin`: what an MCP server said of a tool when that was first seen or last accepted.

    `definition` is canonical JSON and `sha256` its hash; `seen` is what the server says since if
    that is something else, "" (and 0) if not. Each change raises `version`, which begins at 1.
    """

    tenant_id: str
    upstream: str
    tool: str
    version: int
    definition: str
    sha256: str
    at_us: int
    seen: str = ""
    seen_sha256: str = ""
    seen_at_us: int = 0


class PinGone(NamedTuple):
    """A pin that is to go, if it stands at this version: what its tool is, is as if never seen."""

    tenant_id: str
    upstream: str
    tool: str
    version: int


class PinMark(NamedTuple):
    """A pin by its hashes; `seen_sha256` is "" unless the server says something else since."""

    tool: str
    version: int
    sha256: str
    seen_sha256: str


class AgentRow(NamedTuple):
    """`agent`: its standing, and the hash of its token ("" without one). `profile` is JSON."""

    tenant_id: str
    agent_id: str
    version: int
    state: str
    profile: str
    token_sha256: str
    changed_at_us: int


class KeyRow(NamedTuple):
    """`api_key`: the hash of a key; `profile` is JSON: whose it is, and with which roles.

    `expires_at_us` is 0 for a key that does not end by itself.
    """

    tenant_id: str
    key_id: str
    version: int
    state: str
    profile: str
    key_sha256: str
    expires_at_us: int
    changed_at_us: int


class ApprovalRow(NamedTuple):
    """`approval`: one exact action (`action_sha256`) that waits for a yes, or got its answer.

    `call_id` is the call that asked first; `terms` is JSON of what has to be given and by which
    rules, `asked` of what the approver reads, `votes` of who said what. `spent_by` is the call that
    went ahead by it, "" until then. Times are microseconds UTC by the store's clock where it has
    one. Of the rows of one action at most one is `pending` or `approved`.
    """

    tenant_id: str
    approval_id: str
    version: int
    state: str
    action_sha256: str
    agent_id: str
    call_id: str
    tool: str
    terms: str
    asked: str
    votes: str
    asked_at_us: int
    expires_at_us: int
    changed_at_us: int
    spent_by: str


class OnceRow(NamedTuple):
    """`said_once`: what an agent may say only once, by `kind` (request, nonce) and `name`.

    `bound` is a hash of what it was said with, `call_id` the call that said it first. From
    `until_us` on the row says nothing any more, and its name may be said again, a version on.
    """

    tenant_id: str
    agent_id: str
    kind: str
    name: str
    version: int
    bound: str
    call_id: str
    until_us: int


class AuditRow(NamedTuple):
    """`audit_event`: who changed what, from what to what. `seq`, that of the receipt which commits
    to it, is filled when that is sealed; before and after are JSON, "" where there is none."""

    tenant_id: str
    seq: int
    at_us: int
    actor: str
    action: str
    subject: str
    before_state: str
    after_state: str
    reason: str


#: A row that is put only one version after the one that stands, or as the first; or goes, if it is
#: the version that stands.
VersionedRow = (
    PinRow | PinGone | AgentRow | KeyRow | ApprovalRow | OnceRow
    | WatchMark | WatchMemory | AlertRow | IncidentRow | ContainmentRow | DeliveryRow
)  # fmt: skip

#: The statement that puts rows of a kind, and how many columns tell two of them apart.
PUTS: dict[type, tuple[str, int]] = {
    PinRow: ("put_tool_pin", 3),
    PinGone: ("drop_tool_pin", 3),
    AgentRow: ("put_agent", 2),
    KeyRow: ("put_api_key", 2),
    ApprovalRow: ("put_approval", 2),
    OnceRow: ("put_said_once", 4),
    WatchMark: ("put_watch_mark", 2),
    WatchMemory: ("put_watch_memory", 3),
    AlertRow: ("put_alert", 2),
    IncidentRow: ("put_incident", 2),
    ContainmentRow: ("put_containment", 2),
    DeliveryRow: ("put_delivery", 2),
}


class StandingTable(NamedTuple):
    """A table that is small enough to be carried in one piece; `read` is a job across tenants."""

    name: str
    read: str
    put: str
    counted_by: str


#: All of them, in the order in which they are carried to another store.
STANDING: Sequence[StandingTable] = (
    StandingTable("run_head", "move_run_heads", "put_run_head", "count_run_heads"),
    StandingTable("limit_bucket", "move_buckets", "put_bucket", "count_buckets"),
    StandingTable("tool_pin", "move_tool_pins", "put_tool_pin", "count_tool_pins"),
    StandingTable("agent", "move_agents", "put_agent", "count_agents"),
    StandingTable("api_key", "move_api_keys", "put_api_key", "count_api_keys"),
    StandingTable("approval", "move_approvals", "put_approval", "count_approvals"),
    StandingTable("said_once", "move_said_once", "put_said_once", "count_said_once"),
    StandingTable("audit_event", "move_audit_events", "put_audit_event", "count_audit_events"),
    StandingTable("watch_mark", "move_watch_marks", "put_watch_mark", "count_watch_marks"),
    StandingTable(
        "watch_memory", "move_watch_memories", "put_watch_memory", "count_watch_memories"
    ),
    StandingTable("alert", "move_alerts", "put_alert", "count_alerts"),
    StandingTable("incident", "move_incidents", "put_incident", "count_incidents"),
    StandingTable("containment", "move_containments", "put_containment", "count_containments"),
    StandingTable("delivery", "move_deliveries", "put_delivery", "count_deliveries"),
    StandingTable("checkpoint", "move_checkpoints", "put_checkpoint", "count_checkpoints"),
)
