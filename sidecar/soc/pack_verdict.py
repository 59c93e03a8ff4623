"""What an evidence pack shows, and what it does not. Pure: a pack and keys in, a verdict out.

Knows: that a pack is believed in nothing. A receipt holds if it is its hash and its leaf leads to
the roots; an alert, if a receipt that holds commits to it and to what it was raised for; a move, if
a receipt that holds commits to it; and a root counts for as much as whoever signed it.
Must not know: stores, files, how a verdict is worded for people.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from pydantic import ValidationError

from sidecar.counted import counted
from sidecar.ledger.anchors import TrustedKey, signer_of
from sidecar.ledger.canonical import canonical_body
from sidecar.ledger.checkpoint import read_signed, tenant_of
from sidecar.ledger.checkpoint_file import Kept
from sidecar.ledger.merkle import leaf_hash
from sidecar.ledger.merkle_proofs import included_root, is_consistent
from sidecar.ledger.receipt import BODY_KEYS
from sidecar.ledger.verify import read_receipt
from sidecar.signed_note import BadNote
from sidecar.soc.pack_changes import change_faults
from sidecar.soc.pack_form import NamedReceipt, Pack, PackedReceipt, PackedTree

_SORTED: Final = orjson.OPT_SORT_KEYS


@dataclass(slots=True)
class PackVerdict:
    """`faults` is empty if everything holds that is claimed. `shown` and `not_shown` are sentences;
    `receipts` of `wanted` were there and hold. `key` signed the tree of `signed_size` ("" and 0 if
    nobody who is trusted did)."""

    tenant: str
    incident_id: str
    receipts: int = 0
    wanted: int = 0
    signed_size: int = 0
    key: str = ""
    head_size: int = 0
    faults: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    not_shown: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.faults


def read_pack(data: bytes) -> Pack:
    """A pack as a file holds it. Raises ValueError for what is none."""
    try:
        return Pack.model_validate_json(data)
    except ValueError as error:
        raise ValueError(f"it is no evidence pack: {_first_of(error)}") from None


def unreadable(tenant: str, incident_id: str, error: ValueError) -> PackVerdict:
    """The verdict on an incident whose rows are not such as this sidecar writes."""
    fault = f"what the store keeps of it cannot be read: {_first_of(error)}"
    return PackVerdict(tenant, incident_id, faults=[fault])


def _first_of(error: ValueError) -> str:
    """The first thing that is wrong, with its place, and how many more there are."""
    if not isinstance(error, ValidationError):
        return " ".join(str(error).splitlines()[:3])
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    said = f"{where}: {first['msg']}" if where else first["msg"]
    more = error.error_count() - 1
    return f"{said} (and {more} more)" if more else said


def pack_verdict(
    pack: Pack, heads: Sequence[Kept] = (), trusted: Sequence[TrustedKey] = ()
) -> PackVerdict:
    """Verifies a pack; `heads` are checkpoints that were kept elsewhere, `trusted` whose word on
    them counts."""
    verdict = PackVerdict(pack.tenant, pack.incident.incident_id)
    bodies = _receipts(pack, verdict)
    _trees(pack, verdict, heads, trusted)
    _evidence(pack, bodies, verdict)
    faults, not_shown = change_faults(pack, bodies)
    verdict.faults += faults
    verdict.not_shown += not_shown
    _say(pack, verdict, bool(trusted))
    return verdict


def _receipts(pack: Pack, verdict: PackVerdict) -> dict[int, dict[str, Any]]:
    """The receipts that hold, by seq; one that does not is a fault and shows nothing."""
    found: dict[int, dict[str, Any]] = {}
    for one in pack.receipts:
        seq = one.receipt.get("seq")
        try:
            body = _body(one)
            if body["tenant_id"] != pack.tenant:
                raise ValueError(f"it belongs to tenant {body['tenant_id']!a}")
            _check_places(pack.trees, one, body)
        except ValueError as error:
            verdict.faults.append(f"receipt {seq}: {error}")
            continue
        if body["seq"] in found:
            verdict.faults.append(f"receipt {seq} stands twice")
        found[body["seq"]] = body
    for seq, body in found.items():
        before = found.get(seq - 1)
        if before is not None and body["prev_receipt_hash"] != before["receipt_hash"]:
            verdict.faults.append(f"receipt {seq} does not link to receipt {seq - 1}")
    return found


def _body(one: PackedReceipt) -> dict[str, Any]:
    """The receipt with its hash and what stands beside it, judged by the offline verifier."""
    line = dict(one.receipt)
    if one.beside is not None:
        line |= one.beside.model_dump()
    try:
        return read_receipt(orjson.dumps(line, option=_SORTED))
    except TypeError as error:
        raise ValueError(str(error)) from error


def _check_places(trees: Sequence[PackedTree], one: PackedReceipt, body: dict[str, Any]) -> None:
    """That the receipt is in each tree of which there is a proof. Raises ValueError."""
    known = {str(tree.size): tree for tree in trees}
    foreign = sorted(one.proofs.keys() - known.keys())
    if foreign:
        raise ValueError(f"a proof is of a tree of {foreign[0]}, which is not here")
    leaf = leaf_hash(canonical_body({key: body[key] for key in BODY_KEYS}))
    for name, path in one.proofs.items():
        tree = known[name]
        hashes = [bytes.fromhex(text) for text in path]
        found = included_root(leaf, body["seq"] - 1, tree.size, hashes)
        if found is None or found.hex() != tree.root:
            raise ValueError(f"it is not in the tree of {tree.size} at its place")


def _trees(
    pack: Pack, verdict: PackVerdict, heads: Sequence[Kept], trusted: Sequence[TrustedKey]
) -> None:
    """Whose word there is on the trees, and that they are one history."""
    if pack.trees:
        verdict.head_size = pack.trees[-1].size
    _check_history(pack, verdict)
    for tree in pack.trees:
        if tree.note:
            _signed(pack, tree, verdict, trusted)
    own = [kept for kept in heads if tenant_of(kept.checkpoint.origin) == pack.tenant]
    pairs = [
        (kept, tree) for kept in own for tree in pack.trees if kept.checkpoint.size == tree.size
    ]
    for kept, tree in pairs:
        if kept.checkpoint.root.hex() != tree.root:
            verdict.faults.append(
                f"a checkpoint of {counted(tree.size, 'receipt')} that was kept has "
                "another root: FORKED"
            )
        else:
            _counted(kept, tree, verdict, trusted)
    if heads and not pairs:
        verdict.not_shown.append(
            "anything by the checkpoints that were given: none is of this tenant and of a size "
            f"that the pack has a tree of ({', '.join(str(one.size) for one in pack.trees)})"
        )
    if trusted and not verdict.key:
        verdict.faults.append("nothing of it is signed by a key that is trusted")


def _check_history(pack: Pack, verdict: PackVerdict) -> None:
    """Each tree goes on from the one before."""
    if len(pack.consistency) != max(len(pack.trees) - 1, 0):
        verdict.faults.append("its trees and the proofs between them do not fit")
        return
    for (old, new), hashes in zip(itertools.pairwise(pack.trees), pack.consistency, strict=True):
        if hashes is None:
            verdict.not_shown.append(f"that the tree of {new.size} goes on from that of {old.size}")
            continue
        path = [bytes.fromhex(text) for text in hashes]
        tops = bytes.fromhex(old.root), bytes.fromhex(new.root)
        if old.size >= new.size or not is_consistent(old.size, tops[0], new.size, tops[1], path):
            verdict.faults.append(f"the tree of {new.size} does not go on from that of {old.size}")


def _signed(
    pack: Pack, tree: PackedTree, verdict: PackVerdict, trusted: Sequence[TrustedKey]
) -> None:
    try:
        kept = Kept(*read_signed(tree.note))
    except BadNote as error:
        verdict.faults.append(f"its checkpoint: {error}")
        return
    said = kept.checkpoint
    if tenant_of(said.origin) != pack.tenant:
        verdict.faults.append("its checkpoint is of another tenant's chain")
    elif said.size != tree.size or said.root.hex() != tree.root:
        verdict.faults.append("its checkpoint is not of the tree that it is put beside")
    else:
        _counted(kept, tree, verdict, trusted)


def _counted(
    kept: Kept, tree: PackedTree, verdict: PackVerdict, trusted: Sequence[TrustedKey]
) -> None:
    key = signer_of(kept, trusted) if trusted else None
    if key is not None and tree.size > verdict.signed_size:
        verdict.signed_size, verdict.key = tree.size, key.text


def _evidence(pack: Pack, bodies: dict[int, dict[str, Any]], verdict: PackVerdict) -> None:
    """That what each alert names is there, and is what it is named as."""
    wanted: set[int] = set()
    for alert in pack.alerts:
        for one in (*alert.evidence.raised, *alert.evidence.joined):
            wanted.add(one.seq)
            fault = _named_fault(pack, bodies, one)
            if fault:
                verdict.faults.append(f"alert {alert.alert_id}: {fault}")
    wanted = (wanted | {one.seq for one in pack.changes}) - {0}
    verdict.wanted = len(wanted)
    verdict.receipts = len(wanted & bodies.keys())
    proofs = {one.receipt.get("seq"): {int(size) for size in one.proofs} for one in pack.receipts}
    signed = verdict.signed_size
    unsigned = sorted(
        seq for seq in wanted & bodies.keys() if seq <= signed and signed not in proofs[seq]
    )
    if unsigned:
        verdict.faults.append(f"{_seqs(unsigned)}: there is no proof of their place in the tree")
    unproven = sorted(seq for seq in wanted & bodies.keys() if not proofs[seq])
    if unproven and not unsigned:
        verdict.not_shown.append(
            f"that {_seqs(unproven)} stand in the chain: the pack has no proof of it"
        )
    archived = sorted(wanted & set(pack.archived))
    if archived and max(archived) >= min(bodies, default=archived[-1] + 1):
        verdict.faults.append(
            f"receipt {archived[-1]} is said to be archived, and receipt {min(bodies)} is here"
        )
    if archived:
        verdict.not_shown.append(
            f"{_seqs(archived)}: archived. `receipts verify` verifies the archive"
        )


def _named_fault(pack: Pack, bodies: dict[int, dict[str, Any]], one: NamedReceipt) -> str:
    body = bodies.get(one.seq)
    if not one.seq and not one.receipt_hash and not one.call_id:
        return ""
    if body is None:
        if one.seq in pack.archived:
            return ""
        if any(packed.receipt.get("seq") == one.seq for packed in pack.receipts):
            return f"receipt {one.seq} does not hold"
        return f"receipt {one.seq} is missing"
    if body["receipt_hash"] != one.receipt_hash:
        return f"receipt {one.seq} is not the one it rests on: its hash is another"
    # What belongs to no call (a store that refused) names the receipt before it.
    if one.call_id and (body["call_id"], body["ts_us"]) != (one.call_id, one.at_us):
        return f"receipt {one.seq} is not of the call and the time it is named with"
    return ""


def _say(pack: Pack, verdict: PackVerdict, has_keys: bool) -> None:
    """In sentences, what follows and what does not."""
    if verdict.holds and verdict.receipts:
        verdict.shown.append(
            f"{verdict.receipts} of {counted(verdict.wanted, 'receipt')} are as they "
            "were written, and the "
            "alerts rest on them as they say"
        )
        if verdict.key:
            verdict.shown.append(
                f"those up to {verdict.signed_size} are in the tree that was signed by "
                f"{verdict.key}"
            )
    if not verdict.key:
        verdict.not_shown.append(
            "who vouches for it: name the key you trust with --key"
            if not has_keys
            else "who vouches for it"
        )
    signed = verdict.signed_size
    later = sorted(
        seq for one in pack.receipts if isinstance(seq := one.receipt.get("seq"), int)
        and seq > signed
    )  # fmt: skip
    if verdict.key and later:
        verdict.not_shown.append(
            f"that {_seqs(later)} were not rewritten: they are after the signed tree, and rest on "
            "the word of whoever made this"
        )
    verdict.not_shown += [one for one in pack.left_out if one not in verdict.not_shown]


def _seqs(seqs: list[int]) -> str:
    if len(seqs) == 1:
        return f"receipt {seqs[0]}"
    few = ", ".join(str(seq) for seq in seqs[:10])
    return f"receipts {few}{f' and {len(seqs) - 10} more' if len(seqs) > 10 else ''}"
