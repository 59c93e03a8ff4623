"""What a chain tells of whether its sidecar ran: silences that were not to be, ends that lack.

Knows: what a boot promises (a receipt at least every so often while it runs), and that a promise
holds from the receipt that tells of it until its stop is on record, until the next boot of its
node says how it ended, or until its store is let go; not while a fence stands. Times are those of
the receipts, by the clock of whoever wrote them. What is found is worth a question, and is no fault
of the chain: a crash, a machine that slept and a store that was down leave the same silence as
somebody who kept the sidecar from writing. Of a part of a chain only what stands in it is known:
before its first start or heartbeat nothing is promised.
Must not know: files, how a store is read, how it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from sidecar.ledger.boot_entries import ALIVE, NO_STOP, START, STOP, read_boot
from sidecar.ledger.store_entries import FENCE, MOVE, UNFENCE
from storage.records import ReceiptRow

#: A heartbeat may come late by a tenth of its interval, and by so much: a look, a commit.
LATE_US: Final = 5_000_000
#: No time between two receipts is that long.
NEVER_US: Final = 2**63
#: Of each kind a verdict spells out so many, and gives the number of all.
SHOWN_MAX: Final = 20
_BOOTS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Silence:
    """No receipt after receipt `after_seq` until `until_us`, although one was due every
    `heartbeat_us` and no stop was on record."""

    after_seq: int
    from_us: int
    until_us: int
    heartbeat_us: int


@dataclass(frozen=True, slots=True)
class Unstopped:
    """Receipt `seq` begins a boot, and the one before, `boot`, has no stop on record."""

    seq: int
    boot: str


@dataclass(frozen=True, slots=True)
class SignsOfLife:
    """What was found, as a verdict has it: the first of `silence_count` silences and of
    `unstopped_count` boots without a stop; `runs` and `promised_us` are what receipts say last,
    `last_us` is the time of the last of them."""

    silence_count: int = 0
    silences: tuple[Silence, ...] = ()
    unstopped_count: int = 0
    unstopped: tuple[Unstopped, ...] = ()
    runs: bool | None = None
    promised_us: int = 0
    last_us: int = 0


@dataclass(slots=True)
class Liveness:
    """Takes the receipts of a chain in order. A time between two that is longer than `due_us` is a
    silence; `promised_us` is what boots that run promise, 0 for nothing."""

    silence_count: int = 0
    silences: list[Silence] = field(default_factory=list)
    unstopped_count: int = 0
    unstopped: list[Unstopped] = field(default_factory=list)
    due_us: int = NEVER_US
    promised_us: int = 0
    #: Whether the last that was told of any boot is that it runs; None if nothing was told.
    runs: bool | None = None
    _promises: dict[str, int] = field(default_factory=dict)
    _is_fenced: bool = False
    _last_seq: int = 0
    _last_us: int = 0

    def follow(self, rows: Iterable[ReceiptRow]) -> None:
        """Takes the next receipts of a chain, of whatever kind, which hold; of one that is read
        stretch by stretch, the stretches one after the other."""
        for row in rows:
            if row.ts_us - self._last_us > self.due_us:
                self.silent(self._last_seq, self._last_us, row.ts_us)
            if row.kind == "control":
                self.take({"action": row.action, "resource": row.resource, "seq": row.seq})
            self._last_seq, self._last_us = row.seq, row.ts_us

    def found(self) -> SignsOfLife:
        """What was found in the receipts that were followed."""
        return SignsOfLife(
            self.silence_count,
            tuple(self.silences),
            self.unstopped_count,
            tuple(self.unstopped),
            self.runs,
            self.promised_us,
            self._last_us,
        )

    def silent(self, after_seq: int, from_us: int, until_us: int) -> None:
        """Notes a silence that was longer than `due_us`."""
        self.silence_count += 1
        if self.silence_count <= SHOWN_MAX:
            self.silences.append(Silence(after_seq, from_us, until_us, self.promised_us))

    def take(self, body: dict[str, Any]) -> None:
        """A receipt of kind `control`."""
        action = body["action"]
        if action in (START, ALIVE, STOP):
            said = read_boot(body["resource"])
            if said is not None:
                self._take_boot(action, body["seq"], said)
        elif action in (FENCE, UNFENCE):
            self._is_fenced = action == FENCE
        elif action == MOVE:
            self._promises.clear()
            self._is_fenced = False
        else:
            return
        self._settle()

    def _take_boot(self, action: str, seq: int, said: dict[str, Any]) -> None:
        boot = said["boot"]
        if action == STOP:
            self._promises.pop(boot, None)
            return
        if action == START:
            self._take_before(seq, said.get("before"))
        promised = said.get("heartbeat_us")
        self._promises[boot] = promised if type(promised) is int and promised > 0 else 0
        if len(self._promises) > _BOOTS_MAX:
            del self._promises[next(iter(self._promises))]

    def _take_before(self, seq: int, before: object) -> None:
        if not isinstance(before, dict):
            return
        boot = before.get("boot")
        if isinstance(boot, str):
            self._promises.pop(boot, None)
        if before.get("ended") == NO_STOP:
            self.unstopped_count += 1
            if self.unstopped_count <= SHOWN_MAX:
                self.unstopped.append(Unstopped(seq, boot if isinstance(boot, str) else ""))

    def _settle(self) -> None:
        promised = [one for one in self._promises.values() if one]
        self.runs = bool(self._promises)
        self.promised_us = min(promised, default=0) if not self._is_fenced else 0
        late_us = self.promised_us // 10 + LATE_US
        self.due_us = self.promised_us + late_us if self.promised_us else NEVER_US
