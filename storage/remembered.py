"""The chain ends this process last committed, so that the store need not be asked before a batch.

Knows: when a memory may be used, and when it should not even be tried: what was missed once is
shared with other nodes, and asking first is then the shorter way for a while.
Must not know: statements. A memory decides nothing: the guard in the store does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from storage.guards import RunKey, runs_to_read
from storage.records import Entry, HeadRow, RunHead

#: Tenants, and runs, beyond which everything is forgotten and learned again.
TENANTS_MAX = 10_000
RUNS_MAX = 100_000
#: Batches of a tenant that are not tried from memory after one that missed.
BATCHES_AFTER_A_MISS = 64


class RememberedHeads:
    """A head that is taken out is gone until it is kept again, so whatever fails in between is
    forgotten. A run counts only beside the head of its tenant: who records without memory forgets
    the tenant first."""

    def __init__(self) -> None:
        self._heads: dict[str, HeadRow] = {}
        self._kept_runs: dict[str, dict[RunKey, RunHead]] = {}
        self._runs = 0
        self._waiting: dict[str, int] = {}

    def take(
        self, entries: Sequence[Entry], tenants: Sequence[str]
    ) -> tuple[dict[str, HeadRow], dict[RunKey, RunHead]] | None:
        """Heads and runs for a batch, None unless all it needs is known and worth a try. Buckets
        are not, nor approvals: their moment is the server's; nor is it told from memory whether a
        row that has a version was put."""
        is_worth_it = all([self._is_due(tenant) for tenant in tenants]) if self._waiting else True
        for entry in entries:
            if entry.reserves is not None or entry.ticket is not None or entry.puts:
                is_worth_it = False
        heads = {t: head for t in tenants if (head := self._heads.pop(t, None)) is not None}
        if not is_worth_it or len(heads) < len(tenants):
            return None
        runs: dict[RunKey, RunHead] = {}
        for key in runs_to_read(entries):
            run = self._kept_runs.get(key[0], {}).get(key)
            if run is None:
                return None
            runs[key] = run
        return heads, runs

    def keep(self, heads: Mapping[str, HeadRow], runs: Mapping[RunKey, RunHead]) -> None:
        """What a batch that is committed left behind; a tenant without a receipt has no row yet."""
        if len(self._heads) + len(heads) > TENANTS_MAX or self._runs + len(runs) > RUNS_MAX:
            self.forget_all()
        self._heads.update((tenant, head) for tenant, head in heads.items() if head.seq)
        for key, run in runs.items():
            of_tenant = self._kept_runs.setdefault(key[0], {})
            self._runs += key not in of_tenant
            of_tenant[key] = run

    def missed(self, tenants: Iterable[str]) -> None:
        """The memory of these was behind: somebody else appends to their chains."""
        for tenant in tenants:
            self._waiting[tenant] = BATCHES_AFTER_A_MISS

    def forget(self, *tenants: str) -> None:
        """Of these nothing is known any more."""
        for tenant in tenants:
            self._heads.pop(tenant, None)
            self._runs -= len(self._kept_runs.pop(tenant, {}))

    def forget_all(self) -> None:
        """Nothing is known any more."""
        self._heads.clear()
        self._kept_runs.clear()
        self._waiting.clear()
        self._runs = 0

    def _is_due(self, tenant: str) -> bool:
        left = self._waiting.get(tenant, 0)
        if left > 1:
            self._waiting[tenant] = left - 1
            return False
        self._waiting.pop(tenant, None)
        return True
