"""Signed heads far back in a file that has grown for months count as the newest do: one of them may
be all that shows what was rewritten since."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "ledger"))

from ledger_checkpoint_setup import key_of, opened, record, signed_now

from sidecar.cli.main import main
from sidecar.ledger.checkpoint import Checkpoint, read_signed, signed
from sidecar.ledger.checkpoint_file import BYTES_READ_MAX, kept_in, line_of, older_in
from sidecar.ledger.older_heads import OlderHeads
from sidecar.signed_note import public_pem

#: A line that is no head, and as long as one may be.
FILLING = b" " * 130_000 + b"\n"


@pytest.fixture
def auditor(tmp_path: Path) -> Path:
    """Six receipts, and heads of 2, 4 and 6 of them."""

    async def fill() -> None:
        async with opened(tmp_path) as store:
            for _ in range(3):
                await record(store, 2)
                await signed_now(store, f"file:{tmp_path}/heads")

    asyncio.run(fill())
    (tmp_path / "key.pem").write_text(public_pem(key_of(1).public))
    store, file = f"sqlite:///{tmp_path}/aegis.db", str(tmp_path / "receipts.jsonl")
    assert main(["receipts", "export", "--store", store, "--output", file]) == 0
    return tmp_path


def _verify(folder: Path, *lines: bytes) -> int:
    (folder / "heads").write_bytes(b"".join(lines))
    named = ("--checkpoint", str(folder / "heads"), "--key", str(folder / "key.pem"))
    return main(["receipts", "verify", str(folder / "receipts.jsonl"), *named, "--json"])


def test_f3_a_head_before_the_last_64_mib_of_a_file_still_shows_what_was_rewritten(
    auditor: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (auditor / "heads").read_bytes().splitlines(keepends=True)
    origin = read_signed(json.loads(lines[0])["note"])[0].origin
    filling = [FILLING] * (BYTES_READ_MAX // len(FILLING) + 1)
    capsys.readouterr()
    assert _verify(auditor, lines[0], lines[1], *filling, lines[2]) == 0
    said = json.loads(capsys.readouterr().out)["anchors"]
    assert (said["size"], said["agreeing"]) == (6, 3), "positive control"
    for size, root, kind in ((3, b"\x07", "rewritten"), (2, b"\x07", "fork"), (9, b"", "cut")):
        other = signed(Checkpoint(origin, size, (root or b"\x08") * 32), key_of(1))
        odd = line_of(other, 7)
        assert _verify(auditor, lines[0], odd, lines[1], *filling, lines[2]) == 1
        fault = json.loads(capsys.readouterr().out)["anchors"]["fault"]
        assert (fault["kind"], other in fault["notes"]) == (kind, True)
    foreign = line_of(signed(Checkpoint("aegis-sidecar/rival/00", 3, b"\x07" * 32), key_of(1)), 7)
    assert _verify(auditor, foreign, *filling, lines[2]) == 0, "of another tenant"


def test_wherever_a_file_is_parted_each_of_its_heads_is_read(auditor: Path) -> None:
    path = auditor / "heads"
    size = path.stat().st_size
    for bytes_max in range(1, size + 2):
        newest = [kept.checkpoint.size for kept in kept_in(path, bytes_max)]
        older = [kept.checkpoint.size for kept in older_in(path, bytes_max) if kept is not None]
        assert older + newest == [2, 4, 6], bytes_max


def test_of_two_heads_of_one_size_both_are_named_whichever_stands_first(auditor: Path) -> None:
    kept = list(kept_in(auditor / "heads"))
    origin = kept[0].checkpoint.origin
    roots = {one.checkpoint.size: one.checkpoint.root for one in kept}
    other = line_of(signed(Checkpoint(origin, 4, b"\x07" * 32), key_of(1)), 7)
    own = (auditor / "heads").read_bytes()
    for content in (own + other, other + own):
        (auditor / "heads").write_bytes(content + FILLING)
        older = OlderHeads([auditor / "heads"], bytes_max=1)
        assert older.read() == {auditor / "heads": 1} and older.count("default") == 3
        found = older.first_differing("default", roots, 6)
        assert [one.checkpoint.size for one in found] == [4, 4]
        assert older.first_differing("rival", roots, 6) == []
