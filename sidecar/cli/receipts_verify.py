"""`aegis-sidecar receipts verify FILE`: what exported receipts show, and what they do not.

Knows: the words. A chain that holds is never called verified alone: it is said up to where signed
heads vouch for it, by whom, and what is beyond them.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from sidecar.cli.os_error_text import os_error_text
from sidecar.cli.receipts_alive import liveness_text, time_text
from sidecar.cli.receipts_heads import (
    UNANCHORED,
    Unreadable,
    heads_for,
    none_of_tenant,
    older_for,
    trusted_keys,
)
from sidecar.cli.receipts_said_yes import unsaid_text
from sidecar.counted import counted

if TYPE_CHECKING:
    from sidecar.ledger.anchors import Anchors
    from sidecar.ledger.verify import Fault, Verdict, Watch

NAME = "verify"
HELP = "exit 0: holds, 1: tampered with, 2: unreadable"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to verify, and against what."""
    parser.add_argument("file", metavar="FILE", help="an exported file, or - for standard input")
    parser.add_argument("--json", action="store_true", help="the verdict as one JSON object")
    parser.add_argument(
        "--first-seq",
        type=_positive,
        default=1,
        metavar="N",
        help="for a later part of a chain: the seq it must begin with (default: 1)",
    )
    parser.add_argument(
        "--checkpoint",
        action="append",
        default=[],
        metavar="NOTE",
        help="a signed head, a file of them, or a folder of such files; more than once if wanted "
        "(default: *.checkpoints and *.note beside FILE)",
    )
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="PUBLIC",
        help="a public key that is trusted: NAME+ID+KEY, or a file with one in that form or in "
        "PEM form; of a witness too",
    )


def run(args: argparse.Namespace) -> int:
    """0 holds, 1 tampered with, 2 wrong usage or unreadable."""
    from dataclasses import replace

    from sidecar.ledger.anchors import Anchors, anchored, signed_of, watch_for

    try:
        trusted = trusted_keys(args.key)
        heads = heads_for(args.file, args.checkpoint)
        older = older_for(args.file, args.checkpoint)
    except Unreadable as error:
        print(f"cannot be read: {error}", file=sys.stderr)
        return 2
    watch = watch_for(heads, older.sizes)
    try:
        verdict = _read(args.file, args.first_seq, watch)
        if verdict.fault is None and args.first_seq == 1:
            heads += older.first_differing(verdict.tenant_id, watch.roots, verdict.last_seq)
    except OSError as error:
        print(f"cannot be read: {os_error_text(error)}", file=sys.stderr)
        return 2
    found = Anchors()
    if verdict.fault is None and args.first_seq == 1:
        found = anchored(verdict, watch, heads, trusted)
        if found.fault is None:
            agreeing = found.agreeing + older.count(verdict.tenant_id)
            found = replace(found, agreeing=agreeing)
    elif verdict.fault is None:
        found = Anchors(signed=signed_of(verdict.tenant_id, heads, trusted))
    show = _as_json if args.json else _as_text
    print(show(verdict, found, first_seq=args.first_seq, has_keys=bool(trusted)))
    if verdict.fault is not None:
        return 2 if verdict.fault.is_unreadable else 1
    return 0 if found.fault is None else 1


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _read(name: str, first_seq: int, watch: Watch) -> Verdict:
    from pathlib import Path

    from sidecar.ledger.verify import LINE_BYTES_MAX, verify_lines

    with sys.stdin.buffer if name == "-" else Path(name).open("rb") as handle:
        lines = iter(lambda: handle.readline(LINE_BYTES_MAX + 2), b"")
        return verify_lines(lines, first_seq=first_seq, watch=watch)


def _as_json(verdict: Verdict, found: Anchors, *, first_seq: int, has_keys: bool) -> str:
    import dataclasses
    import json

    said = {
        "holds": verdict.holds and found.fault is None,
        "is_anchored": found.size > 0 and found.fault is None,
        **dataclasses.asdict(verdict),
        "anchors": dataclasses.asdict(found),
    }
    return json.dumps(said)


def _as_text(verdict: Verdict, found: Anchors, *, first_seq: int, has_keys: bool) -> str:
    if verdict.fault is not None:
        return _fault_text(verdict, verdict.fault, first_seq)
    if found.fault is not None:
        return f"{_anchor_fault_text(found)}{_owned_up(verdict)}"
    if verdict.first_seq == 1:
        extent = f"tree root: {verdict.root}"
    else:
        extent = f"a part: it links to a receipt with the hash {verdict.prev_hash}"
    return (
        f"verified: {counted(verdict.count, 'receipt')} of tenant {verdict.tenant_id!a}, "
        f"{verdict.first_seq} to {verdict.last_seq}, {_anchored_text(verdict, found)}\n"
        f"head hash: {verdict.head_hash}\n{extent}\n{_facts_text(verdict)}{_rollbacks(verdict)}"
        f"{unsaid_text(verdict)}{liveness_text(verdict)}"
        f"{_what_is_shown(verdict, found, first_seq != 1, has_keys)}"
    )


def _facts_text(verdict: Verdict) -> str:
    """Of the facts that were given: whether the receipts vouch for them."""
    if not verdict.facts:
        return ""
    left = verdict.unvouched
    if not left:
        return f"facts: {verdict.facts}, all as they were when they were recorded\n"
    return (
        f"facts: {verdict.facts}, of which {verdict.facts - left} are as they were when they were "
        f"recorded; nothing shows that of {left} (arguments were not kept, or their receipts are "
        "older than this is recorded)\n"
    )


def _anchored_text(verdict: Verdict, found: Anchors) -> str:
    if not found.size:
        return "not anchored"
    left = verdict.last_seq - found.size
    rest = "all of them"
    if left:
        rest = f"the last {left} are not anchored" if left > 1 else "the last one is not anchored"
    return f"anchored at {found.size} by key {found.key}: {rest}"


def _what_is_shown(verdict: Verdict, found: Anchors, is_part: bool, has_keys: bool) -> str:
    if is_part:
        beyond = (
            f"\n{counted(found.signed, 'receipt was', 'receipts were')} signed: unless "
            "there is a part after this one, its "
            "end was cut"
        )
        return (
            "unanchored: a part has no root of its own. Put the archives before it in one file to "
            f"hold it against checkpoints.{beyond if found.signed > verdict.last_seq else ''}"
        )
    if not found.size:
        if found.agreeing and not has_keys:
            return (
                "unanchored: "
                f"{counted(found.agreeing, 'checkpoint agrees', 'checkpoints agree')}, and nothing "
                "says who signed them: name the key you trust with --key."
            )
        return none_of_tenant(found.others) if found.others else UNANCHORED
    lines = [counted(found.agreeing, "checkpoint agrees", "checkpoints agree")]
    if found.rotations:
        lines.append(
            f"{counted(found.rotations, 'change of the key is', 'changes of the key are')} on "
            "record, signed by both"
        )
    lines += [f"cosigned by {name} at {time_text(at_s)}" for name, at_s in found.witnesses]
    lines += [
        f"not shown: that {name} saw this history after receipt {size}: it cosigned no later head"
        if size
        else f"not shown: that {name} saw this history: it cosigned none of these heads"
        for name, size in found.behind
    ]
    lines.append(
        f"shown: receipts 1 to {found.size} are what the key's holder signed. Not shown: that the "
        "holder signed no other history; a witness, or heads kept elsewhere, would show that."
        if not found.witnesses
        else f"shown: receipts 1 to {found.size} are what was signed, and the witness saw no other "
        "history up to there."
    )
    if verdict.last_seq > found.size:
        lines.append(f"not shown: that nothing was cut or rewritten after receipt {found.size}")
    return "\n".join(lines)


def _fault_text(verdict: Verdict, fault: Fault, first_seq: int) -> str:
    word = "UNREADABLE" if fault.is_unreadable else "TAMPERED"
    receipt = f", receipt {fault.seq}" if fault.seq is not None else ""
    said = f"{word}: line {fault.line}{receipt}: {fault.what}"
    if verdict.count:
        before = counted(verdict.count, "receipt before it holds", "receipts before it hold")
        return f"{said}\n{before}, up to {verdict.last_seq}"
    if fault.line == 1 and fault.seq is not None and fault.seq > first_seq:
        return (
            f"{said}\nif those before it are in an archive, this is a later part of the chain: "
            f"verify it with --first-seq {fault.seq}"
        )
    return said


def _anchor_fault_text(found: Anchors) -> str:
    fault = found.fault
    if fault is None:
        return ""
    word = {"fork": "FORKED", "cut": "CUT"}.get(fault.kind, "TAMPERED")
    agreed = f"receipts 1 to {found.size} are anchored" if found.size else "no receipt is anchored"
    evidence = "".join(f"\nevidence:\n{_shown(note)}" for note in fault.notes)
    return (
        f"{word}: receipt {fault.first_bad}: {fault.what}\n"
        f"the receipts are a chain by themselves; {agreed}{evidence}"
    )


def _shown(note: str) -> str:
    """A note for a terminal: its dashes as they are, anything odd escaped."""
    lines = note.rstrip("\n").split("\n")
    return "\n".join(f"    {ascii(line.replace(chr(0x2014), '--'))[1:-1]}" for line in lines)


def _owned_up(verdict: Verdict) -> str:
    """Beside heads that go further, or another way: a restore that was accepted looks like that."""
    told = _rollbacks(verdict)
    return (
        f"\n{told}what a chain says of itself proves nothing: ask who put that on record, and keep "
        "these heads"
        if told
        else ""
    )


def _rollbacks(verdict: Verdict) -> str:
    """What the chain tells of receipts that it lost; it holds all the same."""
    lines = [
        f"a rollback is recorded at {one.seq}: {ascii(one.what)[1:-1]}\n"
        for one in verdict.rollbacks
    ]
    if verdict.rollback_count > len(lines):
        lines.append(f"{verdict.rollback_count} rollbacks are recorded in all\n")
    return "".join(lines)
