"""Signed heads that stand far back in files which have grown for months: sizes and roots alone.

Knows: that one of them may be all that shows that what was signed then was rewritten since, for the
later heads were signed over what took its place; that hundreds of thousands, as notes, would take
more memory than a verifier should need. Those that agree with the receipts add nothing to a later
head that does, so of them the signatures are not looked at. The first that does not agree is read
again, and judged as any other.
Must not know: who is trusted, how a verdict is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sidecar.ledger.checkpoint import tenant_of
from sidecar.ledger.checkpoint_file import BYTES_READ_MAX, Kept, older_in


class OlderHeads:
    """What `checkpoint_file.lines_in` leaves out of some files."""

    def __init__(self, paths: Sequence[Path], bytes_max: int = BYTES_READ_MAX) -> None:
        self._paths = paths
        self._bytes_max = bytes_max
        self._roots: dict[str | None, dict[int, bytes]] = {}
        #: Sizes of which there are several roots.
        self._forked: dict[str | None, set[int]] = {}

    @property
    def sizes(self) -> frozenset[int]:
        """At which roots have to be noted while the receipts are read."""
        return frozenset(size for roots in self._roots.values() for size in roots)

    def read(self) -> dict[Path, int]:
        """Reads them; gives of each file how many lines are no heads. Raises OSError."""
        damaged: dict[Path, int] = {}
        for path in self._paths:
            for kept in older_in(path, self._bytes_max):
                if kept is None:
                    damaged[path] = damaged.get(path, 0) + 1
                else:
                    self._take(kept)
        return damaged

    def count(self, tenant_id: str) -> int:
        """How many sizes of a tenant's chain there are."""
        return len(self._roots.get(tenant_id, ()))

    def first_differing(self, tenant_id: str, roots: dict[int, bytes], last_seq: int) -> list[Kept]:
        """The heads of the first size that is not as the receipts of this tenant say, up to
        `last_seq`, which have these roots; none if all agree. Raises OSError."""
        there, forked = self._roots.get(tenant_id, {}), self._forked.get(tenant_id, ())
        first = min(
            (
                size
                for size, root in there.items()
                if size > last_seq or size in forked or roots.get(size) != root
            ),
            default=None,
        )
        if first is None:
            return []
        return [
            kept
            for path in self._paths
            for kept in older_in(path, self._bytes_max)
            if kept is not None
            and kept.checkpoint.size == first
            and tenant_of(kept.checkpoint.origin) == tenant_id
        ]

    def _take(self, kept: Kept) -> None:
        tenant_id, size = tenant_of(kept.checkpoint.origin), kept.checkpoint.size
        root = self._roots.setdefault(tenant_id, {}).setdefault(size, kept.checkpoint.root)
        if root != kept.checkpoint.root:
            self._forked.setdefault(tenant_id, set()).add(size)
