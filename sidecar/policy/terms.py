"""What a decision asks beside its effect: approvals, limits to be charged, obligations.

Knows: plain values, and how obligations of several rules unite (the tightest wins).
Must not know: how any of it is carried out, kept or asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from sidecar.policy.reasons import Reason

#: Sums are kept in millionths, so that adding them up is exact on every engine.
SUM_SCALE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class ApprovalTerms:
    """Who must approve, and how many. No `approvers`: any approver. What is None stands in
    sidecar.yaml (`approvals`). `rule_id` is the rule that asks."""

    rule_id: str = ""
    approvers: tuple[str, ...] = ()
    quorum: int = 1
    expires_us: int | None = None
    hold_us: int | None = None


class Charge(NamedTuple):
    """What one limit counts of one call: `amount` goes into the bucket `key`, which never holds
    more than `max` in a window. Both are calls, or millionths of a sum (`scale` says which).

    `limit` tells the limits apart, of one rule and of several, and changes when the limit does.
    """

    rule_id: str
    limit: str
    key: str
    amount: int
    max: int
    window_us: int
    scale: int
    is_sum: bool
    is_shared: bool
    reason: Reason


@dataclass(frozen=True, slots=True)
class Redaction:
    """What is masked: paths below the whole (`("a", "b")`) and what detectors find."""

    paths: tuple[tuple[str, ...], ...] = ()
    detectors: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.paths or self.detectors)


NO_REDACTION: Final = Redaction()


@dataclass(frozen=True, slots=True)
class Obligations:
    """What is done with a call that goes ahead. Header names are in lower case."""

    request: Redaction = NO_REDACTION
    response: Redaction = NO_REDACTION
    max_response_bytes: int | None = None
    set_headers: tuple[tuple[str, str], ...] = ()
    remove_headers: tuple[str, ...] = ()
    needs_idempotency_key: bool = False
    add_labels: tuple[str, ...] = ()

    def names(self, header: str) -> bool:
        """Whether anything is done with a header of this name."""
        return header in self.remove_headers or any(name == header for name, _ in self.set_headers)

    @property
    def touches_request(self) -> bool:
        """Whether anything is done before the call is forwarded."""
        return bool(
            self.request or self.set_headers or self.remove_headers or self.needs_idempotency_key
        )

    @property
    def touches_response(self) -> bool:
        """Whether anything is done with what comes back."""
        return self.max_response_bytes is not None or bool(self.response)


class ObligationsConflict(Exception):
    """Two rules want different things of one header; the message names it."""


def united(several: Iterable[Obligations]) -> Obligations | None:
    """All of them at once; None of none. Raises ObligationsConflict."""
    ones = list(dict.fromkeys(several))
    if len(ones) < 2:
        return ones[0] if ones else None
    sizes = [one.max_response_bytes for one in ones if one.max_response_bytes is not None]
    return Obligations(
        _redaction(one.request for one in ones),
        _redaction(one.response for one in ones),
        min(sizes) if sizes else None,
        *_headers(ones),
        any(one.needs_idempotency_key for one in ones),
        tuple(sorted({label for one in ones for label in one.add_labels})),
    )


def _redaction(several: Iterable[Redaction]) -> Redaction:
    ones = list(several)
    return Redaction(
        tuple(sorted({path for one in ones for path in one.paths})),
        tuple(sorted({name for one in ones for name in one.detectors})),
    )


def _headers(
    several: Iterable[Obligations],
) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    values: dict[str, str | None] = {}
    for one in several:
        wanted: list[tuple[str, str | None]] = [*one.set_headers]
        wanted += [(name, None) for name in one.remove_headers]
        for name, value in wanted:
            if values.setdefault(name, value) != value:
                raise ObligationsConflict(name)
    kept = sorted(values.items())
    return (
        tuple((name, value) for name, value in kept if value is not None),
        tuple(name for name, value in kept if value is None),
    )
