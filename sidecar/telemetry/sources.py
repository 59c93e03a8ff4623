"""Where the metrics' numbers come from, and the form in which they are listed.

Knows: the objects that count, by the few attributes that are read of them.
Must not know: the list of metrics (metrics), the exposition format (exposition).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from sidecar.telemetry.counters import Counters, Histogram
from sidecar.telemetry.store_surroundings import Surroundings

if TYPE_CHECKING:
    from sidecar.policy_files import PolicyKeeper
    from storage.driver import StoreFacts
    from storage.pressure import Snapshot
    from storage.write_queue import WriteQueue


class Door(Protocol):
    """What the front door counts of connections and of heads that never became a call."""

    open_connections: int

    @property
    def malformed_total(self) -> Mapping[str, int]:
        """Refused heads by code."""

    @property
    def turned_away_total(self) -> Mapping[str, int]:
        """Connections turned away by cause."""


class RecordKeeper(Protocol):
    """What the recorder counts of records that could not be made."""

    unrecorded_refusals: int
    left_open: int


class StoreRole(Protocol):
    """What telemetry and control need of a store."""

    node_id: str

    def facts(self) -> StoreFacts:
        """Plain numbers."""

    async def probe(self) -> None:
        """Proves that a commit would succeed now; raises a StoreError."""


class FenceRole(Protocol):
    """Whether the store stands still for a move."""

    is_up: bool

    def sentence(self) -> str:
        """What an operator reads; "" while it does not."""


class Certificate(Protocol):
    """The certificate of a listener."""

    listener: str
    expires_us: int
    reload_succeeded: bool


class UpstreamCertificate(Protocol):
    """The files by which an upstream is trusted, and a certificate is shown to it."""

    upstream: str
    reload_succeeded: bool

    @property
    def expires_us(self) -> int | None:
        """Until when the one that is shown is valid; None if none is."""


class PinCounts(Protocol):
    """What is known of tools of MCP servers that are not what they were pinned to."""

    @property
    def drifts_total(self) -> Mapping[str, int]:
        """How often that was found, by upstream."""

    def drifted_by_upstream(self) -> Mapping[str, int]:
        """How many are hidden now."""

    @property
    def checks(self) -> CheckCounts:
        """Of arguments."""


class CheckCounts(Protocol):
    """What is known of arguments that are held against pinned schemas."""

    @property
    def misfits_total(self) -> Mapping[str, int]:
        """Calls whose arguments did not fit, by upstream."""

    def unchecked_by_upstream(self) -> Mapping[str, int]:
        """How many tools cannot be checked, or not wholly."""


class ExportCounts(Protocol):
    """What is known of signed heads on their way to one target."""

    name: str
    delivered_total: int

    @property
    def failures_total(self) -> Mapping[str, int]:
        """Attempts that failed, by reason."""

    def lag_s(self) -> float:
        """How long the head that waits longest has waited."""


class CheckpointCounts(Protocol):
    """What is known of the heads that are signed."""

    signed_total: int

    @property
    def exporters(self) -> Sequence[ExportCounts]:
        """One for each target."""

    @property
    def differing(self) -> Collection[str]:
        """Chains whose receipts are not what their head stands for."""

    def lag_s(self) -> float:
        """For how long the oldest receipt that no signed head covers has been there."""


class OpenApprovals(Protocol):
    """The open approvals as a process knows them, and what others came to."""

    results: dict[str, int]
    decision_seconds: Histogram

    @property
    def pending(self) -> int:
        """How many wait for a person."""

    def oldest_age_s(self, at_us: int) -> float:
        """How long the oldest of those has waited."""


class HeldCalls(Protocol):
    """Calls that wait for a yes."""

    @property
    def count(self) -> int:
        """How many."""


class ApprovalCounts(Protocol):
    """What is known of approvals."""

    @property
    def register(self) -> OpenApprovals:
        """Those that are open."""

    @property
    def waiting(self) -> HeldCalls:
        """Calls held for them."""

    def now_us(self) -> int:
        """The moment by the store's clock."""


class IssuerKeys(Protocol):
    """The keys of an issuer of signed tokens."""

    failures_total: int

    @property
    def age_s(self) -> float | None:
        """How long ago they were fetched; None if they never were."""


class CallerCounts(Protocol):
    """What is known of callers, and of those who were not known."""

    @property
    def key_sets(self) -> Mapping[str, IssuerKeys]:
        """By issuer."""

    @property
    def failures_by_reason(self) -> Mapping[str, int]:
        """How often somebody was not known, by why."""

    @property
    def lockouts_total(self) -> int:
        """How often an address was locked out."""

    def agents_by_state(self) -> Mapping[str, int]:
        """How many agents stand how."""

    def containments_by_action(self) -> Mapping[str, int]:
        """How many containments are active, by what they do."""


class NoticeCounts(Protocol):
    """What was counted of noticing."""

    passes: int
    receipts: int
    events: int
    hits: int
    joined: int
    dropped: int
    withheld: int
    overtaken: int
    rebuilds: int
    rebuilds_cut: int
    condition_errors: int
    forgotten: int
    breaks: int
    swept: int
    responses: dict[str, int]
    raised: dict[str, int]
    errors: dict[str, int]


class WatchCounts(Protocol):
    """What is known of noticing in this process."""

    @property
    def counts(self) -> NoticeCounts:
        """What was counted."""

    @property
    def watching(self) -> int:
        """Tenants whose record this process watches now."""

    @property
    def busy_s(self) -> float:
        """What the event loop spent on it."""

    def lag_s(self) -> float:
        """How old what is to be looked at is."""


class DeliveryCounts(Protocol):
    """What is known of who is told."""

    results: Mapping[tuple[str, str], int]

    def waiting_by_sink(self) -> Mapping[str, int]:
        """How many deliveries wait."""

    def dead_by_sink(self) -> Mapping[str, int]:
        """How many were given up."""

    def oldest_s_by_sink(self) -> Mapping[str, float]:
        """For how long the oldest of those that wait has."""


class LineCounts(Protocol):
    """What the logs count of lines that were not written."""

    @property
    def waiting(self) -> int:
        """Not written yet."""

    @property
    def suppressed_total(self) -> int:
        """Kept back by the rate limit."""

    @property
    def dropped_total(self) -> int:
        """Lost."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where all numbers come from; the composition root fills it."""

    counters: Counters
    queue: WriteQueue
    pressure: Callable[[], Snapshot]
    store_facts: Callable[[], StoreFacts]
    policies: PolicyKeeper
    recorder: RecordKeeper
    door: Door
    logs: LineCounts | None
    default: Literal["deny", "observe"]
    fence: FenceRole | None = None
    certificates: Sequence[Certificate] = ()
    upstream_certificates: Sequence[UpstreamCertificate] = ()
    pins: PinCounts | None = None
    checkpoints: CheckpointCounts | None = None
    approvals: ApprovalCounts | None = None
    callers: CallerCounts | None = None
    watch: WatchCounts | None = None
    deliveries: DeliveryCounts | None = None
    surroundings: Callable[[], Awaitable[Surroundings]] | None = None


class Scrape(NamedTuple):
    """The sources at one scrape: what is computed is computed once."""

    sources: Sources
    pressure: Snapshot
    facts: StoreFacts
    surroundings: Surroundings = Surroundings()


class Buckets(NamedTuple):
    """A histogram's state: upper bounds, counts up to each bound and in all, and the sum."""

    bounds: Sequence[float]
    cumulative: Sequence[int]
    total: float


Sample = tuple[tuple[str, ...], float | Buckets]
Kind = Literal["counter", "gauge", "histogram"]


class Metric(NamedTuple):
    """One metric; `read` gives a sample for each combination of label values."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    read: Callable[[Scrape], Iterable[Sample]]
