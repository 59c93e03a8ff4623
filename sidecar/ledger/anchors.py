"""What checkpoints show of receipts that were read: how far they are vouched for, and by whom.

Knows: that a head counts if a trusted key signed it, or one that a trusted key handed over to on
record while it was in force; that every head there is of a tenant must be of this very history: a
smaller chain was cut, another root was rewritten, two roots of one size are a fork. Pure: the
receipts were verified by themselves already.
Must not know: where heads come from, how the verdict is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from sidecar.counted import counted
from sidecar.ledger.checkpoint import tenant_of
from sidecar.ledger.checkpoint_file import Kept
from sidecar.ledger.key_rotation import Rotation, read_rotation
from sidecar.ledger.verify import Verdict, Watch
from sidecar.signed_note import COSIGNATURE, ED25519, BadNote, VerifierKey


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A key an auditor brings; without a name it is trusted under any."""

    public: bytes
    name: str | None = None
    kind: int = ED25519

    def under(self, name: str) -> VerifierKey | None:
        """The key as it signs under a name; None if it is trusted under another only."""
        return VerifierKey(name, self.public, self.kind) if self.name in (None, name) else None


@dataclass(frozen=True, slots=True)
class AnchorFault:
    """Why the receipts are not what was signed; receipts up to `first_bad` - 1 may still be.

    `kind` is cut, rewritten, fork, forged, damaged, unknown_key, replaced_key or bad_rotation;
    `notes` are the evidence.
    """

    kind: str
    first_bad: int
    what: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Anchors:
    """What heads show: receipts up to `size` are vouched for by `key` ("" if nobody is trusted).

    `agreeing` heads of this history were looked at, `others` are of other tenants; `witnesses`
    cosigned the one at `size`, each with its time. Those of the trusted which did not are `behind`,
    each with the size that it cosigned last, 0 if none. Of a part of a chain there is `signed`
    alone: how many receipts the largest head is of.
    """

    size: int = 0
    key: str = ""
    agreeing: int = 0
    others: int = 0
    witnesses: tuple[tuple[str, int], ...] = ()
    behind: tuple[tuple[str, int], ...] = ()
    rotations: int = 0
    signed: int = 0
    fault: AnchorFault | None = None


@dataclass(slots=True)
class _Trust:
    """Which key may sign which sizes."""

    given: Sequence[TrustedKey]
    #: A head of another signer is compared, and anchors nothing; otherwise it is a fault.
    may_be_foreign: bool = False
    rotations: list[Rotation] = field(default_factory=list)

    def signer(self, kept: Kept) -> VerifierKey:
        """Who of the trusted signed a head. Raises _NotTrusted, or BadNote for a forgery, also of a
        trusted witness's line."""
        origin, size = kept.checkpoint.origin, kept.checkpoint.size
        for witness in _witnesses(self.given):
            kept.note.signature_by(witness)
        replaced = None
        for key in self._candidates(origin):
            if kept.note.signature_by(key) is None:
                continue
            replaced = self.replaced_at(key, size)
            if replaced is None:
                return key
        if replaced is not None:
            raise _NotTrusted("replaced_key", f"by a key that was replaced at receipt {replaced}")
        raise _NotTrusted("unknown_key", "by no key that is trusted")

    def _candidates(self, origin: str) -> list[VerifierKey]:
        keys = [key for one in self.given if (key := one.under(origin)) is not None]
        found = [key for key in keys if key.kind == ED25519]
        grown = True
        while grown:
            grown = False
            for rotation in self.rotations:
                pair = (rotation.old, rotation.new)
                fresh = [key for key in pair if key not in found]
                if len(fresh) == 1:
                    found += fresh
                    grown = True
        return found

    def replaced_at(self, key: VerifierKey, size: int) -> int | None:
        """The receipt since which a key does not sign trees of this size any more."""
        replaced = None
        for rotation in self.rotations:
            if rotation.seq > size:
                break
            if rotation.old == key:
                replaced = rotation.seq
            elif rotation.new == key:
                replaced = None
        return replaced


class _NotTrusted(Exception):
    def __init__(self, kind: str, what: str) -> None:
        super().__init__(what)
        self.kind = kind


def watch_for(heads: Sequence[Kept], older: frozenset[int] = frozenset()) -> Watch:
    """What has to be noted while the receipts are read; `older` are sizes besides."""
    return Watch(older | frozenset(kept.checkpoint.size for kept in heads))


def anchored(
    verdict: Verdict,
    watch: Watch,
    heads: Sequence[Kept],
    trusted: Sequence[TrustedKey],
    *,
    may_be_foreign: bool = False,
) -> Anchors:
    """What the heads show of a whole chain that holds by itself.

    Without a trusted key the heads are only compared: what agrees anchors nothing, what does not
    agree is a fault all the same. `may_be_foreign` has those of other signers be only compared
    too: a store outlives keys that were lost or replaced off the record.
    """
    own = [kept for kept in heads if tenant_of(kept.checkpoint.origin) == verdict.tenant_id]
    trust = _Trust(trusted, may_be_foreign)
    others = len(heads) - len(own)
    for seq, resource in watch.rotations:
        try:
            rotation = read_rotation(seq, resource)
        except BadNote as error:
            what = f"receipt {seq} says that the key was changed: {error}"
            return Anchors(others=others, fault=AnchorFault("bad_rotation", seq, what))
        # A key that was replaced hands over to nobody: it may have been replaced for being stolen.
        if trust.replaced_at(rotation.old, seq) is None:
            trust.rotations.append(rotation)
    fault, best, signer = _judged(verdict, watch, own, trust)
    size = best.checkpoint.size if best is not None else 0
    seen = _cosigned(own, size, trusted)
    return Anchors(
        size=size,
        key=signer.text if signer is not None else "",
        agreeing=0 if fault is not None else len(own),
        others=others,
        witnesses=tuple((name, at_s) for name, (last, at_s) in seen.items() if last == size > 0),
        behind=tuple((name, last) for name, (last, _) in seen.items() if last < size),
        rotations=len(trust.rotations),
        fault=fault,
    )


def signed_of(tenant_id: str, heads: Sequence[Kept], trusted: Sequence[TrustedKey]) -> int:
    """How many receipts of a tenant were signed, by the largest head: all that can be said to
    whoever has a part of the chain. Heads of others count for nothing where somebody is trusted."""
    return max(
        (
            kept.checkpoint.size
            for kept in heads
            if tenant_of(kept.checkpoint.origin) == tenant_id
            and (not trusted or signer_of(kept, trusted) is not None)
        ),
        default=0,
    )


def _judged(
    verdict: Verdict, watch: Watch, own: Sequence[Kept], trust: _Trust
) -> tuple[AnchorFault | None, Kept | None, VerifierKey | None]:
    """The first fault by size; the largest head that a trusted key signed, and that key."""
    best, signer, agreed = None, None, 0
    by_size = sorted(own, key=lambda one: one.checkpoint.size)
    for size, group in groupby(by_size, key=lambda one: one.checkpoint.size):
        twins, key = list(group), None
        for kept in twins:
            by, fault = _signed_by(kept, trust, agreed)
            if fault is not None:
                return fault, best, signer
            key = by or key
        roots = {kept.checkpoint.root: kept.note.whole for kept in twins}
        if len(roots) > 1:
            what = (
                f"there are {counted(len(roots), 'checkpoint')} of "
                f"{counted(size, 'receipt')} with different roots"
            )
            fault = AnchorFault("fork", agreed + 1, f"{what}: a fork", tuple(roots.values()))
            return fault, best, signer
        fault = _difference(verdict, watch, kept, agreed)
        if fault is not None:
            return fault, best, signer
        agreed = size
        if key is not None:
            best, signer = kept, key
    return None, best, signer


def _signed_by(
    kept: Kept, trust: _Trust, agreed: int
) -> tuple[VerifierKey | None, AnchorFault | None]:
    """Whose head it is; nobody's where nobody is trusted."""
    if not trust.given:
        return None, None
    size, note = kept.checkpoint.size, kept.note.whole
    try:
        return trust.signer(kept), None
    except BadNote as error:
        what = f"the checkpoint of {counted(size, 'receipt')} is forged: {error}"
        return None, AnchorFault("forged", agreed + 1, what, (note,))
    except _NotTrusted as error:
        if trust.may_be_foreign:
            return None, None
        what = f"the checkpoint of {counted(size, 'receipt')} is signed {error}"
        return None, AnchorFault(error.kind, agreed + 1, what, (note,))


def _difference(verdict: Verdict, watch: Watch, kept: Kept, agreed: int) -> AnchorFault | None:
    size, notes = kept.checkpoint.size, (kept.note.whole,)
    if size > verdict.last_seq:
        return _cut(verdict, kept)
    if watch.roots[size] != kept.checkpoint.root:
        which = f"receipt {size} is" if agreed + 1 == size else f"receipts {agreed + 1} to {size}"
        are = "not what was signed" if agreed + 1 == size else "are not what was signed"
        return AnchorFault("rewritten", agreed + 1, f"{which} {are}", notes)
    return None


def _cut(verdict: Verdict, kept: Kept) -> AnchorFault:
    size, first = kept.checkpoint.size, verdict.last_seq + 1
    missing = f"receipt {first} is" if first == size else f"receipts {first} to {size} are"
    what = (
        f"{counted(size, 'receipt was', 'receipts were')} signed, and there are "
        f"{verdict.last_seq}: {missing} missing"
    )
    return AnchorFault("cut", first, what, (kept.note.whole,))


def _cosigned(
    own: Sequence[Kept], size: int, trusted: Sequence[TrustedKey]
) -> dict[str, tuple[int, int]]:
    """The largest head up to `size` that each of the trusted witnesses cosigned, and when (seconds
    since 1970)."""
    found: dict[str, tuple[int, int]] = {}
    for witness in _witnesses(trusted):
        found.setdefault(witness.name, (0, 0))
        for kept in own:
            try:
                line = kept.note.signature_by(witness)
            except BadNote:
                continue  # A fault, at this head or before it.
            if line is not None and kept.checkpoint.size <= size:
                at = (kept.checkpoint.size, int.from_bytes(line.value[:8], "big"))
                found[witness.name] = max(found[witness.name], at)
    return found


def _witnesses(trusted: Sequence[TrustedKey]) -> list[VerifierKey]:
    return [
        VerifierKey(one.name, one.public, COSIGNATURE)
        for one in trusted
        if one.kind == COSIGNATURE and one.name is not None
    ]


def signer_of(kept: Kept, trusted: Sequence[TrustedKey]) -> VerifierKey | None:
    """Who of the trusted signed a head by itself, without the receipts that may tell of others."""
    try:
        return _Trust(trusted).signer(kept)
    except (BadNote, _NotTrusted):
        return None
