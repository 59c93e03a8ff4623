"""Plain numbers the path increments: counters and fixed-bucket histograms.

Knows: what is counted on the way of a call, and which label values may ever appear. A label value
is either a configured name or one of a literal set; whatever else arrives is counted as `other`,
so that no caller can make the number of series grow.
Must not know: how numbers are published, and anything of a call beyond those label values.
All methods run on the event loop's thread; nothing here locks or allocates per call.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final

from sidecar.errors import REFUSALS
from sidecar.model import Decision, Effect, Mode, OutcomeKind

OTHER: Final = "other"

#: Only so many upstreams get series of their own (a histogram each); the rest share `other`.
LABELLED_UPSTREAMS: Final = 64

DECISION_BUCKETS_S: Final = (
    0.00005,
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.05,
    0.25,
    1.0,
)
ADDED_BUCKETS_S: Final = (
    0.0005,
    0.001,
    0.002,
    0.003,
    0.005,
    0.0075,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
)
UPSTREAM_BUCKETS_S: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
)

#: Why calls fail at an upstream, by the code of the refusal that their caller gets. `busy`: more
#: are on their way to it than may be, mostly because it answers too slowly.
UPSTREAM_FAILURES: Final = {
    "upstream_busy": "busy",
    "upstream_broken": "broken",
    "upstream_timeout": "timeout",
    "upstream_unreachable": "unreachable",
}
#: Its answer said so; the caller gets it as it is.
SERVER_ERROR: Final = "server_error"

#: Refusals that no rule asked for: the sidecar could not judge or record the call.
FAIL_CLOSED_CODES: Final = (
    "condition_error",
    "stale_decision",
    "internal_error",
    "shutting_down",
    "bodies_full",
    "queue_full",
    "store_unavailable",
    "store_fenced",
    "store_moved",
    "run_unreadable",
)

#: Why exactly, where it is known: the codes above, and those of the store.
FAIL_CLOSED_REASONS: Final = (
    *FAIL_CLOSED_CODES,
    "queue_timeout",
    "queue_closed",
    "store_error",
    "store_full",
    "store_read_only",
    "store_busy",
    "store_held",
    "store_corrupt",
    "read_timeout",
    "unscoped_read",
    "commit_unknown",
    "unique_violation",
    "unrecordable",
)


class Histogram:
    """Durations in fixed buckets. `counts` is per bucket (not cumulative), the last is above all
    bounds; `sum_ns` is exact."""

    __slots__ = ("bounds_ns", "bounds_s", "counts", "sum_ns")

    def __init__(self, bounds_s: Sequence[float]) -> None:
        self.bounds_s = tuple(bounds_s)
        self.bounds_ns = [round(bound * 1e9) for bound in bounds_s]
        self.counts = [0] * (len(bounds_s) + 1)
        self.sum_ns = 0

    def observe_ns(self, duration_ns: int) -> None:
        """Counts one duration; a value equal to a bound belongs to that bound's bucket."""
        self.counts[bisect_left(self.bounds_ns, duration_ns)] += 1
        self.sum_ns += duration_ns

    @property
    def count(self) -> int:
        """How many durations were counted."""
        return sum(self.counts)

    def quantile_s(self, share: float) -> float | None:
        """The duration that this share of all did not exceed, as PromQL estimates it: evenly within
        a bucket, the last bound for what is above it. None if nothing was counted."""
        rank, below, low_s = share * self.count, 0, 0.0
        if not rank:
            return None
        for count, high_s in zip(self.counts, self.bounds_s, strict=False):
            if count and below + count >= rank:
                return low_s + (high_s - low_s) * (rank - below) / count
            below, low_s = below + count, high_s
        return low_s


#: Why an open WebSocket ended.
WEBSOCKET_ENDINGS: Final = (
    "closed", "agent_gone", "agent_fault", "upstream_gone", "upstream_fault", "message_too_large",
    "idle", "open_too_long", "slow_reader", "agent_barred", "shutting_down",
)  # fmt: skip


class WebSocketCounters:
    """What passes through open WebSockets. `messages` are whole ones, either way."""

    __slots__ = ("agent_bytes", "ended", "messages", "open", "opened", "upstream_bytes")

    def __init__(self) -> None:
        self.open = 0
        self.opened = 0
        self.messages = 0
        self.agent_bytes = 0
        self.upstream_bytes = 0
        self.ended = dict.fromkeys(WEBSOCKET_ENDINGS, 0)

    @property
    def bytes(self) -> dict[str, int]:
        """What has passed, by who sent it."""
        return {"agent": self.agent_bytes, "upstream": self.upstream_bytes}


class Counters:
    """Everything counted on the way of a call. `upstreams` are the configured names."""

    __slots__ = (
        "added_seconds",
        "answer_bytes_held",
        "approval_hash_mismatches",
        "authorize_repeats",
        "decision_seconds",
        "decisions",
        "denied_fail_closed",
        "forwarded",
        "in_flight",
        "intents",
        "listening",
        "open_lookups",
        "outcomes",
        "refusals",
        "request_bytes_held",
        "shadow_by_tenant",
        "shadow_decisions",
        "unrecorded_refusals",
        "upstream_failures",
        "upstream_seconds",
        "websockets",
    )

    def __init__(self, upstreams: Iterable[str] = ()) -> None:
        #: Calls being worked on now.
        self.in_flight = 0
        #: Those of them that wait for nothing but what an MCP server may say by itself.
        self.listening = 0
        #: Of request bodies that arrive, or whose calls have not ended.
        self.request_bytes_held = 0
        #: Of answers that are looked into before they pass.
        self.answer_bytes_held = 0
        #: Authorize calls that were answered from the record of the same request.
        self.authorize_repeats = 0
        #: Approvals that somebody tried to spend on another action than they were given for.
        self.approval_hash_mismatches = 0
        #: Intents made durable, and calls whose first byte was offered to the upstream; with them
        #: what a server asked of its agent, once it is passed on.
        self.intents = 0
        self.forwarded = 0
        #: Refusals answered without a record, because there was no caller to record them for.
        self.unrecorded_refusals = 0
        #: Looks at what an agent must know to log in, by somebody without a credential.
        self.open_lookups = 0
        self.decisions: dict[tuple[str, str], int] = {
            (effect, mode): 0 for effect in Effect for mode in (Mode.ENFORCE, Mode.OBSERVE)
        }
        #: By what was decided and what it would be if the rules in shadow decided too: those
        #: that differ are what `policy promote` would change.
        self.shadow_decisions: dict[tuple[str, str], int] = {
            (effect, would_be): 0 for effect in Effect for would_be in Effect
        }
        #: The same of each tenant that had one: what one is told must not tell of another.
        self.shadow_by_tenant: dict[str, dict[tuple[str, str], int]] = {}
        self.refusals = dict.fromkeys((*REFUSALS, OTHER), 0)
        self.denied_fail_closed = dict.fromkeys(FAIL_CLOSED_REASONS, 0)
        self.outcomes: dict[str, int] = dict.fromkeys(OutcomeKind, 0)
        self.websockets = WebSocketCounters()
        self.decision_seconds = Histogram(DECISION_BUCKETS_S)
        self.added_seconds = Histogram(ADDED_BUCKETS_S)
        names = sorted(upstreams)[:LABELLED_UPSTREAMS]
        self.upstream_seconds = {name: Histogram(UPSTREAM_BUCKETS_S) for name in (*names, OTHER)}
        #: By upstream and cause.
        self.upstream_failures: dict[tuple[str, str], int] = {
            (name, cause): 0
            for name in (*names, OTHER)
            for cause in (*UPSTREAM_FAILURES.values(), SERVER_ERROR)
        }

    def decided(self, decision: Decision, took_ns: int, tenant: str) -> None:
        """One answer of the policies on a call of a tenant, and how long it took."""
        key = (decision.effect, decision.mode)
        self.decisions[key] = self.decisions.get(key, 0) + 1
        self.decision_seconds.observe_ns(took_ns)
        would_be = decision.would_be
        if would_be is not None:
            pair = (decision.effect, would_be)
            self.shadow_decisions[pair] = self.shadow_decisions.get(pair, 0) + 1
            of_tenant = self.shadow_by_tenant.setdefault(tenant, {})
            of_tenant[pair] = of_tenant.get(pair, 0) + 1

    def refused(self, code: str, cause: str = "", upstream: str = "") -> None:
        """One refusal sent to a caller, by its stable code.

        Where the code says that the sidecar itself could not judge or record, the call also
        counts as denied because it failed closed, under `cause` (a store's error code) if given.
        Where it says that an `upstream` failed, that counts as a failure of it.
        """
        self.refusals[code if code in self.refusals else OTHER] += 1
        if code in FAIL_CLOSED_CODES:
            reason = cause if cause in self.denied_fail_closed else code
            self.denied_fail_closed[reason] += 1
        elif code in UPSTREAM_FAILURES and upstream:
            self._failed(upstream, UPSTREAM_FAILURES[code])

    def _failed(self, upstream: str, cause: str) -> None:
        name = upstream if upstream in self.upstream_seconds else OTHER
        self.upstream_failures[name, cause] += 1

    def ended(self, kind: OutcomeKind) -> None:
        """One recorded intent ended."""
        self.outcomes[kind] += 1

    def took(
        self, upstream: str, upstream_ns: int, added_ns: int | None, status: int | None = None
    ) -> None:
        """How long an answered call took: from the first byte sent upstream to its answer, and
        what the sidecar itself added to that, where the answer came whole. With the answer's
        `status`, one that says that the upstream failed counts as a failure."""
        if status is not None and status >= 500:
            self._failed(upstream, SERVER_ERROR)
        histograms = self.upstream_seconds
        (histograms.get(upstream) or histograms[OTHER]).observe_ns(upstream_ns)
        if added_ns is not None:
            self.added_seconds.observe_ns(added_ns)
