"""What few may do at once, divided between those who ask for it.

Knows: that a request may be made to last, by a body that does not come or an answer that is not
taken: of a bound for all, one person has at most half, and one of several tenants no more, or a key
that may only look could keep everybody from holding up an agent.
Must not know: what is asked for, HTTP.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

from sidecar.control.api.problems import ApiProblem
from sidecar.model import Person


class Shares:
    """Of one thing, as many of it as are being done now."""

    def __init__(self, *, has_tenants: bool) -> None:
        """`has_tenants`: there are several, none of which may have it all."""
        self._has_tenants = has_tenants
        self._by_whom: Counter[tuple[str, ...]] = Counter()

    @contextlib.contextmanager
    def one_of(self, most: int, person: Person) -> Iterator[None]:
        """One more is being done for the person, of `most` for all. Raises ApiProblem("too_busy"):
        then it is not."""
        whose: list[tuple[str, ...]] = [(person.tenant, person.actor)]
        if self._has_tenants:
            whose.append((person.tenant,))
        half = max(1, most // 2)
        if any(self._by_whom[who] >= half for who in whose):
            raise ApiProblem(
                "too_busy", "half of what may be asked at once is being answered for you"
            )
        self._by_whom.update(whose)
        try:
            yield
        finally:
            self._by_whom.subtract(whose)
            for who in whose:
                if not self._by_whom[who]:
                    del self._by_whom[who]
