"""The chain ends this process last committed, so that a server need not be asked before a batch.

Knows: when a memory may be used, and when it should not even be tried: what was missed once is
shared with other nodes, and asking first is then the shorter way for a while.
Must not know: statements. A memory decides nothing: the guard in the store does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from storage.record_batch import RunKey, runs_to_read
from storage.records import Entry, HeadRow

#: Tenants, and runs, beyond which everything is forgotten and learned again.
TENANTS_MAX = 10_000
RUNS_MAX = 100_000
#: Batches of a tenant that are not tried from memory after one that missed.
BATCHES_AFTER_A_MISS = 64


class RememberedHeads:
    """What is taken out is gone until it is kept again: whatever fails in between forgets."""

    def __init__(self) -> None:
        self._heads: dict[str, HeadRow] = {}
        self._versions: dict[str, dict[RunKey, int]] = {}
        self._runs = 0
        self._waiting: dict[str, int] = {}

    def take(
        self, entries: Sequence[Entry], tenants: Sequence[str]
    ) -> tuple[dict[str, HeadRow], dict[RunKey, int]] | None:
        """Heads and run versions for a batch, None unless all of them are known and worth a try."""
        is_worth_it = all([self._is_due(tenant) for tenant in tenants])
        heads = {t: head for t in tenants if (head := self._heads.pop(t, None)) is not None}
        known: dict[RunKey, int] = {}
        for tenant in tenants:
            versions = self._versions.pop(tenant, {})
            self._runs -= len(versions)
            known |= versions
        if not is_worth_it or len(heads) < len(tenants):
            return None
        if not runs_to_read(entries, heads) <= known.keys():
            return None
        return heads, known

    def keep(self, heads: Mapping[str, HeadRow], versions: Mapping[RunKey, int]) -> None:
        """What a batch that is committed left behind; a tenant without a receipt has no row yet."""
        if len(self._heads) + len(heads) > TENANTS_MAX or self._runs + len(versions) > RUNS_MAX:
            self.forget_all()
        self._heads.update((tenant, head) for tenant, head in heads.items() if head.seq)
        for run, version in versions.items():
            of_tenant = self._versions.setdefault(run[0], {})
            self._runs += run not in of_tenant
            of_tenant[run] = version

    def missed(self, tenants: Iterable[str]) -> None:
        """The memory of these was behind: somebody else appends to their chains."""
        for tenant in tenants:
            self._waiting[tenant] = BATCHES_AFTER_A_MISS

    def forget(self, tenant: str) -> None:
        """Of one tenant nothing is known any more."""
        self._heads.pop(tenant, None)
        self._runs -= len(self._versions.pop(tenant, {}))

    def forget_all(self) -> None:
        """Nothing is known any more."""
        self._heads.clear()
        self._versions.clear()
        self._waiting.clear()
        self._runs = 0

    def _is_due(self, tenant: str) -> bool:
        left = self._waiting.get(tenant, 0)
        if left > 1:
            self._waiting[tenant] = left - 1
            return False
        self._waiting.pop(tenant, None)
        return True
