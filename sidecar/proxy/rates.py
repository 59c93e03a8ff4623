"""Rates kept in this process: how many calls each bucket has seen, as one number a bucket.

Knows: that a call is counted in all its buckets or in none; that a full bucket says nothing and
may be forgotten; that there is room for so many buckets of one limit, and that a call which would
need another is refused. Counts begin anew with the process and are this process's own.
Must not know: rules, HTTP, the clock (the moment is an argument).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from sidecar.model import Decision
from sidecar.policy.facts import Facts
from sidecar.policy.gcra import Answer, Pace, ask, pace
from sidecar.policy.index import PolicySet
from sidecar.policy.limits import over_limit
from sidecar.policy.terms import Charge

#: The buckets, as (limit, key), in which one call was counted, and what it took of each.
Counted = dict[tuple[str, str], int]

#: Buckets of one limit; with `per: args.NAME` callers choose how many are asked for.
BUCKETS_MAX: Final = 50_000
#: Limits with buckets; those of rules that are gone make room for others.
LIMITS_MAX: Final = 2_000


class Over(NamedTuple):
    """The limit that a call would break: what its bucket holds, and how long until there is room.
    `is_full` tells that it is not the bucket that is full, but the table of them."""

    charge: Charge
    used: int
    wait_ns: int
    is_full: bool = False


class _Buckets:
    """The buckets of one limit, by key; a value is the moment at which the bucket is full again."""

    __slots__ = ("full_at_ns", "swept_at_ns", "used_at_ns")

    def __init__(self) -> None:
        self.full_at_ns: dict[str, int] = {}
        self.swept_at_ns = 0
        self.used_at_ns = 0

    def has_room(self, key: str, now_ns: int, rate: Pace, buckets_max: int) -> bool:
        """Whether the bucket is there or there is room for it; forgets full ones if need be, no
        more often than one call takes to come back."""
        if key in self.full_at_ns or len(self.full_at_ns) < buckets_max:
            return True
        if now_ns - self.swept_at_ns < rate.interval_ns:
            return False
        self.swept_at_ns = now_ns
        self.full_at_ns = {k: at for k, at in self.full_at_ns.items() if at > now_ns}
        return len(self.full_at_ns) < buckets_max


class Rates:
    """Counts calls; all methods run on the event loop's thread, and none waits."""

    def __init__(self, buckets_max: int = BUCKETS_MAX, limits_max: int = LIMITS_MAX) -> None:
        self._buckets_max = buckets_max
        self._limits_max = limits_max
        self._limits: dict[str, _Buckets] = {}

    @property
    def bucket_count(self) -> int:
        """How many buckets are remembered."""
        return sum(len(buckets.full_at_ns) for buckets in self._limits.values())

    def settle(
        self,
        policy_set: PolicySet,
        decision: Decision,
        facts: Facts,
        now_ns: int,
        counted: Counted,
    ) -> tuple[Decision, int | None]:
        """The decision once its limits were looked at: itself, counted, or a refusal with the
        seconds until there is room. `counted` remembers what this very call was counted in."""
        over = self.take(decision.charges, now_ns, counted)
        if over is None:
            return decision, None
        wait_s = max(1, -(-over.wait_ns // 1_000_000_000))
        return over_limit(policy_set, decision, over.charge, over.used, facts), wait_s

    def take(self, charges: Sequence[Charge], now_ns: int, counted: Counted) -> Over | None:
        """Counts a call in all its buckets, or gives the limit it would break; of several the one
        that takes longest to have room.

        What is shared or a sum is not counted here, nor what stands in `counted`: a call that is
        decided anew is counted once.
        """
        answers: list[tuple[_Buckets, Charge, Answer]] = []
        over: Over | None = None
        for charge in charges:
            if charge.is_sum or charge.is_shared or (charge.limit, charge.key) in counted:
                continue
            buckets, rate = self._of(charge.limit, now_ns), pace(charge.max, charge.window_us)
            if not buckets.has_room(charge.key, now_ns, rate, self._buckets_max):
                return Over(charge, charge.max, rate.interval_ns, is_full=True)
            answer = ask(buckets.full_at_ns.get(charge.key), now_ns, rate)
            if not answer.allowed and (over is None or answer.wait_ns > over.wait_ns):
                over = Over(charge, answer.used, answer.wait_ns)
            answers.append((buckets, charge, answer))
        if over is None:
            for buckets, charge, answer in answers:
                buckets.full_at_ns[charge.key] = answer.full_at_ns
                counted[charge.limit, charge.key] = pace(charge.max, charge.window_us).interval_ns
        return over

    def give_back(self, counted: Counted) -> None:
        """The call did not go ahead after all: what it took is there for others again."""
        for (limit, key), interval_ns in counted.items():
            buckets = self._limits.get(limit)
            if buckets is not None and key in buckets.full_at_ns:
                buckets.full_at_ns[key] -= interval_ns
        counted.clear()

    def _of(self, limit: str, now_ns: int) -> _Buckets:
        """The buckets of a limit; of too many limits the one that was idle longest goes."""
        buckets = self._limits.get(limit)
        if buckets is None:
            if len(self._limits) >= self._limits_max:
                idle = min(self._limits, key=lambda name: self._limits[name].used_at_ns)
                del self._limits[idle]
            buckets = self._limits[limit] = _Buckets()
        buckets.used_at_ns = now_ns
        return buckets
