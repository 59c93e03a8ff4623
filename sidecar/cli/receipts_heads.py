"""Signed heads and public keys as they are named on the command line, and found beside a file.

Knows: that heads which lie beside receipts are found by themselves: whoever cuts receipts does not
always think of them; that a line which is no head any more may have been the one that tells. Must
not know: what a head shows.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from sidecar.cli.os_error_text import os_error_text
from sidecar.counted import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from sidecar.ledger.anchors import TrustedKey
    from sidecar.ledger.checkpoint_file import Kept
    from sidecar.ledger.older_heads import OlderHeads

_UNSEEN = (
    "Receipts cut from the end, or a history rewritten as a whole, would not be seen; compare the "
    "head hash with one you kept."
)
UNANCHORED = f"unanchored: no signed checkpoint. {_UNSEEN}"

#: What is looked at, at most.
FILES_MAX = 1000
KEY_BYTES_MAX = 64 * 1024
_PRIVATE = "PRIVATE KEY-----"
_ENDINGS = (".checkpoints", ".note")


def none_of_tenant(others: int) -> str:
    """What to say where all heads at hand are of other tenants."""
    there = counted(others, "checkpoint is", "checkpoints are")
    return f"unanchored: {there} of other tenants, and none is of this one. {_UNSEEN}"


class Unreadable(Exception):
    """What was named cannot be read; the message says why. Exit code 2."""


def heads_for(file: str, named: Sequence[str]) -> list[Kept]:
    """The heads that were named, or those beside the receipts; of a large file the newest. Raises
    Unreadable for a file that was named and holds none."""
    found: list[Kept] = []
    for name, paths in _places(file, named):
        there = [kept for path in paths for kept in _kept(path)]
        if name is not None and not there:
            raise Unreadable(f"{name} holds no checkpoint")
        found += there
    return found


def older_for(file: str, named: Sequence[str]) -> OlderHeads:
    """Those of the same files that `heads_for`, which is to be asked first, left out. Raises
    Unreadable."""
    from sidecar.ledger.older_heads import OlderHeads

    older = OlderHeads([path for _, paths in _places(file, named) for path in paths])
    try:
        damaged = older.read()
    except OSError as error:
        raise Unreadable(os_error_text(error)) from error
    for path, count in damaged.items():
        _say_damaged(path, count)
    return older


def trusted_keys(named: Sequence[str]) -> list[TrustedKey]:
    """The keys that were named. Raises Unreadable for what is none, or of an unknown algorithm."""
    return [key for text in named for key in _keys_of(text)]


def _places(file: str, named: Sequence[str]) -> Iterator[tuple[str | None, list[Path]]]:
    """Each place that was named with its files, or those beside the receipts under no name."""
    from pathlib import Path

    for name in named:
        path = Path(name)
        yield name, _files(path) if path.is_dir() else [path]
    if not named and file != "-":
        yield None, _files(Path(file).absolute().parent)


def _files(folder: Path) -> list[Path]:
    try:
        names = sorted(one for one in folder.iterdir() if one.name.endswith(_ENDINGS))
    except OSError:
        return []
    if len(names) > FILES_MAX:
        raise Unreadable(f"{folder} has more than {FILES_MAX} files of checkpoints")
    return [one for one in names if one.is_file()]


def _kept(path: Path) -> Iterator[Kept]:
    from sidecar.ledger.checkpoint_file import lines_in

    found, damaged = 0, 0
    try:
        for kept in lines_in(path):
            if kept is None:
                damaged += 1
            else:
                found += 1
                yield kept
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror or error}") from error
    if found and damaged:
        _say_damaged(path, damaged)


def _say_damaged(path: Path, count: int) -> None:
    print(
        f"{path}: {counted(count, 'line holds', 'lines hold')} no checkpoint that can be "
        "read: what was cut off, or damaged, may have vouched for more",
        file=sys.stderr,
    )


def _keys_of(named: str) -> list[TrustedKey]:
    from pathlib import Path

    from sidecar.ledger.anchors import TrustedKey
    from sidecar.signed_note import BadNote, read_public_pem, read_verifier_key

    text = named
    try:
        if named.count("+") < 2 or Path(named).exists():
            with Path(named).open("rb") as handle:
                text = handle.read(KEY_BYTES_MAX).decode()
        if _PRIVATE in text:
            raise Unreadable(
                f"the key {named}: it is a private key, which nobody who verifies should have: "
                "`receipts keys --pem` gives the public one"
            )
        if "-----BEGIN PUBLIC KEY-----" in text:
            return [TrustedKey(read_public_pem(text[text.index("-----BEGIN PUBLIC") :]))]
        lines = [line for line in text.splitlines() if line.strip() and line[0] != "#"]
        keys = [read_verifier_key(line) for line in lines]
    except OSError as error:
        raise Unreadable(f"the key {os_error_text(error)}") from error
    except (UnicodeDecodeError, BadNote) as error:
        raise Unreadable(f"the key {named}: {error}") from error
    if not keys:
        raise Unreadable(f"the key {named}: there is none in it")
    return [TrustedKey(key.public, key.name, key.kind) for key in keys]


def write_new(name: str, text: str) -> None:
    """Writes a file that is not there yet. Raises OSError."""
    from pathlib import Path

    with Path(name).open("x", encoding="utf-8") as handle:
        handle.write(text)
