"""Which statements may be read without naming the tenant whose rows they are about.

Knows: by name, every job across tenants, and every statement that touches nobody's rows. A read
that names no tenant and stands in neither list has forgotten to: each driver refuses it, also one
over a file, so that the mistake is not found where rows are somebody else's.
Must not know: what the statements say, engines.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from storage.errors import UnscopedRead

#: What stands for all tenants and for none, where otherwise a tenant is named.
EVERY_TENANT: Final = "*"
NO_TENANT: Final = ""

#: Jobs across tenants: on a server they alone see the rows of every tenant at once. To add one is
#: to say that what it gives never reaches a tenant.
ACROSS_TENANTS: Final = frozenset(
    {
        # Who is there, and where every chain ends.
        "epochs", "heads_not_there", "heads_out_of_step", "last_receipts", "latest_checkpoints",
        "next_tenant_with_receipts", "tenants",
        # What is to be done next, whosever it is.
        "approvals_decided", "count_every_open_delivery", "dead_nodes", "open_intents",
        "pinned_upstreams", "sinks_due",
        # How much there is.
        "count_agents", "count_alerts", "count_api_keys", "count_approvals", "count_audit_events",
        "count_buckets", "count_checkpoints", "count_containments", "count_deliveries",
        "count_incidents", "count_open_intents", "count_run_heads", "count_said_once",
        "count_tiles", "count_tool_pins", "count_watch_marks", "count_watch_memories",
        # A store that is carried to another.
        "move_agents", "move_alerts", "move_api_keys", "move_approvals", "move_audit_events",
        "move_buckets", "move_checkpoints", "move_containments", "move_deliveries", "move_heads",
        "move_incidents", "move_open_intents", "move_run_heads", "move_said_once", "move_states",
        "move_tool_pins", "move_watch_marks", "move_watch_memories",
    }
)  # fmt: skip
#: What is about the store itself: these see nobody's rows.
OF_NO_TENANT: Final = frozenset(
    {
        "applied_migrations", "count_states", "database_size", "has_schema", "living_nodes",
        "schema_objects", "server_clock", "server_state", "state", "state_value",
    }
)  # fmt: skip


class Scopes:
    """The two lists as the texts of one engine, which is what drivers are given."""

    __slots__ = ("_across", "_of_nobody")

    def __init__(self, sql: Mapping[str, str]) -> None:
        """`sql` is every statement by name; those that an engine does not have are left out."""
        self._across = frozenset(sql[name] for name in ACROSS_TENANTS if name in sql)
        self._of_nobody = frozenset(sql[name] for name in OF_NO_TENANT if name in sql)

    def of_read(self, text: str, tenant: str | None) -> str:
        """Whose rows a read may see: those of the tenant it names, EVERY_TENANT for a job across
        tenants, NO_TENANT where it is about the store itself. Raises UnscopedRead for any other
        that names none."""
        if tenant is not None:
            return tenant
        if text in self._across:
            return EVERY_TENANT
        if text in self._of_nobody:
            return NO_TENANT
        raise UnscopedRead
